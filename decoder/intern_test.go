package decoder

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestInterner(t *testing.T) {
	n := newInterner()
	first := n.intern([]byte("outbox"))
	require.Equal(t, "outbox", first)
	require.Equal(t, unsafe.StringData(first), unsafe.StringData(n.intern([]byte("outbox"))))
	require.Empty(t, n.intern(nil))
}

// Any role may choose a prefix: what is kept of them stays small.
func TestInternerIsBounded(t *testing.T) {
	n := newInterner()
	for i := range 10 * maxInterned {
		text := fmt.Sprint(i)
		require.Equal(t, text, n.intern([]byte(text)))
		require.LessOrEqual(t, len(n.known), maxInterned)
	}
	long := strings.Repeat("x", maxInternedLen+1)
	before := len(n.known)
	require.Equal(t, long, n.intern([]byte(long)))
	require.Len(t, n.known, before)
}
