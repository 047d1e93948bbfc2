package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// everyCommand calls f for each command of the tree but cobra's own.
func everyCommand(t *testing.T, f func(t *testing.T, cmd *cobra.Command)) {
	t.Helper()
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		t.Run(cmd.CommandPath(), func(t *testing.T) { f(t, cmd) })
		for _, sub := range cmd.Commands() {
			if sub.Name() != "help" {
				visit(sub)
			}
		}
	}
	visit((&app{}).root())
}

func TestEveryCommandExplainsItself(t *testing.T) {
	everyCommand(t, func(t *testing.T, cmd *cobra.Command) {
		require.NotEmpty(t, cmd.Short)
		require.NotEmpty(t, cmd.Long)
		require.NotEmpty(t, cmd.Example)
		require.False(t, strings.HasSuffix(cmd.Short, "."), "the short text is no sentence")
		require.LessOrEqual(t, len(cmd.Short), 75, "the short text fits a line of the list")
		for line := range strings.Lines(cmd.Example) {
			require.True(t, strings.HasPrefix(line, "  "), "examples are indented by two: %q", line)
		}
		require.Contains(t, cmd.Example, "walbridge ")
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			require.NotEmpty(t, f.Usage, "--%s", f.Name)
			require.False(t, strings.HasSuffix(f.Usage, "."), "--%s: the usage is no sentence", f.Name)
		})
		require.True(t, cmd.Runnable(), "without a word of its own it does something, if only to show its help")
	})
}

func TestEveryCommandRefusesWhatItDoesNotKnow(t *testing.T) {
	everyCommand(t, func(t *testing.T, cmd *cobra.Command) {
		args := append(strings.Fields(cmd.CommandPath())[1:], "--no-such-flag")
		r := invoke(t, nil, args...)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.stderr, "unknown flag: --no-such-flag")
		require.Contains(t, r.stderr, "See `"+cmd.CommandPath()+" --help`.")
		require.Empty(t, r.stdout)
	})
}

func TestHelpOfEachCommand(t *testing.T) {
	everyCommand(t, func(t *testing.T, cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())
		r := invoke(t, nil, append(path[1:], "--help")...)
		require.Equal(t, exitOK, r.code)
		require.Empty(t, r.stderr)
		golden(t, "help/"+strings.Join(path, "-")+".txt", r.stdout)
	})
}

func TestUnknownCommandsAreUsageErrorsWithASuggestion(t *testing.T) {
	for line, want := range map[string]string{
		"stauts":          "walbridge: unknown command \"stauts\"; did you mean status?\nSee `walbridge --help`.\n",
		"xyzzy":           "walbridge: unknown command \"xyzzy\"\nSee `walbridge --help`.\n",
		"config validat":  "walbridge: unknown command \"validat\"; did you mean validate?\nSee `walbridge config --help`.\n",
		"config validate": "",
	} {
		r := invoke(t, nil, append(strings.Fields(line), "--config", "/nowhere/walbridge.yaml")...)
		require.Equal(t, exitUsage, r.code, line)
		if want != "" {
			require.Equal(t, want, r.stderr)
		}
	}
}

func TestWithoutACommandItShowsItsHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"help"}} {
		r := invoke(t, nil, args...)
		require.Equal(t, exitOK, r.code)
		require.Contains(t, r.stdout, "Start with \"walbridge demo\"")
	}
}
