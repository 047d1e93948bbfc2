package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/consumers"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink/kafka"
	"github.com/walbridge/walbridge/sink/worktable"
)

func (a *app) dlqCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "dlq", Short: "List, show, replay and discard dead letters",
		Long: `Changes that could not be mapped, items that the work table refused, and items that a
subscription's workers gave up, are kept as dead letters with their reason. They can be
looked at, replayed once the cause is cured, or discarded. What is done is noted in the
operation table. The dead letters of a Kafka sink are records of its dead-letter topic,
and their ids those of the items; what is replayed or discarded gets a tombstone there.`,
		Example: "  walbridge dlq list\n  walbridge dlq list --subscription search\n  walbridge dlq replay 17 18",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.dlqList(), a.dlqShow(), a.dlqReplay(), a.dlqDiscard())
	return cmd
}

// dlqWork is what a command does with dead letters, wherever they are.
type dlqWork struct {
	bad   error // of arguments that are none for a work table
	table func(configs.Loaded, *worktable.Store) error
	topic func(configs.Loaded, *kafka.Letters) error
}

// withLetters opens the dead letters of the configuration's destination.
func (a *app) withLetters(ctx context.Context, work dlqWork) error {
	loaded, err := a.load()
	if err != nil {
		return err
	}
	if cfg := loaded.Config.Sink.Kafka; cfg != nil {
		letters, err := kafka.OpenLetters(ctx, *cfg, loaded.Config.Name)
		if err != nil {
			return err
		}
		defer letters.Close()
		return work.topic(loaded, letters)
	}
	if work.bad != nil {
		return work.bad
	}
	cfg, err := workTableConfig(loaded)
	if err != nil {
		return err
	}
	store, err := worktable.OpenStore(ctx, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	return work.table(loaded, store)
}

func (a *app) dlqList() *cobra.Command {
	var f worktable.Filter
	var subscription, after string
	cmd := &cobra.Command{
		Use: "list", Short: "List dead letters, the oldest first",
		Long:    "List the bridge's dead letters, or those of a subscription, the oldest first. Without --all, those that were replayed or discarded are left out.",
		Example: "  walbridge dlq list --reason payload_not_json\n  walbridge dlq list --subscription search\n  walbridge dlq list --after 100 --limit 100 --json",
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.Limit < 1 || f.Limit > 1000 {
				return usageError{errors.New("--limit: 1 to 1000 are possible")}
			}
			bad := parseAfter(after, &f.After)
			if subscription != "" && bad != nil {
				return bad
			}
			if subscription != "" {
				loaded, err := a.load()
				if err != nil {
					return err
				}
				return a.listLetters(cmd.Context(), loaded, subscription, f)
			}
			return a.withLetters(cmd.Context(), dlqWork{bad, func(l configs.Loaded, s *worktable.Store) error {
				f.Source = l.Config.Name
				letters, err := s.List(cmd.Context(), f)
				if err != nil {
					return err
				}
				return a.showLetters(letters, f)
			}, func(_ configs.Loaded, l *kafka.Letters) error { return a.listTopic(cmd.Context(), l, f, after) }})
		},
	}
	cmd.Flags().StringVar(&subscription, "subscription", "", "those of this subscription, instead of the bridge's own")
	cmd.Flags().StringVar(&f.Stream, "stream", "", "only those of this stream")
	cmd.Flags().StringVar(&f.Key, "key", "", "only those of this key")
	cmd.Flags().StringVar(&f.Reason, "reason", "", "only those of this reason")
	cmd.Flags().BoolVar(&f.Resolved, "all", false, "also those that were replayed or discarded")
	cmd.Flags().StringVar(&after, "after", "", "only those above this id: the next page")
	cmd.Flags().IntVar(&f.Limit, "limit", 100, "how many at most, up to 1000")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) showLetters(letters []worktable.Letter, f worktable.Filter) error {
	if a.json {
		views := make([]letterView, len(letters))
		for i, l := range letters {
			views[i] = viewOf(l)
		}
		return a.printJSON(views)
	}
	t := table.NewWriter()
	t.SetOutputMirror(a.stdout)
	t.AppendHeader(table.Row{"id", "died at", "stream", "key", "reason", "error", "state"})
	for _, l := range letters {
		t.AppendRow(table.Row{l.ID, l.DiedAt.Format("2006-01-02 15:04:05"), l.Stream, string(l.Key), l.Reason, short(l.Error, 60), state(l)})
	}
	t.Render()
	if f.Limit > 0 && len(letters) == f.Limit {
		fmt.Fprintf(a.stdout, "there may be more: --after %d\n", letters[len(letters)-1].ID)
	}
	return nil
}

