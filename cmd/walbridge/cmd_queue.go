package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/internal/consumers"
	"github.com/walbridge/walbridge/internal/status"
)

func (a *app) queueCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "queue", Short: "List, pause, resume, reset and drop subscriptions",
		Long: `Subscriptions are the readers of the work table. They are made by programs; here they
can be looked at, paused, set back or forward, and dropped. What is done is noted in
the operation table. Dead letters of subscriptions are under "walbridge dlq".`,
		Example: "  walbridge queue list\n  walbridge queue show search",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.queueList(), a.queueShow(), a.queuePause(), a.queueResume(), a.queueReset(), a.queueDrop())
	return cmd
}

func (a *app) queueList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the subscriptions with their lag",
		Long: `List the subscriptions: state, lanes that have an owner, workers, lag in items and in
time since the oldest one's commit, parked items, open dead letters. A number with a
plus is where counting ended.`,
		Example: "  walbridge queue list --json",
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withBoard(cmd.Context(), "queue", func(b *consumers.Board) error {
				all, err := b.Subscriptions(cmd.Context(), 0)
				if err != nil {
					return err
				}
				return a.showSubscriptions(all)
			})
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) showSubscriptions(all []status.Subscription) error {
	if a.json {
		if all == nil {
			all = []status.Subscription{}
		}
		return a.printJSON(all)
	}
	rows := make([]table.Row, len(all))
	for i, s := range all {
		rows[i] = table.Row{
			s.Name, s.State, fmt.Sprintf("%d/%d", s.LanesOwned, s.Lanes), s.Workers, backlogText(s.Lag), s.Parked, s.Dead,
			short(plain(strings.Join(s.Streams, ", ")), 60),
		}
	}
	a.rows(table.Row{"subscription", "state", "lanes", "workers", "lag", "parked", "dead", "streams"}, rows)
	return nil
}

// subscriptionView is one subscription with its lanes, for scripts.
type subscriptionView struct {
	status.Subscription
	All []consumers.Lane `json:"all_lanes"`
}

func (a *app) queueShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a subscription with its lanes",
		Long:    "Show a subscription and each of its lanes: who has leased it and until when, up to which seq it is settled, its lag, its parked items.",
		Example: "  walbridge queue show search",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBoard(cmd.Context(), "queue", func(b *consumers.Board) error {
				s, err := b.Subscription(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				lanes, err := b.Lanes(cmd.Context(), args[0], lookedAt)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(subscriptionView{s, lanes})
				}
				a.showLanes(s, lanes)
				return nil
			})
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) showLanes(s status.Subscription, lanes []consumers.Lane) {
	for _, line := range [][2]string{
		{"name", s.Name}, {"state", s.State}, {"streams", plain(strings.Join(s.Streams, ", "))},
		{"lanes", fmt.Sprintf("%d of %d have an owner, %d workers", s.LanesOwned, s.Lanes, s.Workers)},
		{"lag", backlogText(s.Lag)}, {"settled", fmt.Sprintf("through seq %d", s.SettledSeq)},
		{"parked", fmt.Sprint(s.Parked)}, {"dead", fmt.Sprint(s.Dead)},
	} {
		fmt.Fprintf(a.stdout, "%-12s %s\n", line[0], line[1])
	}
	rows := make([]table.Row, len(lanes))
	for i, l := range lanes {
		owner, until := "-", "-"
		if l.Held {
			owner, until = short(plain(l.Owner), 40), timeText(l.LeaseEnds)
		}
		rows[i] = table.Row{l.Lane, owner, until, l.Generation, l.Seq, timeText(l.CheckpointAt), backlogText(l.Lag), l.Parked}
	}
	a.rows(table.Row{"lane", "owner", "lease ends", "generation", "settled", "at", "lag", "parked"}, rows)
}

