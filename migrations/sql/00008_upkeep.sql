-- +goose Up
-- The newest row that added to log, however many idle marks are behind it.
CREATE INDEX batch_last_seq ON {{schema}}.batch (source, n) WHERE last_seq IS NOT NULL;

-- A seq such that nothing at or below it will ever appear: the log's lock orders
-- writers, so what was taken before a visible batch has been committed or never will.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION {{schema}}._visible() RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    SELECT coalesce(max(b.last_seq), 0) FROM {{schema}}.source s CROSS JOIN LATERAL (
        SELECT b.last_seq FROM {{schema}}.batch b WHERE b.source = s.name AND b.last_seq IS NOT NULL ORDER BY b.n DESC LIMIT 1) b
    $$;
-- +goose StatementEnd

-- Retention. The decision is the floor of a kind, one committed row: what lies below
-- it is going, no start below it is given. Taking the partitions away can be tried,
-- broken off and tried again at any time afterwards.

CREATE TABLE {{schema}}.retention (
    kind        text PRIMARY KEY CHECK (kind IN ('event', 'change')),
    min_age     interval NOT NULL DEFAULT '1 day',
    max_age     interval NOT NULL DEFAULT '7 days',
    max_bytes   bigint NOT NULL DEFAULT 0,
    on_exceeded text NOT NULL DEFAULT 'expire' CHECK (on_exceeded IN ('expire', 'keep')),
    floor       bigint NOT NULL DEFAULT 0,
    held_by     text[] NOT NULL DEFAULT '{}',
    held_since  timestamptz
);
INSERT INTO {{schema}}.retention (kind) VALUES ('event'), ('change');
COMMENT ON TABLE {{schema}}.retention IS 'How long log keeps its items, by kind. Change it with set_retention.';
COMMENT ON COLUMN {{schema}}.retention.floor IS 'Items below this seq are going, or gone.';
COMMENT ON COLUMN {{schema}}.retention.held_by IS 'The subscriptions for which log is kept beyond its limits; held_since when there are any.';

CREATE TABLE {{schema}}.closed_partition (
    kind      text NOT NULL,
    lower     bigint NOT NULL,
    closed_at timestamptz NOT NULL,
    PRIMARY KEY (kind, lower)
);
COMMENT ON TABLE {{schema}}.closed_partition IS 'Since when a partition of log gets no more rows: its age counts from there.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._partitions(kind text)
    RETURNS TABLE (oid oid, name text, parent text, lower bigint, upper bigint, pending boolean)
    LANGUAGE sql STABLE
    AS $$
    SELECT p.oid, format('%I.%I', {{schema_name_literal}}, p.relname), format('%I.%I', {{schema_name_literal}}, 'log_' || $1),
        (regexp_match(p.bound, 'FROM \(''?(\d+)''?\)'))[1]::bigint, (regexp_match(p.bound, 'TO \(''?(\d+)''?\)'))[1]::bigint, p.inhdetachpending
    FROM (
        SELECT c.oid, c.relname, pg_get_expr(c.relpartbound, c.oid) AS bound, i.inhdetachpending
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = format('%I.%I', {{schema_name_literal}}, 'log_' || $1)::regclass) p
    $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION {{schema}}._floor(kind text) RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    SELECT greatest((SELECT r.floor FROM {{schema}}.retention r WHERE r.kind = $1),
        (SELECT min(p.lower) FROM {{schema}}._partitions($1) p WHERE NOT p.pending), 0)
    $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.set_retention(kind text, min_age interval, max_age interval, max_bytes bigint DEFAULT 0, on_exceeded text DEFAULT 'expire', tool_version text DEFAULT 'sql')
    RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    AS $$
DECLARE
    old {{schema}}.retention;
    new {{schema}}.retention;
