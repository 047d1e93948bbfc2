package decoder_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// With -capture, TestServer writes what it gets into testdata/corpus; then run
// TestGolden with -rewrite. All versions: WALBRIDGE_TEST_PG=14,15,16,17,18.
var capture = flag.Bool("capture", false, "write the corpus anew from the servers")

const captureTimeout = time.Minute

// endPrefix is the logical message that ends a capture.
const endPrefix = "capture.end"

// TestServer runs every scenario on real servers and reads it as a replication
// client does. What comes must read as the capture in the repository does.
func TestServer(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		for _, s := range scenarios() {
			if s.since > c.Major() {
				continue
			}
			t.Run(s.name, func(t *testing.T) {
				frames := record(t, c.DB(t), s)
				path := corpusPath(c.Major(), s.name)
				if *capture {
					writeCorpus(t, path, frames)
					addGolden(t, c.Major(), s.name)
				}
				want := readCorpus(t, path)
				require.Equal(t, messagesText(t, withoutRepeats(want)), messagesText(t, withoutRepeats(frames)))
				require.Equal(t, changesText(want), changesText(frames))
			})
		}
	})
}

// addGolden makes sure that TestGolden replays the capture.
func addGolden(t *testing.T, major int, name string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", fmt.Sprintf("%d.txt", major))
	text, err := os.ReadFile(path)
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	if strings.Contains(string(text), "messages "+name+"\n") {
		return
	}
	if len(text) > 0 {
		text = append(text, '\n')
	}
	text = fmt.Appendf(text, "messages %s\n----\n\nchanges %s\n----\n", name, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, text, 0o644))
}

// record runs a scenario and returns the messages of it.
func record(t *testing.T, db *pgtest.DB, s scenario) []decodertest.Frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), captureTimeout)
	defer cancel()
	one, two := db.Conn(t).PgConn(), db.Conn(t).PgConn()
	publish := s.publish
	if publish == "" {
		publish = "FOR ALL TABLES"
	}
	for _, sql := range append(s.setup, "CREATE PUBLICATION p "+publish) {
		execute(ctx, t, one, sql)
	}
	slot := db.Name()
	execute(ctx, t, one, fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput', false, %t)", slot, s.twoPhase))
	stream := startStream(ctx, t, db, slot, s)
	for _, step := range s.steps {
		if kind, ok := strings.CutPrefix(step, "@"); ok {
			stream.readUntil(ctx, t, func(m []byte) bool { return m[0] == kind[0] })
		} else if sql, ok := strings.CutPrefix(step, "2:"); ok {
			execute(ctx, t, two, sql)
		} else {
			execute(ctx, t, one, step)
		}
	}
	return stream.end(ctx, t, two)
}

func execute(ctx context.Context, t *testing.T, conn *pgconn.PgConn, sql string) {
	t.Helper()
	_, err := conn.Exec(ctx, sql).ReadAll()
	require.NoError(t, err, sql)
}

// stream is a replication session and what has come of it.
type stream struct {
	conn   *pgconn.PgConn
	frames []decodertest.Frame
}

func startStream(ctx context.Context, t *testing.T, db *pgtest.DB, slot string, s scenario) *stream {
	t.Helper()
	cfg, err := pgconn.ParseConfig(db.DSN())
	require.NoError(t, err)
	cfg.RuntimeParams["replication"] = "database"
	for name, value := range map[string]string{
		"client_encoding": "UTF8", "datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "3", "bytea_output": "hex", "timezone": "UTC",
		"logical_decoding_work_mem": "64kB",
	} {
		cfg.RuntimeParams[name] = value
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	args := []string{fmt.Sprintf("proto_version '%d'", max(s.proto, 1)), "publication_names 'p'", "messages 'true'"}
	if s.options != "" {
		args = append(args, s.options)
	}
	require.NoError(t, pglogrepl.StartReplication(ctx, conn, slot, 0, pglogrepl.StartReplicationOptions{PluginArgs: args}))
	return &stream{conn: conn}
}

// readUntil reads up to and with the first message that is wanted.
func (s *stream) readUntil(ctx context.Context, t *testing.T, wanted func(m []byte) bool) {
	t.Helper()
	for {
		m, err := s.conn.ReceiveMessage(ctx)
		require.NoError(t, err)
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			t.Fatal(pgconn.ErrorResponseToPgError(e))
		}
		cd, ok := m.(*pgproto3.CopyData)
		if !ok || cd.Data[0] != pglogrepl.XLogDataByteID {
			continue // a keepalive
		}
		f := decodertest.Frame{Start: lsn.LSN(binary.BigEndian.Uint64(cd.Data[1:])), Data: append([]byte{}, cd.Data[25:]...)}
		s.frames = append(s.frames, f)
		if wanted(f.Data) {
			return
		}
	}
}

// end writes a last message and returns all frames before the transaction of it.
func (s *stream) end(ctx context.Context, t *testing.T, conn *pgconn.PgConn) []decodertest.Frame {
	t.Helper()
	execute(ctx, t, conn, "SELECT pg_logical_emit_message(true, '"+endPrefix+"', '')")
	var p decoder.Parser
	s.readUntil(ctx, t, func(data []byte) bool {
		m, err := p.Parse(data)
		require.NoError(t, err)
		end, ok := m.(*decoder.LogicalMessage)
		return ok && string(end.Prefix) == endPrefix
	})
	return s.frames[:len(s.frames)-2]
}
