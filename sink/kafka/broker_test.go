package kafka

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
	"github.com/walbridge/walbridge/sink/sinktest"
)

// Another implementation reads every record back, in every codec: key, value, headers,
// time, and the partition of its key. Kafka's own tool accepts the segments.
func TestReadBack(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Shared(t)
	for _, codec := range recordbatch.Codecs() {
		t.Run(codec, func(t *testing.T) {
			cfg := testConfig(broker.Addr())
			cfg.Compression = codec
			topic := broker.Topic(t, 5, "retention.ms", "-1")
			s := opened(t, cfg, "shop")
			b := s.NewBatch()
			const n = 500
			for i := range n {
				it := event(0x1000, uint32(i), topic, fmt.Sprintf("key:%d", i%31))
				it.Headers = []byte(`{"traceparent": "00-4bf9", "wb-id":"mine", "who":"Zo\u00eb \ud83d\ude00"}`)
				b.Append([]mapper.Item{it})
			}
			b.EndTx()
			require.NoError(t, s.Write(ctxOf(t), b, at(0x1030)))
			got := committed(t, broker.Addr(), cfg.TransactionalID, topic)[topic]
			require.Len(t, got, n)
			for _, r := range got {
				text, _ := header(r, headerID)
				id, err := lsn.ParseID(text)
				require.NoError(t, err)
				want := event(0x1000, id.Seq, topic, fmt.Sprintf("key:%d", id.Seq%31))
				require.Equal(t, string(want.Key), string(r.Key))
				require.Equal(t, string(want.Payload.AppendJSON(nil)), string(r.Value))
				require.Equal(t, want.Time.Time().UnixMilli(), r.Timestamp.UnixMilli())
				require.Equal(t, recordbatch.Partition(r.Key, 5), int(r.Partition))
				var names []string
				for _, h := range r.Headers {
					names = append(names, h.Key+"="+string(h.Value))
				}
				require.Equal(t, "wb-id="+text+"|wb-source=shop|wb-xid=7|wb-committed-at=2025-11-21T00:26:40.123456Z|"+
					"traceparent=00-4bf9|x-wb-id=mine|who=Zoë 😀|id=e-"+text+"|type=OrderPaid", strings.Join(names, "|"))
			}
			if kafkatest.Version() != kafkatest.DefaultVersion {
				return // the tool has moved to another artifact in 4.3
			}
			dump := broker.Java(t, "kafka.tools.DumpLogSegments", "--deep-iteration", "--files",
				filepath.Join(broker.DataDir(), topic+"-0", "00000000000000000000.log"))
			require.Contains(t, dump, "isvalid: true")
			require.Contains(t, dump, "compresscodec: "+codec)
			require.NotContains(t, dump, "isvalid: false")
		})
	}
}

// The consumer that comes with Kafka reads every record too: time, partition, headers,
// key and value.
func TestJavaConsoleConsumer(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Shared(t)
	const n = 200
	var topics []string
	want := map[string]bool{}
	for i, codec := range recordbatch.Codecs() {
		cfg := testConfig(broker.Addr())
		cfg.Compression = codec
		topics = append(topics, broker.Topic(t, 3, "retention.ms", "-1"))
		s, commit := opened(t, cfg, "shop"), lsn.LSN(0x1000*(i+1))
		b := s.NewBatch()
		for seq := range uint32(n) {
			it := event(commit, seq, topics[i], fmt.Sprintf("key:%d", seq%31))
			b.Append([]mapper.Item{it})
			want[fmt.Sprintf("CreateTime:%d\tPartition:%d\twb-id:%s,wb-source:shop,wb-xid:7,wb-committed-at:2025-11-21T00:26:40.123456Z,id:%s,type:OrderPaid\t%s\t%s",
				it.Time.Time().UnixMilli(), recordbatch.Partition(it.Key, 3), it.ID, it.EventID, it.Key, it.Payload.AppendJSON(nil))] = true
		}
		b.EndTx()
		require.NoError(t, s.Write(ctxOf(t), b, at(commit+0x30)))
	}
	printed := broker.Java(t, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", broker.Addr(),
		"--include", strings.Join(topics, "|"), "--from-beginning", "--isolation-level", "read_committed", "--max-messages", fmt.Sprint(n*len(topics)),
		"--formatter-property", "print.timestamp=true", "--formatter-property", "print.partition=true",
		"--formatter-property", "print.headers=true", "--formatter-property", "print.key=true")
	for line := range strings.Lines(printed) {
		delete(want, strings.TrimSuffix(line, "\n"))
	}
	require.Empty(t, want, "in what it printed:\n%.2000s", printed)
}

