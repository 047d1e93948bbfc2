package main

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	sinkkafka "github.com/walbridge/walbridge/sink/kafka"
)

// ceilingBatch is how many records the ceilings store at a time, and ceilingRows how many
// different ones there are.
const (
	ceilingBatch = 10_000
	ceilingRows  = 20_000
)

// kafkaCeiling measures what producing alone could do, from memory, with records of
// the size of a change record: the sink, a transaction with the position for each
// batch, and the Writer of the library, whose requests the sink uses.
func (b *bench) kafkaCeiling(ctx context.Context) error {
	n := int64(1_000_000 * b.o.scale)
	n -= n % ceilingBatch
	rows := changeRecords()
	for run := range b.o.runs {
		for _, p := range []struct {
			name    string
			produce func(ctx context.Context, topic string, rows []row, n int64) (time.Duration, error)
		}{{"sink alone", b.produceBySink}, {"kafka-go Writer", b.produceByWriter}} {
			topic := fmt.Sprintf("ceiling-%d-%t", run, p.name == "sink alone")
			if err := b.kafka.makeTopic(ctx, topic); err != nil {
				return err
			}
			self, broker := cpuSelf(), cpuSeconds(b.kafka.broker.PID())
			took, err := p.produce(ctx, topic, rows, n)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			r := result{Measure: "kafka ceiling", Case: "from memory", Contender: p.name, Run: run, Rows: n, Seconds: took.Seconds(), ClientCPU: cpuSelf() - self}
			r.Figures = map[string]float64{"broker_cpu_s": cpuSeconds(b.kafka.broker.PID()) - broker}
			records, bytes, err := b.kafka.count(ctx, topic)
			if err != nil {
				return err
			}
			if records != n {
				return fmt.Errorf("%s: the topic has %d records, not %d", p.name, records, n)
			}
			r.Figures["value_bytes"] = bytes
			if err := b.results.add(r); err != nil {
				return err
			}
			if err := b.kafka.deleteTopic(ctx, topic); err != nil {
				return err
			}
		}
	}
	return nil
}

// writerBatch is the size at which the Writer was fastest.
const writerBatch = 2000

// text is a payload that is there already.
type text []byte

// AppendJSON implements mapper.Payload.
func (t text) AppendJSON(dst []byte) []byte { return append(dst, t...) }

// row is a record that is there already.
type row struct{ key, value []byte }

// changeRecords are records of the size of the workloads' change records.
func changeRecords() []row {
	rows := make([]row, ceilingRows)
	for id := range rows {
		rows[id].key = fmt.Appendf(nil, "public.orders_w2:[%d]", id)
		rows[id].value = fmt.Appendf(nil, `{"op":"insert","schema":"public","table":"orders_w2","key":{"id":%[1]d},"before":null,"after":{"id":%[1]d,"customer_id":%[1]d,`+
			`"status":"new","amount":12.5,"note":"order note number %[1]d, to be packed with care","created_at":"2026-01-01T00:00:00.123456Z","updated_at":"2026-01-01T00:00:00.123456Z"},`+
			`"source":{"bridge":"shop","db":"postgres","lsn":"0/1F37A4F8","commit_lsn":"0/1F3A0000","tx_seq":%[2]d,"xid":1234,"committed_at":"2026-01-01T00:00:00.123456Z","snapshot":false}}`,
			id, id%500)
	}
	return rows
}

// produceBySink fills a batch while the one before is written, as the pipeline does. It
// returns the time that this took, once the sink was open.
func (b *bench) produceBySink(ctx context.Context, topic string, rows []row, n int64) (time.Duration, error) {
	s := sinkkafka.New(sinkkafka.Config{Brokers: []string{b.kafka.broker.Addr()}, Compression: "none"}.WithDefaults(), nil)
	if _, err := s.Open(ctx, sink.Source{Name: topic}); err != nil {
		return 0, err
	}
	defer s.Close(ctx)
	begun := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	empty, full := make(chan sink.Batch, 2), make(chan sink.Batch)
	empty <- s.NewBatch()
	empty <- s.NewBatch()
	go func() {
		defer close(full)
		for first := int64(0); first < n; first += ceilingBatch {
			select {
			case batch := <-empty:
				fill(batch, topic, rows, first)
				full <- batch
			case <-ctx.Done():
				return
			}
		}
	}()
	end := lsn.LSN(0)
	for batch := range full {
		end += ceilingBatch
		err := s.Write(ctx, batch, lsn.Progress{SystemID: 1, Timeline: 1, Slot: "ceiling", Position: lsn.Position{End: end}, Phase: lsn.PhaseStreaming})
		if err != nil {
			cancel()
			for range full { // let the other end
			}
			return 0, err
		}
		batch.Reset()
		empty <- batch
	}
	return time.Since(begun), nil
}

func fill(batch sink.Batch, topic string, rows []row, first int64) {
	items := make([]mapper.Item, 1)
	for i := range int64(ceilingBatch) {
		r := rows[(first+i)%ceilingRows]
		items[0] = mapper.Item{
			ID: lsn.ID{Commit: lsn.LSN(first + ceilingBatch), Seq: uint32(i)}, Kind: mapper.KindRecord, Stream: topic, Key: r.key, Type: []byte("insert"),
			Payload: text(r.value), Xid: 7,
		}
		batch.Append(items)
	}
}

// warmBroker lets the broker's Java machine compile what it needs before anything is
// measured: after a million records of each kind it needs no more for a record than
// later on; after a third of that, four times as much.
func (b *bench) warmBroker(ctx context.Context) error {
	const topic, n = "warm", 100 * ceilingBatch
	if err := b.kafka.makeTopic(ctx, topic); err != nil {
		return err
	}
	rows := changeRecords()
	if _, err := b.produceByWriter(ctx, topic, rows, n); err != nil {
		return err
	}
	if _, err := b.produceBySink(ctx, topic, rows, n); err != nil {
		return err
	}
	return b.kafka.deleteTopic(ctx, topic)
}

func (b *bench) produceByWriter(ctx context.Context, topic string, rows []row, n int64) (time.Duration, error) {
	begun := time.Now()
	failed := make(chan error, 1)
	w := &kafka.Writer{
		Addr: kafka.TCP(b.kafka.broker.Addr()), Topic: topic, Balancer: kafka.Murmur2Balancer{}, RequiredAcks: kafka.RequireAll, Async: true,
		BatchSize: writerBatch, BatchBytes: 4 << 20, BatchTimeout: 5 * time.Millisecond, Transport: b.kafka.transport,
		Completion: func(_ []kafka.Message, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		},
	}
	messages := make([]kafka.Message, ceilingBatch)
	for first := int64(0); first < n; first += ceilingBatch {
		for i := range messages {
			r := rows[(first+int64(i))%ceilingRows]
			messages[i] = kafka.Message{Key: r.key, Value: r.value}
		}
		if err := w.WriteMessages(ctx, messages...); err != nil {
			return 0, err
		}
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	select {
	case err := <-failed:
		return 0, err
	default:
		return time.Since(begun), nil
	}
}
