package statusweb

import (
	"strings"

	"github.com/walbridge/walbridge/internal/status"
)

// readers are the consumers of the work table, ready to show.
type readers struct {
	Subscriptions     []subscription
	MoreSubscriptions int
	Workflows         []workflow
	MoreWorkflows     int
}

type subscription struct {
	Name, Streams, State string
	Tone                 string // of the state
	Figures              []figure
}

type workflow struct {
	Name    string
	Figures []figure
}

// newReaders returns nil when the consumers are not known, or there are none.
func newReaders(c *status.Consumers) *readers {
	if c == nil || len(c.Subscriptions)+len(c.Workflows) == 0 {
		return nil
	}
	r := &readers{
		MoreSubscriptions: max(0, len(c.Subscriptions)-maxShown),
		MoreWorkflows:     max(0, len(c.Workflows)-maxShown),
	}
	for _, s := range c.Subscriptions[:min(len(c.Subscriptions), maxShown)] {
		r.Subscriptions = append(r.Subscriptions, newSubscription(s))
	}
	for _, w := range c.Workflows[:min(len(c.Workflows), maxShown)] {
		r.Workflows = append(r.Workflows, newWorkflow(w))
	}
	return r
}

func newSubscription(s status.Subscription) subscription {
	v := subscription{Name: s.Name, State: s.State, Streams: strings.Join(s.Streams, ", "), Tone: "idle"}
	switch s.State {
	case status.SubscriptionActive:
		v.Tone = "good"
	case status.SubscriptionFull:
		v.Tone = "busy"
	case status.SubscriptionExpired:
		v.Tone = "bad"
	}
	behind := figure{Name: "Behind", Value: optionalSeconds(s.Lag.Seconds), Note: items(s.Lag)}
	switch {
	case s.Lag.Seconds == nil:
		behind.Tone = "none"
	case s.Lag.Items == 0:
		behind.Value = "nothing"
	}
	workers := figure{Name: "Workers", Value: count(int64(s.Workers)), Note: count(int64(s.LanesOwned)) + " of " + count(int64(s.Lanes)) + " lanes have one"}
	if s.Workers == 0 && s.State == status.SubscriptionActive {
		workers.Tone = "busy"
	}
	v.Figures = []figure{behind, workers, warned("Parked", s.Parked, s.State == status.SubscriptionFull), warned("Dead letters", s.Dead, s.Dead > 0)}
	if s.HoldsSeconds != nil {
		v.Figures = append(v.Figures, figure{Name: "Holds the log", Value: seconds(*s.HoldsSeconds), Note: "beyond its retention", Tone: "busy"})
	}
	return v
}

func items(l status.Backlog) string {
	text := count(l.Items)
	if l.Items == 0 && l.Seconds == nil {
		return ""
	}
	if l.More {
		text += " or more"
	}
	if l.Items == 1 && !l.More {
		return text + " item"
	}
	return text + " items"
}

func newWorkflow(w status.Workflow) workflow {
	return workflow{w.Name, []figure{
		{Name: "Running", Value: count(w.Running)}, {Name: "Waiting", Value: count(w.Waiting)}, {Name: "Compensating", Value: count(w.Compensating)},
		warned("Failed", w.Failed, w.Failed > 0), warned("Halted", w.Halted, w.Halted > 0),
	}}
}

// warned is a count that is coloured when something is wrong.
func warned(name string, n int64, wrong bool) figure {
	f := figure{Name: name, Value: count(n)}
	if wrong {
		f.Tone = "busy"
	}
	return f
}
