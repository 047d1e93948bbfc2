package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/internal/logtail"
	"github.com/walbridge/walbridge/sink/worktable"
)

type tailOptions struct {
	key, from string
	keyed     bool
	follow    bool
	limit     int
}

func (a *app) tailCommand() *cobra.Command {
	var o tailOptions
	cmd := &cobra.Command{
		Use: "tail STREAM ...", Short: "Show the items of streams as the log has them",
		Long: `Show the items of the work table's log, in its order: of exact streams, of all with a
prefix (orders.*), or of all (*, in quotes). It belongs to no subscription and settles
nothing. It begins at the last ten items; --from says otherwise: beginning, end, a seq,
a time (2006-01-02T15:04:05Z), or how long ago (-10m, -7d). With --follow it goes on
until Ctrl-C. With --json each item is one line.

The log is read by its index, from there on; only a rare key is looked for among all
the items of its streams.`,
		Example: "  walbridge tail orders --follow\n  walbridge tail 'orders.*' --key order:9182 --from -10m --json",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.keyed = cmd.Flags().Changed("key")
			return a.tail(cmd.Context(), args, o)
		},
	}
	cmd.Flags().StringVar(&o.key, "key", "", "only items of this key")
	cmd.Flags().StringVar(&o.from, "from", "", "where to begin: beginning, end, a seq, a time, or -10m")
	cmd.Flags().BoolVar(&o.follow, "follow", false, "go on with what comes, until Ctrl-C")
	cmd.Flags().IntVar(&o.limit, "limit", 0, "end after so many items; without --from, the last so many")
	a.jsonFlag(cmd)
	return cmd
}

// place is where the options say to begin.
func (o tailOptions) place() (logtail.From, error) {
	switch {
	case o.limit < 0:
		return logtail.From{}, usageError{errors.New("--limit is less than 0")}
	case o.from == "" && !o.follow:
		return logtail.Last(o.limit), nil
	case o.from == "":
		return logtail.From{}, nil
	}
	f, err := logtail.ParseFrom(o.from)
	if err != nil {
		return f, usageError{fmt.Errorf("--from: %w", err)}
	}
	return f, nil
}

func (a *app) tail(ctx context.Context, streams []string, o tailOptions) error {
	begin, err := o.place()
	if err != nil {
		return err
	}
	choice := logtail.Choice{Streams: streams}
	if o.keyed {
		choice.Key = &o.key
	}
	err = a.withSession(ctx, "tail", func(conn *pgx.Conn, cfg worktable.Config) error {
		l, err := logtail.Open(ctx, conn, cfg.Schema, choice)
		if err != nil {
			return err
		}
		if err := l.Check(ctx); err != nil {
			if !o.follow || !errors.Is(err, logtail.ErrNoStream) {
				return err
			}
			fmt.Fprintf(a.stderr, "%v; waiting for it\n", err)
		}
		after, err := l.Start(ctx, begin)
		if err != nil {
			return err
		}
		return l.Read(ctx, after, o.follow, a.tailLine(o.limit))
	})
	if ctx.Err() != nil {
		return nil // asked to stop
	}
	return err
}

// tailLine writes items until there are so many; 0: without an end.
func (a *app) tailLine(limit int) func(logtail.Item) (bool, error) {
	n := 0
	lines := json.NewEncoder(a.stdout)
	lines.SetEscapeHTML(false)
	return func(i logtail.Item) (bool, error) {
		n++
		var err error
		if a.json {
			err = lines.Encode(i)
		} else {
			_, err = fmt.Fprintf(a.stdout, "%d  %s  %s  %s  %s  %s\n", i.Seq, i.CommittedAt.UTC().Format("2006-01-02 15:04:05.000"),
				plain(i.Stream), optionalText(i.Key), dash(plain(i.Type)), dash(plain(oneLine(i.Payload))))
		}
		return n != limit, err
	}
}
