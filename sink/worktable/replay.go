package worktable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
)

// Remap maps a change again by today's routes, from the raw form that its dead
// letter keeps. The items are used before the next call.
type Remap func(raw []byte) ([]mapper.Item, error)

// Later is an item of a replayed item's key that is behind it in the source's order
// and was delivered already.
type Later struct {
	Seq  int64
	Item lsn.ID
	Type string
}

// Replayed says what a replay did.
type Replayed struct {
	Items    int
	FirstSeq int64 // 0 for a trial
	// Later are the first items that consumers have seen before these, though they
	// come after them: at most maxLater. LaterUnknown: the search took too long.
	Later        []Later
	LaterUnknown bool
}

const (
	maxLater     = 10
	laterTimeout = 3 * time.Second
	replayWait   = "10s" // for the log
)

// Replay puts the items of a dead letter into the log, with their old ids, at new
// seqs, and closes the letter in the same transaction. No position moves. A letter of
// the mapper is mapped again by remap, one of an item that log had refused is taken
// as it was mapped. With trial nothing is changed.
//
// Errors: ErrNoLetter; *fault.ConfigError when the letter is closed, cannot be
// replayed, or fails again, with the reason; transient.
func (s *Store) Replay(ctx context.Context, id int64, remap Remap, by Operator, trial bool) (Replayed, error) {
	done, err := s.replay(ctx, id, remap, by, trial)
	switch {
	case err == nil:
		return done, nil
	case errors.Is(err, ErrNoLetter):
		return Replayed{}, err
	case isPoison(err):
		return Replayed{}, refused(id, "the log still refuses it: "+plain(err).Error(), "mend the cause, or walbridge dlq discard")
	}
	return Replayed{}, operationError(ctx, fmt.Sprintf("replay dead letter %d", id), err)
}

func (s *Store) replay(ctx context.Context, id int64, remap Remap, by Operator, trial bool) (Replayed, error) {
	l, err := s.show(ctx, id)
	if err != nil {
		return Replayed{}, err
	}
	b, err := s.itemsOf(ctx, l, remap)
	if err != nil {
		return Replayed{}, err
	}
	done := Replayed{Items: len(b.rows)}
	if done.Later, err = s.later(ctx, b); err != nil {
		if ctx.Err() != nil || s.conn.IsClosed() {
			return Replayed{}, err
		}
		done.LaterUnknown = true
	}
	if trial {
		return done, nil
	}
	ids, err := s.prepare(ctx, b)
	if err != nil {
		return Replayed{}, err
	}
	err = pgx.BeginTxFunc(ctx, s.conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if err := s.resolve(ctx, tx, id); err != nil {
			return err
		}
		if done.FirstSeq, err = s.add(ctx, tx, b, ids); err != nil {
			return err
		}
		return s.operation(ctx, tx, by, "dlq replay", map[string]any{"id": id, "note": by.Note},
			map[string]any{"items": done.Items, "first_seq": done.FirstSeq})
	})
	return done, err
}

// prepare does what must not wait for the transaction's end: streams get their
// numbers, log its partitions.
func (s *Store) prepare(ctx context.Context, b *batch) ([]int32, error) {
	if _, err := s.conn.Exec(ctx, fmt.Sprintf("SELECT %s.make_partitions((SELECT last_value FROM %[1]s.log_seq) + $1::bigint, $2::integer, $3::bigint)", s.q.schema),
		len(b.rows), s.tune.partitionAhead, s.tune.partitionSize); err != nil {
		return nil, fmt.Errorf("make partitions: %w", err)
	}
	return newStreamIDs(s.q.schema).resolve(ctx, s.conn.PgConn(), b.streams)
}

// resolve closes the letter, unless somebody else has meanwhile.
func (s *Store) resolve(ctx context.Context, tx pgx.Tx, id int64) error {
	tag, err := tx.Exec(ctx, "UPDATE "+s.q.schema+`.dead_letter SET resolution = 'replayed', replayed_at = clock_timestamp(), resolved_at = clock_timestamp()
		WHERE id = $1 AND resolution IS NULL`, id)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return refused(id, "it was replayed or discarded meanwhile", "nothing is left to do")
	}
	return nil
}

// itemsOf makes a batch of what the letter stands for.
func (s *Store) itemsOf(ctx context.Context, l Letter, remap Remap) (*batch, error) {
	b := newBatch(s.cfg.Lanes, func() string { return l.Source })
	switch {
	case l.Resolution != "":
		return nil, refused(l.ID, fmt.Sprintf("it was %s already, at %s", l.Resolution, l.ResolvedAt.UTC().Format(time.RFC3339)), "nothing is left to do")
	case !l.Replayable:
		return nil, refused(l.ID, "it is not whole, or holds what no table can hold", "read it with walbridge dlq show, then walbridge dlq discard")
	case l.Raw == nil:
		return b, s.appendStored(ctx, b, l.ID)
	case remap == nil:
		return nil, refused(l.ID, "it has to be mapped again", "run it with the bridge's configuration")
	}
	items, err := remap(l.Raw)
	if err != nil {
		return nil, refused(l.ID, "mapping it again: "+err.Error(), "mend the route, or walbridge dlq discard")
	}
	if len(items) == 0 {
		return nil, refused(l.ID, "today's routes make no item of it", "mend the routes, or walbridge dlq discard")
	}
	for i := range items {
		if d := items[i].DeadLetter; d != nil {
			return nil, refused(l.ID, fmt.Sprintf("it still cannot be mapped (%s): %s", d.Reason, d.Error), "mend the route, or walbridge dlq discard")
		}
	}
	b.Append(items)
	return b, nil
}

