package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/migrations"
)

// control owns the lease: it holds one connection, listens on it, and renews on
// it, so that no handler that takes all connections of the pool can starve it.
func (w *worker) control(ctx context.Context) {
	var pause pauses
	for ctx.Err() == nil {
		err := w.session(ctx, &pause)
		w.trouble(ctx, "control", err)
		if !pause.wait(ctx) {
			return
		}
	}
}

// session controls over one connection until it fails.
func (w *worker) session(ctx context.Context, pause *pauses) error {
	begin, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	conn, err := w.pool.Acquire(begin)
	if err != nil {
		return fmt.Errorf("take a connection: %w", err)
	}
	defer conn.Release() // the pool destroys one that is broken
	if _, err := conn.Exec(begin, "LISTEN "+migrations.Channel+"; LISTEN "+migrations.MarkChannel, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	c := &controller{worker: w, conn: conn.Conn()}
	w.grown() // what was said before we listened
	for ctx.Err() == nil {
		if err := c.turn(ctx); err != nil {
			return err
		}
		pause.reset()
		if err := c.wait(ctx); err != nil {
			return err
		}
	}
	end, cancelEnd := context.WithTimeout(context.WithoutCancel(ctx), callWithin)
	defer cancelEnd()
	_, err = conn.Exec(end, "UNLISTEN "+migrations.Channel+"; UNLISTEN "+migrations.MarkChannel, pgx.QueryExecModeSimpleProtocol)
	return err
}

// controller is one session of control.
type controller struct {
	*worker
	conn      *pgx.Conn
	beatAt    time.Time // when to renew next
	share     int       // lanes that are ours to hold
	changed   int64
	known     bool // changed has been read
	stale     bool // operators changed what lanes of ours have parked
	paused    bool
	trimmedAt time.Time
}

// rebalance is how often a worker that has less than its share looks for lanes.
const rebalance = time.Second

// callWithin bounds the statements of one turn.
const callWithin = 5 * time.Second

// turn does what is due.
func (c *controller) turn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWithin) // half a lease call would keep its lanes
	defer cancel()
	c.mu.Lock()
	suspect, back := c.suspect, c.giveBack
	c.kicked, c.suspect, c.giveBack = false, false, nil
	c.mu.Unlock()
	if len(back) > 0 {
		if err := c.releaseOn(ctx, c.conn.PgConn(), back, false); err != nil {
			return err
		}
	}
	if suspect || !time.Now().Before(c.beatAt) {
		if err := c.renew(ctx, suspect); err != nil {
			return err
		}
	}
	if c.stale {
		if err := c.reload(ctx); err != nil {
			return err
		}
	}
	if err := c.releaseDrained(ctx); err != nil {
		return err
	}
	if c.wantsLanes() {
		return c.lease(ctx)
	}
	return nil
}

// wait waits for a notification, a kick, or the time of the next turn.
func (c *controller) wait(ctx context.Context) error {
	until := c.beatAt
	if c.wantsLanes() {
		until = minTime(until, time.Now().Add(rebalance))
	}
	if c.stale {
		until = minTime(until, time.Now().Add(reloadPause))
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	c.mu.Lock()
	c.interrupt = cancel
	kicked := c.kicked
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.interrupt = nil
		c.mu.Unlock()
	}()
	for !kicked {
		n, err := c.conn.WaitForNotification(ctx)
		if ctx.Err() != nil && !c.conn.IsClosed() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for notifications: %w", err)
		}
		c.heard(n)
	}
	return nil
}

// heard takes note of a notification.
func (w *worker) heard(n *pgconn.Notification) {
	switch {
	case n.Channel == migrations.MarkChannel:
		if n.Payload == migrations.Mark(w.cfg.Schema, migrations.InboxSource) {
			wake(w.markWake)
		}
	case n.Payload == "" || n.Payload == w.cfg.Schema:
		w.grown()
	}
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// grown notes that the log may have grown.
func (w *worker) grown() {
	w.mu.Lock()
	w.wakes++
	w.mu.Unlock()
	wake(w.readWake)
}

// wantsLanes reports whether the worker should take lanes: none while handlers of
// lanes that were lost still run, since they could be lanes of the same keys.
func (c *controller) wantsLanes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.stopping && !c.paused && c.strays == 0 && (c.share == 0 || len(c.order) < c.share)
}

