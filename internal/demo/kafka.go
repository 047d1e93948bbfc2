package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pause"
	"github.com/walbridge/walbridge/sink/kafka"
)

// kafkaConfig is the bridge's: name, database, brokers.
const kafkaConfig = `name: %[1]s
source:
  dsn: %[2]q
routes:
  - tables: [public.outbox]
    outbox: {}
    stream: %[1]s.events
  - tables: [public.orders, public.legacy_customers]
    changes: {}
    stream: %[1]s.${schema}.${table}
sink:
  kafka:
    brokers: [%[3]s]
    create_topics: {partitions: 3}
    progress_topic: %[1]s.progress
    dead_letter_topic: %[1]s.dead_letter
`

// deliveredSchema is where the consumer puts what it reads, in the shape of the work
// table as far as it is compared.
const deliveredSchema = `
CREATE SCHEMA delivered;
CREATE TABLE delivered.log (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text NOT NULL, stream text NOT NULL, lane int NOT NULL,
	partition_key text NOT NULL, idempotency_key text NOT NULL, payload jsonb NOT NULL, commit_lsn bigint NOT NULL, tx_seq bigint NOT NULL, sub int NOT NULL);
CREATE TABLE delivered.dead_letter (key text NOT NULL);
`

func inTopics() destination {
	return destination{schema: "delivered", order: "PARTITION BY stream, lane", items: "records in the topics", position: "the progress topic"}
}

// consumer is an application that reads the committed records of the demonstration's
// topics into tables.
type consumer struct {
	name    string // of the bridge; its topics begin with it
	topics  []string
	made    bool // the topics
	brokers []string
	cfg     kafka.Config
	pool    *pgxpool.Pool
	reader  *kafka.Reader
	end     chan struct{} // closed: what is there is read, and no more
	endOnce sync.Once
	ended   chan error
}

// newConsumer gives the demonstration a name that no former one has: the topics of one
// that was killed may still be there.
func newConsumer(brokers []string, pool *pgxpool.Pool) *consumer {
	name := "walbridge_demo_" + strings.ToLower(rand.Text()[:6])
	c := &consumer{name: name, brokers: brokers, pool: pool, end: make(chan struct{}), ended: make(chan error, 1)}
	for _, topic := range []string{"events", "public.orders", "public.legacy_customers", "dead_letter", "progress"} {
		c.topics = append(c.topics, name+"."+topic)
	}
	c.cfg = kafka.Config{Brokers: brokers, ProgressTopic: name + ".progress", DeadLetterTopic: name + ".dead_letter"}.WithDefaults()
	return c
}

func (c *consumer) bridgeConfig(dsn string) string {
	quoted := make([]string, len(c.brokers))
	for i, b := range c.brokers {
		quoted[i] = fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf(kafkaConfig, c.name, dsn, strings.Join(quoted, ", "))
}

// start begins to read, when the topics are there.
func (c *consumer) start(ctx context.Context) (err error) {
	if _, err := c.pool.Exec(ctx, deliveredSchema); err != nil {
		return fmt.Errorf("make the consumer's tables: %w", err)
	}
	read := slices.DeleteFunc(slices.Clone(c.topics), func(topic string) bool { return topic == c.cfg.ProgressTopic })
	if c.reader, err = kafka.OpenReader(ctx, c.cfg, c.name, read...); err != nil {
		return err
	}
	go func() { c.ended <- c.run(context.WithoutCancel(ctx)) }()
	return nil
}

// pollEvery is the consumer's rhythm.
const pollEvery = 20 * time.Millisecond

// failuresMost is how many reads in a row may fail: a broker may be away for a moment.
const failuresMost = 20

func (c *consumer) run(ctx context.Context) error {
	for failures := 0; ; {
		last := false
		select {
		case <-c.end:
			last = true
		default:
		}
		records, err := c.reader.Poll(ctx)
		switch {
		case err == nil:
			failures = 0
		case failures == failuresMost:
			return err
		default:
			failures++
		}
		if err == nil {
			if err := c.store(ctx, records); err != nil {
				return fmt.Errorf("store what was read: %w", err)
			}
			if last {
				return nil
			}
		}
		if err := pause.For(ctx, pollEvery); err != nil {
			return err
		}
	}
}

// store keeps records in the order in which they were read.
func (c *consumer) store(ctx context.Context, records []kafka.Record) error {
	var rows, letters [][]any
	for i := range records {
		r := &records[i]
		if r.Topic == c.cfg.DeadLetterTopic {
			letters = append(letters, []any{string(r.Key)})
			continue
		}
		row, err := c.row(r)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	if _, err := c.pool.CopyFrom(ctx, pgx.Identifier{"delivered", "dead_letter"}, []string{"key"}, pgx.CopyFromRows(letters)); err != nil {
		return err
	}
	_, err := c.pool.CopyFrom(ctx, pgx.Identifier{"delivered", "log"},
		[]string{"kind", "stream", "lane", "partition_key", "idempotency_key", "payload", "commit_lsn", "tx_seq", "sub"}, pgx.CopyFromRows(rows))
	return err
}

func (c *consumer) row(r *kafka.Record) ([]any, error) {
	text, _ := r.Header("wb-id")
	id, err := lsn.ParseID(text)
	if err != nil {
		return nil, fmt.Errorf("%s/%d at %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	kind, key := "change", text
	if event, is := r.Header("id"); is {
		kind, key = "event", event
	}
	stream := strings.TrimPrefix(r.Topic, c.name+".")
	return []any{kind, stream, r.Partition, string(r.Key), key, string(r.Value), int64(id.Commit), int64(id.Seq), int(id.Sub)}, nil
}

// stop reads what is there to its end and returns how the consumer ended.
func (c *consumer) stop(ctx context.Context) error {
	if c.reader == nil {
		return nil
	}
	c.endOnce.Do(func() { close(c.end) })
	select {
	case err := <-c.ended:
		c.reader.Close()
		c.reader = nil
		return err
	case <-ctx.Done():
		return fmt.Errorf("the consumer does not end: %w", context.Cause(ctx))
	}
}

// cleanUp deletes the topics.
func (c *consumer) cleanUp(ctx context.Context) error {
	var err error
	if c.reader != nil {
		err = c.stop(ctx)
	}
	return errors.Join(err, kafka.DeleteTopics(ctx, c.cfg, c.name, c.topics...))
}
