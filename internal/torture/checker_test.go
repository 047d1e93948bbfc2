package torture_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// tamper is one way to spoil a log. change returns a spoiled copy, nil when the
// place n does not lend itself to it.
type tamper struct {
	name   string
	rules  []string // any of which the checker may name; nil: whatever it meets first
	change func(items []torture.Item, n int) []torture.Item
}

func isOp(it *torture.Item, op string) bool { return it.Kind == "change" && it.Type == op }

func without(items []torture.Item, n int) []torture.Item { return slices.Delete(items, n, n+1) }

func replace(items []torture.Item, n int, old, new string) []torture.Item {
	if !bytes.Contains(items[n].Payload, []byte(old)) {
		return nil
	}
	items[n].Payload = bytes.Replace(items[n].Payload, []byte(old), []byte(new), 1)
	return items
}

// middle reports whether the n-th item has neighbours of its own transaction.
func middle(items []torture.Item, n int) bool {
	return n > 0 && n+1 < len(items) && items[n-1].ID.Commit == items[n].ID.Commit && items[n+1].ID.Commit == items[n].ID.Commit
}

//arch:flat
func tampers() []tamper {
	return []tamper{
		{"an insert is dropped", []string{torture.RuleRowLost, torture.RuleRowMissing, torture.RuleChanges}, func(items []torture.Item, n int) []torture.Item {
			if !isOp(&items[n], "insert") || !middle(items, n) || bytes.Contains(items[n].Payload, []byte(`"old_key"`)) {
				return nil
			}
			return without(items, n)
		}},
		{"an update is dropped", []string{torture.RuleRowDiffers, torture.RuleTransferSum, torture.RuleVersion, torture.RuleBefore, torture.RuleRowMissing, torture.RuleRowLost, torture.RuleColumns, torture.RuleUnchanged, torture.RuleChanges}, func(items []torture.Item, n int) []torture.Item {
			if !isOp(&items[n], "update") || !middle(items, n) {
				return nil
			}
			return without(items, n)
		}},
		{"a transaction without inserts and deletes is dropped", []string{torture.RuleRowDiffers, torture.RuleTransferSum, torture.RuleVersion, torture.RuleBefore, torture.RuleRowMissing, torture.RuleRowLost, torture.RuleColumns, torture.RuleUnchanged, torture.RuleChanges}, func(items []torture.Item, n int) []torture.Item {
			first, last := transaction(items, n)
			for i := first; i <= last; i++ {
				if !isOp(&items[i], "update") {
					return nil
				}
			}
			return slices.Delete(items, first, last+1)
		}},
		{"a delete is dropped", []string{torture.RuleRowExtra, torture.RuleRowThere, torture.RuleHalfMove, torture.RuleChanges}, func(items []torture.Item, n int) []torture.Item {
			if !isOp(&items[n], "delete") || !middle(items, n) {
				return nil
			}
			return without(items, n)
		}},
		{"the last item of a transaction is dropped", []string{torture.RuleTxEndMissing}, func(items []torture.Item, n int) []torture.Item {
			if !items[n].TxEnd || n == 0 || items[n-1].ID.Commit != items[n].ID.Commit || items[n].Kind != "change" || items[n].ID.Sub > 0 {
				return nil
			}
			return without(items, n)
		}},
		{"an item is repeated", []string{torture.RuleIDOrder}, func(items []torture.Item, n int) []torture.Item {
			return slices.Insert(items, n+1, items[n])
		}},
		{"a whole transaction is repeated later", []string{torture.RuleIDOrder}, func(items []torture.Item, n int) []torture.Item {
			first, last := transaction(items, n)
			return append(items, items[first:last+1]...)
		}},
		{"two items of one key are swapped", nil, func(items []torture.Item, n int) []torture.Item {
			for m := n + 1; m < len(items); m++ {
				if items[m].Key == items[n].Key && items[m].Type != "truncate" {
					items[m], items[n] = items[n], items[m]
					return items
				}
			}
			return nil
		}},
		{"an item has another's payload", []string{torture.RuleItemID, torture.RulePayload}, func(items []torture.Item, n int) []torture.Item {
			if n == 0 || items[n].Kind != "change" || items[n-1].Kind != "change" || items[n].Type == "truncate" || items[n].ID.Sub > 0 {
				return nil
			}
			items[n].Payload = items[n-1].Payload
			return items
		}},
		{"an idempotency key is another's", []string{torture.RuleItemID}, func(items []torture.Item, n int) []torture.Item {
			if n == 0 || items[n].Kind != "change" {
				return nil
			}
			items[n].EventID = items[n-1].EventID
			return items
		}},
		{"an event comes under a new id", []string{torture.RuleEventLost}, func(items []torture.Item, n int) []torture.Item {
			if items[n].Kind != "event" {
				return nil
			}
			items[n].EventID = "00000000-0000-4000-8000-000000000000"
			return items
		}},
		{"an event comes twice", []string{torture.RuleRepeated}, func(items []torture.Item, n int) []torture.Item {
			if items[n].Kind != "event" || items[n].TxEnd {
				return nil
			}
			again := items[n]
			again.ID.Sub = 1
			return slices.Insert(items, n+1, again)
		}},
		{"an event is dropped", []string{torture.RuleEventLost, torture.RuleEventOrder}, func(items []torture.Item, n int) []torture.Item {
			if items[n].Kind != "event" || !middle(items, n) {
				return nil
			}
			return without(items, n)
		}},
		{"an event has another type", []string{torture.RuleEventDiffers}, func(items []torture.Item, n int) []torture.Item {
			if items[n].Kind != "event" {
				return nil
			}
			items[n].Type += "d"
			return items
		}},
		{"a value is stale", []string{torture.RuleRowDiffers, torture.RuleTransferSum}, func(items []torture.Item, n int) []torture.Item {
			if !isOp(&items[n], "update") || items[n].Stream != "load.account" {
				return nil
			}
			return replace(items, n, `"balance":`, `"balance":1`)
		}},
		{"an unchanged value became NULL", []string{torture.RuleRowDiffers, torture.RuleBefore}, func(items []torture.Item, n int) []torture.Item {
			done := replace(items, n, `"unchanged":["big"]`, `"unchanged":[]`) != nil || replace(items, n, `"unchanged":["big",`, `"unchanged":[`) != nil
			if !done || touchedAgain(items, n) {
				return nil
			}
			return replace(items, n, `"after":{`, `"after":{"big":null,`)
		}},
		{"an unchanged value never came", []string{torture.RuleUnchanged}, func(items []torture.Item, n int) []torture.Item {
			return replace(items, n, `"unchanged":["big"`, `"unchanged":["bigger"`)
		}},
		{"a lane is another's", []string{torture.RuleLane, torture.RuleTruncateLanes}, func(items []torture.Item, n int) []torture.Item {
			items[n].Lane = (items[n].Lane + 1) % referenceLanes
			return items
		}},
		{"a key is another's", []string{torture.RuleKey}, func(items []torture.Item, n int) []torture.Item {
			if items[n].Kind != "change" || items[n].Type == "truncate" {
				return nil
			}
			items[n].Key += " "
			items[n].Key = strings.Replace(items[n].Key, ":[", ":[0,", 1)
			return items
		}},
		{"a truncate misses a lane", []string{torture.RuleTruncateLanes}, func(items []torture.Item, n int) []torture.Item {
			if !isOp(&items[n], "truncate") || items[n].TxEnd {
				return nil
			}
			return without(items, n)
		}},
		{"the end of a transaction is not marked", []string{torture.RuleTxEndMissing}, func(items []torture.Item, n int) []torture.Item {
			if !items[n].TxEnd {
				return nil
			}
			items[n].TxEnd = false
			return items
		}},
		{"the middle of a transaction is marked", []string{torture.RuleTxEndEarly, torture.RuleTransferSum}, func(items []torture.Item, n int) []torture.Item {
			if items[n].TxEnd {
				return nil
			}
			items[n].TxEnd = true
			return items
		}},
		{"the second half of a key change is dropped", []string{torture.RuleHalfMove}, func(items []torture.Item, n int) []torture.Item {
			if !bytes.Contains(items[n].Payload, []byte(`"old_key"`)) || items[n].TxEnd {
				return nil
			}
			return without(items, n)
		}},
		{"a transaction that was rolled back is there", []string{torture.RuleRowExtra}, func(items []torture.Item, n int) []torture.Item {
			if !isOp(&items[n], "insert") || items[n].Stream != "load.reading" {
				return nil
			}
			more := items[n]
			more.ID = items[len(items)-1].ID
			commit := more.ID.Commit.String()
			more.ID.Seq++
			more.ID.Sub = 0
			more.EventID = referenceName + ":" + more.ID.String()
			more.TxEnd = true
			head, _, _ := bytes.Cut(more.Payload, []byte(`"commit_lsn"`))
			more.Payload = append(bytes.Clone(head), []byte(`"commit_lsn":"`+commit+`","tx_seq":`+strconv.Itoa(int(more.ID.Seq))+`}}`)...)
			items[len(items)-1].TxEnd = false
			return append(items, more)
		}},
		{"a payload is cut off", []string{torture.RulePayload}, func(items []torture.Item, n int) []torture.Item {
			items[n].Payload = items[n].Payload[:len(items[n].Payload)/2]
			return items
		}},
		{"the log ends inside a transaction", []string{torture.RuleTxEndMissing, torture.RuleTruncateLanes, torture.RuleHalfMove}, func(items []torture.Item, n int) []torture.Item {
			if items[n].TxEnd {
				return nil
			}
			return items[:n+1]
		}},
	}
}