// lease takes lanes up to the worker's fair share, then reads their state in a
// statement of its own: one that both took and read could read what was before.
func (c *controller) lease(ctx context.Context) error {
	sent := time.Now()
	host, _ := os.Hostname()
	c.mu.Lock()
	held, _ := numbersOf(c.order)
	c.mu.Unlock()
	var taken []*lane
	err := call(ctx, c.conn.PgConn(), func(v [][]byte) error {
		taken = append(taken, newLane(int16Of(v[0]), int64Of(v[1]), c.cfg.OnDead == Block, c.ordered))
		return nil
	}, "SELECT lane, lease_generation FROM "+c.cfg.table("lease_lanes")+"($1, $2, $3::interval, held => $4::smallint[], host => $5, pid => $6::integer, version => $7)",
		c.cfg.Name, c.id, c.cfg.Lease, held, host, os.Getpid(), toolVersion)
	if err != nil {
		return fmt.Errorf("lease lanes: %w", err)
	}
	if len(taken) == 0 {
		return nil
	}
	byNo := map[int]*lane{}
	for _, l := range taken {
		byNo[l.no] = l
	}
	states, err := c.laneStates(ctx, taken)
	if err != nil {
		c.mu.Lock()
		c.giveBack = append(c.giveBack, taken...)
		c.mu.Unlock()
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.order) == 0 {
		c.clock.renewed(sent) // else the older lanes' lease counts for all, which is shorter
	}
	now := time.Now()
	for no, state := range states {
		if l := byNo[no]; state.gen == l.gen && c.lanes[no] == nil {
			l.draining = c.stopping
			l.restore(state.seq, state.n, state.settled, state.rows, now)
			l.ctx, l.cancel = context.WithCancelCause(context.Background())
			c.lanes[no] = l
			c.order = append(c.order, l)
		}
	}
	c.order = slices.Clone(c.order)
	slices.SortFunc(c.order, func(a, b *lane) int { return a.no - b.no })
	c.metrics.taken(len(taken))
	c.log.Info("lanes_taken", "lanes", len(taken), "held", len(c.order))
	wake(c.readWake)
	return nil
}

// laneState is what the database has of a lane.
type laneState struct {
	gen, seq, n int64
	settled     spans
	rows        []parkedRow
}

func (c *controller) laneStates(ctx context.Context, lanes []*lane) (map[int]*laneState, error) {
	numbers, _ := numbersOf(lanes)
	states := map[int]*laneState{}
	err := call(ctx, c.conn.PgConn(), func(v [][]byte) error {
		no := int16Of(v[0])
		if v[6] == nil { // reason: the checkpoint
			settled, err := parseSpans(string(v[4]))
			states[no] = &laneState{gen: int64Of(v[3]), seq: int64Of(v[1]), n: int64Of(v[2]), settled: settled}
			return err
		}
		s := states[no]
		if s == nil {
			return fmt.Errorf("lane %d has parked items and no checkpoint", no)
		}
		s.rows = append(s.rows, parkedRow{
			seq: int64Of(v[1]), key: string(v[5]), keyed: v[5] != nil, reason: reason(v[6]), attempts: int32Of(v[7]),
			wait: time.Duration(int64Of(v[8])) * time.Millisecond, size: int32Of(v[9]),
		})
		return nil
	}, "SELECT lane, seq, n, lease_generation, settled::text, partition_key, reason, attempts, wait_ms, bytes FROM "+
		c.cfg.table("lane_state")+"($1, $2::smallint[])", c.cfg.Name, numbers)
	if err != nil {
		return nil, fmt.Errorf("read the state of lanes: %w", err)
	}
	return states, nil
}

// numbersOf returns lanes as the functions take them, in ascending order.
func numbersOf(lanes []*lane) (numbers, generations []int64) {
	lanes = slices.Clone(lanes)
	slices.SortFunc(lanes, func(a, b *lane) int { return a.no - b.no })
	for _, l := range lanes {
		numbers = append(numbers, int64(l.no))
		generations = append(generations, l.gen)
	}
	return numbers, generations
}

// renewal is what a renewal says.
type renewal struct {
	lost    []int64
	state   string
	changed int64
	share   int
	parked  int64
	full    bool
	fullKey string
}

// renew is the heartbeat. suspect: a fence has failed; when all lanes are still
// ours nobody knows why, and they are taken anew.
func (c *controller) renew(ctx context.Context, suspect bool) error {
	c.mu.Lock()
	lanes := c.order
	c.mu.Unlock()
	numbers, generations := numbersOf(lanes)
	sent := time.Now()
	var r renewal
	err := call(ctx, c.conn.PgConn(), r.read, "SELECT array_to_string(lost, ','), state, changed, share, parked_items, is_full, full_key FROM "+
		c.cfg.table("renew")+"($1, $2, $3::interval, $4::smallint[], $5::bigint[])", c.cfg.Name, c.id, c.cfg.Lease, numbers, generations)
	if err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	c.clock.renewed(sent)
	c.beatAt = sent.Add(c.cfg.Lease / 3)
	c.share, c.paused = r.share, r.state == "paused"
	c.metrics.setParked(r.parked)
	c.heed(r, lanes, suspect)
	c.upkeep(ctx, lanes)
	c.stale = c.stale || c.known && r.changed != c.changed
	c.changed, c.known = r.changed, true
	return nil
}

func (r *renewal) read(v [][]byte) error {
	lost, err := numbersIn(string(v[0]))
	*r = renewal{
		lost: lost, state: string(v[1]), changed: int64Of(v[2]), share: int32Of(v[3]), parked: int64Of(v[4]),
		full: boolOf(v[5]), fullKey: string(v[6]),
	}
	return err
}

