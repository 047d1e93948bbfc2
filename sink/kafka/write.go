package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// MaxCursors bounds lsn.Progress.Cursors, in bytes.
const MaxCursors = 64 << 10

var (
	errNotOpen = errors.New("not open: Open comes before Write, and after each error of it")
	errForeign = errors.New("the batch is not of this sink, or was filled for another bridge")
)

// Write makes the batch and the position durable within sink.write_timeout: in one
// transaction, or with delivery at_least_once the batch first and the position behind
// it. After any error the next call is an Open. Errors as package sink has them.
func (s *Sink) Write(ctx context.Context, b sink.Batch, to lsn.Progress) error {
	if s.fenced {
		return fault.ErrFenced
	}
	if !s.opened {
		return errNotOpen
	}
	err := s.write(ctx, b, to)
	if err == nil {
		s.n++
		s.last = to
		return nil
	}
	s.opened = false
	if s.fenced = errors.Is(err, fault.ErrFenced); s.fenced {
		s.producer.forget()
		s.committed = nil
	}
	var stopped *stoppedError
	if errors.As(err, &stopped) {
		return stopped.err
	}
	return operation("write to Kafka", err)
}

// stoppedError is what OnPoison returned: the caller gets it as it is.
type stoppedError struct{ err error }

func (e *stoppedError) Error() string { return e.err.Error() }

func (s *Sink) write(ctx context.Context, b sink.Batch, to lsn.Progress) error {
	ours, is := b.(*batch)
	if !is || ours.count > 0 && (ours.name != s.src.Name || ours.table != &s.table) {
		return errForeign
	}
	if err := s.follows(to); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.WriteTimeout,
		fmt.Errorf("the write took longer than sink.write_timeout (%s)", s.cfg.WriteTimeout))
	defer cancel()
	if err := s.beforeWrite(ctx); err != nil {
		return err
	}
	w := &writing{s: s, b: ours, to: to, told: map[lsn.ID]bool{}}
	if err := w.run(ctx); err != nil {
		if ctx.Err() != nil && !final(err) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return err
	}
	return nil
}

// follows refuses a position that does not lie after the stored one, and cursors that
// are too large.
func (s *Sink) follows(to lsn.Progress) error {
	if len(to.Cursors) > MaxCursors {
		return fmt.Errorf("cursors of %d bytes: at most %d are stored", len(to.Cursors), MaxCursors)
	}
	if s.n == 0 || s.last.Position.Before(to.Position) || to.Timeline > s.last.Timeline {
		return nil
	}
	return fmt.Errorf("position %s on timeline %d does not lie after the stored one, %s on timeline %d",
		to.Position, to.Timeline, s.last.Position, s.last.Timeline)
}

// beforeWrite looks at what has changed in the cluster since the last write.
func (s *Sink) beforeWrite(ctx context.Context) error {
	s.client.renewOld()
	l, err := s.client.layout(ctx)
	if err != nil {
		return err
	}
	if l.Response == s.layout.Response {
		return nil
	}
	s.grown(l)
	if ledOtherwise(l, s.committed) {
		if err := s.checkMarkers(ctx); err != nil {
			return s.refusedTopic(err)
		}
		for i := range s.committed {
			e := &s.committed[i]
			e.leader, e.epoch = l.leader(e.topic, e.id)
		}
	}
	s.layout = l
	return nil
}

// grown notices topics that have more partitions than before: their keys move, so that
// of one key newer records may be read before older ones.
func (s *Sink) grown(l layout) {
	for i := range l.Topics {
		t := &l.Topics[i]
		info := s.table.get(t.Name)
		if info == nil || t.ErrorCode != 0 || !led(t) || len(t.Partitions) == info.partitions {
			continue
		}
		s.log.Warn("the number of partitions has changed: keys move to others, and their order across the change is not kept",
			"topic", t.Name, "before", info.partitions, "now", len(t.Partitions))
		next := *info
		next.partitions = len(t.Partitions)
		s.table.put(t.Name, &next)
	}
}

// writing is one Write.
type writing struct {
	s    *Sink
	b    *batch
	to   lsn.Progress
	told map[lsn.ID]bool // items that OnPoison was told of
	// clamp: the brokers' clock refuses times that ours allows.
	clamp bool
	// asked: the settings of topics with records that are too large were asked for anew.
	asked bool
}

// maxRepairs bounds how often a batch is mended after a refusal.
const maxRepairs = 8

