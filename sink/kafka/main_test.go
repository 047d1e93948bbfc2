package kafka

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/sinktest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }

// within bounds one step of a test on a busy machine.
const within = 60 * time.Second

func ctxOf(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	return ctx
}

// testPartitions is the number of partitions of topics that tests make.
const testPartitions = 3

// testConfig is a configuration of a test's own: topics and transactional id that no
// other test uses.
func testConfig(addr string) Config {
	own := "t" + rand.Text()[:8]
	return Config{
		Brokers: []string{addr}, ProgressTopic: own + ".progress", TransactionalID: own, DeadLetterTopic: own + ".dead_letter",
		Compression:  "lz4",
		CreateTopics: &CreateTopics{Partitions: testPartitions, Configs: map[string]string{"max.message.bytes": "65536", "retention.ms": "-1"}},
		WriteTimeout: 20 * time.Second,
	}.WithDefaults()
}

func newTest(t testing.TB, cfg Config) *Sink {
	require.Empty(t, cfg.Validate())
	s := New(cfg, nil)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func opened(t testing.TB, cfg Config, name string) *Sink {
	s := newTest(t, cfg)
	_, err := s.Open(ctxOf(t), sink.Source{Name: name})
	require.NoError(t, err)
	return s
}

// at is a progress at a position.
func at(end lsn.LSN) lsn.Progress {
	return lsn.Progress{SystemID: 1, Timeline: 1, Slot: "s", Phase: lsn.PhaseStreaming, Position: lsn.Position{End: end, LastTxEnd: end}}
}

// event is an event of a key, with a payload of its own.
func event(commit lsn.LSN, seq uint32, topic, key string) mapper.Item {
	id := lsn.ID{Commit: commit, Seq: seq}
	return mapper.Item{
		ID: id, Kind: mapper.KindEvent, Stream: topic, Key: []byte(key), EventID: []byte("e-" + id.String()), Type: []byte("OrderPaid"),
		Payload: sinktest.JSON(`{"id":"` + id.String() + `"}`), CommittedAt: 817_000_000_123456, Time: 817_000_000_123456, Xid: 7,
	}
}

// franz is a client of another implementation.
func franz(t testing.TB, addr string, opts ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.FetchMaxWait(100 * time.Millisecond), kgo.MetadataMinAge(10 * time.Millisecond)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// decided waits until the coordinator has written the markers of the last transaction
// of an id: they come after EndTxn was answered.
func decided(t testing.TB, c *kgo.Client, id string) {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	pgtest.Eventually(t, within, func() bool {
		r, err := req.RequestWith(ctxOf(t), c)
		if err != nil || len(r.TransactionStates) != 1 {
			return false
		}
		s := r.TransactionStates[0]
		if errors.Is(kerr.ErrorForCode(s.ErrorCode), kerr.TransactionalIDNotFound) {
			return true
		}
		return s.ErrorCode == 0 && !strings.HasPrefix(s.State, "Prepare")
	}, "the markers of %s", id)
}

// stable returns the last stable offset of every partition of topics that are there.
func stable(t testing.TB, c *kgo.Client, topics []string) map[string]map[int32]int64 {
	meta := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic = kmsg.StringPtr(name)
		meta.Topics = append(meta.Topics, mt)
	}
	m, err := meta.RequestWith(ctxOf(t), c)
	require.NoError(t, err)
	list := kmsg.NewPtrListOffsetsRequest()
	list.IsolationLevel = 1
	for _, mt := range m.Topics {
		if mt.ErrorCode != 0 {
			continue
		}
		lt := kmsg.NewListOffsetsRequestTopic()
		lt.Topic = *mt.Topic
		for _, p := range mt.Partitions {
			lp := kmsg.NewListOffsetsRequestTopicPartition()
			lp.Partition, lp.Timestamp = p.Partition, -1
			lt.Partitions = append(lt.Partitions, lp)
		}
		list.Topics = append(list.Topics, lt)
	}
	out := map[string]map[int32]int64{}
	if len(list.Topics) == 0 {
		return out
	}
	r, err := list.RequestWith(ctxOf(t), c)
	require.NoError(t, err)
	for _, lt := range r.Topics {
		out[lt.Topic] = map[int32]int64{}
		for _, p := range lt.Partitions {
			require.NoError(t, kerr.ErrorForCode(p.ErrorCode), "%s/%d", lt.Topic, p.Partition)
			out[lt.Topic][p.Partition] = p.Offset
		}
	}
	return out
}

// committed reads all committed records of topics, partition by partition.
func committed(t testing.TB, addr, transactionalID string, topics ...string) map[string][]*kgo.Record {
	admin := franz(t, addr)
	if transactionalID != "" {
		decided(t, admin, transactionalID)
	}
	ends := stable(t, admin, topics)
	from := map[string]map[int32]kgo.Offset{}
	left := 0
	for topic, partitions := range ends {
		for p, end := range partitions {
			if end > 0 {
				if from[topic] == nil {
					from[topic] = map[int32]kgo.Offset{}
				}
				from[topic][p] = kgo.NewOffset().AtStart()
				left++
			}
		}
	}
	out := map[string][]*kgo.Record{}
	if left == 0 {
		return out
	}
	c := franz(t, addr, kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer c.Close()
	byPartition := map[string][][]*kgo.Record{}
	done := map[partition]bool{}
	for ctx := ctxOf(t); len(done) < left; {
		fetches := c.PollFetches(ctx)
		require.NoError(t, ctx.Err(), "read what is committed: %d of %d partitions", len(done), left)
		for _, e := range fetches.Errors() {
			require.NoError(t, e.Err, "%s/%d", e.Topic, e.Partition)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			for len(byPartition[r.Topic]) <= int(r.Partition) {
				byPartition[r.Topic] = append(byPartition[r.Topic], nil)
			}
			if r.Offset+1 >= ends[r.Topic][r.Partition] {
				done[partition{r.Topic, r.Partition}] = true
			}
			if !r.Attrs.IsControl() && r.Offset < ends[r.Topic][r.Partition] {
				byPartition[r.Topic][r.Partition] = append(byPartition[r.Topic][r.Partition], r)
			}
		})
	}
	for topic, partitions := range byPartition {
		for _, records := range partitions {
			out[topic] = append(out[topic], records...)
		}
	}
	return out
}

// header returns the value of the first header of a name.
func header(r *kgo.Record, name string) (string, bool) {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value), true
		}
	}
	return "", false
}

