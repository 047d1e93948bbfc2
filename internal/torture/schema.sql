-- The tables of the workload: one of each shape that replication treats differently.
CREATE SCHEMA load;
CREATE SCHEMA load_truth;

-- Every row with a key has a version, which begins like no other and rises by one
-- with each update: an update that was lost shows at the next one of its row, though
-- that brings the whole row.
CREATE SEQUENCE load_truth.version INCREMENT 1000;
CREATE FUNCTION load_truth.bump() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.ver := OLD.ver + 1;
    RETURN NEW;
END
$$;

-- An integer key. Whole ranges of it come and go in transactions larger than a batch.
CREATE TABLE load.item (
    id   int PRIMARY KEY,
    n    bigint,
    v    text,
    num  numeric,
    flag boolean,
    at   timestamptz
);

-- A uuid key, and the types whose JSON form is not their text.
CREATE TABLE load.doc (
    id    uuid PRIMARY KEY,
    title text,
    body  jsonb,
    raw   json,
    bytes bytea,
    tags  text[],
    nums  int[],
    f     double precision,
    day   date,
    ts    timestamp
);

-- A text key with every character that quoting can get wrong.
CREATE TABLE load.label (
    code text PRIMARY KEY,
    v    text
);

-- A key of several columns, which are not the first ones.
CREATE TABLE load.line (
    qty      int,
    order_id int,
    pos      smallint,
    note     text,
    PRIMARY KEY (order_id, pos)
);

-- No key: the whole old row is sent, equal rows are common.
CREATE TABLE load.reading (
    sensor text,
    value  double precision,
    at     timestamptz
);
ALTER TABLE load.reading REPLICA IDENTITY FULL;

-- The identity is an index other than the primary key's.
CREATE TABLE load.asset (
    pk    bigserial PRIMARY KEY,
    owner int NOT NULL,
    tag   text NOT NULL,
    v     text
);
CREATE UNIQUE INDEX asset_identity ON load.asset (tag, owner);
ALTER TABLE load.asset REPLICA IDENTITY USING INDEX asset_identity;

-- Values kept out of line, under the key as identity: an update that leaves them
-- alone does not send them.
CREATE TABLE load.blob (
    id    int PRIMARY KEY,
    n     int,
    big   text,
    bytes bytea
);
ALTER TABLE load.blob ALTER big SET STORAGE EXTERNAL, ALTER bytes SET STORAGE EXTERNAL;

-- The same under REPLICA IDENTITY FULL.
CREATE TABLE load.blob_full (
    id  int PRIMARY KEY,
    n   int,
    big text
);
ALTER TABLE load.blob_full ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;

-- Partitions; rows move between them.
CREATE TABLE load.part (
    region text,
    id     int,
    v      text,
    PRIMARY KEY (region, id)
) PARTITION BY LIST (region);
CREATE TABLE load.part_a PARTITION OF load.part FOR VALUES IN ('a');
CREATE TABLE load.part_b PARTITION OF load.part FOR VALUES IN ('b');
CREATE TABLE load.part_rest PARTITION OF load.part DEFAULT;

-- Its columns change all the time.
CREATE TABLE load.shape (
    id int PRIMARY KEY,
    v  text
);

-- Transfers: the sum of all balances is 0 at the end of each transaction.
CREATE TABLE load.account (
    id      int PRIMARY KEY,
    balance bigint NOT NULL
);

CREATE TABLE load.outbox (
    id            uuid PRIMARY KEY,
    aggregatetype text NOT NULL,
    aggregateid   text NOT NULL,
    type          text NOT NULL,
    payload       jsonb NOT NULL,
    headers       jsonb
);

-- How many rows each statement changed.
CREATE TABLE load_truth.audit (
    name text   NOT NULL,
    op   text   NOT NULL,
    n    bigint NOT NULL
);
CREATE FUNCTION load_truth.count_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO load_truth.audit SELECT 'load.' || TG_TABLE_NAME, lower(TG_OP), n FROM (SELECT count(*) FROM changed) c (n) WHERE n > 0;
    RETURN NULL;
END
$$;
CREATE FUNCTION load_truth.count_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO load_truth.audit VALUES ('load.' || TG_TABLE_NAME, 'truncate', 1);
    RETURN NULL;
END
$$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['item', 'doc', 'label', 'line', 'reading', 'asset', 'blob', 'blob_full', 'part', 'shape', 'account'] LOOP
        IF name <> 'reading' THEN -- whose rows may be equal
            EXECUTE format('ALTER TABLE load.%I ADD COLUMN ver bigint NOT NULL DEFAULT nextval(''load_truth.version'')', name);
            EXECUTE format('CREATE TRIGGER bump BEFORE UPDATE ON load.%I FOR EACH ROW EXECUTE FUNCTION load_truth.bump()', name);
        END IF;
        EXECUTE format('CREATE TRIGGER inserts AFTER INSERT ON load.%I REFERENCING NEW TABLE AS changed EXECUTE FUNCTION load_truth.count_rows()', name);
        EXECUTE format('CREATE TRIGGER updates AFTER UPDATE ON load.%I REFERENCING NEW TABLE AS changed EXECUTE FUNCTION load_truth.count_rows()', name);
        EXECUTE format('CREATE TRIGGER deletes AFTER DELETE ON load.%I REFERENCING OLD TABLE AS changed EXECUTE FUNCTION load_truth.count_rows()', name);
        EXECUTE format('CREATE TRIGGER truncates AFTER TRUNCATE ON load.%I EXECUTE FUNCTION load_truth.count_truncate()', name);
    END LOOP;
END $$;

-- The truth about the events. The row of an aggregate is locked from its event to
-- the commit, so n is its order of commits.
CREATE TABLE load_truth.aggregate (
    id text PRIMARY KEY,
    n  bigint NOT NULL
);
CREATE TABLE load_truth.event (
    id          uuid PRIMARY KEY,
    stream      text NOT NULL,
    aggregateid text NOT NULL,
    n           bigint NOT NULL,
    type        text NOT NULL,
    payload     jsonb NOT NULL,
    headers     jsonb
);

-- Never routed: transactions that touch nothing of ours write here.
CREATE TABLE load_truth.elsewhere (
    n bigint,
    v text
);
