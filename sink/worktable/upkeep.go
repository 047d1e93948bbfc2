package worktable

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/migrations"
)

// upkeep is the work behind the writes. In one goroutine over the side session readers
// are notified, partitions are made before they are needed, old rows of
// batch are deleted. All of it may fail and is tried again after a later write.
type upkeep struct {
	s      *Sink
	cancel context.CancelFunc
	done   sync.WaitGroup
	wake   chan struct{} // holds one token at most

	seq    atomic.Int64 // the last seq written
	n      atomic.Int64 // the last batch row written
	notify atomic.Bool  // rows were written that nobody was told of

	mu      sync.Mutex // guards the fields below
	source  string
	trimmed int64 // batch rows up to this one are gone

	// The rest belongs to retain.
	held   string
	pruned int64 // rows of inbox up to this n are gone
}

func startUpkeep(s *Sink) *upkeep {
	ctx, cancel := context.WithCancel(context.Background())
	u := &upkeep{s: s, cancel: cancel, wake: make(chan struct{}, 1)}
	u.done.Go(func() { u.run(ctx) })
	u.done.Go(func() { u.retain(ctx) })
	return u
}

// stop ends it. Safe for one that was never started.
func (u *upkeep) stop() {
	if u == nil {
		return
	}
	u.cancel()
	u.done.Wait()
}

// opened tells whose rows are trimmed, and from where: the oldest row is searched
// once, since the search passes all that were deleted and not vacuumed yet.
func (u *upkeep) opened(ctx context.Context, source string, n int64) error {
	var oldest int64
	err := u.s.side.do(ctx, sideTimeout, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "SELECT coalesce(min(n), 1) FROM "+u.s.sql.schema+".batch WHERE source = $1", source).Scan(&oldest)
	})
	if err != nil {
		return fmt.Errorf("look for the oldest batch row: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.source, u.trimmed = source, oldest-1
	u.n.Store(n)
	return nil
}

// wrote tells of a write. lastSeq is 0 when it added nothing to log.
func (u *upkeep) wrote(n, lastSeq int64) {
	u.n.Store(n)
	if lastSeq != 0 {
		u.seq.Store(lastSeq)
		u.notify.Store(true)
	}
	if lastSeq == 0 && n%u.s.tune.trimEvery != 0 {
		return
	}
	select {
	case u.wake <- struct{}{}:
	default: // it is awake already and will see what was stored
	}
}

func (u *upkeep) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.wake:
		}
		u.once(ctx)
		pause.Reset(u.s.tune.notifyPause)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// once does what is due.
func (u *upkeep) once(ctx context.Context) {
	if u.notify.Swap(false) {
		u.report("notify readers", u.tell(ctx))
	}
	if seq := u.seq.Load(); u.s.wantsPartitions(seq) {
		u.report("make partitions ahead", u.s.makePartitions(ctx, seq))
	}
	if n := u.n.Load(); n%u.s.tune.trimEvery == 0 || n-u.trimmedTo() > u.s.tune.trimKeep+u.s.tune.trimEvery {
		u.report("trim batch", u.trim(ctx, n))
	}
}

func (u *upkeep) report(doing string, err error) {
	if err != nil {
		u.s.log.Debug("upkeep of the work table; trying again after a later write", "doing", doing, "error", err)
	}
}

// tell notifies readers. In the writer's transaction it would take a lock of the
// whole database at each commit (async.c, PreCommit_Notify).
func (u *upkeep) tell(ctx context.Context) error {
	return u.s.side.do(ctx, sideTimeout, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SELECT pg_notify($1, $2)", migrations.Channel, u.s.cfg.Schema)
		return err
	})
}

func (u *upkeep) trimmedTo() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.trimmed
}

// trim deletes the oldest rows of batch, some at a time, from where the last trim
// ended, and never the newest, nor the newest that added to log: readers take from it
// how far the log is.
func (u *upkeep) trim(ctx context.Context, n int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	to := min(n-u.s.tune.trimKeep, u.trimmed+u.s.tune.trimMost)
	if to <= u.trimmed {
		return nil
	}
	err := u.s.side.do(ctx, sideTimeout, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, fmt.Sprintf(`DELETE FROM %s.batch WHERE source = $1 AND n > $2 AND n <= $3
			AND n <> coalesce((SELECT b.n FROM %[1]s.batch b WHERE b.source = $1 AND b.last_seq IS NOT NULL ORDER BY b.n DESC LIMIT 1), 0)`, u.s.sql.schema), u.source, u.trimmed, to)
		return err
	})
	if err == nil {
		u.trimmed = to
	}
	return err
}

// wantsPartitions reports whether fewer partitions than wanted lie ahead of a seq.
func (s *Sink) wantsPartitions(seq int64) bool {
	return s.top.Load() <= seq+int64(s.tune.partitionAhead)*s.tune.partitionSize
}

// makePartitions makes what rows up to a seq need, and some ahead; 0 stands for
// what has been written.
func (s *Sink) makePartitions(ctx context.Context, upto int64) error {
	var top int64
	err := s.side.do(ctx, sideTimeout, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, fmt.Sprintf("SELECT %s.make_partitions(greatest($1::bigint, (SELECT last_value FROM %[1]s.log_seq)), $2::integer, $3)", s.sql.schema),
			upto, s.tune.partitionAhead, s.tune.partitionSize).Scan(&top)
	})
	if err != nil {
		return fmt.Errorf("make partitions: %w", err)
	}
	for old := s.top.Load(); old < top && !s.top.CompareAndSwap(old, top); old = s.top.Load() {
	}
	return nil
}
