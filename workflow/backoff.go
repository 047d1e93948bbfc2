package workflow

import (
	"math/rand/v2"
	"time"
)

// backoff is the pause after failure n (from 1 on): first, doubled each time, up to
// most, less a random part of at most a quarter, so that those who failed together
// do not come back together.
func backoff(n int, first, most time.Duration) time.Duration {
	d := first
	for ; n > 1 && d < most; n-- {
		d = min(2*d, most)
	}
	d = min(d, most)
	return d - time.Duration(rand.Int64N(int64(d)/4+1))
}
