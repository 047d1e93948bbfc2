package sinktest

import (
	"errors"
	"regexp"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// poisonChecks are for destinations that refuse some items.
func poisonChecks() []check {
	return []check{
		{"poison", poison},
		{"poison_only", poisonOnly},
		{"poison_abort", poisonAbort},
		{"poison_unasked", poisonUnasked},
	}
}

var snakeCase = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// spoiled makes a source of one transaction of n records, those at bad refused by
// the destination, and returns what is stored of it: the rest, and a dead letter
// for each refused item, of which only id and stream are set.
func (e *env) spoiled(n int, bad ...int) (src *source, good []Stored, dead []lsn.ID) {
	src = e.plain(n, e.record, e.event)
	for _, i := range bad {
		it := &src.txs[0].Changes[i][0]
		e.d.Poison(it)
		dead = append(dead, it.ID)
	}
	for i, s := range src.all() {
		if !contains(dead, src.txs[0].Changes[i][0].ID) {
			s.TxEnd = false
			good = append(good, s)
		}
	}
	return src, good, dead
}

func contains(ids []lsn.ID, id lsn.ID) bool {
	for _, other := range ids {
		if other == id {
			return true
		}
	}
	return false
}

// openPoison opens a new instance whose poison items go to report.
func (e *env) openPoison(report func(sink.Poison) error) sink.Sink {
	e.t.Helper()
	s := e.sink()
	_, err := s.Open(e.ctx(), sink.Source{Name: SourceName, OnPoison: report})
	require.NoError(e.t, err, "open")
	return s
}

// split tells the dead letters from the items, as the destination holds them, the
// mark of a transaction's end aside: where it goes when the last item is refused
// is the sink's.
func (e *env) split() (items, dead []Stored) {
	for _, s := range once(e.t, e.h, e.d.Read(e.t)) {
		s.TxEnd = false
		if s.Kind == mapper.KindDeadLetter {
			dead = append(dead, s)
			continue
		}
		items = append(items, s)
	}
	return items, dead
}

// buried fails unless the destination holds just the good items, and a dead letter
// for each of the others.
func (e *env) buried(good []Stored, ids []lsn.ID) {
	e.t.Helper()
	items, dead := e.split()
	keeps := e.h.Keeps
	h := e.h
	h.Keeps = func(s Stored) Stored { s = keeps(s); s.TxEnd = false; return s }
	between(e.t, h, items, good, good)
	var got []lsn.ID
	for _, s := range dead {
		got = append(got, s.ID)
		require.NotNil(e.t, s.DeadLetter, "dead letter %s", s.ID)
		require.Regexp(e.t, snakeCase, s.DeadLetter.Reason, "reason of dead letter %s", s.ID)
		require.NotEmpty(e.t, s.DeadLetter.Error, "error of dead letter %s", s.ID)
	}
	require.Equal(e.t, ids, got, "ids of the dead letters")
}

// poison: each refused item is reported once, in order, and stored as a dead
// letter with the batch; all others arrive.
func poison(e *env) {
	e.needs(e.d.Poison != nil, "an item that it refuses")
	src, good, ids := e.spoiled(40, 0, 7, 8, 21, 39)
	var told []sink.Poison
	s := e.openPoison(func(p sink.Poison) error { told = append(told, p); return nil })
	e.deliver(src, s, lsn.Progress{})
	require.Len(e.t, told, len(ids), "poison items reported")
	for i, p := range told {
		require.Equal(e.t, ids[i], p.ID, "id of the reported item")
		require.Regexp(e.t, snakeCase, p.Reason, "reason of the reported item")
		require.Error(e.t, p.Err, "error of the reported item")
		require.NotEmpty(e.t, p.Stream, "stream of the reported item")
	}
	sameProgress(e.t, src.at(0), e.open(s))
	e.buried(good, ids)
}

// poisonOnly: a batch of nothing but refused items moves the position.
func poisonOnly(e *env) {
	e.needs(e.d.Poison != nil, "an item that it refuses")
	src, good, ids := e.spoiled(3, 0, 1, 2)
	s := e.openPoison(func(sink.Poison) error { return nil })
	e.deliver(src, s, lsn.Progress{})
	sameProgress(e.t, src.at(0), e.open(s))
	e.buried(good, ids)
}

// poisonAbort: an error of OnPoison ends the write, which returns it, and nothing
// is stored; the same items can be stored after it.
func poisonAbort(e *env) {
	e.needs(e.d.Poison != nil, "an item that it refuses")
	src, good, ids := e.spoiled(20, 3, 9, 15)
	enough := errors.New("too many")
	told := 0
	s := e.openPoison(func(sink.Poison) error {
		if told++; told == 2 {
			return enough
		}
		return nil
	})
	require.ErrorIs(e.t, src.deliver(e.ctx(), s, lsn.Position{}), enough)
	require.Equal(e.t, 2, told, "items reported until the error")
	require.Empty(e.t, e.d.Read(e.t), "stored by an abandoned write")
	sameProgress(e.t, lsn.Progress{}, e.open(s))
	e.deliver(src, s, lsn.Progress{})
	sameProgress(e.t, src.at(0), e.open(s))
	e.buried(good, ids)
}

// poisonUnasked: without OnPoison every item may be refused.
func poisonUnasked(e *env) {
	e.needs(e.d.Poison != nil, "an item that it refuses")
	src, good, ids := e.spoiled(10, 4)
	s, _ := e.opened()
	e.deliver(src, s, lsn.Progress{})
	e.buried(good, ids)
}
