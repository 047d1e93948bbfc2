package worktable

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/migrations"
	"github.com/walbridge/walbridge/sink"
)

// Open fences every older writer and returns what is durable. It waits for a write
// of unknown result: its transaction holds the source row from the fence to the
// end of the commit, the wait for a standby included; one that has not come to its
// fence will fail there.
//
// Errors: fault.ErrFenced, once, when another instance has opened the source since
// this one did; *fault.ConfigError when the schema is missing, of another version or
// with another number of lanes; transient.
func (s *Sink) Open(ctx context.Context, src sink.Source) (lsn.Progress, error) {
	s.abandon()
	s.fenced = false
	s.src = src
	s.side.setOnMark(src.OnMark)
	s.name.Store(&src.Name)
	if s.forget.Swap(false) {
		s.epoch = 0
	}
	p, err := s.open(ctx)
	if err != nil {
		s.abandon()
		if err = operationError(ctx, "open the work table", err); errors.Is(err, fault.ErrFenced) {
			s.epoch = 0
		}
		return lsn.Progress{}, err
	}
	s.last = p
	return p, nil
}

func (s *Sink) open(ctx context.Context) (lsn.Progress, error) {
	if err := checkName(s.src.Name); err != nil {
		return lsn.Progress{}, err
	}
	if err := s.connect(ctx); err != nil {
		return lsn.Progress{}, err
	}
	s.streams.forget()
	if err := s.checkSchema(ctx); err != nil {
		return lsn.Progress{}, err
	}
	if _, err := s.conn.exec(ctx, s.sql.addSource(s.src.Name)); err != nil {
		return lsn.Progress{}, err
	}
	p, err := s.takeOver(ctx)
	if err != nil {
		return lsn.Progress{}, err
	}
	if err := s.makePartitions(ctx, 0); err != nil {
		return lsn.Progress{}, err
	}
	if s.upkeep == nil {
		s.upkeep = startUpkeep(s)
	}
	return p, s.upkeep.opened(ctx, s.src.Name, s.n)
}

func (s *Sink) connect(ctx context.Context) error {
	cfg, err := s.cfg.parse(appName(s.src.Name, "writer"))
	if err != nil {
		return err
	}
	if s.conn, err = dial(ctx, cfg); err != nil {
		return err
	}
	_, err = s.conn.exec(ctx, fmt.Sprintf("SET lock_timeout = %d; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = %d",
		s.tune.lockTimeout.Milliseconds(), s.cfg.WriteTimeout.Milliseconds()))
	if err != nil {
		return err
	}
	// on is made durable on every synchronous standby; where the database asks for
	// more, more it is.
	s.sync = "on"
	if v, err := s.value(ctx, "SELECT current_setting('synchronous_commit')"); err != nil {
		return err
	} else if v == "remote_apply" {
		s.sync = v
	}
	return nil
}

// value runs a statement and returns its first value.
func (s *Sink) value(ctx context.Context, sql string) (string, error) {
	r, err := s.conn.exec(ctx, sql)
	if err != nil {
		return "", err
	}
	return first(r)
}

// first is the first value of the last result that has one.
func first(results []*pgconn.Result) (string, error) {
	for i := len(results) - 1; i >= 0; i-- {
		if rows := results[i].Rows; len(rows) > 0 && len(rows[0]) > 0 {
			return string(rows[0][0]), nil
		}
	}
	return "", errors.New("the server returned no row")
}

// checkSchema compares the schema's version and number of lanes with ours.
func (s *Sink) checkSchema(ctx context.Context) error {
	r, err := s.conn.exec(ctx, s.sql.version())
	if hasCode(err, codeUndefinedTable) {
		return fault.Config(noSchema(s.cfg))
	}
	if err != nil {
		return err
	}
	if len(r) == 0 || len(r[0].Rows) != 1 {
		return errors.New("schema_version has no row")
	}
	return checkVersion(s.cfg, r[0].Rows[0])
}

// noSchema is the problem of a schema that is not there.
func noSchema(cfg Config) fault.Problem {
	return fault.Problem{
		Check: "sink-schema", Where: "sink.worktable.schema", What: "the schema " + cfg.Schema + " is not there, or not complete",
		Why: "The work table is kept in it.", Fix: "walbridge setup",
	}
}

// checkVersion judges version, compatible_from and lanes, as texts.
func checkVersion(cfg Config, row [][]byte) error {
	var have [3]int
	for i := range have {
		var err error
		if have[i], err = strconv.Atoi(string(row[i])); err != nil {
			return fmt.Errorf("read schema_version: %w", err)
		}
	}
	if err := migrations.Compatible(have[0], have[1]); err != nil {
		p := fault.Problem{Check: "sink-schema-version", Where: "sink.worktable.schema", What: err.Error(), Fix: "walbridge migrate up"}
		if have[0] > migrations.Version {
			p.Fix = "install the newer walbridge"
		}
		return fault.Config(p)
	}
	if have[2] != cfg.Lanes {
		return fault.Config(fault.Problem{
			Check: "sink-lanes", Where: "sink.worktable.lanes", What: fmt.Sprintf("%d, but the schema was made with %d", cfg.Lanes, have[2]),
			Why: "The lane of a key depends on the number of lanes, which is fixed when the schema is made.",
			Fix: fmt.Sprintf("lanes: %d", have[2]),
		})
	}
	return nil
}

