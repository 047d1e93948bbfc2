-- +goose Up
-- The columns take whatever log refuses: text for JSON, no constraint but the key.
CREATE TABLE {{schema}}.dead_letter (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source          text NOT NULL,
    subscription    text,
    seq             bigint,
    commit_lsn      pg_lsn,
    tx_seq          bigint,
    sub             integer,
    lane            smallint,
    stream          text,
    partition_key   text,
    idempotency_key text,
    kind            text,
    type            text,
    payload         text,
    headers         text,
    committed_at    timestamptz,
    created_at      timestamptz,
    available_at    timestamptz,
    raw             text,
    replayable      boolean NOT NULL,
    reason          text NOT NULL,
    error           text NOT NULL,
    attempts        integer NOT NULL DEFAULT 0,
    errors          json,
    died_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    replayed_at     timestamptz,
    resolution      text,
    resolved_at     timestamptz
);
CREATE INDEX dead_letter_open ON {{schema}}.dead_letter (id) WHERE resolution IS NULL;
COMMENT ON TABLE {{schema}}.dead_letter IS 'What could not be delivered, kept whole. subscription and seq are null for what the bridge itself could not map or store.';
COMMENT ON COLUMN {{schema}}.dead_letter.raw IS 'The change as JSON, to be mapped again; null for an item that was mapped and that log refused.';
COMMENT ON COLUMN {{schema}}.dead_letter.resolution IS 'replayed or discarded; null while it is open.';

UPDATE {{schema}}.schema_version SET version = 4, compatible_from = 4;

-- +goose Down
UPDATE {{schema}}.schema_version SET version = 3, compatible_from = 3;
DROP TABLE {{schema}}.dead_letter;
