package main

import (
	"context"
	"strings"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/sink/kafka"
	"github.com/walbridge/walbridge/sink/statefile"
	"github.com/walbridge/walbridge/sink/worktable"
)

// stored returns the progress that the destination of a configuration has stored,
// whether its bridge runs or not: PhaseNone for one that was never started.
func stored(ctx context.Context, l configs.Loaded) (lsn.Progress, error) {
	s := l.Config.Sink
	switch {
	case s.Worktable != nil:
		cfg, err := workTableConfig(l)
		if err != nil {
			return lsn.Progress{}, err
		}
		latest, err := worktable.ReadLatest(ctx, cfg, l.Config.Name)
		return latest.Progress, err
	case s.Kafka != nil:
		latest, err := kafka.ReadLatest(ctx, *s.Kafka, l.Config.Name)
		return latest.Progress, err
	case s.Stdout != nil:
		return statefile.File{Path: s.Stdout.State}.Load(l.Config.Name)
	case s.Discard != nil:
		return statefile.File{Path: s.Discard.State}.Load(l.Config.Name)
	}
	return lsn.Progress{}, nil
}

// sinkOf names the destination of a configuration for a status.
func sinkOf(l configs.Loaded) status.Sink {
	s := l.Config.Sink
	out := status.Sink{Kind: s.Kind()}
	switch {
	case s.Worktable != nil:
		out.Target = s.Worktable.DSN.String()
	case s.Kafka != nil:
		out.Target = strings.Join(s.Kafka.Brokers, ",")
	case s.Stdout != nil:
		out.Target = s.Stdout.State
	case s.Discard != nil:
		out.Target = s.Discard.State
	}
	return out
}