BEGIN
    PERFORM {{schema}}._read_committed();
    IF $1 IS NULL OR $1 NOT IN ('event', 'change') OR $2 IS NULL OR $3 IS NULL OR $2 < '0' OR $3 < $2 OR $4 IS NULL OR $4 < 0
        OR $5 IS NULL OR $5 NOT IN ('expire', 'keep') THEN
        RAISE EXCEPTION 'set_retention: kind %, min_age %, max_age %, max_bytes %, on_exceeded %', $1, $2, $3, $4, $5 USING ERRCODE = 'WB002';
    END IF;
    PERFORM {{schema}}._lock_subscriptions();
    SELECT * INTO old FROM {{schema}}.retention r WHERE r.kind = $1;
    IF (old.min_age, old.max_age, old.max_bytes, old.on_exceeded) IS NOT DISTINCT FROM ($2, $3, $4, $5) THEN
        RETURN;
    END IF;
    UPDATE {{schema}}.retention r SET min_age = $2, max_age = $3, max_bytes = $4, on_exceeded = $5 WHERE r.kind = $1 RETURNING * INTO new;
    PERFORM {{schema}}._operation($6, 'set retention', $1, NULL, row_to_json(old), row_to_json(new));
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.set_retention(text, interval, interval, bigint, text, text) IS 'Says how long log keeps the items of a kind (event or change). max_bytes 0: no limit. on_exceeded: expire the subscriptions that hold more, or keep it; a subscription''s own setting on_exceeded wins. WB002 argument.';

-- Whether a subscription has settled all that a range of log can hold.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._passed(subscription text, lower bigint, upper bigint) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT NOT EXISTS (
        SELECT FROM {{schema}}.lane l CROSS JOIN LATERAL {{schema}}._checkpoint($1, l.lane) c
        WHERE l.subscription = $1 AND NOT (c.settled + int8multirange(int8range(NULL, c.seq, '[]'))) @> int8range($2, $3))
    $$;
-- +goose StatementEnd

-- Raises the floor of one kind past the partitions that may go: from the oldest on,
-- up to the first that stays.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._retain(of_kind text, tool_version text)
    RETURNS TABLE (kind text, what text, subscription text, seq bigint, since timestamptz)
    LANGUAGE plpgsql VOLATILE
    AS $$
#variable_conflict use_column
DECLARE
    policy {{schema}}.retention;
    part record;
    total bigint;
    age interval;
    exceeded boolean;
    holders text[];
    keepers text[] := '{}';
    holder text;
BEGIN
    SELECT * INTO policy FROM {{schema}}.retention r WHERE r.kind = $1;
    INSERT INTO {{schema}}.closed_partition (kind, lower, closed_at)
        SELECT $1, p.lower, coalesce((SELECT min(b.written_at) FROM {{schema}}.batch b WHERE b.last_seq >= p.upper - 1), clock_timestamp())
        FROM {{schema}}._partitions($1) p
        WHERE p.lower >= policy.floor AND NOT p.pending AND p.upper - 1 <= {{schema}}._visible()
        ON CONFLICT DO NOTHING;
    SELECT sum(pg_total_relation_size(p.oid)) INTO total FROM {{schema}}._partitions($1) p WHERE p.lower >= policy.floor;
    FOR part IN
        SELECT p.lower, p.upper, c.closed_at, pg_total_relation_size(p.oid) AS bytes
        FROM {{schema}}._partitions($1) p JOIN {{schema}}.closed_partition c ON c.kind = $1 AND c.lower = p.lower
        WHERE p.lower >= policy.floor ORDER BY p.lower
    LOOP
        age := clock_timestamp() - part.closed_at;
        exceeded := age >= policy.max_age OR (policy.max_bytes > 0 AND total > policy.max_bytes);
        EXIT WHEN NOT exceeded AND age < policy.min_age;
        holders := ARRAY(SELECT s.name FROM {{schema}}.subscription s
            WHERE s.state <> 'expired' AND NOT {{schema}}._passed(s.name, part.lower, part.upper) ORDER BY 1);
        EXIT WHEN NOT exceeded AND (cardinality(holders) > 0 OR NOT EXISTS (SELECT FROM {{schema}}.subscription s WHERE s.state <> 'expired'));
        -- Where one keeps the partition, to expire the others would gain nothing.
        keepers := ARRAY(SELECT s.name FROM {{schema}}.subscription s
            WHERE s.name = ANY (holders) AND coalesce(s.settings ->> 'on_exceeded', policy.on_exceeded) = 'keep' ORDER BY 1);
        EXIT WHEN cardinality(keepers) > 0;
        FOREACH holder IN ARRAY holders LOOP
            PERFORM {{schema}}._set_state(holder, 'expired', 'expire', $2);
            RETURN QUERY SELECT $1, 'expired', holder, part.lower, part.closed_at;
        END LOOP;
        UPDATE {{schema}}.retention r SET floor = part.upper WHERE r.kind = $1;
        DELETE FROM {{schema}}.closed_partition c WHERE c.kind = $1 AND c.lower <= part.lower;
        total := total - part.bytes;
    END LOOP;
    IF keepers <> policy.held_by THEN
        UPDATE {{schema}}.retention r SET held_by = keepers,
            held_since = CASE WHEN cardinality(keepers) > 0 THEN coalesce(r.held_since, clock_timestamp()) END WHERE r.kind = $1;
    END IF;
    RETURN QUERY SELECT $1, 'held', u.name, part.lower, r.held_since
        FROM unnest(keepers) AS u (name) JOIN {{schema}}.retention r ON r.kind = $1;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.retain(tool_version text DEFAULT 'sql')
    RETURNS TABLE (kind text, what text, subscription text, seq bigint, since timestamptz)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '1s'
    AS $$
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lock_subscriptions();
    RETURN QUERY SELECT * FROM {{schema}}._retain('event', $1);
    RETURN QUERY SELECT * FROM {{schema}}._retain('change', $1);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.retain(text) IS 'Decides which partitions of log go, and raises the floor past them. Returns the subscriptions that have expired just now (what = expired), and those for which log is kept beyond its limits (held): seq is the first that they hold. Call detachments and drop_partitions afterwards.';

