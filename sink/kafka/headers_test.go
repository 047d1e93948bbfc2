package kafka

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
	"github.com/walbridge/walbridge/sink/sinktest"
)

// written returns what a record gets of an item's headers.
func written(t require.TestingT, text []byte) map[string]string {
	var h headers
	var b recordbatch.Body
	b.BeginBytes(nil, nil)
	h.append(&b, text)
	p, err := recordbatch.Parse(b.End())
	require.NoError(t, err)
	got := map[string]string{}
	for h := range p.Headers {
		got[string(h.Name)] = string(h.Value)
	}
	return got
}

// Every JSON object of strings becomes headers with its names and values.
func TestHeaders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "headers")
		maps.DeleteFunc(want, func(k, _ string) bool { return len(k) >= 3 && (k[0]|0x20) == 'w' && (k[1]|0x20) == 'b' && k[2] == '-' })
		text, err := json.Marshal(want)
		require.NoError(t, err)
		require.Equal(t, want, written(t, text))
		text, err = json.MarshalIndent(want, " ", "\t")
		require.NoError(t, err)
		require.Equal(t, want, written(t, text))
	})
	require.Equal(t, map[string]string{"a/b": "\"\\\b\f\n\r\t😀\uFFFDx", "x-wb-id": "1", "x-WB-x": "2"},
		written(t, []byte(`{"a\/b":"\"\\\b\f\n\r\t\ud83d\ude00\ud83dx","wb-id":"1","WB-x":"2"}`)))
	require.Empty(t, written(t, []byte(" { } ")))
	for _, text := range []string{"", "null", `[]`, `{"a":1}`, `{"a":"b"`, `{"a":"b"}x`, `{"a":"b",}`, `{"a"}`, `{"a":"\x"}`, `{"a":"\u12"}`, `{a:"b"}`, `{"a`} {
		require.Equal(t, map[string]string{"headers": text}, written(t, []byte(text)), text)
	}
}

// FuzzHeaders: what is an object of strings gives its members, as encoding/json reads
// them; all else is kept whole.
func FuzzHeaders(f *testing.F) {
	f.Add([]byte(`{"a":"b\u00e9\ud83d\ude00"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got := written(t, text)
		var values map[string]any
		if !utf8.Valid(text) || json.Unmarshal(text, &values) != nil || values == nil {
			return
		}
		want := map[string]string{}
		for name, value := range values {
			s, is := value.(string)
			if !is {
				require.Equal(t, map[string]string{"headers": string(text)}, got)
				return
			}
			if len(name) >= len(reserved) && strings.EqualFold(name[:len(reserved)], reserved) {
				name = renamed + name
			}
			want[name] = s
		}
		for name := range want {
			if _, clash := values[name]; !clash && len(want) < len(values) {
				return // two names have become one
			}
		}
		require.Equal(t, want, got)
	})
}

// The form of a position record is a promise: what one version has written, the next
// reads.
func TestPositionForm(t *testing.T) {
	p := lsn.Progress{
		SystemID: 1<<63 + 5, Timeline: 3, Slot: "walbridge_shop", Phase: lsn.PhaseStreaming, Xid: 7<<32 | 812, ConfigHash: "abc",
		Position: lsn.Position{End: 0x16_B374D848, LastTxEnd: 0x16_B374D840, Commit: 0x17_00000000, Seq: 4, Sub: 1}, Cursors: []byte("\x00\xff"),
		CommitTime: time.Date(2026, 3, 29, 1, 59, 59, 123456000, time.UTC),
	}
	text, err := encodePosition("shop", 9, 16, p)
	require.NoError(t, err)
	want, err := os.ReadFile("testdata/position.json")
	require.NoError(t, err)
	require.Equal(t, string(want), string(text)+"\n")
	n, partitions, got, err := decodePosition(text)
	require.NoError(t, err)
	require.Equal(t, []any{uint64(9), 16, p}, []any{n, partitions, got})
	for _, bad := range []string{"", "{}", "null", `{"version":2}`, `{"version":1,"phase":"streaming","n":"0"}`, `{"version":1,"n":"1","phase":"odd"}`, `{"version":1,"n":"1","phase":"new","position":{"end":"x"}}`} {
		_, _, _, err := decodePosition([]byte(bad))
		require.Error(t, err, bad)
	}
}

// A dead letter that is itself too large for its topic keeps what names it; so does
// one of an item that no topic takes.
func TestGiantDeadLetters(t *testing.T) {
	f := newFake(t)
	require.NoError(t, f.CreateTopic(f.cfg.DeadLetterTopic, 1, map[string]string{"max.message.bytes": "65536"}))
	s := opened(t, f.cfg, "shop")
	b := s.NewBatch()
	letter := event(0x100, 0, "nowhere", "")
	letter.Kind, letter.Payload, letter.Key = mapper.KindDeadLetter, nil, nil
	letter.DeadLetter = &mapper.DeadLetter{Reason: "row_too_large", Error: "it is large", Raw: giant(), Replayable: true}
	item := event(0x100, 1, fakeTopic, "k")
	item.Payload = giant()
	b.Append([]mapper.Item{letter})
	b.Append([]mapper.Item{item})
	b.Append([]mapper.Item{event(0x100, 2, fakeTopic, "k")})
	require.NoError(t, s.Write(ctxOf(t), b, at(0x130)))
	all := committed(t, f.cfg.Brokers[0], f.cfg.TransactionalID, fakeTopic, f.cfg.DeadLetterTopic)
	require.Len(t, all[fakeTopic], 1)
	got := all[f.cfg.DeadLetterTopic]
	require.Len(t, got, 2)
	for i, want := range []map[string]string{
		{headerReason: "row_too_large", headerError: "it is large", headerStream: "nowhere", headerReplayable: "false", headerSize: "200002"},
		{headerReason: reasonTooLarge, headerStream: fakeTopic, headerReplayable: "false", headerSize: "200002", headerKey: "k", "type": "OrderPaid"},
	} {
		require.Empty(t, got[i].Value)
		for name, value := range want {
			v, _ := header(got[i], name)
			require.Equal(t, value, v, name)
		}
	}
}

// What cannot be: a batch of another sink, of another bridge, cursors above the limit,
// a position that does not lie ahead. Nothing is written, and the sink opens again.
func TestForeignBatch(t *testing.T) {
	f := newFake(t)
	s, other := opened(t, f.cfg, "shop"), opened(t, f.cfg, "other")
	_, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
	require.NoError(t, err)
	foreign := fill(other, 0x100, 3)
	large := at(0x130)
	large.Cursors = make([]byte, MaxCursors+1)
	for _, k := range []struct {
		b  sink.Batch
		to lsn.Progress
	}{{foreign, at(0x130)}, {sinktest.NewMemory(1).Sink().NewBatch(), at(0x130)}, {s.NewBatch(), large}} {
		require.Error(t, s.Write(ctxOf(t), k.b, k.to))
		p, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
		require.NoError(t, err)
		require.Equal(t, lsn.Progress{}, p)
	}
}