// transaction returns the first and the last item of the n-th one's transaction.
func transaction(items []torture.Item, n int) (first, last int) {
	first, last = n, n
	for first > 0 && items[first-1].ID.Commit == items[n].ID.Commit {
		first--
	}
	for last+1 < len(items) && items[last+1].ID.Commit == items[n].ID.Commit {
		last++
	}
	return first, last
}

// touchedAgain reports whether a later item is about the key of the n-th.
func touchedAgain(items []torture.Item, n int) bool {
	return slices.ContainsFunc(items[n+1:], func(it torture.Item) bool {
		return it.Key == items[n].Key || it.Type == "truncate" && it.Stream == items[n].Stream
	})
}

// The checker fails when it should: whatever is spoiled in a faultless log is
// found, under its name, wherever in the log it is.
func TestTamperedLogIsFound(t *testing.T) {
	t.Parallel()
	db := install(t, pgtest.Shared(t))
	ref := newReference(t, db, true)
	s := seed(t)
	runUntil(t, torture.Config{DSN: db.DSN(), Seed: s, LargeRows: 50, Savepoints: 20}, 400)
	db.Exec(t, "INSERT INTO load.blob (id, big) SELECT g, repeat(md5(g::text), 300) FROM generate_series(5001, 5010) g")
	db.Exec(t, "UPDATE load.blob SET n = 1 WHERE id > 5000") // rows that nothing touches again
	db.Exec(t, "TRUNCATE load.line")                         // which is seldom drawn
	ref.read(t)
	c, err := check(ref.items)
	require.NoError(t, err)
	require.NoError(t, c.Compare(t.Context(), db.DSN(), referenceName, ref.publication))
	for i, tp := range tampers() {
		t.Run(tp.name, func(t *testing.T) {
			r := torture.Rand(s, uint64(1000+i))
			for range sized(1, 10) {
				requireFound(t, db, ref, tp, r)
			}
		})
	}
}

