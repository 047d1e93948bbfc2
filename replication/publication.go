package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
)

// PublicationPlan is the difference between the publication and what it should be.
type PublicationPlan struct {
	Create bool     // it does not exist
	Add    []string // tables, as schema.name
	Drop   []string // tables that were named in it and are wanted no more
	// Statements make the difference, in order; each is one transaction. Empty: there is
	// none.
	Statements []string
}

// PlanPublication compares the publication with the tables that routes want. It is
// pure. Partitions whose root is wanted are published through it, under its name,
// so that new partitions need nothing. A publication FOR ALL TABLES or FOR TABLES IN
// SCHEMA is left as it is as long as it covers what is wanted.
//
// Errors: *fault.ConfigError, for tables whose publication would make UPDATE and
// DELETE fail for the application, and for those that cannot be published.
func (s *Source) PlanPublication(srv *Server, want []catalog.Table) (PublicationPlan, error) {
	want = withoutPartitions(want)
	if problems := unpublishable(srv.Published, want); len(problems) > 0 {
		return PublicationPlan{}, &fault.ConfigError{Problems: problems}
	}
	name := quoteIdent(s.cfg.Publication)
	if srv.Published == nil {
		return createPlan(name, want), nil
	}
	var plan PublicationPlan
	for _, t := range want {
		if t.Published {
			continue
		}
		plan.Add = append(plan.Add, t.QualifiedName())
		add := "ALTER PUBLICATION " + name + " ADD TABLE ONLY " + quoteQualified(t.Schema, t.Name)
		if srv.Slot != nil {
			add = s.AddStatement(&t)
		}
		plan.Statements = append(plan.Statements, add)
	}
	for _, t := range srv.Published.Tables {
		q := t.QualifiedName()
		if !slices.Contains(srv.Published.Explicit, q) || slices.ContainsFunc(want, func(w catalog.Table) bool { return w.QualifiedName() == q }) {
			continue
		}
		plan.Drop = append(plan.Drop, q)
		plan.Statements = append(plan.Statements, "ALTER PUBLICATION "+name+" DROP TABLE ONLY "+quoteQualified(t.Schema, t.Name))
	}
	return plan, nil
}

func createPlan(name string, want []catalog.Table) PublicationPlan {
	plan := PublicationPlan{Create: true}
	var tables []string
	for _, t := range want {
		plan.Add = append(plan.Add, t.QualifiedName())
		tables = append(tables, "ONLY "+quoteQualified(t.Schema, t.Name))
	}
	sql := "CREATE PUBLICATION " + name
	if len(tables) > 0 {
		sql += " FOR TABLE " + strings.Join(tables, ", ")
	}
	plan.Statements = []string{sql + " WITH (publish_via_partition_root = true)"}
	return plan
}

// lockedAdd adds a table while nobody writes to it. Without the lock, a row that an
// open transaction has already written would be in no stream, for decoding looks at
// the publication as it was when the row was written, and in nothing that is read
// right after the change either. The lock waits for such transactions, for seconds
// at most, and each table has a transaction of its own, so that no lock is held
// while another is waited for.
func lockedAdd(table, add string) string {
	return "BEGIN; SET LOCAL lock_timeout = '5s'; LOCK TABLE " + table + " IN SHARE ROW EXCLUSIVE MODE; " + add + "; COMMIT"
}

func withoutPartitions(want []catalog.Table) []catalog.Table {
	var all []catalog.Table
	for _, t := range want {
		rootWanted := t.Root != "" && slices.ContainsFunc(want, func(w catalog.Table) bool { return w.QualifiedName() == t.Root })
		if !rootWanted {
			all = append(all, t)
		}
	}
	return all
}

// unpublishable lists the tables that must not, or cannot, be published.
func unpublishable(pub *Publication, want []catalog.Table) []fault.Problem {
	var all []fault.Problem
	for _, t := range want {
		switch {
		case t.Unlogged:
			all = append(all, fault.Problem{Check: "unlogged", Where: t.QualifiedName(), What: "the table is unlogged, so its changes are in no WAL",
				Fix: "ALTER TABLE " + quoteQualified(t.Schema, t.Name) + " SET LOGGED, or exclude it from the route"})
		case publishesUpdates(pub) && !t.SafeToPublish():
			all = append(all, noIdentity(t))
		}
	}
	return all
}

func publishesUpdates(pub *Publication) bool { return pub == nil || pub.Update || pub.Delete }

func noIdentity(t catalog.Table) fault.Problem {
	table := quoteQualified(t.Schema, t.Name)
	return fault.Problem{
		Check: "no-identity", Where: t.QualifiedName(),
		What: "the table has no primary key and no other replica identity",
		Why:  "once it is published, UPDATE and DELETE on it fail for the application",
		Fix:  "ALTER TABLE " + table + " ADD PRIMARY KEY (…), or ALTER TABLE " + table + " REPLICA IDENTITY FULL (more WAL), or exclude it from the route",
	}
}

// ApplyPublication runs the plan's statements. Running a plan again that has been
// applied fails; make a new one, which is empty then.
//
// Errors: *fault.ConfigError for missing rights, naming the statement; else
// transient, among them a table that stayed locked for longer than the statement
// waits.
func (s *Source) ApplyPublication(ctx context.Context, plan PublicationPlan) error {
	if len(plan.Statements) == 0 {
		return nil
	}
	return s.onSQL(ctx, "change publication "+s.cfg.Publication, func(ctx context.Context, conn *pgconn.PgConn) error {
		for _, sql := range plan.Statements {
			if err := run(ctx, conn, sql); err != nil {
				return publicationError(sql, err)
			}
		}
		return nil
	})
}

func publicationError(sql string, err error) error {
	var pg *pgconn.PgError
	switch {
	case !errors.As(err, &pg):
		return err
	case pg.Code == "42501":
		return configErr("rights", err, "the role may not change the publication",
			"run this as the owner of the tables with CREATE on the database (`walbridge setup --as DSN`): "+sql)
	case pg.Code == "55P03":
		return fmt.Errorf("a transaction that writes to the table did not end within the time; try again: %s: %w", sql, err)
	}
	return fmt.Errorf("%s: %w", sql, err)
}

// DropPublication drops the publication; one that does not exist is no error.
func (s *Source) DropPublication(ctx context.Context) error {
	return s.onSQL(ctx, "drop publication "+s.cfg.Publication, func(ctx context.Context, conn *pgconn.PgConn) error {
		return run(ctx, conn, "DROP PUBLICATION IF EXISTS "+quoteIdent(s.cfg.Publication))
	})
}