// run tries until the batch is stored. It tries again only after a refusal that it can
// mend, and when all that the brokers have of the try is known to be gone.
func (w *writing) run(ctx context.Context) error {
	for try := 0; ; try++ {
		if err := w.prepare(ctx); err != nil {
			return err
		}
		err := w.attempt(ctx)
		if err == nil {
			return nil
		}
		mended, err := w.after(ctx, err)
		if !mended || try == maxRepairs {
			return err
		}
	}
}

// attempt stores the batch as it is.
func (w *writing) attempt(ctx context.Context) error {
	if err := w.s.reach(ctx, stageBegin); err != nil {
		return err
	}
	position, err := w.position()
	if err != nil {
		return err
	}
	return w.store(ctx, []*part{position})
}

// store stores the batch and parts that come with it: in one transaction, or with
// delivery at_least_once behind it.
func (w *writing) store(ctx context.Context, last []*part) error {
	rounds := w.b.rounds()
	if w.s.producer.transactional == "" {
		return w.inOrder(ctx, rounds, last)
	}
	if len(rounds) == 0 {
		rounds = make([][]*part, 1)
	}
	rounds[0] = append(rounds[0], last...)
	return w.transaction(ctx, rounds)
}

// transaction stores all rounds in one transaction.
func (w *writing) transaction(ctx context.Context, rounds [][]*part) error {
	s := w.s
	all := make([]partition, len(rounds[0])) // later rounds have no other partitions
	for i, p := range rounds[0] {
		all[i] = p.partition
	}
	if err := s.producer.add(ctx, all); err != nil {
		return err
	}
	if err := s.reach(ctx, stageAdd); err != nil {
		return err
	}
	send := &sender{client: s.client, transactional: s.producer.transactional}
	for _, parts := range rounds {
		s.producer.stampAll(parts)
		if err := send.send(ctx, parts); err != nil {
			return err
		}
	}
	if err := s.reach(ctx, stageProduce); err != nil {
		return err
	}
	if err := s.producer.commit(ctx); err != nil {
		return err
	}
	s.committed = extents(rounds, s.producer.id)
	return s.reach(ctx, stageAck)
}

// extents are where the records of rounds end.
func extents(rounds [][]*part, by int64) []extent {
	all := make([]extent, 0, len(rounds[0]))
	at := map[partition]int{}
	for _, parts := range rounds {
		for _, p := range parts {
			i, known := at[p.partition]
			if !known {
				i = len(all)
				at[p.partition] = i
				all = append(all, extent{partition: p.partition, by: by})
			}
			all[i].last, all[i].leader, all[i].epoch = p.base+int64(p.records)-1, p.leader, p.epoch
		}
	}
	return all
}

// inOrder stores the records, and then what comes behind them.
func (w *writing) inOrder(ctx context.Context, rounds [][]*part, last []*part) error {
	s := w.s
	send := &sender{client: s.client, persist: true}
	for _, parts := range rounds {
		s.producer.stampAll(parts)
		if err := send.send(ctx, parts); err != nil {
			return err
		}
	}
	if err := s.reach(ctx, stageProduce); err != nil {
		return err
	}
	s.producer.stampAll(last)
	if err := send.send(ctx, last); err != nil {
		return err
	}
	return s.reach(ctx, stageAck)
}

func (p *producer) stampAll(parts []*part) {
	for _, part := range parts {
		p.stamp(part.partition, part.closed, part.records)
	}
}

// position is the batch of the position record.
func (w *writing) position() (*part, error) {
	name := w.s.bridge()
	text, err := encodePosition(name, w.s.n+1, w.s.progressPartitions(), w.to)
	if err != nil {
		return nil, fmt.Errorf("encode the position: %w", err)
	}
	plain, err := recordbatch.NewCompressor("none")
	if err != nil {
		return nil, err
	}
	var body recordbatch.Body
	seg := &segment{}
	body.BeginBytes([]byte(name), text)
	seg.Append(nowMs(), body.End())
	seg.closed, _ = seg.Close(plain, nil)
	at := progressPartition(w.s.cfg.ProgressTopic, name, w.s.progressPartitions())
	return &part{partition: at, segment: seg, records: 1, closed: seg.closed}, nil
}

// rounds are the parts of a batch: in a round each partition has one at most.
func (b *batch) rounds() [][]*part {
	var rounds [][]*part
	for _, t := range b.topics {
		if !t.used {
			continue
		}
		for _, l := range t.lanes {
			n := 0
			for _, seg := range l.segments[:l.used] {
				if seg.Count() == 0 {
					continue
				}
				if n == len(rounds) {
					rounds = append(rounds, nil)
				}
				rounds[n] = append(rounds[n], &part{partition: partition{t.name, l.partition}, segment: seg, records: seg.Count(), closed: seg.closed})
				n++
			}
		}
	}
	return rounds
}
