-- +goose Up
-- available_at is the one column by which engines find work: the time of the next
-- attempt, the deadline of a wait, or, while the instance is leased, the end of the
-- lease; null when there is nothing to do. Finished instances are in no index but
-- those of their keys, so that they cost a claim nothing.
-- The fill factor leaves room for HOT updates: a step that is done changes no
-- indexed column.
CREATE TABLE {{schema}}.workflow_instance (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uid              uuid NOT NULL DEFAULT gen_random_uuid(),
    name             text COLLATE "C" NOT NULL,
    version          integer NOT NULL,
    key              text COLLATE "C" NOT NULL,
    steps            text NOT NULL,
    state            json NOT NULL,
    status           text NOT NULL DEFAULT 'running'
        CONSTRAINT workflow_instance_status CHECK (status IN ('running', 'waiting', 'compensating', 'completed', 'compensated', 'failed', 'halted')),
    undoing          boolean NOT NULL DEFAULT false,
    step             integer NOT NULL DEFAULT 0,
    attempts         integer NOT NULL DEFAULT 0,
    failures         integer NOT NULL DEFAULT 0,
    lost             integer NOT NULL DEFAULT 0,
    available_at     timestamptz DEFAULT clock_timestamp(),
    waiting_for      text,
    owner            text,
    lease_generation bigint NOT NULL DEFAULT 0,
    cancel_reason    text,
    reason           text,
    halt             text,
    last_error       text,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at      timestamptz,
    CONSTRAINT workflow_instance_key UNIQUE (name, key)
) WITH (fillfactor = 70);
CREATE INDEX workflow_instance_due ON {{schema}}.workflow_instance (name, version, available_at) WHERE available_at IS NOT NULL;
CREATE INDEX workflow_instance_stuck ON {{schema}}.workflow_instance (id) WHERE status IN ('failed', 'halted');
CREATE INDEX workflow_instance_finished ON {{schema}}.workflow_instance (finished_at) WHERE finished_at IS NOT NULL;
COMMENT ON TABLE {{schema}}.workflow_instance IS 'One row per workflow that was started: its state and where it stands.';
COMMENT ON COLUMN {{schema}}.workflow_instance.uid IS 'Begins the idempotency keys of its steps.';
COMMENT ON COLUMN {{schema}}.workflow_instance.steps IS 'The steps as they were at its start, name=kind; an engine whose program has others halts it.';
COMMENT ON COLUMN {{schema}}.workflow_instance.undoing IS 'True from the moment that its completed steps are compensated.';
COMMENT ON COLUMN {{schema}}.workflow_instance.step IS 'Number of the step that is next, from 0; while undoing, of the one that is undone next.';
COMMENT ON COLUMN {{schema}}.workflow_instance.attempts IS 'Attempts of that step that were begun; failures of them reported an error, lost ended with their worker.';
COMMENT ON COLUMN {{schema}}.workflow_instance.available_at IS 'When an engine takes it next; the end of the lease while owner is set; null when there is nothing to do.';
COMMENT ON COLUMN {{schema}}.workflow_instance.lease_generation IS 'Rises at every take-over and fences older owners.';

CREATE TABLE {{schema}}.workflow_step (
    instance      bigint NOT NULL REFERENCES {{schema}}.workflow_instance (id) ON DELETE CASCADE,
    n             integer NOT NULL,
    name          text NOT NULL,
    kind          text NOT NULL,
    status        text NOT NULL
        CONSTRAINT workflow_step_status CHECK (status IN ('retrying', 'completed', 'failed', 'undoing', 'compensated', 'undo_failed')),
    attempts      integer NOT NULL DEFAULT 0,
    last_error    text,
    next_at       timestamptz,
    started_at    timestamptz,
    finished_at   timestamptz,
    undo_attempts integer NOT NULL DEFAULT 0,
    undo_error    text,
    undone_at     timestamptz,
    CONSTRAINT workflow_step_pkey PRIMARY KEY (instance, n)
);
COMMENT ON TABLE {{schema}}.workflow_step IS 'One row per step that has an outcome, written in the transaction of the outcome.';

CREATE TABLE {{schema}}.workflow_timer (
    instance   bigint NOT NULL REFERENCES {{schema}}.workflow_instance (id) ON DELETE CASCADE,
    step       integer NOT NULL,
    fires_at   timestamptz NOT NULL,
    fired_at   timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT workflow_timer_pkey PRIMARY KEY (instance, step)
);
COMMENT ON TABLE {{schema}}.workflow_timer IS 'The end of each sleep and the deadline of each wait, fixed when it was begun.';
COMMENT ON COLUMN {{schema}}.workflow_timer.fired_at IS 'When it was acted on; null while it runs and when a signal came first.';

-- The foreign key is more than tidiness: its KEY SHARE lock makes the beginning of a
-- wait, which takes FOR UPDATE, wait for signals that are being sent.
CREATE TABLE {{schema}}.workflow_signal (
    n           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance    bigint NOT NULL REFERENCES {{schema}}.workflow_instance (id) ON DELETE CASCADE,
    name        text NOT NULL,
    id          text,
    data        json NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    consumed_by integer,
    consumed_at timestamptz,
    CONSTRAINT workflow_signal_id UNIQUE (instance, name, id)
);
CREATE INDEX workflow_signal_open ON {{schema}}.workflow_signal (instance, name, n) WHERE consumed_by IS NULL;
COMMENT ON TABLE {{schema}}.workflow_signal IS 'Signals, in the order of n; each is kept until a wait of its name consumes it.';

UPDATE {{schema}}.schema_version SET version = 7, compatible_from = 5;

-- +goose Down
UPDATE {{schema}}.schema_version SET version = 6, compatible_from = 5;
DROP TABLE {{schema}}.workflow_signal;
DROP TABLE {{schema}}.workflow_timer;
DROP TABLE {{schema}}.workflow_step;
DROP TABLE {{schema}}.workflow_instance;
