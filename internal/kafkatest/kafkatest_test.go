package kafkatest

import (
	"context"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestMain(m *testing.M) { Main(m) }

// end returns the end of a partition.
func end(ctx context.Context, c *kafka.Client, topic string) (int64, error) {
	r, err := c.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(0)}}})
	if err != nil {
		return 0, err
	}
	return r.Topics[topic][0].LastOffset, r.Topics[topic][0].Error
}

func produce(ctx context.Context, c *kafka.Client, topic string) error {
	r, err := c.Produce(ctx, &kafka.ProduceRequest{
		Topic: topic, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte("x"))}),
	})
	if err != nil {
		return err
	}
	return r.Error
}

// A broker that was killed, stopped or paused comes back with its data.
func TestLife(t *testing.T) {
	b := New(t, QuickRestart())
	topic := b.Topic(t, 1)
	client := b.Client(t)
	require.NoError(t, produce(t.Context(), client, topic))

	b.Kill(t)
	require.Error(t, produce(t.Context(), client, topic))
	b.Restart(t)
	has := func(n int64) func() bool {
		return func() bool {
			got, err := end(t.Context(), client, topic)
			return err == nil && got == n
		}
	}
	pgtest.Eventually(t, callTimeout, has(1), "the record after a kill")

	b.Pause(t)
	// The kernel stops the threads one after the other.
	pgtest.Eventually(t, callTimeout, func() bool {
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := end(short, client, topic)
		return err != nil
	}, "a paused broker not to answer")
	b.Resume(t)
	pgtest.Eventually(t, callTimeout, has(1), "the record after a pause")

	b.Stop(t)
	b.Restart(t)
	pgtest.Eventually(t, callTimeout, has(1), "the record after a stop")
	require.Contains(t, b.Java(t, "kafka.tools.DumpLogSegments", "--version"), DefaultVersion)
}
