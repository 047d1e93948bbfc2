package worktable

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
)

// Policy says how long the log keeps items. Ages count from when a partition of the
// log got its last row.
type Policy struct {
	// Min is how long items stay that every subscription has settled. Defaults to 1d.
	Min time.Duration `yaml:"min"`
	// Max is how long items stay that a subscription has not settled, or while there
	// is no subscription. At least min. Defaults to 7d.
	Max time.Duration `yaml:"max"`
	// MaxBytes bounds the size of the items of a kind on disk, indexes included; it
	// wins over min. Defaults to 0, no bound.
	MaxBytes int64 `yaml:"max_bytes"`
	// OnExceeded is what becomes of a subscription that would hold more than max or
	// max_bytes: expire (its workers stop with an error) or keep (the log grows). What
	// a subscription says itself wins. Defaults to expire.
	OnExceeded string `yaml:"on_exceeded"`
}

// Retention is the policy of both kinds of items, and of each where it differs.
type Retention struct {
	Policy `yaml:",inline"`
	// Events is the policy of events; what it does not say is as above.
	Events *Policy `yaml:"events"`
	// Changes is the policy of change records; what it does not say is as above.
	Changes *Policy `yaml:"changes"`
}

const (
	defaultMin    = 24 * time.Hour
	defaultMax    = 7 * 24 * time.Hour
	onExpire      = "expire"
	onKeep        = "keep"
	defaultDedupe = 7 * 24 * time.Hour
)

// or fills in what is not given.
func (p Policy) or(d Policy) Policy {
	if p.Min == 0 {
		p.Min = d.Min
	}
	if p.Max == 0 {
		p.Max = max(d.Max, p.Min)
	}
	if p.MaxBytes == 0 {
		p.MaxBytes = d.MaxBytes
	}
	if p.OnExceeded == "" {
		p.OnExceeded = d.OnExceeded
	}
	return p
}

func (r Retention) withDefaults() Retention {
	r.Policy = r.or(Policy{Min: defaultMin, Max: defaultMax, OnExceeded: onExpire})
	for _, p := range []**Policy{&r.Events, &r.Changes} {
		if *p != nil {
			own := (*p).or(r.Policy)
			*p = &own
		}
	}
	return r
}

// of is the policy of a kind.
func (r Retention) of(kind string) Policy {
	switch {
	case kind == "event" && r.Events != nil:
		return *r.Events
	case kind == "change" && r.Changes != nil:
		return *r.Changes
	}
	return r.Policy
}

func (r Retention) validate(bad func(where, what, fix string)) {
	const at = "sink.worktable.retention"
	r.Policy.validate(at, bad)
	if r.Events != nil {
		r.Events.validate(at+".events", bad)
	}
	if r.Changes != nil {
		r.Changes.validate(at+".changes", bad)
	}
}

func (p Policy) validate(at string, bad func(where, what, fix string)) {
	if p.Min < time.Second {
		bad(at+".min", p.Min.String()+" is less than 1s", "min: 1d")
	}
	if p.Max < p.Min {
		bad(at+".max", fmt.Sprintf("%s is less than min, %s", p.Max, p.Min), "max: 7d")
	}
	if p.MaxBytes < 0 {
		bad(at+".max_bytes", "is negative", "max_bytes: 0")
	}
	if p.OnExceeded != onExpire && p.OnExceeded != onKeep {
		bad(at+".on_exceeded", fmt.Sprintf("%q is neither expire nor keep", p.OnExceeded), "on_exceeded: expire")
	}
}

// reserved is the source that workers move rows of inbox as.
const reserved = "inbox"

func checkName(name string) error {
	if name != reserved {
		return nil
	}
	return fault.Config(fault.Problem{
		Check: "sink-name", Where: "name", What: `a bridge into the work table cannot be called "inbox"`,
		Why: "Rows that workers move from the table inbox bear this source.", Fix: "name: shop",
	})
}

// retain takes old partitions away now and then, over a session of its own: the side
// session has to show signs of life.
func (u *upkeep) retain(ctx context.Context) {
	timer := time.NewTimer(u.s.tune.retainAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := u.retainOnce(ctx); err != nil && ctx.Err() == nil {
			u.s.log.Warn("retention of the work table; trying again later", "error", redacted(err))
		}
		timer.Reset(u.s.tune.retainEvery)
	}
}

// retainWithin bounds one look, whose waits for locks are short.
const retainWithin = time.Minute

