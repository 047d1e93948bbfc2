package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/status"
)

// snapshotProgress asks the running bridge, or reads what the destination has stored.
func (a *app) snapshotProgress(ctx context.Context, l configs.Loaded) (status.Snapshot, error) {
	if s, err := runningStatus(ctx, l.Config.HTTP.Listen); err == nil && s.Bridge == l.Config.Name && s.Snapshot != nil {
		return *s.Snapshot, nil
	}
	state, err := storedSnapshot(ctx, l)
	if err != nil {
		return status.Snapshot{}, err
	}
	s := status.Snapshot{Paused: state.Paused, DoneTables: state.DoneTables, DoneRows: state.DoneRows, Request: state.Request, Tables: []status.SnapshotTable{}}
	for _, t := range state.Tables {
		s.Tables = append(s.Tables, status.SnapshotTable{Table: t.QualifiedName(), Run: t.Run, Rows: t.Rows, Estimate: t.Estimate})
	}
	return s, nil
}

func (a *app) printSnapshot(s status.Snapshot) error {
	var b strings.Builder
	switch {
	case len(s.Tables) == 0:
		fmt.Fprintf(&b, "nothing to read; %d tables with %d rows are done\n", s.DoneTables, s.DoneRows)
	case s.Paused:
		b.WriteString("paused\n")
	}
	for _, t := range s.Tables {
		b.WriteString(tableLine(t) + "\n")
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}

// showSnapshot adds what is being read to a status.
func showSnapshot(line func(name, format string, args ...any), s *status.Snapshot) {
	if s == nil || len(s.Tables) == 0 {
		return
	}
	what := "reading"
	if s.Paused {
		what = "paused"
	}
	line("snapshot", "%s, %d tables left, %d done, %.0f rows/s", what, len(s.Tables), s.DoneTables, s.RowsPerSecond)
	for _, t := range s.Tables {
		if t.Reading || t.Problem != "" {
			line("", "%s", tableLine(t))
		}
	}
}

// tableLine is how far one table is.
func tableLine(t status.SnapshotTable) string {
	text := fmt.Sprintf("%s: %d rows", t.Table, t.Rows)
	if ratio, ok := t.Ratio(); ok {
		text += fmt.Sprintf(" of about %d (%.0f %%)", t.Estimate, 100*ratio)
	}
	switch {
	case t.Problem != "":
		return text + "; cannot be read: " + t.Problem
	case t.Detail != "":
		return text + "; " + t.Detail
	case !t.Reading && t.Rows == 0:
		return text + "; waits"
	}
	return text
}

// progress shows the reading: one line that is written over on a terminal, else a line
// now and then.
type progress struct {
	w        io.Writer
	terminal bool
	width    int
	last     time.Time
}

// quietEvery is how often a line is written where it is no terminal.
const quietEvery = 5 * time.Second

func newProgress(w io.Writer, terminal bool) *progress { return &progress{w: w, terminal: terminal} }

func (p *progress) show(s status.Snapshot, names []string, over bool) {
	text := progressText(s, names)
	if p.terminal {
		pad := max(0, p.width-len(text))
		p.width = len(text)
		fmt.Fprint(p.w, "\r"+text+strings.Repeat(" ", pad))
		if over {
			fmt.Fprintln(p.w)
		}
		return
	}
	if now := time.Now(); now.Sub(p.last) >= quietEvery {
		p.last = now
		fmt.Fprintln(p.w, text)
	}
}

const barWidth = 24

// progressText has rows, ratio, rate and the time left of the tables named.
func progressText(s status.Snapshot, names []string) string {
	var rows, estimate int64
	known, left := true, 0
	for _, t := range s.Tables {
		if !slices.Contains(names, t.Table) {
			continue
		}
		if t.Problem != "" {
			return t.Table + " cannot be read: " + t.Problem
		}
		left++
		rows, known = rows+t.Rows, known && t.Estimate > 0
		estimate += max(t.Estimate, t.Rows)
	}
	text := fmt.Sprintf("%d of %d tables left, %d rows, %.0f rows/s", left, len(names), rows, s.RowsPerSecond)
	if s.Paused {
		text = "paused; " + text
	}
	if !known || estimate == 0 {
		return text
	}
	ratio := float64(rows) / float64(estimate)
	full := int(ratio * barWidth)
	text = fmt.Sprintf("[%s%s] %3.0f %%, %s", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), 100*ratio, text)
	if s.RowsPerSecond >= 1 {
		wait := time.Duration(float64(estimate-rows) / s.RowsPerSecond * float64(time.Second))
		text += ", about " + wait.Round(time.Second).String() + " left"
	}
	return text
}

// done reports whether none of the tables is left.
func done(s status.Snapshot, names []string) bool {
	return !slices.ContainsFunc(s.Tables, func(t status.SnapshotTable) bool { return slices.Contains(names, t.Table) })
}
