package kafka

import (
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink/sinktest"
)

// lettersOf opens the dead letters of a bridge.
func lettersOf(t *testing.T, cfg Config, name string) *Letters {
	l, err := OpenLetters(ctxOf(t), cfg, name)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

func unmapped(id lsn.ID, raw string) mapper.Item {
	return mapper.Item{
		ID: id, Kind: mapper.KindDeadLetter, Stream: "orders", CommittedAt: 817_000_000_123456, Xid: 7,
		DeadLetter: &mapper.DeadLetter{Reason: "payload_not_json", Error: "it is none", Raw: []byte(raw), Replayable: true},
	}
}

// Dead letters are listed, shown, replayed and discarded beside a bridge that goes on
// writing, with either delivery.
func TestLetters(t *testing.T) {
	t.Parallel()
	for _, delivery := range []string{ExactlyOnce, AtLeastOnce} {
		t.Run(delivery, func(t *testing.T) {
			t.Parallel()
			settleLetters(t, delivery)
		})
	}
}

func settleLetters(t *testing.T, delivery string) {
	broker := kafkatest.Shared(t)
	cfg := testConfig(broker.Addr())
	cfg.Delivery, cfg.Compression = delivery, "none"
	topic := broker.Topic(t, 2, "max.message.bytes", "2000")
	l := lettersOf(t, cfg, "shop")
	none, err := l.List(ctxOf(t), Filter{Resolved: true})
	require.NoError(t, err)
	require.Empty(t, none, "there is no topic yet")

	s := opened(t, cfg, "shop")
	large := writeLetters(t, s, topic)
	wantListed(t, l, topic, large.ID)
	replayed := replayLetters(t, l, topic, large.ID)
	raise(t, broker, topic)
	var n int
	pgtest.Eventually(t, within, func() bool { // the answer is from before the partition's leader has heard of it
		n, err = l.Replay(ctxOf(t), large.ID, replayed, "", false)
		return err == nil
	}, "the larger limit is in force")
	require.Equal(t, 1, n)
	_, err = l.Discard(ctxOf(t), []lsn.ID{{Commit: 0x100, Seq: 3}, {Commit: 0x999}}, "")
	require.ErrorIs(t, err, ErrNoLetter, "all or none")
	n, err = l.Discard(ctxOf(t), []lsn.ID{{Commit: 0x100, Seq: 3}, large.ID, {Commit: 0x100, Seq: 3}}, "a test")
	require.NoError(t, err)
	require.Equal(t, 1, n)

	all, err := l.List(ctxOf(t), Filter{})
	require.NoError(t, err)
	require.Empty(t, all)
	all, err = l.List(ctxOf(t), Filter{Resolved: true})
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.Equal(t, []string{Replayed, Replayed, Discarded}, []string{all[0].Resolution, all[1].Resolution, all[2].Resolution})
	_, err = l.Replay(ctxOf(t), large.ID, replayed, "", false)
	require.ErrorContains(t, err, "it is closed: replayed")

	b := s.NewBatch()
	b.Append([]mapper.Item{event(0x300, 0, topic, "order:1")})
	require.NoError(t, s.Write(ctxOf(t), b, at(0x400)), "the bridge was not fenced")
	wantStored(t, broker, cfg, topic, large)
}

// writeLetters stores an item, two changes that could not be mapped, and one that its
// topic refuses, which it returns.
func writeLetters(t *testing.T, s *Sink, topic string) mapper.Item {
	b := s.NewBatch()
	large := event(0x100, 2, topic, "order:2")
	large.Payload = sinktest.JSON(`{"text":"` + strings.Repeat("x", 3000) + `"}`)
	large.Headers = []byte(`{"tenant":"north"}`)
	b.Append([]mapper.Item{unmapped(lsn.ID{Commit: 0x100}, "raw")})
	b.Append([]mapper.Item{event(0x100, 1, topic, "order:1")})
	b.Append([]mapper.Item{large})
	b.Append([]mapper.Item{unmapped(lsn.ID{Commit: 0x100, Seq: 3}, "other raw")})
	require.NoError(t, s.Write(ctxOf(t), b, at(0x200)))
	return large
}

func wantListed(t *testing.T, l *Letters, topic string, large lsn.ID) {
	all, err := l.List(ctxOf(t), Filter{})
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.Equal(t, []lsn.ID{{Commit: 0x100}, large, {Commit: 0x100, Seq: 3}}, []lsn.ID{all[0].ID, all[1].ID, all[2].ID})
	require.True(t, all[0].Unmapped && all[0].Replayable && all[0].Value == nil)
	require.Equal(t, "payload_not_json", all[0].Reason)
	require.False(t, all[1].Unmapped)
	require.Equal(t, []string{reasonTooLarge, topic, "order:2", "OrderPaid", "shop"}, []string{all[1].Reason, all[1].Stream, string(all[1].Key), all[1].Type, all[1].Source})
	page, err := l.List(ctxOf(t), Filter{After: all[0].ID, Limit: 1})
	require.NoError(t, err)
	require.Len(t, page, 1)
	require.Equal(t, large, page[0].ID)
	one, err := l.Show(ctxOf(t), all[0].ID)
	require.NoError(t, err)
	require.Equal(t, "raw", string(one.Value))
}

// replayLetters replays what could not be mapped, and what is still refused.
func replayLetters(t *testing.T, l *Letters, topic string, large lsn.ID) Remap {
	first := lsn.ID{Commit: 0x100}
	mapsNot := func([]byte) ([]mapper.Item, error) { return []mapper.Item{unmapped(first, "raw")}, nil }
	_, err := l.Replay(ctxOf(t), first, mapsNot, "", false)
	require.ErrorContains(t, err, "it still cannot be mapped: payload_not_json")
	maps := func(raw []byte) ([]mapper.Item, error) {
		require.Equal(t, "raw", string(raw))
		return []mapper.Item{event(0x100, 0, topic, "order:0")}, nil
	}
	n, err := l.Replay(ctxOf(t), first, maps, "", true)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	open, err := l.List(ctxOf(t), Filter{})
	require.NoError(t, err)
	require.Len(t, open, 3, "a trial changes nothing")
	_, err = l.Replay(ctxOf(t), first, maps, "cured", false)
	require.NoError(t, err)
	_, err = l.Replay(ctxOf(t), large, maps, "", false)
	require.ErrorContains(t, err, "still refuses it")
	open, err = l.List(ctxOf(t), Filter{})
	require.NoError(t, err)
	require.Len(t, open, 2)
	_, err = l.Replay(ctxOf(t), lsn.ID{Commit: 0x777}, maps, "", false)
	require.ErrorIs(t, err, ErrNoLetter)
	return maps
}

// raise lets a topic take larger records.
func raise(t *testing.T, b *kafkatest.Broker, topic string) {
	t.Helper()
	r, err := b.Client(t).IncrementalAlterConfigs(ctxOf(t), &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
		Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "max.message.bytes", Value: "100000", ConfigOperation: kafka.ConfigOperationSet}},
	}}})
	require.NoError(t, err)
	require.NoError(t, r.Resources[0].Error)
}

