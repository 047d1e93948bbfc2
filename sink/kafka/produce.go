package kafka

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
)

// part is one batch on its way to one partition.
type part struct {
	partition
	segment *segment
	records int
	closed  []byte

	leader int32 // of the request that was answered last
	epoch  int32
	base   int64 // the offset of its first record, once it is stored
	stored bool
	err    error                   // what the broker said last, nil when nothing
	bad    []produce.ResponseError // records that it names
}

// sender sends parts, one request for each broker at a time.
type sender struct {
	client        *client
	transactional string
	// persist: an answer that never came is no reason to stop: the same bytes are sent
	// again, which an idempotent producer may.
	persist bool
}

// unknownFor is how long a topic may be unknown to a broker that was said to lead it:
// just made, it is for a while; longer, it was deleted.
const unknownFor = 5 * time.Second

// send stores all parts, of which no two are of one partition. Requests of one
// transaction to one broker that run at once are refused, and a partition twice in
// one request loses a batch without an error: so each broker gets one request, with
// each partition once. What is refused for sure is sent again, the same bytes. The
// error is the first that is final; parts say what became of each.
func (s *sender) send(ctx context.Context, parts []*part) error {
	wait := newTries(2*time.Millisecond, 250*time.Millisecond)
	start := time.Now()
	for {
		left, err := s.round(ctx, parts)
		if err != nil || len(left) == 0 {
			return err
		}
		if is(left[0].err, kafka.UnknownTopicOrPartition) && time.Since(start) > s.client.unknownFor {
			return left[0].failed()
		}
		parts = left
		s.client.renew()
		if wait.wait(ctx) != nil {
			return left[0].failed()
		}
	}
}

func (p *part) failed() error {
	return &partitionError{p.partition, &partError{p, fmt.Errorf("store records: %w", p.err)}}
}

// partError is what a broker said about one part.
type partError struct {
	part *part
	err  error
}

// Error is what the broker said.
func (e *partError) Error() string { return e.err.Error() }

// Unwrap returns it.
func (e *partError) Unwrap() error { return e.err }

// round sends each part once and returns those to be sent again.
func (s *sender) round(ctx context.Context, parts []*part) (left []*part, err error) {
	l, err := s.client.layout(ctx)
	if err != nil {
		return s.waiting(parts, err)
	}
	groups := map[int32][]*part{}
	for _, p := range parts {
		p.leader, p.epoch = l.leader(p.topic, p.id)
		if p.leader < 0 {
			p.err = kafka.LeaderNotAvailable
			left = append(left, p)
			continue
		}
		groups[p.leader] = append(groups[p.leader], p)
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(groups))
	for _, group := range groups {
		wg.Go(func() { errs <- s.request(ctx, group) })
	}
	wg.Wait()
	close(errs)
	for e := range errs {
		err = cmp.Or(err, e)
	}
	if err != nil && !(s.persist && ctx.Err() == nil) {
		return nil, err
	}
	for _, p := range parts {
		switch {
		case p.stored || p.leader < 0:
		case moved(p.err) || s.persist && unanswered(p.err):
			left = append(left, p)
		default:
			return nil, p.failed()
		}
	}
	return left, nil
}

// waiting is all parts again, where that is allowed.
func (s *sender) waiting(parts []*part, err error) ([]*part, error) {
	if !s.persist {
		return nil, err
	}
	for _, p := range parts {
		p.err = err
	}
	return parts, nil
}

// unanswered reports whether an error is no broker's word about a partition.
func unanswered(err error) bool {
	var code kafka.Error
	return err != nil && (!errors.As(err, &code) || is(err, kafka.RequestTimedOut, kafka.NotEnoughReplicasAfterAppend))
}

// request sends one request to one broker and writes the answers into the parts. The
// error is for a request without an answer, of which nobody knows what became.
func (s *sender) request(ctx context.Context, parts []*part) error {
	for _, p := range parts {
		p.err = nil
	}
	m, err := s.client.roundTrip(ctx, s.encode(ctx, parts))
	if err != nil {
		for _, p := range parts {
			p.err = err
		}
		if local(err) {
			return nil
		}
		return fmt.Errorf("store records: %w", err)
	}
	return match(parts, m.(*produce.Response))
}

func (s *sender) encode(ctx context.Context, parts []*part) *rawproduce.Request {
	slices.SortFunc(parts, func(a, b *part) int {
		return cmp.Or(strings.Compare(a.topic, b.topic), cmp.Compare(a.id, b.id))
	})
	timeout := s.client.timeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	req := &rawproduce.Request{TransactionalID: s.transactional, Acks: int16(kafka.RequireAll), Timeout: int32(max(timeout.Milliseconds(), 1))}
	for _, p := range parts {
		n := len(req.Topics)
		if n == 0 || req.Topics[n-1].Topic != p.topic {
			req.Topics = append(req.Topics, rawproduce.RequestTopic{Topic: p.topic})
			n++
		}
		t := &req.Topics[n-1]
		t.Partitions = append(t.Partitions, rawproduce.RequestPartition{
			Partition: p.id, RecordSet: protocol.RawRecordSet{Reader: bytes.NewReader(p.closed)},
		})
	}
	return req
}

// match gives each part its answer.
func match(parts []*part, r *produce.Response) error {
	answers := map[partition]*produce.ResponsePartition{}
	for i := range r.Topics {
		t := &r.Topics[i]
		for j := range t.Partitions {
			answers[partition{t.Topic, t.Partitions[j].Partition}] = &t.Partitions[j]
		}
	}
	for _, p := range parts {
		a := answers[p.partition]
		switch {
		case a == nil:
			return fmt.Errorf("store records: no answer for %s", p.partition)
		case a.ErrorCode == 0:
			p.stored, p.base = true, a.BaseOffset
		case a.ErrorMessage != "":
			p.err, p.bad = fmt.Errorf("%w: %s", kafka.Error(a.ErrorCode), a.ErrorMessage), a.RecordErrors
		default:
			p.err, p.bad = kafka.Error(a.ErrorCode), a.RecordErrors
		}
	}
	return nil
}
