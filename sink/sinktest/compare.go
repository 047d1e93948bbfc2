package sinktest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
)

// itemStored is what a destination that keeps everything holds of an item.
func itemStored(source string, it *mapper.Item, id lsn.ID) Stored {
	s := Stored{
		Source: source, ID: id, Kind: it.Kind, Stream: it.Stream, Key: bytes.Clone(it.Key),
		EventID: string(it.EventID), Type: string(it.Type), Headers: bytes.Clone(it.Headers),
		CommittedAt: it.CommittedAt, Time: it.Time, AvailableAt: it.AvailableAt, Xid: it.Xid,
	}
	if it.Payload != nil {
		s.Payload = it.Payload.AppendJSON([]byte{})
	}
	if it.DeadLetter != nil {
		d := *it.DeadLetter
		d.Raw = bytes.Clone(d.Raw)
		s.DeadLetter = &d
	}
	return s
}

// laneEventID is the event id of one lane's item of an item of all lanes: the id
// at its end is the lane's.
func laneEventID(it *mapper.Item, id lsn.ID) string {
	return strings.TrimSuffix(string(it.EventID), it.ID.String()) + id.String()
}

// changeStored is what the items of a change become, one of all lanes one for
// each lane.
func changeStored(h Harness, source string, c Change) []Stored {
	var all []Stored
	for i := range c {
		lanes := 1
		if c[i].AllLanes {
			lanes = h.Lanes
		}
		for lane := range lanes {
			if !c[i].AllLanes {
				all = append(all, itemStored(source, &c[i], c[i].ID))
				continue
			}
			id := c[i].ID
			id.Sub = uint16(lane)
			s := itemStored(source, &c[i], id)
			s.EventID = laneEventID(&c[i], id)
			all = append(all, s)
		}
	}
	return all
}

// text is the canonical form of a stored item, for comparison and messages.
func (s Stored) text() string {
	none := func(b []byte) string {
		switch {
		case b == nil:
			return "none"
		case len(b) > 200:
			return fmt.Sprintf("%q… (%d bytes, sha256 %x)", b[:60], len(b), sha256.Sum256(b))
		}
		return fmt.Sprintf("%q", b)
	}
	t := fmt.Sprintf("%s %s %s stream=%q key=%s event=%q type=%q at=%d time=%d avail=%d xid=%d end=%t headers=%s payload=%s", s.Source, s.ID, s.Kind,
		s.Stream, none(s.Key), s.EventID, s.Type, s.CommittedAt, s.Time, s.AvailableAt, s.Xid, s.TxEnd, none(s.Headers), none(s.Payload))
	if d := s.DeadLetter; d != nil {
		t += fmt.Sprintf(" reason=%q error=%q raw=%s replayable=%t", d.Reason, d.Error, none(d.Raw), d.Replayable)
	}
	return t
}

// group is what an item is in order with.
func (h Harness) group(s Stored) string {
	switch {
	case s.Kind == mapper.KindDeadLetter:
		return "dead letters of " + s.Source
	case !h.Promises.PerKeyOrder:
		return s.Source
	case s.Key == nil:
		return s.Source + " " + s.ID.String()
	}
	return fmt.Sprintf("%s %s %q", s.Source, s.Stream, s.Key)
}

// once drops repeated deliveries, where the sink may repeat, and fails where it may
// not, or where a repetition differs from the first.
func once(t testing.TB, h Harness, got []Stored) []Stored {
	t.Helper()
	seen := map[string]Stored{}
	var first []Stored
	for _, s := range got {
		id := fmt.Sprintf("%s %s %t", s.Source, s.ID, s.Kind == mapper.KindDeadLetter)
		before, again := seen[id]
		if !again {
			seen[id] = s
			first = append(first, s)
			continue
		}
		require.False(t, h.Promises.ExactlyOnce, "stored twice: %s", s.text())
		require.Equal(t, before.text(), s.text(), "a second delivery differs from the first")
		require.Equal(t, string(before.Whole), string(s.Whole), "a second delivery differs from the first in its bytes")
	}
	return first
}

// distinct fails when two items bear one event id.
func distinct(t testing.TB, got []Stored) {
	t.Helper()
	seen := map[string]lsn.ID{}
	for _, s := range got {
		if s.Kind == mapper.KindDeadLetter || s.EventID == "" {
			continue
		}
		other, again := seen[s.EventID]
		require.False(t, again, "event id %q is borne by %s and by %s", s.EventID, other, s.ID)
		seen[s.EventID] = s.ID
	}
}

// between fails unless what is stored is a prefix of may that holds all of must, in
// each group of items that are in order; must is a prefix of may.
func between(t testing.TB, h Harness, got, must, may []Stored) {
	t.Helper()
	got = once(t, h, got)
	distinct(t, got)
	gotBy, mustBy, mayBy := h.grouped(got, false), h.grouped(must, true), h.grouped(may, true)
	for name, items := range gotBy {
		allowed := mayBy[name]
		require.LessOrEqual(t, len(items), len(allowed), "%s: more is stored than was written: %s", name, strings.Join(items, "\n"))
		require.Equal(t, strings.Join(allowed[:len(items)], "\n"), strings.Join(items, "\n"), "%s: what is stored differs from what was written", name)
	}
	for name, items := range mustBy {
		require.GreaterOrEqual(t, len(gotBy[name]), len(items), "%s: items of a stored position are missing, the first: %s",
			name, items[min(len(gotBy[name]), len(items)-1)])
	}
}

func (h Harness) grouped(items []Stored, expected bool) map[string][]string {
	by := map[string][]string{}
	for _, s := range items {
		if expected {
			s = h.Keeps(s)
		}
		name := h.group(s)
		by[name] = append(by[name], s.text())
	}
	return by
}
