-- +goose Up
CREATE TABLE {{schema}}.source (
    name        text PRIMARY KEY,
    slot        text NOT NULL DEFAULT '',
    system_id   bigint NOT NULL DEFAULT 0,
    timeline    bigint NOT NULL DEFAULT 0,
    epoch       bigint NOT NULL DEFAULT 0,
    config_hash text NOT NULL DEFAULT '',
    phase       text NOT NULL DEFAULT '',
    cursors     bytea,
    opened_by   text,
    opened_at   timestamptz,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE {{schema}}.source IS 'One row per bridge. epoch rises at every open and fences older writers. Its position is the latest row of batch.';

CREATE TABLE {{schema}}.batch (
    source      text NOT NULL,
    n           bigint NOT NULL,
    first_seq   bigint,
    last_seq    bigint,
    end_lsn     pg_lsn NOT NULL,
    last_tx_end pg_lsn NOT NULL,
    commit_lsn  pg_lsn,
    tx_seq      bigint,
    sub         integer,
    timeline    bigint NOT NULL,
    xid         xid8,
    commit_ts   timestamptz,
    written_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT batch_pkey PRIMARY KEY (source, n)
);
COMMENT ON TABLE {{schema}}.batch IS 'One row per write of a bridge: the rows it added to log, and the position they reach. Append-only; the highest n of a source counts.';

CREATE VIEW {{schema}}.progress AS
    SELECT s.name AS source, s.slot, s.system_id, s.epoch, s.phase, s.config_hash, s.opened_by, s.opened_at,
           b.n, b.first_seq, b.last_seq, b.end_lsn, b.last_tx_end, b.commit_lsn, b.tx_seq, b.sub, b.timeline, b.xid, b.commit_ts, b.written_at
    FROM {{schema}}.source s
    LEFT JOIN LATERAL (SELECT * FROM {{schema}}.batch b WHERE b.source = s.name ORDER BY b.n DESC LIMIT 1) b ON true;
COMMENT ON VIEW {{schema}}.progress IS 'How far each bridge has come.';

-- The fence is the last statement before COMMIT of every write. KEY SHARE conflicts
-- with the FOR UPDATE that opens a source, and with nothing that a write itself does.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}.fence(source text, epoch bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
BEGIN
    PERFORM 1 FROM {{schema}}.source s WHERE s.name = $1 AND s.epoch = $2 FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'source "%" has been opened by another writer since epoch %', $1, $2 USING ERRCODE = 'WB001';
    END IF;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.fence(text, bigint) IS 'Raises WB001 unless the source is still at the epoch, and keeps it there until the transaction ends.';

UPDATE {{schema}}.schema_version SET version = 2, compatible_from = 2;

-- +goose Down
UPDATE {{schema}}.schema_version SET version = 1, compatible_from = 1;
DROP FUNCTION {{schema}}.fence(text, bigint);
DROP VIEW {{schema}}.progress;
DROP TABLE {{schema}}.batch;
DROP TABLE {{schema}}.source;
