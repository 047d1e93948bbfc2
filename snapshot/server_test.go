package snapshot

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// follower is the stream: it asks a slot by SQL, decodes what the server says, and has
// the session look at it. rows are what a destination would hold.
type follower struct {
	conn    *pgx.Conn
	decoder *decoder.Decoder
	s       *Session
	changes int
	rows    map[string]string // v by id
	reads   int
}

func (f *follower) poll(ctx context.Context) error {
	rows, err := f.conn.Query(ctx, "SELECT lsn::text, data FROM pg_logical_slot_get_binary_changes('snap', NULL, NULL, 'proto_version', '1', 'publication_names', 'pub', 'messages', 'true')")
	if err != nil {
		return err
	}
	var at string
	var data []byte
	_, err = pgx.ForEachRow(rows, []any{&at, &data}, func() error {
		pos, err := lsn.Parse(at)
		if err != nil {
			return err
		}
		step, err := f.decoder.Decode(append([]byte(nil), data...), pos)
		if err == nil {
			f.step(step)
		}
		return err
	})
	return err
}

func (f *follower) step(step decoder.Step) {
	switch step {
	case decoder.StepBegin:
		f.changes = 0
	case decoder.StepChange:
		for more := true; more; more = f.decoder.More() {
			ch := f.decoder.Change()
			f.changes++
			f.s.Change(ch)
			f.apply(ch)
		}
	case decoder.StepCommit:
		c := f.s.Commit(f.changes)
		if c == nil {
			return
		}
		for i := range c.Len() {
			row, _ := c.Row(i, nil)
			f.rows[string(row[0].Data)] = string(row[1].Data)
			f.reads++
		}
	}
}

func (f *follower) apply(ch *decoder.Change) {
	switch ch.Op {
	case decoder.OpInsert, decoder.OpUpdate:
		if ch.Old != nil {
			delete(f.rows, string(ch.Old[0].Data))
		}
		f.rows[string(ch.New[0].Data)] = string(ch.New[1].Data)
	case decoder.OpDelete:
		delete(f.rows, string(ch.Old[0].Data))
	}
}

// The whole of it against a server, in one process, so that -race sees it: workers
// read while a stream goes by that they share a session with.
func TestSessionBesideAServer(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		db.Exec(t, "CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int); INSERT INTO a SELECT i, 0 FROM generate_series(1, 2000) i; INSERT INTO b SELECT -i, 0 FROM generate_series(1, 500) i")
		db.Exec(t, "CREATE PUBLICATION pub FOR TABLE a, b")
		db.Exec(t, "SELECT pg_create_logical_replication_slot('snap', 'pgoutput')")
		cfg, err := pgconn.ParseConfig(db.DSN())
		require.NoError(t, err)
		s := NewSession(Config{
			Connect:     func(ctx context.Context) (*pgconn.PgConn, error) { return pgconn.ConnectConfig(ctx, cfg) },
			Publication: "pub", ChunkRows: 50,
		}, New([]*Table{{Schema: "public", Name: "a"}, {Schema: "public", Name: "b"}, {Schema: "public", Name: "none"}}))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- s.Run(ctx) }()
		go func() { ended <- write(ctx, db.DSN()) }()
		f := &follower{conn: db.Conn(t), decoder: decoder.New(decoder.Config{}), s: s, rows: map[string]string{}}
		pgtest.Eventually(t, 2*time.Minute, func() bool {
			require.NoError(t, f.poll(t.Context()))
			st := s.Status(time.Now())
			_, err := s.Cursors()
			require.NoError(t, err)
			return len(st.Tables) == 1 && st.Tables[0].Problem != ""
		}, "both tables are read, and the third is named")
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
		require.NoError(t, f.poll(t.Context()))
		want := map[string]string{}
		for _, row := range db.Query(t, "SELECT id, v FROM a UNION ALL SELECT id, v FROM b") {
			want[row[0]] = row[1]
		}
		require.Equal(t, want, f.rows)
		require.NotZero(t, f.reads)
	})
}

func write(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect the writer: %w", err)
	}
	defer conn.Close(context.Background())
	for i := 1; ctx.Err() == nil && i <= 300; i++ {
		for _, sql := range []string{"UPDATE a SET v = v + 1 WHERE id = %d", "DELETE FROM a WHERE id = %d + 7", "UPDATE a SET id = id + 1000000 WHERE id = %d + 11", "INSERT INTO a VALUES (%d + 5000000, 1)", "UPDATE b SET v = v + 1 WHERE id = -%d"} {
			if _, err := conn.Exec(ctx, fmt.Sprintf(sql, i)); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
	return nil
}

// A table that was dropped and made again under its name is another one: its rows are
// read from the first on, and those of the same one go on behind the cursor.
func TestTableMadeAgainBeginsAnew(t *testing.T) {
	db := pgtest.Shared(t).DB(t)
	db.Exec(t, "CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT i, 0 FROM generate_series(1, 100) i; CREATE PUBLICATION pub FOR TABLE a")
	cfg, err := pgconn.ParseConfig(db.DSN())
	require.NoError(t, err)
	var oid uint32
	require.NoError(t, db.Conn(t).QueryRow(t.Context(), "SELECT 'a'::regclass::oid").Scan(&oid))
	for was, want := range map[uint32]int{oid: 50, oid - 1: 100, 0: 50} {
		db.Exec(t, "SELECT pg_create_logical_replication_slot('snap', 'pgoutput')")
		state := New([]*Table{{Schema: "public", Name: "a"}})
		state.Tables[0].OID, state.Tables[0].Key, state.Tables[0].After = was, []string{"id"}, []string{"50"}
		s := NewSession(Config{Connect: func(ctx context.Context) (*pgconn.PgConn, error) { return pgconn.ConnectConfig(ctx, cfg) }, Publication: "pub"}, state)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		f := &follower{conn: db.Conn(t), decoder: decoder.New(decoder.Config{}), s: s, rows: map[string]string{}}
		pgtest.Eventually(t, time.Minute, func() bool {
			require.NoError(t, f.poll(t.Context()))
			return len(s.Status(time.Now()).Tables) == 0
		}, "it is read")
		cancel()
		require.NoError(t, <-ended)
		require.Equal(t, want, f.reads, "was %d, is %d", was, oid)
		db.Exec(t, "SELECT pg_drop_replication_slot('snap')")
	}
}