// appendStored takes the item out of the letter's own columns, exactly.
func (s *Store) appendStored(ctx context.Context, b *batch, id int64) error {
	var commit, kind, eventID, stream string
	var seq int64
	var sub int32
	var lane int16
	var key, typ, payload, headers []byte
	var committed, created time.Time
	var available *time.Time
	err := s.conn.QueryRow(ctx, `SELECT commit_lsn::text, tx_seq, sub, lane, stream, convert_to(partition_key, 'UTF8'), idempotency_key, kind, convert_to(type, 'UTF8'),
		convert_to(payload, 'UTF8'), convert_to(headers, 'UTF8'), committed_at, created_at, available_at FROM `+s.q.schema+".dead_letter WHERE id = $1", id).
		Scan(&commit, &seq, &sub, &lane, &stream, &key, &eventID, &kind, &typ, &payload, &headers, &committed, &created, &available)
	if err != nil {
		return fmt.Errorf("read the item: %w", err)
	}
	at, err := lsn.Parse(commit)
	if err != nil {
		return err
	}
	it := mapper.Item{
		ID: lsn.ID{Commit: at, Seq: uint32(seq), Sub: uint16(sub)}, Kind: mapper.KindEvent, Stream: stream, Key: key, EventID: []byte(eventID), Type: typ,
		Headers: headers, CommittedAt: lsn.MicrosOf(committed), Time: lsn.MicrosOf(created),
	}
	if kind == mapper.KindRecord.String() {
		it.Kind = mapper.KindRecord
	}
	if payload != nil {
		it.Payload = stored(payload)
	}
	if available != nil {
		it.AvailableAt = lsn.MicrosOf(*available)
	}
	b.name = b.source()
	b.appendOne(&it, it.ID, int(lane), it.EventID)
	return nil
}

// stored is a payload as a letter keeps it.
type stored []byte

// AppendJSON appends the text.
func (p stored) AppendJSON(dst []byte) []byte { return append(dst, p...) }

// add appends the rows under the log's lock.
func (s *Store) add(ctx context.Context, tx pgx.Tx, b *batch, streams []int32) (first int64, err error) {
	if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '"+replayWait+"'", pgx.QueryExecModeSimpleProtocol); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, "SELECT "+s.q.schema+".lock_log()"); err != nil {
		return 0, fmt.Errorf("wait for the log: %w", err)
	}
	if err := tx.QueryRow(ctx, "SELECT "+s.q.schema+".take_seq($1)", len(b.rows)).Scan(&first); err != nil {
		return 0, err
	}
	b.patch(first, streams)
	_, err = tx.Conn().PgConn().CopyFrom(ctx, newParts([][]byte{[]byte(copyHeader), b.buf, []byte(copyTrailer)}), s.q.copyLog())
	return first, err
}

// later finds items of the same keys that lie behind in the source's order and are
// in the log already, in a transaction of its own, since it may be given up.
func (s *Store) later(ctx context.Context, b *batch) ([]Later, error) {
	var all []Later
	err := pgx.BeginTxFunc(ctx, s.conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", laterTimeout.Milliseconds())); err != nil {
			return err
		}
		for i := range b.rows {
			found, err := s.laterThan(ctx, tx, b, i)
			if err != nil {
				return err
			}
			if all = append(all, found...); len(all) >= maxLater {
				all = all[:maxLater]
				return nil
			}
		}
		return nil
	})
	return all, err
}

func (s *Store) laterThan(ctx context.Context, tx pgx.Tx, b *batch, i int) ([]Later, error) {
	row := b.buf[b.rowsEnd(i):b.rowsEnd(i+1)]
	f, id := fields(row), rowID(row)
	if f[fieldKey] == nil {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `SELECT l.seq, l.commit_lsn::text, l.tx_seq, l.sub, coalesce(l.type, '') FROM `+s.q.schema+`.log l
		JOIN `+s.q.schema+`.stream t ON t.id = l.stream_id
		WHERE t.name = $1 AND l.lane = $2 AND l.partition_key = $3 AND l.source = $4 AND (l.commit_lsn, l.tx_seq, l.sub) > ($5::pg_lsn, $6, $7) ORDER BY l.seq LIMIT $8`,
		string(f[fieldStream]), int16(f[fieldLane][0])<<8|int16(f[fieldLane][1]), string(f[fieldKey]), b.name, id.Commit.String(), int64(id.Seq), int32(id.Sub), maxLater)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (Later, error) {
		var l Later
		var commit string
		var seq int64
		var sub int32
		if err := r.Scan(&l.Seq, &commit, &seq, &sub, &l.Type); err != nil {
			return l, err
		}
		at, err := lsn.Parse(commit)
		l.Item = lsn.ID{Commit: at, Seq: uint32(seq), Sub: uint16(sub)}
		return l, err
	})
}

// jsonText is a value as JSON, nil for an empty one.
func jsonText(v map[string]any) any {
	if v == nil {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil // cannot be: numbers and strings
	}
	return string(text)
}
