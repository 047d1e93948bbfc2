package snapshot

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// newFrozen is a session with one outbox of which the rows of before are read.
func newFrozen(t *testing.T) *bench {
	t.Helper()
	s := NewSession(Config{Bridge: "shop"}, New([]*Table{{Schema: "public", Name: "orders", Frozen: &Frozen{Seen: "5:5:"}}}))
	return &bench{s, s.tables[s.state.Tables[0]]}
}

func (b *bench) doubted(op decoder.Op, old, new []decoder.Value) bool {
	doubt := b.Change(&decoder.Change{Op: op, Relation: orders, Tx: &decoder.Tx{Xid: 9}, Old: old, New: new, OldIsKey: true})
	b.Commit(1)
	return doubt
}

// An update is in doubt unless the stream has brought the row, under this key or the
// one before; other changes never are.
func TestUpdatesOfFrozenTables(t *testing.T) {
	b := newFrozen(t)
	require.False(t, b.doubted(decoder.OpInsert, nil, tuple("1", "a", "x")))
	require.False(t, b.doubted(decoder.OpUpdate, nil, tuple("1", "b", "~")))
	require.False(t, b.doubted(decoder.OpUpdate, tuple("1", "", ""), tuple("2", "b", "~")))
	require.False(t, b.doubted(decoder.OpUpdate, nil, tuple("2", "c", "~")))
	require.True(t, b.doubted(decoder.OpUpdate, nil, tuple("3", "b", "~")))
	require.True(t, b.doubted(decoder.OpUpdate, tuple("4", "", ""), tuple("5", "b", "~")))
	require.False(t, b.doubted(decoder.OpDelete, tuple("6", "", ""), nil))
	require.EqualValues(t, 2, b.Status(time.Now()).Tables[0].Doubts)

	require.Equal(t, []string{"7", "8"}, b.arrive(b.chunk("9:9:", false, "7", "8"), 1), "all that was read is delivered")
	late := b.chunk("9:9:", true, "9")
	require.False(t, b.doubted(decoder.OpTruncate, nil, nil))
	require.Empty(t, b.Status(time.Now()).Tables, "nothing of before is left")
	require.Empty(t, b.arrive(late, 1))
}

func TestRewritten(t *testing.T) {
	f := Frozen{Files: "10:100 11:101"}
	for files, want := range map[string]bool{
		"10:100 11:101": false, "11:101": false, "": false, "10:100 11:101 12:5": false, "10:102 11:101": true, "11:100": true,
	} {
		require.Equal(t, want, f.rewritten(files), files)
	}
}

// The condition in SQL is the other side of Sees, wherever the ids are in their round.
func TestUnseenSQL(t *testing.T) {
	db := pgtest.Shared(t).DB(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 40 {
		v := Visibility{Xmin: halfRound + 2000 + r.Uint64N(1<<34)}
		v.Xmax = v.Xmin + r.Uint64N(1000)
		for x := v.Xmin; x < v.Xmax; x += 1 + r.Uint64N(50) {
			v.Xip = append(v.Xip, x)
		}
		for range 8 {
			at := v.Xmax - 1100 + r.Uint64N(2200)
			if r.IntN(2) == 0 {
				at = v.Xmax + r.Uint64N(1<<32)
			}
			if v.widen(uint32(at)) < 3 {
				continue
			}
			got := db.One(t, fmt.Sprintf("SELECT (%s)::text FROM (SELECT '%d'::xid AS xmin) t", v.unseenSQL("t.xmin"), uint32(at)))
			require.Equal(t, !v.Sees(uint32(at)), got == "true", "%+v %d", v, at)
		}
	}
}

// Rows that look younger than the slot's snapshot are found, in partitions too.
func TestFreezeFindsRowsOfAnotherRound(t *testing.T) {
	db := pgtest.Shared(t).DB(t)
	db.Exec(t, "CREATE TABLE outbox (id int PRIMARY KEY) PARTITION BY RANGE (id)")
	db.Exec(t, "CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES FROM (0) TO (9)")
	db.Exec(t, "INSERT INTO outbox VALUES (1)")
	conn, err := pgconn.Connect(t.Context(), db.DSN())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	table := &Table{Schema: "public", Name: "outbox", Frozen: &Frozen{}}
	xmin, err := ParseVisibility(db.One(t, "SELECT pg_current_snapshot()::text"))
	require.NoError(t, err)
	round := xmin.Xmax + 1<<32
	require.NoError(t, freeze(t.Context(), conn, table, Visibility{Xmin: round, Xmax: round}))
	require.Regexp(t, `^\d+:\d+$`, table.Frozen.Files)
	var old *AmbiguousError
	require.ErrorAs(t, freeze(t.Context(), conn, table, Visibility{Xmin: round - 100_000, Xmax: round - 100_000}), &old)
	require.Equal(t, "public.outbox", old.Table)
}
