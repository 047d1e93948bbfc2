package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// Remap maps the change of a dead letter by today's routes.
type Remap func(raw []byte) ([]mapper.Item, error)

// Replay stores the items of a dead letter, with their old ids, and closes the letter,
// in one transaction; with delivery at_least_once the items first. What could not be
// mapped is mapped by remap; what a topic had refused is stored as it was mapped. It
// comes behind later items of its key that were delivered meanwhile. With trial nothing
// is stored. It returns the number of items.
//
// Errors: ErrNoLetter; *fault.ConfigError when the letter is closed, cannot be replayed,
// or fails again, with the reason; fault.ErrFenced: somebody else closes letters at the
// same time; others: List shows whether it was done.
func (l *Letters) Replay(ctx context.Context, id lsn.ID, remap Remap, note string, trial bool) (items int, err error) {
	if err := l.take(ctx, trial); err != nil {
		return 0, err
	}
	letter, err := l.Show(ctx, id)
	if err != nil {
		return 0, err
	}
	b := newBatch(&l.s.cfg, &l.s.table, l.s.bridge)
	if err := l.fill(b, letter, remap); err != nil {
		return 0, err
	}
	if trial {
		return b.count, nil
	}
	return b.count, operation("replay the dead letter "+id.String(), l.write(ctx, b, []lsn.ID{id}, Replayed, note))
}

// fill puts the items of a letter into the batch.
func (l *Letters) fill(b *batch, letter Letter, remap Remap) error {
	switch {
	case letter.Resolution != "":
		return refusedLetter(letter.ID, "it is closed: "+letter.Resolution, "")
	case !letter.Replayable:
		return refusedLetter(letter.ID, "it was not kept whole, so it cannot be replayed", "walbridge dlq discard "+letter.ID.String())
	case letter.Unmapped:
		return remapInto(b, letter, remap)
	}
	var body recordbatch.Body
	body.BeginBytes(letter.Key, letter.Value)
	for _, h := range letter.Headers {
		body.HeaderText(h.Name, h.Value)
	}
	b.name = l.s.bridge()
	b.add(b.topic(letter.Stream), letter.CommittedAt.UnixMilli(), body.End(), letter.Key, false)
	return nil
}

func remapInto(b *batch, letter Letter, remap Remap) error {
	items, err := remap(letter.Value)
	if err != nil {
		return fmt.Errorf("map the dead letter %s: %w", letter.ID, err)
	}
	for i := range items {
		if d := items[i].DeadLetter; d != nil {
			return refusedLetter(letter.ID, "it still cannot be mapped: "+d.Reason+": "+d.Error, "mend the cause, or walbridge dlq discard "+letter.ID.String())
		}
	}
	b.Append(items)
	return nil
}

func refusedLetter(id lsn.ID, what, fix string) error {
	return fault.Config(fault.Problem{Check: "dlq-replay", Where: "dead letter " + id.String(), What: what, Fix: fix})
}

// Discard closes dead letters that are open, all or none, and returns how many that
// were. Errors as those of Replay.
func (l *Letters) Discard(ctx context.Context, ids []lsn.ID, note string) (int, error) {
	if err := l.take(ctx, false); err != nil {
		return 0, err
	}
	all, err := l.read(ctx, func(lsn.ID) bool { return false })
	if err != nil {
		return 0, err
	}
	closed := map[lsn.ID]bool{}
	for _, one := range all {
		closed[one.ID] = one.Resolution != ""
	}
	var open []lsn.ID
	for _, id := range ids {
		was, known := closed[id]
		if !known {
			return 0, fmt.Errorf("dead letter %s: %w", id, ErrNoLetter)
		}
		if !was {
			closed[id] = true // named twice
			open = append(open, id)
		}
	}
	if len(open) == 0 {
		return 0, nil
	}
	return len(open), operation("discard dead letters", l.write(ctx, newBatch(&l.s.cfg, &l.s.table, l.s.bridge), open, Discarded, note))
}

// take shuts out whoever else closes letters of the bridge, and ends what they have
// begun: then what is read is what is so. Without transactions nobody is shut out.
func (l *Letters) take(ctx context.Context, trial bool) error {
	if trial {
		return nil
	}
	return operation("take the identity for closing dead letters", l.s.refused(l.s.producer.take(ctx), ""))
}

// write stores a batch and the tombstones of the letters that it closes.
func (l *Letters) write(ctx context.Context, b *batch, closes []lsn.ID, resolution, note string) error {
	s := l.s
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.WriteTimeout, fmt.Errorf("the write took longer than sink.write_timeout (%s)", s.cfg.WriteTimeout))
	defer cancel()
	s.src.OnPoison = func(p sink.Poison) error {
		return refusedLetter(p.ID, p.Stream+" still refuses it: "+p.Err.Error(), "mend the cause, or walbridge dlq discard "+p.ID.String())
	}
	w := &writing{s: s, b: b, told: map[lsn.ID]bool{}}
	if err := w.prepare(ctx); err != nil {
		var stopped *stoppedError
		if errors.As(err, &stopped) {
			return stopped.err
		}
		return err
	}
	last, err := l.tombstones(closes, resolution, note)
	if err != nil {
		return err
	}
	err = w.store(ctx, last)
	if is(err, kafka.ProducerFenced, kafka.InvalidProducerEpoch) {
		return fmt.Errorf("%w: somebody else closes dead letters of this bridge at the same time: %w", fault.ErrFenced, err)
	}
	return s.refusedTopic(err)
}

// tombstones are the records that close letters, a part for each partition.
func (l *Letters) tombstones(ids []lsn.ID, resolution, note string) ([]*part, error) {
	plain, err := recordbatch.NewCompressor("none")
	if err != nil {
		return nil, err
	}
	byPartition := map[int32]*part{}
	var parts []*part
	for _, id := range ids {
		key := id.Append(nil)
		at := partition{l.topic, int32(recordbatch.Partition(key, l.s.table.get(l.topic).partitions))}
		p := byPartition[at.id]
		if p == nil {
			p = &part{partition: at, segment: &segment{}}
			byPartition[at.id] = p
			parts = append(parts, p)
		}
		var body recordbatch.Body
		body.Begin(key, nil)
		body.HeaderText(headerResolution, resolution)
		if note != "" {
			body.HeaderText(headerNote, note)
		}
		p.segment.Append(nowMs(), body.End())
		p.records++
	}
	for _, p := range parts {
		p.segment.closed, p.segment.out = p.segment.Close(plain, nil)
		p.closed = p.segment.closed
	}
	return parts, nil
}
