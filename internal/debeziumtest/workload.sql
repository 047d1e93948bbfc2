-- The workload that was recorded with Debezium. Every part between two "step" lines is
-- one transaction. All values are fixed, so that two servers give the same records but
-- for positions, transaction ids and times.

-- step: schema
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'very happy');
CREATE TYPE address AS (street text, number int);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN price AS numeric(10,2);
CREATE DOMAIN email AS varchar(60);
CREATE SCHEMA shop;
CREATE TABLE numbers (id int PRIMARY KEY, yes boolean, i2 smallint, i4 int, i8 bigint, f4 real, f8 double precision, n numeric, n10_2 numeric(10,2), n20 numeric(20), cash money, object oid);
CREATE TABLE texts (id int PRIMARY KEY, t text, v varchar(20), c char(5), n name, ci citext, b bytea, j json, jb jsonb, u uuid, x xml);
CREATE TABLE labels (id int PRIMARY KEY, m mood, d_int positive, d_price price, d_email email, bit1 bit(1), bit8 bit(8), bitv bit varying(20), h hstore, search tsvector, query tsquery);
CREATE TABLE nets (id int PRIMARY KEY, i inet, c cidr, m macaddr, m8 macaddr8);
CREATE TABLE times (id int PRIMARY KEY, d date, t time, t0 time(0), t3 time(3), tz timetz, ts timestamp, ts0 timestamp(0), ts3 timestamp(3), tstz timestamptz, tstz3 timestamptz(3), iv interval);
CREATE TABLE times_far (id int PRIMARY KEY, d date, ts timestamp, tstz timestamptz);
CREATE TABLE ranges (id int PRIMARY KEY, i4 int4range, i8 int8range, n numrange, ts tsrange, tstz tstzrange, d daterange, mi4 int4multirange);
CREATE TABLE shapes (id int PRIMARY KEY, p point, l line, s lseg, b box, pa path, po polygon, c circle);
CREATE TABLE others (id int PRIMARY KEY, a address, lsn pg_lsn, x xid8, jp jsonpath, r regclass, vec oidvector, flag "char");
CREATE TABLE arrays (id int PRIMARY KEY, yes boolean[], i2 smallint[], i4 int[], i8 bigint[], f4 real[], f8 double precision[], n numeric[], n10_2 numeric(10,2)[], t text[], v varchar(10)[], c char(3)[], u uuid[], d date[], tm time[], ts timestamp[], tstz timestamptz[], iv interval[], j json[], jb jsonb[]);
CREATE TABLE more_arrays (id int PRIMARY KEY, m mood[], b bytea[], i inet[], r int4range[], dp positive[], tz timetz[]);
CREATE TABLE defaults (id int PRIMARY KEY, i int NOT NULL DEFAULT 7, t text NOT NULL DEFAULT 'given', b boolean DEFAULT true, n numeric(10,2) DEFAULT 1.5, ts timestamp DEFAULT '2020-01-01 00:00:00', total int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, city text);
CREATE TABLE customers_full (LIKE customers INCLUDING ALL);
ALTER TABLE customers_full REPLICA IDENTITY FULL;
CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL, note text);
CREATE UNIQUE INDEX by_index_code ON by_index (code);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code;
CREATE TABLE only_unique (code text NOT NULL, note text);
CREATE UNIQUE INDEX only_unique_code ON only_unique (code);
ALTER TABLE only_unique REPLICA IDENTITY USING INDEX only_unique_code;
CREATE TABLE two_keys (a int, note text, b text, PRIMARY KEY (b, a));
CREATE TABLE no_key (id int, note text);
CREATE TABLE no_key_full (id int, note text);
ALTER TABLE no_key_full REPLICA IDENTITY FULL;
CREATE TABLE toasted (id int PRIMARY KEY, n int, big text, bytes bytea, many text[]);
CREATE TABLE toasted_full (LIKE toasted INCLUDING ALL);
ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL, ALTER bytes SET STORAGE EXTERNAL, ALTER many SET STORAGE EXTERNAL;
ALTER TABLE toasted_full ALTER big SET STORAGE EXTERNAL, ALTER bytes SET STORAGE EXTERNAL, ALTER many SET STORAGE EXTERNAL;
ALTER TABLE toasted_full REPLICA IDENTITY FULL;
CREATE TABLE key_of_types (i8 bigint, u uuid, d date, ts timestamptz, n numeric(10,2), m mood, note text, PRIMARY KEY (i8, u, d, ts, n, m));
CREATE TABLE shop."Order Lines" ("Id" int PRIMARY KEY, "Ünit Price" numeric(10,2), "select" text, "a.b-c" int);
CREATE TABLE grows (id int PRIMARY KEY, a text);
CREATE TABLE emptied (id int PRIMARY KEY, t text);
CREATE TABLE emptied_too (id int PRIMARY KEY, of_id int REFERENCES emptied);
CREATE TABLE outbox (id uuid PRIMARY KEY, aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb, tenant text, priority int);
CREATE TABLE finish (id int PRIMARY KEY);

