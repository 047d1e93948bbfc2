package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/replication"
)

// pruneFindings warns of outboxes whose relayed rows cannot be deleted.
func pruneFindings(l configs.Loaded, srv *replication.Server, tables []catalog.Table) []fault.Problem {
	m, err := newMapper(l, mapped{})(nil, tables)
	if err != nil {
		return nil // reported by the caller
	}
	var all []fault.Problem
	for _, p := range m.Prunes(tables) {
		name := p.Table.QualifiedName()
		if !p.Table.Prunable {
			all = append(all, fault.Problem{Check: "prune-rights", Warning: true, Where: p.Where, What: "the role may not delete rows of " + name,
				Why: "relayed rows stay", Fix: strings.TrimSuffix(replication.PruneGrantSQL(p.Table, srv.Role.Name), ";\n")})
		}
		if why := replication.Unstreamed(srv.Published, p.Table); srv.Published != nil && why != "" {
			all = append(all, fault.Problem{Check: "prune-unstreamed", Warning: true, Where: p.Where, What: name + " is not pruned: " + why,
				Why: "what is not streamed is not relayed", Fix: "leave prune out, or publish all inserts of the table"})
		}
		if p.Column == "" && p.Age >= longPrune {
			all = append(all, fault.Problem{Check: "prune-age", Warning: true, Where: p.Where, What: fmt.Sprintf("no column says how old a row of %s is, so its age counts from the start of the bridge", name),
				Why: "a bridge that is started again more often than every " + configs.FormatDuration(p.Age) + " deletes nothing", Fix: "outbox.timestamp: a column of type timestamptz with the default now()"})
		}
	}
	return all
}

// longPrune is an age that bridges do not always reach.
const longPrune = 24 * time.Hour

// messageFindings warns of what routes of messages should know.
func messageFindings(l configs.Loaded, srv *replication.Server) []fault.Problem {
	var all []fault.Problem
	for i := range l.Config.Routes {
		if len(l.Config.Routes[i].Messages) == 0 {
			continue
		}
		at := fmt.Sprintf("routes[%d].messages", i)
		if srv.Encoding != "UTF8" {
			all = append(all, fault.Problem{Check: "message-encoding", Warning: true, Where: at, What: "the database's encoding is " + srv.Encoding + ", and messages are sent in it as they are",
				Why: "a message with a character beyond ASCII becomes a dead letter", Fix: "an outbox table, whose rows are converted"})
		}
		if srv.MessagesOpen {
			all = append(all, fault.Problem{Check: "message-rights", Warning: true, Where: at, What: "every role may write messages of any prefix (PUBLIC has EXECUTE on pg_logical_emit_message)",
				Why: "whoever can connect to the database can publish events", Fix: messageRights(srv)})
		}
	}
	return all
}

// messageRights are the statements that leave the writing of messages to one role. The
// functions have a further argument from version 17 on.
func messageRights(srv *replication.Server) string {
	flush := ""
	if srv.Major() >= 17 {
		flush = ", boolean"
	}
	return fmt.Sprintf("REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text%[1]s), pg_logical_emit_message(boolean, text, bytea%[1]s) FROM PUBLIC, and GRANT it to the application's role", flush)
}
