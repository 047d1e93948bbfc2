package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/internal/demo"
)

type demoOptions struct {
	length  time.Duration
	rate    int
	sink    string
	brokers []string
}

// unwatched is how long a demo goes on whose output is no terminal, so that nobody is
// there to end it.
const unwatched = 30 * time.Second

func (a *app) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use: "demo", Short: "Show the main job on this machine, without any set-up",
		Long: `Start a throwaway PostgreSQL (one that is on this machine, else one that is downloaded
once), an application with an outbox and a legacy table, and the bridge into a work
table. The bridge is killed once in the middle with SIGKILL. At the end, the source and
the work table are compared; the exit code is 1 when anything is off.

With --sink kafka the destination is a Kafka cluster of yours, reached without TLS and
login. The demo makes topics there whose names begin with walbridge_demo_, reads them as
a consumer of committed records, compares what that has seen, and deletes them.`,
		Example: "  walbridge demo --for 20s\n  walbridge demo --for 20s --sink kafka --brokers localhost:9092",
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("for") && !a.terminal {
				o.length = unwatched
			}
			return a.demo(cmd.Context(), o)
		},
	}
	cmd.Flags().DurationVar(&o.length, "for", 0, fmt.Sprintf("end after this time; without it with Ctrl-C, or after %v when the output is no terminal", unwatched))
	cmd.Flags().IntVar(&o.rate, "rate", 200, "orders a second")
	cmd.Flags().StringVar(&o.sink, "sink", "worktable", "the destination: worktable or kafka")
	cmd.Flags().StringSliceVar(&o.brokers, "brokers", nil, "with --sink kafka: brokers of the cluster, host:port,…")
	return cmd
}

func (a *app) demo(ctx context.Context, o demoOptions) error {
	if o.length < 0 || o.rate < 1 || o.rate > 5000 {
		return usageError{errors.New("--for must not be negative, and --rate lies between 1 and 5000")}
	}
	if o.sink != "worktable" && o.sink != "kafka" {
		return usageError{fmt.Errorf("--sink %s: worktable and kafka are possible", o.sink)}
	}
	if (o.sink == "kafka") != (len(o.brokers) > 0) {
		return usageError{errors.New("--sink kafka and --brokers go together")}
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	summary, err := demo.Run(ctx, demo.Config{
		For: o.length, Rate: o.rate, Bridge: program, Out: a.stdout, Terminal: a.terminal, Fetching: a.fetching(), Brokers: o.brokers,
	})
	if err != nil {
		return err
	}
	if err := summary.Write(a.stdout); err != nil {
		return err
	}
	if !summary.OK() {
		return errChecked
	}
	return nil
}

// fetching shows the download of PostgreSQL.
func (a *app) fetching() func(done, total int64) {
	var bar *progressbar.ProgressBar
	return func(done, total int64) {
		if bar == nil {
			bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(a.stderr), progressbar.OptionShowBytes(true),
				progressbar.OptionSetDescription("downloading PostgreSQL, once"), progressbar.OptionThrottle(100*time.Millisecond),
				progressbar.OptionOnCompletion(func() { fmt.Fprintln(a.stderr) }))
		}
		_ = bar.Set64(done) // a bar that cannot be drawn is no reason to stop
	}
}
