package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/consumers"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink/kafka"
	"github.com/walbridge/walbridge/sink/worktable"
)

// listTopic lists the dead letters of a dead-letter topic.
func (a *app) listTopic(ctx context.Context, l *kafka.Letters, f worktable.Filter, after string) error {
	filter := kafka.Filter{Stream: f.Stream, Key: f.Key, Reason: f.Reason, Resolved: f.Resolved, Limit: f.Limit}
	if after != "" {
		ids, err := itemIDs([]string{after})
		if err != nil {
			return err
		}
		filter.After = ids[0]
	}
	all, err := l.List(ctx, filter)
	if err != nil {
		return err
	}
	if a.json {
		views := make([]topicLetter, len(all))
		for i := range all {
			views[i] = viewOfTopic(all[i])
		}
		return a.printJSON(views)
	}
	t := table.NewWriter()
	t.SetOutputMirror(a.stdout)
	t.AppendHeader(table.Row{"id", "died at", "stream", "key", "reason", "error", "state"})
	for _, one := range all {
		t.AppendRow(table.Row{one.ID, one.DiedAt.Format("2006-01-02 15:04:05"), one.Stream, string(one.Key), one.Reason, short(one.Error, 60), stateOfTopic(one)})
	}
	t.Render()
	if filter.Limit > 0 && len(all) == filter.Limit {
		fmt.Fprintf(a.stdout, "there may be more: --after %s\n", all[len(all)-1].ID)
	}
	return nil
}

// topicLetter is a dead letter of a topic for scripts, with the names of letterView.
type topicLetter struct {
	ID          string            `json:"id"`
	Bridge      string            `json:"bridge"`
	Stream      string            `json:"stream,omitempty"`
	Key         string            `json:"key,omitempty"`
	EventID     string            `json:"event_id,omitempty"`
	Type        string            `json:"type,omitempty"`
	Reason      string            `json:"reason"`
	Error       string            `json:"error"`
	State       string            `json:"state"`
	Replayable  bool              `json:"replayable"`
	CommittedAt time.Time         `json:"committed_at"`
	DiedAt      time.Time         `json:"died_at"`
	Payload     json.RawMessage   `json:"payload,omitempty"` // a JSON string of what is no JSON
	Headers     map[string]string `json:"headers,omitempty"`
	Raw         json.RawMessage   `json:"raw,omitempty"`
}

func viewOfTopic(l kafka.Letter) topicLetter {
	v := topicLetter{
		ID: l.ID.String(), Bridge: l.Source, Stream: l.Stream, Key: string(l.Key), EventID: l.EventID, Type: l.Type, Reason: l.Reason, Error: l.Error,
		State: stateOfTopic(l), Replayable: l.Replayable, CommittedAt: l.CommittedAt, DiedAt: l.DiedAt,
	}
	if l.Unmapped {
		v.Raw = asJSON(l.Value)
		return v
	}
	v.Payload, v.Headers = asJSON(l.Value), map[string]string{}
	for _, h := range l.Headers {
		v.Headers[h.Name] = h.Value
	}
	return v
}

// asJSON is the value itself when it is JSON, and else a JSON string of it.
func asJSON(value []byte) json.RawMessage {
	if value == nil || json.Valid(value) {
		return value
	}
	text, err := json.Marshal(string(value))
	if err != nil {
		return nil // a string can always be marshalled
	}
	return text
}

func stateOfTopic(l kafka.Letter) string {
	if l.Resolution != "" {
		return l.Resolution
	}
	return "open"
}

func (a *app) showOfTopic(ctx context.Context, l *kafka.Letters, arg string) error {
	ids, err := itemIDs([]string{arg})
	if err != nil {
		return err
	}
	one, err := l.Show(ctx, ids[0])
	if err != nil {
		return fmt.Errorf("dead letter %s: %w", arg, err)
	}
	return a.printJSON(viewOfTopic(one))
}

func (a *app) replayOfTopic(ctx context.Context, loaded configs.Loaded, l *kafka.Letters, args []string, how consumers.Resolve) error {
	ids, err := itemIDs(args)
	if err != nil {
		return err
	}
	if how.IfLatest {
		return usageError{errors.New("--if-latest is about letters of subscriptions; those of a topic are none")}
	}
	remap, err := a.remap(ctx, loaded)
	if err != nil {
		return err
	}
	var failed error
	for _, id := range ids {
		items, err := l.Replay(ctx, id, kafka.Remap(remap), how.Note, how.Trial)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("dead letter %s: %w", id, err))
			continue
		}
		done := "stored"
		if how.Trial {
			done = "not stored: a trial"
		}
		fmt.Fprintf(a.stdout, "%s: %d items, %s\n", id, items, done)
	}
	return failed
}

func (a *app) discardOfTopic(ctx context.Context, l *kafka.Letters, args []string, note string) error {
	ids, err := itemIDs(args)
	if err != nil {
		return err
	}
	n, err := l.Discard(ctx, ids, note)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "discarded %d of %d; the others were not open\n", n, len(ids))
	return err
}

// itemIDs takes ids of dead letters of a topic.
func itemIDs(args []string) ([]lsn.ID, error) {
	ids := make([]lsn.ID, len(args))
	for i, arg := range args {
		id, err := lsn.ParseID(arg)
		if err != nil {
			return nil, usageError{fmt.Errorf("%q is no id of a dead letter in Kafka, which walbridge dlq list shows", arg)}
		}
		ids[i] = id
	}
	return ids, nil
}
