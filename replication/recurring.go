package replication

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// recurringLimit is how often the same error at the same place may come before it
// counts as one that the next try cannot cure. Where the server does not say what it
// was at, more tries are made: about a minute, with the pauses between them.
const (
	recurringLimit  = 3
	placelessLimit  = 8
	internalFailure = "XX" // class of SQLSTATE: internal_error, data_corrupted, index_corrupted
)

// recurring remembers the last error that could come again for ever.
type recurring struct {
	mu    sync.Mutex
	key   string
	count int
}

// Recurring looks at an error that ended a stream and returns it, or a *fault.Halt
// when the server has failed in the same way at the same place several times in a
// row: decoding uses the catalog of that place, so nothing that is changed today
// gets it past, and it must never be skipped silently. confirmed is the durable
// position, to which the next try would return; a cut connection in between does
// not start the count anew, another error of this kind does.
func (s *Source) Recurring(err error, confirmed lsn.LSN) error {
	var pg *pgconn.PgError
	var protocol *ProtocolError
	var key, what string
	at, limit := confirmed, recurringLimit
	switch {
	case errors.As(err, new(*fault.Halt)) || errors.As(err, new(*fault.ConfigError)):
		return err
	case errors.As(err, &protocol):
		what = protocol.What
		key = what
	case errors.As(err, &pg):
		if place, ok := pluginLSN(pg); ok {
			at = place
		} else if limit = placelessLimit; !strings.HasPrefix(pg.Code, internalFailure) {
			return err
		}
		what = serverText(err)
		key = pg.Code + pg.Message
	default:
		return err
	}
	if n := s.recurring.seen(key + "@" + at.String()); n < limit {
		return err
	}
	return poisonHalt(what, limit, at, confirmed, err)
}

func (r *recurring) seen(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.key != key {
		r.key, r.count = key, 0
	}
	r.count++
	return r.count
}

func poisonHalt(what string, times int, at, confirmed lsn.LSN, err error) error {
	return &fault.Halt{
		Rule:  "poison",
		What:  fmt.Sprintf("the server cannot send what it has at %s; it failed %d times in the same way: %s", at, times, what),
		Why:   "everything behind that place is held up; going past it would leave changes out",
		Facts: []fault.Fact{{Name: "failed at", Value: at.String()}, {Name: "confirmed", Value: confirmed.String()}},
		Ways: []fault.Way{
			{Text: "cure the server: an update of its minor version helps against defects of decoding (\"invalid memory alloc request size\"); removing the table from the publication does not help, since decoding uses the publication as it was at that place", Commands: []string{"walbridge run"}},
			startOver("the changes between the confirmed position and the new start are not delivered"),
		},
		Err: err,
	}
}
