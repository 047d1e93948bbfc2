package replication

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// firstStartSlots is how many slots have to be free when one is made.
const firstStartSlots = 2

// settle moves a slot that was just made, at its consistent point, to where its
// decoding is right, and returns that place.
//
// While a slot is being made, the server does not look at the catalog changes of
// transactions that go on (decode.c: heap2_decode and xact_decode return below
// SNAPBUILD_FULL_SNAPSHOT), and so does not know such a transaction for one that
// changed the catalog when it commits. Transactions that began before that commit
// and end after the consistent point are then decoded with the catalog of before: after
// an ALTER TABLE their rows lack a column, silently; after a TRUNCATE decoding
// fails, for good ("could not map filenode"). Versions 14 to 18 do that.
//
// So a second slot is made and dropped. By the time that it is consistent, all who
// were open at the first one's consistent point have ended, and it has logged the running
// transactions anew (ReplicationSlotReserveWal). Advancing the first slot to there
// passes over those transactions and lets it restart from a snapshot of the catalog that
// was written after the blind time (SnapBuildSerialize).
//
// use, if not nil, is called with the name of the snapshot that the second slot has
// exported: what was visible where the stream begins. It is there until use returns.
func (s *Source) settle(ctx context.Context, conn *pgconn.PgConn, at lsn.LSN, use UseSnapshot) (lsn.LSN, error) {
	name, err := passingName()
	if err != nil {
		return 0, err
	}
	command, err := s.createSlotCommand(name, slotForm{major: majorOf(conn.ParameterStatus("server_version")), temporary: true, export: use != nil})
	if err != nil {
		return 0, err
	}
	to, exported, err := s.madeSlot(ctx, conn, command)
	if err != nil {
		return 0, fmt.Errorf("make a second slot, for a moment: %w", err)
	}
	if use != nil {
		if err := use(ctx, exported); err != nil {
			return 0, err
		}
	}
	if err := run(ctx, conn, "DROP_REPLICATION_SLOT "+quoteIdent(name)); err != nil {
		return 0, fmt.Errorf("drop the second slot: %w", err)
	}
	return to, s.advance(ctx, conn, at, to)
}

// passingName is a name that no other bridge has, since several may start at once.
func passingName() (string, error) {
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("name a second slot: %w", err)
	}
	return "walbridge_passing_" + hex.EncodeToString(random), nil
}

// advance moves the slot from its consistent point to another, on the session that
// made it, which a temporary slot belongs to.
func (s *Source) advance(ctx context.Context, conn *pgconn.PgConn, from, to lsn.LSN) error {
	slot := quoteLiteral(s.cfg.Slot)
	if err := run(ctx, conn, fmt.Sprintf("SELECT pg_catalog.pg_replication_slot_advance(%s, '%s')", slot, to)); err != nil {
		return fmt.Errorf("advance the slot to %s: %w", to, err)
	}
	restart, err := rowOf[jsonLSN](ctx, conn, "SELECT pg_catalog.to_jsonb(restart_lsn) FROM pg_catalog.pg_replication_slots WHERE slot_name = "+slot)
	if err != nil {
		return fmt.Errorf("read where the slot restarts: %w", err)
	}
	if lsn.LSN(restart) < from {
		return fault.Transient(ReasonBlocked, fmt.Errorf("the slot restarts at %s, before its consistent point %s", lsn.LSN(restart), from))
	}
	return nil
}

// dropUnsettled takes back a slot that is of no use. When that fails, the next start
// knows by the stored phase that the slot is its own, and drops it.
func (s *Source) dropUnsettled(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if err := run(ctx, conn, "DROP_REPLICATION_SLOT "+quoteIdent(s.cfg.Slot)); err != nil {
		s.log.Debug("dropping the slot that was not finished", "slot", s.cfg.Slot, "error", err)
	}
}
