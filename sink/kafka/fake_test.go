package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// fake is a cluster of three brokers in this process, which fail as they are told.
type fake struct {
	*kfake.Cluster
	cfg    Config
	aborts atomic.Int32 // EndTxn requests that ask for an abort
}

// fakeTopic is the topic that tests write to.
const fakeTopic = "orders"

func newFake(t *testing.T, opts ...kfake.Opt) *fake {
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	f := &fake{Cluster: c, cfg: testConfig(c.ListenAddrs()[0])}
	f.cfg.Streams = []string{fakeTopic}
	f.cfg.CreateTopics.Partitions = 6
	f.cfg.WriteTimeout = 5 * time.Second
	c.ControlKey(kmsg.EndTxn.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !r.(*kmsg.EndTxnRequest).Commit {
			f.aborts.Add(1)
		}
		return nil, nil, false
	})
	return f
}

// fill makes a batch of n events of a transaction, over many keys.
func fill(s sink.Sink, commit lsn.LSN, n int) sink.Batch {
	b := s.NewBatch()
	for i := range n {
		b.Append([]mapper.Item{event(commit, uint32(i), fakeTopic, fmt.Sprintf("k%d", i%17))})
	}
	b.EndTx()
	return b
}

// insist writes as a pipeline does: after an error it opens, and writes again what is
// not stored. It returns the number of errors.
func insist(t *testing.T, s *Sink, b sink.Batch, to lsn.Progress) (failures int) {
	for range 10 {
		err := s.Write(ctxOf(t), b, to)
		if err == nil {
			return failures
		}
		var halt *fault.Halt
		require.False(t, errors.As(err, &halt), "%v", err)
		require.NotErrorIs(t, err, fault.ErrFenced)
		failures++
		p, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
		require.NoError(t, err)
		if p.Position == to.Position {
			return failures
		}
	}
	t.Fatal("never stored")
	return 0
}

// once fails unless each item of the transactions is committed once, and the position
// is the last one's.
func (f *fake) once(t *testing.T, n int, commits ...lsn.LSN) {
	t.Helper()
	seen := map[string]int{}
	for _, r := range committed(t, f.cfg.Brokers[0], f.cfg.TransactionalID, fakeTopic)[fakeTopic] {
		id, _ := header(r, headerID)
		seen[id]++
	}
	for _, commit := range commits {
		for i := range n {
			id := lsn.ID{Commit: commit, Seq: uint32(i)}.String()
			require.Equal(t, 1, seen[id], "copies of %s", id)
		}
	}
	require.Len(t, seen, n*len(commits))
	l, err := ReadLatest(ctxOf(t), f.cfg, "shop")
	require.NoError(t, err)
	require.Equal(t, at(commits[len(commits)-1]+0x30), l.Progress)
	require.Zero(t, f.aborts.Load(), "a transaction is ended by taking the identity, not by EndTxn(abort)")
}

// The failure rule, with every code at every step of the second of three transactions:
// what was refused for sure is sent again in place; after anything else the sink is
// opened, and the position decides. Each item is there once in the end.
func TestFailureRule(t *testing.T) {
	type kase struct {
		key     kmsg.Key
		err     *kerr.Error
		inPlace bool
	}
	var cases []kase
	for key, codes := range map[kmsg.Key][2][]*kerr.Error{
		kmsg.AddPartitionsToTxn: {
			{kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.UnknownTopicOrPartition},
			{kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.ProducerFenced, kerr.UnknownServerError},
		},
		kmsg.Produce: {
			{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.UnknownTopicOrPartition},
			{
				kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.OutOfOrderSequenceNumber, kerr.InvalidProducerEpoch,
				kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.ProducerFenced, kerr.KafkaStorageError,
			},
		},
		kmsg.EndTxn: {
			{kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator},
			{kerr.RequestTimedOut, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.ProducerFenced},
		},
		kmsg.InitProducerID: {{kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress}, nil},
	} {
		for i, list := range codes {
			for _, err := range list {
				cases = append(cases, kase{key, err, i == 0})
			}
		}
	}
	for _, k := range cases {
		t.Run(fmt.Sprintf("%s/%s", k.key.Name(), k.err.Message), func(t *testing.T) {
			f := newFake(t)
			s := opened(t, f.cfg, "shop")
			require.Zero(t, insist(t, s, fill(s, 0x100, 40), at(0x130)))
			topLevel := k.key == kmsg.EndTxn || k.key == kmsg.InitProducerID
			h := f.Fault(kfake.Fault{Keys: []kmsg.Key{k.key}, Err: k.err, TopLevel: topLevel})
			if k.key == kmsg.InitProducerID {
				_, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
				require.NoError(t, err)
			}
			failures := insist(t, s, fill(s, 0x200, 40), at(0x230))
			require.Positive(t, h.Hits(), "the fault was met")
			require.Equal(t, k.inPlace, failures == 0, "%d failures", failures)
			require.Zero(t, insist(t, s, fill(s, 0x300, 40), at(0x330)))
			f.once(t, 40, 0x100, 0x200, 0x300)
		})
	}
}