// takeOver raises the epoch and reads the position, each in a statement of its own:
// what is read in the statement that waits for a lock is from before the wait.
func (s *Sink) takeOver(ctx context.Context) (lsn.Progress, error) {
	if err := s.lockSource(ctx); err != nil {
		return lsn.Progress{}, err
	}
	r, err := s.conn.exec(ctx, s.sql.raiseEpoch(s.src.Name, s.id))
	if err != nil {
		return lsn.Progress{}, err
	}
	source, err := readSource(r)
	if err != nil {
		return lsn.Progress{}, err
	}
	if s.epoch != 0 && source.before > s.epoch && source.openedBy != s.id {
		return lsn.Progress{}, fault.ErrFenced
	}
	if r, err = s.conn.exec(ctx, s.sql.latest(s.src.Name)); err != nil {
		return lsn.Progress{}, err
	}
	p, n, err := readLatest(source.progress, r)
	if err != nil {
		return lsn.Progress{}, err
	}
	if err := committed(s.conn.exec(ctx, "COMMIT")); err != nil {
		return lsn.Progress{}, err
	}
	s.epoch, s.n = source.before+1, n
	return p, nil
}

// lockSource begins the transaction and waits for the source row.
func (s *Sink) lockSource(ctx context.Context) error {
	var blockers []blocker
	for {
		w := s.watch()
		_, err := s.conn.exec(ctx, begin(s.sync)+s.sql.lockSource(s.src.Name))
		if found := w.stop(); len(found) > 0 {
			blockers = found
		}
		if err != nil && ctx.Err() != nil {
			return blocked(err, blockers)
		}
		if !hasCode(err, codeLockNotAvailable) {
			return err
		}
		s.waiting("the source row of the work table", blockers)
		if _, err := s.conn.exec(ctx, "ROLLBACK"); err != nil {
			return err
		}
	}
}

// sourceRow is a row of source, as it was before its epoch was raised.
type sourceRow struct {
	before   int64
	openedBy string
	progress lsn.Progress
}

func readSource(results []*pgconn.Result) (sourceRow, error) {
	if len(results) == 0 || len(results[0].Rows) != 1 {
		return sourceRow{}, errors.New("the source row is gone")
	}
	return parseSource(results[0].Rows[0])
}

// parseSource reads the columns that statements.raiseEpoch and latestOf name.
func parseSource(v [][]byte) (sourceRow, error) {
	r := reader{row: v}
	var s sourceRow
	s.before = r.int64()
	s.openedBy = r.text()
	s.progress.Slot = r.text()
	s.progress.SystemID = uint64(r.int64())
	s.progress.Timeline = uint32(r.int64())
	s.progress.ConfigHash = r.text()
	s.progress.Phase = lsn.Phase(r.text())
	s.progress.Cursors = r.hex()
	return s, r.err
}

// readLatest adds the latest row of batch to what the source row says, and returns
// its number. Without one there is no progress.
func readLatest(p lsn.Progress, results []*pgconn.Result) (lsn.Progress, int64, error) {
	if len(results) == 0 || len(results[0].Rows) == 0 {
		return lsn.Progress{}, 0, nil
	}
	r := reader{row: results[0].Rows[0]}
	n := r.int64()
	p.Position.End, p.Position.LastTxEnd, p.Position.Commit = r.lsn(), r.lsn(), r.lsn()
	p.Position.Seq, p.Position.Sub = uint32(r.int64()), uint16(r.int64())
	p.Timeline = uint32(r.int64())
	p.Xid = r.uint64()
	if at := r.text(); at != "" && r.err == nil {
		us, err := strconv.ParseInt(at, 10, 64)
		p.CommitTime, r.err = lsn.Micros(us).Time(), err
	}
	return p, n, r.err
}

// reader takes the values of a row in text form, one after the other; NULL is the
// zero value. The first error stays.
type reader struct {
	row [][]byte
	err error
}

func (r *reader) text() string {
	if len(r.row) == 0 {
		r.err = errors.Join(r.err, errors.New("the server returned too few columns"))
		return ""
	}
	v := r.row[0]
	r.row = r.row[1:]
	return string(v)
}

func (r *reader) int64() int64 {
	v := r.text()
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	r.err = errors.Join(r.err, err)
	return n
}

func (r *reader) uint64() uint64 {
	v := r.text()
	if v == "" {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 64)
	r.err = errors.Join(r.err, err)
	return n
}

func (r *reader) lsn() lsn.LSN {
	v := r.text()
	if v == "" {
		return 0
	}
	l, err := lsn.Parse(v)
	r.err = errors.Join(r.err, err)
	return l
}

func (r *reader) hex() []byte {
	v := r.text()
	if v == "" {
		return nil
	}
	b, err := hex.DecodeString(v)
	r.err = errors.Join(r.err, err)
	return b
}

// begin starts a transaction in which each statement sees what was committed before
// it, and whose commit is durable before it is answered.
func begin(sync string) string {
	return "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE; SET LOCAL synchronous_commit = " + sync + "; "
}

// committed makes an error of a COMMIT that the server took for a ROLLBACK, as it
// does when the transaction had failed.
func committed(results []*pgconn.Result, err error) error {
	if err != nil {
		return err
	}
	if n := len(results); n == 0 || results[n-1].CommandTag.String() != "COMMIT" {
		return errors.New("the server did not commit")
	}
	return nil
}
