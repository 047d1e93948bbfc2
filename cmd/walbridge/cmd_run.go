package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/statusweb"
	"github.com/walbridge/walbridge/sink/stdout"
)

type runOptions struct {
	exitOnHalt bool
	// pruneEvery is for tests; 0: as the pipeline has it.
	pruneEvery time.Duration
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use: "run", Short: "Run the bridge",
		Long: `Run the bridge until it is told to stop (SIGTERM or Ctrl-C): then it delivers what it
has taken, tells the server, and leaves. The first run makes the replication slot, and reads
the rows that are there while it streams: it prints first which tables and how much.

What only an operator can decide (the slot is gone, or ahead of the destination)
halts the bridge: the process stays up and not ready, and its status page says what
is wrong and which ways lead out.

Exit codes: 0 asked to stop, 1 failure, 2 configuration, 3 halted (with --exit-on-halt).`,
		Example: "  walbridge run --config /etc/walbridge/shop.yaml",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.run(cmd.Context(), o) },
	}
	cmd.Flags().BoolVar(&o.exitOnHalt, "exit-on-halt", false, "end the process with exit code 3 when the bridge halts, instead of staying up")
	return cmd
}

func (a *app) run(ctx context.Context, o runOptions) error {
	a.exitOnHalt = o.exitOnHalt
	loaded, err := a.load()
	if err != nil {
		return err
	}
	cfg := loaded.Config
	log := a.logger(cfg.Log)
	debug.SetMemoryLimit(cfg.Memory.Limit)
	b, err := a.bridge(loaded, log, o)
	if err != nil {
		return err
	}
	if err := a.migrateIfAuto(ctx, loaded, log); err != nil {
		return err
	}
	web, err := statusweb.Listen(ctx, statusweb.Config{
		Listen: cfg.HTTP.Listen, Status: b.status, Gatherer: b.metrics, Pprof: cfg.HTTP.Pprof, Logger: log.Named("http"),
	})
	if err != nil {
		return fault.Config(fault.Problem{Check: "http", Where: "http.listen", What: err.Error(), Fix: "choose a free port, or 127.0.0.1:0 for any"})
	}
	log.Info("status page", "url", web.URL())
	return serve(ctx, b, web)
}

// serve runs the bridge and its page; the page ends with the bridge.
func serve(ctx context.Context, b *bridge, web *statusweb.Server) error {
	pages, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return web.Run(pages) })
	if b.watcher != nil {
		g.Go(func() error { b.watcher.Run(pages); return nil })
	}
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if b.closed != nil {
		g.Go(func() error {
			select {
			case <-b.closed:
				cancel(fmt.Errorf("the reader of the standard output has gone; the next run goes on with what could not be written: %w", stdout.ErrOutputClosed))
			case <-pages.Done():
			}
			return nil
		})
	}
	err := b.pipeline.Run(running)
	if err == nil && ctx.Err() == nil {
		err = context.Cause(running)
	}
	stop()
	if webErr := g.Wait(); err == nil && webErr != nil {
		return fmt.Errorf("status page: %w", webErr)
	}
	return err
}