// One partition fails while the others of the request are stored.
func TestHalfFailedProduce(t *testing.T) {
	f := newFake(t)
	s := opened(t, f.cfg, "shop")
	f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: fakeTopic, Partitions: []int32{2}, Err: kerr.OutOfOrderSequenceNumber})
	require.Equal(t, 1, insist(t, s, fill(s, 0x100, 60), at(0x130)))
	f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: fakeTopic, Partitions: []int32{3}, Err: kerr.NotLeaderForPartition, Count: 3})
	require.Zero(t, insist(t, s, fill(s, 0x200, 60), at(0x230)), "sent again in place")
	f.once(t, 60, 0x100, 0x200)
}

// A connection that ends before or after the broker has acted says nothing: Open finds
// out.
func TestLostAnswers(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.AddPartitionsToTxn, kmsg.Produce, kmsg.EndTxn} {
		t.Run(key.Name(), func(t *testing.T) {
			f := newFake(t)
			s := opened(t, f.cfg, "shop")
			require.Zero(t, insist(t, s, fill(s, 0x100, 40), at(0x130)))
			f.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
			require.Equal(t, 1, insist(t, s, fill(s, 0x200, 40), at(0x230)))
			require.Zero(t, insist(t, s, fill(s, 0x300, 40), at(0x330)))
			f.once(t, 40, 0x100, 0x200, 0x300)
		})
	}
}

// Leaders and coordinators move, once between and once within transactions.
func TestMoves(t *testing.T) {
	f := newFake(t)
	s := opened(t, f.cfg, "shop")
	var commits []lsn.LSN
	for i := range 8 {
		commit := lsn.LSN(0x100 * (i + 1))
		switch i % 4 {
		case 1:
			f.ShufflePartitionLeaders()
		case 2:
			f.RehashCoordinators()
		case 3:
			s.step = func(_ context.Context, now stage) error {
				if now == stageAdd {
					f.ShufflePartitionLeaders()
				}
				return nil
			}
		}
		insist(t, s, fill(s, commit, 40), at(commit+0x30))
		s.step = nil
		commits = append(commits, commit)
	}
	f.once(t, 40, commits...)
}

// What no further try cures is a halt with a way out, or for the configuration to mend.
func TestRefusals(t *testing.T) {
	for rule, k := range map[string]kfake.Fault{
		"kafka-rights":              {Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Topic: fakeTopic, Err: kerr.TopicAuthorizationFailed, Count: -1},
		"kafka-records-refused":     {Keys: []kmsg.Key{kmsg.Produce}, Topic: fakeTopic, Err: kerr.UnsupportedCompressionType, Count: -1},
		"kafka-transaction-timeout": {Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Err: kerr.InvalidTransactionTimeout, Count: -1},
	} {
		t.Run(rule, func(t *testing.T) {
			f := newFake(t)
			s := opened(t, f.cfg, "shop")
			b := fill(s, 0x100, 10)
			f.Fault(k)
			var err error
			if k.TopLevel {
				_, err = s.Open(ctxOf(t), sink.Source{Name: "shop"})
			} else {
				err = s.Write(ctxOf(t), b, at(0x130))
			}
			var halt *fault.Halt
			require.ErrorAs(t, err, &halt)
			require.Equal(t, rule, halt.Rule)
			require.NotEmpty(t, halt.Ways)
		})
	}
	f := newFake(t)
	f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Err: kerr.TransactionalIDAuthorizationFailed})
	s := newTest(t, f.cfg)
	_, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
	var halt *fault.Halt
	require.ErrorAs(t, err, &halt)
	require.Contains(t, halt.Ways[0].Commands[0], "--transactional-id "+f.cfg.TransactionalID)
}

