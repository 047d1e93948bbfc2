package main

import (
	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/replication"
)

// atLaterStart makes warnings of what must not keep a bridge with a slot from starting: a
// table that only a wildcard takes and that somebody has made since, and one that the
// bridge will publish by itself. What has been streamed so far would stand still for it.
func atLaterStart(l configs.Loaded, src *replication.Source, tables []catalog.Table, found []fault.Problem) {
	m, err := newMapper(l, mapped{})(nil, tables)
	if err != nil {
		return // reported by the caller
	}
	for i := range found {
		p := &found[i]
		if p.Check != "not-published" && p.Check != "no-identity" {
			continue
		}
		at := indexOf(tables, p.Where)
		if at >= 0 && (m.Wild(&tables[at]) || p.Check == "not-published" && src.Publishes()) {
			p.Warning = true
		}
	}
}
