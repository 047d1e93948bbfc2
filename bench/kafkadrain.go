package main

import (
	"context"
	"fmt"
	"time"

	sinkkafka "github.com/walbridge/walbridge/sink/kafka"
)

// contender is what moves a slot into a Kafka topic.
type contender struct {
	name     string
	envelope string // of walbridge's change records; empty: it is not walbridge
	start    func(ctx context.Context, slot, topic string, w workload) (*child, error)
}

// contenders are those that are measured side by side: walbridge with each envelope, and
// Debezium where its jars are given.
func (b *bench) contenders() []contender {
	var all []contender
	for _, envelope := range b.o.envelopes {
		name := "walbridge"
		if envelope != defaultEnvelope {
			name += ", " + envelope + " envelope"
		}
		all = append(all, contender{name, envelope, b.kafkaBridge(envelope)})
	}
	if b.o.debezium != "" {
		all = append(all, contender{"debezium", "", b.runConnect})
	}
	return all
}

// defaultEnvelope is that of change records when a route names none.
const defaultEnvelope = "walbridge"

// special reports whether it is walbridge with another envelope, of which an outbox and
// the latency know nothing.
func (c contender) special() bool { return c.envelope != "" && c.envelope != defaultEnvelope }

// kafkaBridge starts walbridge with an envelope for change records, exactly once and
// uncompressed.
func (b *bench) kafkaBridge(envelope string) func(context.Context, string, string, workload) (*child, error) {
	return func(ctx context.Context, slot, topic string, w workload) (*child, error) {
		keeper := sinkkafka.New(sinkkafka.Config{Brokers: []string{b.kafka.broker.Addr()}}.WithDefaults(), nil)
		if err := b.adopt(ctx, keeper, slot); err != nil {
			return nil, err
		}
		kind := fmt.Sprintf("changes: {envelope: %s}, snapshot: never", envelope)
		if w.outbox {
			kind = "outbox: {}"
		}
		br, err := b.runBridge(ctx, "kafka", fmt.Sprintf(`name: %s
source: {dsn: %q, slot: %s, publication: %s}
routes: [{tables: [public.%s], stream: %s, %s}]
sink: {kafka: {brokers: [%q], compression: none}}
`, slot, b.server.DSN("postgres"), slot, w.publication, w.table, topic, kind, b.kafka.broker.Addr()))
		if err != nil {
			return nil, err
		}
		return br.child, nil
	}
}

// kafkaDrain measures a slot read into a topic of a real broker, counted there: from
// the moment that the walsender works until the last record is visible to
// read_committed consumers.
func (b *bench) kafkaDrain(ctx context.Context) error {
	names := []string{"w2", "w4"}
	for _, name := range names {
		w, err := b.workload(ctx, name)
		if err != nil {
			return err
		}
		for run := range b.o.runs {
			for _, c := range b.contenders() {
				if c.special() && w.outbox {
					continue
				}
				if err := b.kafkaDrainRun(ctx, c, w, run); err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, w.name, err)
				}
			}
		}
	}
	return nil
}

func (b *bench) kafkaDrainRun(ctx context.Context, c contender, w workload, run int) error {
	slot, err := b.copySlot(ctx, w)
	if err != nil {
		return err
	}
	topic := slot + ".public." + w.table
	if err := b.kafka.makeTopic(ctx, topic); err != nil {
		return err
	}
	p, err := c.start(ctx, slot, topic, w)
	if err != nil {
		return err
	}
	defer p.stop()
	m, err := b.senderOf(ctx, slot, p)
	if err != nil {
		return err
	}
	begun := arrival{client: cpuSeconds(p.pid()), broker: cpuSeconds(b.kafka.broker.PID())}
	a, err := b.kafka.await(ctx, topic, w.rows, m, p)
	if err != nil {
		return err
	}
	r := result{
		Measure: "kafka", Case: w.name, Contender: c.name, Run: run, Rows: w.rows, Seconds: a.last.Sub(m.started).Seconds(),
		ClientCPU: a.client - begun.client, SenderCPU: a.sender, PeakMiB: peakMiB(p.pid()),
		Figures: map[string]float64{
			"start_cpu_s": begun.client, "broker_cpu_s": a.broker - begun.broker,
			// A Java program is slow at first: its second half says what it does in the long run.
			"second_half_rows_per_s": float64(w.rows) / 2 / max(a.last.Sub(a.half), time.Millisecond).Seconds(),
		},
	}
	p.stop()
	records, bytes, err := b.kafka.count(ctx, topic)
	if err != nil {
		return err
	}
	if records != w.rows {
		return fmt.Errorf("the topic has %d records, not %d", records, w.rows)
	}
	r.Figures["value_bytes"] = bytes
	if err := b.results.add(r); err != nil {
		return err
	}
	if err := b.kafka.deleteTopic(ctx, topic); err != nil {
		return err
	}
	return b.dropSlot(ctx, slot)
}
