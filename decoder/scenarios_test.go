package decoder_test

import "slices"

// scenario is a piece of a server's life, captured as its walsender sends it.
type scenario struct {
	name    string
	since   int // the first major version that can run it; 0: all
	setup   []string
	publish string // what the publication is for; "" is FOR ALL TABLES
	// options are further ones of START_REPLICATION; proto_version 1 without any.
	options  string
	proto    int
	twoPhase bool // of the slot
	// steps are statements on one connection; with "2:" in front on another, in which
	// each is a transaction. "@E" reads the stream until that message.
	steps []string
}

// fill makes a transaction too large for 64 kB of memory without a byte on the
// wire: the table is not published.
const fill = "INSERT INTO filler SELECT generate_series(1, 1000)"

func scenarios() []scenario {
	return slices.Concat(typeScenarios(), identityScenarios(), tableScenarios(), publicationScenarios(), transactionScenarios(), laterScenarios())
}

// typeScenarios are about values.
func typeScenarios() []scenario {
	return []scenario{
		{
			name:  "types",
			setup: []string{typesTable},
			steps: []string{
				"INSERT INTO types DEFAULT VALUES",
				"INSERT INTO types (i2, i8, num, f4, f8, d, ts, tstz, iv, tm) VALUES (-32768, 9223372036854775807, 'NaN', '-Infinity', '-0', '4713-01-01 BC', 'infinity', '294276-12-31 23:59:59.999999+00', '-1 mon +2 days -03:04:05.000006', '24:00:00')",
				"INSERT INTO types SELECT (jsonb_populate_record(NULL::types, '{}')).*",
			},
		},
		{
			name:    "types-binary",
			setup:   []string{typesTable},
			options: "binary 'true'",
			steps:   []string{"INSERT INTO types DEFAULT VALUES"},
		},
		{
			name: "user-types",
			setup: []string{
				"CREATE SCHEMA s", "CREATE TYPE s.mood AS ENUM ('sad', 'it''s \"ok\"', 'happy')", "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
				"CREATE DOMAIN very_positive AS positive CHECK (VALUE > 10)", "CREATE TYPE pair AS (a int, b text)", "CREATE TYPE span AS RANGE (subtype = float8)",
				"CREATE TABLE u (id int PRIMARY KEY, m s.mood, ms s.mood[], p positive, vp very_positive, ps positive[], c pair, cs pair[], sp span)",
			},
			steps: []string{
				`INSERT INTO u VALUES (1, 'it''s "ok"', '{sad,"it''s \"ok\"",NULL}', 1, 11, '{1,2}', '(1,"a,b")', '{"(1,\"x y\")","(,)"}', '[0,1.5)')`,
				"ALTER TYPE s.mood RENAME VALUE 'sad' TO 'blue'", "ALTER TYPE s.mood RENAME TO temper",
				"INSERT INTO u (id, m) VALUES (2, 'blue')",
			},
		},
	}
}

// identityScenarios are about what comes of the old row, and of values kept out of line.
func identityScenarios() []scenario {
	return []scenario{
		{
			name: "identity",
			setup: []string{
				"CREATE TABLE pk (id int PRIMARY KEY, v text)", "CREATE TABLE idx (id int, code text NOT NULL UNIQUE, v text)", "ALTER TABLE idx REPLICA IDENTITY USING INDEX idx_code_key",
				"CREATE TABLE whole (id int, v text)", "ALTER TABLE whole REPLICA IDENTITY FULL",
				"CREATE TABLE nothing (id int PRIMARY KEY, v text)", "ALTER TABLE nothing REPLICA IDENTITY NOTHING", "CREATE TABLE nokey (id int, v text)",
				"CREATE TABLE nocolumns ()",
			},
			steps: []string{
				"INSERT INTO pk VALUES (1, 'a'); UPDATE pk SET v = 'b'; UPDATE pk SET v = v; UPDATE pk SET id = 2; UPDATE pk SET v = NULL; DELETE FROM pk",
				"INSERT INTO idx VALUES (1, 'x', 'a'); UPDATE idx SET v = 'b'; UPDATE idx SET code = 'y'; DELETE FROM idx",
				"INSERT INTO whole VALUES (1, 'a'), (1, 'a'), (NULL, NULL); UPDATE whole SET v = 'b'; DELETE FROM whole",
				"INSERT INTO nothing VALUES (1, 'a'); INSERT INTO nokey VALUES (1, 'a')",
				"INSERT INTO nocolumns DEFAULT VALUES",
				"INSERT INTO pk VALUES (1, 'a'), (2, 'b') ON CONFLICT DO NOTHING; INSERT INTO pk VALUES (1, 'c'), (3, 'd') ON CONFLICT (id) DO UPDATE SET v = excluded.v",
				"UPDATE pk SET id = id + 10; UPDATE pk SET id = 1 WHERE id = 12",
			},
		},
		{
			name: "toast",
			setup: []string{
				"CREATE TABLE pk (id int PRIMARY KEY, n int, big text)", "ALTER TABLE pk ALTER big SET STORAGE EXTERNAL",
				"CREATE TABLE whole (id int PRIMARY KEY, n int, big text)", "ALTER TABLE whole ALTER big SET STORAGE EXTERNAL", "ALTER TABLE whole REPLICA IDENTITY FULL",
			},
			steps: []string{
				"INSERT INTO pk VALUES (1, 1, repeat('p', 2100)); UPDATE pk SET n = 2",
				"UPDATE pk SET id = 2", "UPDATE pk SET big = 'small'; DELETE FROM pk",
				"INSERT INTO whole VALUES (1, 1, repeat('w', 2100)); UPDATE whole SET n = 2", "UPDATE whole SET id = 2; DELETE FROM whole",
			},
		},
	}
}

