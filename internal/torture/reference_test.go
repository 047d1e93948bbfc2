package torture_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
	"github.com/walbridge/walbridge/mapper"
)

const (
	referenceName  = "reference"
	referenceLanes = 8
)

// reference is the smallest thing that delivers: the server's own SQL function,
// the decoder, the mapper, and a slice. It shows what a log without any fault looks
// like.
type reference struct {
	db          *pgtest.DB
	mapper      *mapper.Mapper
	publication string
	items       []torture.Item
}

func newReference(t *testing.T, db *pgtest.DB, viaRoot bool) *reference {
	t.Helper()
	root := "false"
	if viaRoot {
		root = "true"
	}
	db.Exec(t, `DO $$ BEGIN EXECUTE (SELECT 'CREATE PUBLICATION reference FOR TABLE ' || string_agg(oid::regclass::text, ', ')
		|| ' WITH (publish_via_partition_root = `+root+`)' FROM pg_class
		WHERE relnamespace = 'load'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition); END $$`)
	db.Exec(t, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", slotOf(db))
	m, err := mapper.New(mapper.Config{Routes: []mapper.Route{
		{Tables: []string{torture.OutboxTable}, Outbox: &mapper.Outbox{}},
		{Tables: []string{torture.SchemaName + ".*"}, Changes: &mapper.Changes{}},
	}}, mapper.Env{Bridge: referenceName, Database: db.Name(), PrimaryKeys: map[string][]string{"load.blob_full": {"id"}}})
	require.NoError(t, err)
	return &reference{db: db, mapper: m, publication: "reference"}
}

func slotOf(db *pgtest.DB) string { return "reference_" + db.Name() }

// read takes all that has committed.
func (r *reference) read(t *testing.T) {
	t.Helper()
	conn := r.db.Conn(t)
	for name, v := range map[string]string{"datestyle": "ISO", "extra_float_digits": "3", "bytea_output": "hex", "timezone": "UTC"} {
		_, err := conn.Exec(t.Context(), "SELECT set_config($1, $2, false)", name, v)
		require.NoError(t, err)
	}
	rows, err := conn.Query(t.Context(), `SELECT lsn::text, data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', 'reference', 'messages', 'true')`, slotOf(r.db))
	require.NoError(t, err)
	d := decoder.New(decoder.Config{})
	var at string
	var data []byte
	first := len(r.items) // of the open transaction
	_, err = pgx.ForEachRow(rows, []any{&at, &data}, func() error {
		start, err := lsn.Parse(at)
		require.NoError(t, err)
		step, err := d.Decode(data, start)
		require.NoError(t, err)
		switch step {
		case decoder.StepBegin:
			first = len(r.items)
		case decoder.StepChange:
			r.change(t, d)
		case decoder.StepCommit:
			if len(r.items) > first {
				r.items[len(r.items)-1].TxEnd = true
			}
		}
		return nil
	})
	require.NoError(t, err)
}

func (r *reference) change(t *testing.T, d *decoder.Decoder) {
	for more := true; more; more = d.More() {
		items, err := r.mapper.Map(d.Change())
		require.NoError(t, err)
		for i := range items {
			r.add(t, &items[i])
		}
	}
}

// add stores a copy of an item, as a work table would.
func (r *reference) add(t *testing.T, it *mapper.Item) {
	require.NotEqual(t, mapper.KindDeadLetter, it.Kind, "%+v", it.DeadLetter)
	made := torture.Item{
		Source: referenceName, ID: it.ID, Stream: it.Stream, Key: string(it.Key), EventID: string(it.EventID),
		Kind: it.Kind.String(), Type: string(it.Type), Payload: it.Payload.AppendJSON(nil), Headers: bytes.Clone(it.Headers),
	}
	sum := sha256.Sum256(it.Key)
	made.Lane = int(binary.BigEndian.Uint32(sum[:]) % referenceLanes)
	if !it.AllLanes {
		r.push(made)
		return
	}
	for lane := range referenceLanes {
		made.Lane, made.ID.Sub = lane, uint16(lane)
		made.EventID = referenceName + ":" + made.ID.String()
		r.push(made)
	}
}

func (r *reference) push(it torture.Item) {
	it.At = int64(len(r.items) + 1)
	r.items = append(r.items, it)
}

// check runs a checker over items.
func check(items []torture.Item) (*torture.Checker, error) {
	c := torture.NewChecker(torture.Rules{Lanes: referenceLanes})
	for i := range items {
		if err := c.Add(&items[i]); err != nil {
			return c, err
		}
	}
	return c, c.End()
}
