package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/sink/kafka"
)

func (a *app) teardownCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "teardown", Short: "Drop the replication slot and the publication",
		Long: `Drop the replication slot and the publication of the bridge in the source, after asking.
What the slot still holds is not delivered any more. What the destination
holds is left as it is, the position too, so that this name halts when it is started again: start over under
another name. The bridge must not be running.`,
		Example: "  walbridge teardown --yes",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.teardown(cmd.Context(), yes) },
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) teardown(ctx context.Context, yes bool) error {
	loaded, err := a.load()
	if err != nil {
		return err
	}
	src, err := source(loaded, a.quiet())
	if err != nil {
		return err
	}
	srv, err := src.Inspect(ctx)
	if err != nil {
		return err
	}
	cfg := loaded.Config.Source
	if srv.Slot != nil {
		fmt.Fprintf(a.stdout, "slot %s: confirmed %s, %s of WAL after it are not delivered\n", cfg.Slot, srv.Slot.ConfirmedFlush, bytesText(srv.WALEnd.Sub(srv.Slot.ConfirmedFlush)))
	}
	if !yes && !a.agreed(fmt.Sprintf("Drop slot %s and publication %s?", cfg.Slot, cfg.Publication)) {
		_, err := fmt.Fprintln(a.stdout, "nothing dropped")
		return err
	}
	if err := src.DropSlot(ctx); err != nil {
		return err
	}
	if err := src.DropPublication(ctx); err != nil {
		return err
	}
	if k := loaded.Config.Sink.Kafka; k != nil {
		progress, letters := kafka.Own(*k, loaded.Config.Name)
		fmt.Fprintf(a.stdout, "the topics stay, with their records: those of the streams, %s with the dead letters, %s with the position\n", letters, progress)
	}
	_, err = fmt.Fprintf(a.stdout, "dropped slot %s and publication %s\nIf %q has delivered anything, its position stays at the destination: started again, it halts. To start over, give the bridge another name.\n",
		cfg.Slot, cfg.Publication, loaded.Config.Name)
	return err
}

// agreed asks a question; only a yes is one.
func (a *app) agreed(question string) bool {
	fmt.Fprintf(a.stdout, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return err == nil && (answer == "y" || answer == "yes")
}