// wantStored looks at the topic's records with another client: each item once, what was
// replayed as it would have been.
func wantStored(t *testing.T, b *kafkatest.Broker, cfg Config, topic string, large mapper.Item) {
	t.Helper()
	if cfg.Delivery == ExactlyOnce {
		decided(t, franz(t, b.Addr()), cfg.lettersTransactionalID("shop"))
	}
	ids := map[string]sinktest.Stored{}
	records := committed(t, b.Addr(), cfg.TransactionalID, topic)[topic]
	for _, r := range records {
		s := storedOf(t, r, cfg.DeadLetterTopic)
		ids[s.ID.String()] = s
	}
	require.Len(t, records, 4)
	require.Len(t, ids, 4)
	got := ids[large.ID.String()]
	require.Equal(t, large.EventID, []byte(got.EventID))
	require.Equal(t, "order:2", string(got.Key))
	require.Equal(t, string(large.Payload.AppendJSON(nil)), string(got.Payload))
	require.JSONEq(t, `{"tenant":"north"}`, string(got.Headers))
	require.EqualValues(t, 7, got.Xid)
}

// Of two who close the same letter one is shut out, so that it is replayed once.
func TestLettersOfTwoPeople(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Shared(t)
	cfg := testConfig(broker.Addr())
	topic := broker.Topic(t, 1)
	s := opened(t, cfg, "shop")
	b := s.NewBatch()
	b.Append([]mapper.Item{unmapped(lsn.ID{Commit: 0x100}, "raw")})
	require.NoError(t, s.Write(ctxOf(t), b, at(0x200)))
	late, quick := lettersOf(t, cfg, "shop"), lettersOf(t, cfg, "shop")
	maps := func([]byte) ([]mapper.Item, error) {
		_, err := quick.Discard(ctxOf(t), []lsn.ID{{Commit: 0x100}}, "") // while the other maps
		return []mapper.Item{event(0x100, 0, topic, "order:0")}, err
	}
	_, err := late.Replay(ctxOf(t), lsn.ID{Commit: 0x100}, maps, "", false)
	require.ErrorIs(t, err, fault.ErrFenced)
	require.ErrorContains(t, err, "somebody else")
	all, err := late.List(ctxOf(t), Filter{Resolved: true})
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, Discarded, all[0].Resolution)
	require.Empty(t, committed(t, broker.Addr(), cfg.TransactionalID, topic)[topic])
}
