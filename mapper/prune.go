package mapper

import (
	"slices"
	"time"

	"github.com/walbridge/walbridge/internal/catalog"
)

// Pruned is a table whose rows its route lets go once they are relayed.
type Pruned struct {
	Table *catalog.Table
	Age   time.Duration
	// Column says how old a row is, a timestamp (UTC) or, when Zoned, a timestamptz;
	// empty: no column does.
	Column string
	Zoned  bool
	Where  string // the key of the configuration
}

// Prunes lists the tables, partitions among them, whose routes prune. A partitioned table
// has no rows of its own. It is safe for concurrent use.
func (m *Mapper) Prunes(tables []catalog.Table) []Pruned {
	var all []Pruned
	for i := range tables {
		t := &tables[i]
		route, ok := m.MatchTable(t)
		if !ok || t.Kind != 'r' {
			continue
		}
		o := m.routes[route].outbox
		if o == nil || o.Prune == 0 {
			continue
		}
		p := Pruned{Table: t, Age: o.Prune, Where: m.routes[route].key() + ".outbox.prune"}
		if at := slices.IndexFunc(t.Columns, func(c catalog.Column) bool { return c.Name == o.Timestamp }); at >= 0 {
			oid := t.Columns[at].TypeOID
			if p.Zoned = oid == oidTimestamptz; p.Zoned || oid == oidTimestamp {
				p.Column = o.Timestamp
			}
		}
		all = append(all, p)
	}
	return all
}

// MaxPrune is the longest age that a route prunes by, 0 when none does. It is safe for
// concurrent use.
func (m *Mapper) MaxPrune() time.Duration {
	var longest time.Duration
	for i := range m.cfg.Routes {
		if o := m.cfg.Routes[i].Outbox; o != nil {
			longest = max(longest, o.Prune)
		}
	}
	return longest
}
