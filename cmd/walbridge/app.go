package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-hclog"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // at run time
	exitUsage   = 2 // usage, configuration, or a server's settings
	exitHalted  = 3 // only with --exit-on-halt
)

// app is the world as a command sees it; tests give it another one.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            configs.Env
	terminal       bool // stdout is one
	version        string

	configPath string
	json       bool
	exitOnHalt bool
}

// errChecked is returned by a command that has shown what is wrong by itself: only
// the exit code is left to say.
var errChecked = errors.New("checked")

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (u usageError) Error() string { return u.err.Error() }
func (u usageError) Unwrap() error { return u.err }

// main runs one command line and returns the exit code.
func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(append([]string{}, args...)) // cobra takes nil for the process's own
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !errors.Is(err, errChecked) {
		a.report(err)
	}
	if usage := (usageError{}); errors.As(err, &usage) {
		fmt.Fprintf(a.stderr, "See `%s --help`.\n", cmd.CommandPath())
	}
	return a.exitCode(err)
}

func (a *app) exitCode(err error) int {
	var config *fault.ConfigError
	var halt *fault.Halt
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &config), errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &halt) && a.exitOnHalt:
		return exitHalted
	}
	return exitFailure
}

// report shows an error once: problems as a list, everything without secrets.
func (a *app) report(err error) {
	var config *fault.ConfigError
	if !errors.As(err, &config) {
		fmt.Fprintln(a.stderr, "walbridge: "+secret.Redact(err.Error()))
		return
	}
	if a.json {
		e := json.NewEncoder(a.stderr)
		e.SetEscapeHTML(false)
		_ = e.Encode(map[string]any{"problems": redacted(config.Problems)}) // standard error has nowhere to report to
		return
	}
	a.problems(a.stderr, config.Problems)
}

// redacted returns a copy of findings whose texts hold no password.
func redacted(all []fault.Problem) []fault.Problem {
	shown := make([]fault.Problem, len(all))
	for i, p := range all {
		p.Where, p.What, p.Why, p.Fix = secret.Redact(p.Where), secret.Redact(p.What), secret.Redact(p.Why), secret.Redact(p.Fix)
		shown[i] = p
	}
	return shown
}

// problems shows findings, the worst first as they come: what, why, and the way out.
func (a *app) problems(w io.Writer, all []fault.Problem) {
	for _, p := range redacted(all) {
		mark := "error"
		if p.Warning {
			mark = "warning"
		}
		line := mark + ": "
		if p.Where != "" {
			line += p.Where + ": "
		}
		fmt.Fprintln(w, line+p.What)
		if p.Why != "" {
			fmt.Fprintln(w, "    why: "+p.Why)
		}
		if p.Fix != "" {
			fmt.Fprintln(w, "    fix: "+p.Fix)
		}
	}
}

// load reads the configuration and shows its warnings.
func (a *app) load() (configs.Loaded, error) {
	loaded, err := configs.Load(a.configPath, a.env)
	if err != nil {
		return loaded, err
	}
	a.problems(a.stderr, loaded.Warnings)
	return loaded, nil
}

func (a *app) logger(c configs.Log) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name: "walbridge", Level: hclog.LevelFromString(c.Level), Output: a.stderr, JSONFormat: c.Format == configs.FormatJSON,
		TimeFormat: "2006-01-02T15:04:05.000Z07:00",
	})
}

// quiet is the logger of commands that only ask.
func (a *app) quiet() hclog.Logger { return hclog.NewNullLogger() }

// printJSON writes a value for scripts.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
