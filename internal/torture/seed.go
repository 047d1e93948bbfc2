package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
)

// SeedVariable is the environment variable that fixes the seed of a run.
const SeedVariable = "WALBRIDGE_SEED"

// Seed returns given when it is not 0, else the seed of WALBRIDGE_SEED, else a
// new one. Whoever uses it prints it.
func Seed(given uint64) (uint64, error) {
	if given != 0 {
		return given, nil
	}
	text := os.Getenv(SeedVariable)
	if text == "" {
		return rand.Uint64N(1<<32-1) + 1, nil
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil || seed == 0 {
		return 0, fmt.Errorf("read %s: %q is not a positive number", SeedVariable, text)
	}
	return seed, nil
}

// Rand returns the random numbers of one part of a run, such as a writer: the
// parts do not disturb one another's sequence.
func Rand(seed, part uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, part)) }
