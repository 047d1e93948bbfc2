package workflow

import (
	"strings"

	"github.com/walbridge/walbridge/migrations"
)

// statements are the SQL of an engine, for its schema. micro is a time span of
// whole microseconds.
type statements struct {
	version, clock                                   string
	lockDue, lockOne, held, take, consumed           string
	renew, generations                               string
	record, recordUndo, move                         string
	lock, timer, timerState, fired, next, consume    string
	start, find, openSignals, signal, wakeWaiting    string
	strangers, lockStrangers, halt, known            string
	cancel, resume, list, show, showSteps, pruneSome string
}

func newStatements(schema string) statements {
	in := strings.NewReplacer("{{schema}}", migrations.Ident(schema)).Replace
	s := statements{}
	s.claims(in)
	s.steps(in)
	s.senders(in)
	s.strange(in)
	s.operators(in)
	return s
}

const sqlVersion = `SELECT version, compatible_from FROM {{schema}}.schema_version`

// Each LATERAL part is one range of the index workflow_instance_due, however many
// instances wait, have finished, or belong to other workflows.
const sqlLockDue = `
SELECT i.id FROM unnest($1::text[], $2::integer[]) WITH ORDINALITY AS d (name, version, n)
CROSS JOIN LATERAL (
    SELECT w.id FROM {{schema}}.workflow_instance w
    WHERE w.name = d.name AND w.version = d.version AND w.available_at >= $3 AND w.available_at <= $4
    ORDER BY w.available_at LIMIT $5 FOR UPDATE OF w SKIP LOCKED) i
LIMIT $5`

// sqlHeld finds an instance that its owner has not given back and nobody has taken.
const sqlHeld = `SELECT id FROM {{schema}}.workflow_instance WHERE id = $1 AND lease_generation = $2 AND owner IS NOT NULL`

// Another owner that is still there at a take-over did not live to give the instance
// back.
const sqlTake = `
UPDATE {{schema}}.workflow_instance SET
    lease_generation = lease_generation + 1,
    owner = $2,
    available_at = clock_timestamp() + $3::bigint * interval '1 microsecond',
    attempts = attempts + 1,
    lost = lost + (owner <> $2 AND owner IS NOT NULL)::integer,
    status = CASE status WHEN 'waiting' THEN 'running' ELSE status END,
    waiting_for = NULL,
    updated_at = clock_timestamp()
WHERE id = ANY($1::bigint[]) AND available_at IS NOT NULL
RETURNING id, lease_generation, uid::text, name, version, key, steps, state::text, undoing, step, attempts, failures, lost, cancel_reason, coalesce(reason, '')`

const sqlConsumed = `SELECT instance, name, data::text FROM {{schema}}.workflow_signal WHERE instance = ANY($1::bigint[]) AND consumed_by IS NOT NULL`

// A row that is locked is skipped: it is being settled by this very engine, perhaps
// for as long as a standby makes the commit wait, and the others must not wait
// with it. One that has been given back keeps its available_at.
const sqlRenew = `
WITH mine AS (
    SELECT w.id FROM {{schema}}.workflow_instance w
    JOIN unnest($1::bigint[], $2::bigint[]) AS l (id, generation) ON w.id = l.id AND w.lease_generation = l.generation
    WHERE w.owner IS NOT NULL
    FOR NO KEY UPDATE OF w SKIP LOCKED)
UPDATE {{schema}}.workflow_instance w SET available_at = clock_timestamp() + $3::bigint * interval '1 microsecond'
FROM mine WHERE w.id = mine.id
RETURNING w.id, w.lease_generation, w.cancel_reason`

const sqlGenerations = `SELECT id, lease_generation FROM {{schema}}.workflow_instance WHERE id = ANY($1::bigint[])`

func (s *statements) claims(in func(string) string) {
	s.version = in(sqlVersion)
	s.clock = `SELECT clock_timestamp()`
	s.lockDue, s.held = in(sqlLockDue), in(sqlHeld)
	s.lockOne = s.held + ` FOR UPDATE SKIP LOCKED`
	s.lock = s.held + ` FOR UPDATE`
	s.take, s.consumed = in(sqlTake), in(sqlConsumed)
	s.renew, s.generations = in(sqlRenew), in(sqlGenerations)
}

const sqlRecord = `
INSERT INTO {{schema}}.workflow_step AS s (instance, n, name, kind, status, attempts, last_error, next_at, started_at, finished_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + $8::bigint * interval '1 microsecond',
    clock_timestamp() - $9::bigint * interval '1 microsecond', CASE WHEN $5 <> 'retrying' THEN clock_timestamp() END)
ON CONFLICT (instance, n) DO UPDATE SET
    status = EXCLUDED.status, attempts = EXCLUDED.attempts, last_error = coalesce(EXCLUDED.last_error, s.last_error),
    next_at = EXCLUDED.next_at, started_at = coalesce(s.started_at, EXCLUDED.started_at), finished_at = EXCLUDED.finished_at`

