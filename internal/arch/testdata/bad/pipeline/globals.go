package pipeline

import (
	_ "embed"
	"errors"
)

// ErrStop is a constant in all but name.
var ErrStop = errors.New("stop")

//go:embed text.txt
var text string

var names = map[string]int{"a": 1}

var _ error = ErrStop

var counter int

var (
	started = false
	sizes   = [2]int{1, 2}
	limit   = 5
)

func count() *int {
	started = true
	sizes[0]++
	return &limit
}

func local() {
	names := names // another variable
	_ = names
}
