// Package pgtest may sleep in this file, and read the environment.
package pgtest

import (
	"os"
	"time"
)

func wait() string {
	time.Sleep(1)
	return os.Getenv("CI")
}