// Many random keys lie where the Java client's partitioner puts them.
func TestPartitionsAsTheJavaClient(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Shared(t)
	seed := sinktest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 9))
	var lines, want []string
	for i := range 3000 {
		key := make([]byte, 1+i%41)
		for j := range key {
			key[j] = byte(rng.Uint32())
		}
		text := hex.EncodeToString(key)
		lines = append(lines, text)
		want = append(want, fmt.Sprintf("%s %d %d %d", text, recordbatch.Partition(key, 7), recordbatch.Partition(key, 12), recordbatch.Partition(key, 50)))
	}
	file := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600))
	got := broker.Java(t, filepath.Join("testdata", "Partitions.java"), file)
	require.Equal(t, strings.Join(want, "\n"), strings.TrimSpace(got))
}

// Rows that name topics: one that is missing is made up to the limit, one that cannot
// be is a dead letter, and neither stops the others.
func TestTopicsOfRows(t *testing.T) {
	broker := kafkatest.Shared(t)
	cfg := testConfig(broker.Addr())
	cfg.CreateTopics.Max = 1
	own := strings.TrimSuffix(cfg.ProgressTopic, "progress")
	s := newTest(t, cfg)
	var told []string
	_, err := s.Open(ctxOf(t), sink.Source{Name: "shop", OnPoison: func(p sink.Poison) error {
		told = append(told, p.Reason+" "+strings.TrimPrefix(p.Stream, own))
		return nil
	}})
	require.NoError(t, err)
	b := s.NewBatch()
	for i, topic := range []string{own + "a", own + "b", "no topic!", own + "a"} {
		b.Append([]mapper.Item{event(0x100, uint32(i), topic, "k")})
	}
	require.NoError(t, s.Write(ctxOf(t), b, at(0x130)))
	require.Equal(t, []string{"topic_limit b", "topic_name_invalid no topic!"}, told)
	got := committed(t, broker.Addr(), cfg.TransactionalID, own+"a", cfg.DeadLetterTopic)
	require.Len(t, got[own+"a"], 2)
	require.Len(t, got[cfg.DeadLetterTopic], 2)
	letter := got[cfg.DeadLetterTopic][0]
	value, _ := header(letter, headerKey)
	require.Equal(t, "k", value)
	require.JSONEq(t, `{"id":"0000000000000100-00000001-0000"}`, string(letter.Value))
}

