package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// root makes the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "walbridge",
		Short: "Change data capture for PostgreSQL that never confirms what is not stored",
		Long: `walbridge reads a logical replication slot and delivers what committed, in commit
order, to a durable work table in PostgreSQL or to standard output. Domain events
come from outbox tables, change records from all others. The position is stored in
one transaction with the items, so that nothing is lost and nothing is repeated.

Start with "walbridge demo", which needs nothing, or look at a database of your own
with "walbridge peek".`,
		Example: `  walbridge demo
  walbridge init --source postgres://me@db/shop > walbridge.yaml
  walbridge setup && walbridge doctor && walbridge run`,
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Version:           a.version,
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", "", "configuration file; WALBRIDGE_CONFIG, then walbridge.yaml without it")
	if err := root.MarkPersistentFlagFilename("config", "yaml", "yml"); err != nil {
		panic(err) // the flag was made a line above
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		a.runCommand(), a.setupCommand(), a.doctorCommand(), a.statusCommand(), a.teardownCommand(),
		a.initCommand(), a.explainCommand(), a.peekCommand(), a.snapshotCommand(), a.dlqCommand(), a.queueCommand(), a.tailCommand(), a.workflowCommand(), a.migrateCommand(),
		a.configCommand(), a.versionCommand(), a.demoCommand(),
		a.completionCommand(),
	)
	group(root)
	for _, cmd := range root.Commands() {
		if cmd.HasSubCommands() && cmd.RunE == nil {
			group(cmd)
		}
	}
	return root
}

// group makes a command that only holds others: without one of them it shows its
// help, with a word that is none of them it says which may be meant.
func group(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("unknown command %q", args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return usageError{errors.New(text)}
	}
}

// arguments makes cobra's complaints about arguments usage errors.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// jsonFlag adds --json to a command that prints data.
func (a *app) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON for scripts")
}