// letterView is a dead letter for scripts.
type letterView struct {
	ID          int64           `json:"id"`
	Bridge      string          `json:"bridge"`
	Item        string          `json:"item"`
	Stream      string          `json:"stream,omitempty"`
	Key         string          `json:"key,omitempty"`
	EventID     string          `json:"event_id,omitempty"`
	Kind        string          `json:"kind,omitempty"`
	Type        string          `json:"type,omitempty"`
	Reason      string          `json:"reason"`
	Error       string          `json:"error"`
	State       string          `json:"state"`
	Replayable  bool            `json:"replayable"`
	CommittedAt time.Time       `json:"committed_at"`
	DiedAt      time.Time       `json:"died_at"`
	Payload     json.RawMessage `json:"payload,omitempty"`
	Headers     json.RawMessage `json:"headers,omitempty"`
	Raw         json.RawMessage `json:"raw,omitempty"`
}

func viewOf(l worktable.Letter) letterView {
	return letterView{
		ID: l.ID, Bridge: l.Source, Item: l.Item.String(), Stream: l.Stream, Key: string(l.Key), EventID: l.EventID, Kind: l.Kind, Type: l.Type,
		Reason: l.Reason, Error: l.Error, State: state(l), Replayable: l.Replayable, CommittedAt: l.CommittedAt, DiedAt: l.DiedAt,
		Payload: l.Payload, Headers: l.Headers, Raw: l.Raw,
	}
}

func state(l worktable.Letter) string {
	if l.Resolution != "" {
		return l.Resolution
	}
	return "open"
}

func short(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}

func (a *app) dlqShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show one dead letter, whole",
		Long:    "Show one dead letter with its payload or the change it was made of, as JSON.",
		Example: "  walbridge dlq show 17",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, bad := parseIDs(args)
			return a.withLetters(cmd.Context(), dlqWork{bad, func(loaded configs.Loaded, s *worktable.Store) error {
				l, err := s.Show(cmd.Context(), ids[0])
				if errors.Is(err, worktable.ErrNoLetter) {
					return a.showLetterOf(cmd.Context(), loaded, ids[0])
				}
				if err != nil {
					return err
				}
				return a.printJSON(viewOf(l))
			}, func(_ configs.Loaded, l *kafka.Letters) error { return a.showOfTopic(cmd.Context(), l, args[0]) }})
		},
	}
	return cmd
}

func (a *app) dlqReplay() *cobra.Command {
	var how consumers.Resolve
	cmd := &cobra.Command{
		Use: "replay ID ...", Short: "Deliver dead letters again",
		Long: `Replay dead letters. Of the bridge: what could not be mapped is mapped again by today's
routes, what the table refused is stored as it was mapped; the items keep their ids and
get a new place at the end of the log. Of a subscription: the item goes back to its
workers under its old seq, with new attempts. Items of the same key that were delivered
meanwhile are named; --if-latest refuses where the log has a newer one. Of a bridge to
Kafka: the items are stored behind what came meanwhile, with their old wb-id.`,
		Example: "  walbridge dlq replay 17 --trial\n  walbridge dlq replay 17 18 --if-latest",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, bad := parseIDs(args)
			return a.withLetters(cmd.Context(), dlqWork{bad,
				func(l configs.Loaded, s *worktable.Store) error { return a.replayAll(cmd.Context(), l, s, ids, how) },
				func(l configs.Loaded, s *kafka.Letters) error { return a.replayOfTopic(cmd.Context(), l, s, args, how) }})
		},
	}
	cmd.Flags().BoolVar(&how.IfLatest, "if-latest", false, "of a subscription: only where the log has no newer item of the key")
	cmd.Flags().BoolVar(&how.Trial, "trial", false, "do it, say what would happen, and take it back")
	cmd.Flags().StringVar(&how.Note, "note", "", "why, for the operation table, or for a header of the tombstone")
	return cmd
}

// replayAll replays letters of subscriptions and of the bridge.
func (a *app) replayAll(ctx context.Context, l configs.Loaded, s *worktable.Store, ids []int64, how consumers.Resolve) error {
	theirs, own, err := a.sorted(ctx, l, ids)
	if err != nil {
		return err
	}
	if how.IfLatest && len(own) > 0 {
		return usageError{fmt.Errorf("--if-latest is about letters of subscriptions; dead letter %d is none", own[0])}
	}
	if len(theirs) > 0 {
		err = a.replayLetters(ctx, l, theirs, how)
	}
	if len(own) > 0 {
		err = errors.Join(err, a.replay(ctx, l, s, own, worktable.Operator{ToolVersion: a.version, Note: how.Note}, how.Trial))
	}
	return err
}