// The broker is killed in a transaction, and comes back: what is stored is what the
// position says.
func TestBrokerKilled(t *testing.T) {
	t.Parallel()
	broker := kafkatest.New(t, kafkatest.QuickRestart())
	cfg := testConfig(broker.Addr())
	topic := broker.Topic(t, 4, "retention.ms", "-1")
	s := opened(t, cfg, "shop")
	require.NoError(t, s.Write(ctxOf(t), batchFor(s, topic, 0x100), at(0x130)))
	commit := lsn.LSN(0x200)
	for _, at1 := range []stage{stageAdd, stageProduce, stageAck} {
		killed := false
		s.step = func(_ context.Context, now stage) error {
			if now == at1 && !killed {
				killed = true
				broker.Kill(t)
			}
			return nil
		}
		b, to := batchFor(s, topic, commit), at(commit+0x30)
		err := s.Write(ctxOf(t), b, to)
		require.Equal(t, at1 == stageAck, err == nil, "%v", err)
		broker.Restart(t)
		p, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
		require.NoError(t, err)
		if p.Position != to.Position {
			require.Equal(t, at(commit-0xD0).Position, p.Position)
			require.NoError(t, s.Write(ctxOf(t), b, to))
		}
		commit += 0x100
	}
	seen := map[string]int{}
	for _, r := range committed(t, broker.Addr(), cfg.TransactionalID, topic)[topic] {
		id, _ := header(r, headerID)
		seen[id]++
	}
	require.Len(t, seen, 4*20)
	for id, n := range seen {
		require.Equal(t, 1, n, id)
	}
}

func batchFor(s *Sink, topic string, commit lsn.LSN) sink.Batch {
	b := s.NewBatch()
	for i := range 20 {
		b.Append([]mapper.Item{event(commit, uint32(i), topic, fmt.Sprint(i))})
	}
	b.EndTx()
	return b
}

// A broker that does not answer: the write ends with its time-out, and what it did is
// found out when the broker is back.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	broker := kafkatest.New(t)
	cfg := testConfig(broker.Addr())
	cfg.WriteTimeout = 2 * time.Second
	topic := broker.Topic(t, 2, "retention.ms", "-1")
	s := newTest(t, cfg)
	for { // a busy machine may be slower than the time-out
		if _, err := s.Open(ctxOf(t), sink.Source{Name: "shop"}); err == nil {
			break
		}
		require.NoError(t, ctxOf(t).Err())
	}
	b, to := batchFor(s, topic, 0x100), at(0x130)
	s.step = func(_ context.Context, now stage) error {
		if now == stageProduce {
			broker.Pause(t)
		}
		return nil
	}
	start := time.Now()
	require.Error(t, s.Write(ctxOf(t), b, to))
	require.Less(t, time.Since(start), within/2)
	s.step = nil
	broker.Resume(t)
	insistReal(t, s, b, to)
	require.Len(t, committed(t, broker.Addr(), cfg.TransactionalID, topic)[topic], 20)
}

// insistReal opens, and writes what is not stored, until it is.
func insistReal(t *testing.T, s *Sink, b sink.Batch, to lsn.Progress) {
	for deadline := time.Now().Add(within); ; {
		p, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
		if err == nil && p.Position == to.Position {
			return
		}
		if err == nil && s.Write(ctxOf(t), b, to) == nil {
			return
		}
		require.True(t, time.Now().Before(deadline), "%v", err)
	}
}

// A transaction of our own that timed out has the codes of a takeover, and is none.
func TestOwnTimeout(t *testing.T) {
	t.Parallel()
	broker := kafkatest.New(t, kafkatest.Setting("transaction.abort.timed.out.transaction.cleanup.interval.ms", "200"))
	cfg := testConfig(broker.Addr())
	topic := broker.Topic(t, 2, "retention.ms", "-1")
	s := opened(t, cfg, "shop")
	s.producer.timeout = time.Second
	require.NoError(t, s.producer.take(ctxOf(t)))
	b, to := batchFor(s, topic, 0x100), at(0x130)
	s.step = func(ctx context.Context, now stage) error {
		if now != stageProduce {
			return nil
		}
		admin := franz(t, broker.Addr())
		for ended := false; !ended; { // until the coordinator has given the transaction up
			ends := stable(t, admin, []string{topic})
			ended = ends[topic][0]+ends[topic][1] > 0
		}
		return nil
	}
	err := s.Write(ctxOf(t), b, to)
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, s.fenced, "%v", err)
	s.step = nil
	insistReal(t, s, b, to)
	require.Len(t, committed(t, broker.Addr(), cfg.TransactionalID, topic)[topic], 20)
}
