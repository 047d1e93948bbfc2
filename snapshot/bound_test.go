package snapshot

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
)

// A bound request counts in its transaction, whatever else is in it, and in no other.
func TestBoundRequests(t *testing.T) {
	b := newBench(t)
	ask := func(content []byte, xid uint32, changes int) {
		t.Helper()
		b.Change(&decoder.Change{Op: decoder.OpMessage, Transactional: true, Tx: &decoder.Tx{Xid: xid}, Prefix: RequestPrefix, Content: content})
		require.Nil(t, b.Commit(changes))
	}
	content, err := b.Bound(7<<32|12, []*Table{{Schema: "new", Name: "t", Where: "id > 1"}})
	require.NoError(t, err)
	ask(content, 13, 1)
	require.Len(t, b.state.Tables, 1)
	require.EqualValues(t, 1, b.foreign, "copied into a transaction of somebody else")
	ask(content, 12, 3)
	require.Len(t, b.state.Tables, 2)
	require.Equal(t, "id > 1", b.state.Tables[1].Where)
	require.Zero(t, b.state.Request, "it takes no number away")
	unbound, err := Request{Number: 1, Bridge: "shop", Do: ActionPause}.Sign(b.state.Secret)
	require.NoError(t, err)
	ask(unbound, 14, 2)
	require.False(t, b.state.Paused, "one that is not bound has to be alone")
	require.EqualValues(t, 2, b.foreign)
}

// A table that is made again under its name, and published anew while the old one was
// read, is read from its beginning.
func TestTablePublishedAnewIsReadAnew(t *testing.T) {
	b := newBench(t)
	b.t.state.After = []string{"5"}
	content, err := b.Bound(12, []*Table{{Schema: "public", Name: "orders"}, nil})
	require.NoError(t, err)
	b.Change(&decoder.Change{Op: decoder.OpMessage, Transactional: true, Tx: &decoder.Tx{Xid: 12}, Prefix: RequestPrefix, Content: content})
	require.Nil(t, b.Commit(1))
	require.True(t, b.t.gone)
	require.Len(t, b.state.Tables, 1)
	require.Nil(t, b.state.Tables[0].After)
	require.Equal(t, uint32(2), b.state.Tables[0].Run)
}