// tableScenarios are about what happens to tables as a whole.
func tableScenarios() []scenario {
	return []scenario{
		{
			name:  "ddl",
			setup: []string{"CREATE TABLE t (id int PRIMARY KEY, a text)"},
			steps: []string{
				`BEGIN; INSERT INTO t VALUES (1, 'a'); ALTER TABLE t ADD COLUMN b int DEFAULT 5; INSERT INTO t VALUES (2, 'b', 2);
				 ALTER TABLE t RENAME COLUMN a TO z; INSERT INTO t VALUES (3, 'c', 3); ALTER TABLE t ALTER b TYPE bigint; INSERT INTO t VALUES (4, 'd', 4);
				 ALTER TABLE t DROP COLUMN z; INSERT INTO t VALUES (5, 5); ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET b = 6 WHERE id = 5;
				 ALTER TABLE t RENAME TO renamed; INSERT INTO renamed VALUES (6, 6); COMMIT`,
				"CREATE INDEX ON renamed (b)", "INSERT INTO renamed VALUES (7, 7)",
				"DROP TABLE renamed", "CREATE TABLE renamed (other text)", "INSERT INTO renamed VALUES ('x')",
				"CREATE TABLE made AS SELECT 1 AS id",
			},
		},
		{
			name: "truncate",
			setup: []string{
				"CREATE TABLE par (id int PRIMARY KEY)", "CREATE TABLE chi (id serial, par int REFERENCES par)", "CREATE TABLE alone (id serial, v int)",
			},
			steps: []string{
				"INSERT INTO par VALUES (1); INSERT INTO chi (par) VALUES (1)", "TRUNCATE par CASCADE", "TRUNCATE alone RESTART IDENTITY",
				"BEGIN; INSERT INTO par VALUES (2); TRUNCATE par, alone, chi; INSERT INTO par VALUES (3); COMMIT",
			},
		},
		{
			name: "partitions-leaf", setup: partitioned, steps: partitionSteps,
		},
		{
			name: "partitions-root", setup: partitioned, publish: "FOR ALL TABLES WITH (publish_via_partition_root)", steps: partitionSteps,
		},
	}
}

// publicationScenarios are about what a publication leaves out.
func publicationScenarios() []scenario {
	return []scenario{
		{
			name: "filter", since: 15,
			setup:   []string{"CREATE TABLE f (id int PRIMARY KEY, v int, secret text)", "CREATE TABLE c (id int PRIMARY KEY, v int, secret text)", "ALTER TABLE f REPLICA IDENTITY FULL"},
			publish: "FOR TABLE f WHERE (v > 10), TABLE c (id, v)",
			steps: []string{
				"INSERT INTO f VALUES (1, 5, 's'), (2, 15, 's')", "UPDATE f SET v = 20 WHERE id = 1", "UPDATE f SET v = 3 WHERE id = 2", "UPDATE f SET v = 4 WHERE id = 2", "DELETE FROM f",
				"INSERT INTO c VALUES (1, 1, 's')", "UPDATE c SET secret = 'other'", "DELETE FROM c",
			},
		},
		{
			name:  "generated",
			setup: []string{"CREATE TABLE g (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED)"},
			steps: []string{"INSERT INTO g VALUES (1, 2)", "UPDATE g SET v = 3"},
		},
		{
			name: "generated-stored", since: 18, publish: "FOR ALL TABLES WITH (publish_generated_columns = stored)",
			setup: []string{"CREATE TABLE g (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED, thrice int GENERATED ALWAYS AS (v * 3))"},
			steps: []string{"INSERT INTO g VALUES (1, 2)", "UPDATE g SET v = 3"},
		},
	}
}

