package torture_test

import (
	"flag"
	"runtime"
	"strconv"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// The flags of this package's tests.
var (
	seedFlag   = flag.Uint64("seed", 0, "seed of the run; 0: "+torture.SeedVariable+", or a new one")
	pictures   = flag.String("torture.pictures", "", "folder to which the pictures of the status page go that docs/img holds")
	resultFlag = flag.String("torture.result", "", "file to which full runs add a line of JSON each")
)

// atOnce is how many tests run at a time. Most of them wait for something most of
// the time, a time-out above all, so that the number of processors says little.
const atOnce = 8

func TestMain(m *testing.M) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) { // its default
		if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
			panic(err) // the value is a number
		}
	}
	pgtest.Main(m)
}

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
