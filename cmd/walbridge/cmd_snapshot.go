package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/pipeline"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/snapshot"
)

type snapshotOptions struct {
	tables []string
	where  string
	detach bool
}

func (a *app) snapshotCommand() *cobra.Command {
	var o snapshotOptions
	cmd := &cobra.Command{
		Use: "snapshot", Short: "Read the rows of tables, beside the stream",
		Long: `Ask the bridge to read the rows that are in tables and to deliver them as records of the
operation read, while the stream goes on. It shows how far it is until the tables are
done; Ctrl-C ends the showing and not the reading.

The request is a signed message in the source's log, so it takes effect in the order of
the stream: a bridge that does not run takes it at its next start. The reading goes on
where it was after any crash.`,
		Example: "  walbridge snapshot --tables public.orders,public.customers\n  walbridge snapshot --tables public.orders --where 'id > 1000000'",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.snapshot(cmd.Context(), o) },
	}
	cmd.Flags().StringSliceVar(&o.tables, "tables", nil, "the tables, schema.table, separated by commas")
	cmd.Flags().StringVar(&o.where, "where", "", "a condition in SQL over the columns of the tables: which rows are read")
	cmd.Flags().BoolVar(&o.detach, "detach", false, "do not wait until the tables are done")
	cmd.AddCommand(
		a.snapshotControl("pause", "Pause the reading of rows", "The chunks under way are delivered, then no table is read until resume. The stream goes on.", snapshot.ActionPause),
		a.snapshotControl("resume", "Go on with the reading of rows", "Tables that were begun go on where they were.", snapshot.ActionResume),
		a.snapshotControl("cancel", "Give up the reading of rows", "What was delivered stays. Without --tables all tables are given up.", snapshot.ActionCancel),
		a.snapshotStatusCommand(),
	)
	return cmd
}

func (a *app) snapshotControl(use, short, long string, do snapshot.Action) *cobra.Command {
	var tables []string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: "  walbridge snapshot " + use, Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.snapshotDo(cmd.Context(), do, tables) },
	}
	if do == snapshot.ActionCancel {
		cmd.Flags().StringSliceVar(&tables, "tables", nil, "the tables, schema.table; all without it")
	}
	return cmd
}

func (a *app) snapshotStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Show how far the reading of rows is", Example: "  walbridge snapshot status --json", Args: arguments(cobra.NoArgs),
		Long: "Show the tables that are being read or wait for it, from the running bridge or from what the destination has stored.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := a.load()
			if err != nil {
				return err
			}
			s, err := a.snapshotProgress(cmd.Context(), loaded)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(s)
			}
			return a.printSnapshot(s)
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// snapshot asks for a reading and shows it.
func (a *app) snapshot(ctx context.Context, o snapshotOptions) error {
	if len(o.tables) == 0 {
		return usageError{errors.New("--tables is missing: which tables are to be read?")}
	}
	loaded, src, err := a.snapshotSource()
	if err != nil {
		return err
	}
	tables, err := readable(ctx, loaded, src, o)
	if err != nil {
		return err
	}
	fmt.Fprint(a.stdout, snapshot.PlanOf(tables, loaded.Config.Snapshot.RowsPerSecond))
	r := snapshot.Request{Do: snapshot.ActionStart, Tables: tables}
	if o.detach {
		_, err := a.request(ctx, loaded, src, r)
		return err
	}
	if err := a.ask(ctx, loaded, src, r); err != nil {
		return err
	}
	return a.follow(ctx, loaded, tables)
}

func (a *app) snapshotSource() (configs.Loaded, *replication.Source, error) {
	loaded, err := a.load()
	if err != nil {
		return loaded, nil, err
	}
	src, err := source(loaded, a.quiet())
	return loaded, src, err
}

func (a *app) snapshotDo(ctx context.Context, do snapshot.Action, names []string) error {
	r := snapshot.Request{Do: do}
	for _, name := range names {
		schema, table, ok := strings.Cut(name, ".")
		if !ok {
			return usageError{fmt.Errorf("%q is not schema.table", name)}
		}
		r.Tables = append(r.Tables, &snapshot.Table{Schema: schema, Name: table})
	}
	loaded, src, err := a.snapshotSource()
	if err != nil {
		return err
	}
	if err := a.ask(ctx, loaded, src, r); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s: taken\n", do)
	return err
}

// readable finds the tables and whatever stands in their way.
func readable(ctx context.Context, l configs.Loaded, src *replication.Source, o snapshotOptions) ([]*snapshot.Table, error) {
	srv, types, all, err := look(ctx, src)
	if err != nil {
		return nil, err
	}
	m, err := newMapper(l, mapped{database: srv.Database})(types, all)
	if err != nil {
		return nil, err
	}
	var problems []fault.Problem
	var tables []*snapshot.Table
	for _, name := range o.tables {
		i := indexOf(all, name)
		if i < 0 {
			problems = append(problems, fault.Problem{Check: "snapshot-table", Where: name, What: "there is no such table", Fix: "tables are written schema.table; the source has " + someNames(all)})
			continue
		}
		if p, bad := unreadable(m, srv, &all[i]); bad {
			problems = append(problems, p)
			continue
		}
		rows, bytes := pipeline.SizeOf(&all[i], all)
		tables = append(tables, &snapshot.Table{Schema: all[i].Schema, Name: all[i].Name, Where: o.where, Estimate: rows, Bytes: bytes})
	}
	if len(problems) > 0 {
		return nil, &fault.ConfigError{Problems: problems}
	}
	return tables, nil
}

// unreadable says what keeps a table from being read on request.
func unreadable(m *mapper.Mapper, srv *replication.Server, t *catalog.Table) (fault.Problem, bool) {
	if why := m.Reads(t); why != "" {
		return fault.Problem{Check: "snapshot-table", Where: t.QualifiedName(), What: why, Fix: "add a route for it, or name another table"}, true
	}
	p := fault.Problem{Check: "snapshot-table", Where: t.QualifiedName()}
	switch {
	case !pipeline.Streamed(srv, t):
		p.What, p.Fix = "it is not streamed under its own name", "walbridge setup; of a partitioned table name the root, or its partitions, whichever the publication has"
	case !t.Readable:
		return noRight(srv, t), true
	case len(t.IdentityColumns) == 0:
		return noKey(t), true
	default:
		return hidden(srv, t)
	}
	return p, true
}