const typesTable = `CREATE TABLE types (
	b bool DEFAULT true, i2 int2 DEFAULT 2, i4 int4 DEFAULT -4, i8 int8 DEFAULT 8, num numeric(40,10) DEFAULT 12345678901234567890.0123456789,
	f4 float4 DEFAULT 0.1, f8 float8 DEFAULT 0.30000000000000004, t text DEFAULT E'tab\t quote" \\ ä €', vc varchar(10) DEFAULT 'vc', ch char(5) DEFAULT 'ch',
	by bytea DEFAULT '\x00ff41', d date DEFAULT '2024-02-29', tm time(3) DEFAULT '09:35:06.789', tmtz timetz DEFAULT '09:35:06+05:30',
	ts timestamp DEFAULT '2024-02-29 09:35:06.123456', tstz timestamptz DEFAULT '2024-02-29 09:35:06.123456+02', iv interval DEFAULT '1 year 2 days 03:04:05',
	u uuid DEFAULT '6f2c1e04-9d1b-4a6e-8d1a-0123456789ab', j json DEFAULT '{"a": 1, "a": 2}', jb jsonb DEFAULT '{"b": [1, null], "a": "x"}',
	ip inet DEFAULT '192.168.0.1/24', net cidr DEFAULT '2001:db8::/32', mac macaddr DEFAULT '08:00:2b:01:02:03', bi bit(3) DEFAULT B'101', vb varbit DEFAULT B'1',
	pt point DEFAULT '(1.5,-2)', r int4range DEFAULT '[1,5]', mr int4multirange DEFAULT '{[1,3),[5,9)}', ia int[] DEFAULT '[0:1][1:2]={{1,NULL},{3,4}}',
	ta text[] DEFAULT '{a,"b c","NULL",NULL,"q\"q",""}', tsv tsvector DEFAULT 'a:1 b:2', l pg_lsn DEFAULT '16/B374D848', o oid DEFAULT 4294967295)`

var partitioned = []string{
	"CREATE TABLE part (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY RANGE (k)",
	"CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10)",
	"CREATE TABLE part2 (v text, k int NOT NULL, id int NOT NULL)", "ALTER TABLE part ATTACH PARTITION part2 FOR VALUES FROM (10) TO (20)",
}

var partitionSteps = []string{
	"INSERT INTO part VALUES (1, 1, 'a'), (2, 11, 'b')", "UPDATE part SET v = 'c'", "UPDATE part SET k = 12 WHERE id = 1",
	"CREATE TABLE part3 PARTITION OF part FOR VALUES FROM (20) TO (30)", "INSERT INTO part VALUES (3, 21, 'd')",
	"TRUNCATE part2", "TRUNCATE part", "ALTER TABLE part DETACH PARTITION part3", "INSERT INTO part3 VALUES (4, 22, 'e')",
}