-- DETACH … CONCURRENTLY runs in no function and no transaction block (ALTER TABLE in
-- the manual), so the caller sends it. One partition of a parent may be pending.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}.detachments() RETURNS TABLE (statement text, owner name)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT format('ALTER TABLE %s DETACH PARTITION %s CONCURRENTLY', p.parent, p.name), pg_get_userbyid(c.relowner)
    FROM {{schema}}.retention r CROSS JOIN LATERAL {{schema}}._partitions(r.kind) p JOIN pg_class c ON c.oid = p.parent::regclass
    WHERE p.upper <= r.floor AND NOT EXISTS (SELECT FROM {{schema}}._partitions(r.kind) q WHERE q.pending)
    ORDER BY r.kind, p.lower
    $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.detachments() IS 'The statements that take partitions below the floor out of log without stopping anybody, each to be sent by itself under a lock_timeout, by a role that has the rights of the owner (pg_has_role(owner, ''USAGE'')). One that fails leaves its partition pending: drop_partitions completes it.';

-- Completes what a broken off DETACH left, and drops what is no partition any more:
-- found by name, since a crash may lie between the two.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}.drop_partitions(attached boolean DEFAULT false) RETURNS TABLE (name text, result text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '1s'
    AS $$
#variable_conflict use_column
DECLARE
    part record;
BEGIN
    PERFORM {{schema}}._read_committed();
    FOR part IN
        SELECT p.name, p.parent, p.pending FROM {{schema}}.retention r CROSS JOIN LATERAL {{schema}}._partitions(r.kind) p
        WHERE p.upper <= r.floor AND p.pending
        UNION ALL
        SELECT format('%I.%I', {{schema_name_literal}}, c.relname), NULL, false
        FROM {{schema}}.retention r JOIN pg_class c ON c.relname ~ ('^log_' || r.kind || '_[0-9]{19}$') AND c.relkind = 'r' AND NOT c.relispartition
        WHERE c.relnamespace = {{schema_literal}}::regnamespace AND right(c.relname, 19)::bigint < r.floor
        ORDER BY 1
    LOOP
        BEGIN
            IF part.pending THEN
                EXECUTE format('ALTER TABLE %s DETACH PARTITION %s FINALIZE', part.parent, part.name);
            END IF;
            EXECUTE format('DROP TABLE %s', part.name);
            RETURN QUERY SELECT part.name, 'dropped';
        EXCEPTION WHEN lock_not_available THEN
            RETURN QUERY SELECT part.name, 'in use';
        END;
    END LOOP;
    IF NOT attached THEN
        RETURN;
    END IF;
    -- This stops whoever comes behind it, so it hardly waits, and does one: the lock is
    -- held to the end of the transaction.
    SELECT p.name, p.parent INTO part FROM {{schema}}.retention r CROSS JOIN LATERAL {{schema}}._partitions(r.kind) p
    WHERE p.upper <= r.floor AND NOT p.pending ORDER BY p.lower LIMIT 1;
    IF FOUND THEN
        PERFORM set_config('lock_timeout', '50ms', true);
        BEGIN
            EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', part.parent, part.name);
            RETURN QUERY SELECT part.name, 'detached';
        EXCEPTION WHEN lock_not_available THEN
            RETURN QUERY SELECT part.name, 'in use';
        END;
    END IF;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.drop_partitions(boolean) IS 'Drops what detachments took out of log. attached: for roles that may not send those statements, takes one partition out as well, unless somebody uses log for longer than 50 ms; call again after detached.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.keep_partitions(ahead integer DEFAULT 2, size bigint DEFAULT 10000000) RETURNS bigint
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT {{schema}}.make_partitions((SELECT last_value FROM {{schema}}.log_seq), $1, $2) $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.keep_partitions(integer, bigint) IS 'Makes the partitions that lie ahead of what has been written.';

-- Without a bridge: one worker of all has the upkeep.

CREATE TABLE {{schema}}.keeper (
    owner            text,
    lease_expires_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    mover            text NOT NULL DEFAULT 'auto' CHECK (mover IN ('auto', 'on', 'off'))
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX keeper_one_row ON {{schema}}.keeper ((true));
INSERT INTO {{schema}}.keeper DEFAULT VALUES;
COMMENT ON TABLE {{schema}}.keeper IS 'One row: which worker has the upkeep, and whether inbox rows are moved to log by workers (auto: when no bridge has ever opened this schema).';

ALTER TABLE {{schema}}.batch
    ADD COLUMN inbox_low bigint, ADD COLUMN inbox_seen int8multirange, ADD COLUMN inbox_high bigint, ADD COLUMN inbox_waits text[];
COMMENT ON COLUMN {{schema}}.batch.inbox_low IS 'Of the source inbox: its rows up to this n are in log or will never be, and those in inbox_seen.';
COMMENT ON COLUMN {{schema}}.batch.inbox_waits IS 'Of the source inbox: transactions that may yet fill the gaps below inbox_high.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._moves() RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT k.mover = 'on' OR (k.mover = 'auto' AND NOT EXISTS (SELECT FROM {{schema}}.source s WHERE s.name <> 'inbox')) FROM {{schema}}.keeper k
    $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.lease_upkeep(worker text, lease interval DEFAULT '30 s', OUT mine boolean, OUT moves boolean, OUT keeps boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    k {{schema}}.keeper;
BEGIN
    PERFORM {{schema}}._read_committed();
    PERFORM {{schema}}._lease($2);
    IF $1 IS NULL OR $1 = '' THEN
        RAISE EXCEPTION 'lease_upkeep: worker "%"', $1 USING ERRCODE = 'WB002';
    END IF;
    SELECT * INTO k FROM {{schema}}.keeper FOR NO KEY UPDATE SKIP LOCKED;
    mine := FOUND AND (k.owner IS NULL OR k.owner = $1 OR k.lease_expires_at <= clock_timestamp());
    IF NOT mine THEN
        RETURN;
    END IF;
    UPDATE {{schema}}.keeper SET owner = $1, lease_expires_at = clock_timestamp() + $2;
    moves := {{schema}}._moves();
    keeps := NOT EXISTS (
        SELECT FROM {{schema}}.source s LEFT JOIN LATERAL (SELECT b.written_at FROM {{schema}}.batch b WHERE b.source = s.name ORDER BY b.n DESC LIMIT 1) b ON true
        WHERE s.name <> 'inbox' AND greatest(s.opened_at, b.written_at) > clock_timestamp() - interval '15 min');
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.lease_upkeep(text, interval) IS 'Takes or renews the upkeep: mine says whether it is this worker''s. moves: call move_inbox; keeps: no bridge has been heard of for 15 minutes, call keep_partitions, retain, drop_partitions. The lease saves work and fences nothing: each of these is safe to call at any time by anybody.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.leave_upkeep(worker text) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$ UPDATE {{schema}}.keeper SET owner = NULL WHERE owner = $1 $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.leave_upkeep(text) IS 'Gives the upkeep to whoever asks next.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.set_mover(mode text, tool_version text DEFAULT 'sql') RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
    AS $$
DECLARE
    old text;
BEGIN
    IF $1 IS NULL OR $1 NOT IN ('auto', 'on', 'off') THEN
        RAISE EXCEPTION 'set_mover: "%" is neither auto, on nor off', $1 USING ERRCODE = 'WB002';
    END IF;
    PERFORM {{schema}}._lock_inbox();
    SELECT mover INTO old FROM {{schema}}.keeper FOR NO KEY UPDATE;
    UPDATE {{schema}}.keeper SET mover = $1;
    PERFORM {{schema}}._operation($2, 'set mover', NULL, NULL, to_json(old), to_json($1));
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.set_mover(text, text) IS 'Whether workers move rows of inbox to log: auto (when no bridge has ever opened this schema), on (bridges here do not read this inbox), off. When it returns, no move is under way. WB002 argument.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}._lock_inbox() RETURNS void
    LANGUAGE sql VOLATILE
    AS $$ SELECT pg_catalog.pg_advisory_xact_lock({{inbox_lock}}, {{schema_literal}}::regnamespace::oid::integer) $$;
-- +goose StatementEnd

-- The transactions that may have a number of inbox in hand. An INSERT has this lock
-- before it takes a number and keeps it until its transaction has ended and become
-- visible; an xid it may get only afterwards.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._inbox_writers() RETURNS text[]
    LANGUAGE sql VOLATILE
    AS $$
    SELECT coalesce(array_agg(DISTINCT l.virtualtransaction), '{}') FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.relation = '{{schema_in_literal}}.inbox'::regclass
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        AND l.mode = 'RowExclusiveLock' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
    $$;
-- +goose StatementEnd

-- What is left of the transactions that were waited for. One that has been prepared
-- is found under another name.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._inbox_left(waits text[]) RETURNS text[]
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    now text[] := {{schema}}._inbox_writers();
    remain text[] := ARRAY(SELECT w FROM unnest(waits) w WHERE w = ANY (now) ORDER BY 1);
BEGIN
    IF cardinality(remain) < cardinality(waits) THEN
        remain := remain || ARRAY(SELECT w FROM unnest(now) w WHERE w LIKE '-1/%' AND w <> ALL (remain) ORDER BY 1);
    END IF;
    RETURN remain;
END
$$;
-- +goose StatementEnd

-- The member type of a payload, when it is a text that the server can read.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._type(payload json) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    RETURN CASE WHEN json_typeof(payload) = 'object' AND json_typeof(payload -> 'type') = 'string' THEN payload ->> 'type' END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- Appends rows of inbox to log, in the order of n, and returns the first seq.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}._append_inbox(ns bigint[], at pg_lsn) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    AS $$
DECLARE
    first bigint;
BEGIN
    -- Before the log is locked: a name that another transaction is adding is waited for.
    INSERT INTO {{schema}}.stream (name)
        SELECT DISTINCT coalesce(nullif(i.stream, ''), 'inbox') FROM {{schema}}.inbox i
        WHERE i.n = ANY ($1) AND NOT EXISTS (SELECT FROM {{schema}}.stream t WHERE t.name = coalesce(nullif(i.stream, ''), 'inbox'))
        ON CONFLICT DO NOTHING;
    PERFORM {{schema}}.lock_log();
    first := {{schema}}.take_seq(cardinality($1));
    INSERT INTO {{schema}}.log (seq, commit_lsn, tx_seq, committed_at, created_at, available_at, stream_id, sub, lane, tx_end, kind, stream,
            partition_key, idempotency_key, type, source, payload, headers)
        SELECT first + u.i - 1, $2, i.n, clock_timestamp(), i.created_at, i.available_at, t.id, 0, {{schema}}.lane(i.partition_key), true, 'event', t.name,
            i.partition_key, coalesce(i.idempotency_key, i.id::text), coalesce(i.type, {{schema}}._type(i.payload)), 'inbox', i.payload, i.headers
        FROM unnest($1) WITH ORDINALITY AS u (n, i)
        JOIN {{schema}}.inbox i ON i.n = u.n
        JOIN {{schema}}.stream t ON t.name = coalesce(nullif(i.stream, ''), 'inbox');
    RETURN first;
END
$$;
-- +goose StatementEnd

-- One call is one transaction of the source inbox. Its state is the latest row of
-- batch, so any session may call it next. Rows that are visible are moved at once, a
-- number without a row is a gap: it is given up when every transaction that could
-- have taken it has ended before a later snapshot, and it is still a gap there.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}.move_inbox(max_items integer DEFAULT 1000, mark boolean DEFAULT false, OUT moved integer, OUT more boolean, OUT gaps integer, OUT waits_for integer)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '1s'
    SET enable_seqscan = off
    AS $$
DECLARE
    old {{schema}}.batch;
    new {{schema}}.batch;
    flushed pg_lsn;
    todo int8multirange;
    done int8multirange;
    ns bigint[];
    pass_to bigint;
BEGIN
    PERFORM {{schema}}._read_committed();
    IF $1 IS NULL OR $1 NOT BETWEEN 1 AND 100000 THEN
        RAISE EXCEPTION 'move_inbox: max_items %', $1 USING ERRCODE = 'WB002';
    END IF;
    moved := 0;
    more := false;
    gaps := 0;
    waits_for := 0;
    PERFORM {{schema}}._lock_inbox();
    IF NOT {{schema}}._moves() THEN
        RETURN;
    END IF;
    SELECT * INTO old FROM {{schema}}.batch b WHERE b.source = 'inbox' ORDER BY b.n DESC LIMIT 1;
    IF NOT FOUND THEN
        INSERT INTO {{schema}}.source (name) VALUES ('inbox') ON CONFLICT DO NOTHING;
        old.n := 0;
        old.end_lsn := '0/0';
        old.last_tx_end := '0/0';
        old.inbox_low := 0;
        old.inbox_seen := '{}';
        old.inbox_waits := '{}';
    END IF;
    new := old;
    IF old.inbox_high IS NOT NULL THEN
        new.inbox_waits := {{schema}}._inbox_left(old.inbox_waits);
    END IF;
    -- Whoever reads a position after its commit reads at least this: flushed positions
    -- only grow.
    flushed := pg_current_wal_flush_lsn();
    todo := int8multirange(int8range(old.inbox_low + 1, NULL)) - old.inbox_seen;
    SELECT coalesce(array_agg(f.n ORDER BY f.n), '{}') INTO ns FROM (
        SELECT i.n FROM unnest(todo) AS r CROSS JOIN LATERAL (
            SELECT i.n FROM {{schema}}.inbox i WHERE i.n >= lower(r) AND i.n < coalesce(upper(r), 9223372036854775807) ORDER BY i.n LIMIT $1) i
        ORDER BY i.n LIMIT $1) f;
    moved := cardinality(ns);
    more := moved = $1;
    done := old.inbox_seen + int8multirange(int8range(NULL, old.inbox_low, '[]')) + coalesce((SELECT range_agg(int8range(u.n, u.n, '[]')) FROM unnest(ns) AS u (n)), '{}');
    IF old.inbox_high IS NOT NULL AND cardinality(new.inbox_waits) = 0 THEN
        pass_to := CASE WHEN more THEN least(old.inbox_high, ns[moved]) ELSE old.inbox_high END;
        done := done + int8multirange(int8range(NULL, pass_to));
        new.inbox_high := CASE WHEN pass_to < old.inbox_high THEN old.inbox_high END;
    END IF;
    SELECT upper(r) - 1 INTO new.inbox_low FROM unnest(done) AS r WHERE lower_inf(r);
    new.inbox_seen := done - int8multirange(int8range(NULL, new.inbox_low, '[]'));
    SELECT count(*) INTO gaps FROM unnest(new.inbox_seen);
    IF gaps > 0 AND new.inbox_high IS NULL THEN
        new.inbox_high := upper(new.inbox_seen) - 1;
        new.inbox_waits := {{schema}}._inbox_writers();
    END IF;
    waits_for := CASE WHEN new.inbox_high IS NULL THEN 0 ELSE cardinality(new.inbox_waits) END;
    IF NOT more THEN
        -- One less: a commit that has been flushed may not have been visible yet.
        new.end_lsn := greatest(old.end_lsn, flushed - 1);
        new.last_tx_end := greatest(old.last_tx_end, flushed);
    END IF;
    IF moved = 0 AND (new.inbox_low, new.inbox_seen, new.inbox_high) IS NOT DISTINCT FROM (old.inbox_low, old.inbox_seen, old.inbox_high)
        AND new.inbox_waits <@ old.inbox_waits
        AND (new.end_lsn = old.end_lsn OR NOT mark AND old.written_at > clock_timestamp() - interval '1 min' AND NOT EXISTS (
            -- Two marks follow what was moved, so that its position is passed at once.
            SELECT FROM {{schema}}.batch b WHERE b.source = 'inbox' AND b.n > old.n - 2 AND b.last_seq IS NOT NULL)
            -- And for those who wait: two in 0.2 s, those with mark among them.
            AND (EXISTS (SELECT FROM {{schema}}.batch b WHERE b.source = 'inbox' AND b.n = old.n - 1 AND b.written_at > clock_timestamp() - interval '0.2 s')
                OR NOT {{schema}}._waited_for('inbox'))) THEN
        RETURN;
    END IF;
    new.first_seq := CASE WHEN moved > 0 THEN {{schema}}._append_inbox(ns, old.last_tx_end) END;
    INSERT INTO {{schema}}.batch (source, n, first_seq, last_seq, end_lsn, last_tx_end, timeline, commit_ts, inbox_low, inbox_seen, inbox_high, inbox_waits)
        VALUES ('inbox', old.n + 1, new.first_seq, new.first_seq + moved - 1, new.end_lsn, new.last_tx_end, 0, clock_timestamp(),
            new.inbox_low, new.inbox_seen, new.inbox_high, new.inbox_waits);
    IF old.n % 200 = 0 THEN
        DELETE FROM {{schema}}.batch b WHERE b.source = 'inbox' AND b.n BETWEEN old.n - 1200 AND old.n - 1000 AND b.n <> (
            SELECT c.n FROM {{schema}}.batch c WHERE c.source = 'inbox' AND c.last_seq IS NOT NULL ORDER BY c.n DESC LIMIT 1);
    END IF;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.move_inbox(integer, boolean) IS 'Appends rows of inbox to log, each once: rows that are visible together in order of n, and never a row before one that had committed before its number was taken. more: call again at once. gaps: numbers without a row that are not given up yet, as ranges; waits_for: transactions that may yet fill them. How far it is is stored with rows, once a minute while there are none, when somebody waits for it (see wait_for), and with mark at every call. Nothing where a bridge reads the inbox (see set_mover). 55P03 log or another mover is busy: call again; 23514 without a constraint''s name: keep_partitions is due.';

-- The search for the lowest row would pass all that were deleted and not vacuumed
-- yet, so it begins where the last call ended.
-- +goose StatementBegin
CREATE FUNCTION {{schema}}.prune_inbox(dedupe_window interval DEFAULT '7 days', after bigint DEFAULT 0, max_rows integer DEFAULT 1000, OUT deleted integer, OUT upto bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '1s'
    SET enable_seqscan = off
    AS $$
DECLARE
    ns bigint[];
BEGIN
    IF $1 IS NULL OR $1 < '0' OR $2 IS NULL OR $3 IS NULL OR $3 NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'prune_inbox: dedupe_window %, after %, max_rows %', $1, $2, $3 USING ERRCODE = 'WB002';
    END IF;
    SELECT array_agg(i.n) INTO ns FROM (
        SELECT i.n, i.created_at FROM {{schema}}.inbox i
        WHERE i.n > $2 AND i.n <= (SELECT b.inbox_low FROM {{schema}}.batch b WHERE b.source = 'inbox' ORDER BY b.n DESC LIMIT 1)
        ORDER BY i.n LIMIT $3) i
    WHERE i.created_at < clock_timestamp() - $1;
    DELETE FROM {{schema}}.inbox i WHERE i.n = ANY (ns);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    -- What is younger among them is looked at again.
    upto := CASE WHEN deleted = $3 THEN (SELECT max(n) FROM unnest(ns) n) ELSE $2 END;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.prune_inbox(interval, bigint, integer) IS 'Deletes rows of inbox that move_inbox has moved and that are older than the window: until then their idempotency keys are refused. Call again with after => upto while deleted is max_rows.';

REVOKE ALL ON FUNCTION
    {{schema}}._partitions(text),
    {{schema}}.set_retention(text, interval, interval, bigint, text, text),
    {{schema}}._passed(text, bigint, bigint),
    {{schema}}._retain(text, text),
    {{schema}}.retain(text),
    {{schema}}.detachments(),
    {{schema}}.drop_partitions(boolean),
    {{schema}}.keep_partitions(integer, bigint),
    {{schema}}._moves(),
    {{schema}}.lease_upkeep(text, interval),
    {{schema}}.leave_upkeep(text),
    {{schema}}.set_mover(text, text),
    {{schema}}._lock_inbox(),
    {{schema}}._inbox_writers(),
    {{schema}}._inbox_left(text[]),
    {{schema}}._type(json),
    {{schema}}._append_inbox(bigint[], pg_lsn),
    {{schema}}.move_inbox(integer, boolean),
    {{schema}}.prune_inbox(interval, bigint, integer)
    FROM PUBLIC;

UPDATE {{schema}}.schema_version SET version = 8, compatible_from = 5;

-- +goose Down
UPDATE {{schema}}.schema_version SET version = 7, compatible_from = 5;
DROP FUNCTION
    {{schema}}.prune_inbox(interval, bigint, integer),
    {{schema}}.move_inbox(integer, boolean),
    {{schema}}._append_inbox(bigint[], pg_lsn),
    {{schema}}._type(json),
    {{schema}}._inbox_left(text[]),
    {{schema}}._inbox_writers(),
    {{schema}}.set_mover(text, text),
    {{schema}}._lock_inbox(),
    {{schema}}.leave_upkeep(text),
    {{schema}}.lease_upkeep(text, interval),
    {{schema}}._moves(),
    {{schema}}.keep_partitions(integer, bigint),
    {{schema}}.drop_partitions(boolean),
    {{schema}}.detachments(),
    {{schema}}.retain(text),
    {{schema}}._retain(text, text),
    {{schema}}._passed(text, bigint, bigint),
    {{schema}}.set_retention(text, interval, interval, bigint, text, text);
ALTER TABLE {{schema}}.batch
    DROP COLUMN inbox_low, DROP COLUMN inbox_seen, DROP COLUMN inbox_high, DROP COLUMN inbox_waits;
DROP TABLE {{schema}}.keeper;
DROP TABLE {{schema}}.closed_partition;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION {{schema}}._floor(kind text) RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    SELECT coalesce(min((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''?(\d+)''?\)'))[1]::bigint), 0)
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = format('%I.%I', {{schema_name_literal}}, 'log_' || kind)::regclass AND NOT i.inhdetachpending
    $$;
-- +goose StatementEnd
DROP FUNCTION {{schema}}._partitions(text);
DROP TABLE {{schema}}.retention;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION {{schema}}._visible() RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    SELECT coalesce(max(b.last_seq), 0) FROM {{schema}}.source s CROSS JOIN LATERAL (
        SELECT b.last_seq FROM (SELECT last_seq FROM {{schema}}.batch WHERE source = s.name ORDER BY n DESC LIMIT 100) b
        WHERE b.last_seq IS NOT NULL LIMIT 1) b
    $$;
-- +goose StatementEnd
DROP INDEX {{schema}}.batch_last_seq;
