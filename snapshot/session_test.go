package snapshot

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/pgtest"
)

var orders = &decoder.Relation{OID: 7, Namespace: "public", Name: "orders", Identity: decoder.IdentityDefault, Columns: []decoder.Column{
	{Name: "id", TypeOID: 20, Key: true}, {Name: "v", TypeOID: 25}, {Name: "big", TypeOID: 25}}}

// bench is a session with one table that is being read.
type bench struct {
	*Session
	t *table
}

func newBench(t *testing.T) *bench {
	t.Helper()
	s := NewSession(Config{Bridge: "shop"}, New([]*Table{{Schema: "public", Name: "orders"}}))
	b := &bench{s, s.tables[s.state.Tables[0]]}
	b.t.state.Key = []string{"id"}
	b.t.oid = orders.OID
	clear(s.lookup)
	return b
}

func value(s string) decoder.Value {
	switch s {
	case "":
		return decoder.Value{Kind: decoder.ValueNull}
	case "~":
		return decoder.Value{Kind: decoder.ValueUnchanged}
	}
	return decoder.Value{Kind: decoder.ValueText, Data: []byte(s)}
}

func tuple(values ...string) []decoder.Value {
	var row []decoder.Value
	for _, v := range values {
		row = append(row, value(v))
	}
	return row
}

// stream has a change come by, in a transaction of its own.
func (b *bench) stream(xid uint32, op decoder.Op, old, new []decoder.Value) {
	b.Change(&decoder.Change{Op: op, Relation: orders, Tx: &decoder.Tx{Xid: xid}, Old: old, New: new, OldIsKey: true})
	b.Commit(1)
}

// chunk puts a chunk on its way: rows with these keys, read by who saw that much.
func (b *bench) chunk(seen string, last bool, keys ...string) string {
	c := &Chunk{table: b.t, gen: b.t.gen, last: last, desc: &description{relation: orders, key: keyed{[]int{0}}, names: []string{"id"}}}
	c.seen, _ = ParseVisibility(seen)
	for _, k := range keys {
		for _, v := range []string{k, "old", "large"} {
			c.rows.add([]byte(v))
		}
		c.next = []string{k}
	}
	nonce := "nonce" + strconv.Itoa(len(b.pending))
	b.pending[nonce] = c
	b.t.inflight++
	return nonce
}

// arrive has a mark come by.
func (b *bench) arrive(nonce string, changes int) []string {
	b.Change(&decoder.Change{Op: decoder.OpMessage, Transactional: true, Tx: &decoder.Tx{Xid: 1}, Prefix: MarkPrefix, Content: []byte(nonce)})
	c := b.Commit(changes)
	if c == nil {
		return nil
	}
	keys := []string{}
	for i := range c.Len() {
		row, _ := c.Row(i, nil)
		keys = append(keys, string(row[0].Data))
	}
	return keys
}

// What a transaction has done that the reader did not see is newer than what was read;
// what it did see is in the rows.
func TestNewerRowsAreDropped(t *testing.T) {
	b := newBench(t)
	b.stream(10, decoder.OpUpdate, nil, tuple("1", "new", "x"))             // seen
	b.stream(11, decoder.OpUpdate, nil, tuple("2", "new", "x"))             // not seen
	b.stream(12, decoder.OpDelete, tuple("3", "", ""), nil)                 // not seen
	b.stream(20, decoder.OpUpdate, tuple("4", "", ""), tuple("9", "n", "")) // a move, not seen
	nonce := b.chunk("11:20:11,12", false, "1", "2", "3", "4", "5")
	require.Equal(t, []string{"1", "5"}, b.arrive(nonce, 1))
	require.True(t, b.Dirty())
	require.Equal(t, []string{"5"}, b.t.state.After)
	require.Empty(t, b.t.state.Again)
	require.Equal(t, int64(2), b.t.state.Rows)
	require.Len(t, b.t.touched.txs, 3, "what was seen is forgotten")

	nonce = b.chunk("30:30:", true, "6")
	require.Equal(t, []string{"6"}, b.arrive(nonce, 1))
	require.Empty(t, b.state.Tables, "the table is done")
	require.False(t, b.watching.Load())
}