// queueDeed is a command that does one thing to one subscription.
func (a *app) queueDeed(name, done string, does func(*consumers.Board, context.Context, string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: name + " NAME", Args: arguments(cobra.ExactArgs(1)), Example: "  walbridge queue " + name + " search",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withBoard(cmd.Context(), "queue", func(b *consumers.Board) error {
				if err := does(b, cmd.Context(), args[0]); err != nil {
					return err
				}
				return a.deed(map[string]any{"subscription": args[0], "done": name}, "%s %s", done, args[0])
			})
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// deed says what was done.
func (a *app) deed(view map[string]any, format string, args ...any) error {
	if a.json {
		return a.printJSON(view)
	}
	_, err := fmt.Fprintf(a.stdout, format+"\n", args...)
	return err
}

func (a *app) queuePause() *cobra.Command {
	cmd := a.queueDeed("pause", "paused", (*consumers.Board).Pause)
	cmd.Short = "Pause a subscription"
	cmd.Long = "Make the workers of a subscription finish what they have in hand and wait. They notice with their next heartbeat, a third of their lease at most. A paused subscription holds the log as any other."
	return cmd
}

func (a *app) queueResume() *cobra.Command {
	cmd := a.queueDeed("resume", "resumed", (*consumers.Board).Resume)
	cmd.Short = "End the pause of a subscription"
	cmd.Long = "Let the workers of a subscription go on where they were. One that has expired is not resumed, since the log no longer holds all that it has not read: reset it."
	return cmd
}

func (a *app) queueReset() *cobra.Command {
	var to string
	var yes bool
	cmd := &cobra.Command{
		Use: "reset NAME --to beginning|end|SEQ", Short: "Make a subscription start at another place",
		Long: `Make a subscription start anew: at the beginning of what the log holds, at its end, or
behind a seq. Before, it says how many items would be repeated and how many skipped,
and asks. Workers lose their lanes, and what they have in hand is not settled. Parked
items are forgotten; dead letters stay. A paused or expired one is active afterwards.`,
		Example: "  walbridge queue reset search --to beginning\n  walbridge queue reset search --to 4711 --yes",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			start, err := consumers.ParseStart(to)
			if err != nil {
				return usageError{fmt.Errorf("--to: %w", err)}
			}
			if a.json && !yes {
				return errAsks
			}
			return a.withBoard(cmd.Context(), "queue", func(b *consumers.Board) error { return a.reset(cmd.Context(), b, args[0], start, yes) })
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "where: beginning, end, or the seq behind which it starts")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	a.jsonFlag(cmd)
	return cmd
}

// errAsks: a question has no place in an output for scripts.
var errAsks = usageError{errors.New("with --json nothing is asked: give --yes too")}

func (a *app) reset(ctx context.Context, b *consumers.Board, name string, to consumers.Start, yes bool) error {
	e, err := b.Effect(ctx, name, to, lookedAt)
	if err != nil {
		return err
	}
	if !a.json {
		fmt.Fprintf(a.stdout, "%s from %s: %s settled items come again, %s open ones are skipped, %d parked ones are forgotten\n",
			name, to, atLeast(e.Repeated, e.RepeatedMore), atLeast(e.Skipped, e.SkippedMore), e.Forgotten)
	}
	if !yes && !a.agreed("Reset "+name+"?") {
		_, err := fmt.Fprintln(a.stdout, "nothing changed")
		return err
	}
	seq, err := b.Reset(ctx, name, to)
	if err != nil {
		return err
	}
	return a.deed(map[string]any{"subscription": name, "done": "reset", "start_seq": seq, "effect": e}, "reset %s: it starts behind seq %d", name, seq)
}

func atLeast(n int64, more bool) string {
	if more {
		return fmt.Sprintf("at least %d", n)
	}
	return fmt.Sprint(n)
}

func (a *app) queueDrop() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "drop NAME", Short: "Forget a subscription",
		Long: `Forget a subscription with its checkpoints and parked items, after asking: the log no
longer waits for it, and its workers end with an error. Dead letters stay. A program
that subscribes under the name again starts where it says, not where this one was.`,
		Example: "  walbridge queue drop search --yes",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.json && !yes {
				return errAsks
			}
			return a.withBoard(cmd.Context(), "queue", func(b *consumers.Board) error { return a.drop(cmd.Context(), b, args[0], yes) })
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) drop(ctx context.Context, b *consumers.Board, name string, yes bool) error {
	s, err := b.Subscription(ctx, name)
	if err != nil {
		return err
	}
	if !a.json {
		fmt.Fprintf(a.stdout, "%s: %s open items will not be read, %d parked ones are forgotten, %d workers are at work\n",
			name, atLeast(s.Lag.Items, s.Lag.More), s.Parked, s.Workers)
	}
	if !yes && !a.agreed("Drop "+name+"?") {
		_, err := fmt.Fprintln(a.stdout, "nothing dropped")
		return err
	}
	if err := b.Drop(ctx, name); err != nil {
		return err
	}
	return a.deed(map[string]any{"subscription": name, "done": "drop"}, "dropped %s", name)
}
