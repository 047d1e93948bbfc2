package stdout

import (
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink/sinktest"
)

// TestFormats runs testdata/formats. A line of its input is an item, as fields of
// name=value (a space in a value is written ␣, a line break ↵, and so on), with the word same
// when the next item is of the same change; or end (EndTx); or carry (CarryLast,
// what stays, a line ---, and on with the next batch).
func TestFormats(t *testing.T) {
	datadriven.RunTest(t, "testdata/formats", func(t *testing.T, d *datadriven.TestData) string {
		s := New(Config{Format: d.Cmd}, Options{Terminal: d.HasArg("terminal")})
		var out strings.Builder
		b, next := s.NewBatch(), s.NewBatch()
		var change []mapper.Item
		for _, line := range strings.Split(d.Input, "\n") {
			switch line {
			case "end":
				b.EndTx()
			case "carry":
				id, some := b.CarryLast(next)
				out.Write(b.(printable).text())
				out.WriteString("--- " + id.String() + " " + strconv.FormatBool(some) + "\n")
				b, next = next, b
				next.Reset()
			default:
				change = append(change, parseItem(t, line))
				if strings.Contains(line, "same") {
					continue
				}
				b.Append(change)
				change = nil
			}
		}
		out.Write(b.(printable).text())
		return strings.ReplaceAll(out.String(), "\x1b", "␛")
	})
}

// parseItem reads an item of testdata.
func parseItem(t *testing.T, line string) mapper.Item {
	it := mapper.Item{Kind: mapper.KindRecord, Xid: 812, CommittedAt: 817_000_000_123456}
	for _, field := range strings.Fields(line) {
		name, text, _ := strings.Cut(strings.NewReplacer("␣", " ", "↵", "\n", "␛", "\x1b", "‹RLO›", "\u202e", "‹OSC›", "\u009d").Replace(field), "=")
		switch name {
		case "id":
			var err error
			it.ID, err = lsn.ParseID(text)
			require.NoError(t, err)
		case "event":
			it.Kind, it.Type = mapper.KindEvent, []byte(text)
		case "op":
			it.Type = []byte(text)
		case "stream":
			it.Stream = text
		case "key":
			it.Key = []byte(text)
		case "eid":
			it.EventID = []byte(text)
		case "headers":
			it.Headers = []byte(text)
		case "payload":
			it.Payload = sinktest.JSON(text)
		case "time":
			it.Time = it.CommittedAt - lsn.Micros(number(t, text))
		case "later":
			it.AvailableAt = it.CommittedAt + lsn.Micros(number(t, text))
		case "all":
			it.AllLanes = true
		case "dead":
			it.Kind, it.DeadLetter = mapper.KindDeadLetter, &mapper.DeadLetter{Reason: text, Error: `column "payload": invalid character`, Replayable: true}
		case "raw":
			it.DeadLetter.Raw = []byte(text)
		case "cut":
			it.DeadLetter.Replayable = false
		case "same":
		default:
			t.Fatalf("no field %q", name)
		}
	}
	return it
}

func number(t *testing.T, text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err)
	return n
}
