package main

import (
	"context"
	"fmt"
	"log"
)

// workload is WAL that is made once and read by every run through a copy of its
// slot.
type workload struct {
	name        string
	rows        int64
	table       string
	publication string
	master      string // the slot made just before the WAL, never consumed
	end         string // WAL position after it
	outbox      bool
}

const tables = `
CREATE TABLE orders_w1 (id bigint PRIMARY KEY, customer_id bigint, status text, amount numeric(12,2), note text, created_at timestamptz, updated_at timestamptz);
CREATE TABLE orders_w2 (LIKE orders_w1 INCLUDING ALL);
CREATE TABLE orders_w3 (LIKE orders_w1 INCLUDING ALL);
CREATE TABLE orders_lat (LIKE orders_w1 INCLUDING ALL);
CREATE TABLE orders_big (LIKE orders_w1 INCLUDING ALL);
CREATE TABLE outbox (id uuid PRIMARY KEY, aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload jsonb NOT NULL);
CREATE PUBLICATION pub_w1 FOR TABLE orders_w1;
CREATE PUBLICATION pub_w2 FOR TABLE orders_w2;
CREATE PUBLICATION pub_w3 FOR TABLE orders_w3;
CREATE PUBLICATION pub_w4 FOR TABLE outbox;
CREATE PUBLICATION pub_lat FOR TABLE orders_lat;
CREATE PUBLICATION pub_big FOR TABLE orders_big;
`

const insertOrders = `INSERT INTO %[1]s
SELECT i, i %% 50000, 'new', (i %% 100000) / 100.0, 'order note number ' || i || ', to be packed with care', clock_timestamp(), clock_timestamp()
FROM generate_series(%[2]s) i`

// workloadNames are those of the workloads: one transaction; transactions of 500; a mix
// of inserts, updates and deletes in transactions of 100; an outbox in transactions of
// 10.
func workloadNames() []string { return []string{"w1", "w2", "w3", "w4"} }

func (b *bench) workloads(ctx context.Context) ([]workload, error) {
	var all []workload
	for _, name := range workloadNames() {
		w, err := b.workload(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// workload returns the workload of that name, making its WAL at the first call.
func (b *bench) workload(ctx context.Context, name string) (workload, error) {
	if w, ok := b.made[name]; ok {
		return w, nil
	}
	w, sql := define(name, int64(1_000_000*b.o.scale))
	log.Printf("making WAL: %s, %d rows", w.name, w.rows)
	if err := b.exec(ctx, "SELECT pg_create_logical_replication_slot('"+w.master+"', 'pgoutput')"); err != nil {
		return w, err
	}
	if err := b.exec(ctx, sql); err != nil {
		return w, err
	}
	if err := b.admin.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&w.end); err != nil {
		return w, err
	}
	b.made[name] = w
	return w, b.exec(ctx, "CHECKPOINT")
}

// define returns a workload of about n rows and the statement that makes its WAL.
func define(name string, n int64) (w workload, sql string) {
	n -= n % 5000
	switch name {
	case "w1":
		w, sql = workload{rows: n, table: "orders_w1"}, fmt.Sprintf(insertOrders, "orders_w1", fmt.Sprintf("1, %d", n))
	case "w2":
		w, sql = workload{rows: n, table: "orders_w2"}, loop(n/500, fmt.Sprintf(insertOrders, "orders_w2", "t * 500 + 1, t * 500 + 500"))
	case "w3":
		w, sql = workload{rows: n / 500 * 450, table: "orders_w3"}, mixed(n/1000)
	default:
		w, sql = workload{rows: n / 2, table: "outbox", outbox: true}, loop(n/20, insertOutbox)
	}
	w.name, w.publication, w.master = name, "pub_"+name, "master_"+name
	return w, sql
}

// loop repeats a statement that uses t, a transaction each.
func loop(n int64, statement string) string {
	return fmt.Sprintf("DO $$ BEGIN FOR t IN 0..%d LOOP %s; COMMIT; END LOOP; END $$", n-1, statement)
}

func mixed(cycles int64) string {
	return fmt.Sprintf(`DO $$ DECLARE b bigint; BEGIN
FOR c IN 0..%d LOOP
  b := c * 500;
  FOR k IN 0..4 LOOP %s; COMMIT; END LOOP;
  FOR k IN 0..2 LOOP
    UPDATE orders_w3 SET status = 'paid', updated_at = clock_timestamp() WHERE id BETWEEN b + k * 100 + 1 AND b + k * 100 + 100; COMMIT;
  END LOOP;
  DELETE FROM orders_w3 WHERE id BETWEEN b + 301 AND b + 400; COMMIT;
END LOOP; END $$`, cycles-1, fmt.Sprintf(insertOrders, "orders_w3", "b + k * 100 + 1, b + k * 100 + 100"))
}

const insertOutbox = `INSERT INTO outbox
SELECT gen_random_uuid(), 'order', (i % 50000)::text, 'OrderCreated',
  jsonb_build_object('orderId', i, 'customerId', i % 50000, 'status', 'new', 'amount', (i % 100000) / 100.0,
    'currency', 'EUR', 'note', 'order note number ' || i || ', to be packed with care',
    'address', jsonb_build_object('street', 'Long Street ' || i % 997, 'city', 'Springfield', 'zip', lpad((i % 99999)::text, 5, '0'), 'country', 'XX'),
    'tags', jsonb_build_array('web', 'first', 'gift'))
FROM generate_series(t * 10 + 1, t * 10 + 10) i`
