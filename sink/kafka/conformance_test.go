package kafka

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/sinktest"
)

// The sink keeps the law of sinks, in both deliveries, on a real broker.
func TestConformance(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Shared(t)
	stages := []string{string(stageBegin), string(stageAdd), string(stageProduce), string(stageAck)}
	t.Run(ExactlyOnce, func(t *testing.T) {
		t.Parallel()
		sinktest.Run(t, harness(broker, ExactlyOnce, stages,
			sinktest.Promises{AtomicPosition: true, ExactlyOnce: true, Fencing: true, ManySources: true, PerKeyOrder: true}))
	})
	t.Run(AtLeastOnce, func(t *testing.T) {
		t.Parallel()
		stages := slices.DeleteFunc(slices.Clone(stages), func(s string) bool { return s == string(stageAdd) })
		sinktest.Run(t, harness(broker, AtLeastOnce, stages, sinktest.Promises{ManySources: true, PerKeyOrder: true}))
	})
}

func harness(broker *kafkatest.Broker, delivery string, stages []string, promises sinktest.Promises) sinktest.Harness {
	return sinktest.Harness{
		Promises: promises, Lanes: testPartitions, Keeps: keeps, CrashStages: stages, BlockStages: stages, Within: within,
		New: func(t testing.TB) sinktest.Destination {
			d := newDestination(t, broker, delivery)
			return sinktest.Destination{
				Sink: d.sink, Read: d.read, Progress: d.progress, Crash: d.crash, Block: d.block,
				Poison: func(it *mapper.Item) { it.Payload = giant() },
			}
		},
	}
}

// keeps is what a record has place for.
func keeps(s sinktest.Stored) sinktest.Stored {
	s.TxEnd, s.AvailableAt = false, 0
	if s.Time == 0 {
		s.Time = s.CommittedAt
	}
	if s.Kind == mapper.KindDeadLetter {
		s.Key, s.EventID, s.Type, s.Headers, s.Payload, s.Time = nil, "", "", nil, nil, s.CommittedAt
	} else {
		s.Time = lsn.MicrosOf(s.Time.Time().Truncate(time.Millisecond))
	}
	if s.Kind == mapper.KindRecord {
		s.EventID = "" // the source and wb-id
	}
	if len(s.Key) == 0 {
		s.Key = nil
	}
	if s.Headers != nil {
		var own map[string]string
		if json.Unmarshal(s.Headers, &own) == nil {
			s.Headers, _ = json.Marshal(own) // a map of strings
		}
	}
	return s
}

// giant is a payload that no topic of the tests takes.
func giant() sinktest.JSON {
	noise := make([]byte, 150_000)
	rng := rand.NewChaCha8([32]byte{3})
	_, _ = rng.Read(noise) // never fails
	return sinktest.JSON(`"` + base64.StdEncoding.EncodeToString(noise) + `"`)
}

// destination is a namespace of a broker: streams have a prefix there.
type destination struct {
	cfg    Config
	prefix string
	topics []string
}

func newDestination(t testing.TB, broker *kafkatest.Broker, delivery string) *destination {
	d := &destination{cfg: testConfig(broker.Addr())}
	d.prefix = strings.TrimSuffix(d.cfg.ProgressTopic, "progress")
	d.cfg.Delivery = delivery
	for _, s := range sinktest.Streams() {
		d.cfg.Streams = append(d.cfg.Streams, d.prefix+s)
	}
	d.topics = append([]string{d.cfg.DeadLetterTopic}, d.cfg.Streams...)
	broker.MakeTopic(t, d.cfg.ProgressTopic, 1, "cleanup.policy", "compact")
	return d
}

// sink gives each source an id of its own, as the default does.
func (d *destination) sink(t testing.TB) sink.Sink {
	cfg := d.cfg
	return &prefixed{Sink: newTest(t, cfg), prefix: d.prefix, id: cfg.TransactionalID}
}

// prefixed is a sink whose streams have a prefix.
type prefixed struct {
	*Sink
	prefix, id string
}

func (p *prefixed) Open(ctx context.Context, src sink.Source) (lsn.Progress, error) {
	p.Sink.cfg.TransactionalID = p.id + "-" + src.Name
	return p.Sink.Open(ctx, src)
}

func (p *prefixed) NewBatch() sink.Batch { return &prefixedBatch{p.Sink.NewBatch(), p.prefix} }

func (p *prefixed) Write(ctx context.Context, b sink.Batch, to lsn.Progress) error {
	return p.Sink.Write(ctx, b.(*prefixedBatch).Batch, to)
}

type prefixedBatch struct {
	sink.Batch
	prefix string
}

func (b *prefixedBatch) Append(items []mapper.Item) {
	items = slices.Clone(items)
	for i := range items {
		if items[i].Kind != mapper.KindDeadLetter {
			items[i].Stream = b.prefix + items[i].Stream
		}
	}
	b.Batch.Append(items)
}

func (b *prefixedBatch) CarryLast(next sink.Batch) (lsn.ID, bool) {
	return b.Batch.CarryLast(next.(*prefixedBatch).Batch)
}

var errCrashed = errors.New("ended by the test")

// crash cuts the connections at the stage, as the end of the process would.
func (d *destination) crash(_ testing.TB, k sink.Sink, at string) {
	s := k.(*prefixed).Sink
	s.step = func(_ context.Context, now stage) error {
		if string(now) != at {
			return nil
		}
		s.client.close()
		return errCrashed
	}
}

func (d *destination) block(_ testing.TB, k sink.Sink, at string) *sinktest.Blocked {
	s := k.(*prefixed).Sink
	reached, released := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.step = func(ctx context.Context, now stage) error {
		if string(now) != at {
			return nil
		}
		var err error
		once.Do(func() {
			close(reached)
			select {
			case <-released:
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		})
		return err
	}
	return &sinktest.Blocked{Reached: reached, Release: sync.OnceFunc(func() { close(released) })}
}

func (d *destination) progress(t testing.TB, source string) lsn.Progress {
	if d.cfg.Delivery == ExactlyOnce {
		decided(t, franz(t, d.cfg.Brokers[0]), d.cfg.TransactionalID+"-"+source)
	}
	l, err := ReadLatest(ctxOf(t), d.cfg, source)
	require.NoError(t, err)
	return l.Progress
}

func (d *destination) read(t testing.TB) []sinktest.Stored {
	if d.cfg.Delivery == ExactlyOnce {
		c := franz(t, d.cfg.Brokers[0])
		decided(t, c, d.cfg.TransactionalID+"-"+sinktest.SourceName)
		decided(t, c, d.cfg.TransactionalID+"-another")
	}
	var all []sinktest.Stored
	records := committed(t, d.cfg.Brokers[0], "", d.topics...)
	for _, topic := range d.topics {
		for _, r := range records[topic] {
			s := storedOf(t, r, d.cfg.DeadLetterTopic)
			s.Stream = strings.TrimPrefix(s.Stream, d.prefix)
			all = append(all, s)
		}
	}
	return all
}
