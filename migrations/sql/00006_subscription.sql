-- +goose Up
-- One index serves every fetch: a range of seqs for each stream that a subscription
-- reads, whatever the number of lanes. Rows of a stream arrive in order of seq, so
-- that an insert goes to the last page of its stream; by lane before seq it would go
-- to one of as many pages as there are lanes.
DROP INDEX {{schema}}.log_stream_lane_seq;
CREATE INDEX log_stream_seq_lane ON {{schema}}.log (stream_id, seq, lane);

CREATE INDEX dead_letter_subscription ON {{schema}}.dead_letter (subscription, died_at) WHERE subscription IS NOT NULL;

CREATE TABLE {{schema}}.subscription (
    name       text PRIMARY KEY,
    streams    text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    start_seq  bigint NOT NULL,
    state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'expired')),
    changed    bigint NOT NULL DEFAULT 0,
    settings   json NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE {{schema}}.subscription IS 'Who reads which streams. changed rises when operators did something that workers must look at.';

CREATE TABLE {{schema}}.lane (
    subscription     text NOT NULL REFERENCES {{schema}}.subscription (name),
    lane             smallint NOT NULL,
    owner            text,
    lease_generation bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    trimmed          bigint NOT NULL DEFAULT 0,
    hand_through     bigint,
    hand_parked      bigint[],
    hand_count       integer,
    PRIMARY KEY (subscription, lane)
) WITH (fillfactor = 50);
COMMENT ON TABLE {{schema}}.lane IS 'One row for each lane of a subscription: who has leased it. lease_generation rises at every take-over and fences earlier owners. Updated at take-over and heartbeat only.';
COMMENT ON COLUMN {{schema}}.lane.trimmed IS 'Rows of checkpoint below this n are gone.';
COMMENT ON COLUMN {{schema}}.lane.hand_through IS 'Of the short form: what next() handed out, until done() settles it.';

CREATE TABLE {{schema}}.checkpoint (
    subscription     text NOT NULL,
    lane             smallint NOT NULL,
    n                bigint NOT NULL,
    lease_generation bigint NOT NULL,
    seq              bigint NOT NULL,
    settled          int8multirange NOT NULL DEFAULT '{}',
    at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT checkpoint_pkey PRIMARY KEY (subscription, lane, n)
);
COMMENT ON TABLE {{schema}}.checkpoint IS 'How far a lane is: every item up to seq is settled, and those in settled. Append-only; the highest n of a lane counts.';

CREATE TABLE {{schema}}.parked (
    subscription      text NOT NULL,
    seq               bigint NOT NULL,
    lane              smallint NOT NULL,
    partition_key     text,
    reason            text NOT NULL CHECK (reason IN ('retry', 'blocked', 'scheduled', 'replayed', 'dead')),
    attempts          integer NOT NULL DEFAULT 0,
    available_at      timestamptz,
    last_error        text,
    errors            json,
    parked_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    bytes             integer NOT NULL,
    stream            text NOT NULL,
    kind              text NOT NULL,
    type              text,
    idempotency_key   text NOT NULL,
    source            text NOT NULL,
    commit_lsn        pg_lsn NOT NULL,
    tx_seq            bigint NOT NULL,
    sub               integer NOT NULL,
    tx_end            boolean NOT NULL,
    committed_at      timestamptz NOT NULL,
    created_at        timestamptz NOT NULL,
    item_available_at timestamptz,
    payload           json,
    headers           json,
    PRIMARY KEY (subscription, seq)
);
CREATE INDEX parked_due ON {{schema}}.parked (subscription, lane, available_at);
CREATE INDEX parked_key ON {{schema}}.parked (subscription, partition_key, seq);
COMMENT ON TABLE {{schema}}.parked IS 'Items that wait: for their next attempt, behind an earlier item of their key, or for their time. Kept whole, since their partition of log may go.';
COMMENT ON COLUMN {{schema}}.parked.available_at IS 'Due from then on; null: held behind an earlier parked item of its key.';
COMMENT ON COLUMN {{schema}}.parked.reason IS 'retry, blocked and dead hold later items of their key; scheduled and replayed hold nothing and are not held.';

CREATE TABLE {{schema}}.worker (
    subscription text NOT NULL,
    id           text NOT NULL,
    host         text,
    pid          integer,
    version      text,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    lanes        integer NOT NULL DEFAULT 0,
    PRIMARY KEY (subscription, id)
) WITH (fillfactor = 50);
COMMENT ON TABLE {{schema}}.worker IS 'Who works on a subscription, for people and for the fair share of lanes. It fences nothing.';

-- Helpers. They are called by the functions below only, and nobody else may.

-- In a snapshot that is older than its lock a function would read what was true
-- before it waited, so nothing but READ COMMITTED will do.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._read_committed() RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'the transaction is %, it must be read committed', current_setting('transaction_isolation') USING ERRCODE = 'WB003';
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._subscription(name text) RETURNS {{schema}}.subscription
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    found_one {{schema}}.subscription;
BEGIN
    SELECT * INTO found_one FROM {{schema}}.subscription s WHERE s.name = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no subscription "%"', $1 USING ERRCODE = 'WB004';
    END IF;
    RETURN found_one;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._live(name text) RETURNS {{schema}}.subscription
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    sub {{schema}}.subscription := {{schema}}._subscription($1);
BEGIN
    IF sub.state = 'expired' THEN
        RAISE EXCEPTION 'subscription "%" has expired: log no longer holds all that it has not read; reset it', $1 USING ERRCODE = 'WB006';
    END IF;
    RETURN sub;
END
$$;
-- +goose StatementEnd

-- Raises unless the arrays name lanes in ascending order, one generation for each.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._lanes(lanes smallint[], others integer) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    IF lanes IS NULL OR others IS NULL OR cardinality(lanes) <> others OR EXISTS (
        SELECT FROM unnest(lanes) WITH ORDINALITY AS u (lane, i)
        WHERE u.lane IS NULL OR u.lane NOT BETWEEN 0 AND {{lanes}} - 1 OR (i > 1 AND u.lane <= lanes[i - 1]))
    THEN
        RAISE EXCEPTION 'lanes % are not lanes between 0 and % in ascending order with a value each', lanes, {{lanes}} - 1 USING ERRCODE = 'WB002';
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._lease(lease interval) RETURNS interval
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    IF lease IS NULL OR lease < '100 ms' OR lease > '1 day' THEN
        RAISE EXCEPTION 'a lease of % is not between 100 ms and 1 day', lease USING ERRCODE = 'WB002';
    END IF;
    RETURN lease;
END
$$;
-- +goose StatementEnd

-- The streams of a subscription as they are in this snapshot: a stream gets its
-- number before its first item appears, so reading both in one statement misses none.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._streams(streams text[]) RETURNS SETOF integer
    LANGUAGE sql STABLE
    AS $$
    SELECT t.id FROM {{schema}}.stream t WHERE t.name = ANY (streams)
    UNION
    SELECT t.id FROM unnest(streams) AS p (pattern)
    JOIN {{schema}}.stream t ON t.name >= left(p.pattern, -1) AND starts_with(t.name, left(p.pattern, -1))
    WHERE p.pattern LIKE '%*'
    $$;
-- +goose StatementEnd

