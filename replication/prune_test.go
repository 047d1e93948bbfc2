package replication

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
)

// pruneRig is an outbox and a pruner of it.
type pruneRig struct {
	db     *pgtest.DB
	source *Source
	pruner *Pruner
	table  *catalog.Table
}

func newPruneRig(t *testing.T, create string) *pruneRig {
	t.Helper()
	db := pgtest.Shared(t).DB(t)
	db.Exec(t, create)
	cfg := Config{DSN: secret.DSN(db.DSN())}.WithDefaults("prune")
	s, err := New(cfg, "prune", hclog.NewNullLogger())
	require.NoError(t, err)
	p, err := s.Pruner(t.Context())
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return &pruneRig{db, s, p, &catalog.Table{Schema: "public", Name: "outbox", Kind: 'r'}}
}

const pruneTable = "CREATE TABLE public.outbox (id int PRIMARY KEY, at timestamptz, plain timestamp)"

func (r *pruneRig) horizon(t *testing.T) Horizon {
	t.Helper()
	h, err := r.source.Horizon(t.Context())
	require.NoError(t, err)
	return h
}

// prune deletes what may go, of the whole table.
func (r *pruneRig) prune(t *testing.T, what Prunable) int64 {
	t.Helper()
	what.Table = r.table
	pages, err := r.pruner.Pages(t.Context(), r.table)
	require.NoError(t, err)
	rows, err := r.pruner.Delete(t.Context(), what, 0, pages)
	require.NoError(t, err)
	return rows
}

func (r *pruneRig) left(t *testing.T) string {
	t.Helper()
	return r.db.One(t, "SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') FROM public.outbox")
}

func (r *pruneRig) tx(t *testing.T, sql ...string) pgx.Tx {
	t.Helper()
	tx, err := r.db.Conn(t).Begin(t.Context())
	require.NoError(t, err)
	for _, s := range sql {
		_, err := tx.Exec(t.Context(), s)
		require.NoError(t, err)
	}
	return tx
}

// A row goes by when its transaction ended, not by when it was written: what is under
// way at the horizon stays, however old its rows are, also those of a savepoint, whose
// transaction id no snapshot has.
func TestRowsOfLateTransactionsStay(t *testing.T) {
	r := newPruneRig(t, pruneTable)
	r.db.Exec(t, "INSERT INTO outbox VALUES (1, '2001-01-01')")
	late := r.tx(t, "INSERT INTO outbox VALUES (2, '2001-01-01')")
	saved := r.tx(t, "SELECT pg_current_xact_id()", "SAVEPOINT s", "INSERT INTO outbox VALUES (3, '2001-01-01')", "RELEASE s")
	r.db.Exec(t, "INSERT INTO outbox VALUES (4, '2001-01-01')")
	h := r.horizon(t)
	r.db.Exec(t, "INSERT INTO outbox VALUES (5, '2001-01-01')")
	require.NoError(t, late.Commit(t.Context()))
	require.NoError(t, saved.Commit(t.Context()))

	aged := Prunable{Relayed: h, Column: "at", Zoned: true, Age: time.Hour}
	require.EqualValues(t, 1, r.prune(t, aged))
	require.Equal(t, "2 3 4 5", r.left(t), "4 committed before the horizon, and after the oldest that had not")
	require.EqualValues(t, 0, r.prune(t, Prunable{Relayed: h, Old: h}))
	require.EqualValues(t, 4, r.prune(t, Prunable{Relayed: r.horizon(t), Old: r.horizon(t)}))
}

// What had ended at the horizon has its commit record before the horizon's LSN.
func TestHorizonLiesBehindWhatHasEnded(t *testing.T) {
	r := newPruneRig(t, pruneTable)
	for i := range 20 {
		h := r.horizon(t)
		r.db.Exec(t, "INSERT INTO outbox VALUES ($1)", i)
		next := r.horizon(t)
		require.Greater(t, next.LSN, h.LSN)
		require.Greater(t, next.Xid, h.Xid)
		require.Equal(t, h.Place, next.Place)
		require.Equal(t, r.pruner.Place(), h.Place)
	}
}

func TestPruneByAge(t *testing.T) {
	r := newPruneRig(t, pruneTable)
	r.db.Exec(t, `INSERT INTO outbox SELECT i, now() - make_interval(mins => i), (now() AT TIME ZONE 'UTC') - make_interval(mins => i) FROM generate_series(1, 9) i;
		INSERT INTO outbox VALUES (10, NULL, NULL), (11, 'infinity', 'infinity'), (12, '-infinity', '-infinity')`)
	old := r.horizon(t)
	r.db.Exec(t, "INSERT INTO outbox VALUES (13)")
	h := r.horizon(t)
	by := Prunable{Relayed: h, Column: "at", Zoned: true, Age: 7*time.Minute + 30*time.Second}
	require.EqualValues(t, 3, r.prune(t, by))
	require.Equal(t, "1 2 3 4 5 6 7 10 11 13", r.left(t))
	_, err := r.pruner.conn.Exec(t.Context(), "SET TIME ZONE 'Asia/Kathmandu'").ReadAll()
	require.NoError(t, err)
	by = Prunable{Relayed: h, Column: "plain", Age: 5*time.Minute + 30*time.Second}
	require.EqualValues(t, 2, r.prune(t, by))
	by.Old = old
	require.EqualValues(t, 1, r.prune(t, by), "without a time the row's transaction says how old it is")
	require.Equal(t, "1 2 3 4 5 11 13", r.left(t))
	require.EqualValues(t, 0, r.prune(t, Prunable{Relayed: h}), "nothing is old")
}