// A topic takes smaller batches than it says: they are cut, and what alone is too large
// becomes a dead letter.
func TestSmallerThanKnown(t *testing.T) {
	f := newFake(t)
	s := opened(t, f.cfg, "shop")
	f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: fakeTopic, Err: kerr.MessageTooLarge, Count: 2})
	require.Zero(t, insist(t, s, fill(s, 0x100, 200), at(0x130)))
	f.once(t, 200, 0x100)
}

// The brokers' clock is behind ours: times are moved to what they take.
func TestClockOfTheBrokers(t *testing.T) {
	f := newFake(t)
	s := opened(t, f.cfg, "shop")
	f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: fakeTopic, Err: kerr.InvalidTimestamp})
	b := s.NewBatch()
	it := event(0x100, 0, fakeTopic, "k")
	it.Time = lsn.MicrosOf(time.Now().Add(30 * time.Minute))
	b.Append([]mapper.Item{it})
	require.NoError(t, s.Write(ctxOf(t), b, at(0x130)))
	r := committed(t, f.cfg.Brokers[0], f.cfg.TransactionalID, fakeTopic)[fakeTopic]
	require.Len(t, r, 1)
	require.WithinDuration(t, time.Now(), r[0].Timestamp, within)
}

// A topic that is deleted under load is made again where that is allowed; the batch
// that met it is stored whole.
func TestTopicDeleted(t *testing.T) {
	f := newFake(t)
	s := opened(t, f.cfg, "shop")
	s.client.unknownFor = 50 * time.Millisecond
	require.Zero(t, insist(t, s, fill(s, 0x100, 40), at(0x130)))
	require.NoError(t, f.DeleteTopic(fakeTopic))
	f.cfg.CreateTopics.Partitions = 2
	s.cfg.CreateTopics = f.cfg.CreateTopics
	require.Equal(t, 1, insist(t, s, fill(s, 0x200, 40), at(0x230)))
	require.Zero(t, insist(t, s, fill(s, 0x300, 40), at(0x330)))
	f.once(t, 40, 0x200, 0x300)
}

// A topic that gets more partitions: it is said, and new batches use them.
func TestMorePartitions(t *testing.T) {
	f := newFake(t)
	var out strings.Builder
	s := New(f.cfg, hclog.New(&hclog.LoggerOptions{Output: &out}))
	defer s.Close(ctxOf(t))
	_, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
	require.NoError(t, err)
	before := fill(s, 0x100, 40)
	req := kmsg.NewPtrCreatePartitionsRequest()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = fakeTopic, 9
	req.Topics = append(req.Topics, topic)
	_, err = req.RequestWith(ctxOf(t), franz(t, f.cfg.Brokers[0]))
	require.NoError(t, err)
	s.client.renew()
	require.Zero(t, insist(t, s, before, at(0x130)))
	require.Contains(t, out.String(), "the number of partitions has changed")
	require.Zero(t, insist(t, s, fill(s, 0x200, 40), at(0x230)))
	f.once(t, 40, 0x100, 0x200)
	for _, r := range committed(t, f.cfg.Brokers[0], "", fakeTopic)[fakeTopic] {
		of := 9
		if id, _ := header(r, headerID); id < (lsn.ID{Commit: 0x200}).String() {
			of = 6
		}
		require.Equal(t, recordbatch.Partition(r.Key, of), int(r.Partition))
	}
}
