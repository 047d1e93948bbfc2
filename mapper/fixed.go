package mapper

import (
	"slices"

	"github.com/walbridge/walbridge/internal/catalog"
)

// FixedStreams returns, sorted, the streams whose names the routes alone decide: those
// without a variable, and those of tables that a route of changes names without a
// wildcard. The names that remain come from rows, or from the catalog. bridge is the
// bridge's name.
func (c Config) FixedStreams(bridge string) []string {
	var all []string
	for _, r := range c.WithDefaults().Routes {
		t, err := parseTemplate(r.Stream)
		if err != nil || r.Inbox != nil {
			continue
		}
		if len(t) == 1 && !t[0].variable {
			all = append(all, t[0].text)
			continue
		}
		for _, text := range r.Tables {
			if p, err := parsePattern(text); err == nil && r.Changes != nil && !p.wild() {
				rt := route{changes: r.Changes, stream: t}
				all = append(all, rt.streamOf(bridge, p.schema, p.table))
			}
		}
	}
	return distinct(all)
}

// TableStreams returns, sorted, the streams of all tables of the catalog that a route of
// changes takes, without the partitions, whose changes bear their root's name.
func (m *Mapper) TableStreams(tables []catalog.Table) []string {
	var all []string
	for i := range tables {
		if t := &tables[i]; t.Root == "" {
			if route, ok := m.MatchTable(t); ok && m.routes[route].changes != nil {
				all = append(all, m.routes[route].streamOf(m.env.Bridge, t.Schema, t.Name))
			}
		}
	}
	return distinct(all)
}

// streamOf is the stream of a table's changes.
func (r *route) streamOf(bridge, schema, table string) string {
	name := r.stream.expand(func(variable string) string {
		switch variable {
		case "bridge":
			return bridge
		case "schema":
			return schema
		}
		return table
	})
	if r.changes != nil && r.changes.Envelope == envelopeDebezium {
		return sanitized(name)
	}
	return name
}

func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
