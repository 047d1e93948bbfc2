// Command fetch makes sure that PostgreSQL servers of the named major versions
// are on this machine, for tests and demos: it takes what is installed and
// downloads the pinned build of what is not.
//
//	go run ./internal/embeddedpg/fetch 15 18
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"

	"github.com/walbridge/walbridge/internal/embeddedpg"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fetch:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	search := embeddedpg.Search{BinDir: os.Getenv("WALBRIDGE_PG_BIN")}
	for _, arg := range args {
		major, err := strconv.Atoi(arg)
		if err != nil {
			return fmt.Errorf("%q is no major version of PostgreSQL", arg)
		}
		i, err := search.Ensure(ctx, major, nil)
		if err != nil {
			return err
		}
		fmt.Printf("PostgreSQL %s in %s\n", i.Version, i.BinDir)
	}
	return nil
}
