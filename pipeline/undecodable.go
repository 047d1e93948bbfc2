package pipeline

import (
	"errors"
	"fmt"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// decodeError is a message that the decoder cannot take.
type decodeError struct {
	at  lsn.LSN // the last durable position, to which the next try returns
	err error
}

func (e *decodeError) Error() string { return e.err.Error() }
func (e *decodeError) Unwrap() error { return e.err }

// undecodableLimit is how often the same message may fail before it is no accident
// of the connection.
const undecodableLimit = 3

// undecodable decides what follows from a decodeError: another try, in case bytes
// were lost on the way; the third of the same is a halt. A transaction that cannot
// be completed is one at once.
func (p *Pipeline) undecodable(e *decodeError) error {
	var incomplete *decoder.IncompleteTransactionError
	if errors.As(e, &incomplete) {
		return incompleteHalt(incomplete)
	}
	key := e.at.String() + e.Error()
	if p.failedKey != key {
		p.failedKey, p.failed = key, 0
	}
	if p.failed++; p.failed < undecodableLimit {
		return fault.Transient("undecodable", e)
	}
	return &fault.Halt{
		Rule:  "undecodable",
		What:  fmt.Sprintf("the server sends what this version cannot read, %d times in the same way: %v", undecodableLimit, e),
		Why:   "Going past it would leave changes out. Nothing from it on has been confirmed to the server.",
		Facts: []fault.Fact{{Name: "confirmed", Value: e.at.String()}},
		Ways: []fault.Way{
			{Text: "A newer walbridge may know the message; so may the slot be to blame, when it was made with options that the bridge does not use. Look at the slot, then start again.",
				Commands: []string{"walbridge doctor", "walbridge run"}},
		},
		Err: e.err,
	}
}

func incompleteHalt(e *decoder.IncompleteTransactionError) *fault.Halt {
	return &fault.Halt{
		Rule: "incomplete-transaction",
		What: "the destination has a part of a large transaction, and the server does not send the rest of it",
		Why:  "What is there of it cannot be completed, and would stand as if it were whole.",
		Facts: []fault.Fact{
			{Name: "wanted", Value: fmt.Sprintf("commit %s, xid %d, from change %d on", e.Want, e.WantXid, uint64(e.Seq)+1)},
			{Name: "got", Value: fmt.Sprintf("commit %s, xid %d", e.Got, e.GotXid)},
		},
		Ways: []fault.Way{
			{Text: "If the server was replaced by an older copy or another standby, bring the right one back and start again.", Commands: []string{"walbridge run"}},
			{Text: "Else start over under a new name (the old one stays halted), and reconcile what the destination holds of that transaction.", Commands: []string{"walbridge teardown", "walbridge setup", "walbridge run"}},
		},
		Err: e,
	}
}
