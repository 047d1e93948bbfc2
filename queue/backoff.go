package queue

import (
	"errors"
	"math/rand/v2"
	"time"
)

// verdict is what becomes of an item whose handler returned an error.
type verdict struct {
	dead  bool
	after time.Duration // before the next attempt
}

// judge decides about an item after a failed attempt, the attempt-th.
func (c *Config) judge(err error, attempt int) verdict {
	var dead *DeadError
	if errors.As(err, &dead) || attempt >= c.MaxAttempts {
		return verdict{dead: true}
	}
	var retry *RetryError
	if errors.As(err, &retry) {
		return verdict{after: retry.After}
	}
	return verdict{after: backoff(c.RetryAfter, c.RetryAtMost, attempt, rand.Float64())}
}

// backoff doubles first with each failed attempt, up to atMost, and takes between
// half and all of it, so that items that failed together do not come back together.
// random is in [0, 1).
func backoff(first, atMost time.Duration, attempt int, random float64) time.Duration {
	d := first
	for range attempt - 1 {
		if d >= atMost/2 {
			d = atMost
			break
		}
		d *= 2
	}
	d = min(d, atMost)
	return d/2 + time.Duration(random*float64(d/2))
}
