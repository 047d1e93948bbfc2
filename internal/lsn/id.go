package lsn

import (
	"cmp"
	"fmt"
	"strconv"
)

// ID names one item for good: the same change read again from the same WAL gets
// the same id. Its text form sorts as the ids do.
type ID struct {
	// Commit is the LSN of the transaction's commit record, which rises strictly
	// from one transaction to the next (unlike the LSNs of rows, which are neither
	// monotonic between transactions nor unique within one).
	Commit LSN
	// Seq is the number of the change in its transaction, from 0, counted in the
	// order of delivery and before any filter.
	Seq uint32
	// Sub is the number of the item among those of one change: 0 but for the second
	// half of a key change, and for truncates, where it is the lane.
	Sub uint16
}

// IDLen is the length of an id's text form.
const IDLen = 16 + 1 + 8 + 1 + 4

// Append appends the text form, %016X-%08X-%04X, without allocating.
func (id ID) Append(dst []byte) []byte {
	dst = appendHexDigits(dst, uint64(id.Commit), 16)
	dst = append(dst, '-')
	dst = appendHexDigits(dst, uint64(id.Seq), 8)
	dst = append(dst, '-')
	return appendHexDigits(dst, uint64(id.Sub), 4)
}

// String returns the text form.
func (id ID) String() string { return string(id.Append(make([]byte, 0, IDLen))) }

// Compare orders ids as the log has them: -1, 0 or 1.
func (id ID) Compare(o ID) int {
	return cmp.Or(cmp.Compare(id.Commit, o.Commit), cmp.Compare(id.Seq, o.Seq), cmp.Compare(id.Sub, o.Sub))
}

// ParseID reads the text form, exactly.
func ParseID(s string) (ID, error) {
	if len(s) != IDLen || s[16] != '-' || s[25] != '-' {
		return ID{}, fmt.Errorf("parse id %q: want the form %%016X-%%08X-%%04X", s)
	}
	commit, err1 := strconv.ParseUint(s[:16], 16, 64)
	seq, err2 := strconv.ParseUint(s[17:25], 16, 32)
	sub, err3 := strconv.ParseUint(s[26:], 16, 16)
	if err := cmp.Or(err1, err2, err3); err != nil {
		return ID{}, fmt.Errorf("parse id %q: %w", s, err)
	}
	return ID{LSN(commit), uint32(seq), uint16(sub)}, nil
}
