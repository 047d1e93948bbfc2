package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/consumers"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/sink/worktable"
)

// lookedAt is how many items of the log a command looks at to tell the lag of each lane, or what a reset does.
const lookedAt = 100_000

// withSession opens a session to the configuration's work table.
func (a *app) withSession(ctx context.Context, purpose string, use func(*pgx.Conn, worktable.Config) error) error {
	loaded, err := a.load()
	if err != nil {
		return err
	}
	return a.sessionOf(ctx, loaded, purpose, use)
}

func (a *app) sessionOf(ctx context.Context, l configs.Loaded, purpose string, use func(*pgx.Conn, worktable.Config) error) error {
	cfg, err := workTableConfig(l)
	if err != nil {
		return err
	}
	conn, err := worktable.Connect(ctx, cfg, purpose)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it ends either way
	return use(conn, cfg)
}

// withBoard opens the consumers of the configuration's work table.
func (a *app) withBoard(ctx context.Context, purpose string, use func(*consumers.Board) error) error {
	loaded, err := a.load()
	if err != nil {
		return err
	}
	return a.withBoardOf(ctx, loaded, purpose, use)
}

// withBoardOf is withBoard for a configuration that is loaded.
func (a *app) withBoardOf(ctx context.Context, l configs.Loaded, purpose string, use func(*consumers.Board) error) error {
	return a.sessionOf(ctx, l, purpose, func(conn *pgx.Conn, cfg worktable.Config) error {
		b, err := consumers.New(ctx, conn, cfg.Schema, a.version)
		if err != nil {
			return err
		}
		return use(b)
	})
}

// storedConsumers is what the work table says of its consumers; nil without a word
// when it cannot be read, which the rest of a status says.
func (a *app) storedConsumers(ctx context.Context, l configs.Loaded) *status.Consumers {
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	var all *status.Consumers
	err := a.withBoardOf(ctx, l, "status", func(b *consumers.Board) error {
		c, err := b.All(ctx, statusWithin/2)
		all = &c
		return err
	})
	if err != nil {
		return nil
	}
	return all
}

// rows renders a table for people.
func (a *app) rows(head table.Row, rows []table.Row) {
	t := table.NewWriter()
	t.SetOutputMirror(a.stdout)
	t.AppendHeader(head)
	t.AppendRows(rows)
	t.Render()
}

// backlogText writes a lag for people.
func backlogText(l status.Backlog) string {
	items := fmt.Sprint(l.Items)
	if l.More {
		items += "+"
	}
	switch {
	case l.Seconds == nil && l.Items == 0:
		return "unknown"
	case l.Seconds == nil:
		return items
	case l.Items == 0:
		return "0"
	}
	return items + ", " + ageText(*l.Seconds)
}

// ageText writes seconds for people.
func ageText(s float64) string {
	if s > math.MaxInt64/2e9 {
		return "long"
	}
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", s)
	}
	return d.Round(time.Second).String()
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func optionalTime(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return timeText(*t)
}

// plain is a text of the data as it may go to a terminal: control characters would
// be commands to it.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// oneLine is JSON without line breaks; what is none is left as it is.
func oneLine(text json.RawMessage) string {
	var out bytes.Buffer
	if json.Compact(&out, text) != nil {
		return string(text)
	}
	return out.String()
}

func optionalText(s *string) string {
	if s == nil {
		return "-"
	}
	return plain(*s)
}