// transactionScenarios are about transactions and what is between them, in
// protocol version 1.
func transactionScenarios() []scenario {
	return []scenario{
		{
			name: "empty", setup: []string{"CREATE TABLE a (id int)", "CREATE TABLE b (id int)"}, publish: "FOR TABLE a",
			steps: []string{"INSERT INTO b VALUES (1)", "INSERT INTO a VALUES (1)", "CREATE TABLE c (id int)", "BEGIN; INSERT INTO a VALUES (2); ROLLBACK", "INSERT INTO b VALUES (2)"},
		},
		{
			name: "messages", setup: []string{"CREATE TABLE a (id int)"},
			steps: []string{
				"SELECT pg_logical_emit_message(true, 'outbox', '{\"a\": 1}')", "SELECT pg_logical_emit_message(false, 'hb', 'alone')",
				"BEGIN; INSERT INTO a VALUES (1); SELECT pg_logical_emit_message(true, 'outbox', 'inside'); SELECT pg_logical_emit_message(false, 'hb', 'ahead'); COMMIT",
				"BEGIN; SELECT pg_logical_emit_message(false, 'hb', 'rolled back'); SELECT pg_logical_emit_message(true, 'outbox', 'gone'); ROLLBACK",
				"SELECT pg_logical_emit_message(true, '', ''), pg_logical_emit_message(true, 'bytes', '\\x00ff'::bytea)",
			},
		},
		{
			name: "origin", setup: []string{"CREATE TABLE a (id int)", "SELECT pg_replication_origin_create('elsewhere')"},
			steps: []string{
				"SELECT pg_replication_origin_session_setup('elsewhere')",
				"BEGIN; SELECT pg_replication_origin_xact_setup('0/10', '2024-01-01'); INSERT INTO a VALUES (1); INSERT INTO a VALUES (2); COMMIT",
				"SELECT pg_replication_origin_session_reset()", "INSERT INTO a VALUES (3)", "SELECT pg_replication_origin_drop('elsewhere')",
			},
		},
		{
			name: "savepoints", setup: []string{"CREATE TABLE a (id int PRIMARY KEY)"},
			steps: []string{
				`BEGIN; INSERT INTO a VALUES (1); SAVEPOINT x; INSERT INTO a VALUES (2); ROLLBACK TO x; INSERT INTO a VALUES (3); SAVEPOINT y; INSERT INTO a VALUES (4);
				 RELEASE y; DELETE FROM a WHERE id = 1; INSERT INTO a VALUES (1); COMMIT`,
				"BEGIN; INSERT INTO a VALUES (9); ROLLBACK",
				"DO $$ BEGIN FOR i IN 10..12 LOOP BEGIN INSERT INTO a VALUES (i); INSERT INTO a VALUES (1); EXCEPTION WHEN unique_violation THEN NULL; END; END LOOP; INSERT INTO a VALUES (20); END $$",
			},
		},
		{
			name: "prepared", setup: []string{"CREATE TABLE a (id int)"},
			steps: []string{
				"BEGIN; INSERT INTO a VALUES (1); PREPARE TRANSACTION 'kept'", "BEGIN; INSERT INTO a VALUES (2); PREPARE TRANSACTION 'dropped'",
				"INSERT INTO a VALUES (3)", "COMMIT PREPARED 'kept'", "ROLLBACK PREPARED 'dropped'",
			},
		},
		{
			name: "many-rows", setup: []string{"CREATE TABLE a (id int, v text)"},
			steps: []string{"INSERT INTO a SELECT g, 'row ' || g FROM generate_series(1, 4) g", "INSERT INTO a VALUES (5, ''), (6, NULL)"},
		},
		{
			name: "interleaved", setup: []string{"CREATE TABLE a (id int)"},
			steps: []string{"BEGIN; INSERT INTO a VALUES (1)", "2:INSERT INTO a VALUES (2)", "INSERT INTO a VALUES (3)", "2:INSERT INTO a VALUES (4)", "COMMIT"},
		},
	}
}

// laterScenarios are about what only protocol versions 2 to 4, or a slot with
// two_phase, have. A Decoder refuses them; a Parser reads them.
func laterScenarios() []scenario {
	streamed := []string{"CREATE TABLE a (id int, v text)", "CREATE TABLE filler (id int)", "CREATE TYPE mood AS ENUM ('x')", "CREATE TABLE moody (m mood)"}
	tables := "FOR TABLE a, moody"
	streaming := []string{
		"BEGIN; INSERT INTO a VALUES (1, 'first')", fill, "2:INSERT INTO a VALUES (100, 'between')", "@E",
		"SAVEPOINT s; INSERT INTO a VALUES (2, 'rolled back'); " + fill, "2:INSERT INTO a VALUES (101, 'between')", "@E",
		"ROLLBACK TO s; INSERT INTO a VALUES (3, 'last'); INSERT INTO moody VALUES ('x'); SELECT pg_logical_emit_message(true, 'outbox', 'streamed'); TRUNCATE moody; COMMIT", "@c",
		"BEGIN; INSERT INTO a VALUES (4, 'lost'); " + fill, "2:INSERT INTO a VALUES (102, 'between')", "@E", "ROLLBACK",
	}
	twoPhase := []string{
		"BEGIN; INSERT INTO a VALUES (1, 'kept'); PREPARE TRANSACTION 'kept'", "BEGIN; INSERT INTO a VALUES (2, 'dropped'); PREPARE TRANSACTION 'dropped'",
		"INSERT INTO a VALUES (3, 'plain')", "COMMIT PREPARED 'kept'", "ROLLBACK PREPARED 'dropped'",
	}
	return []scenario{
		{name: "stream", proto: 2, options: "streaming 'on'", setup: streamed, publish: tables, steps: streaming},
		{name: "stream-parallel", since: 16, proto: 4, options: "streaming 'parallel'", setup: streamed, publish: tables, steps: streaming},
		{name: "two-phase", since: 15, proto: 3, options: "two_phase 'on'", twoPhase: true, setup: streamed, publish: tables, steps: twoPhase},
		{name: "two-phase-v1", since: 15, twoPhase: true, setup: streamed, publish: tables, steps: twoPhase},
		{
			name: "stream-two-phase", since: 15, proto: 3, options: "streaming 'on', two_phase 'on'", twoPhase: true, setup: streamed, publish: tables,
			steps: []string{
				"BEGIN; INSERT INTO a VALUES (1, 'streamed'); " + fill, "2:INSERT INTO a VALUES (100, 'between')", "@E", "PREPARE TRANSACTION 'kept'",
				"COMMIT PREPARED 'kept'",
			},
		},
	}
}
