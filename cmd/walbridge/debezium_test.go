package main

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walbridge/walbridge/internal/debeziumtest"
	"github.com/walbridge/walbridge/internal/kafkatest"
)

// Consumers of Debezium's event router find the same records: topic, key, value and the
// header id. What differs: walbridge adds headers, gives an event whose key is empty no
// key, and takes the time of the commit.
func kafkaEventRouter(t *testing.T, b *kafkatest.Broker) {
	recorded, err := debeziumtest.Load("outbox")
	require.NoError(t, err)
	s := newSite(t, shopDB(t), "")
	s.db.Exec(t, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	steps := debeziumtest.Steps()
	s.db.Exec(t, steps[0].SQL)
	name := s.name()
	s.path = configFile(t, fmt.Sprintf(`name: %s
source: {dsn: %q}
routes: [{tables: [public.outbox], outbox: {tombstone_on_null_payload: true}, stream: "%[1]s.outbox.event.${aggregatetype}"}]
sink: {kafka: {brokers: [%[3]q], create_topics: {partitions: 1}}}
`, name, s.db.DSN(), b.Addr()))
	s.do(t, exitOK, "setup")
	bridge := s.run(t)
	for _, step := range steps[1:] {
		s.db.Exec(t, step.SQL)
	}
	s.confirmed(t, `INSERT INTO outbox VALUES (gen_random_uuid(), 'finish', '1', 'Finished', '{}')`)
	want := map[string][]debeziumtest.Record{}
	for _, r := range recorded.Records {
		want[name+"."+r.Topic] = append(want[name+"."+r.Topic], r)
	}
	require.Len(t, want, 2)
	for topic, records := range want {
		got := firstRecords(t, b, topic, len(records))
		for i, w := range records {
			require.Equal(t, text(t, w.Key), string(got[i].Key), "%s %d", topic, i) // an empty one is none
			require.Equal(t, text(t, w.Value), orNull(got[i].Value), "%s %d", topic, i)
			id := ""
			for _, h := range got[i].Headers {
				if h.Key == "id" {
					id = string(h.Value)
				}
			}
			require.Equal(t, w.Headers["id"], id)
		}
	}
	require.Equal(t, exitOK, bridge.stopped(t), bridge.errs.String())
}

// null stands for no value.
const null = "<null>"

// text is what a recording's JSON string holds.
func text(t *testing.T, value json.RawMessage) string {
	t.Helper()
	var s *string
	require.NoError(t, json.Unmarshal(value, &s))
	if s == nil {
		return null
	}
	return *s
}

func orNull(value []byte) string {
	if value == nil {
		return null
	}
	return string(value)
}

// firstRecords reads the first records of a topic.
func firstRecords(t *testing.T, b *kafkatest.Broker, topic string, n int) []*kgo.Record {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		fetches := c.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		all = append(all, fetches.Records()...)
	}
	require.Len(t, all, n)
	return all
}
