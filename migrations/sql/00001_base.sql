-- +goose Up
CREATE TABLE {{schema}}.schema_version (
    version         integer NOT NULL,
    compatible_from integer NOT NULL
);
CREATE UNIQUE INDEX schema_version_one_row ON {{schema}}.schema_version ((true));
INSERT INTO {{schema}}.schema_version VALUES (1, 1);
COMMENT ON TABLE {{schema}}.schema_version IS 'One row: the version of this schema, and the oldest version of walbridge that works with it.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.lanes() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT {{lanes}} $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.lanes() IS 'The number of lanes, fixed when the schema was made.';

-- +goose StatementBegin
CREATE FUNCTION {{schema}}.lane(partition_key text) RETURNS smallint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$
    SELECT ((get_byte(h, 0)::bigint * 16777216 + get_byte(h, 1) * 65536 + get_byte(h, 2) * 256 + get_byte(h, 3)) % {{lanes}})::smallint
    FROM (SELECT pg_catalog.sha256(pg_catalog.convert_to($1, 'UTF8'))) AS hash (h)
    $$;
-- +goose StatementEnd
COMMENT ON FUNCTION {{schema}}.lane(text) IS 'The lane of a key: the first 4 bytes of its SHA-256, big-endian, modulo the number of lanes.';

CREATE TABLE {{schema}}.operation (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    who          text NOT NULL,
    from_addr    inet DEFAULT inet_client_addr(),
    tool_version text NOT NULL,
    command      text NOT NULL,
    target       text,
    arguments    json,
    before       json,
    after        json
);
COMMENT ON TABLE {{schema}}.operation IS 'What operators did, written in the transaction of the deed. Append-only.';

-- +goose Down
DROP TABLE {{schema}}.operation;
DROP FUNCTION {{schema}}.lane(text);
DROP FUNCTION {{schema}}.lanes();
DROP TABLE {{schema}}.schema_version;
