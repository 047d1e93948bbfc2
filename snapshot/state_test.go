package snapshot

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestStateRoundTrip(t *testing.T) {
	for _, tables := range []int{0, 1, 900} {
		var list []*Table
		for i := range tables {
			list = append(list, &Table{Schema: "public", Name: fmt.Sprintf("a_table_of_a_large_schema_%d", i), Where: "id > 3", Estimate: int64(i)})
		}
		s := New(list)
		if tables > 0 {
			at := s.Tables[0]
			at.Key, at.After, at.Again, at.Pass, at.Rows = []string{"id", "k"}, []string{"\x00\xff", "é"}, [][]string{{"1", ""}}, 3, 77
			at.After[0] = "zero \u0000"
		}
		text, err := s.Encode()
		require.NoError(t, err)
		require.LessOrEqual(t, len(text), MaxState)
		got, err := Decode(text)
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
	empty, err := Decode(nil)
	require.NoError(t, err)
	require.Equal(t, State{}, empty)
}

func TestStateThatCannotBe(t *testing.T) {
	for _, text := range []string{"{", "z", "zzzz", `{"tables":[null]}`, `{"tables":[{"schema":"a"}]}`, `{"unknown":1}`, `{"tables":[{"schema":"a","name":"b","after":["1"]}]}`} {
		_, err := Decode([]byte(text))
		require.Error(t, err, text)
	}
	s := New(nil)
	for i := range 200_000 {
		s.Tables = append(s.Tables, &Table{Schema: fmt.Sprintf("%x", i*2654435761), Name: fmt.Sprintf("%x", i*40503)})
	}
	_, err := s.Encode()
	require.ErrorIs(t, err, ErrTooMany)
}

// Each reading has a number of its own, and one that waits is not asked for twice.
func TestStateNumbersItsReadings(t *testing.T) {
	s := New([]*Table{{Schema: "a", Name: "x"}, {Schema: "a", Name: "y"}})
	s.add([]*Table{{Schema: "a", Name: "x", Where: "other"}, {Schema: "a", Name: "z"}})
	require.Len(t, s.Tables, 3)
	require.Empty(t, s.Tables[0].Where)
	require.Equal(t, []uint32{1, 2, 3}, []uint32{s.Tables[0].Run, s.Tables[1].Run, s.Tables[2].Run})
	s.remove(s.Tables[0])
	s.add([]*Table{{Schema: "a", Name: "x"}})
	require.Equal(t, uint32(4), s.table("a", "x").Run)
}

func TestVisibility(t *testing.T) {
	v, err := ParseVisibility("824:830:824,827")
	require.NoError(t, err)
	for xid, sees := range map[uint32]bool{3: true, 823: true, 824: false, 825: true, 827: false, 829: true, 830: false, 900: false} {
		require.Equal(t, sees, v.Sees(xid), xid)
	}
	const epoch = 1 << 32
	v, err = ParseVisibility(fmt.Sprintf("%d:%d:", epoch-6, epoch+5))
	require.NoError(t, err)
	for xid, sees := range map[uint32]bool{4294967289: true, 4294967290: true, 3: true, 4: true, 5: false, 6: false} {
		require.Equal(t, sees, v.Sees(xid), "across the wrap: %d", xid)
	}
	for _, bad := range []string{"", "1:2", "1:2:3:4", "x:2:", "1:x:", "1:9:x", "-1:2:"} {
		_, err := ParseVisibility(bad)
		require.Error(t, err, bad)
	}
}

func TestRequestsAreSigned(t *testing.T) {
	secret := []byte("0123456789abcdef")
	want := Request{Number: 1, Bridge: "shop", Do: ActionStart, Tables: []*Table{{Schema: "a", Name: "x", Where: "id > 1"}}}
	content, err := want.Sign(secret)
	require.NoError(t, err)
	got, err := openRequest(secret, content)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for _, at := range []int{2, len(content) / 2, len(content) - 4} {
		bad := append([]byte(nil), content...)
		bad[at] ^= 1
		_, err := openRequest(secret, bad)
		require.Error(t, err)
	}
	_, err = openRequest([]byte("another"), content)
	require.ErrorIs(t, err, errForeign)
	_, err = openRequest(nil, content)
	require.ErrorIs(t, err, errForeign)
	_, err = Request{}.Sign(nil)
	require.Error(t, err)
}
