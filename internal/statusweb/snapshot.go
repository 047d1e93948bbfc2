package statusweb

import (
	"fmt"

	"github.com/walbridge/walbridge/internal/status"
)

// reading is what a snapshot has to read, ready to show.
type reading struct {
	State, Tone string
	Figures     []figure
	Tables      []figure
	More        int
}

// newReading returns nil when there is nothing left to read.
func newReading(s *status.Snapshot) *reading {
	if s == nil || len(s.Tables) == 0 {
		return nil
	}
	r := &reading{State: "reading", Tone: "good", More: max(0, len(s.Tables)-maxShown)}
	if s.Paused {
		r.State, r.Tone = "paused", "busy"
	}
	r.Figures = []figure{
		{Name: "Tables left", Value: count(int64(len(s.Tables)))},
		{Name: "Tables done", Value: count(int64(s.DoneTables))},
		{Name: "Rows", Value: rate(s.RowsPerSecond) + "/s"},
	}
	for _, t := range s.Tables[:min(len(s.Tables), maxShown)] {
		r.Tables = append(r.Tables, tableFigure(t))
	}
	return r
}

func tableFigure(t status.SnapshotTable) figure {
	f := figure{Name: t.Table, Value: count(t.Rows) + " rows", Note: t.Detail}
	if ratio, ok := t.Ratio(); ok {
		f.Value += fmt.Sprintf(" of about %s, %.0f %%", count(t.Estimate), 100*ratio)
	}
	switch {
	case t.Problem != "":
		f.Note, f.Tone = "cannot be read: "+t.Problem, "bad"
	case !t.Reading && t.Rows == 0:
		f.Note = "waits for its turn"
	}
	return f
}