// Rows that somebody holds are left, and so are those that change meanwhile; a locked
// table is not waited for.
func TestPruneLeavesWhatIsInUse(t *testing.T) {
	r := newPruneRig(t, pruneTable)
	r.db.Exec(t, "INSERT INTO outbox SELECT generate_series(1, 2500)")
	h := r.horizon(t)
	held := r.tx(t, "SELECT FROM outbox WHERE id IN (2, 2400) FOR UPDATE")
	all := Prunable{Relayed: h, Old: h}
	require.EqualValues(t, MaxPruned, r.prune(t, all))
	require.EqualValues(t, MaxPruned, r.prune(t, all))
	require.EqualValues(t, 498, r.prune(t, all))
	require.Equal(t, "2 2400", r.left(t))
	require.NoError(t, held.Commit(t.Context()))
	r.db.Exec(t, "UPDATE outbox SET at = now() WHERE id = 2")
	require.EqualValues(t, 1, r.prune(t, all))
	require.Equal(t, "2", r.left(t), "its row is a new one")

	held = r.tx(t, "LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
	_, err := r.pruner.Delete(t.Context(), Prunable{Table: r.table, Relayed: h, Old: h}, 0, 1)
	require.ErrorIs(t, err, ErrPruneBusy)
	require.NoError(t, held.Rollback(t.Context()))
	now := r.horizon(t)
	require.EqualValues(t, 1, r.prune(t, Prunable{Relayed: now, Old: now}), "the connection goes on")
}

// Children are tables of their own: their pages are counted by themselves.
func TestPruneLeavesChildren(t *testing.T) {
	r := newPruneRig(t, pruneTable+"; CREATE TABLE public.child () INHERITS (public.outbox)")
	r.db.Exec(t, "INSERT INTO outbox VALUES (1); INSERT INTO child VALUES (2)")
	h := r.horizon(t)
	require.EqualValues(t, 1, r.prune(t, Prunable{Relayed: h, Old: h}))
	require.Equal(t, "2", r.left(t))
}

// A horizon says nothing elsewhere, nor where the server has fewer transactions than it.
func TestPruneElsewhere(t *testing.T) {
	r := newPruneRig(t, pruneTable)
	r.db.Exec(t, "INSERT INTO outbox VALUES (1)")
	h := r.horizon(t)
	other := h
	other.Timeline++
	for _, what := range []Prunable{{Relayed: other, Old: h}, {Relayed: h, Old: other}} {
		what.Table = r.table
		_, err := r.pruner.Delete(t.Context(), what, 0, 1)
		require.ErrorContains(t, err, "another server or timeline")
	}
	ahead := h
	ahead.Xid += 1 << 20
	require.EqualValues(t, 0, r.prune(t, Prunable{Relayed: ahead, Old: ahead}))
}

func TestPruneRights(t *testing.T) {
	r := newPruneRig(t, pruneTable)
	r.db.Exec(t, "INSERT INTO outbox VALUES (1); DROP ROLE IF EXISTS pruner_test; CREATE ROLE pruner_test")
	t.Cleanup(func() { r.db.Exec(t, "DROP OWNED BY pruner_test; DROP ROLE pruner_test") })
	readable := func() bool {
		tables, err := r.source.Tables(t.Context())
		require.NoError(t, err)
		require.Len(t, tables, 1)
		return tables[0].Prunable
	}
	require.True(t, readable())
	h := r.horizon(t)
	_, err := r.pruner.conn.Exec(t.Context(), "SET ROLE pruner_test").ReadAll()
	require.NoError(t, err)
	try := func() error {
		_, err := r.pruner.Delete(t.Context(), Prunable{Table: r.table, Relayed: h, Old: h}, 0, 1)
		return err
	}
	require.Error(t, try())
	r.db.Exec(t, "GRANT SELECT, DELETE ON outbox TO pruner_test")
	require.Error(t, try())
	r.table.IdentityColumns = []string{"id"}
	r.db.Exec(t, PruneGrantSQL(r.table, "pruner_test"))
	require.NoError(t, try())
	require.Empty(t, r.left(t))
}

func TestUnstreamed(t *testing.T) {
	table := &catalog.Table{Schema: "public", Name: "p1", Root: "public.outbox"}
	pub := func(change func(*Publication)) *Publication {
		p := &Publication{Insert: true, Tables: []PublishedTable{{Schema: "public", Name: "outbox"}}}
		change(p)
		return p
	}
	require.Empty(t, Unstreamed(pub(func(*Publication) {}), table))
	require.Contains(t, Unstreamed(nil, table), "gone")
	require.Contains(t, Unstreamed(pub(func(p *Publication) { p.Insert = false }), table), "insert")
	require.Contains(t, Unstreamed(pub(func(p *Publication) { p.Tables[0].Name = "other" }), table), "lacks")
	require.Contains(t, Unstreamed(pub(func(p *Publication) { p.Tables[0].Filter = "id > 7" }), table), "row filter")
	table.Unlogged = true
	require.Contains(t, Unstreamed(pub(func(*Publication) {}), table), "unlogged")
}
