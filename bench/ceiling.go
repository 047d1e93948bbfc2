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

// ceilingBatch is how many records the ceilings store at a time.
const ceilingBatch = 2000

// kafkaCeiling measures what producing alone could do, from memory, with records of
// the size of a change record: the sink, a transaction with the position for each
// batch, and the Writer of the library, whose requests the sink uses.
func (b *bench) kafkaCeiling(ctx context.Context) error {
	n := int64(1_000_000 * b.o.scale)
	n -= n % ceilingBatch
	for run := range b.o.runs {
		for _, p := range []struct {
			name    string
			produce func(ctx context.Context, topic string, n int64) error
		}{{"sink alone", b.produceBySink}, {"kafka-go Writer", b.produceByWriter}} {
			topic := fmt.Sprintf("ceiling-%d-%t", run, p.name == "sink alone")
			if err := b.kafka.makeTopic(ctx, topic); err != nil {
				return err
			}
			self, broker, begun := cpuSelf(), cpuSeconds(b.kafka.broker.PID()), time.Now()
			if err := p.produce(ctx, topic, n); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			r := result{Measure: "kafka ceiling", Case: "from memory", Contender: p.name, Run: run, Rows: n, Seconds: time.Since(begun).Seconds(), ClientCPU: cpuSelf() - self}
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

// text is a payload that is there already.
type text []byte

// AppendJSON implements mapper.Payload.
func (t text) AppendJSON(dst []byte) []byte { return append(dst, t...) }

// changeRecord is a value of the size of a change record of the workloads.
func changeRecord(id int64) []byte {
	return fmt.Appendf(nil, `{"op":"insert","schema":"public","table":"orders_w2","key":{"id":%[1]d},"before":null,"after":{"id":%[1]d,"customer_id":%[2]d,`+
		`"status":"new","amount":12.5,"note":"order note number %[1]d, to be packed with care","created_at":"2026-01-01T00:00:00.123456Z","updated_at":"2026-01-01T00:00:00.123456Z"},`+
		`"source":{"bridge":"shop","db":"postgres","lsn":"0/1F37A4F8","commit_lsn":"0/1F3A0000","tx_seq":%[3]d,"xid":1234,"committed_at":"2026-01-01T00:00:00.123456Z","snapshot":false}}`,
		id, id%50000, id%500)
}

func (b *bench) produceBySink(ctx context.Context, topic string, n int64) error {
	s := sinkkafka.New(sinkkafka.Config{Brokers: []string{b.kafka.broker.Addr()}, Compression: "none"}.WithDefaults(), nil)
	if _, err := s.Open(ctx, sink.Source{Name: topic}); err != nil {
		return err
	}
	defer s.Close(ctx)
	batch := s.NewBatch()
	items := make([]mapper.Item, 1)
	for first := int64(0); first < n; first += ceilingBatch {
		batch.Reset()
		commit := lsn.LSN(first + ceilingBatch)
		for i := range int64(ceilingBatch) {
			items[0] = mapper.Item{
				ID: lsn.ID{Commit: commit, Seq: uint32(i)}, Kind: mapper.KindRecord, Stream: topic, Key: fmt.Appendf(nil, "[%d]", first+i), Type: []byte("insert"),
				EventID: fmt.Appendf(nil, "shop:%s", lsn.ID{Commit: commit, Seq: uint32(i)}), Payload: text(changeRecord(first + i)), Xid: 7,
			}
			batch.Append(items)
		}
		err := s.Write(ctx, batch, lsn.Progress{SystemID: 1, Timeline: 1, Slot: "ceiling", Position: lsn.Position{End: commit}, Phase: lsn.PhaseStreaming})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) produceByWriter(ctx context.Context, topic string, n int64) (err error) {
	failed := make(chan error, 1)
	w := &kafka.Writer{
		Addr: kafka.TCP(b.kafka.broker.Addr()), Topic: topic, Balancer: kafka.Murmur2Balancer{}, RequiredAcks: kafka.RequireAll, Async: true,
		BatchSize: ceilingBatch, BatchBytes: 4 << 20, BatchTimeout: 5 * time.Millisecond, Transport: b.kafka.transport,
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
			id := first + int64(i)
			messages[i] = kafka.Message{Key: fmt.Appendf(nil, "[%d]", id), Value: changeRecord(id)}
		}
		if err := w.WriteMessages(ctx, messages...); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
