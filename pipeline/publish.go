package pipeline

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/snapshot"
)

const (
	// maxReading is how many tables may wait to be read for one more to be published: the
	// state that names them is bounded.
	maxReading = 500
	// maxRefused is how many tables may refuse before the rest waits for the next time:
	// those who write to such a table have waited, too.
	maxRefused = 3
)

var (
	errManyReading = errors.New("it waits until fewer tables are to be read")
	errUnsigned    = errors.New("it waits until the destination has stored the key that requests are signed with")
)

// publish adds the tables that may be added to the publication, those that have refused
// last at the end. It returns how many were.
func (s *session) publish(ctx context.Context) (added int) {
	list := slices.Clone(s.p.covered.additions())
	slices.SortStableFunc(list, func(a, b replication.Addition) int {
		return s.p.covered.triedAt(a.Table.QualifiedName()).Compare(s.p.covered.triedAt(b.Table.QualifiedName()))
	})
	reading := len(s.snapshots.Status(time.Now()).Tables)
	for refused := 0; refused < maxRefused && len(list) > 0 && ctx.Err() == nil; list = list[1:] {
		a := &list[0]
		name := a.Table.QualifiedName()
		if err := s.mayRead(a, reading); err != nil {
			s.p.covered.refused(name, err, time.Now())
			continue
		}
		if err := s.publishOne(ctx, a); err != nil {
			if ctx.Err() == nil {
				s.p.covered.refused(name, err, time.Now())
			}
			refused++
			continue
		}
		added++
		reading += len(a.Read)
		s.p.log.Info("published a table that a route takes", "table", name, "rows are read", len(a.Read) > 0)
	}
	return added
}

// mayRead says why a table that is to be read has to wait. A request that is signed with a
// key that a crash would change would be nobody's.
func (s *session) mayRead(a *replication.Addition, reading int) error {
	switch {
	case len(a.Read) == 0:
		return nil
	case !s.p.signs.Load():
		return errUnsigned
	case reading+len(a.Read) > maxReading && reading > 0:
		return errManyReading
	}
	return nil
}

// publishOne publishes a table and asks, in the same transaction, for its rows.
func (s *session) publishOne(ctx context.Context, a *replication.Addition) error {
	if len(a.Read) == 0 {
		return s.p.stages.Source.Publish(ctx, a, "", nil)
	}
	var tables []*snapshot.Table
	for i := range a.Read {
		tables = append(tables, s.toRead(&a.Read[i]))
	}
	return s.p.stages.Source.Publish(ctx, a, snapshot.RequestPrefix, func(xid uint64) ([]byte, error) {
		return s.snapshots.Bound(xid, tables)
	})
}

func (s *session) toRead(t *catalog.Table) *snapshot.Table {
	where, _ := s.chain.mapper.Initial(t)
	return &snapshot.Table{Schema: t.Schema, Name: t.Name, Where: where, Estimate: t.EstRows, Bytes: t.Bytes}
}
