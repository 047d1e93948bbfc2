package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/sink/kafka"
	"github.com/walbridge/walbridge/sink/worktable"
)

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check configuration, source and destination before a start",
		Long: `Look at the source and the destination and list everything that would stop the bridge
or hurt the database: what is wrong, why it matters, and the statement that mends it.
Nothing is changed. The exit code is 1 when something is wrong that would stop it.`,
		Example: "  walbridge doctor\n  walbridge doctor --json",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context()) },
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) doctor(ctx context.Context) error {
	loaded, err := a.load()
	if err != nil {
		return err
	}
	found, read := sourceFindings(ctx, a, loaded)
	found = append(found, sinkFindings(ctx, loaded, read)...)
	bad := 0
	for _, p := range found {
		if !p.Warning {
			bad++
		}
	}
	if err := a.diagnosis(found, bad); err != nil {
		return err
	}
	if bad > 0 {
		return errChecked
	}
	return nil
}

func (a *app) diagnosis(found []fault.Problem, bad int) error {
	if a.json {
		return a.printJSON(map[string]any{"ok": bad == 0, "problems": redacted(found)})
	}
	a.problems(a.stdout, found)
	_, err := fmt.Fprintf(a.stdout, "%d errors, %d warnings\n", bad, len(found)-bad)
	return err
}

// looked is what was seen of a source.
type looked struct {
	of     worktable.SourceOf
	tables []catalog.Table
}

// sourceFindings looks at the source; what keeps it from being looked at is the
// finding then. It returns what the destination's checks need of it.
func sourceFindings(ctx context.Context, a *app, l configs.Loaded) ([]fault.Problem, looked) {
	var read looked
	src, err := source(l, a.quiet())
	if err != nil {
		return problemsOf("source", err), read
	}
	srv, err := src.Inspect(ctx)
	if err != nil {
		return problemsOf("source", err), read
	}
	read.of = worktable.SourceOf{SystemID: srv.SystemID, Database: srv.Database, Publication: src.Publication()}
	tables, err := src.Tables(ctx)
	if err != nil {
		return problemsOf("source", err), read
	}
	read.tables = tables
	found := append(preflight(l, src, srv, tables), planFindings(l, srv, tables)...)
	return append(found, positionFindings(ctx, l, src, srv)...), read
}

// positionFindings says what a start would say of the stored position. The position
// of a bridge that runs moves on after srv was read, so the server's end of WAL is
// read again before it is called too old.
func positionFindings(ctx context.Context, l configs.Loaded, src *replication.Source, srv *replication.Server) []fault.Problem {
	at, err := stored(ctx, l)
	var halt *fault.Halt
	switch {
	case err != nil && (l.Config.Sink.Worktable != nil || l.Config.Sink.Kafka != nil) && !errors.As(err, &halt):
		return nil // the destination's own findings say it
	case err != nil:
		return problemsOf("position", err)
	case at.Phase == lsn.PhaseNone && srv.Slot == nil:
		return nil
	}
	if at.Position.End > srv.WALEnd {
		again, err := src.Inspect(ctx)
		if err != nil {
			return problemsOf("source", err)
		}
		srv.WALEnd = again.WALEnd
	}
	_, err = replication.Reconcile(srv, at)
	return problemsOf("position", err)
}

func sinkFindings(ctx context.Context, l configs.Loaded, read looked) []fault.Problem {
	if l.Config.Sink.Kafka != nil {
		found, err := kafka.Check(ctx, kafkaConfig(l, read.tables), kafka.Bridge{Name: l.Config.Name, MaxRow: l.Config.Memory.MaxRow})
		return append(found, problemsOf("sink", err)...)
	}
	cfg, err := workTableConfig(l)
	if err != nil {
		return nil // another sink, of which there is nothing to check
	}
	found, err := worktable.Check(ctx, cfg, read.of)
	return append(found, problemsOf("sink", err)...)
}

// problemsOf makes findings of an error.
func problemsOf(check string, err error) []fault.Problem {
	var config *fault.ConfigError
	var halt *fault.Halt
	switch {
	case err == nil:
		return nil
	case errors.As(err, &config):
		return config.Problems
	case errors.As(err, &halt):
		p := fault.Problem{Check: halt.Rule, Where: check, What: halt.Error(), Why: halt.Why}
		if len(halt.Ways) > 0 {
			p.Fix = halt.Ways[0].Text
		}
		return []fault.Problem{p}
	}
	return []fault.Problem{{Check: check, Where: check, What: err.Error()}}
}
