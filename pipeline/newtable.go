package pipeline

import (
	"context"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/replication"
)

// newTableReader returns what tells the mapper of a table that it does not know, or that
// no route takes by what it knows: one that was made, or attached as a partition, since
// tables were read. Where changes come under the names of roots, being attached changes
// nothing for a table that is known, and the catalog is spared the question.
func (s *session) newTableReader(srv *replication.Server, tables []catalog.Table) func(context.Context, uint32) error {
	known := make(map[uint32]struct{})
	if srv.Published != nil && srv.Published.ViaRoot {
		for i := range tables {
			known[tables[i].OID] = struct{}{}
		}
	}
	return func(ctx context.Context, oid uint32) error {
		if _, ok := known[oid]; ok {
			s.chain.mapper.SetTable(oid, nil)
			return nil
		}
		t, err := s.p.stages.Source.Table(ctx, oid)
		if err != nil {
			return err
		}
		s.chain.mapper.SetTable(oid, t)
		select {
		case s.newTable <- struct{}{}:
		default: // it is to be looked at already
		}
		return nil
	}
}
