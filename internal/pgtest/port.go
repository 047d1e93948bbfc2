package pgtest

import (
	"testing"

	"github.com/walbridge/walbridge/internal/embeddedpg"
)

// FreePort returns a TCP port of 127.0.0.1 that nobody listens on, for a program that
// wants a number: one that no client is given for an outgoing connection meanwhile.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := embeddedpg.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
