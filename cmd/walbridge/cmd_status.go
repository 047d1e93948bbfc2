package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replication"
)

type statusOptions struct {
	watch bool
	every time.Duration
}

func (a *app) statusCommand() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use: "status", Short: "Show positions, lag, slot health and halts",
		Long: `Show the state of the bridge: positions, lag, slot health, rates, and a halt with its
ways out. It asks the running bridge (http.listen); when none of this name answers, it
looks into the databases. The exit code is 1 when the bridge is not ready.`,
		Example: "  walbridge status --watch\n  walbridge status --json",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context(), o) },
	}
	cmd.Flags().BoolVar(&o.watch, "watch", false, "show it again and again, until Ctrl-C")
	cmd.Flags().DurationVar(&o.every, "every", time.Second, "with --watch: how often")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) status(ctx context.Context, o statusOptions) error {
	if o.every < 100*time.Millisecond {
		return usageError{errors.New("--every is less than 100ms")}
	}
	loaded, err := a.load()
	if err != nil {
		return err
	}
	if !o.watch {
		return a.statusOnce(ctx, loaded)
	}
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	for {
		if a.terminal && !a.json {
			fmt.Fprint(a.stdout, "\x1b[H\x1b[2J") // home, clear
		}
		if err := a.statusOnce(ctx, loaded); err != nil && !errors.Is(err, errChecked) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *app) statusOnce(ctx context.Context, l configs.Loaded) error {
	s, err := a.currentStatus(ctx, l)
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(s)
	} else {
		err = showStatus(a.stdout, s)
	}
	if err == nil && !s.Ready {
		return errChecked
	}
	return err
}

// currentStatus asks the running bridge of the configuration's name, and the
// databases when there is none.
func (a *app) currentStatus(ctx context.Context, l configs.Loaded) (status.Status, error) {
	listen, name := l.Config.HTTP.Listen, l.Config.Name
	s, err := runningStatus(ctx, listen)
	detail := "no bridge answers at " + listen
	switch {
	case err == nil && s.Bridge == name:
		return s, nil
	case err == nil:
		detail = fmt.Sprintf("another bridge, %q, answers at %s; %q does not: give each an http.listen of its own", s.Bridge, listen, name)
	}
	if s, err = a.storedStatus(ctx, l); err != nil {
		return s, fmt.Errorf("%s; look into the databases: %w", detail, err)
	}
	s.Detail = detail
	return s, nil
}

// statusWithin bounds a question to a running bridge, which answers from memory.
const statusWithin = 3 * time.Second

// runningStatus asks the bridge that listens there.
func runningStatus(ctx context.Context, listen string) (status.Status, error) {
	var s status.Status
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return s, err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("ask the running bridge: %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 8<<20)).Decode(&s); err != nil {
		return s, fmt.Errorf("ask the running bridge: %w", err)
	}
	if s.Bridge == "" {
		return s, errors.New("what answers is no bridge")
	}
	return s, nil
}

// storedStatus is what the databases know of a bridge that does not run.
func (a *app) storedStatus(ctx context.Context, l configs.Loaded) (status.Status, error) {
	now := time.Now()
	s := status.Status{
		Bridge: l.Config.Name, Version: a.version, State: status.StateStopped, At: now,
		Source: status.Source{DSN: l.Config.Source.DSN.String(), Slot: l.Config.Source.Slot, Publication: l.Config.Source.Publication},
		Sink:   sinkOf(l),
	}
	src, err := source(l, a.quiet())
	if err != nil {
		return s, err
	}
	srv, err := src.Inspect(ctx)
	if err != nil {
		return s, err
	}
	s.Source.ServerVersion, s.Source.SystemID, s.Source.Timeline = srv.Version, fmt.Sprint(srv.SystemID), srv.Timeline
	s.LSN.Server = srv.WALEnd.String()
	if slot := srv.Slot; slot != nil {
		s.Slot = &status.Slot{
			Active: slot.Active, WALStatus: slot.WALStatus, RetainedBytes: srv.WALEnd.Sub(slot.RestartLSN), SafeBytes: slot.SafeWALSize,
			ConfirmedFlush: slot.ConfirmedFlush.String(), Restart: slot.RestartLSN.String(), XminAge: slot.CatalogXminAge,
		}
		s.LSN.Reported = slot.ConfirmedFlush.String()
	}
	if l.Config.Sink.Worktable != nil {
		s.Consumers = a.storedConsumers(ctx, l)
	}
	return s, storedPosition(ctx, l, srv, &s)
}

