package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// kafkaWarm is what of a run is not counted: a Java program is slow at first.
	kafkaWarm = 10 * time.Second
	// kafkaLatencyRuns is the most runs of each contender.
	kafkaLatencyRuns = 3
)

// kafkaLatency measures, at a steady rate of single-row transactions, the time from the
// return of the INSERT's commit to the record's being in the hands of a read_committed
// consumer.
func (b *bench) kafkaLatency(ctx context.Context) error {
	length := 5 * time.Second
	if b.o.full {
		length = 15 * time.Second
	}
	for run := range min(b.o.runs, kafkaLatencyRuns) {
		for _, c := range b.contenders() {
			if c.special() {
				continue
			}
			if err := b.kafkaLatencyRun(ctx, c, run, length); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

func (b *bench) kafkaLatencyRun(ctx context.Context, c contender, run int, length time.Duration) error {
	w := workload{name: "lat", table: "orders_lat", publication: "pub_lat"}
	b.slots++
	slot := fmt.Sprintf("walbridge_klat%d", b.slots)
	if err := b.emptySlot(ctx, slot); err != nil {
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
	if _, err := b.senderOf(ctx, slot, p); err != nil {
		return err
	}
	n := int((kafkaWarm + length).Seconds()) * latencyRate
	committed, commits := make([]time.Time, n), make([]float64, n)
	cpu := cpuSeconds(p.pid())
	var writers sync.WaitGroup
	failed := make(chan error, latencyConns)
	for i := range latencyConns {
		writers.Go(func() { failed <- b.writeSteadily(ctx, i, committed, commits) })
	}
	seen, err := b.watchTopic(ctx, topic, n, p)
	writers.Wait()
	if err != nil {
		return err
	}
	for range latencyConns {
		if err := <-failed; err != nil {
			return err
		}
	}
	r := result{Measure: "kafka latency", Case: fmt.Sprintf("%d tx/s", latencyRate), Contender: c.name, Run: run, PeakMiB: peakMiB(p.pid())}
	r.Figures = latencies(committed, seen, commits, int(kafkaWarm.Seconds())*latencyRate)
	r.Figures["cores"] = (cpuSeconds(p.pid()) - cpu) / (kafkaWarm + length).Seconds()
	p.stop()
	if err := b.results.add(r); err != nil {
		return err
	}
	if err := b.kafka.deleteTopic(ctx, topic); err != nil {
		return err
	}
	return b.dropSlot(ctx, slot)
}

// watchTopic returns when the record of each of n rows came to a consumer.
func (b *bench) watchTopic(ctx context.Context, topic string, n int, p *child) ([]time.Time, error) {
	consumer, err := b.kafka.consumer(topic)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	seen := make([]time.Time, n)
	for got := 0; got < n; {
		if err := p.running(); err != nil {
			return nil, err
		}
		short, cancel := context.WithTimeout(ctx, time.Second) // to look at the process now and then
		fetches := consumer.PollFetches(short)
		cancel()
		now := time.Now()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var bad error
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Attrs.IsControl() {
				return
			}
			id, err := rowID(r.Key)
			switch {
			case err != nil:
				bad = err
			case id >= n || !seen[id].IsZero():
				bad = fmt.Errorf("a record of row %d that was not expected, or a second one", id)
			default:
				seen[id], got = now, got+1
			}
		})
		if bad != nil {
			return nil, bad
		}
	}
	return seen, nil
}
