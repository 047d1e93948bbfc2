package statusweb

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/walbridge/walbridge/internal/bytesize"
	"github.com/walbridge/walbridge/internal/status"
)

//go:embed page.html style.css
var files embed.FS

var (
	style     = mustRead("style.css")
	styleHash = hashOf(style)
	page      = template.Must(template.New("page.html").Funcs(template.FuncMap{
		"style": func() template.CSS { return template.CSS(style) }, // ours, embedded
	}).ParseFS(files, "page.html"))
)

func mustRead(name string) string {
	b, err := files.ReadFile(name)
	if err != nil {
		panic(err) // the file is embedded: it is there or the program was not built
	}
	return string(b)
}

// hashOf is the source expression that lets a browser take one style element.
func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// How often the page loads itself again: often while things move, seldom while an
// operator reads and copies from it.
const (
	refreshMoving = 2
	refreshHalted = 15
)

// maxShown bounds the lists of the page; /status has all of them.
const maxShown = 50

// tones say how a state is coloured and put in words.
var tones = map[string]struct{ tone, sentence string }{
	status.StateStarting:  {"idle", "Getting ready: looking at the source and the destination."},
	status.StateWaiting:   {"idle", "Standby: another process of this name is at work. This one takes over when it stops."},
	status.StateStreaming: {"good", "Changes reach the destination as they commit."},
	status.StateBackoff:   {"busy", "Something failed that may pass by itself. The bridge tries again."},
	status.StateHalted:    {"bad", "The bridge has stopped reading and waits for a decision."},
	status.StateStopped:   {"idle", "The bridge has been asked to stop."},
}

// view is the page's data: a status put into words.
type view struct {
	status.Status
	Tone, Sentence string
	Since, Uptime  string
	AtStamp        string
	Destination    string
	Way            []station
	Chart          *chart
	LagSeconds     string
	LagBytes       string
	Flow, Totals   []figure
	SlotFigures    []figure
	Reading        *reading
	Readers        *readers
	MoreWarnings   int
	Refresh        int // seconds; 0: off
	RefreshWhenOn  int
	Favicon        string
}

// figure is one number with its name.
type figure struct {
	Name, Value string
	Note        string // says what the name leaves open
	Tone        string // empty, busy, bad, or none for what was not measured
}

func newView(s status.Status, refresh bool) view {
	tone, known := tones[s.State]
	if !known {
		tone.tone = "idle"
	}
	if s.State == status.StateStreaming && !s.Ready {
		tone.tone, tone.sentence = "busy", "Changes reach the destination as they commit, but for tables that a route names and that are not streamed."
	}
	v := view{
		Status: s, Tone: tone.tone, Sentence: tone.sentence,
		Since: since(s.At, s.Since), Uptime: since(s.At, s.StartedAt), AtStamp: stamp(s.At),
		Destination: destination(s.Sink.Kind), Way: way(s.LSN), Chart: newChart(s.Lags, s.At),
		LagSeconds: optionalSeconds(s.Lag.Seconds), LagBytes: optionalBytes(s.Lag.ConfirmedBytes),
		Flow: flow(s), Totals: totals(s.Totals), SlotFigures: slotFigures(s.Slot), Reading: newReading(s.Snapshot), Readers: newReaders(s.Consumers),
		RefreshWhenOn: refreshMoving, Favicon: "favicon.svg?tone=" + tone.tone,
	}
	if s.State == status.StateHalted {
		v.RefreshWhenOn = refreshHalted
	}
	if refresh {
		v.Refresh = v.RefreshWhenOn
	}
	if n := len(s.Warnings); n > maxShown {
		v.Warnings, v.MoreWarnings = s.Warnings[:maxShown], n-maxShown
	}
	return v
}

// destination puts the kind of a sink into words.
func destination(kind string) string {
	switch kind {
	case "":
		return "Destination"
	case "worktable":
		return "Work table"
	case "stdout":
		return "Standard output"
	case "discard":
		return "Nowhere: items are counted and discarded"
	}
	return kind
}

func since(now, then time.Time) string {
	if then.IsZero() || now.IsZero() {
		return ""
	}
	return span(now.Sub(then))
}

