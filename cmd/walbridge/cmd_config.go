package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/fault"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Check, show and explain the configuration",
		Long:    "Check the configuration file, show what is in force, print a commented example, or the JSON schema for an editor.",
		Example: "  walbridge config validate\n  walbridge config show",
	}
	cmd.AddCommand(a.validateCommand(), a.print("show", "Print the configuration in force, secrets redacted",
		"Print the configuration as the bridge uses it: defaults filled in, expressions resolved, secrets redacted.", func() ([]byte, error) {
			loaded, err := a.load()
			if err != nil {
				return nil, err
			}
			return loaded.Show()
		}), a.print("example", "Print a commented example",
		"Print an example in which every key is explained and has its default.", func() ([]byte, error) { return configs.Example(), nil }),
		a.print("schema", "Print the JSON schema, for editors",
			"Print the JSON schema of the configuration file, for editors that complete and check YAML by one.", func() ([]byte, error) { return configs.Schema(), nil }))
	return cmd
}

func (a *app) validateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "validate", Short: "Check the configuration without connecting to anything",
		Long: `Read the configuration file and the environment, and list every problem with its
line and column. Nothing is connected to; "walbridge doctor" does that.

Exit codes: 0 valid, 2 not.`,
		Example: "  walbridge config validate --config ./walbridge.yaml",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(*cobra.Command, []string) error { return a.validate() },
	}
	a.jsonFlag(cmd)
	return cmd
}

// validation is what `config validate --json` prints.
type validation struct {
	Path     string          `json:"path"` // empty: there is no file, only the environment
	Valid    bool            `json:"valid"`
	Problems []fault.Problem `json:"problems"` // warnings alone when it is valid
}

func (a *app) validate() error {
	loaded, err := configs.Load(a.configPath, a.env)
	var config *fault.ConfigError
	if err != nil && !errors.As(err, &config) {
		return err
	}
	if a.json {
		v := validation{Path: loaded.Path, Valid: err == nil, Problems: redacted(loaded.Warnings)}
		if config != nil {
			v.Problems = redacted(config.Problems)
		}
		if printErr := a.printJSON(v); printErr != nil || err == nil {
			return printErr
		}
		return fmt.Errorf("%w: %w", errChecked, err)
	}
	if err != nil {
		return err
	}
	a.problems(a.stderr, loaded.Warnings)
	_, err = fmt.Fprintf(a.stdout, "%s is valid\n", orEnvironment(loaded.Path))
	return err
}

// print makes a command that writes one text.
func (a *app) print(use, short, long string, text func() ([]byte, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Example: "  walbridge config " + use, Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			b, err := text()
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(b)
			return err
		},
	}
}

func orEnvironment(path string) string {
	if path == "" {
		return "the environment's configuration"
	}
	return path
}
