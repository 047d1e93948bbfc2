package kafka

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink/sinktest"
)

// benchItems are events of about 350 bytes over many keys.
func benchItems(topic string, n int) [][]mapper.Item {
	items := make([][]mapper.Item, n)
	for i := range items {
		it := event(0x100, uint32(i), topic, fmt.Sprintf("order:%d", i))
		it.Payload = sinktest.JSON(fmt.Sprintf(`{"order_id":%d,"status":"paid","customer":"c-%d","lines":[%0280d]}`, i, i%997, i))
		items[i] = []mapper.Item{it}
	}
	return items
}

// Encoding into 10, 1,000 and 5,000 partitions, compression included.
func BenchmarkEncode(b *testing.B) {
	for _, partitions := range []int{10, 1000, 5000} {
		b.Run(fmt.Sprint(partitions, "_partitions"), func(b *testing.B) {
			cfg := Config{}.WithDefaults()
			s := New(cfg, nil)
			s.table.put(fakeTopic, &topicInfo{partitions: partitions, maxBytes: defaultMaxBytes, ahead: defaultAhead, behind: 1<<63 - 1})
			require.NoError(b, s.makeCompressor())
			batch := s.NewBatch().(*batch)
			items := benchItems(fakeTopic, 10_000)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				batch.Reset()
				for i := range items {
					batch.Append(items[i])
				}
				w := &writing{s: s, b: batch}
				require.Empty(b, w.closeAll())
				n += len(items)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// Writes of 10,000 records to a real broker, one after the other.
func BenchmarkWrite(b *testing.B) {
	broker := kafkatest.Shared(b)
	for _, delivery := range []string{ExactlyOnce, AtLeastOnce} {
		b.Run(delivery, func(b *testing.B) {
			cfg := testConfig(broker.Addr())
			cfg.Delivery, cfg.Compression, cfg.CreateTopics.Configs = delivery, "zstd", nil
			topic := broker.Topic(b, 12, "retention.ms", "-1")
			s := opened(b, cfg, "shop")
			batch, items := s.NewBatch(), benchItems(topic, 10_000)
			n := 0
			for b.Loop() {
				batch.Reset()
				for i := range items {
					batch.Append(items[i])
				}
				n += len(items)
				require.NoError(b, s.Write(ctxOf(b), batch, at(lsn.LSN(0x100*n))))
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
