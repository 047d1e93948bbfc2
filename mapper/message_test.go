package mapper

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

func messageMapper(t *testing.T, o *Outbox) *Mapper {
	return newMapper(t, Config{Routes: []Route{{Messages: []string{"events"}, Outbox: o, Stream: "shop.${aggregatetype}"}}})
}

func message(content string) *decoder.Change {
	c := change(decoder.OpMessage, nil)
	c.Prefix, c.Content, c.LSN, c.Transactional = "events", []byte(content), lsn.LSN(0x1924E00), true
	return c
}

// A logical message is an outbox row without a table.
func TestMessageIsAnOutboxRow(t *testing.T) {
	m := messageMapper(t, &Outbox{Extra: []string{"tenant"}})
	c := message(`{"id":"6f1","aggregatetype":"orders","aggregateid":9182,"type":"Order\u0050aid","payload":{"a": [1, "x"]},"headers":{"who":"ann"},"tenant":"north",
		"available_at":"2024-02-03T09:35:06.5Z"}`)
	it := mapOne(t, m, c)
	require.Equal(t, []any{KindEvent, "shop.orders", "9182", "6f1", "OrderPaid", `{"a": [1, "x"]}`, `{"who":"ann","tenant":"north"}`},
		[]any{it.Kind, it.Stream, string(it.Key), string(it.EventID), string(it.Type), string(it.Payload.AppendJSON(nil)), string(it.Headers)})
	want, ok := parseTimestamp([]byte("2024-02-03 09:35:06.5+00"))
	require.True(t, ok)
	require.Equal(t, want, it.AvailableAt)
	require.Equal(t, c.ID, it.ID)
	again, err := DecodeRaw(EncodeRaw(c, nil))
	require.NoError(t, err)
	require.Equal(t, "6f1", string(mapOne(t, m, again).EventID), "a replay")
}

// What is no such row is a dead letter with its reason; other prefixes are nothing.
func TestMessagesThatAreNone(t *testing.T) {
	m := messageMapper(t, &Outbox{})
	for content, reason := range map[string]string{
		`{"id":"1","aggregatetype":"o","payload":`: ReasonMessageInvalid,
		`[]`:                                ReasonMessageInvalid,
		"":                                  ReasonMessageInvalid,
		"{\"id\":\"\xff\"}":                 ReasonInvalidUTF8,
		`{"aggregatetype":"o","payload":1}`: ReasonIDNull,
		`{"id":"1","aggregatetype":"o","payload":null}`: ReasonPayloadNull,
		`{"id":"1","payload":1}`:                        ReasonStreamNull,
	} {
		it := mapOne(t, m, message(content))
		require.Equal(t, KindDeadLetter, it.Kind, content)
		require.Equal(t, reason, it.DeadLetter.Reason, content)
		require.True(t, it.DeadLetter.Replayable)
	}
	require.True(t, m.TakesMessages("events"))
	require.False(t, m.TakesMessages("others"))
	c := message("{}")
	c.CutSize = 1 << 30
	require.Equal(t, ReasonRowTooLarge, mapOne(t, m, c).DeadLetter.Reason)
	c = message("{}")
	c.Prefix = "others"
	items, err := m.Map(c)
	require.NoError(t, err)
	require.Empty(t, items)
	require.EqualValues(t, 1, m.Counts().Unrouted)
}
