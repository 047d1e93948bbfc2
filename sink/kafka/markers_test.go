package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// stranger is another producer with a transaction open in a partition.
func stranger(t *testing.T, addr, topic string, id int32, key, value string) (end func()) {
	c := franz(t, addr, kgo.TransactionalID("stranger-"+topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, c.BeginTransaction())
	require.NoError(t, c.ProduceSync(ctxOf(t), &kgo.Record{Topic: topic, Partition: id, Key: []byte(key), Value: []byte(value)}).FirstErr())
	return func() { require.NoError(t, c.EndTransaction(ctxOf(t), kgo.TryAbort)) }
}

// A position record whose transaction never ends is a halt that names it, and no
// position; when somebody has ended it, the bridge goes on.
func TestHangingPosition(t *testing.T) {
	broker := kafkatest.Shared(t)
	cfg := testConfig(broker.Addr())
	topic := broker.Topic(t, 2, "retention.ms", "-1")
	s := opened(t, cfg, "shop")
	require.NoError(t, s.Write(ctxOf(t), batchFor(s, topic, 0x100), at(0x130)))
	text, err := encodePosition("shop", 99, progressPartitionCount, at(0x999))
	require.NoError(t, err)
	own := progressPartition(cfg.ProgressTopic, "shop", progressPartitionCount)
	end := stranger(t, broker.Addr(), own.topic, own.id, "shop", string(text))
	s.tune.markersWithin = 200 * time.Millisecond
	_, err = s.Open(ctxOf(t), sink.Source{Name: "shop"})
	var halt *fault.Halt
	require.ErrorAs(t, err, &halt)
	require.Equal(t, "kafka-hanging-transaction", halt.Rule)
	require.Contains(t, halt.Error(), own.String())
	end()
	s.tune.markersWithin = within
	p, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
	require.NoError(t, err)
	require.Equal(t, at(0x130), p)
}

// Somebody else's open transaction holds the stable offset back: our markers are there
// all the same, and so is our position.
func TestStrangersTransaction(t *testing.T) {
	broker := kafkatest.Shared(t)
	cfg := testConfig(broker.Addr())
	topic := broker.Topic(t, 1, "retention.ms", "-1")
	s := opened(t, cfg, "shop")
	own := progressPartition(cfg.ProgressTopic, "shop", progressPartitionCount)
	defer stranger(t, broker.Addr(), own.topic, own.id, "another", "x")()
	defer stranger(t, broker.Addr(), topic, 0, "k", "x")()
	require.NoError(t, s.Write(ctxOf(t), batchFor(s, topic, 0x100), at(0x130)))
	require.NoError(t, s.checkMarkers(ctxOf(t)))
	p, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
	require.NoError(t, err)
	require.Equal(t, at(0x130), p)
}

// A transaction that is known to be committed and lacks a marker: an empty transaction
// over its partitions is committed, and where that does not help it is a halt.
func TestLostMarkerOfAKnownCommit(t *testing.T) {
	broker := kafkatest.Shared(t)
	cfg := testConfig(broker.Addr())
	topic := broker.Topic(t, 1, "retention.ms", "-1")
	s := opened(t, cfg, "shop")
	require.NoError(t, s.Write(ctxOf(t), batchFor(s, topic, 0x100), at(0x130)))
	// As it is after the loss: records of ours, and no marker behind them.
	at1 := partition{topic, 0}
	require.NoError(t, s.producer.add(ctxOf(t), []partition{at1}))
	seg := &segment{}
	var body recordbatch.Body
	body.BeginBytes([]byte("k"), []byte("hanging"))
	seg.Append(nowMs(), body.End())
	seg.closed, _ = seg.Close(s.compressor, nil)
	hanging := &part{partition: at1, segment: seg, records: 1, closed: seg.closed}
	s.producer.stampAll([]*part{hanging})
	require.NoError(t, (&sender{client: s.client, transactional: s.producer.transactional}).send(ctxOf(t), []*part{hanging}))
	s.committed = extents([][]*part{{hanging}}, s.producer.id)
	s.tune.markersWithin = 500 * time.Millisecond
	require.NoError(t, s.checkMarkers(ctxOf(t)), "the empty transaction has committed it")
	got := committed(t, broker.Addr(), cfg.TransactionalID, topic)[topic]
	require.Equal(t, "hanging", string(got[len(got)-1].Value))

	s.committed[0].last += 1000
	err := s.checkMarkers(ctxOf(t))
	var halt *fault.Halt
	require.ErrorAs(t, err, &halt)
	require.Equal(t, "kafka-hanging-transaction", halt.Rule)
}

// A position is found wherever it is: behind many others, in a topic that was given
// more partitions, and not when a tombstone follows it.
func TestFindingThePosition(t *testing.T) {
	broker := kafkatest.Shared(t)
	cfg := testConfig(broker.Addr())
	broker.MakeTopic(t, cfg.ProgressTopic, 2, "cleanup.policy", "compact")
	s := opened(t, cfg, "shop")
	for i := range lsn.LSN(3) {
		require.NoError(t, s.Write(ctxOf(t), s.NewBatch(), at(0x100*(i+1))))
	}
	own := progressPartition(cfg.ProgressTopic, "shop", 2)
	c := franz(t, broker.Addr(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var others []*kgo.Record
	for range 3 * firstWindow {
		others = append(others, &kgo.Record{Topic: own.topic, Partition: own.id, Key: []byte("other"), Value: []byte("{}")})
	}
	require.NoError(t, c.ProduceSync(ctxOf(t), others...).FirstErr())
	decided(t, c, cfg.TransactionalID)
	l, err := ReadLatest(ctxOf(t), cfg, "shop")
	require.NoError(t, err)
	require.Equal(t, Latest{at(0x300), 3}, l)
	found, err := s.client.readProgress(ctxOf(t), cfg.ProgressTopic, "shop", 2)
	require.NoError(t, err)
	require.Equal(t, 2, found.of)

	unreadable := &kgo.Record{Topic: own.topic, Partition: own.id, Key: []byte("shop"), Value: []byte(`{"version":7}`)}
	require.NoError(t, c.ProduceSync(ctxOf(t), unreadable).FirstErr())
	_, err = s.Open(ctxOf(t), sink.Source{Name: "shop"})
	var halt *fault.Halt
	require.ErrorAs(t, err, &halt)
	require.Equal(t, "kafka-position-unreadable", halt.Rule)

	require.NoError(t, c.ProduceSync(ctxOf(t), &kgo.Record{Topic: own.topic, Partition: own.id, Key: []byte("shop")}).FirstErr())
	l, err = ReadLatest(ctxOf(t), cfg, "nobody")
	require.NoError(t, err)
	require.Equal(t, Latest{}, l)
}

// A batch costs no allocation for a record, whatever its partition.
func TestAppendDoesNotAllocate(t *testing.T) {
	f := newFake(t)
	s := opened(t, f.cfg, "shop")
	b := s.NewBatch()
	items := make([][]mapper.Item, 64)
	for i := range items {
		items[i] = []mapper.Item{event(0x100, uint32(i), fakeTopic, string(rune('a'+i%20)))}
		items[i][0].Headers = []byte(`{"traceparent":"00-4bf9"}`)
	}
	fill := func() {
		b.Reset()
		for range 20 {
			for i := range items {
				b.Append(items[i])
			}
		}
	}
	fill()
	require.Zero(t, testing.AllocsPerRun(20, fill))
}

func BenchmarkAppend(b *testing.B) {
	info := &topicInfo{partitions: 12, maxBytes: defaultMaxBytes}
	cfg := Config{}.WithDefaults()
	tbl := &table{}
	tbl.put(fakeTopic, info)
	batch := newBatch(&cfg, tbl, func() string { return "shop" })
	items := make([][]mapper.Item, 64)
	for i := range items {
		items[i] = []mapper.Item{event(0x100, uint32(i), fakeTopic, string(rune('a'+i%20)))}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%5000 == 0 {
			batch.Reset()
		}
		batch.Append(items[i%len(items)])
	}
}
