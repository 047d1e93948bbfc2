package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/sink"
)

// Peek shows changes as they commit, from now on: it streams from a temporary slot,
// which ends with the session, and confirms nothing. out keeps no position. started
// is told when the slot is there: everything that commits from then on is shown.
//
// It returns nil when ctx ends. Any other end of the stream is an error.
func Peek(ctx context.Context, src *replication.Source, m *mapper.Mapper, out sink.Sink, started func()) error {
	if _, err := out.Open(ctx, sink.Source{Name: src.Slot()}); err != nil {
		return fmt.Errorf("open the output: %w", err)
	}
	stream, err := src.Stream(ctx, replication.StreamConfig{Temporary: true})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer stream.Close()
	unblock := context.AfterFunc(ctx, func() { stream.Abort(context.Cause(ctx)) })
	defer unblock()
	started()
	p := &peek{stream: stream, mapper: m, out: out, batch: out.NewBatch(), decoder: decoder.New(decoder.Config{From: lsn.Position{End: stream.Received()}})}
	err = p.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// peek is a bridge without a memory: each transaction is written when it commits.
type peek struct {
	stream  *replication.Stream
	decoder *decoder.Decoder
	mapper  *mapper.Mapper
	out     sink.Sink
	batch   sink.Batch
}

func (p *peek) run(ctx context.Context) error {
	for {
		f, err := p.stream.Next()
		switch {
		case errors.Is(err, replication.ErrInterrupted):
			continue
		case err != nil:
			return err
		case f.Keepalive:
			continue
		}
		if err := p.frame(ctx, f); err != nil {
			return err
		}
	}
}

func (p *peek) frame(ctx context.Context, f *replication.Frame) error {
	step, err := decodeFrame(p.decoder, f)
	if err != nil {
		return err
	}
	switch step {
	case decoder.StepChange:
		for more := true; more; more = p.decoder.More() {
			items, err := p.mapper.Map(p.decoder.Change())
			if err != nil {
				return err
			}
			p.batch.Append(items)
		}
		return p.flushIfLarge(ctx)
	case decoder.StepCommit:
		p.batch.EndTx()
		return p.flush(ctx)
	}
	return nil
}

// peekBytes is how much of a transaction is held back for its end.
const peekBytes = 1 << 20

func (p *peek) flushIfLarge(ctx context.Context) error {
	if p.batch.Bytes() < peekBytes {
		return nil
	}
	return p.flush(ctx)
}

func (p *peek) flush(ctx context.Context) error {
	if p.batch.Items() == 0 {
		return nil
	}
	defer p.batch.Reset()
	return p.out.Write(ctx, p.batch, lsn.Progress{Phase: lsn.PhaseStreaming, Position: lsn.Position{End: p.decoder.Tx().Commit}})
}