func (u *upkeep) retainOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, retainWithin)
	defer cancel()
	cfg, err := u.s.cfg.parse(appName(u.s.bridge(), "upkeep"))
	if err != nil {
		return err
	}
	cfg.RuntimeParams["lock_timeout"] = "1s"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return connectError(err)
	}
	defer closeConn(conn)
	if err := u.decide(ctx, conn); err != nil {
		return err
	}
	if err := u.takeAway(ctx, conn); err != nil {
		return err
	}
	return u.prune(ctx, conn)
}

// decide stores the policy, and says which subscriptions it hits.
func (u *upkeep) decide(ctx context.Context, conn *pgx.Conn) error {
	schema := u.s.sql.schema
	for _, kind := range []string{"event", "change"} {
		p := u.s.cfg.Retention.of(kind)
		_, err := conn.Exec(ctx, "SELECT "+schema+".set_retention($1, make_interval(secs => $2), make_interval(secs => $3), $4, $5, 'bridge')",
			kind, p.Min.Seconds(), p.Max.Seconds(), p.MaxBytes, p.OnExceeded)
		if err != nil {
			return fmt.Errorf("store the retention: %w", err)
		}
	}
	rows, err := conn.Query(ctx, "SELECT kind, what, subscription, seq FROM "+schema+".retain('bridge')")
	if err != nil {
		return fmt.Errorf("decide what goes: %w", err)
	}
	var held []string
	var kind, what, subscription string
	var seq int64
	_, err = pgx.ForEachRow(rows, []any{&kind, &what, &subscription, &seq}, func() error {
		if what == "held" {
			held = append(held, fmt.Sprintf("%s (%ss from seq %d)", subscription, kind, seq))
			return nil
		}
		u.s.log.Error("a subscription has expired: it would hold the log beyond its retention", "subscription", subscription, "kind", kind, "from_seq", seq,
			"next", "reset it, or drop it")
		return nil
	})
	if err != nil {
		return fmt.Errorf("decide what goes: %w", err)
	}
	if now := strings.Join(held, ", "); now != u.held {
		u.held = now
		if now != "" {
			u.s.log.Warn("the log is kept beyond its retention", "held_by", now, "next", "it goes when they have read it, or are dropped")
		}
	}
	return nil
}

// takeAway detaches and drops. A statement that meets somebody who uses the log
// leaves a partition half detached, which the next look completes.
func (u *upkeep) takeAway(ctx context.Context, conn *pgx.Conn) error {
	schema := u.s.sql.schema
	rows, err := conn.Query(ctx, "SELECT statement, pg_has_role(owner, 'USAGE') FROM "+schema+".detachments()")
	if err != nil {
		return fmt.Errorf("ask what goes: %w", err)
	}
	var statements []string
	var statement string
	owned, may := true, true
	_, err = pgx.ForEachRow(rows, []any{&statement, &may}, func() error {
		statements, owned = append(statements, statement), owned && may
		return nil
	})
	if err != nil {
		return fmt.Errorf("ask what goes: %w", err)
	}
	for _, statement := range statements {
		if !owned {
			break
		}
		if _, err := conn.Exec(ctx, statement); err != nil {
			u.s.log.Info("detach a partition; completed later", "error", err)
			break
		}
	}
	return u.drop(ctx, conn, !owned)
}

func (u *upkeep) drop(ctx context.Context, conn *pgx.Conn, attached bool) error {
	for again := true; again; {
		rows, err := conn.Query(ctx, "SELECT name, result FROM "+u.s.sql.schema+".drop_partitions($1)", attached)
		if err != nil {
			return fmt.Errorf("drop partitions: %w", err)
		}
		again = false
		var name, result string
		_, err = pgx.ForEachRow(rows, []any{&name, &result}, func() error {
			again = again || result == "detached"
			u.s.log.Info("partition", "name", name, "result", result)
			return nil
		})
		if err != nil {
			return fmt.Errorf("drop partitions: %w", err)
		}
	}
	return nil
}

const (
	pruneRows  = 1000
	pruneCalls = 20 // of one look
)

// prune deletes rows of inbox that workers moved, when their keys are no longer kept.
func (u *upkeep) prune(ctx context.Context, conn *pgx.Conn) error {
	for range pruneCalls {
		var deleted int
		err := conn.QueryRow(ctx, "SELECT deleted, upto FROM "+u.s.sql.schema+".prune_inbox(make_interval(secs => $1), $2, $3)",
			u.s.cfg.DedupeWindow.Seconds(), u.pruned, pruneRows).Scan(&deleted, &u.pruned)
		if err != nil {
			return fmt.Errorf("prune the inbox: %w", err)
		}
		if deleted < pruneRows {
			return nil
		}
	}
	return nil
}