// numbersIn reads numbers separated by commas.
func numbersIn(text string) ([]int64, error) {
	var all []int64
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the lost lanes: %w", err)
		}
		all = append(all, n)
	}
	return all, nil
}

// heed applies a renewal to the lanes that it was about.
func (c *controller) heed(r renewal, lanes []*lane, suspect bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range lanes {
		if slices.Contains(r.lost, int64(l.no)) && !l.gone {
			c.log.Warn("lane_lost", "lane", l.no, "next", "its handlers are stopped, nothing of it is settled")
			c.metrics.lost(1)
			c.drop(l, ErrLost)
			suspect = false
		}
	}
	if suspect {
		for _, l := range lanes {
			c.drop(l, ErrLost)
		}
		c.giveBack = append(c.giveBack, lanes...)
		c.kicked = true
	}
	if r.full && !c.full {
		c.log.Warn("parked_full", "key", r.fullKey, "next", "nothing more is read from the log until fewer items are parked")
	}
	c.full = r.full
	c.shed()
	wake(c.readWake)
}

// shed begins to give up lanes: all when paused, else those beyond the share, the
// ones with least in hand first. Called with mu held.
func (c *controller) shed() {
	keep := c.share
	if c.paused {
		keep = 0
	}
	held := slices.DeleteFunc(slices.Clone(c.order), func(l *lane) bool { return l.draining })
	if len(held) <= keep || c.stopping {
		return
	}
	slices.SortStableFunc(held, func(a, b *lane) int { return a.items - b.items })
	for _, l := range held[:len(held)-keep] {
		l.draining = true
	}
	c.kicked = true
	wake(c.setWake)
}

// releaseDrained gives back lanes that were to be given up and are empty.
func (c *controller) releaseDrained(ctx context.Context) error {
	c.mu.Lock()
	var out []*lane
	if !c.stopping {
		for _, l := range c.order {
			if l.draining && l.empty() {
				out = append(out, l)
			}
		}
	}
	for _, l := range out {
		c.drop(l, ErrStopped)
	}
	c.mu.Unlock()
	if len(out) == 0 {
		return nil
	}
	c.log.Info("lanes_given_up", "lanes", len(out), "share", c.share)
	return c.releaseOn(ctx, c.conn.PgConn(), out, false)
}

// reloadPause is the time until lanes that were being settled are looked at again.
const reloadPause = 20 * time.Millisecond

// reload merges what operators changed in parked. It is over when no lane was being
// settled.
func (c *controller) reload(ctx context.Context) error {
	c.mu.Lock()
	var quiet []*lane
	for _, l := range c.order {
		if !l.settling && !l.claimed {
			l.settling = true // nothing of it is written while it is read
			quiet = append(quiet, l)
		}
	}
	c.stale = len(quiet) < len(c.order)
	c.mu.Unlock()
	states, err := c.laneStates(ctx, quiet)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for _, l := range quiet {
		l.settling = false
		if s := states[l.no]; err == nil && s != nil && s.gen == l.gen && !l.gone {
			l.merge(s.rows, now)
		}
	}
	wake(c.readWake)
	wake(c.setWake)
	c.cond.Broadcast()
	c.stale = c.stale || err != nil
	return err
}

// trimEvery is how often old checkpoint rows are deleted.
const trimEvery = time.Minute

// upkeep trims checkpoints and refreshes what the metrics say. What fails here is
// tried again with a later renewal.
func (c *controller) upkeep(ctx context.Context, lanes []*lane) {
	if now := time.Now(); now.Sub(c.trimmedAt) > trimEvery && len(lanes) > 0 {
		c.trimmedAt = now
		numbers, generations := numbersOf(lanes)
		if err := call(ctx, c.conn.PgConn(), nil, "SELECT "+c.cfg.table("trim")+"($1, $2::smallint[], $3::bigint[])",
			c.cfg.Name, numbers, generations); err != nil && !errors.Is(err, errLostLease) {
			c.log.Warn("trim_failed", "err", err, "next", "tried again")
		}
	}
	if c.metrics != nil {
		var p Progress
		if err := progress(ctx, c.conn.PgConn(), &c.cfg, &p); err != nil {
			c.log.Warn("progress_failed", "err", err, "next", "tried again")
			return
		}
		c.metrics.setProgress(p)
	}
}

// release gives lanes back over a connection of the pool.
func (w *worker) release(ctx context.Context, lanes []*lane, leave bool) error {
	return w.do(ctx, "release lanes", func(conn *pgconn.PgConn) error { return w.releaseOn(ctx, conn, lanes, leave) })
}

func (w *worker) releaseOn(ctx context.Context, conn *pgconn.PgConn, lanes []*lane, leave bool) error {
	numbers, generations := numbersOf(lanes)
	err := call(ctx, conn, nil, "SELECT "+w.cfg.table("release")+"($1, $2, $3::smallint[], $4::bigint[], $5::boolean)",
		w.cfg.Name, w.id, numbers, generations, leave)
	if err != nil {
		return fmt.Errorf("release lanes: %w", err)
	}
	return nil
}
