package torture_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// readKafka reads with read_committed all that the bridge has in a cluster, by another
// client than the bridge's. Within a partition ids must rise, so that no item is there
// twice and each key is in order; with repeats what comes again is passed over, as a
// consumer would that remembers the highest id. whole: all that is written is waited
// for. The items of all partitions are returned in the order of their ids.
func readKafka(t *testing.T, addr, bridge string, repeats, whole bool) (all []*torture.Item, repeated int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drainWithin())
	defer cancel()
	ends := stableEnds(t, ctx, addr, whole)
	from, left := map[string]map[int32]kgo.Offset{}, map[string]map[int32]int64{}
	for topic, partitions := range ends {
		from[topic], left[topic] = map[int32]kgo.Offset{}, map[int32]int64{}
		for p, end := range partitions {
			if end > 0 {
				from[topic][p], left[topic][p] = kgo.NewOffset().AtStart(), end
			}
		}
	}
	// control records, so that a partition that ends with a marker is seen to its end
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	require.NoError(t, err)
	defer c.Close()
	last := map[string]map[int32]lsn.ID{}
	for unread(left) {
		fetches := c.PollFetches(ctx)
		require.NoError(t, ctx.Err(), "left: %v", left)
		require.Empty(t, fetches.Errors())
		fetches.EachRecord(func(r *kgo.Record) {
			end, open := left[r.Topic][r.Partition]
			if open && r.Offset+1 >= end {
				delete(left[r.Topic], r.Partition)
			}
			if r.Attrs.IsControl() || header(r, "wb-source") != bridge {
				return
			}
			it := itemOf(t, r, bridge)
			if last[r.Topic] == nil {
				last[r.Topic] = map[int32]lsn.ID{}
			}
			if repeats && last[r.Topic][r.Partition].Compare(it.ID) >= 0 {
				repeated++
				return
			}
			require.Negative(t, last[r.Topic][r.Partition].Compare(it.ID), "%s/%d at %d: item %s behind %s", r.Topic, r.Partition, r.Offset, it.ID, last[r.Topic][r.Partition])
			last[r.Topic][r.Partition] = it.ID
			if it.Type != "truncate" || it.ID.Sub == 0 { // one for each partition
				all = append(all, it)
			}
		})
	}
	slices.SortFunc(all, func(a, b *torture.Item) int { return a.ID.Compare(b.ID) })
	for i, it := range all {
		it.TxEnd = i+1 == len(all) || all[i+1].ID.Commit != it.ID.Commit
	}
	return all, repeated
}

func unread(left map[string]map[int32]int64) bool {
	for _, partitions := range left {
		if len(partitions) > 0 {
			return true
		}
	}
	return false
}

// stableEnds returns the last stable offset of each partition of all topics but those
// of the brokers and of positions. whole: it waits until all that is there now is
// stable, since markers come behind a commit, and an open transaction of another bridge
// holds back what lies behind it.
func stableEnds(t *testing.T, ctx context.Context, addr string, whole bool) map[string]map[int32]int64 {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RetryTimeout(30*time.Second))
	require.NoError(t, err)
	defer c.Close()
	meta := kmsg.NewPtrMetadataRequest()
	meta.Topics = nil // all
	m, err := meta.RequestWith(ctx, c)
	require.NoError(t, err)
	const uncommitted, committed = 0, 1
	written, stable := endsOf(t, ctx, c, m, uncommitted), endsOf(t, ctx, c, m, committed)
	pgtest.Eventually(t, drainWithin(), func() bool {
		for topic, partitions := range written {
			for p, end := range partitions {
				if whole && stable[topic][p] < end {
					stable = endsOf(t, ctx, c, m, committed)
					return false
				}
			}
		}
		return true
	}, "all that was written is stable")
	return stable
}

// endsOf asks for the ends of all partitions at an isolation level.
func endsOf(t *testing.T, ctx context.Context, c *kgo.Client, m *kmsg.MetadataResponse, isolation int8) map[string]map[int32]int64 {
	t.Helper()
	list := kmsg.NewPtrListOffsetsRequest()
	list.IsolationLevel = isolation
	for _, mt := range m.Topics {
		if mt.IsInternal || *mt.Topic == "walbridge.progress" {
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
	r, err := list.RequestWith(ctx, c)
	require.NoError(t, err)
	out := map[string]map[int32]int64{}
	for _, lt := range r.Topics {
		out[lt.Topic] = map[int32]int64{}
		for _, p := range lt.Partitions {
			require.Zero(t, p.ErrorCode, "%s/%d", lt.Topic, p.Partition)
			out[lt.Topic][p.Partition] = p.Offset
		}
	}
	return out
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// itemOf is what a record holds. Its own headers come first, those of the item behind
// them, id and type of an event last.
func itemOf(t *testing.T, r *kgo.Record, bridge string) *torture.Item {
	t.Helper()
	require.Empty(t, header(r, "wb-reason"), "a dead letter: %s", r.Value)
	id, err := lsn.ParseID(header(r, "wb-id"))
	require.NoError(t, err)
	it := &torture.Item{At: r.Offset, Source: bridge, ID: id, Stream: r.Topic, Key: string(r.Key), Payload: r.Value, Type: header(r, "type"),
		Kind: "change", EventID: bridge + ":" + id.String()}
	h := r.Headers[4 : len(r.Headers)-1]
	if n := len(h); n > 0 && h[n-1].Key == "id" {
		it.Kind, it.EventID, h = "event", string(h[n-1].Value), h[:n-1]
	}
	it.Headers = objectOf(t, h)
	return it
}

// objectOf writes headers as the JSON object that they were; nil for none.
func objectOf(t *testing.T, headers []kgo.RecordHeader) []byte {
	t.Helper()
	if len(headers) == 0 {
		return nil
	}
	parts := make([][]byte, len(headers))
	for i, h := range headers {
		name, err := json.Marshal(h.Key)
		require.NoError(t, err)
		value, err := json.Marshal(string(h.Value))
		require.NoError(t, err)
		parts[i] = append(append(name, ':'), value...)
	}
	return append(append([]byte("{"), bytes.Join(parts, []byte(","))...), '}')
}