const sqlRecordUndo = `
INSERT INTO {{schema}}.workflow_step AS s (instance, n, name, kind, status, undo_attempts, undo_error, next_at, undone_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + $8::bigint * interval '1 microsecond', CASE WHEN $5 = 'compensated' THEN clock_timestamp() END)
ON CONFLICT (instance, n) DO UPDATE SET
    status = EXCLUDED.status, undo_attempts = EXCLUDED.undo_attempts, undo_error = coalesce(EXCLUDED.undo_error, s.undo_error),
    next_at = EXCLUDED.next_at, undone_at = EXCLUDED.undone_at`

// move is the only statement that moves an instance which is owned. It is the last
// one before COMMIT and the fence: it changes the row only while the generation is
// the owner's, and holds it against every take-over, which begins with FOR UPDATE,
// until the transaction has ended. $13 says that the owner keeps its lease. An
// instance that completes after somebody was promised that it is cancelled is kept
// and compensated.
const sqlMove = `
UPDATE {{schema}}.workflow_instance SET
    state = coalesce($3::json, state), step = $4, undoing = $5,
    status = CASE WHEN $6 = 'completed' AND cancel_reason IS NOT NULL THEN 'running' ELSE $6 END,
    attempts = $7, failures = $8, lost = $9, waiting_for = $10, reason = coalesce($11, reason), last_error = $12,
    available_at = CASE
        WHEN $13 OR $6 = 'completed' AND cancel_reason IS NOT NULL THEN available_at
        WHEN $6 IN ('completed', 'compensated', 'failed', 'halted') THEN NULL
        WHEN cancel_reason IS NOT NULL AND NOT $5 THEN clock_timestamp()
        ELSE coalesce($14::timestamptz, clock_timestamp() + $15::bigint * interval '1 microsecond') END,
    owner = CASE WHEN $13 OR $6 = 'completed' AND cancel_reason IS NOT NULL THEN owner END,
    halt = $16,
    finished_at = CASE WHEN $6 = 'compensated' OR $6 = 'completed' AND cancel_reason IS NULL THEN clock_timestamp() END,
    updated_at = clock_timestamp()
WHERE id = $1 AND lease_generation = $2 AND owner IS NOT NULL
RETURNING status, cancel_reason`

func (s *statements) steps(in func(string) string) {
	s.record, s.recordUndo, s.move = in(sqlRecord), in(sqlRecordUndo), in(sqlMove)
	s.timer = in(`INSERT INTO {{schema}}.workflow_timer (instance, step, fires_at)
		VALUES ($1, $2, clock_timestamp() + $3::bigint * interval '1 microsecond') ON CONFLICT (instance, step) DO NOTHING`)
	s.timerState = in(`SELECT fires_at, fires_at <= clock_timestamp() FROM {{schema}}.workflow_timer WHERE instance = $1 AND step = $2`)
	s.fired = in(`UPDATE {{schema}}.workflow_timer SET fired_at = clock_timestamp() WHERE instance = $1 AND step = $2`)
	s.next = in(`SELECT n, data::text FROM {{schema}}.workflow_signal WHERE instance = $1 AND name = $2 AND consumed_by IS NULL ORDER BY n LIMIT 1`)
	s.consume = in(`UPDATE {{schema}}.workflow_signal SET consumed_by = $2, consumed_at = clock_timestamp() WHERE n = $1`)
}

func (s *statements) senders(in func(string) string) {
	s.start = in(`INSERT INTO {{schema}}.workflow_instance (name, version, key, steps, state) VALUES ($1, $2, $3, $4, $5::json)
		ON CONFLICT (name, key) DO NOTHING`)
	s.find = in(`SELECT id, status, current_setting('transaction_isolation') FROM {{schema}}.workflow_instance WHERE name = $1 AND key = $2`)
	s.openSignals = in(`SELECT count(*) FROM (SELECT 1 FROM {{schema}}.workflow_signal WHERE instance = $1 AND consumed_by IS NULL LIMIT $2) s`)
	s.signal = in(`INSERT INTO {{schema}}.workflow_signal (instance, name, id, data) VALUES ($1, $2, $3, $4::json)
		ON CONFLICT (instance, name, id) DO NOTHING`)
	s.wakeWaiting = in(`UPDATE {{schema}}.workflow_instance SET available_at = clock_timestamp() WHERE id = $1 AND waiting_for = $2`)
}

