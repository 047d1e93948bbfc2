package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/pipeline"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/sink/stdout"
)

type peekOptions struct {
	source string
	length time.Duration
}

func (a *app) peekCommand() *cobra.Command {
	var o peekOptions
	cmd := &cobra.Command{
		Use: "peek --source DSN schema.table ...", Short: "Show changes of a database as they commit",
		Long: `Show the changes of some tables as they commit, from now on, until Ctrl-C. It uses a
temporary slot, which ends with the connection, and a publication of its own, which it
drops; nothing is left behind, and no position is kept. Tables may be patterns, such as
'public.*'. Tables without a key are shown only when they have REPLICA IDENTITY FULL,
since their UPDATE and DELETE would fail while they are published.`,
		Example: "  walbridge peek --source postgres://me@db/shop public.orders\n  walbridge peek --source postgres://me@db/shop 'public.*' --for 1m --json",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.peek(cmd.Context(), args, o) },
	}
	cmd.Flags().StringVar(&o.source, "source", "", "the database, as a URL or keyword/value pairs")
	cmd.Flags().DurationVar(&o.length, "for", 0, "end after this time")
	_ = cmd.MarkFlagRequired("source")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) peek(ctx context.Context, patterns []string, o peekOptions) error {
	if o.length < 0 {
		return usageError{errors.New("--for is negative")}
	}
	name := "peek_" + strings.ToLower(rand.Text()[:10])
	src, err := replication.New(replication.Config{DSN: secret.DSN(o.source), Failover: replication.FailoverOff}.WithDefaults(name), name, a.quiet())
	if err != nil {
		return err
	}
	routes := mapper.Config{Routes: []mapper.Route{{Tables: patterns, Changes: &mapper.Changes{}}}}
	m, err := a.peekMapper(ctx, src, routes)
	if err != nil {
		return err
	}
	defer func() {
		if err := dropPeek(ctx, src); err != nil {
			fmt.Fprintf(a.stderr, "walbridge: the publication %s is left behind: %v\n", src.Publication(), err)
		}
	}()
	if o.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.length)
		defer cancel()
	}
	format := stdout.FormatPretty
	if a.json {
		format = stdout.FormatJSON
	}
	out := stdout.New(stdout.Config{Format: format}, stdout.Options{Out: a.stdout, Terminal: a.terminal})
	return pipeline.Peek(ctx, src, m, out, func() {
		fmt.Fprintln(a.stderr, "showing what commits from now on; Ctrl-C ends it")
	})
}

// dropPeek drops the publication, also when ctx has ended.
func dropPeek(ctx context.Context, src *replication.Source) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return src.DropPublication(ctx)
}

// peekMapper publishes the tables that the patterns match and makes their mapper.
func (a *app) peekMapper(ctx context.Context, src *replication.Source, routes mapper.Config) (*mapper.Mapper, error) {
	srv, types, tables, err := look(ctx, src)
	if err != nil {
		return nil, err
	}
	if srv.ReplicationErr != nil {
		return nil, srv.ReplicationErr
	}
	m, err := mapper.New(routes, mapper.Env{Bridge: "peek", Database: srv.Database, Types: types, Tables: tables})
	if err != nil {
		return nil, err
	}
	want := a.visible(m, tables)
	if len(want) == 0 {
		return nil, fault.Config(fault.Problem{
			Check: "table", Where: strings.Join(routes.Routes[0].Tables, ", "), What: "no table with a key matches", Fix: "tables are written schema.table; the source has " + someNames(tables),
		})
	}
	plan, err := src.PlanPublication(srv, want)
	if err != nil {
		return nil, err
	}
	if err := src.ApplyPublication(ctx, plan); err != nil {
		// it may be there all the same
		return nil, errors.Join(err, dropPeek(ctx, src))
	}
	return m, nil
}

// visible are the tables that match and can be published without harm.
func (a *app) visible(m *mapper.Mapper, tables []catalog.Table) []catalog.Table {
	var want []catalog.Table
	for _, t := range tables {
		if _, ok := m.MatchTable(&t); !ok {
			continue
		}
		if t.Unlogged || !t.SafeToPublish() {
			fmt.Fprintf(a.stderr, "walbridge: %s is not shown: it is unlogged, or has no key\n", t.QualifiedName())
			continue
		}
		want = append(want, t)
	}
	return want
}
