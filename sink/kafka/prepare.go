package kafka

import (
	"context"
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// The reasons of dead letters that are made here, beside those of topics.
const (
	reasonTooLarge = "record_too_large"
	reasonNoKey    = "key_missing"
	reasonRefused  = "record_refused"
)

// poison is an item that can never be stored as it is.
type poison struct {
	id     lsn.ID
	topic  *topicBatch
	reason string
	err    error
	body   []byte // a copy
}

func (w *writing) poison(t *topicBatch, r recordbatch.Record, reason string, err error) poison {
	p := poison{topic: t, reason: reason, err: err, body: slices.Clone(r.Body)}
	if parsed, err := recordbatch.Parse(r.Body); err == nil {
		p.id = idOf(parsed)
	}
	return p
}

// prepare makes every segment of the batch one that its topic takes: places what was
// not placed, finds what can never be stored, and compresses.
func (w *writing) prepare(ctx context.Context) error {
	if w.b.count == 0 {
		return nil
	}
	bad, err := w.place(ctx)
	if err != nil {
		return err
	}
	bad = append(bad, w.unkeyed()...)
	if err := w.bury(bad); err != nil {
		return err
	}
	w.setTimes()
	for try := 0; ; try++ {
		// What is too large becomes a letter, which has to be closed as well.
		bad = w.closeAll()
		if len(bad) == 0 {
			return nil
		}
		if try > maxRepairs {
			return w.s.unwritable(bad[0])
		}
		if !w.asked {
			w.asked = true
			if err := w.askAnew(ctx, bad); err != nil {
				return err
			}
			continue
		}
		if err := w.bury(bad); err != nil {
			return err
		}
	}
}

// place finds the topics and gives each record its partition.
func (w *writing) place(ctx context.Context) (bad []poison, err error) {
	var names []string
	for _, t := range w.b.topics {
		if t.used {
			names = append(names, t.name)
		}
	}
	lacks, err := w.s.topics.ensure(ctx, names, w.fixed)
	if err != nil {
		return nil, w.s.refusedTopic(err)
	}
	var halts []lack
	for _, l := range lacks {
		if w.fixed(l.name) {
			halts = append(halts, l)
			continue
		}
		t := w.b.byName[l.name]
		for _, lane := range t.lanes {
			for r := range lane.records {
				bad = append(bad, w.poison(t, r, l.reason, l.err))
			}
		}
	}
	if len(halts) > 0 {
		return nil, w.s.lacking(halts)
	}
	for _, t := range w.b.topics {
		if info := w.s.table.get(t.name); t.used && info != nil && !fits(t, info) {
			w.b.change = nil
			t.rebuild(info, func(r recordbatch.Record) (recordbatch.Record, bool) { return r, true })
		}
	}
	return bad, nil
}

// fixed reports whether the configuration names the topic: as a stream of it, as that
// of a table, or as our own.
func (w *writing) fixed(name string) bool {
	t := w.b.byName[name]
	return t != nil && t.fixed || slices.Contains(w.s.cfg.Streams, name) || name == w.s.cfg.deadLetterTopic(w.s.bridge())
}

// fits reports whether the records lie as the topic takes them. A topic that has more
// partitions now takes them where they are.
func fits(t *topicBatch, info *topicInfo) bool {
	return t.info != nil && len(t.lanes) <= info.partitions && info.maxBytes >= t.maxBytes
}

// unkeyed finds records without a key for compacted topics, which refuse them.
func (w *writing) unkeyed() (bad []poison) {
	for _, t := range w.b.topics {
		if !t.used || t.info == nil || !t.info.compacted {
			continue
		}
		for _, l := range t.lanes {
			for r := range l.records {
				if p, err := recordbatch.Parse(r.Body); err == nil && p.Key == nil {
					bad = append(bad, w.poison(t, r, reasonNoKey, fmt.Errorf("topic %s is compacted and takes no record without a key", t.name)))
				}
			}
		}
	}
	return bad
}

// setTimes moves times that the brokers would refuse, which is said: the commit's own
// time is in a header.
func (w *writing) setTimes() {
	now := nowMs()
	for _, t := range w.b.topics {
		if !t.used || t.info == nil {
			continue
		}
		early, late := now-t.info.behind, now+t.info.ahead
		if early > now { // behind is unlimited
			early = -1 << 62
		}
		if w.clamp {
			late = now
		}
		if !outside(t, early, late) {
			continue
		}
		w.s.log.Warn("records have times that the topic refuses; they are stored with the nearest that it takes", "topic", t.name)
		w.b.change = nil
		t.rebuild(t.info, func(r recordbatch.Record) (recordbatch.Record, bool) {
			r.Time = min(max(r.Time, early), late)
			return r, true
		})
	}
}

// outside reports whether a record's time lies outside of what the topic takes. Almost
// always the latest times say enough.
func outside(t *topicBatch, early, late int64) bool {
	for _, l := range t.lanes {
		for _, seg := range l.segments[:l.used] {
			if seg.Count() > 0 && seg.Latest() > late {
				return true
			}
		}
		if early < 0 {
			continue
		}
		for r := range l.records {
			if r.Time < early {
				return true
			}
		}
	}
	return false
}

// closeAll closes what is open and returns the records that are too large.
func (w *writing) closeAll() (bad []poison) {
	for _, t := range w.b.topics {
		if !t.used {
			continue
		}
		for _, l := range t.lanes {
			for _, seg := range l.segments[:l.used] {
				if seg.Count() == 0 || seg.closed != nil {
					continue
				}
				seg.closed, seg.out = seg.Close(w.s.compressor, seg.out)
				if size := len(seg.closed) - recordbatch.Prefix; size > t.maxBytes {
					seg.closed = nil
					bad = append(bad, w.tooLarge(t, seg, size)...)
				}
			}
		}
	}
	return bad
}

// askAnew looks whether topics take larger records by now than when they were first
// used.
func (w *writing) askAnew(ctx context.Context, bad []poison) error {
	asked := map[*topicBatch]bool{}
	for _, p := range bad {
		if asked[p.topic] {
			continue
		}
		asked[p.topic] = true
		if err := w.s.topics.relearn(ctx, p.topic.name); err != nil {
			return err
		}
		if info := w.s.table.get(p.topic.name); info != nil {
			p.topic.info, p.topic.maxBytes = info, info.maxBytes
		}
	}
	return nil
}

// tooLarge makes poison of a segment above the topic's limit: it has one record, as
// others are cut before.
func (w *writing) tooLarge(t *topicBatch, seg *segment, size int) (bad []poison) {
	for r := range seg.Records {
		key := "no key"
		if p, err := recordbatch.Parse(r.Body); err == nil && p.Key != nil {
			key = fmt.Sprintf("key %.100q", p.Key)
		}
		bad = append(bad, w.poison(t, r, reasonTooLarge,
			fmt.Errorf("topic %s, %s: %d bytes, the topic takes %d (max.message.bytes)", t.name, key, size, t.maxBytes)))
	}
	return bad
}

// bury tells of items that can never be stored, in their order, and then puts a dead
// letter in the place of each. An error of OnPoison leaves the batch as it is.
func (w *writing) bury(bad []poison) error {
	if len(bad) == 0 {
		return nil
	}
	slices.SortStableFunc(bad, func(a, b poison) int { return a.id.Compare(b.id) })
	letters := w.s.cfg.deadLetterTopic(w.s.bridge())
	for _, p := range bad {
		if p.topic.name == letters || w.told[p.id] || w.s.src.OnPoison == nil {
			continue
		}
		w.told[p.id] = true
		if err := w.s.src.OnPoison(sink.Poison{ID: p.id, Stream: p.topic.name, Reason: p.reason, Err: p.err}); err != nil {
			return &stoppedError{err}
		}
	}
	w.b.change = nil
	w.remove(bad)
	w.addLetters(letters, bad)
	return nil
}

// remove takes records out of their topics.
func (w *writing) remove(bad []poison) {
	gone := map[*topicBatch]map[lsn.ID]bool{}
	for _, p := range bad {
		if gone[p.topic] == nil {
			gone[p.topic] = map[lsn.ID]bool{}
		}
		gone[p.topic][p.id] = true
	}
	for t, ids := range gone {
		t.rebuild(t.info, func(r recordbatch.Record) (recordbatch.Record, bool) {
			p, err := recordbatch.Parse(r.Body)
			return r, err == nil && !ids[idOf(p)]
		})
		if empty(t) {
			t.clear()
		}
	}
}

func empty(t *topicBatch) bool {
	for _, l := range t.lanes {
		if l.count() > 0 {
			return false
		}
	}
	return true
}