func (a *app) replay(ctx context.Context, l configs.Loaded, s *worktable.Store, ids []int64, by worktable.Operator, trial bool) error {
	remap, err := a.remap(ctx, l)
	if err != nil {
		return err
	}
	var failed error
	for _, id := range ids {
		if err := ownLetter(ctx, s, id, l.Config.Name); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		done, err := s.Replay(ctx, id, remap, by, trial)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("dead letter %d: %w", id, err))
			continue
		}
		fmt.Fprintf(a.stdout, "%d: %d items%s\n", id, done.Items, place(done, trial))
		for _, later := range done.Later {
			fmt.Fprintf(a.stdout, "    delivered before it, though it comes after it: seq %d, %s %s\n", later.Seq, later.Type, later.Item)
		}
		if done.LaterUnknown {
			fmt.Fprintln(a.stdout, "    whether later items of the key were delivered already could not be found out in time")
		}
	}
	return failed
}

func place(done worktable.Replayed, trial bool) string {
	if trial {
		return ", taken back: a trial"
	}
	return fmt.Sprintf(" from seq %d on", done.FirstSeq)
}

// remap maps a dead letter's change by today's routes and catalog.
func (a *app) remap(ctx context.Context, l configs.Loaded) (worktable.Remap, error) {
	src, err := source(l, a.quiet())
	if err != nil {
		return nil, err
	}
	srv, types, tables, err := look(ctx, src)
	if err != nil {
		return nil, err
	}
	m, err := newMapper(l, mapped{srv.Database, a.version})(types, tables)
	if err != nil {
		return nil, err
	}
	return func(raw []byte) ([]mapper.Item, error) {
		change, err := mapper.DecodeRaw(raw)
		if err != nil {
			return nil, err
		}
		return m.Map(change)
	}, nil
}

func (a *app) dlqDiscard() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use: "discard ID ...", Short: "Close dead letters for good",
		Long:    "Close dead letters that nobody needs. They stay to be read, and are never replayed. A key that a subscription's letter blocked goes on.",
		Example: "  walbridge dlq discard 17 --note 'test data'",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, bad := parseIDs(args)
			return a.withLetters(cmd.Context(), dlqWork{bad,
				func(l configs.Loaded, s *worktable.Store) error { return a.discardAll(cmd.Context(), l, s, ids, note) },
				func(_ configs.Loaded, l *kafka.Letters) error { return a.discardOfTopic(cmd.Context(), l, args, note) }})
		},
	}
	cmd.Flags().StringVar(&note, "note", "", "why, for the operation table, or for a header of the tombstone")
	return cmd
}

// discardAll closes letters of subscriptions and of the bridge; a mistake in one id
// closes none.
func (a *app) discardAll(ctx context.Context, l configs.Loaded, s *worktable.Store, ids []int64, note string) error {
	theirs, own, err := a.sorted(ctx, l, ids)
	if err != nil {
		return err
	}
	for _, id := range own {
		if err := ownLetter(ctx, s, id, l.Config.Name); err != nil {
			return err
		}
	}
	n, err := a.discardLetters(ctx, l, theirs, note)
	if err != nil {
		return err
	}
	if len(own) > 0 {
		more, err := s.Discard(ctx, own, worktable.Operator{ToolVersion: a.version, Note: note})
		if err != nil {
			return err
		}
		n += more
	}
	_, err = fmt.Fprintf(a.stdout, "discarded %d of %d; the others were not open\n", n, len(ids))
	return err
}

// ownLetter refuses a dead letter of another bridge that shares the work table: it
// would be mapped by the wrong routes.
func ownLetter(ctx context.Context, s *worktable.Store, id int64, bridge string) error {
	l, err := s.Show(ctx, id)
	if err != nil {
		return fmt.Errorf("dead letter %d: %w", id, err)
	}
	if l.Source != bridge {
		return fmt.Errorf("dead letter %d is of the bridge %q, not of %q: use its configuration", id, l.Source, bridge)
	}
	return nil
}

// parseAfter takes the value of --after for a work table.
func parseAfter(text string, to *int64) error {
	if text == "" {
		return nil
	}
	ids, err := parseIDs([]string{text})
	if err == nil {
		*to = ids[0]
	}
	return err
}

func parseIDs(args []string) ([]int64, error) {
	ids := make([]int64, len(args))
	for i, arg := range args {
		id, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || id < 1 {
			return nil, usageError{fmt.Errorf("%q is no id of a dead letter", arg)}
		}
		ids[i] = id
	}
	return ids, nil
}
