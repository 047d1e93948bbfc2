package kafka

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

// markersWithin is how long a transaction that has ended may lack a marker in one of
// its partitions. The coordinator writes them within milliseconds while the
// partitions have leaders.
const markersWithin = 5 * time.Second

// extent is where the records of a committed transaction end in a partition.
type extent struct {
	partition
	last   int64 // offset of the last record
	by     int64 // the producer
	leader int32 // who stored it, and
	epoch  int32 // since when it leads
}

// ledOtherwise reports whether a partition of the last committed transaction has
// changed its leader since: the moment at which markers can be lost.
func ledOtherwise(l layout, extents []extent) bool {
	for _, e := range extents {
		if leader, epoch := l.leader(e.topic, e.id); leader != e.leader || epoch != e.epoch {
			return true
		}
	}
	return false
}

// checkMarkers makes sure that the last transaction that is known to be committed has
// its markers everywhere. Where one is lost, it is written by an empty transaction
// over the same partitions: its commit commits what hangs there, which is right
// because that was committed. When that does not help either, it is a halt.
func (s *Sink) checkMarkers(ctx context.Context) error {
	if len(s.committed) == 0 || s.producer.transactional == "" {
		return nil
	}
	l, err := s.client.layout(ctx)
	if err != nil {
		return err
	}
	s.committed = slices.DeleteFunc(s.committed, func(e extent) bool { return l.gone(e.partition) })
	lost, err := s.await(ctx, s.committed)
	if err != nil || lost == nil {
		return err
	}
	s.log.Warn("the marker of a committed transaction is lost (KAFKA-20734), writing it again", "partition", lost.partition.String(), "offset", lost.last)
	all := make([]partition, len(s.committed))
	for i, e := range s.committed {
		all[i] = e.partition
	}
	if err := s.producer.add(ctx, all); err != nil {
		return err
	}
	if err := s.producer.commit(ctx); err != nil {
		return err
	}
	if lost, err = s.await(ctx, s.committed); err != nil || lost == nil {
		return err
	}
	return s.hanging(lost.topic, lost.id, lost.last)
}

// await waits until all extents have their markers. It returns one that has not got it
// in time. Mostly the stable offset says so; where somebody else's open transaction
// holds it back, the marker is looked for.
func (s *Sink) await(ctx context.Context, extents []extent) (*extent, error) {
	within, cancel := context.WithTimeout(ctx, s.tune.markersWithin)
	defer cancel()
	wait := newTries(time.Millisecond, 200*time.Millisecond)
	for left := slices.Clone(extents); ; {
		var err error
		if left, err = s.client.behind(ctx, left); err == nil {
			left, err = s.client.unmarked(ctx, left)
		}
		if len(left) == 0 {
			return nil, nil
		}
		if err != nil {
			s.client.renew()
		}
		if wait.wait(within) != nil {
			return &left[0], err
		}
	}
}

// behind returns the extents that the stable offsets have not passed. An error is that
// of one of them.
func (c *client) behind(ctx context.Context, extents []extent) (left []extent, err error) {
	ctx, cancel := c.call(ctx)
	defer cancel()
	req := &kafka.ListOffsetsRequest{IsolationLevel: kafka.ReadCommitted, Topics: map[string][]kafka.OffsetRequest{}}
	for _, e := range extents {
		req.Topics[e.topic] = append(req.Topics[e.topic], kafka.LastOffsetOf(int(e.id)))
	}
	r, err := c.api.ListOffsets(ctx, req)
	if err != nil {
		return extents, fmt.Errorf("ask for stable offsets: %w", err)
	}
	answers := map[partition]kafka.PartitionOffsets{}
	for topic, all := range r.Topics {
		for _, o := range all {
			answers[partition{topic, int32(o.Partition)}] = o
		}
	}
	for _, e := range extents {
		o, answered := answers[e.partition]
		switch {
		case !answered:
			err = fmt.Errorf("ask for the stable offset of %s: no answer", e.partition)
		case o.Error != nil:
			err = fmt.Errorf("ask for the stable offset of %s: %w", e.partition, o.Error)
		case o.LastOffset > e.last:
			continue
		}
		left = append(left, e)
	}
	return left, err
}

// unmarked returns the extents behind which there is no marker of their producer.
func (c *client) unmarked(ctx context.Context, extents []extent) (left []extent, err error) {
	for i, e := range extents {
		found, err := c.marked(ctx, e)
		if err != nil {
			return append(left, extents[i:]...), err
		}
		if !found {
			left = append(left, e)
		}
	}
	return left, nil
}

// settled reads the position, and waits until no record of ours is in a transaction
// that has not ended: after the identity was taken, all have, unless a marker is lost.
func (s *Sink) settled(ctx context.Context) (stored, error) {
	within, cancel := context.WithTimeout(ctx, s.tune.markersWithin)
	defer cancel()
	wait := newTries(2*time.Millisecond, 200*time.Millisecond)
	name := s.bridge()
	for {
		p, err := s.client.readProgress(ctx, s.cfg.ProgressTopic, name, s.progressPartitions())
		if err != nil {
			return stored{}, err
		}
		// Without transactions nothing was ended: what is open is that of a process which
		// wrote in some, and which the brokers give up by themselves.
		if p.open < 0 || s.producer.transactional == "" {
			return p, nil
		}
		if wait.wait(within) != nil {
			if ctx.Err() != nil {
				return stored{}, context.Cause(ctx)
			}
			at := progressPartition(s.cfg.ProgressTopic, name, s.progressPartitions())
			return stored{}, s.hanging(at.topic, at.id, p.open)
		}
	}
}