func TestTruncateDropsAll(t *testing.T) {
	b := newBench(t)
	b.stream(11, decoder.OpTruncate, nil, nil)
	require.Equal(t, []string{}, b.arrive(b.chunk("11:12:11", false, "1", "2"), 1))
	require.Equal(t, []string{"2"}, b.t.state.After)
	require.Equal(t, []string{"3"}, b.arrive(b.chunk("12:12:", false, "3"), 1))
}

// A row that came in part is read again until it has come whole.
func TestPartialRowsAreReadAgain(t *testing.T) {
	b := newBench(t)
	b.stream(11, decoder.OpUpdate, nil, tuple("1", "new", "~"))
	b.stream(11, decoder.OpUpdate, tuple("8", "", ""), tuple("0", "moved", "~"))
	require.Equal(t, [][]string{{"0"}}, b.t.state.Again)
	require.Equal(t, []string{"2"}, b.arrive(b.chunk("11:12:11", true, "1", "2"), 1))
	require.Equal(t, [][]string{{"0"}, {"1"}}, b.t.state.Again)

	again := func(seen string, keys ...string) []string {
		nonce := b.chunk(seen, false, keys...)
		b.pending[nonce].again = [][]string{{"0"}, {"1"}}
		return b.arrive(nonce, 1)
	}
	require.Equal(t, []string{}, again("11:12:11", "1")) // still not visible
	require.Len(t, b.t.state.Again, 2)
	require.Equal(t, uint32(1), b.t.state.Pass)
	require.Equal(t, []string{"0", "1"}, again("12:12:", "0", "1"))
	require.Empty(t, b.state.Tables)
}

// When all rows were read, a row that moves was delivered, unless it is on the list.
func TestMovesAfterTheLastChunk(t *testing.T) {
	b := newBench(t)
	b.stream(11, decoder.OpUpdate, nil, tuple("1", "new", "~"))
	require.Equal(t, []string{"2"}, b.arrive(b.chunk("11:12:11", true, "1", "2"), 1))
	b.stream(12, decoder.OpUpdate, tuple("2", "", ""), tuple("9", "moved", "~"))
	require.Equal(t, [][]string{{"1"}}, b.t.state.Again)
	b.stream(12, decoder.OpUpdate, tuple("1", "", ""), tuple("8", "moved", "~"))
	require.Equal(t, [][]string{{"1"}, {"8"}}, b.t.state.Again)
}

// An insert without a large value is one that a row filter has made of an update.
func TestPartialInsertIsReadAgain(t *testing.T) {
	b := newBench(t)
	b.t.oid = 0 // between two sessions of reading it counts as well
	b.stream(11, decoder.OpInsert, nil, tuple("1", "new", "~"))
	require.Equal(t, [][]string{{"1"}}, b.t.state.Again)
	require.Empty(t, b.t.touched.txs)
}

// A row above the limit comes without its key: then nobody knows, and the chunk is
// read again.
func TestChangeWithoutItsKey(t *testing.T) {
	b := newBench(t)
	b.stream(11, decoder.OpInsert, nil, nil)
	gen := b.t.gen
	require.Nil(t, b.arrive(b.chunk("11:12:11", false, "1"), 1))
	require.NotEqual(t, gen, b.t.gen)
	require.Nil(t, b.t.state.After)
}

// Only a mark of this session counts, once, and alone in its transaction.
func TestForgedMarks(t *testing.T) {
	b := newBench(t)
	nonce := b.chunk("12:12:", false, "1")
	require.Nil(t, b.arrive("made up", 1))
	require.Nil(t, b.arrive(nonce, 3), "copied into another transaction")
	require.Equal(t, []string{"1"}, b.arrive(nonce, 1))
	require.Nil(t, b.arrive(nonce, 1), "repeated")
	require.Equal(t, int64(3), b.Status(time.Now()).Foreign)
}

// Chunks of before something went wrong count for nothing.
func TestChunksThatWereGivenUp(t *testing.T) {
	b := newBench(t)
	nonce := b.chunk("12:12:", false, "1")
	b.t.forget()
	require.Nil(t, b.arrive(nonce, 1))
	require.Nil(t, b.t.state.After)
}

// More changes than can be noted give up the chunks, not the truth.
func TestTooManyTouched(t *testing.T) {
	b := newBench(t)
	nonce := b.chunk("12:12:", false, "1")
	tx := &decoder.Tx{Xid: 20}
	for i := range maxTouched + 1 {
		b.Change(&decoder.Change{Op: decoder.OpUpdate, Relation: orders, Tx: tx, New: tuple(strconv.Itoa(i), "n", "x")})
	}
	require.Nil(t, b.arrive(nonce, 1))
	require.Empty(t, b.t.touched.txs)
}

