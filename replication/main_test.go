package replication

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// within bounds what a test waits for on a busy machine.
const within = 30 * time.Second

// bridgeName makes a name that no other test of a shared cluster has: slots belong
// to the whole cluster.
func bridgeName(db *pgtest.DB) string {
	name := db.Name()
	return strings.TrimLeft(name[max(0, len(name)-40):], "_")
}

// testSource returns the source of a bridge in a database, reached by a DSN.
func testSource(t testing.TB, db *pgtest.DB, dsn string) *Source {
	t.Helper()
	name := bridgeName(db)
	s, err := New(Config{DSN: secret.DSN(dsn)}.WithDefaults(name), name, hclog.NewNullLogger())
	require.NoError(t, err)
	return s
}

// ready makes a table and a publication over it, and a slot.
func ready(t testing.TB, s *Source, db *pgtest.DB) lsn.LSN {
	t.Helper()
	db.Exec(t, "CREATE TABLE a (id int PRIMARY KEY, v text)")
	db.Exec(t, "CREATE PUBLICATION "+quoteIdent(s.Publication())+" FOR TABLE a")
	at, err := s.CreateSlot(t.Context())
	require.NoError(t, err)
	return at
}

// position is a confirmed position that a test moves.
type position struct{ at chan lsn.LSN }

func positionAt(at lsn.LSN) *position {
	p := &position{make(chan lsn.LSN, 1)}
	p.at <- at
	return p
}

func (p *position) get() lsn.LSN   { at := <-p.at; p.at <- at; return at }
func (p *position) set(to lsn.LSN) { <-p.at; p.at <- to }

// open starts a stream that is closed at the test's end.
func open(t testing.TB, s *Source, from lsn.LSN, confirmed func() lsn.LSN) *Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	st, err := s.Stream(ctx, StreamConfig{From: from, Confirmed: confirmed})
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// until reads frames until one satisfies want, and returns a copy of it.
func until(t testing.TB, st *Stream, want func(*Frame) bool) Frame {
	t.Helper()
	stop := time.AfterFunc(within, st.Interrupt)
	defer stop.Stop()
	for {
		f, err := st.Next()
		require.NoError(t, err)
		if want(f) {
			c := *f
			c.Data = append([]byte(nil), f.Data...)
			return c
		}
	}
}

// kind is the plugin's message type, 'k' for a keepalive.
func kind(f *Frame) byte {
	if f.Keepalive {
		return 'k'
	}
	return f.Data[0]
}

func isCommit(f *Frame) bool { return kind(f) == 'C' }

func confirmedFlush(t testing.TB, db *pgtest.DB, s *Source) string {
	t.Helper()
	return db.One(t, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1", s.Slot())
}
