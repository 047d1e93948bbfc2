package kafka

import (
	"slices"
	"strconv"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// maxLetterText bounds each text of a letter whose record is too large for the topic
// of the dead letters, too.
const maxLetterText = 1000

// addLetters puts dead letters among those that the batch holds, in the order of the
// log.
func (w *writing) addLetters(name string, bad []poison) {
	type letter struct {
		id   lsn.ID
		time int64
		body []byte
	}
	t := w.b.topic(name)
	var all []letter
	for _, l := range t.lanes {
		for r := range l.records {
			if p, err := recordbatch.Parse(r.Body); err == nil {
				all = append(all, letter{idOf(p), r.Time, slices.Clone(r.Body)})
			}
		}
	}
	for _, p := range bad {
		all = append(all, letter{p.id, nowMs(), w.letter(p, t)})
	}
	slices.SortStableFunc(all, func(a, b letter) int { return a.id.Compare(b.id) })
	t.clear()
	t.prepare(w.s.table.get(name))
	for _, l := range all {
		if p, err := recordbatch.Parse(l.body); err == nil {
			t.add(l.time, p.Key, l.body, false, func(place) {})
		}
	}
}

// letter makes the dead letter of an item that cannot be stored: value and headers are
// the item's own, its key is a header. One that is itself too large for its topic keeps
// what names it, and how large it was.
func (w *writing) letter(p poison, to *topicBatch) []byte {
	item, err := recordbatch.Parse(p.body)
	if err != nil {
		return p.body // made by us, so it is whole
	}
	whole := p.topic != to
	body := w.oneLetter(p, item, whole)
	if whole && len(body)+recordbatch.HeaderSize+recordbatch.MaxRecord(0) > to.maxBytes {
		body = w.oneLetter(p, item, false)
	}
	return body
}

func (w *writing) oneLetter(p poison, item recordbatch.Parsed, whole bool) []byte {
	var b recordbatch.Body
	value := item.Value
	if !whole {
		value = nil
	}
	b.BeginBytes(p.id.Append(nil), value)
	for h := range item.Headers {
		if whole || kept(h) {
			b.HeaderBytes(h.Name, h.Value)
		}
	}
	b.HeaderText(headerReplayable, strconv.FormatBool(whole))
	if p.topic.name != w.s.cfg.deadLetterTopic(w.s.bridge()) {
		b.HeaderText(headerReason, p.reason)
		b.HeaderText(headerError, p.err.Error())
		b.HeaderText(headerStream, p.topic.name)
		if key := item.Key; key != nil && (whole || len(key) <= maxLetterText) {
			b.Header(headerKey, key)
		}
	}
	if !whole {
		b.HeaderText(headerSize, strconv.Itoa(len(item.Value)))
	}
	return slices.Clone(b.End())
}

// kept reports whether a header belongs to what names a record, and is no giant.
func kept(h recordbatch.Header) bool {
	if len(h.Value) > maxLetterText {
		return false
	}
	switch string(h.Name) {
	case headerID, headerSource, headerXid, headerCommitted, headerReason, headerError, headerStream, "id", "type":
		return true
	}
	return false
}
