package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/consumers"
	"github.com/walbridge/walbridge/sink/worktable"
)

// sorted tells letters of subscriptions from ids that are the bridges', or nobody's.
func (a *app) sorted(ctx context.Context, l configs.Loaded, ids []int64) (theirs []consumers.Letter, own []int64, err error) {
	err = a.withBoardOf(ctx, l, "dlq", func(b *consumers.Board) error {
		for _, id := range ids {
			letter, err := b.Letter(ctx, id)
			switch {
			case err == nil:
				theirs = append(theirs, letter)
			case errors.Is(err, consumers.ErrNoLetter):
				own = append(own, id)
			default:
				return err
			}
		}
		return nil
	})
	return theirs, own, err
}

// showLetterOf shows a letter of a subscription, whole.
func (a *app) showLetterOf(ctx context.Context, l configs.Loaded, id int64) error {
	return a.withBoardOf(ctx, l, "dlq", func(b *consumers.Board) error {
		letter, err := b.Letter(ctx, id)
		if err != nil {
			return err
		}
		return a.printJSON(letter)
	})
}

// listLetters lists the letters of a subscription.
func (a *app) listLetters(ctx context.Context, l configs.Loaded, subscription string, f worktable.Filter) error {
	return a.withBoardOf(ctx, l, "dlq", func(b *consumers.Board) error {
		all, err := b.Letters(ctx, consumers.LetterFilter{
			Subscription: subscription, Stream: f.Stream, Key: f.Key, Reason: f.Reason, Resolved: f.Resolved, After: f.After, Limit: f.Limit,
		})
		if err != nil {
			return err
		}
		if a.json {
			if all == nil {
				all = []consumers.Letter{}
			}
			return a.printJSON(all)
		}
		rows := make([]table.Row, len(all))
		for i, d := range all {
			rows[i] = table.Row{d.ID, timeText(d.DiedAt), d.Seq, plain(d.Stream), optionalText(d.Key), d.Reason, d.Attempts, short(plain(d.Error), 60), d.State}
		}
		a.rows(table.Row{"id", "died at", "seq", "stream", "key", "reason", "attempts", "error", "state"}, rows)
		if len(all) == f.Limit {
			fmt.Fprintf(a.stdout, "there may be more: --after %d\n", all[len(all)-1].ID)
		}
		return nil
	})
}

// replayLetters puts letters of subscriptions back, each in a transaction of its own,
// and names what of their keys was delivered meanwhile.
func (a *app) replayLetters(ctx context.Context, l configs.Loaded, letters []consumers.Letter, how consumers.Resolve) error {
	return a.withBoardOf(ctx, l, "dlq", func(b *consumers.Board) error {
		var failed error
		for _, d := range letters {
			later, unknown, err := b.Later(ctx, d)
			if err == nil {
				err = b.Replay(ctx, d, how)
			}
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("dead letter %d: %w", d.ID, err))
				continue
			}
			note := ""
			if how.Trial {
				note = ", taken back: a trial"
			}
			fmt.Fprintf(a.stdout, "%d: back under seq %d for %s%s\n", d.ID, d.Seq, d.Subscription, note)
			for _, item := range later {
				if item.Done {
					fmt.Fprintf(a.stdout, "    delivered before it, though it comes after it: seq %d, %s\n", item.Seq, plain(item.Type))
				}
			}
			if unknown {
				fmt.Fprintln(a.stdout, "    whether later items of the key were delivered already could not be found out in time")
			}
		}
		return failed
	})
}

// discardLetters closes letters of subscriptions, and returns how many were open.
func (a *app) discardLetters(ctx context.Context, l configs.Loaded, letters []consumers.Letter, note string) (n int, err error) {
	if len(letters) == 0 {
		return 0, nil
	}
	err = a.withBoardOf(ctx, l, "dlq", func(b *consumers.Board) error {
		for _, d := range letters {
			if d.State != "open" {
				continue
			}
			if err := b.Discard(ctx, d, consumers.Resolve{Note: note}); err != nil {
				return fmt.Errorf("dead letter %d: %w", d.ID, err)
			}
			n++
		}
		return nil
	})
	return n, err
}