-- step: numbers
INSERT INTO numbers VALUES
 (1, true, 1, 1, 1, 1.5, 1.5, 1.5, 1.50, 1, 1.5, 1),
 (2, false, 32767, 2147483647, 9223372036854775807, 3.4028235e38, 1.7976931348623157e308, 123456789012345678901234567890.123456789, 99999999.99, 99999999999999999999, '92233720368547758.07', 4294967295),
 (3, NULL, -32768, -2147483648, -9223372036854775808, -3.4028235e38, -1.7976931348623157e308, -0.000000000000000000000000000001, -99999999.99, -99999999999999999999, '-92233720368547758.08', 0),
 (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (5, true, 0, 0, 0, 0.1, 0.1, 1.500, 1.10, 100, 0, 10),
 (6, true, 0, 0, 0, 1e-45, 5e-324, 1e20, 0.00, 0, -0.01, 10),
 (7, true, 0, 0, 9007199254740993, 16777216, 1e21, 1e-10, 1000.00, 10000000000, 1234.56, 10),
 (8, true, 0, 0, 0, 1e7, 1e7, 0, 0, 0, 0, 0),
 (9, true, 0, 0, 0, 123456.79, 123456.789, 100, 100, 100, 100, 100),
 (10, true, 0, 0, 0, 0.001, 0.001, 0.001, 0.01, 0, 0, 0),
 (11, true, 0, 0, 0, 0.0001, 0.0001, 0.0001, 0.01, 0, 0, 0);

-- step: numbers that are none
INSERT INTO numbers (id, f4, f8, n, n10_2) VALUES
 (20, 'NaN', 'NaN', 'NaN', 'NaN'),
 (21, 'Infinity', 'Infinity', 'Infinity', NULL),
 (22, '-Infinity', '-Infinity', '-Infinity', NULL),
 (23, '-0', '-0', '-0', '-0');

-- step: texts
INSERT INTO texts VALUES
 (1, 'plain', 'twenty', 'abc', 'a_name', 'Case', '\xdeadbeef', '{"b": 1,  "a": [1, 2.50, null]}', '{"b": 1,  "a": [1, 2.50, null]}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '<a b="1">text</a>'),
 (2, '', '', '', '', '', '', '""', '""', '00000000-0000-0000-0000-000000000000', ''),
 (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (4, E'quote " backslash \\ slash / tab \t line \n return \r bell \x07 delete \x7f', 'ünïcödé', 'äöü', 'grüß', 'ß', '\x00ff00', 'null', 'null', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '<x>&amp;&#228;</x>'),
 (5, U&'emoji \+01F600 line separator \2028 bom \FEFF html <b>&''</b>', '漢字', 'x', 'y', 'z', '\x0102030405060708090a', '[1e400, 12345678901234567890.123456789]', '[1e10, 12345678901234567890.123456789]', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '<?xml version="1.0"?><x/>'),
 (6, '   spaces   ', '  v  ', ' c ', ' n ', ' CI ', '\x', ' { } ', ' { } ', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '<x/>');

-- step: labels
INSERT INTO labels VALUES
 (1, 'sad', 1, 1.5, 'a@example.org', B'1', B'10101010', B'101', 'a=>1, b=>NULL, "c d"=>"x\"y"', 'fat:2 cat:3A', 'fat & cat'),
 (2, 'very happy', 2147483647, 99999999.99, '', B'0', B'00000000', B'', '', '', 'a <-> b'),
 (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (4, 'ok', 7, -1.10, 'b@example.org', B'1', B'11111111', B'11111111111111111111', 'z=>"", a=>"1"', $$'it''s':1 b$$, '!x | y:*');

-- step: nets
INSERT INTO nets VALUES
 (1, '192.168.0.1', '192.168.0.0/24', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05'),
 (2, '10.1.2.3/8', '10.0.0.0/8', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff'),
 (3, '2001:db8::1', '2001:db8::/32', '000000000000', '0800:2b01:0203:0405'),
 (4, '::ffff:1.2.3.4/128', '::/0', NULL, NULL),
 (5, NULL, NULL, NULL, NULL);

-- step: times
INSERT INTO times VALUES
 (1, '2024-02-29', '12:34:56.123456', '12:34:56', '12:34:56.123', '12:34:56.123456+02', '2024-02-29 12:34:56.123456', '2024-02-29 12:34:56', '2024-02-29 12:34:56.123', '2024-02-29 12:34:56.123456+02', '2024-02-29 12:34:56.123+02', '1 year 2 mons 3 days 04:05:06.789'),
 (2, '1970-01-01', '00:00:00', '00:00:00', '00:00:00', '00:00:00+00', '1970-01-01 00:00:00', '1970-01-01 00:00:00', '1970-01-01 00:00:00', '1970-01-01 00:00:00+00', '1970-01-01 00:00:00+00', '0'),
 (3, '1969-12-31', '23:59:59.999999', '23:59:59', '23:59:59.999', '23:59:59.999999-15:59', '1969-12-31 23:59:59.999999', '1969-12-31 23:59:59', '1969-12-31 23:59:59.999', '1969-12-31 23:59:59.999999+00', '1969-12-31 23:59:59.999+00', '-1 day -00:00:00.000001'),
 (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (5, '9999-12-31', '24:00:00', '24:00:00', '24:00:00', '12:00:00+05:30', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59', '9999-12-31 23:59:59.999', '9999-12-31 23:59:59.999999+00', '9999-12-31 23:59:59.999+00', '1 mon'),
 (6, '0001-01-01', '00:00:00.000001', '00:00:01', '00:00:00.001', '00:00:00.1+00', '0001-01-01 00:00:00', '0001-01-01 00:00:00', '0001-01-01 00:00:00', '0001-01-01 00:00:00+00', '0001-01-01 00:00:00+00', '-1 year'),
 (7, '1582-10-10', '12:00:00.1', '12:00:00', '12:00:00.1', '12:00:00-12', '1582-10-10 12:00:00', '1582-10-10 12:00:00', '1582-10-10 12:00:00', '1582-10-10 12:00:00+00', '1582-10-10 12:00:00+00', '100 hours 30 minutes'),
 (8, '1900-01-01', '01:02:03.1', '01:02:03', '01:02:03.12', '01:02:03.120+00', '1900-01-01 01:02:03.1', '1900-01-01 01:02:03', '1900-01-01 01:02:03.12', '1900-01-01 01:02:03.120+00', '1900-01-01 01:02:03.1+00', '1 mon -1 days 00:00:00.5');

-- step: times without end
INSERT INTO times_far VALUES
 (1, 'infinity', 'infinity', 'infinity'),
 (2, '-infinity', '-infinity', '-infinity'),
 (3, '10000-01-01', '10000-01-01 00:00:00', '10000-01-01 00:00:00+00'),
 (4, '294276-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00');

-- step: times before Christ
INSERT INTO times_far VALUES
 (10, '0001-12-31 BC', '0001-12-31 23:59:59.5 BC', '0001-12-31 23:59:59.5+00 BC'),
 (11, '0044-03-15 BC', '0044-03-15 12:00:00 BC', '0044-03-15 12:00:00+00 BC'),
 (12, '4713-01-01 BC', '4713-01-01 00:00:00 BC', '4713-01-01 00:00:00+00 BC');

-- step: ranges
INSERT INTO ranges VALUES
 (1, '[1,10)', '[1,10)', '[1.5,2.50]', '[2024-01-01 00:00:00,2024-02-01 12:30:00.5)', '[2024-01-01 00:00:00+00,2024-02-01 12:30:00+02)', '[2024-01-01,2024-02-01)', '{[1,3),[5,8)}'),
 (2, 'empty', 'empty', 'empty', 'empty', 'empty', 'empty', '{}'),
 (3, '(,5]', '[5,)', '(,)', '(,)', '[2024-01-01 00:00:00+00,)', '(,2024-01-01]', '{(,5)}'),
 (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- step: shapes
INSERT INTO shapes (id, p) VALUES (1, '(1.5,-2)'), (2, NULL), (3, '(1e300,0)');
INSERT INTO shapes VALUES (4, '(0,0)', '{1,2,3}', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(1,2),3>');

-- step: others
INSERT INTO others VALUES (1, ROW('Main Street', 5), '16/B374D848', '12345', '$.a[*]', 'numbers', '1 2 3', 'x'), (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- step: arrays
INSERT INTO arrays VALUES
 (1, '{t,f}', '{1,-1}', '{1,2147483647}', '{1,9223372036854775807}', '{1.5,0.1}', '{1.5,1e300}', '{1.5,1.500,1e20}', '{1.50,2}', '{a,"b c","quote \"",""}', '{v1,v2}', '{a,bcd}', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', '{2024-02-29,1969-12-31}', '{12:34:56.123456}', '{"2024-02-29 12:34:56.123456"}', '{"2024-02-29 12:34:56.123456+02"}', '{"1 day 02:00:00"}', ARRAY['{"a": 1}', '[]']::json[], ARRAY['{"a": 1}', '[]']::jsonb[]),
 (2, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'),
 (3, '{NULL}', '{NULL}', '{NULL,1}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL,"NULL"}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}'),
 (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- step: more arrays
INSERT INTO more_arrays VALUES
 (1, '{sad,"very happy"}', ARRAY['\xdeadbeef', '\x']::bytea[], '{192.168.0.1,10.0.0.0/8}', '{"[1,10)",empty}', '{1,2}', '{12:00:00+02}'),
 (2, '{}', '{}', '{}', '{}', '{}', '{}'),
 (3, NULL, NULL, NULL, NULL, NULL, NULL);

-- step: arrays of arrays
INSERT INTO arrays (id, i4, t) VALUES (10, '{{1,2},{3,4}}', '{{a,b},{c,NULL}}');

-- step: arrays with bounds
INSERT INTO arrays (id, i4) VALUES (11, '[2:4]={1,2,3}');

-- step: defaults
INSERT INTO defaults (id) VALUES (1);
INSERT INTO defaults (id, b, n, ts) VALUES (2, NULL, NULL, NULL);
UPDATE defaults SET i = 8 WHERE id = 1;

-- step: rows of the default identity
INSERT INTO customers VALUES (1, 'Ann', 'Rome'), (2, 'Bob', NULL), (3, 'Cid', 'Oslo');
UPDATE customers SET city = 'Bonn' WHERE id = 1;
UPDATE customers SET city = city WHERE id = 2;
UPDATE customers SET city = NULL WHERE id = 3;

-- step: key changes of the default identity
UPDATE customers SET id = 10 WHERE id = 1;
UPDATE customers SET id = 11, name = 'Bobby' WHERE id = 2;
UPDATE customers SET id = id + 100 WHERE id >= 10;

-- step: deletes of the default identity
DELETE FROM customers WHERE id = 3;
DELETE FROM customers WHERE id = 110;

-- step: rows of the full identity
INSERT INTO customers_full VALUES (1, 'Ann', 'Rome'), (2, 'Bob', NULL), (3, 'Cid', 'Oslo');
UPDATE customers_full SET city = 'Bonn' WHERE id = 1;
UPDATE customers_full SET city = city WHERE id = 2;
UPDATE customers_full SET id = 10 WHERE id = 1;
DELETE FROM customers_full WHERE id = 3;

-- step: rows of an index's identity
INSERT INTO by_index VALUES (1, 'one', 'x'), (2, 'two', NULL);
UPDATE by_index SET note = 'y' WHERE id = 1;
UPDATE by_index SET id = 3 WHERE id = 1;
UPDATE by_index SET code = 'three' WHERE id = 3;
DELETE FROM by_index WHERE id = 2;
INSERT INTO only_unique VALUES ('one', 'x'), ('two', NULL);
UPDATE only_unique SET note = 'y' WHERE code = 'one';
UPDATE only_unique SET code = 'three' WHERE code = 'one';
DELETE FROM only_unique WHERE code = 'two';

-- step: rows with two keys
INSERT INTO two_keys VALUES (1, 'x', 'one'), (2, 'y', 'two');
UPDATE two_keys SET note = 'z' WHERE a = 1;
UPDATE two_keys SET b = 'eins' WHERE a = 1;
DELETE FROM two_keys WHERE a = 2;

-- step: rows without a key
INSERT INTO no_key VALUES (1, 'x'), (1, 'x'), (NULL, NULL);
INSERT INTO no_key_full VALUES (1, 'x'), (2, 'y');
UPDATE no_key_full SET note = 'z' WHERE id = 1;
UPDATE no_key_full SET id = 3 WHERE id = 1;
DELETE FROM no_key_full WHERE id = 2;

-- step: rows of keys of many types
INSERT INTO key_of_types VALUES (9223372036854775807, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2024-02-29', '2024-02-29 12:34:56.123456+02', 1.5, 'very happy', 'x');
UPDATE key_of_types SET m = 'sad';
DELETE FROM key_of_types;
INSERT INTO key_of_types VALUES (1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2024-02-29', '2024-02-29 12:34:56.123456+02', 1.5, 'ok', NULL);

-- step: large values
INSERT INTO toasted VALUES (1, 1, repeat('large ', 400), decode(repeat('ab', 2400), 'hex'), array_fill('many '::text, ARRAY[400]));
INSERT INTO toasted_full VALUES (1, 1, repeat('large ', 400), NULL, NULL);

-- step: large values that do not change
UPDATE toasted SET n = 2;
UPDATE toasted_full SET n = 2;
UPDATE toasted SET big = 'small now', bytes = NULL;
UPDATE toasted SET id = 2;
UPDATE toasted_full SET id = 2;
DELETE FROM toasted_full;
INSERT INTO toasted_full VALUES (3, 3, repeat('large ', 400), NULL, NULL);

-- step: odd names
INSERT INTO shop."Order Lines" VALUES (1, 9.90, 'x', 1);
UPDATE shop."Order Lines" SET "Id" = 2;
INSERT INTO shop."Order Lines" VALUES (3, NULL, NULL, NULL);
DELETE FROM shop."Order Lines" WHERE "Id" = 2;

-- step: a table before it grows
INSERT INTO grows VALUES (1, 'x');

-- step: a table grows
ALTER TABLE grows ADD b int DEFAULT 5, ADD c timestamptz;

-- step: a table that has grown
INSERT INTO grows VALUES (2, 'y', 6, '2024-01-01 00:00:00+00');
UPDATE grows SET a = 'z' WHERE id = 1;

-- step: part of a transaction rolled back
BEGIN;
INSERT INTO grows VALUES (3, 'kept', NULL, NULL);
SAVEPOINT s;
INSERT INTO grows VALUES (4, 'lost', NULL, NULL);
ROLLBACK TO SAVEPOINT s;
INSERT INTO grows VALUES (5, 'kept too', NULL, NULL);
COMMIT;

-- step: rows to be truncated
INSERT INTO emptied VALUES (1, 'x'), (2, 'y');
INSERT INTO emptied_too VALUES (1, 1);

-- step: truncate
TRUNCATE emptied, emptied_too;
INSERT INTO emptied VALUES (3, 'after');

-- step: truncate more
TRUNCATE emptied_too RESTART IDENTITY CASCADE;
TRUNCATE no_key;
INSERT INTO no_key VALUES (2, 'after');

-- step: messages
SELECT pg_logical_emit_message(true, 'audit', '{"who": "ann"}');
SELECT pg_logical_emit_message(true, '', '');
INSERT INTO customers VALUES (200, 'after a message', NULL);

-- step: a message outside of transactions
SELECT pg_logical_emit_message(false, 'beat', 'now');

-- step: events
INSERT INTO outbox VALUES
 ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'order', '1', 'OrderCreated', '{"id": 1, "total": 12.50, "lines": [{"sku": "a", "n": 2}], "note": null}', 'north', 1),
 ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', 'customer', 'ann smith', 'CustomerMoved', '{"city": "Köln"}', NULL, NULL),
 ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13', 'order', '1', 'OrderPaid', '"only text"', 'south', 2),
 ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a14', 'order', '', 'OrderSent', '{}', '', 0);

-- step: an event without a payload
INSERT INTO outbox VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a15', 'order', '2', 'OrderForgotten', NULL, 'north', 3);

-- step: events removed by the application
INSERT INTO outbox VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a16', 'order', '3', 'OrderCreated', '{"id": 3}', 'north', 4);
DELETE FROM outbox WHERE aggregateid = '3';

-- step: finish
INSERT INTO finish VALUES (1);