// sqlStrangers hops over the names and versions of the index, one entry of each.
const sqlStrangers = `
WITH RECURSIVE found AS (
    (SELECT name, version FROM {{schema}}.workflow_instance WHERE available_at IS NOT NULL ORDER BY name, version LIMIT 1)
    UNION ALL
    SELECT n.name, n.version FROM found f CROSS JOIN LATERAL (
        SELECT i.name, i.version FROM {{schema}}.workflow_instance i
        WHERE i.available_at IS NOT NULL AND (i.name, i.version) > (f.name, f.version) ORDER BY i.name, i.version LIMIT 1) n)
SELECT name, version FROM found`

func (s *statements) strange(in func(string) string) {
	s.strangers = in(sqlStrangers)
	s.lockStrangers = in(`SELECT id FROM {{schema}}.workflow_instance
		WHERE name = $1 AND version = $2 AND available_at <= (SELECT clock_timestamp()) - $3::bigint * interval '1 microsecond'
		ORDER BY available_at LIMIT 100 FOR UPDATE SKIP LOCKED`)
	s.halt = in(`UPDATE {{schema}}.workflow_instance SET status = 'halted', halt = $2, last_error = $3, available_at = NULL, owner = NULL,
		waiting_for = NULL, lease_generation = lease_generation + 1, updated_at = clock_timestamp() WHERE id = ANY($1::bigint[])`)
	s.known = in(`UPDATE {{schema}}.workflow_instance w SET status = CASE WHEN undoing THEN 'compensating' ELSE 'running' END, halt = NULL,
		available_at = clock_timestamp(), failures = 0, lost = 0, updated_at = clock_timestamp()
		FROM unnest($1::text[], $2::integer[], $3::text[]) AS d (name, version, steps)
		WHERE w.status IN ('failed', 'halted') AND w.status = 'halted' AND w.halt = 'unknown'
		AND w.name = d.name AND w.version = d.version AND w.steps = d.steps`)
}

// sqlColumns are those of Info.
const sqlColumns = `id, name, version, key, status, step, steps, attempts, coalesce(waiting_for, ''), coalesce(owner, ''), coalesce(reason, ''),
    coalesce(last_error, ''), coalesce(cancel_reason, ''), available_at, created_at, updated_at, finished_at`

// sqlNote begins what notes a deed of an operator in the deed's own statement.
const sqlNote = `INSERT INTO {{schema}}.operation (who, tool_version, command, target, arguments, after) SELECT session_user, 'workflow', `

func (s *statements) operators(in func(string) string) {
	s.cancel = in(`WITH done AS (UPDATE {{schema}}.workflow_instance SET cancel_reason = coalesce(cancel_reason, $3),
		available_at = CASE WHEN owner IS NULL AND available_at IS NOT NULL THEN clock_timestamp() ELSE available_at END, updated_at = clock_timestamp()
		WHERE name = $1 AND key = $2 AND status NOT IN ('completed', 'compensated') RETURNING name, key, status, step, cancel_reason)
		` + sqlNote + `'workflow cancel', name || ' ' || key, json_build_object('reason', $3::text), json_build_object('status', status, 'step', step, 'cancel_reason', cancel_reason) FROM done`)
	s.resume = in(`WITH done AS (UPDATE {{schema}}.workflow_instance SET status = CASE WHEN undoing THEN 'compensating' ELSE 'running' END, halt = NULL,
		available_at = clock_timestamp(), failures = 0, lost = 0, updated_at = clock_timestamp()
		WHERE name = $1 AND key = $2 AND owner IS NULL AND status IN ('running', 'compensating', 'failed', 'halted') RETURNING name, key, status, step)
		` + sqlNote + `'workflow resume', name || ' ' || key, NULL::json, json_build_object('status', status, 'step', step) FROM done`)
	s.list = in(`SELECT ` + sqlColumns + ` FROM {{schema}}.workflow_instance
		WHERE ($1::bigint = 0 OR id < $1) AND ($2::text = '' OR name = $2) AND ($3::text = '' OR status = $3) ORDER BY id DESC LIMIT $4`)
	s.show = in(`SELECT ` + sqlColumns + `, state::text FROM {{schema}}.workflow_instance WHERE name = $1 AND key = $2`)
	s.showSteps = in(`SELECT n, name, kind, status, attempts, coalesce(last_error, ''), next_at, started_at, finished_at, undo_attempts, coalesce(undo_error, ''), undone_at
		FROM {{schema}}.workflow_step WHERE instance = $1 ORDER BY n`)
	s.pruneSome = in(`WITH gone AS (DELETE FROM {{schema}}.workflow_instance WHERE id IN (
			SELECT id FROM {{schema}}.workflow_instance WHERE finished_at < clock_timestamp() - $1::bigint * interval '1 microsecond'
			ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id),
		note AS (` + sqlNote + `'workflow prune', NULL, json_build_object('keep_us', $1::bigint), json_build_object('deleted', count(*)) FROM gone HAVING count(*) > 0)
		SELECT count(*) FROM gone`)
}