-- A seq such that nothing at or below it will ever appear: the log's lock orders
-- writers, so what was taken before a visible batch has been committed or never will.
-- Idle marks add nothing; a hundred are looked through.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._visible() RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    SELECT coalesce(max(b.last_seq), 0) FROM {{schema}}.source s CROSS JOIN LATERAL (
        SELECT b.last_seq FROM (SELECT last_seq FROM {{schema}}.batch WHERE source = s.name ORDER BY n DESC LIMIT 100) b
        WHERE b.last_seq IS NOT NULL LIMIT 1) b
    $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._setting(settings json, key text, otherwise bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT coalesce((settings ->> key)::bigint, otherwise) $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._check_settings(settings json) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
DECLARE
    key text;
    value json;
    fine boolean;
BEGIN
    IF settings IS NULL THEN
        RETURN;
    END IF;
    IF json_typeof(settings) <> 'object' THEN
        RAISE EXCEPTION 'settings are an object, not %', json_typeof(settings) USING ERRCODE = 'WB002';
    END IF;
    FOR key, value IN SELECT * FROM json_each(settings) LOOP
        fine := CASE
            WHEN key IN ('max_attempts', 'max_parked') THEN value::text ~ '^[1-9][0-9]{0,8}$'
            WHEN key IN ('backoff_min_ms', 'backoff_max_ms', 'max_parked_bytes') THEN value::text ~ '^[1-9][0-9]{0,14}$'
            WHEN key = 'on_dead' THEN value #>> '{}' IN ('continue', 'block')
            WHEN key = 'on_exceeded' THEN value #>> '{}' IN ('expire', 'keep')
            ELSE false
        END;
        IF fine IS NOT TRUE THEN
            RAISE EXCEPTION 'settings: % cannot be %', key, value USING ERRCODE = 'WB002';
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._operation(tool_version text, command text, target text, arguments json, before json, after json) RETURNS void
    LANGUAGE sql VOLATILE
    AS $$
    INSERT INTO {{schema}}.operation (who, tool_version, command, target, arguments, before, after)
    VALUES (session_user, coalesce($1, 'sql'), $2, $3, $4, $5, $6)
    $$;
-- +goose StatementEnd

-- Subscriptions are made, moved and dropped one at a time, and never while
-- partitions are taken away.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._lock_subscriptions() RETURNS void
    LANGUAGE sql VOLATILE
    AS $$ SELECT pg_catalog.pg_advisory_xact_lock({{subscription_lock}}, {{schema_literal}}::regnamespace::oid::integer) $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._floor(kind text) RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    SELECT coalesce(min((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''?(\d+)''?\)'))[1]::bigint), 0)
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = format('%I.%I', {{schema_name_literal}}, 'log_' || kind)::regclass AND NOT i.inhdetachpending
    $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.retained_floor() RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT greatest({{schema}}._floor('event'), {{schema}}._floor('change')) $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.retained_floor() IS 'The first seq from which log still holds everything, of both kinds.';

-- The seq after which a subscription starts.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._start(start text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    lowest bigint;
BEGIN
    IF start = 'beginning' THEN
        RETURN greatest(least({{schema}}._floor('event'), {{schema}}._floor('change')) - 1, 0);
    END IF;
    IF start = 'end' THEN
        -- Under the lock no batch is on its way, so all that was taken is visible.
        PERFORM {{schema}}.lock_log();
        RETURN (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {{schema}}.log_seq);
    END IF;
    IF start IS NULL OR start !~ '^[0-9]{1,18}$' THEN
        RAISE EXCEPTION 'start "%" is neither beginning, end nor a seq', start USING ERRCODE = 'WB002';
    END IF;
    lowest := {{schema}}.retained_floor();
    IF start::bigint < lowest - 1 THEN
        RAISE EXCEPTION 'start % lies below %, the first seq from which log still holds everything', start, lowest
            USING ERRCODE = 'WB007', DETAIL = lowest::text;
    END IF;
    RETURN start::bigint;
END
$$;
-- +goose StatementEnd

-- Operators.

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.subscribe(name text, streams text[], start text DEFAULT 'beginning', settings json DEFAULT NULL, tool_version text DEFAULT 'sql')
    RETURNS TABLE (created boolean, start_seq bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    AS $$
#variable_conflict use_column
DECLARE
    old {{schema}}.subscription;
    first bigint;
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._check_settings($4);
    PERFORM {{schema}}._check_streams($2);
    IF $1 IS NULL OR $1 !~ '^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}$' THEN
        RAISE EXCEPTION '"%" is no name of a subscription: letters, digits, _ . : and -, at most 100', $1 USING ERRCODE = 'WB002';
    END IF;
    PERFORM {{schema}}._lock_subscriptions();
    SELECT * INTO old FROM {{schema}}.subscription s WHERE s.name = $1;
    IF FOUND THEN
        IF NOT (old.streams @> $2 AND old.streams <@ $2) THEN
            RAISE EXCEPTION 'subscription "%" exists and reads %', $1, old.streams USING ERRCODE = 'WB009';
        END IF;
        IF $4 IS NOT NULL AND $4::jsonb <> old.settings::jsonb THEN
            UPDATE {{schema}}.subscription s SET settings = $4, changed = s.changed + 1 WHERE s.name = $1;
        END IF;
        RETURN QUERY SELECT false, old.start_seq;
        RETURN;
    END IF;
    first := {{schema}}._start($3);
    INSERT INTO {{schema}}.subscription (name, streams, start_seq, settings) VALUES ($1, $2, first, coalesce($4, '{}'));
    INSERT INTO {{schema}}.lane (subscription, lane) SELECT $1, i FROM generate_series(0, {{lanes}} - 1) i;
    INSERT INTO {{schema}}.checkpoint (subscription, lane, n, lease_generation, seq) SELECT $1, i, 1, 0, first FROM generate_series(0, {{lanes}} - 1) i;
    PERFORM {{schema}}._operation($5, 'subscribe', $1, json_build_object('streams', $2, 'start', $3), NULL, json_build_object('start_seq', first));
    RETURN QUERY SELECT true, first;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.subscribe(text, text[], text, json, text) IS 'Makes a subscription to streams (a name, or a prefix and *), from the beginning of what is kept, the end, or after a seq. One that exists with the same streams is left as it is. WB002 argument, WB007 below the retained floor, WB009 it reads other streams.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._check_streams(streams text[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    IF streams IS NULL OR array_ndims(streams) IS DISTINCT FROM 1 OR EXISTS (SELECT FROM unnest(streams) s WHERE s IS NULL OR s = '' OR left(s, -1) LIKE '%*%') THEN
        RAISE EXCEPTION 'streams % are not names, or prefixes that end with *', streams USING ERRCODE = 'WB002';
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.set_streams(subscription text, streams text[], tool_version text DEFAULT 'sql') RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    AS $$
DECLARE
    old {{schema}}.subscription;
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._check_streams($2);
    PERFORM {{schema}}._lock_subscriptions();
    old := {{schema}}._subscription($1);
    UPDATE {{schema}}.subscription s SET streams = $2, changed = s.changed + 1 WHERE s.name = $1;
    PERFORM {{schema}}._operation($3, 'set streams', $1, NULL, to_json(old.streams), to_json($2));
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.set_streams(text, text[], text) IS 'Changes what a subscription reads, from where each lane is: earlier items of an added stream are not read. WB004 unknown.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._set_state(subscription text, state text, command text, tool_version text) RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    old {{schema}}.subscription;
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lock_subscriptions();
    old := CASE WHEN $2 = 'expired' THEN {{schema}}._subscription($1) ELSE {{schema}}._live($1) END;
    IF old.state = $2 THEN
        RETURN;
    END IF;
    UPDATE {{schema}}.subscription s SET state = $2, changed = s.changed + 1 WHERE s.name = $1;
    PERFORM {{schema}}._operation($4, $3, $1, NULL, to_json(old.state), to_json($2));
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.pause(subscription text, tool_version text DEFAULT 'sql') RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    AS $$ SELECT {{schema}}._set_state($1, 'paused', 'pause', $2) $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.pause(text, text) IS 'No lane is leased and nothing fetched until resume. Work in hand may be settled. WB004 unknown, WB006 expired.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.resume(subscription text, tool_version text DEFAULT 'sql') RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    AS $$ SELECT {{schema}}._set_state($1, 'active', 'resume', $2) $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.resume(text, text) IS 'Ends a pause. WB004 unknown, WB006 expired.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.expire(subscription text, tool_version text DEFAULT 'sql') RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    AS $$ SELECT {{schema}}._set_state($1, 'expired', 'expire', $2) $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.expire(text, text) IS 'Says that log no longer waits for this subscription: its workers get WB006, and only a reset leads out. WB004 unknown.';

-- Fences all workers: FOR UPDATE waits for those that are settling, in the order in
-- which they lock.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._fence_all(subscription text) RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
BEGIN
    PERFORM 1 FROM {{schema}}.lane l WHERE l.subscription = $1 ORDER BY l.lane FOR UPDATE;
    UPDATE {{schema}}.lane l SET owner = NULL, lease_generation = l.lease_generation + 1, lease_expires_at = clock_timestamp(),
        hand_through = NULL, hand_parked = NULL, hand_count = NULL
    WHERE l.subscription = $1;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.reset(subscription text, start text DEFAULT 'beginning', tool_version text DEFAULT 'sql') RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    AS $$
DECLARE
    old {{schema}}.subscription;
    first bigint;
    gone bigint;
    lowest bigint;
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lock_subscriptions();
    old := {{schema}}._subscription($1);
    first := {{schema}}._start($2);
    PERFORM {{schema}}._fence_all($1);
    SELECT min(c.seq) INTO lowest FROM {{schema}}.lane l CROSS JOIN LATERAL {{schema}}._checkpoint($1, l.lane) c WHERE l.subscription = $1;
    INSERT INTO {{schema}}.checkpoint (subscription, lane, n, lease_generation, seq)
        SELECT $1, l.lane, c.n + 1, l.lease_generation, first
        FROM {{schema}}.lane l CROSS JOIN LATERAL {{schema}}._checkpoint($1, l.lane) c WHERE l.subscription = $1;
    DELETE FROM {{schema}}.parked p WHERE p.subscription = $1;
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE {{schema}}.subscription s SET start_seq = first, state = 'active', changed = s.changed + 1 WHERE s.name = $1;
    PERFORM {{schema}}._operation($3, 'reset', $1, json_build_object('start', $2),
        json_build_object('state', old.state, 'seq', lowest, 'parked', gone), json_build_object('start_seq', first));
    RETURN first;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.reset(text, text, text) IS 'Starts a subscription anew, fences its workers and forgets its parked items; dead letters stay. In the caller''s transaction, so that a read model can be emptied with it. Returns the seq after which it starts. WB004 unknown, WB007 below the retained floor.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.drop_subscription(subscription text, tool_version text DEFAULT 'sql') RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    AS $$
DECLARE
    old {{schema}}.subscription;
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lock_subscriptions();
    old := {{schema}}._subscription($1);
    PERFORM {{schema}}._fence_all($1);
    DELETE FROM {{schema}}.lane l WHERE l.subscription = $1;
    DELETE FROM {{schema}}.checkpoint c WHERE c.subscription = $1;
    DELETE FROM {{schema}}.parked p WHERE p.subscription = $1;
    DELETE FROM {{schema}}.worker w WHERE w.subscription = $1;
    DELETE FROM {{schema}}.subscription s WHERE s.name = $1;
    PERFORM {{schema}}._operation($2, 'drop subscription', $1, NULL, row_to_json(old), NULL);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.drop_subscription(text, text) IS 'Forgets a subscription and its parked items; dead letters stay. WB004 unknown.';

-- Workers, the long form.

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._checkpoint(subscription text, lane smallint) RETURNS SETOF {{schema}}.checkpoint
    LANGUAGE sql STABLE ROWS 1
    AS $$ SELECT * FROM {{schema}}.checkpoint c WHERE c.subscription = $1 AND c.lane = $2 ORDER BY c.n DESC LIMIT 1 $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._lost(lanes smallint[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    RAISE EXCEPTION 'the lease of lanes % is lost', lanes USING ERRCODE = 'WB005', DETAIL = array_to_string(lanes, ',');
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.fence_lanes(subscription text, lanes smallint[], generations bigint[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    mine smallint[];
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lanes($2, cardinality($3));
    SELECT array_agg(x.lane) INTO mine FROM (
        SELECT l.lane FROM {{schema}}.lane l JOIN unnest($2, $3) AS u (lane, generation) ON u.lane = l.lane AND u.generation = l.lease_generation
        WHERE l.subscription = $1 ORDER BY l.lane FOR KEY SHARE OF l) x;
    IF mine IS DISTINCT FROM $2 AND cardinality($2) > 0 THEN
        PERFORM {{schema}}._lost(ARRAY(SELECT u.lane FROM unnest($2) AS u (lane) WHERE u.lane <> ALL (coalesce(mine, '{}'))));
    END IF;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.fence_lanes(text, smallint[], bigint[]) IS 'Raises WB005 unless the lanes are still at these generations, and keeps them there until the transaction ends. Heartbeats do not wait for it, take-overs do. Lanes in ascending order.';

-- The fair share of a worker: all lanes, divided by the workers that are alive.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._share(subscription text, worker text, OUT workers integer, OUT share integer)
    LANGUAGE sql VOLATILE
    AS $$
    SELECT count(*)::integer,
        ({{lanes}} / greatest(count(*), 1) + CASE WHEN count(*) FILTER (WHERE w.id < $2) < {{lanes}} % greatest(count(*), 1) THEN 1 ELSE 0 END)::integer
    FROM {{schema}}.worker w WHERE w.subscription = $1 AND (w.expires_at > clock_timestamp() OR w.id = $2)
    $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.lease_lanes(subscription text, worker text, lease interval DEFAULT '30 s', max_lanes integer DEFAULT NULL,
        held smallint[] DEFAULT '{}', host text DEFAULT NULL, pid integer DEFAULT NULL, version text DEFAULT NULL)
    RETURNS TABLE (lane smallint, lease_generation bigint, lease_expires_at timestamptz)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    sub {{schema}}.subscription;
    wanted integer;
    free smallint[];
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lease($3);
    IF $2 IS NULL OR $2 = '' OR $4 < 0 OR $5 IS NULL THEN
        RAISE EXCEPTION 'lease_lanes: worker "%", max_lanes %, held %', $2, $4, $5 USING ERRCODE = 'WB002';
    END IF;
    sub := {{schema}}._live($1);
    INSERT INTO {{schema}}.worker AS w (subscription, id, host, pid, version, expires_at, lanes)
        VALUES ($1, $2, $6, $7, $8, clock_timestamp() + $3, cardinality($5))
        ON CONFLICT (subscription, id) DO UPDATE SET heartbeat_at = clock_timestamp(), expires_at = clock_timestamp() + $3,
            host = excluded.host, pid = excluded.pid, version = excluded.version;
    wanted := least(({{schema}}._share($1, $2)).share, $4) - cardinality($5);
    IF sub.state <> 'active' OR wanted < 1 THEN
        RETURN;
    END IF;
    -- Locked first, changed afterwards: an UPDATE alone passes beside the KEY SHARE
    -- of a transaction that is settling. What is locked is being settled or taken.
    SELECT array_agg(x.lane) INTO free FROM (
        SELECT l.lane FROM {{schema}}.lane l
        WHERE l.subscription = $1 AND (l.owner IS NULL OR l.lease_expires_at <= clock_timestamp() OR (l.owner = $2 AND l.lane <> ALL ($5)))
        ORDER BY l.lane LIMIT wanted FOR UPDATE SKIP LOCKED) x;
    RETURN QUERY UPDATE {{schema}}.lane l SET owner = $2, lease_generation = l.lease_generation + 1, lease_expires_at = clock_timestamp() + $3,
            hand_through = NULL, hand_parked = NULL, hand_count = NULL
        WHERE l.subscription = $1 AND l.lane = ANY (free)
        RETURNING l.lane, l.lease_generation, l.lease_expires_at;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.lease_lanes(text, text, interval, integer, smallint[], text, integer, text) IS 'Takes free and expired lanes up to the worker''s fair share, and those in its name that are not in held; a heartbeat as well. Commit, then call lane_state. WB004 unknown, WB006 expired; none while paused.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.renew(subscription text, worker text, lease interval, lanes smallint[], generations bigint[],
        OUT held smallint[], OUT lost smallint[], OUT lease_expires_at timestamptz, OUT state text, OUT changed bigint, OUT workers integer, OUT share integer,
        OUT parked_items bigint, OUT parked_bytes bigint, OUT is_full boolean, OUT full_key text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    sub {{schema}}.subscription;
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lease($3);
    PERFORM {{schema}}._lanes($4, cardinality($5));
    sub := {{schema}}._live($1);
    SELECT coalesce(array_agg(x.lane), '{}') INTO held FROM (
        SELECT l.lane FROM {{schema}}.lane l JOIN unnest($4, $5) AS u (lane, generation) ON u.lane = l.lane AND u.generation = l.lease_generation
        WHERE l.subscription = $1 AND l.owner = $2 ORDER BY l.lane FOR NO KEY UPDATE OF l) x;
    lease_expires_at := clock_timestamp() + $3;
    UPDATE {{schema}}.lane l SET lease_expires_at = renew.lease_expires_at WHERE l.subscription = $1 AND l.lane = ANY (renew.held);
    lost := ARRAY(SELECT u.lane FROM unnest($4) AS u (lane) WHERE u.lane <> ALL (renew.held));
    INSERT INTO {{schema}}.worker AS w (subscription, id, expires_at, lanes) VALUES ($1, $2, renew.lease_expires_at, cardinality(renew.held))
        ON CONFLICT (subscription, id) DO UPDATE SET heartbeat_at = clock_timestamp(), expires_at = excluded.expires_at, lanes = excluded.lanes;
    state := sub.state;
    changed := sub.changed;
    SELECT s.workers, s.share INTO workers, share FROM {{schema}}._share($1, $2) s;
    SELECT f.* INTO parked_items, parked_bytes, is_full FROM {{schema}}._parked($1, sub.settings) f;
    IF is_full THEN
        SELECT p.partition_key INTO full_key FROM {{schema}}.parked p WHERE p.subscription = $1 GROUP BY 1 ORDER BY count(*) DESC LIMIT 1;
    END IF;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.renew(text, text, interval, smallint[], bigint[]) IS 'The heartbeat: renews the leases of all lanes of a worker, lists those that are lost, and says how many lanes are its share. is_full: fetch no new items. Lanes in ascending order. WB004 unknown, WB006 expired.';

-- At most max_parked rows are there, more or less, so they are counted; once per
-- heartbeat.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._parked(subscription text, settings json, OUT items bigint, OUT bytes bigint, OUT is_full boolean)
    LANGUAGE sql VOLATILE
    AS $$
    SELECT p.items, p.bytes, p.items >= {{schema}}._setting($2, 'max_parked', 100000) OR p.bytes >= {{schema}}._setting($2, 'max_parked_bytes', 268435456)
    FROM (SELECT count(*) AS items, coalesce(sum(p.bytes), 0) AS bytes FROM {{schema}}.parked p WHERE p.subscription = $1) p
    $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.release(subscription text, worker text, lanes smallint[], generations bigint[], leave boolean DEFAULT false) RETURNS integer
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    mine smallint[];
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lanes($3, cardinality($4));
    SELECT coalesce(array_agg(x.lane), '{}') INTO mine FROM (
        SELECT l.lane FROM {{schema}}.lane l JOIN unnest($3, $4) AS u (lane, generation) ON u.lane = l.lane AND u.generation = l.lease_generation
        WHERE l.subscription = $1 AND l.owner = $2 ORDER BY l.lane FOR NO KEY UPDATE OF l) x;
    UPDATE {{schema}}.lane l SET owner = NULL, lease_expires_at = clock_timestamp() WHERE l.subscription = $1 AND l.lane = ANY (mine);
    IF leave THEN
        DELETE FROM {{schema}}.worker w WHERE w.subscription = $1 AND w.id = $2;
    END IF;
    RETURN cardinality(mine);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.release(text, text, smallint[], bigint[], boolean) IS 'Gives lanes back; those that are lost are passed over. Settle before. leave: the worker goes, its share is divided among the others.';

-- The time until then in ms.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._wait(at timestamptz) RETURNS bigint
    LANGUAGE sql VOLATILE
    AS $$ SELECT ceil(extract(epoch FROM $1 - clock_timestamp()) * 1000)::bigint $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.lane_state(subscription text, lanes smallint[])
    RETURNS TABLE (lane smallint, seq bigint, n bigint, lease_generation bigint, settled int8multirange,
        stream text, partition_key text, reason text, attempts integer, wait_ms bigint, bytes integer)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT l.lane, c.seq, c.n, l.lease_generation, c.settled, NULL, NULL, NULL, NULL::integer, NULL::bigint, NULL::integer
    FROM {{schema}}.lane l CROSS JOIN LATERAL {{schema}}._checkpoint($1, l.lane) c
    WHERE l.subscription = $1 AND l.lane = ANY ($2)
    UNION ALL
    SELECT p.lane, p.seq, NULL, NULL, NULL, p.stream, p.partition_key, p.reason, p.attempts,
        {{schema}}._wait(p.available_at), p.bytes
    FROM {{schema}}.parked p WHERE p.subscription = $1 AND p.lane = ANY ($2)
    ORDER BY 1, 3 NULLS LAST, 2
    $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.lane_state(text, smallint[]) IS 'In one snapshot: the checkpoint of each lane (reason is null), and its parked items (wait_ms null: held; not positive: due). A statement after the one that took the lanes.';

-- A window of one stream, for many lanes, which are told apart in the rows; above is by
-- lane. The planner puts it in the place of the call.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._of_stream(stream_id integer, above bigint[], from_seq bigint, to_seq bigint, max_items integer) RETURNS SETOF {{schema}}.log
    LANGUAGE sql STABLE
    AS $$
    SELECT g.* FROM {{schema}}.log g
    WHERE g.stream_id = $1 AND g.seq > $3 AND g.seq <= $4 AND g.seq > $2[g.lane + 1] ORDER BY g.seq LIMIT $5
    $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._size(payload json, headers json) RETURNS integer
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT coalesce(octet_length($1::text), 0) + coalesce(octet_length($2::text), 0) $$;
-- +goose StatementEnd

-- Each stream is a range of the index. Few lanes are looked for in the index, many
-- are told apart in the rows. A window without an item is followed by a wider one, so
-- that a rare stream is found soon and a call reads a bounded part of the index.
-- The usual case, one stream and many lanes, is counted first and then returned by one
-- statement: reading twice costs less than a loop over the rows.
--
-- What may be claimed to have been looked through? The last item that was returned,
-- since nothing appears below a visible seq; and what was known to be visible before
-- the items were read. In both cases the streams must be those of the same snapshot
-- or a later one, else the first item of a new stream could be passed.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}.fetch(subscription text, lanes smallint[], after bigint[], max_items integer DEFAULT 1000, max_bytes bigint DEFAULT 4194304)
    RETURNS TABLE (lane smallint, seq bigint, stream text, partition_key text, idempotency_key text, kind text, type text, payload json, headers json,
        source text, commit_lsn pg_lsn, tx_seq bigint, sub integer, tx_end boolean, committed_at timestamptz, created_at timestamptz, available_at timestamptz, wait_ms bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 100
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET jit = off
    SET plan_cache_mode = force_generic_plan
    SET work_mem = '64MB'
    AS $$
#variable_conflict use_column
DECLARE
    subscribed {{schema}}.subscription;
    visible bigint;
    streams integer;
    only_stream integer;
    from_seq bigint;
    to_seq bigint;
    width bigint;
    above bigint[] := array_fill(9223372036854775807, ARRAY[{{lanes}}]); -- by lane
    near smallint[];
    near_after bigint[];
    by_lane boolean; -- each lane is a range of its own
    items bigint := 0;
    bytes bigint := 0;
    upto bigint;
BEGIN
    IF $2 IS NULL OR cardinality($2) IS DISTINCT FROM cardinality($3) OR array_position($2, NULL) IS NOT NULL OR array_position($3, NULL) IS NOT NULL
        OR $4 IS NULL OR $4 NOT BETWEEN 1 AND 100000 OR $5 IS NULL OR $5 < 1
        OR 0 > ANY ($2) OR {{lanes}} <= ANY ($2) THEN
        RAISE EXCEPTION 'fetch: lanes %, after %, max_items %, max_bytes %', $2, $3, $4, $5 USING ERRCODE = 'WB002';
    END IF;
    subscribed := {{schema}}._live($1);
    IF subscribed.state <> 'active' OR cardinality($2) = 0 THEN
        RETURN;
    END IF;
    visible := {{schema}}._visible();
    SELECT count(*), min(id) INTO streams, only_stream FROM {{schema}}._streams(subscribed.streams) AS id;
    FOR i IN 1 .. cardinality($2) LOOP
        above[$2[i] + 1] := $3[i];
    END LOOP;
    SELECT min(a) INTO from_seq FROM unnest($3) a;
    -- Of many streams all that a window holds is read, of few only what is wanted.
    width := CASE WHEN streams <= 8 THEN 65536 ELSE greatest(2 * $4, 2048) END;
    FOR calls IN 1 .. 6 LOOP
        to_seq := CASE WHEN from_seq >= visible THEN 9223372036854775807 ELSE least(from_seq + width, visible) END;
        SELECT array_agg(u.lane), array_agg(greatest(u.after, from_seq)) INTO near, near_after FROM unnest($2, $3) AS u (lane, after) WHERE u.after < to_seq;
        by_lane := cardinality(near) <= 8 AND streams * cardinality(near) <= 64;
        IF streams = 1 AND to_seq <= visible AND NOT by_lane THEN
            SELECT count(*), coalesce(sum({{schema}}._size(g.payload, g.headers)), 0), max(g.seq) INTO items, bytes, upto
            FROM {{schema}}._of_stream(only_stream, above, from_seq, to_seq, $4) g;
            IF items > 1 AND bytes > $5 THEN
                SELECT max(x.seq) INTO upto FROM (
                    SELECT g.seq, sum({{schema}}._size(g.payload, g.headers)) OVER w AS bytes, row_number() OVER w AS n
                    FROM {{schema}}._of_stream(only_stream, above, from_seq, to_seq, $4) g WINDOW w AS (ORDER BY g.seq ROWS UNBOUNDED PRECEDING)) x
                WHERE x.bytes <= $5 OR x.n = 1;
            END IF;
            IF items > 0 THEN
                RETURN QUERY SELECT g.lane, g.seq, g.stream, g.partition_key, g.idempotency_key, g.kind, g.type, g.payload, g.headers, g.source, g.commit_lsn, g.tx_seq,
                    g.sub, g.tx_end, g.committed_at, g.created_at, g.available_at, {{schema}}._wait(g.available_at)
                FROM {{schema}}._of_stream(only_stream, above, from_seq, upto, $4) g;
            END IF;
        ELSE
            FOR lane, seq, stream, partition_key, idempotency_key, kind, type, payload, headers, source, commit_lsn, tx_seq, sub, tx_end, committed_at, created_at, available_at IN
                WITH s AS MATERIALIZED (SELECT {{schema}}._streams(subscribed.streams) AS id)
                SELECT g.lane, g.seq, g.stream, g.partition_key, g.idempotency_key, g.kind, g.type, g.payload, g.headers, g.source, g.commit_lsn, g.tx_seq, g.sub, g.tx_end,
                    g.committed_at, g.created_at, g.available_at
                FROM (
                    SELECT g.* FROM unnest(near, near_after) AS u (lane, after) CROSS JOIN s CROSS JOIN LATERAL (
                        SELECT * FROM {{schema}}.log g WHERE g.stream_id = s.id AND g.lane = u.lane AND g.seq > u.after AND g.seq <= to_seq ORDER BY g.seq LIMIT $4) g
                    WHERE by_lane
                    UNION ALL
                    SELECT g.* FROM s CROSS JOIN LATERAL {{schema}}._of_stream(s.id, above, from_seq, to_seq, $4) g WHERE NOT by_lane) g
                ORDER BY g.seq LIMIT $4
            LOOP
                bytes := bytes + {{schema}}._size(payload, headers);
                EXIT WHEN items > 0 AND bytes > $5;
                items := items + 1;
                upto := seq;
                wait_ms := {{schema}}._wait(available_at);
                RETURN NEXT;
            END LOOP;
        END IF;
        EXIT WHEN items > 0 OR to_seq > visible;
        from_seq := to_seq;
        width := width * 4;
    END LOOP;
    -- Cut short by a limit: up to the last item. Else the whole window was read.
    IF items = 0 OR (items < $4 AND bytes <= $5) THEN
        upto := greatest(upto, least(to_seq, visible));
    END IF;
    RETURN QUERY SELECT u.lane, greatest(u.after, upto), NULL::text, NULL::text, NULL::text, NULL::text, NULL::text, NULL::json, NULL::json, NULL::text,
        NULL::pg_lsn, NULL::bigint, NULL::integer, NULL::boolean, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, NULL::bigint
    FROM unnest($2, $3) AS u (lane, after);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.fetch(text, smallint[], bigint[], integer, bigint) IS 'The next items of lanes, in order of seq over all of them, then one row for each lane with kind null: it has been looked through up to this seq. Items that are settled ahead of the checkpoint are among them. At least one item is returned when there is one. wait_ms positive: not due yet. WB002 argument, WB004 unknown, WB006 expired; nothing while paused.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.fetch_parked(subscription text, seqs bigint[], max_bytes bigint DEFAULT 4194304)
    RETURNS TABLE (lane smallint, seq bigint, stream text, partition_key text, idempotency_key text, kind text, type text, payload json, headers json,
        source text, commit_lsn pg_lsn, tx_seq bigint, sub integer, tx_end boolean, committed_at timestamptz, created_at timestamptz, available_at timestamptz, wait_ms bigint,
        reason text, attempts integer, last_error text)
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 100
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT p.lane, p.seq, p.stream, p.partition_key, p.idempotency_key, p.kind, p.type, p.payload, p.headers, p.source, p.commit_lsn, p.tx_seq, p.sub, p.tx_end,
        p.committed_at, p.created_at, p.item_available_at, {{schema}}._wait(p.available_at), p.reason, p.attempts, p.last_error
    FROM (
        SELECT p.*, sum(p.bytes) OVER (ORDER BY p.seq) AS total, row_number() OVER (ORDER BY p.seq) AS i
        FROM {{schema}}.parked p WHERE p.subscription = $1 AND p.seq = ANY ($2)) p
    WHERE p.total <= $3 OR p.i = 1 ORDER BY p.seq
    $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.fetch_parked(text, bigint[], bigint) IS 'Parked items, whole, in order of seq, up to max_bytes and at least one. wait_ms null: held.';

-- The errors of an item, the last twenty.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._errors(errors json, attempts integer, error text) RETURNS json
    LANGUAGE sql VOLATILE
    AS $$
    SELECT ((CASE WHEN jsonb_array_length(e.all_of) >= 20 THEN e.all_of - 0 ELSE e.all_of END)
        || jsonb_build_object('at', clock_timestamp(), 'attempt', attempts, 'error', left(error, 10000)))::json
    FROM (SELECT coalesce(errors::jsonb, '[]') AS all_of) e
    $$;
-- +goose StatementEnd

-- Frees what waits behind nothing any more: of each key, the earliest parked item
-- that holds it is due when it was only blocked.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._free(subscription text, keys text[]) RETURNS void
    LANGUAGE sql VOLATILE
    AS $$
    UPDATE {{schema}}.parked p SET available_at = clock_timestamp()
    FROM (SELECT DISTINCT k FROM unnest($2) k) u CROSS JOIN LATERAL (
        SELECT h.seq, h.reason, h.available_at FROM {{schema}}.parked h
        WHERE h.subscription = $1 AND h.partition_key = u.k AND h.reason IN ('retry', 'blocked', 'dead') ORDER BY h.seq LIMIT 1) first
    WHERE p.subscription = $1 AND p.seq = first.seq AND first.reason = 'blocked' AND first.available_at IS NULL
    $$;
-- +goose StatementEnd

-- Moves items to parked and dead_letter, from parked where they are there, else from
-- log; and takes out of parked what is done. Fences nothing: who calls it does, last.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._exceptions(subscription text, lanes smallint[], done bigint[], exceptions json) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET enable_seqscan = off
    AS $$
#variable_conflict use_column
DECLARE
    keys text[] := '{}';
    x record;
    item {{schema}}.parked;
    is_parked boolean;
BEGIN
    IF cardinality(done) > 0 THEN
        WITH gone AS (DELETE FROM {{schema}}.parked p WHERE p.subscription = $1 AND p.seq = ANY ($3) AND p.lane = ANY ($2) RETURNING p.seq, p.partition_key)
        SELECT array_agg(g.partition_key) FILTER (WHERE g.partition_key IS NOT NULL), count(*) AS n INTO x FROM gone g;
        IF x.n <> cardinality($3) THEN
            RAISE EXCEPTION 'of the parked items %, % are there in lanes %', $3, x.n, $2 USING ERRCODE = 'WB012';
        END IF;
        keys := coalesce(x.array_agg, '{}');
    END IF;
    FOR x IN
        SELECT e.*, CASE WHEN e.what = 'scheduled' THEN NULL WHEN e.what = 'retry' THEN clock_timestamp() + coalesce(e.after_ms, 0) * interval '1 ms' END AS due
        FROM json_to_recordset($4) AS e (lane smallint, seq bigint, stream text, what text, attempts integer, after_ms double precision, error text, block boolean)
        ORDER BY e.seq
    LOOP
        IF x.seq IS NULL OR x.lane IS NULL OR x.lane <> ALL ($2) OR x.what IS NULL OR x.what NOT IN ('retry', 'blocked', 'scheduled', 'dead') THEN
            RAISE EXCEPTION 'exception % of item % in lane %, of lanes %', x.what, x.seq, x.lane, $2 USING ERRCODE = 'WB002';
        END IF;
        SELECT * INTO item FROM {{schema}}.parked p WHERE p.subscription = $1 AND p.seq = x.seq AND p.lane = x.lane;
        is_parked := FOUND;
        IF NOT is_parked THEN
            item := {{schema}}._item($1, x.lane, x.seq, x.stream);
        END IF;
        keys := keys || item.partition_key;
        IF x.error IS NOT NULL THEN
            item.last_error := left(x.error, 10000);
            item.errors := {{schema}}._errors(item.errors, x.attempts, x.error);
        END IF;
        item.attempts := coalesce(x.attempts, item.attempts);
        IF x.what = 'dead' THEN
            INSERT INTO {{schema}}.dead_letter (source, subscription, seq, commit_lsn, tx_seq, sub, lane, stream, partition_key, idempotency_key, kind, type,
                payload, headers, committed_at, created_at, available_at, replayable, reason, error, attempts, errors)
            VALUES (item.source, $1, item.seq, item.commit_lsn, item.tx_seq, item.sub, item.lane, item.stream, item.partition_key, item.idempotency_key, item.kind, item.type,
                item.payload::text, item.headers::text, item.committed_at, item.created_at, item.item_available_at, true, 'handler', coalesce(item.last_error, ''), item.attempts, item.errors);
        END IF;
        item.available_at := CASE WHEN x.what = 'scheduled' THEN coalesce(item.item_available_at, clock_timestamp()) ELSE x.due END;
        item.reason := CASE
            WHEN x.what = 'dead' THEN 'dead'
            WHEN is_parked AND item.reason IN ('scheduled', 'replayed') THEN item.reason
            ELSE x.what END;
        IF x.what = 'dead' AND NOT (coalesce(x.block, false) AND item.partition_key IS NOT NULL) THEN
            DELETE FROM {{schema}}.parked p WHERE is_parked AND p.subscription = $1 AND p.seq = x.seq;
        ELSIF is_parked THEN
            UPDATE {{schema}}.parked p SET reason = item.reason, attempts = item.attempts, available_at = item.available_at, last_error = item.last_error, errors = item.errors
            WHERE p.subscription = $1 AND p.seq = x.seq;
        ELSE
            INSERT INTO {{schema}}.parked SELECT item.*;
        END IF;
    END LOOP;
    PERFORM {{schema}}._free($1, keys);
END
$$;
-- +goose StatementEnd

-- An item of log as a row of parked.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._item(subscription text, lane smallint, seq bigint, stream text) RETURNS {{schema}}.parked
    LANGUAGE plpgsql VOLATILE
    SET plan_cache_mode = force_generic_plan
    AS $$
DECLARE
    item {{schema}}.parked;
BEGIN
    SELECT $1, g.seq, g.lane, g.partition_key, 'blocked', 0, NULL::timestamptz, NULL::text, NULL::json, clock_timestamp(),
        coalesce(octet_length(g.payload::text), 0) + coalesce(octet_length(g.headers::text), 0) + 200,
        g.stream, g.kind, g.type, g.idempotency_key, g.source, g.commit_lsn, g.tx_seq, g.sub, g.tx_end, g.committed_at, g.created_at, g.available_at, g.payload, g.headers
    INTO item
    FROM {{schema}}.stream t JOIN {{schema}}.log g ON g.stream_id = t.id AND g.seq = $3 AND g.lane = $2
    WHERE t.name = $4;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no item % of stream "%" in lane %, neither parked nor in log', $3, $4, $2 USING ERRCODE = 'WB012';
    END IF;
    RETURN item;
END
$$;
-- +goose StatementEnd

-- Appends what the lanes have reached. A row of that n is there when somebody else
-- has settled since; ON CONFLICT waits for one that is on its way.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._append(subscription text, lanes smallint[], generations bigint[], ns bigint[], seqs bigint[], settled int8multirange[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    mine smallint[];
BEGIN
    WITH added AS (
        INSERT INTO {{schema}}.checkpoint AS c (subscription, lane, n, lease_generation, seq, settled)
        SELECT $1, u.* FROM unnest($2, $4, $3, $5, $6) AS u
        ON CONFLICT DO NOTHING RETURNING c.lane)
    SELECT array_agg(a.lane) INTO mine FROM added a;
    IF coalesce(cardinality(mine), 0) < cardinality($2) THEN
        PERFORM {{schema}}._lost(ARRAY(SELECT u.lane FROM unnest($2) AS u (lane) WHERE u.lane <> ALL (coalesce(mine, '{}'))));
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.settle(subscription text, lanes smallint[], generations bigint[], ns bigint[], seqs bigint[], settled int8multirange[],
        done bigint[] DEFAULT NULL, exceptions json DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lanes($2, cardinality($3));
    IF cardinality($4) IS DISTINCT FROM cardinality($2) OR cardinality($5) IS DISTINCT FROM cardinality($2) OR cardinality($6) IS DISTINCT FROM cardinality($2)
        OR EXISTS (SELECT FROM unnest($4, $5, $6) AS u (n, seq, settled) WHERE u.n IS NULL OR u.n < 2 OR u.seq IS NULL OR u.settled IS NULL OR lower(u.settled) <= u.seq)
    THEN
        RAISE EXCEPTION 'settle: lanes %, n %, seqs %, settled %', $2, $4, $5, $6 USING ERRCODE = 'WB002';
    END IF;
    IF $7 IS NOT NULL OR $8 IS NOT NULL THEN
        PERFORM {{schema}}._exceptions($1, $2, $7, coalesce($8, '[]'));
    END IF;
    PERFORM {{schema}}._append($1, $2, $3, $4, $5, $6);
    PERFORM {{schema}}.fence_lanes($1, $2, $3);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.settle(text, smallint[], bigint[], bigint[], bigint[], int8multirange[], bigint[], json) IS 'Settles lanes, all or none, as the last statement of the transaction: appends checkpoint rows n, takes out of parked what is done, moves exceptions to parked or dead_letter, and fences. Lanes in ascending order. WB005 a lease is lost: roll back; WB012 an item is not there; WB002 argument.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.park(subscription text, lane smallint, generation bigint, stream text, seq bigint, attempts integer, error text, after interval, reason text DEFAULT 'retry') RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM {{schema}}._read_committed();
    IF $9 IS NULL OR $9 NOT IN ('retry', 'blocked', 'scheduled') THEN
        RAISE EXCEPTION 'park: reason "%"', $9 USING ERRCODE = 'WB002';
    END IF;
    PERFORM {{schema}}._exceptions($1, ARRAY[$2], NULL, json_build_array(json_build_object('lane', $2, 'seq', $5, 'stream', $4, 'what', $9,
        'attempts', $6, 'error', $7, 'after_ms', extract(epoch FROM $8) * 1000)));
    PERFORM {{schema}}.fence_lanes($1, ARRAY[$2], ARRAY[$3]);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.park(text, smallint, bigint, text, bigint, integer, text, interval, text) IS 'Parks one item, in the transaction that settles it. WB005 the lease is lost, WB012 no such item, WB002 argument.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.bury(subscription text, lane smallint, generation bigint, stream text, seq bigint, attempts integer, error text, block boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._exceptions($1, ARRAY[$2], NULL, json_build_array(json_build_object('lane', $2, 'seq', $5, 'stream', $4, 'what', 'dead',
        'attempts', $6, 'error', $7, 'block', $8)));
    PERFORM {{schema}}.fence_lanes($1, ARRAY[$2], ARRAY[$3]);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.bury(text, smallint, bigint, text, bigint, integer, text, boolean) IS 'Makes one item a dead letter, in the transaction that settles it; block: later items of its key wait until it is replayed or discarded. WB005 the lease is lost, WB012 no such item.';

-- Deletes old rows of checkpoint from where the last trim ended: the search for the
-- lowest would pass all that were deleted and not vacuumed yet.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}.trim(subscription text, lanes smallint[], generations bigint[]) RETURNS integer
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    due record;
    batch integer;
    deleted integer := 0;
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lanes($2, cardinality($3));
    PERFORM 1 FROM {{schema}}.lane l JOIN unnest($2, $3) AS u (lane, generation) ON u.lane = l.lane AND u.generation = l.lease_generation
        WHERE l.subscription = $1 ORDER BY l.lane FOR NO KEY UPDATE OF l;
    FOR due IN
        SELECT l.lane, l.trimmed, least(c.n - 10, l.trimmed + 5000) AS upto FROM {{schema}}.lane l
        JOIN unnest($2, $3) AS u (lane, generation) ON u.lane = l.lane AND u.generation = l.lease_generation
        CROSS JOIN LATERAL {{schema}}._checkpoint($1, l.lane) c
        WHERE l.subscription = $1 AND c.n - 10 > l.trimmed
    LOOP
        DELETE FROM {{schema}}.checkpoint c WHERE c.subscription = $1 AND c.lane = due.lane AND c.n >= due.trimmed AND c.n < due.upto;
        GET DIAGNOSTICS batch = ROW_COUNT;
        deleted := deleted + batch;
        UPDATE {{schema}}.lane t SET trimmed = due.upto WHERE t.subscription = $1 AND t.lane = due.lane;
    END LOOP;
    RETURN deleted;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.trim(text, smallint[], bigint[]) IS 'Deletes old checkpoint rows of lanes at these generations, never the newest ten. Lanes in ascending order.';

-- The short form.

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._receipt(receipt text, OUT lanes smallint[], OUT generations bigint[])
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    IF receipt IS NULL OR receipt !~ '^[0-9]{1,4}:[0-9]{1,18}(,[0-9]{1,4}:[0-9]{1,18})*$' THEN
        RAISE EXCEPTION 'receipt "%" is none that next gave', receipt USING ERRCODE = 'WB002';
    END IF;
    SELECT array_agg(split_part(r, ':', 1)::smallint ORDER BY split_part(r, ':', 1)::smallint), array_agg(split_part(r, ':', 2)::bigint ORDER BY split_part(r, ':', 1)::smallint)
    INTO lanes, generations FROM unnest(string_to_array(receipt, ',')) r;
    PERFORM {{schema}}._lanes(lanes, cardinality(generations));
END
$$;
-- +goose StatementEnd

-- Lanes that were looked through in vain are moved on, so that they do not hold log
-- and are not looked through again: taken, settled and given back at once. Nothing
-- has happened to them when their checkpoint is still the same row.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._pass(subscription text, lanes smallint[], ns bigint[], seqs bigint[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    mine smallint[];
BEGIN
    SELECT array_agg(x.lane) INTO mine FROM (
        SELECT l.lane FROM {{schema}}.lane l
        WHERE l.subscription = $1 AND l.lane = ANY ($2) AND (l.owner IS NULL OR l.lease_expires_at <= clock_timestamp())
        ORDER BY l.lane FOR UPDATE SKIP LOCKED) x;
    UPDATE {{schema}}.lane l SET owner = NULL, lease_generation = l.lease_generation + 1, hand_through = NULL, hand_parked = NULL, hand_count = NULL
    WHERE l.subscription = $1 AND l.lane = ANY (mine);
    INSERT INTO {{schema}}.checkpoint (subscription, lane, n, lease_generation, seq, settled)
    SELECT $1, u.lane, c.n + 1, l.lease_generation, u.seq, c.settled * int8multirange(int8range(u.seq + 1, NULL))
    FROM unnest($2, $3, $4) AS u (lane, n, seq)
    JOIN {{schema}}.lane l ON l.subscription = $1 AND l.lane = u.lane
    CROSS JOIN LATERAL {{schema}}._checkpoint($1, u.lane) c
    WHERE u.lane = ANY (mine) AND c.n = u.n;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.next(subscription text, worker text, max_items integer DEFAULT 100, lease interval DEFAULT '1 min', max_bytes bigint DEFAULT 4194304)
    RETURNS TABLE (receipt text, lane smallint, seq bigint, stream text, partition_key text, idempotency_key text, kind text, type text, payload json, headers json,
        source text, commit_lsn pg_lsn, tx_seq bigint, sub integer, tx_end boolean, committed_at timestamptz, created_at timestamptz, available_at timestamptz, attempts integer)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 100
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET jit = off
    AS $$
#variable_conflict use_column
DECLARE
    subscribed {{schema}}.subscription;
    full_up boolean;
    free record;        -- lanes nobody holds, with their checkpoints
    wanted smallint[];  -- those with work, the oldest first
    stale record;       -- those without
    mine smallint[];    -- those taken, ascending; what follows has one element for each
    held record;
    given bigint[];     -- parked items that are due
    news record;        -- new items, and how far each lane has been looked through
    chosen record;      -- of the new items, those to hand out and those to park
    ticket text;
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lease($4);
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'next must commit before the work begins: call it in a transaction of its own' USING ERRCODE = 'WB008';
    END IF;
    IF $2 IS NULL OR $2 = '' OR $3 IS NULL OR $3 NOT BETWEEN 1 AND 10000 OR $5 IS NULL OR $5 < 1 THEN
        RAISE EXCEPTION 'next: worker "%", max_items %, max_bytes %', $2, $3, $5 USING ERRCODE = 'WB002';
    END IF;
    subscribed := {{schema}}._live($1);
    INSERT INTO {{schema}}.worker AS w (subscription, id, expires_at) VALUES ($1, $2, clock_timestamp() + $4)
        ON CONFLICT (subscription, id) DO UPDATE SET heartbeat_at = clock_timestamp(), expires_at = excluded.expires_at
        WHERE w.expires_at < clock_timestamp() + $4 / 2;
    IF subscribed.state <> 'active' THEN
        RETURN;
    END IF;

    -- Which lanes have work? Nothing is locked yet.
    SELECT array_agg(l.lane ORDER BY l.lane) AS lanes, array_agg(k.seq ORDER BY l.lane) AS seqs, array_agg(k.n ORDER BY l.lane) AS ns INTO free
    FROM {{schema}}.lane l CROSS JOIN LATERAL {{schema}}._checkpoint($1, l.lane) k
    WHERE l.subscription = $1 AND (l.owner IS NULL OR l.lease_expires_at <= clock_timestamp());
    IF free.lanes IS NULL THEN
        RETURN;
    END IF;
    full_up := ({{schema}}._parked($1, subscribed.settings)).is_full;
    wanted := ARRAY(SELECT DISTINCT p.lane FROM {{schema}}.parked p WHERE p.subscription = $1 AND p.lane = ANY (free.lanes) AND p.available_at <= clock_timestamp());
    IF NOT full_up THEN
        SELECT coalesce(array_agg(f.lane ORDER BY f.first) FILTER (WHERE f.first IS NOT NULL), '{}') AS busy,
            array_agg(f.lane) FILTER (WHERE f.idle) AS lanes, array_agg(f.mark) FILTER (WHERE f.idle) AS seqs, array_agg(f.n) FILTER (WHERE f.idle) AS ns
        INTO stale FROM (
            SELECT f.lane, f.first, f.mark, u.n, f.first IS NULL AND f.mark > u.seq + 5000 AS idle
            FROM (
                SELECT f.lane, min(f.seq) FILTER (WHERE f.kind IS NOT NULL) AS first, max(f.seq) FILTER (WHERE f.kind IS NULL) AS mark
                FROM {{schema}}.fetch($1, free.lanes, free.seqs, $3, $5) f GROUP BY f.lane) f
            JOIN unnest(free.lanes, free.seqs, free.ns) AS u (lane, seq, n) ON u.lane = f.lane) f;
        wanted := wanted || stale.busy;
        IF stale.lanes IS NOT NULL THEN
            PERFORM {{schema}}._pass($1, stale.lanes, stale.ns, stale.seqs);
        END IF;
    END IF;

    -- Not all of them: other workers ask as well.
    SELECT array_agg(x.lane ORDER BY x.lane) INTO mine FROM (
        SELECT l.lane FROM {{schema}}.lane l
        WHERE l.subscription = $1 AND l.lane = ANY (wanted) AND (l.owner IS NULL OR l.lease_expires_at <= clock_timestamp())
        ORDER BY array_position(wanted, l.lane) LIMIT least(({{schema}}._share($1, $2)).share, greatest($3 / 8, 8)) FOR UPDATE SKIP LOCKED) x;
    IF mine IS NULL THEN
        RETURN;
    END IF;
    UPDATE {{schema}}.lane l SET owner = $2, lease_generation = l.lease_generation + 1, lease_expires_at = clock_timestamp() + $4
    WHERE l.subscription = $1 AND l.lane = ANY (mine);

    -- A later statement reads what is true now that the lanes are locked.
    SELECT array_agg(l.lease_generation ORDER BY l.lane) AS generations, array_agg(k.n ORDER BY l.lane) AS ns, array_agg(k.seq ORDER BY l.lane) AS seqs,
        array_agg(k.settled ORDER BY l.lane) AS settled
    INTO held FROM {{schema}}.lane l CROSS JOIN LATERAL {{schema}}._checkpoint($1, l.lane) k WHERE l.subscription = $1 AND l.lane = ANY (mine);
    given := ARRAY(SELECT p.seq FROM {{schema}}.parked p
        WHERE p.subscription = $1 AND p.lane = ANY (mine) AND p.available_at <= clock_timestamp() ORDER BY p.available_at, p.seq LIMIT $3);
    SELECT array_agg(f.lane) FILTER (WHERE f.kind IS NOT NULL) AS lanes, array_agg(f.seq) FILTER (WHERE f.kind IS NOT NULL) AS seqs,
        array_agg(f.stream) FILTER (WHERE f.kind IS NOT NULL) AS streams, array_agg(f.partition_key) FILTER (WHERE f.kind IS NOT NULL) AS keys,
        array_agg(f.wait_ms > 0) FILTER (WHERE f.kind IS NOT NULL) AS early, array_agg(f.seq ORDER BY f.lane) FILTER (WHERE f.kind IS NULL) AS through
    INTO news FROM {{schema}}.fetch($1, mine, held.seqs, greatest($3 - cardinality(given), 1), $5) f
    WHERE NOT full_up AND cardinality(given) < $3;

    -- Items that may not run yet go to parked, and are settled thereby.
    WITH judged AS (
        SELECT u.lane, u.seq, u.stream, CASE
            WHEN u.early THEN 'scheduled'
            WHEN EXISTS (SELECT FROM {{schema}}.parked p WHERE p.subscription = $1 AND p.partition_key = u.key AND p.seq < u.seq AND p.reason IN ('retry', 'blocked', 'dead'))
                THEN 'blocked' END AS what
        FROM unnest(news.lanes, news.seqs, news.streams, news.keys, news.early) AS u (lane, seq, stream, key, early)
        WHERE NOT held.settled[array_position(mine, u.lane)] @> u.seq)
    SELECT array_agg(j.lane) FILTER (WHERE j.what IS NULL) AS lanes, array_agg(j.seq) FILTER (WHERE j.what IS NULL) AS seqs,
        array_agg(j.stream) FILTER (WHERE j.what IS NULL) AS streams,
        array_agg(j.lane) FILTER (WHERE j.what IS NOT NULL) AS parked_lanes, array_agg(j.seq) FILTER (WHERE j.what IS NOT NULL) AS parked_seqs,
        json_agg(json_build_object('lane', j.lane, 'seq', j.seq, 'stream', j.stream, 'what', j.what)) FILTER (WHERE j.what IS NOT NULL) AS exceptions
    INTO chosen FROM judged j;
    IF chosen.exceptions IS NOT NULL THEN
        PERFORM {{schema}}._exceptions($1, mine, NULL, chosen.exceptions);
        PERFORM {{schema}}._append($1, array_agg(p.lane ORDER BY p.lane), array_agg(held.generations[p.i] ORDER BY p.lane), array_agg(held.ns[p.i] + 1 ORDER BY p.lane),
            array_agg(held.seqs[p.i] ORDER BY p.lane), array_agg(held.settled[p.i] + p.ranges ORDER BY p.lane))
        FROM (SELECT u.lane, array_position(mine, u.lane) AS i, range_agg(int8range(u.seq, u.seq, '[]')) AS ranges
            FROM unnest(chosen.parked_lanes, chosen.parked_seqs) AS u (lane, seq) GROUP BY u.lane) p;
    END IF;
    UPDATE {{schema}}.lane l SET hand_through = coalesce(news.through[array_position(mine, l.lane)], held.seqs[array_position(mine, l.lane)]),
        hand_parked = ARRAY(SELECT p.seq FROM {{schema}}.parked p WHERE p.subscription = $1 AND p.lane = l.lane AND p.seq = ANY (given)),
        hand_count = (SELECT count(*) FROM unnest(chosen.lanes) AS u (lane) WHERE u.lane = l.lane)
    WHERE l.subscription = $1 AND l.lane = ANY (mine);

    -- What has nothing to hand out is settled and given back at once.
    SELECT string_agg(l.lane || ':' || l.lease_generation, ',' ORDER BY l.lane) FILTER (WHERE l.hand_count = 0 AND l.hand_parked = '{}') AS idle,
        string_agg(l.lane || ':' || l.lease_generation, ',' ORDER BY l.lane) FILTER (WHERE l.hand_count > 0 OR l.hand_parked <> '{}') AS busy
    INTO free FROM {{schema}}.lane l WHERE l.subscription = $1 AND l.lane = ANY (mine);
    IF free.idle IS NOT NULL THEN
        PERFORM {{schema}}.done($1, free.idle);
    END IF;
    ticket := free.busy;
    RETURN QUERY
    SELECT ticket, p.lane, p.seq, p.stream, p.partition_key, p.idempotency_key, p.kind, p.type, p.payload, p.headers, p.source, p.commit_lsn, p.tx_seq, p.sub, p.tx_end,
        p.committed_at, p.created_at, p.item_available_at, p.attempts + 1
    FROM {{schema}}.parked p WHERE p.subscription = $1 AND p.seq = ANY (given)
    UNION ALL
    SELECT ticket, g.lane, g.seq, g.stream, g.partition_key, g.idempotency_key, g.kind, g.type, g.payload, g.headers, g.source, g.commit_lsn, g.tx_seq, g.sub, g.tx_end,
        g.committed_at, g.created_at, g.available_at, 1
    FROM unnest(chosen.seqs, chosen.streams) AS u (seq, stream) JOIN {{schema}}.stream t ON t.name = u.stream JOIN {{schema}}.log g ON g.stream_id = t.id AND g.seq = u.seq
    ORDER BY 3;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.next(text, text, integer, interval, bigint) IS 'The short form: leases lanes, hands out their next items in order of seq with one receipt, and commits before the work begins. Then done, or fail for what failed. No items: none, or others have the lanes; ask again later. WB003 isolation, WB004 unknown, WB006 expired, WB008 the transaction already wrote.';

-- The items of log in a part of a lane.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._part(streams text[], lane smallint, after bigint, through bigint) RETURNS SETOF {{schema}}.log
    LANGUAGE sql STABLE ROWS 100
    AS $$
    SELECT g.* FROM (SELECT {{schema}}._streams($1) AS id OFFSET 0) s CROSS JOIN LATERAL (
        SELECT * FROM {{schema}}.log g WHERE g.stream_id = s.id AND g.lane = $2 AND g.seq > $3 AND g.seq <= $4 OFFSET 0) g
    $$;
-- +goose StatementEnd

-- Locks the lanes of a receipt, which fences as KEY SHARE does, and other calls with
-- the same receipt besides.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._lock_receipt(subscription text, lanes smallint[], generations bigint[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    mine smallint[];
BEGIN
    SELECT array_agg(x.lane) INTO mine FROM (
        SELECT l.lane FROM {{schema}}.lane l JOIN unnest($2, $3) AS u (lane, generation) ON u.lane = l.lane AND u.generation = l.lease_generation
        WHERE l.subscription = $1 AND l.hand_through IS NOT NULL ORDER BY l.lane FOR NO KEY UPDATE OF l) x;
    IF mine IS DISTINCT FROM $2 THEN
        PERFORM {{schema}}._lost(ARRAY(SELECT u.lane FROM unnest($2) AS u (lane) WHERE u.lane <> ALL (coalesce(mine, '{}'))));
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.done(subscription text, receipt text) RETURNS integer
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    r record;
    h record;
    old bigint[];
BEGIN
    PERFORM {{schema}}._read_committed();
    r := {{schema}}._receipt($2);
    PERFORM {{schema}}._lock_receipt($1, r.lanes, r.generations);
    SELECT array_agg(k.n + 1 ORDER BY l.lane) AS ns, array_agg(l.hand_through ORDER BY l.lane) AS seqs,
        array_agg(k.settled * int8multirange(int8range(l.hand_through + 1, NULL)) ORDER BY l.lane) AS settled,
        ARRAY(SELECT p FROM {{schema}}.lane x CROSS JOIN unnest(x.hand_parked) p WHERE x.subscription = $1 AND x.lane = ANY (r.lanes)) AS parked,
        sum(l.hand_count + cardinality(l.hand_parked))::integer AS items, bool_or(k.n - l.trimmed > 200) AS long
    INTO h FROM {{schema}}.lane l CROSS JOIN LATERAL {{schema}}._checkpoint($1, l.lane) k WHERE l.subscription = $1 AND l.lane = ANY (r.lanes);
    IF h.parked <> '{}' THEN
        PERFORM {{schema}}._exceptions($1, r.lanes, h.parked, '[]');
    END IF;
    PERFORM {{schema}}._append($1, r.lanes, r.generations, h.ns, h.seqs, h.settled);
    IF h.long THEN
        PERFORM {{schema}}.trim($1, r.lanes, r.generations);
    END IF;
    UPDATE {{schema}}.lane l SET owner = NULL, lease_expires_at = clock_timestamp(), hand_through = NULL, hand_parked = NULL, hand_count = NULL
    WHERE l.subscription = $1 AND l.lane = ANY (r.lanes);
    RETURN h.items;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.done(text, text) IS 'Settles what next handed out and gives the lanes back; in the transaction of the work''s effects, called last, so that both are there or neither. Returns the number of items, without those that failed. WB005 the lease is lost: roll back.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.fail(subscription text, receipt text, seq bigint, error text, retry_after interval DEFAULT NULL, dead boolean DEFAULT false)
    RETURNS TABLE (item bigint, became text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
#variable_conflict use_column
DECLARE
    subscribed {{schema}}.subscription;
    r record;
    x record;
    c {{schema}}.checkpoint;
    tries integer;
    wait double precision;
    blocking boolean;
    what text;
    gone json;
    settled int8multirange;
BEGIN
    PERFORM {{schema}}._read_committed();
    r := {{schema}}._receipt($2);
    subscribed := {{schema}}._subscription($1);
    PERFORM {{schema}}._lock_receipt($1, r.lanes, r.generations);
    SELECT * INTO x FROM (
        SELECT p.lane, p.seq, p.stream, p.partition_key, p.attempts, p.reason, l.hand_through, l.lease_generation
        FROM {{schema}}.lane l JOIN {{schema}}.parked p ON p.subscription = $1 AND p.lane = l.lane AND p.seq = ANY (l.hand_parked) AND p.seq = $3
        WHERE l.subscription = $1 AND l.lane = ANY (r.lanes)
        UNION ALL
        SELECT l.lane, g.seq, g.stream, g.partition_key, 0, NULL, l.hand_through, l.lease_generation
        FROM (SELECT {{schema}}._streams(subscribed.streams) AS id OFFSET 0) t JOIN {{schema}}.log g ON g.stream_id = t.id AND g.seq = $3
        JOIN {{schema}}.lane l ON l.subscription = $1 AND l.lane = g.lane AND l.lane = ANY (r.lanes) AND l.hand_through >= g.seq
        CROSS JOIN LATERAL {{schema}}._checkpoint($1, l.lane) k
        WHERE k.seq < g.seq AND NOT k.settled @> g.seq) i;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'item % is not in the hand of receipt "%"', $3, $2 USING ERRCODE = 'WB012';
    END IF;
    tries := x.attempts + 1;
    what := CASE WHEN $6 OR tries >= {{schema}}._setting(subscribed.settings, 'max_attempts', 20) THEN 'dead' ELSE 'retry' END;
    wait := coalesce(extract(epoch FROM $5) * 1000, least({{schema}}._setting(subscribed.settings, 'backoff_min_ms', 1000) * power(2::double precision, least(tries - 1, 40)),
        {{schema}}._setting(subscribed.settings, 'backoff_max_ms', 600000)) * (0.75 + random() / 2));
    blocking := coalesce(subscribed.settings ->> 'on_dead', 'continue') = 'block';
    SELECT * INTO c FROM {{schema}}._checkpoint($1, x.lane);
    -- Later new items of its key follow it, unless it holds nothing.
    SELECT json_agg(json_build_object('lane', x.lane, 'seq', f.seq, 'stream', f.stream, 'what', f.what, 'attempts', f.tries, 'after_ms', wait, 'error', f.error, 'block', blocking)),
        c.settled + coalesce(range_agg(int8range(f.seq, f.seq, '[]')) FILTER (WHERE f.is_new), '{}')
    INTO gone, settled
    FROM (
        SELECT x.seq, x.stream, what AS what, tries AS tries, coalesce($4, '') AS error, x.reason IS NULL AS is_new
        UNION ALL
        SELECT h.seq, h.stream, 'blocked', 0, NULL, true
        FROM {{schema}}._part(subscribed.streams, x.lane, greatest(c.seq, x.seq), x.hand_through) h
        WHERE h.partition_key = x.partition_key AND NOT c.settled @> h.seq
            AND (x.reason IS NULL OR x.reason NOT IN ('scheduled', 'replayed')) AND (what = 'retry' OR blocking)) f;
    PERFORM {{schema}}._exceptions($1, ARRAY[x.lane], NULL, gone);
    PERFORM {{schema}}._append($1, ARRAY[x.lane], ARRAY[x.lease_generation], ARRAY[c.n + 1], ARRAY[c.seq], ARRAY[settled]);
    UPDATE {{schema}}.lane l SET hand_parked = array_remove(l.hand_parked, $3),
        hand_count = l.hand_count - (SELECT count(*) FROM json_array_elements(gone)) + CASE WHEN x.reason IS NULL THEN 0 ELSE 1 END
    WHERE l.subscription = $1 AND l.lane = x.lane;
    RETURN QUERY SELECT (g ->> 'seq')::bigint, g ->> 'what' FROM json_array_elements(gone) g;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.fail(text, text, bigint, text, interval, boolean) IS 'One item that next handed out failed: it is tried again after a while, or is dead after max_attempts. Returns what is no longer in the hand: the item, and later ones of its key, which follow it. In a transaction of its own; then go on with the others and call done. WB005 the lease is lost, WB012 the item is not in the hand.';

-- Dead letters of subscriptions.

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._letter(id bigint) RETURNS {{schema}}.dead_letter
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    letter {{schema}}.dead_letter;
BEGIN
    SELECT * INTO letter FROM {{schema}}.dead_letter d WHERE d.id = $1 FOR UPDATE;
    IF NOT FOUND OR letter.subscription IS NULL OR letter.resolution IS NOT NULL OR NOT letter.replayable THEN
        RAISE EXCEPTION 'dead letter % is not an open one of a subscription', $1 USING ERRCODE = 'WB010';
    END IF;
    RETURN letter;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.replay(id bigint, if_latest boolean DEFAULT false, tool_version text DEFAULT 'sql') RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    SET enable_seqscan = off
    AS $$
DECLARE
    d {{schema}}.dead_letter;
    sub {{schema}}.subscription;
    newer bigint;
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lock_subscriptions();
    d := {{schema}}._letter($1);
    sub := {{schema}}._live(d.subscription);
    IF if_latest THEN
        SELECT min(h.seq) INTO newer FROM {{schema}}._part(sub.streams, d.lane, d.seq, 9223372036854775807) h WHERE h.partition_key = d.partition_key;
        IF newer IS NOT NULL THEN
            RAISE EXCEPTION 'item % of key "%" is newer than dead letter %', newer, d.partition_key, $1 USING ERRCODE = 'WB011', DETAIL = newer::text;
        END IF;
    END IF;
    UPDATE {{schema}}.parked p SET reason = 'retry', attempts = 0, available_at = clock_timestamp() WHERE p.subscription = d.subscription AND p.seq = d.seq AND p.reason = 'dead';
    IF NOT FOUND THEN
        INSERT INTO {{schema}}.parked (subscription, seq, lane, partition_key, reason, available_at, last_error, errors, bytes, stream, kind, type, idempotency_key, source,
            commit_lsn, tx_seq, sub, tx_end, committed_at, created_at, item_available_at, payload, headers)
        VALUES (d.subscription, d.seq, d.lane, d.partition_key, 'replayed', clock_timestamp(), d.error, d.errors,
            coalesce(octet_length(d.payload), 0) + coalesce(octet_length(d.headers), 0) + 200, d.stream, d.kind, d.type, d.idempotency_key, d.source,
            d.commit_lsn, d.tx_seq, d.sub, false, d.committed_at, d.created_at, d.available_at, d.payload::json, d.headers::json);
    END IF;
    UPDATE {{schema}}.dead_letter l SET resolution = 'replayed', replayed_at = clock_timestamp(), resolved_at = clock_timestamp() WHERE l.id = $1;
    UPDATE {{schema}}.subscription s SET changed = s.changed + 1 WHERE s.name = d.subscription;
    PERFORM {{schema}}._operation($3, 'replay', d.subscription, json_build_object('id', $1, 'if_latest', $2), NULL, json_build_object('seq', d.seq));
    RETURN d.seq;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.replay(bigint, boolean, text) IS 'Puts a dead letter of a subscription back under its seq, with new attempts. It holds no other item, unless its key was blocked by it. if_latest: not where log has a newer item of its key. WB010 not an open letter of a subscription, WB011 a newer item, WB004, WB006.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.discard(id bigint, tool_version text DEFAULT 'sql') RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    AS $$
DECLARE
    d {{schema}}.dead_letter;
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lock_subscriptions();
    d := {{schema}}._letter($1);
    DELETE FROM {{schema}}.parked p WHERE p.subscription = d.subscription AND p.seq = d.seq AND p.reason = 'dead';
    PERFORM {{schema}}._free(d.subscription, ARRAY[d.partition_key]);
    UPDATE {{schema}}.dead_letter l SET resolution = 'discarded', resolved_at = clock_timestamp() WHERE l.id = $1;
    UPDATE {{schema}}.subscription s SET changed = s.changed + 1 WHERE s.name = d.subscription;
    PERFORM {{schema}}._operation($2, 'discard', d.subscription, json_build_object('id', $1), NULL, NULL);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.discard(bigint, text) IS 'Gives a dead letter of a subscription up; a key that was blocked by it goes on. WB010 not an open letter of a subscription.';

-- Waiting for a read model.

-- The first item of a source up to a position that is not settled, looked for above
-- low; null: there is none. Nothing of it can appear any more once the source's own
-- position is there.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._unsettled(subscription text, streams text[], source text, lsn pg_lsn, low bigint, upto bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    reached bigint[];       -- by lane
    ahead int8multirange[]; -- by lane
    lowest bigint;
BEGIN
    SELECT min(p.seq) INTO lowest FROM {{schema}}.parked p
    WHERE p.subscription = $1 AND p.source = $3 AND p.commit_lsn <= $4 AND p.reason IN ('retry', 'blocked', 'replayed');
    IF lowest IS NOT NULL THEN
        RETURN least(lowest, low + 1); -- of log nothing was looked at
    END IF;
    SELECT array_agg(c.seq ORDER BY l.lane), array_agg(c.settled ORDER BY l.lane), greatest(min(c.seq), low) INTO reached, ahead, lowest
    FROM {{schema}}.lane l CROSS JOIN LATERAL {{schema}}._checkpoint($1, l.lane) c WHERE l.subscription = $1;
    RETURN (SELECT min(g.seq) FROM (SELECT {{schema}}._streams($2) AS id OFFSET 0) s CROSS JOIN LATERAL (
        SELECT g.seq FROM {{schema}}.log g
        WHERE g.stream_id = s.id AND g.seq > lowest AND g.seq <= $6 AND g.seq > reached[g.lane + 1] AND NOT ahead[g.lane + 1] @> g.seq
            AND g.source = $3 AND g.commit_lsn <= $4
        ORDER BY g.seq LIMIT 1) g);
END
$$;
-- +goose StatementEnd

-- The last seq that a source had added to log when it had come to a position: of the
-- first batch that got there, among the last thousand, so that a read needs to look no
-- further. NULL: it has not come there.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._reach(source text, lsn pg_lsn) RETURNS bigint
    LANGUAGE sql VOLATILE
    AS $$
    SELECT CASE WHEN (array_agg(b.end_lsn ORDER BY b.n DESC))[1] >= $2
        THEN coalesce((array_agg(b.last_seq ORDER BY b.n) FILTER (WHERE b.end_lsn >= $2 AND b.last_seq IS NOT NULL))[1], 9223372036854775807) END
    FROM (SELECT n, end_lsn, last_seq FROM {{schema}}.batch b WHERE b.source = $1 ORDER BY n DESC LIMIT 1000) b
    $$;
-- +goose StatementEnd

-- Who waits for a source's position has this lock, shared.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._wait_key(source text) RETURNS integer
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT pg_catalog.hashtext({{schema_name_literal}} || ' ' || source) $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._waited_for(source text) RETURNS boolean
    LANGUAGE sql VOLATILE
    AS $$
    SELECT CASE WHEN pg_catalog.pg_try_advisory_lock({{wait_lock}}, k) THEN NOT pg_catalog.pg_advisory_unlock({{wait_lock}}, k) ELSE true END
    FROM {{schema}}._wait_key(source) AS k
    $$;
-- +goose StatementEnd

-- A notification goes out with the commit, so one who waits inside a transaction shows
-- a lock instead, which whoever stores the source's position looks for.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}.wait_for(subscription text, source text, lsn pg_lsn, timeout interval DEFAULT '10 s', ask boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    AS $$
DECLARE
    sub {{schema}}.subscription;
    until timestamptz;
    upto bigint;
    first bigint;
    low bigint := -1;
    changed bigint;
    pause double precision := 0.002;
BEGIN
    PERFORM {{schema}}._read_committed();
    IF lsn IS NULL OR timeout IS NULL OR timeout NOT BETWEEN '0' AND '5 min' THEN
        RAISE EXCEPTION 'wait_for: lsn %, timeout % (at most 5 min)', lsn, timeout USING ERRCODE = 'WB002';
    END IF;
    PERFORM 1 FROM {{schema}}.source s WHERE s.name = $2;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'wait_for: there is no source "%"', $2 USING ERRCODE = 'WB002';
    END IF;
    until := clock_timestamp() + timeout;
    sub := {{schema}}._live($1);
    upto := {{schema}}._reach($2, $3);
    IF upto IS NULL AND ask THEN
        PERFORM pg_notify('{{mark_channel}}', {{schema_name_literal}} || ' ' || $2);
    END IF;
    IF upto IS NULL AND timeout > '0' THEN
        BEGIN
            PERFORM pg_advisory_xact_lock_shared({{wait_lock}}, {{schema}}._wait_key($2));
            LOOP
                PERFORM pg_sleep(least(pause, greatest(extract(epoch FROM until - clock_timestamp()), 0)));
                pause := least(pause * 1.5, 0.1);
                sub := {{schema}}._live($1);
                upto := {{schema}}._reach($2, $3);
                EXIT WHEN upto IS NOT NULL OR clock_timestamp() >= until;
            END LOOP;
            RAISE EXCEPTION USING ERRCODE = 'WB099'; -- nothing but this takes the lock back before the transaction's end
        EXCEPTION WHEN SQLSTATE 'WB099' THEN
            pause := 0.002;
        END;
    END IF;
    IF upto IS NULL THEN
        RETURN false;
    END IF;
    LOOP
        -- What is settled stays so, unless an operator has moved the subscription.
        low := CASE WHEN changed = sub.changed THEN low ELSE -1 END;
        changed := sub.changed;
        first := {{schema}}._unsettled($1, sub.streams, $2, $3, low, upto);
        IF first IS NULL THEN
            RETURN true;
        END IF;
        low := greatest(low, first - 1);
        IF clock_timestamp() >= until THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(least(pause, greatest(extract(epoch FROM until - clock_timestamp()), 0)));
        pause := least(pause * 1.5, 0.1);
        sub := {{schema}}._live($1);
    END LOOP;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.wait_for(text, text, pg_lsn, interval, boolean) IS 'Waits until a source has come to a position and the subscription has settled all of it: true; false when the time is up. Parked items count, but for scheduled and dead ones. It holds a snapshot while it waits. Whoever stores the source''s position sees within a second that somebody waits, and stores where it is; with ask it is told when this transaction commits, for those who call again and again with the time 0. WB002 argument or unknown source, WB004 unknown, WB006 expired.';

-- The first item that is not settled is looked for from the lane that is furthest
-- back, in windows, as in fetch.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}.subscription_progress(subscription text,
        OUT seq bigint, OUT head bigint, OUT items bigint, OUT oldest_at timestamptz, OUT lag_ms bigint,
        OUT source text, OUT lsn pg_lsn, OUT committed_at timestamptz, OUT parked bigint, OUT dead bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET jit = off
    AS $$
#variable_conflict use_column
DECLARE
    sub {{schema}}.subscription := {{schema}}._subscription($1);
    reached bigint[];            -- by lane
    ahead int8multirange[];      -- by lane
    from_seq bigint;
    width bigint := 50000;
    first bigint;
BEGIN
    SELECT array_agg(c.seq ORDER BY l.lane), array_agg(c.settled ORDER BY l.lane), min(c.seq) INTO reached, ahead, from_seq
    FROM {{schema}}.lane l CROSS JOIN LATERAL {{schema}}._checkpoint($1, l.lane) c WHERE l.subscription = $1;
    head := {{schema}}._visible();
    seq := from_seq;
    FOR i IN 1 .. 4 LOOP
        SELECT count(*), min(g.seq), (array_agg(g.committed_at ORDER BY g.seq))[1] INTO items, first, oldest_at FROM (
            SELECT g.seq, g.committed_at FROM (SELECT {{schema}}._streams(sub.streams) AS id OFFSET 0) s CROSS JOIN LATERAL (
                SELECT g.seq, g.committed_at FROM {{schema}}.log g
                WHERE g.stream_id = s.id AND g.seq > from_seq AND g.seq <= from_seq + width AND g.seq > reached[g.lane + 1] AND NOT ahead[g.lane + 1] @> g.seq
                ORDER BY g.seq LIMIT 10000) g
            ORDER BY g.seq LIMIT 10000) g;
        IF items > 0 THEN
            seq := first - 1;
            EXIT;
        END IF;
        from_seq := from_seq + width;
        width := width * 4;
        seq := greatest(least(from_seq, head), seq);
        EXIT WHEN from_seq >= head;
    END LOOP;
    lag_ms := coalesce(greatest(extract(epoch FROM clock_timestamp() - oldest_at) * 1000, 0), 0);
    SELECT b.source, b.end_lsn, b.commit_ts INTO source, lsn, committed_at
    FROM {{schema}}.source o CROSS JOIN LATERAL (
        SELECT b.source, b.end_lsn, b.commit_ts, b.written_at FROM {{schema}}.batch b
        WHERE b.source = o.name AND b.last_seq <= subscription_progress.seq ORDER BY b.n DESC LIMIT 1) b
    ORDER BY b.written_at DESC LIMIT 1;
    SELECT count(*) INTO parked FROM {{schema}}.parked p WHERE p.subscription = $1;
    SELECT count(*) INTO dead FROM {{schema}}.dead_letter d WHERE d.subscription = $1 AND d.resolution IS NULL;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.subscription_progress(text) IS 'How far a subscription is: everything at or below seq is settled or parked; head is the end of log; items not settled, up to 10,000, and the age of the oldest. For once in some seconds. WB004 unknown.';

CREATE VIEW {{schema}}.inbox_status AS
    SELECT s.name AS subscription, g.seq, g.lane, g.stream, g.partition_key, g.idempotency_key, g.kind, g.type,
        CASE WHEN l.owner IS NOT NULL AND l.lease_expires_at > clock_timestamp() THEN 'processing' ELSE 'pending' END AS status,
        NULL AS reason, l.owner AS claimed_by, l.lease_expires_at, l.lease_generation, 0 AS attempts, g.available_at, NULL AS last_error, g.committed_at, g.created_at
    FROM {{schema}}.subscription s JOIN {{schema}}.lane l ON l.subscription = s.name
    CROSS JOIN LATERAL (SELECT c.seq, c.settled FROM {{schema}}.checkpoint c WHERE c.subscription = l.subscription AND c.lane = l.lane ORDER BY c.n DESC LIMIT 1) c
    JOIN {{schema}}.stream t ON t.name = ANY (s.streams) OR EXISTS (SELECT FROM unnest(s.streams) p WHERE p LIKE '%*' AND starts_with(t.name, left(p, -1)))
    JOIN {{schema}}.log g ON g.stream_id = t.id AND g.lane = l.lane AND g.seq > c.seq AND NOT c.settled @> g.seq
    UNION ALL
    SELECT p.subscription, p.seq, p.lane, p.stream, p.partition_key, p.idempotency_key, p.kind, p.type,
        'parked', p.reason, l.owner, l.lease_expires_at, l.lease_generation, p.attempts, p.available_at, p.last_error, p.committed_at, p.created_at
    FROM {{schema}}.parked p JOIN {{schema}}.lane l ON l.subscription = p.subscription AND l.lane = p.lane
    WHERE p.reason <> 'dead'
    UNION ALL
    SELECT d.subscription, d.seq, d.lane, d.stream, d.partition_key, d.idempotency_key, d.kind, d.type,
        'dead_letter', d.reason, NULL, NULL, NULL, d.attempts, d.available_at, d.error, d.committed_at, d.created_at
    FROM {{schema}}.dead_letter d WHERE d.subscription IS NOT NULL AND d.resolution IS NULL
    UNION ALL
    SELECT s.name, g.seq, g.lane, g.stream, g.partition_key, g.idempotency_key, g.kind, g.type,
        'completed', NULL, NULL, NULL, NULL, 0, g.available_at, NULL, g.committed_at, g.created_at
    FROM {{schema}}.subscription s JOIN {{schema}}.lane l ON l.subscription = s.name
    CROSS JOIN LATERAL (SELECT c.seq, c.settled FROM {{schema}}.checkpoint c WHERE c.subscription = l.subscription AND c.lane = l.lane ORDER BY c.n DESC LIMIT 1) c
    JOIN {{schema}}.stream t ON t.name = ANY (s.streams) OR EXISTS (SELECT FROM unnest(s.streams) p WHERE p LIKE '%*' AND starts_with(t.name, left(p, -1)))
    JOIN {{schema}}.log g ON g.stream_id = t.id AND g.lane = l.lane AND g.seq > s.start_seq AND (g.seq <= c.seq OR c.settled @> g.seq)
    WHERE NOT EXISTS (SELECT FROM {{schema}}.parked p WHERE p.subscription = s.name AND p.seq = g.seq)
        AND NOT EXISTS (SELECT FROM {{schema}}.dead_letter d WHERE d.subscription = s.name AND d.seq = g.seq AND d.resolution IS NULL);
COMMENT ON VIEW {{schema}}.inbox_status IS 'Each item of each subscription, with the columns that work tables usually have, for people. Ask for a subscription, a lane and a status.';

REVOKE ALL ON FUNCTION
    {{schema}}._read_committed(),
    {{schema}}._subscription(text),
    {{schema}}._live(text),
    {{schema}}._lanes(smallint[], integer),
    {{schema}}._lease(interval),
    {{schema}}._streams(text[]),
    {{schema}}._visible(),
    {{schema}}._setting(json, text, bigint),
    {{schema}}._check_settings(json),
    {{schema}}._operation(text, text, text, json, json, json),
    {{schema}}._lock_subscriptions(),
    {{schema}}._floor(text),
    {{schema}}.retained_floor(),
    {{schema}}._start(text),
    {{schema}}.subscribe(text, text[], text, json, text),
    {{schema}}._check_streams(text[]),
    {{schema}}.set_streams(text, text[], text),
    {{schema}}._set_state(text, text, text, text),
    {{schema}}.pause(text, text),
    {{schema}}.resume(text, text),
    {{schema}}.expire(text, text),
    {{schema}}._fence_all(text),
    {{schema}}.reset(text, text, text),
    {{schema}}.drop_subscription(text, text),
    {{schema}}._checkpoint(text, smallint),
    {{schema}}._lost(smallint[]),
    {{schema}}.fence_lanes(text, smallint[], bigint[]),
    {{schema}}._share(text, text),
    {{schema}}.lease_lanes(text, text, interval, integer, smallint[], text, integer, text),
    {{schema}}.renew(text, text, interval, smallint[], bigint[]),
    {{schema}}._parked(text, json),
    {{schema}}.release(text, text, smallint[], bigint[], boolean),
    {{schema}}._wait(timestamptz),
    {{schema}}.lane_state(text, smallint[]),
    {{schema}}._of_stream(integer, bigint[], bigint, bigint, integer),
    {{schema}}._size(json, json),
    {{schema}}.fetch(text, smallint[], bigint[], integer, bigint),
    {{schema}}.fetch_parked(text, bigint[], bigint),
    {{schema}}._errors(json, integer, text),
    {{schema}}._free(text, text[]),
    {{schema}}._exceptions(text, smallint[], bigint[], json),
    {{schema}}._item(text, smallint, bigint, text),
    {{schema}}._append(text, smallint[], bigint[], bigint[], bigint[], int8multirange[]),
    {{schema}}.settle(text, smallint[], bigint[], bigint[], bigint[], int8multirange[], bigint[], json),
    {{schema}}.park(text, smallint, bigint, text, bigint, integer, text, interval, text),
    {{schema}}.bury(text, smallint, bigint, text, bigint, integer, text, boolean),
    {{schema}}.trim(text, smallint[], bigint[]),
    {{schema}}._receipt(text),
    {{schema}}._pass(text, smallint[], bigint[], bigint[]),
    {{schema}}.next(text, text, integer, interval, bigint),
    {{schema}}._part(text[], smallint, bigint, bigint),
    {{schema}}._lock_receipt(text, smallint[], bigint[]),
    {{schema}}.done(text, text),
    {{schema}}.fail(text, text, bigint, text, interval, boolean),
    {{schema}}._letter(bigint),
    {{schema}}.replay(bigint, boolean, text),
    {{schema}}.discard(bigint, text),
    {{schema}}._unsettled(text, text[], text, pg_lsn, bigint, bigint),
    {{schema}}._reach(text, pg_lsn),
    {{schema}}._wait_key(text),
    {{schema}}._waited_for(text),
    {{schema}}.wait_for(text, text, pg_lsn, interval, boolean),
    {{schema}}.subscription_progress(text)
    FROM PUBLIC;

UPDATE {{schema}}.schema_version SET version = 6, compatible_from = 5;

-- +goose Down
UPDATE {{schema}}.schema_version SET version = 5, compatible_from = 5;
DROP VIEW {{schema}}.inbox_status;
DROP FUNCTION
    {{schema}}.subscription_progress(text),
    {{schema}}.wait_for(text, text, pg_lsn, interval, boolean),
    {{schema}}._waited_for(text),
    {{schema}}._wait_key(text),
    {{schema}}._reach(text, pg_lsn),
    {{schema}}._unsettled(text, text[], text, pg_lsn, bigint, bigint),
    {{schema}}.discard(bigint, text),
    {{schema}}.replay(bigint, boolean, text),
    {{schema}}._letter(bigint),
    {{schema}}.fail(text, text, bigint, text, interval, boolean),
    {{schema}}.done(text, text),
    {{schema}}._lock_receipt(text, smallint[], bigint[]),
    {{schema}}._part(text[], smallint, bigint, bigint),
    {{schema}}.next(text, text, integer, interval, bigint),
    {{schema}}._pass(text, smallint[], bigint[], bigint[]),
    {{schema}}._receipt(text),
    {{schema}}.trim(text, smallint[], bigint[]),
    {{schema}}.bury(text, smallint, bigint, text, bigint, integer, text, boolean),
    {{schema}}.park(text, smallint, bigint, text, bigint, integer, text, interval, text),
    {{schema}}.settle(text, smallint[], bigint[], bigint[], bigint[], int8multirange[], bigint[], json),
    {{schema}}._append(text, smallint[], bigint[], bigint[], bigint[], int8multirange[]),
    {{schema}}._item(text, smallint, bigint, text),
    {{schema}}._exceptions(text, smallint[], bigint[], json),
    {{schema}}._free(text, text[]),
    {{schema}}._errors(json, integer, text),
    {{schema}}.fetch_parked(text, bigint[], bigint),
    {{schema}}.fetch(text, smallint[], bigint[], integer, bigint),
    {{schema}}._size(json, json),
    {{schema}}._of_stream(integer, bigint[], bigint, bigint, integer),
    {{schema}}.lane_state(text, smallint[]),
    {{schema}}._wait(timestamptz),
    {{schema}}.release(text, text, smallint[], bigint[], boolean),
    {{schema}}._parked(text, json),
    {{schema}}.renew(text, text, interval, smallint[], bigint[]),
    {{schema}}.lease_lanes(text, text, interval, integer, smallint[], text, integer, text),
    {{schema}}._share(text, text),
    {{schema}}.fence_lanes(text, smallint[], bigint[]),
    {{schema}}._lost(smallint[]),
    {{schema}}._checkpoint(text, smallint),
    {{schema}}.drop_subscription(text, text),
    {{schema}}.reset(text, text, text),
    {{schema}}._fence_all(text),
    {{schema}}.expire(text, text),
    {{schema}}.resume(text, text),
    {{schema}}.pause(text, text),
    {{schema}}._set_state(text, text, text, text),
    {{schema}}.set_streams(text, text[], text),
    {{schema}}._check_streams(text[]),
    {{schema}}.subscribe(text, text[], text, json, text),
    {{schema}}._start(text),
    {{schema}}.retained_floor(),
    {{schema}}._floor(text),
    {{schema}}._lock_subscriptions(),
    {{schema}}._operation(text, text, text, json, json, json),
    {{schema}}._check_settings(json),
    {{schema}}._setting(json, text, bigint),
    {{schema}}._visible(),
    {{schema}}._streams(text[]),
    {{schema}}._lease(interval),
    {{schema}}._lanes(smallint[], integer),
    {{schema}}._live(text),
    {{schema}}._subscription(text),
    {{schema}}._read_committed();
DROP TABLE {{schema}}.worker;
DROP TABLE {{schema}}.parked;
DROP TABLE {{schema}}.checkpoint;
DROP TABLE {{schema}}.lane;
DROP TABLE {{schema}}.subscription;
DROP INDEX {{schema}}.dead_letter_subscription;
DROP INDEX {{schema}}.log_stream_seq_lane;
CREATE INDEX log_stream_lane_seq ON {{schema}}.log (stream_id, lane, seq);