// Too many keys on the list: the table begins anew, under another number.
func TestTooManyToReadAgain(t *testing.T) {
	b := newBench(t)
	b.t.state.After = []string{"5"}
	for i := range maxAgain + 1 {
		b.stream(11, decoder.OpInsert, nil, tuple(strconv.Itoa(i), "n", "~"))
	}
	require.Equal(t, uint32(2), b.t.state.Run)
	require.Nil(t, b.t.state.After)
	require.Less(t, len(b.t.state.Again), maxAgain)
}

func TestKeyThatChangesItsColumns(t *testing.T) {
	b := newBench(t)
	b.t.state.After = []string{"5"}
	other := *orders
	other.Columns = []decoder.Column{{Name: "number", Key: true}}
	b.Change(&decoder.Change{Op: decoder.OpInsert, Relation: &other, Tx: &decoder.Tx{Xid: 11}, New: tuple("1")})
	require.Nil(t, b.t.state.After)
	require.Equal(t, uint32(2), b.t.state.Run)
}

func TestRequestsAreTakenOnce(t *testing.T) {
	b := newBench(t)
	ask := func(r Request) {
		content, err := r.Sign(b.state.Secret)
		require.NoError(t, err)
		b.Change(&decoder.Change{Op: decoder.OpMessage, Transactional: true, Tx: &decoder.Tx{}, Prefix: RequestPrefix, Content: content})
		require.Nil(t, b.Commit(1))
	}
	ask(Request{Number: 1, Bridge: "another", Do: ActionPause})
	require.False(t, b.state.Paused)
	ask(Request{Number: 1, Bridge: "shop", Do: ActionPause})
	require.True(t, b.state.Paused)
	ask(Request{Number: 1, Bridge: "shop", Do: ActionResume})
	require.True(t, b.state.Paused, "the number was there")
	ask(Request{Number: 2, Bridge: "shop", Do: ActionResume})
	require.False(t, b.state.Paused)
	ask(Request{Number: 3, Bridge: "shop", Do: ActionStart, Tables: []*Table{{Schema: "a", Name: "b"}, {Schema: "public", Name: "orders"}, nil}})
	require.Len(t, b.state.Tables, 2)
	gen := b.t.gen
	ask(Request{Number: 4, Bridge: "shop", Do: ActionCancel, Tables: []*Table{{Schema: "public", Name: "orders"}}})
	require.Len(t, b.state.Tables, 1)
	require.True(t, b.t.gone)
	require.NotEqual(t, gen, b.t.gen)
	ask(Request{Number: 5, Bridge: "shop", Do: ActionCancel})
	require.Empty(t, b.state.Tables)
	require.Equal(t, uint64(5), b.state.Request)
}

// Without a table to read, following the stream costs nothing.
func TestNothingToReadAllocatesNothing(t *testing.T) {
	s := NewSession(Config{}, State{Secret: []byte("s")})
	ch := &decoder.Change{Op: decoder.OpInsert, Relation: orders, Tx: &decoder.Tx{Xid: 1}, New: tuple("1", "2", "3")}
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Change(ch); s.Commit(1); _ = s.Dirty() }))
}

// Workers end when they are asked to, whatever is left to read.
func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{}, 100)
	s := NewSession(Config{Connect: func(ctx context.Context) (*pgconn.PgConn, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}, New([]*Table{{Schema: "a", Name: "b"}}))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-asked
	cancel()
	require.NoError(t, <-ended)
}

// A table that cannot be read is left alone for a while, shown, and tried again.
func TestTableThatCannotBeRead(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{}, 100)
	s := NewSession(Config{Connect: func(context.Context) (*pgconn.PgConn, error) {
		asked <- struct{}{}
		return nil, errors.New("no such server")
	}}, New([]*Table{{Schema: "a", Name: "b"}}))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-asked
	pgtest.Eventually(t, time.Minute, func() bool { return s.Status(time.Now()).Tables[0].Problem != "" }, "the problem is shown")
	cancel()
	require.NoError(t, <-ended)
	require.Empty(t, asked)
}
