-- +goose Up
CREATE TABLE {{schema}}.stream (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text COLLATE "C" NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE {{schema}}.stream IS 'The streams that log has seen, as the small numbers of its index.';

-- Advanced only under lock_log(): nothing ever appears below a seq that was visible.
CREATE SEQUENCE {{schema}}.log_seq AS bigint;

CREATE TABLE {{schema}}.log (
    seq             bigint NOT NULL,
    commit_lsn      pg_lsn NOT NULL,
    tx_seq          bigint NOT NULL,
    committed_at    timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    available_at    timestamptz,
    stream_id       integer NOT NULL,
    sub             integer NOT NULL,
    lane            smallint NOT NULL,
    tx_end          boolean NOT NULL,
    kind            text NOT NULL,
    stream          text NOT NULL,
    partition_key   text,
    idempotency_key text NOT NULL,
    type            text,
    source          text NOT NULL,
    payload         json,
    headers         json
) PARTITION BY LIST (kind);
COMMENT ON TABLE {{schema}}.log IS 'The work: every item once, in commit order of its source. Append-only.';
COMMENT ON COLUMN {{schema}}.log.seq IS 'Rises in the order of visibility; has gaps.';
COMMENT ON COLUMN {{schema}}.log.created_at IS 'The item''s own time: of an outbox row its timestamp, else the commit time.';
COMMENT ON COLUMN {{schema}}.log.tx_end IS 'The last item of its source transaction.';

CREATE TABLE {{schema}}.log_event PARTITION OF {{schema}}.log FOR VALUES IN ('event') PARTITION BY RANGE (seq);
CREATE TABLE {{schema}}.log_change PARTITION OF {{schema}}.log FOR VALUES IN ('change') PARTITION BY RANGE (seq);
CREATE INDEX log_stream_lane_seq ON {{schema}}.log (stream_id, lane, seq);

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.lock_log() RETURNS void
    LANGUAGE sql VOLATILE
    AS $$ SELECT pg_catalog.pg_advisory_xact_lock({{log_lock}}, {{schema_literal}}::regnamespace::oid::integer) $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.lock_log() IS 'Waits until this transaction is the only one that may add to log. To read after it, begin a new statement, in READ COMMITTED.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.take_seq(count bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    AS $$
BEGIN
    IF count IS NULL OR count < 1 THEN
        RAISE EXCEPTION 'take_seq: % is no number of rows', count USING ERRCODE = 'WB002';
    END IF;
    RETURN setval('{{schema_in_literal}}.log_seq', nextval('{{schema_in_literal}}.log_seq') + count - 1) - count + 1;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.take_seq(bigint) IS 'Takes a block of seqs and returns its first. Only under lock_log().';

-- make_partitions makes the partitions of both kinds that rows up to a seq need, and
-- so many more. They are made apart and attached, since CREATE TABLE … PARTITION OF
-- waits for every open reader of the parent, and everybody else then waits behind it
-- (ATTACH takes SHARE UPDATE EXCLUSIVE: ALTER TABLE in the manual). No CHECK is needed
-- to spare ATTACH its scan: the table is empty.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}.make_partitions(upto bigint, ahead integer, size bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '1s'
    AS $$
DECLARE
    kind text;
    parent text;
    lower bigint;
    upper bigint;
    top bigint;
    name text;
BEGIN
    IF upto IS NULL OR ahead IS NULL OR size IS NULL OR upto < 0 OR ahead NOT BETWEEN 0 AND 100 OR size < 1 THEN
        RAISE EXCEPTION 'make_partitions: upto %, ahead %, size % is out of range', upto, ahead, size USING ERRCODE = 'WB002';
    END IF;
    PERFORM pg_advisory_xact_lock({{partition_lock}}, {{schema_literal}}::regnamespace::oid::integer);
    LOCK TABLE ONLY {{schema}}.log IN ACCESS SHARE MODE; -- the parent first, as an ALTER TABLE does
    FOREACH kind IN ARRAY ARRAY['event', 'change'] LOOP
        parent := format('%I.%I', {{schema_name_literal}}, 'log_' || kind);
        LOOP
            SELECT max((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''?(\d+)''?\)'))[1]::bigint) INTO lower
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = parent::regclass;
            EXIT WHEN lower > upto + ahead * size;
            SELECT greatest(coalesce(lower, 0), last_value / size * size) INTO lower FROM {{schema}}.log_seq;
            upper := (lower / size + 1) * size;
            name := format('%I.%I', {{schema_name_literal}}, format('log_%s_%s', kind, lpad(lower::text, 19, '0')));
            EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', name, parent);
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', parent, name, lower, upper);
        END LOOP;
        top := least(top, lower);
    END LOOP;
    RETURN top;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION {{schema}}.make_partitions(bigint, integer, bigint) FROM PUBLIC;
COMMENT ON FUNCTION {{schema}}.make_partitions(bigint, integer, bigint) IS 'Makes the partitions of log that rows up to a seq need, and some ahead; returns the first seq without one.';

UPDATE {{schema}}.schema_version SET version = 3, compatible_from = 3;

-- +goose Down
UPDATE {{schema}}.schema_version SET version = 2, compatible_from = 2;
DROP FUNCTION {{schema}}.make_partitions(bigint, integer, bigint);
DROP FUNCTION {{schema}}.take_seq(bigint);
DROP FUNCTION {{schema}}.lock_log();
DROP TABLE {{schema}}.log;
DROP SEQUENCE {{schema}}.log_seq;
DROP TABLE {{schema}}.stream;
