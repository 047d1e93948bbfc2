package main

import (
	"fmt"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/replication"
)

// publishFindings warns of a bridge that is to publish new tables and may not.
func publishFindings(src *replication.Source, srv *replication.Server) []fault.Problem {
	if !src.Publishes() || srv.Published == nil || srv.Published.Owned {
		return nil
	}
	return []fault.Problem{{
		Check: "publish-rights", Warning: true, Where: "source.on_new_table",
		What: fmt.Sprintf("publish, but the publication belongs to %s, of which the role %s is no member", srv.Published.Owner, srv.Role.Name),
		Why:  "a new table stays a warning until somebody else has added it",
		Fix:  "GRANT membership in a role that owns the publication and the tables (docs/operations.md, \"New tables\"), or on_new_table: alert",
	}}
}

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