// flow is what moves now. Before the first change there is nothing to divide.
func flow(s status.Status) []figure {
	if s.State == status.StateStarting && s.Totals == (status.Totals{}) {
		return []figure{{Name: "Changes", Value: noSample, Tone: "none"}, {Name: "Items", Value: noSample, Tone: "none"}, {Name: "Bytes", Value: noSample, Tone: "none"}}
	}
	return []figure{
		{Name: "Changes", Value: rate(s.Rates.Changes) + "/s"},
		{Name: "Items", Value: rate(s.Rates.Items) + "/s"},
		{Name: "Bytes", Value: bytesPerSecond(s.Rates.Bytes)},
	}
}

func totals(t status.Totals) []figure {
	dead := figure{Name: "Dead letters", Value: count(t.DeadLetters), Note: "could not be stored; kept aside with their reason"}
	if t.DeadLetters > 0 {
		dead.Tone = "busy"
	}
	return []figure{
		{Name: "Transactions", Value: count(t.Transactions)},
		{Name: "Changes", Value: count(t.Changes), Note: "rows inserted, updated, deleted"},
		{Name: "Events", Value: count(t.Events), Note: "from outbox tables"},
		{Name: "Records", Value: count(t.Records), Note: "row changes of other tables"},
		{Name: "Skipped", Value: count(t.Skipped), Note: "changes that no route takes"},
		dead,
		{Name: "Batches", Value: count(t.Batches)},
		{Name: "Bytes", Value: bytesize.Human(t.Bytes), Note: "read from the server"},
		{Name: "Reconnects", Value: count(t.Reconnects)},
	}
}

func slotFigures(s *status.Slot) []figure {
	if s == nil {
		return nil
	}
	safe := figure{Name: "Until it may be lost", Value: "no limit", Note: "max_slot_wal_keep_size is not set"}
	if s.SafeBytes != nil {
		safe.Value, safe.Note = bytesize.Human(*s.SafeBytes), "left of max_slot_wal_keep_size"
		if *s.SafeBytes < s.RetainedBytes/4 {
			safe.Tone = "busy"
		}
	}
	active := figure{Name: "In use", Value: "yes"}
	if !s.Active {
		active.Value, active.Tone = "no", "busy"
	}
	return []figure{
		{Name: "WAL", Value: s.WALStatus, Note: walStatus(s.WALStatus), Tone: walTone(s.WALStatus)},
		active,
		{Name: "Retained", Value: bytesize.Human(s.RetainedBytes), Note: "of WAL that the server keeps for this slot"},
		safe,
		{Name: "Confirmed flush", Value: orNoSample(s.ConfirmedFlush)},
		{Name: "Restart", Value: orNoSample(s.Restart)},
		{Name: "Catalog xmin age", Value: count(s.XminAge), Note: "transactions"},
	}
}

func orNoSample(s string) string {
	if s == "" {
		return noSample
	}
	return s
}

// walStatus explains pg_replication_slots.wal_status.
func walStatus(s string) string {
	switch s {
	case "reserved":
		return "all that the slot needs is there"
	case "extended":
		return "more than max_wal_size is kept for it"
	case "unreserved":
		return "the next checkpoint may remove what it needs"
	case "lost":
		return "what it needs is gone"
	}
	return ""
}

func walTone(s string) string {
	switch s {
	case "reserved":
		return ""
	case "extended":
		return "busy"
	}
	return "bad"
}

// servePage renders the page into memory first, so that a client that reads slowly
// holds no more than its own copy.
func servePage(c Config) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := newView(c.Status(), r.URL.Query().Get("refresh") != "off")
		var out bytes.Buffer
		if err := page.Execute(&out, v); err != nil {
			c.Logger.Error("render status page; answering 500", "error", err)
			http.Error(w, "the page could not be rendered; /status has the same as JSON", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if v.Refresh > 0 {
			w.Header().Set("Refresh", fmt.Sprint(v.Refresh))
		}
		_, _ = w.Write(out.Bytes()) // the client has gone
	}
}

// serveIcon draws the mark in the colour of the state.
func serveIcon(w http.ResponseWriter, r *http.Request) {
	colour, ok := map[string]string{"good": "#2f8f6b", "busy": "#b7791f", "bad": "#c0392b"}[r.URL.Query().Get("tone")]
	if !ok {
		colour = "#64748b"
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="%s"/>`+
		`<path d="M5 21c4-10 18-10 22 0M11 15.2V21M16 13.5V21M21 15.2V21M4 21h24" fill="none" stroke="#fff" stroke-width="2.2" stroke-linecap="round"/></svg>`, colour)
}
