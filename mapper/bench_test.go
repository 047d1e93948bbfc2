package mapper

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// sevenColumns is a row as of an orders table: bigint key, text, numeric,
// timestamptz, boolean, integer, NULL.
func sevenColumns() *decoder.Change {
	rel := newRelation("public", "orders", decoder.IdentityDefault,
		"*id int8", "customer text", "total numeric", "created_at timestamptz", "paid bool", "items int4", "note text")
	return insert(rel, "123456789", "customer 4711", "129.95", "2024-02-03 09:35:06.789012+00", "t", "3", null)
}

func outboxRow() *decoder.Change {
	rel := newRelation("public", "outbox", decoder.IdentityDefault,
		"*id uuid", "aggregatetype varchar", "aggregateid varchar", "type varchar", "payload jsonb")
	return insert(rel, "0f8fad5b-d9cb-469f-a165-70867728950e", "orders", "order:9182", "OrderPaid",
		`{"order_id": 9182, "total": "129.95", "currency": "EUR", "lines": [{"sku": "A-1", "qty": 2}, {"sku": "B-7", "qty": 1}], "note": "leave at the door"}`)
}

func hotPaths() map[string]*decoder.Change {
	debezium := sevenColumns()
	debezium.Relation.Namespace = "debezium"
	message := change(decoder.OpMessage, nil)
	message.Prefix, message.Transactional = "outbox", true
	message.Content = []byte(`{"id": "0f8fad5b", "aggregatetype": "orders", "aggregateid": "order:\u0031", "type": "OrderPaid", "payload": {"order_id": 9182, "total": "129.95"}}`)
	return map[string]*decoder.Change{"message": message, "record": sevenColumns(), "outbox": outboxRow(), "update": updated(sevenColumns()), "debezium": debezium}
}

func updated(c *decoder.Change) *decoder.Change {
	c.Op = decoder.OpUpdate
	return c
}

func hotMapper(t testing.TB) *Mapper {
	return newMapper(t, Config{Routes: []Route{
		{Tables: []string{"public.outbox"}, Messages: []string{"outbox"}, Outbox: &Outbox{}},
		{Tables: []string{"public.*"}, Changes: &Changes{}},
		{Tables: []string{"debezium.*"}, Changes: &Changes{Envelope: envelopeDebezium}},
	}})
}

// next makes c the change after itself, as a stream would have it.
func next(c *decoder.Change) {
	c.ID.Seq++
	if c.ID.Seq%10 == 0 {
		c.ID = lsn.ID{Commit: c.ID.Commit + 128}
		c.Tx.Commit, c.Tx.Xid, c.Tx.CommitTime = c.ID.Commit, c.Tx.Xid+1, c.Tx.CommitTime+1000
	}
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	for name, c := range hotPaths() {
		m := hotMapper(t)
		buf := make([]byte, 0, 4096)
		allocs := testing.AllocsPerRun(1000, func() {
			next(c)
			items, err := m.Map(c)
			if err != nil || len(items) != 1 || items[0].Kind == KindDeadLetter {
				t.Fatal(name, items, err)
			}
			buf = items[0].Payload.AppendJSON(buf[:0])
		})
		require.Zero(t, allocs, name)
	}
}

func BenchmarkMap(b *testing.B) {
	for _, name := range []string{"record", "update", "outbox", "debezium"} {
		b.Run(name, func(b *testing.B) {
			m, c := hotMapper(b), hotPaths()[name]
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				next(c)
				items, err := m.Map(c)
				if err != nil {
					b.Fatal(err)
				}
				buf = items[0].Payload.AppendJSON(buf[:0])
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}
