package stdout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/walbridge/walbridge/mapper"
)

// The lengths, in characters, that texts are cut to.
const (
	maxName    = 60
	maxValue   = 60
	maxPayload = 200
)

func uintText(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// pad fills text up with spaces to a width in characters.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// visible cuts text and writes what a terminal would act on (control characters,
// marks of direction) as escapes: data comes from strangers.
func visible(text string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > most {
			b.WriteString("…")
			break
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, `\u%04x`, r)
	}
	return b.String()
}

// keyText is the key without the table, which has a column of its own.
func keyText(it *mapper.Item) string {
	return visible(strings.TrimPrefix(string(it.Key), it.Stream+":"), maxName)
}

// describe is the rest of an item's line.
func describe(it *mapper.Item) string {
	if d := it.DeadLetter; d != nil {
		return visible(d.Reason+": "+d.Error, maxPayload)
	}
	if it.Payload == nil {
		return "(no value: tombstone)"
	}
	payload := it.Payload.AppendJSON(nil)
	if it.Kind == mapper.KindEvent {
		return strings.TrimLeft(visible(string(it.Type), maxName)+" "+value(payload, maxPayload), " ")
	}
	if text, ok := row(payload); ok {
		return text
	}
	return value(payload, maxPayload)
}

// value is JSON text on one line.
func value(raw []byte, most int) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return visible(string(raw), most)
	}
	return visible(b.String(), most)
}

// member is a member of a JSON object, in its order.
type member struct {
	name  string
	value json.RawMessage
}

// members reads an object; false: raw is none.
func members(raw []byte) ([]member, bool) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	var all []member
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false
		}
		m := member{name: name.(string)}
		if err := d.Decode(&m.value); err != nil {
			return nil, false
		}
		all = append(all, m)
	}
	return all, true
}

func find(all []member, name string) (json.RawMessage, bool) {
	for _, m := range all {
		if m.name == name {
			return m.value, true
		}
	}
	return nil, false
}

// row describes the envelope of a row change: the fields that an update changed,
// else those of the row. false: the payload is no such envelope.
func row(payload []byte) (string, bool) {
	envelope, ok := members(payload)
	if _, has := find(envelope, "op"); !ok || !has {
		return "", false
	}
	was, _ := find(envelope, "before")
	is, _ := find(envelope, "after")
	before, hadRow := members(was)
	after, hasRow := members(is)
	parts := fields(before, after, hadRow && hasRow)
	if !hasRow {
		parts = fields(nil, before, false)
	}
	for _, key := range []string{"new_key", "old_key", "unchanged"} {
		if v, has := find(envelope, key); has && string(v) != "null" && string(v) != "[]" {
			parts = append(parts, "("+strings.ReplaceAll(key, "_", " ")+" "+value(v, maxValue)+")")
		}
	}
	return strings.Join(parts, " "), true
}

// fields lists the fields of a row, of an update those that differ from before.
func fields(before, after []member, update bool) []string {
	var parts []string
	for _, m := range after {
		old, had := find(before, m.name)
		switch {
		case !update || !had:
			parts = append(parts, visible(m.name, maxName)+"="+value(m.value, maxValue))
		case !bytes.Equal(old, m.value):
			parts = append(parts, visible(m.name, maxName)+": "+value(old, maxValue)+" → "+value(m.value, maxValue))
		}
	}
	if update && len(parts) == 0 {
		return []string{"(nothing changed)"}
	}
	return parts
}