// storedPosition adds what the destination holds.
func storedPosition(ctx context.Context, l configs.Loaded, srv *replication.Server, s *status.Status) error {
	progress, err := stored(ctx, l)
	if err != nil || progress.Phase != lsn.PhaseStreaming {
		return err
	}
	at := progress.Position.End
	s.LSN.Confirmed = at.String()
	behind := max(0, srv.WALEnd.Sub(at))
	s.Lag.ConfirmedBytes = &behind
	return nil
}

// showStatus writes a status for people.
func showStatus(w io.Writer, s status.Status) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); strings.TrimSpace(text) != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name, text)
		}
	}
	line("bridge", "%s %s", s.Bridge, s.Version)
	line("state", "%s%s", s.State, since(s))
	line("", "%s", s.Detail)
	line("source", "%s, PostgreSQL %s, slot %s", s.Source.DSN, s.Source.ServerVersion, s.Source.Slot)
	line("sink", "%s %s", s.Sink.Kind, s.Sink.Target)
	line("positions", "server %s  received %s  written %s  confirmed %s  reported %s",
		dash(s.LSN.Server), dash(s.LSN.Received), dash(s.LSN.Written), dash(s.LSN.Confirmed), dash(s.LSN.Reported))
	line("lag", "%s", lagText(s.Lag))
	if s.Slot != nil {
		line("slot", "active %s, wal_status %s, retains %s%s", yesNo(s.Slot.Active), dash(s.Slot.WALStatus), bytesText(s.Slot.RetainedBytes), safeText(s.Slot.SafeBytes))
	}
	if s.State != status.StateStopped {
		line("delivered", "%d events, %d records, %d dead letters in %d batches", s.Totals.Events, s.Totals.Records, s.Totals.DeadLetters, s.Totals.Batches)
		line("rates", "%.0f changes/s, %.0f items/s, %s/s", s.Rates.Changes, s.Rates.Items, bytesText(int64(s.Rates.Bytes)))
	}
	showSnapshot(line, s.Snapshot)
	showConsumers(line, s.Consumers)
	for _, p := range s.Warnings {
		line("warning", "%s", p.String())
	}
	showHalt(&b, s.Halt)
	_, err := io.WriteString(w, b.String())
	return err
}

// showConsumers writes a line for each reader of the work table.
func showConsumers(line func(name, format string, args ...any), c *status.Consumers) {
	if c == nil {
		return
	}
	for _, s := range c.Subscriptions {
		holds := ""
		if s.HoldsSeconds != nil {
			holds = ", holds the log beyond its retention since " + ageText(*s.HoldsSeconds)
		}
		line("subscription", "%s: %s, lag %s, %d parked, %d dead, %d workers, %d of %d lanes%s", s.Name, s.State, backlogText(s.Lag), s.Parked, s.Dead, s.Workers, s.LanesOwned, s.Lanes, holds)
	}
	for _, w := range c.Workflows {
		line("workflow", "%s: %d running, %d waiting, %d compensating, %d failed, %d halted", w.Name, w.Running, w.Waiting, w.Compensating, w.Failed, w.Halted)
	}
}

func showHalt(b *strings.Builder, h *status.Halt) {
	if h == nil {
		return
	}
	fmt.Fprintf(b, "\nhalted: %s\n%s\n%s\n", h.Rule, h.What, h.Why)
	for _, f := range h.Facts {
		fmt.Fprintf(b, "  %s: %s\n", f.Name, f.Value)
	}
	for i, way := range h.Ways {
		fmt.Fprintf(b, "way out %d: %s\n", i+1, way.Text)
		for _, c := range way.Commands {
			fmt.Fprintf(b, "    %s\n", c)
		}
	}
}

func since(s status.Status) string {
	if s.Since.IsZero() {
		return ""
	}
	return " for " + s.At.Sub(s.Since).Round(time.Second).String()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func lagText(l status.Lag) string {
	var parts []string
	if l.Seconds != nil {
		parts = append(parts, fmt.Sprintf("%.1f s", *l.Seconds))
	}
	if l.ConfirmedBytes != nil {
		parts = append(parts, bytesText(*l.ConfirmedBytes)+" to the confirmed position")
	}
	if len(parts) == 0 {
		return "no sample yet"
	}
	return strings.Join(parts, ", ")
}

func safeText(safe *int64) string {
	if safe == nil {
		return ""
	}
	return ", " + bytesText(*safe) + " until it may be lost"
}

// bytesText writes a size for people, in powers of 1024.
func bytesText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, u := float64(n)/1024, 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[u])
}
