-- +goose Up
-- IF NOT EXISTS, since the inbox can be made alone first, in the source's database.
CREATE TABLE IF NOT EXISTS {{schema}}.inbox (
    n               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
    partition_key   text NOT NULL,
    payload         json NOT NULL,
    idempotency_key text UNIQUE,
    type            text,
    stream          text,
    headers         json,
    available_at    timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE {{schema}}.inbox IS 'Where applications put work, by a plain INSERT in their own transaction.';

UPDATE {{schema}}.schema_version SET version = 5, compatible_from = 5;

-- +goose Down
UPDATE {{schema}}.schema_version SET version = 4, compatible_from = 4;
DROP TABLE {{schema}}.inbox;
