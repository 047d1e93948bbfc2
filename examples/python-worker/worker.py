"""A worker of a subscription: each item takes effect once, in order of its key."""
import sys
import time

import psycopg

DSN, SUBSCRIPTION, WORKER = sys.argv[1:4]


def handle(tx, item):
    tx.execute("INSERT INTO effect (seq, key, worker) VALUES (%s, %s, %s)", (item.seq, item.partition_key, WORKER))
    if item.payload.get("poison"):
        raise ValueError("this item is poison")


def work(conn):
    items = conn.execute("SELECT * FROM walbridge.next(%s, %s, lease => '10 s')", (SUBSCRIPTION, WORKER)).fetchall()
    gone = set()  # what failed, and later items of the same key
    while items:
        try:
            with conn.transaction():  # the effects and done: both, or neither
                for item in (i for i in items if i.seq not in gone):
                    handle(conn, item)
                conn.execute("SELECT walbridge.done(%s, %s)", (SUBSCRIPTION, items[0].receipt))
            return True
        except ValueError as error:  # the handler's: all is rolled back, and tried again without this item
            failed = conn.execute("SELECT item FROM walbridge.fail(%s, %s, %s, %s)", (SUBSCRIPTION, item.receipt, item.seq, str(error)))
            gone.update(row.item for row in failed)
    return False


with psycopg.connect(DSN, autocommit=True, row_factory=psycopg.rows.namedtuple_row) as conn:
    while True:
        try:
            work(conn) or time.sleep(0.1)
        except psycopg.Error as error:
            if error.sqlstate != "WB005":  # the lease is lost: others have the items
                raise
