package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Print version, commit and Go version",
		Long:    "Print the version of the program, the commit it was built from, and the version of Go.",
		Example: "  walbridge version --json",
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			b := build()
			if a.json {
				return a.printJSON(b)
			}
			_, err := fmt.Fprintf(a.stdout, "walbridge %s, commit %s, %s\n", b.Version, b.commit(), b.Go)
			return err
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

// buildInfo is what the binary knows of its making.
type buildInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	// Modified: the source was not as committed.
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
}

func (b buildInfo) commit() string {
	if b.Modified {
		return b.Commit + " and changes"
	}
	return b.Commit
}

func build() buildInfo {
	b := buildInfo{Version: "devel", Commit: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func buildVersion() string { return build().Version }
