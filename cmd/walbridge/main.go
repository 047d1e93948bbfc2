// Command walbridge reads a PostgreSQL logical replication slot and delivers what
// committed, in commit order, to a work table in PostgreSQL or to standard output,
// and never tells the server to forget anything that the destination has not
// stored.
//
// There is no logic here: one small file for each command, flags, wiring, signals
// and exit codes.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

func main() {
	// A reader that has gone is an error of the write, not the end of the process.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	a := &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.LookupEnv,
		terminal: term.IsTerminal(int(os.Stdout.Fd())), version: buildVersion(),
	}
	code := a.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
