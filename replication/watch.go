package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// sampleQuery reads what Sample holds; %s is the slot's name.
const sampleQuery = `
SELECT pg_catalog.jsonb_build_object(
  'WAL', CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END,
  'Micros', (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint,
  'Prepared', (SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE prepared < pg_catalog.now() - interval '1 hour'),
  'Slot', (SELECT ` + slotColumns + ` FROM ` + slotFrom + ` WHERE s.slot_name = %s))`

type jsonSample struct {
	WAL      jsonLSN
	Micros   int64
	Prepared int
	Slot     *jsonSlot
}

func (j *jsonSample) sample() Sample {
	s := Sample{WAL: lsn.LSN(j.WAL), Time: time.UnixMicro(j.Micros).UTC(), Prepared: j.Prepared}
	if j.Slot != nil {
		slot := j.Slot.slot()
		s.Slot = &slot
	}
	return s
}

// Watch keeps one SQL session, calls sample once at the start and then at that
// interval, from the calling goroutine, and waits in the session's read in between.
// That a shutdown of the server shows there at once is its second purpose: nothing
// shows on a replication connection that nobody reads.
//
// It returns nil when ctx ends, ErrShutdown when the server shuts down, and else a
// transient error; call it again after a while then.
func (s *Source) Watch(ctx context.Context, every time.Duration, sample func(Sample)) error {
	for {
		err := s.watchSession(ctx, every, sample)
		switch {
		case ctx.Err() != nil:
			return nil
		case !terminated(err):
			return Classify(err)
		}
		// An administrator ended this session, or everyone's: another one tells.
		if err := s.tryAgain(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

func terminated(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "57P01"
}

// tryAgain connects once more after 57P01: refused, or told to come later, means
// that the server shuts down.
func (s *Source) tryAgain(ctx context.Context) error {
	conn, err := s.sql(ctx)
	var pg *pgconn.PgError
	switch {
	case err == nil:
		closeConn(conn)
		return nil
	case errors.As(err, &pg) && pg.Code != "57P03":
		return err
	}
	return fmt.Errorf("%w: %w", ErrShutdown, err)
}

func (s *Source) watchSession(ctx context.Context, every time.Duration, sample func(Sample)) error {
	conn, err := s.sql(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	sql := fmt.Sprintf(sampleQuery, quoteLiteral(s.cfg.Slot))
	for {
		if err := s.takeSample(ctx, conn, sql, sample); err != nil {
			return err
		}
		if err := idle(ctx, conn, every); err != nil {
			return err
		}
	}
}

// takeSample is bounded: a server that has stopped answering is no source of
// samples.
func (s *Source) takeSample(ctx context.Context, conn *pgconn.PgConn, sql string, sample func(Sample)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limits.senderTime, fmt.Errorf("no sample within %v", s.limits.senderTime))
	defer cancel()
	j, err := rowOf[jsonSample](ctx, conn, sql)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !terminated(err) {
			err = fault.Transient(ReasonSilent, cause)
		}
		return fmt.Errorf("sample the source: %w", err)
	}
	sample(j.sample())
	return nil
}

// idle waits in the session's read: nil when the time is up, else what the server
// said.
func idle(ctx context.Context, conn *pgconn.PgConn, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		err := conn.WaitForNotification(ctx)
		switch {
		case err == nil:
			continue // nobody sends us any
		case pgconn.Timeout(err) && ctx.Err() != nil:
			return nil
		}
		return fmt.Errorf("wait beside the stream: %w", err)
	}
}
