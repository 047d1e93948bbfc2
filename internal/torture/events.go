package torture

import (
	"crypto/sha256"
	"fmt"
	"strconv"
)

// digest tells contents apart.
type digest [16]byte

func digestOf(parts ...[]byte) digest {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:", len(p))
		h.Write(p)
	}
	return digest(h.Sum(nil)[:16])
}

// events are the domain events that a source has delivered.
type events struct {
	seen       map[digest]digest // content by id
	aggregates map[string]int64  // number of the last event by aggregate
}

func newEvents() events {
	return events{seen: make(map[digest]digest), aggregates: make(map[string]int64)}
}

// event takes a domain event.
func (c *Checker) event(s *source, it *Item) *Finding {
	if c.rules.Lanes > 0 && it.Lane != laneOf(it.Key, c.rules.Lanes) {
		return &Finding{Rule: RuleLane, What: fmt.Sprintf("lane %d is not that of the key %q", it.Lane, it.Key)}
	}
	id := digestOf([]byte(it.EventID))
	if _, repeated := s.events.seen[id]; repeated {
		return &Finding{Rule: RuleRepeated, What: "event " + it.EventID + " was there before"}
	}
	content, n, err := eventContent(it.Stream, it.Key, it.Type, it.Payload, it.Headers)
	if err != nil {
		return &Finding{Rule: RulePayload, What: fmt.Sprintf("%v: %.300s", err, it.Payload)}
	}
	if last := s.events.aggregates[it.Key]; n != last+1 {
		return &Finding{Rule: RuleEventOrder, What: fmt.Sprintf("event %s is number %d of %s, after number %d", it.EventID, n, it.Key, last)}
	}
	s.events.seen[id], s.events.aggregates[it.Key] = content, n
	return nil
}

// eventContent returns what identifies an event's content, and the number in its
// payload.
func eventContent(stream, key, typ string, payload, headers []byte) (content digest, n int64, err error) {
	body, err := normal(nil, payload)
	if err != nil {
		return digest{}, 0, fmt.Errorf("read the payload: %w", err)
	}
	head := []byte("null")
	if headers != nil {
		if head, err = normal(nil, headers); err != nil {
			return digest{}, 0, fmt.Errorf("read the headers: %w", err)
		}
	}
	err = members(payload, func(name, value []byte) error {
		if string(name) == "n" {
			n, err = strconv.ParseInt(string(value), 10, 64)
		}
		return err
	})
	return digestOf([]byte(stream), []byte(key), []byte(typ), body, head), n, err
}
