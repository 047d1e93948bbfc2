package main

import (
	"context"
	"strconv"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
)

// adopt stores the beginning of a copied slot as the position of a bridge that has
// the slot's name, as if it had made the slot: a bridge takes no other slot.
func (b *bench) adopt(ctx context.Context, s sink.Sink, slot string) error {
	return b.adoptWith(ctx, s, slot, nil)
}

// adoptWith is adopt for a bridge that has tables to read.
func (b *bench) adoptWith(ctx context.Context, s sink.Sink, slot string, todo []byte) error {
	var id, confirmed string
	var timeline uint32
	err := b.admin.QueryRow(ctx, `SELECT (SELECT system_identifier::text FROM pg_control_system()), (SELECT timeline_id FROM pg_control_checkpoint()),
		confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, slot).Scan(&id, &timeline, &confirmed)
	if err != nil {
		return err
	}
	system, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return err
	}
	at, err := lsn.Parse(confirmed)
	if err != nil {
		return err
	}
	if _, err := s.Open(ctx, sink.Source{Name: slot}); err != nil {
		return err
	}
	err = s.Write(ctx, s.NewBatch(), lsn.Progress{
		SystemID: system, Timeline: timeline, Slot: slot, Position: lsn.Position{End: at}, Phase: lsn.PhaseStreaming, Cursors: todo,
	})
	if err != nil {
		return err
	}
	return s.Close(ctx)
}