// storedOf is what a record holds.
func storedOf(t testing.TB, r *kgo.Record, deadLetters string) sinktest.Stored {
	get := func(name string) string {
		v, ok := header(r, name)
		require.True(t, ok, "header %s of %v", name, r)
		return v
	}
	id, err := lsn.ParseID(get(headerID))
	require.NoError(t, err)
	at, err := time.Parse(timeLayout, get(headerCommitted))
	require.NoError(t, err)
	xid, err := strconv.ParseUint(get(headerXid), 10, 32)
	require.NoError(t, err)
	s := sinktest.Stored{
		Source: get(headerSource), ID: id, Kind: mapper.KindRecord, Stream: r.Topic, Key: r.Key, Payload: r.Value,
		CommittedAt: lsn.MicrosOf(at), Time: lsn.MicrosOf(r.Timestamp), Xid: uint32(xid),
	}
	if r.Topic == deadLetters {
		s.Kind, s.Stream, s.Key, s.Payload = mapper.KindDeadLetter, get(headerStream), nil, nil
		require.WithinDuration(t, time.Now(), r.Timestamp, within, "time of a dead letter")
		s.Time = lsn.MicrosOf(at)
		s.DeadLetter = &mapper.DeadLetter{Reason: get(headerReason), Error: get(headerError), Raw: r.Value, Replayable: get(headerReplayable) == "true"}
		require.Equal(t, id.String(), string(r.Key), "key of a dead letter")
		return s
	}
	own := map[string]string{}
	for _, h := range r.Headers {
		switch h.Key {
		case headerID, headerSource, headerXid, headerCommitted:
		case "id":
			s.Kind, s.EventID = mapper.KindEvent, string(h.Value)
		case "type":
			s.Type = string(h.Value)
		default:
			own[h.Key] = string(h.Value)
		}
	}
	if len(own) > 0 {
		s.Headers, err = json.Marshal(own)
		require.NoError(t, err)
	}
	return s
}