// requireFound spoils the log at a drawn place.
func requireFound(t *testing.T, db *pgtest.DB, ref *reference, tp tamper, r *rand.Rand) {
	t.Helper()
	for _, n := range r.Perm(len(ref.items)) {
		spoiled := tp.change(slices.Clone(ref.items), n)
		if spoiled == nil {
			continue
		}
		c, err := check(spoiled)
		if err == nil {
			err = c.Compare(t.Context(), db.DSN(), referenceName, ref.publication)
		}
		var f *torture.Finding
		require.True(t, errors.As(err, &f), "at item %d: found %v", n, err)
		if tp.rules != nil {
			require.Contains(t, tp.rules, f.Rule, "at item %d: %v", n, f)
		}
		require.NotContains(t, f.Error(), "%!")
		return
	}
	t.Fatal("no item of the log lends itself to it")
}

// A destination that may repeat is checked for all else.
func TestRepeatsArePassedOver(t *testing.T) {
	t.Parallel()
	db := install(t, pgtest.Shared(t))
	ref := newReference(t, db, true)
	runUntil(t, torture.Config{DSN: db.DSN(), Seed: seed(t), LargeRows: 50}, 100)
	ref.read(t)
	c := torture.NewChecker(torture.Rules{Lanes: referenceLanes, Repeats: true})
	half := len(ref.items) / 2
	for _, items := range [][]torture.Item{ref.items[:half], ref.items[half/2:]} {
		for i := range items {
			require.NoError(t, c.Add(&items[i]))
		}
	}
	require.NoError(t, c.End())
	require.EqualValues(t, half-half/2, c.Repeated)
	require.NoError(t, c.Compare(t.Context(), db.DSN(), referenceName, ref.publication))
}
