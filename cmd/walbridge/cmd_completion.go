package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "Print the completion script of a shell",
		Long: `Print a script that lets a shell complete commands, flags and file names of
walbridge.

  bash        source <(walbridge completion bash)
  zsh         walbridge completion zsh > "${fpath[1]}/_walbridge"
  fish        walbridge completion fish > ~/.config/fish/completions/walbridge.fish
  powershell  walbridge completion powershell | Out-String | Invoke-Expression`,
		Example:   "  source <(walbridge completion bash)",
		ValidArgs: shells,
		Args:      arguments(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		RunE:      func(cmd *cobra.Command, args []string) error { return a.completion(cmd.Root(), args[0]) },
	}
}

func (a *app) completion(root *cobra.Command, shell string) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(a.stdout, true)
	case "zsh":
		return root.GenZshCompletion(a.stdout)
	case "fish":
		return root.GenFishCompletion(a.stdout, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(a.stdout)
	}
	return usageError{fmt.Errorf("no completion for the shell %q", shell)}
}
