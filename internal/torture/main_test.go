package torture_test

import (
	"flag"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// The flags of this package's tests.
var (
	seedFlag   = flag.Uint64("seed", 0, "seed of the run; 0: "+torture.SeedVariable+", or a new one")
	resultFlag = flag.String("torture.result", "", "file to which full runs add a line of JSON each")
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// seed returns the seed of this test and prints it.
func seed(t testing.TB) uint64 {
	t.Helper()
	s, err := torture.Seed(*seedFlag)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d (again: %s=%d)", s, torture.SeedVariable, s)
	return s
}
