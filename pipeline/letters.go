package pipeline

import (
	"fmt"
	"sync"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// letterbox applies on_error to dead letters, those that the mapper makes (told by
// the chain) and those that the sink makes (told by the writer). Safe for both at
// once.
type letterbox struct {
	cfg   OnError
	now   func() time.Time
	count func(reason string)

	mu     sync.Mutex
	recent []time.Time // within the last minute, the oldest first; at most MaxPerMinute
	// The newest dead letter of each maker that was counted: a redelivery makes the
	// same ones again, which are no news.
	lastMapped, lastRefused lsn.ID
}

// mapped takes note of the dead letters among items. The error is a *fault.Halt.
func (l *letterbox) mapped(items []mapper.Item) error {
	for i := range items {
		it := &items[i]
		if it.Kind != mapper.KindDeadLetter {
			continue
		}
		if err := l.add(&l.lastMapped, it.ID, it.DeadLetter.Reason, it.DeadLetter.Error); err != nil {
			return err
		}
	}
	return nil
}

// refused takes note of an item that the sink refuses; it is sink.Source.OnPoison.
func (l *letterbox) refused(p sink.Poison) error {
	return l.add(&l.lastRefused, p.ID, p.Reason, fmt.Sprintf("stream %q: %v", p.Stream, p.Err))
}

func (l *letterbox) add(last *lsn.ID, id lsn.ID, reason, what string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Policy == PolicyHalt {
		return poisonHalt(id, reason, what)
	}
	if id.Compare(*last) <= 0 {
		return nil
	}
	if !l.allow() {
		return stormHalt(l.cfg.MaxPerMinute, id, reason, what)
	}
	*last = id
	l.count(reason)
	return nil
}

// allow reports whether one more keeps within the rate, and counts it.
func (l *letterbox) allow() bool {
	now := l.now()
	old := 0
	for old < len(l.recent) && now.Sub(l.recent[old]) >= time.Minute {
		old++
	}
	l.recent = append(l.recent[:0], l.recent[old:]...)
	if len(l.recent) >= l.cfg.MaxPerMinute {
		return false
	}
	l.recent = append(l.recent, now)
	return true
}

func poisonHalt(id lsn.ID, reason, what string) *fault.Halt {
	return &fault.Halt{
		Rule:  "poison",
		What:  "a change can never be stored, and on_error.policy is halt: " + what,
		Why:   "Going on would leave it out. Nothing from it on has been confirmed to the server.",
		Facts: []fault.Fact{{Name: "change", Value: id.String()}, {Name: "reason", Value: reason}},
		Ways: []fault.Way{
			{Text: "Cure the cause that the message names (the route, or the destination's constraint), then start the bridge again: the change is read again."},
			{Text: "Or let it become a dead letter that can be replayed later: set on_error.policy: dead_letter and start again.", Commands: []string{"walbridge run", "walbridge dlq list"}},
		},
	}
}

func stormHalt(max int, id lsn.ID, reason, what string) *fault.Halt {
	return &fault.Halt{
		Rule:  "poison-storm",
		What:  fmt.Sprintf("more than %d changes a minute can never be stored; the last: %s", max, what),
		Why:   "So many point to a wrong route or a changed table rather than to bad rows. Nothing from the named change on has been confirmed to the server.",
		Facts: []fault.Fact{{Name: "change", Value: id.String()}, {Name: "reason", Value: reason}},
		Ways: []fault.Way{
			{Text: "Look at the ones that were kept, cure the cause, start again, and replay them.", Commands: []string{"walbridge dlq list", "walbridge run", "walbridge dlq replay <id>"}},
			{Text: "If that many bad rows are expected, raise on_error.max_per_minute and start again.", Commands: []string{"walbridge run"}},
		},
	}
}
