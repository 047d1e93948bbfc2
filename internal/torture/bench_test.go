package torture_test

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/torture"
)

// One item of an update of a row of six columns.
func BenchmarkChecker(b *testing.B) {
	insert := []byte(`{"op":"insert","schema":"load","table":"item","key":{"id":1},"before":null,"after":{"id":1,"n":5,"v":"some text","num":1.50,"flag":true,"at":"2024-02-03T09:35:06.789Z"},"unchanged":[],"source":{"bridge":"s","db":"d","commit_lsn":"0/1","tx_seq":0,"xid":1,"committed_at":"2024-02-03T09:35:06.000000Z","snapshot":false}}`)
	update := bytes.Replace(insert, []byte("insert"), []byte("update"), 1)
	c := torture.NewChecker(torture.Rules{})
	it := torture.Item{Source: "s", Stream: "load.item", Key: "load.item:[1]", Kind: "change", TxEnd: true}
	add := func(n int, payload []byte, op string) {
		it.ID = lsn.ID{Commit: lsn.LSN(n)}
		it.Type, it.EventID = op, "s:"+it.ID.String()
		it.Payload = bytes.Replace(payload, []byte(`"commit_lsn":"0/1"`), []byte(`"commit_lsn":"0/`+strconv.FormatInt(int64(n), 16)+`"`), 1)
		require.NoError(b, c.Add(&it))
	}
	add(1, insert, "insert")
	b.SetBytes(int64(len(update)))
	b.ReportAllocs()
	for n := 2; b.Loop(); n++ {
		add(n, update, "update")
	}
}
