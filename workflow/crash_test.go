package workflow

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// crash is a place at which a worker dies.
type crash struct {
	at    string
	state order
	want  Status
}

// crashes are all places: before and after the function of each step and of each
// compensation, before and after the commit that stores it, and between steps.
func crashes() []crash {
	var all []crash
	for _, step := range []string{"reserve", "charge", "pack", "thank"} {
		for _, point := range []string{pointBegin, pointDone, pointSaved} {
			all = append(all, crash{step + "/" + point, order{}, Completed})
		}
	}
	for _, at := range []string{"shipped/saved", "charge/next", "shipped/next", "pack/next", "thank/next"} {
		all = append(all, crash{at, order{}, Completed})
	}
	for _, step := range []string{"pack", "charge", "reserve"} {
		for _, point := range []string{pointBegin, pointDone, pointSaved, pointNext} {
			all = append(all, crash{step + "/undo/" + point, order{Break: "thank"}, Compensated})
		}
	}
	return append(all, crash{"thank/saved", order{Break: "thank"}, Compensated}) // as it is turned around
}

// A worker is killed after each single step and each compensation, and at every
// other point of each: another one goes on, and all steps are done once, or all are
// compensated.
func TestCrashAtEveryPoint(t *testing.T) {
	db := shared(t)
	s := newShop(t, db)
	all := crashes()
	var flows []Workflow
	var defs []*Definition[order]
	for i := range all {
		d := s.checkout(fmt.Sprintf("crash-%d", i))
		defs, flows = append(defs, d), append(flows, d)
	}
	e := engine(t, db, quick(t), flows...)
	for i, c := range all {
		startShipped(t, e, defs[i], c.at, c.state)
		p := job{DSN: db.DSN(), Workflow: defs[i].Name(), Die: c.at}.start(t)
		require.Equal(t, -1, p.WaitExit(t, within), "the worker dies at %s: %s", c.at, p.Output())
		d, err := e.Show(t.Context(), defs[i].Name(), c.at)
		require.NoError(t, err)
		require.False(t, d.Status.final(), c.at)
	}
	runs(t, e)
	for i, c := range all {
		d := comesTo(t, e, defs[i].Name(), c.at, c.want)
		requireWhole(t, db, d)
		require.Equal(t, "1", db.One(t, "SELECT lost + 1 FROM walbridge.workflow_instance WHERE id = $1", d.ID), "counted anew at each step")
	}
}

// seed is that of WORKFLOW_SEED, or a new one, and printed.
func seed(t testing.TB) *rand.Rand {
	n := rand.Uint64()
	if s := os.Getenv("WORKFLOW_SEED"); s != "" {
		var err error
		n, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("WORKFLOW_SEED=%d", n)
	return rand.New(rand.NewPCG(n, n))
}

// Two workers are killed at random moments while they work on many instances.
func TestRandomKills(t *testing.T) {
	db, rnd := shared(t), seed(t)
	s := newShop(t, db)
	w := s.checkout("checkout")
	e := engine(t, db, quick(t), w)
	const instances, kills = 120, 20
	for n := range instances {
		o := order{Number: n}
		if rnd.IntN(2) == 0 {
			o.Break = forward[rnd.IntN(len(forward))]
		}
		startShipped(t, e, w, keyOf(n), o)
	}
	j := job{DSN: db.DSN(), Workflow: "checkout", Slow: true}
	workers := []*pgtest.Process{j.start(t), j.start(t)}
	for range kills {
		i := rnd.IntN(len(workers))
		workers[i].WaitLine(t, within, "running")
		moment := time.Now().Add(time.Duration(rnd.IntN(150)) * time.Millisecond)
		pgtest.Eventually(t, within, func() bool { return time.Now().After(moment) }, "a random moment")
		require.NoError(t, workers[i].Kill())
		workers[i] = j.start(t)
	}
	for n := range instances {
		d, err := e.Show(t.Context(), "checkout", keyOf(n))
		require.NoError(t, err)
		want := Completed
		var o order
		require.NoError(t, json.Unmarshal(d.State, &o))
		if o.Break != "" {
			want = Compensated
		}
		requireWhole(t, db, comesTo(t, e, "checkout", keyOf(n), want))
	}
	t.Logf("take-overs of lost instances left traces in %s calls beyond the first", db.One(t, "SELECT sum(calls - 1) FROM outside"))
}

// A worker that is stopped within a step for longer than its lease, and wakes when
// another has gone on, writes nothing.
func TestStoppedWorkerWritesNothing(t *testing.T) {
	for _, at := range []string{"pack/saved", "pack/done", "charge/done", "charge/saved"} {
		t.Run(at, func(t *testing.T) {
			db := shared(t)
			s := newShop(t, db)
			w := s.checkout("checkout")
			e := engine(t, db, quick(t), w)
			startShipped(t, e, w, "order:1", order{})
			p := job{DSN: db.DSN(), Workflow: "checkout", Hang: at}.start(t)
			p.WaitLine(t, within, "hanging")
			require.NoError(t, p.Pause())
			runs(t, e)
			d := comesTo(t, e, "checkout", "order:1", Completed)
			requireWhole(t, db, d)
			row := func() [][]string {
				return db.Query(t, "SELECT i::text, (SELECT string_agg(s::text, ',' ORDER BY n) FROM walbridge.workflow_step s WHERE s.instance = i.id) FROM walbridge.workflow_instance i WHERE key = 'order:1'")
			}
			before := row()
			require.NoError(t, p.Resume())
			p.WaitLine(t, within, "goes on")
			require.NoError(t, e.Start(t.Context(), w, "order:2", order{})) // the woken worker lives on
			stopped := db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'")
			pgtest.Eventually(t, within, func() bool {
				return db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'") == "0"
			}, "no transaction is left; there were %s", stopped)
			comesTo(t, e, "checkout", "order:2", Waiting)
			require.Equal(t, before, row(), "instance 1 is as it was")
			requireWhole(t, db, d)
		})
	}
}
