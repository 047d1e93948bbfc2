package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// An application that emits logical messages needs no table at all: those of committed
// transactions are events, others are nothing.
func TestMessagesAreAnOutbox(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	s := newSite(t, db, fmt.Sprintf("name: %s\nsource: {dsn: %q}\nroutes: [{messages: [shop], outbox: {}}]\nsink: {%s}\n",
		bridgeName(db.Name()), db.DSN(), worktableAt(db.DSN())))
	s.do(t, exitOK, "setup")
	s.do(t, exitOK, "doctor")
	bridge := s.run(t)
	emit := func(transactional bool, prefix, id string) string {
		return fmt.Sprintf(`SELECT pg_logical_emit_message(%v, '%s', '{"id":"%s","aggregatetype":"orders","aggregateid":"order:1","type":"OrderPaid","payload":{"n":1}}')`, transactional, prefix, id)
	}
	db.Exec(t, emit(true, "others", "0"))
	db.Exec(t, "BEGIN; "+emit(true, "shop", "rolled back")+"; ROLLBACK")
	db.Exec(t, "BEGIN; "+emit(true, "shop", "1")+"; "+emit(true, "shop", "2")+"; COMMIT")
	db.Exec(t, emit(false, "shop", "outside"))
	db.Exec(t, emit(true, "shop", "3"))
	pgtest.Eventually(t, time.Minute, func() bool {
		return db.One(t, "SELECT coalesce(string_agg(idempotency_key || ' ' || stream || ' ' || partition_key || ' ' || type, ', ' ORDER BY seq), '') FROM walbridge.log") ==
			"1 orders order:1 OrderPaid, 2 orders order:1 OrderPaid, 3 orders order:1 OrderPaid"
	}, "the events of committed transactions")
	require.Equal(t, exitOK, bridge.stopped(t), bridge.errs.String())
	require.Contains(t, bridge.errs.String(), "a logical message was emitted outside of its transaction, and is skipped")
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.dead_letter"))
}
