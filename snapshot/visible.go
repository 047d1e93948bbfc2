package snapshot

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Visibility says which transactions a SELECT has seen: the value of
// pg_current_snapshot() (manual, "Transaction ID and Snapshot Information
// Functions"). Its ids are 64 bits wide and of top-level transactions, as those of
// the stream are.
type Visibility struct {
	Xmin uint64   // every id below was over
	Xmax uint64   // every id from here on was not visible
	Xip  []uint64 // between the two, those that were under way; rising
}

// ParseVisibility reads the text form, xmin:xmax:xip,….
func ParseVisibility(text string) (Visibility, error) {
	var v Visibility
	part := strings.Split(text, ":")
	if len(part) != 3 {
		return v, fmt.Errorf("parse snapshot %q: want xmin:xmax:xip", text)
	}
	var err error
	if v.Xmin, err = strconv.ParseUint(part[0], 10, 64); err != nil {
		return v, fmt.Errorf("parse snapshot %q: %w", text, err)
	}
	if v.Xmax, err = strconv.ParseUint(part[1], 10, 64); err != nil {
		return v, fmt.Errorf("parse snapshot %q: %w", text, err)
	}
	if part[2] == "" {
		return v, nil
	}
	for _, f := range strings.Split(part[2], ",") {
		x, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return v, fmt.Errorf("parse snapshot %q: %w", text, err)
		}
		v.Xip = append(v.Xip, x)
	}
	slices.Sort(v.Xip)
	return v, nil
}

// Sees reports whether a committed transaction was visible. xid is the lower half of
// its id, as the stream has it.
func (v Visibility) Sees(xid uint32) bool {
	x := v.widen(xid)
	switch {
	case x < v.Xmin:
		return true
	case x >= v.Xmax:
		return false
	}
	_, running := slices.BinarySearch(v.Xip, x)
	return !running
}

// widen returns the 64-bit id with that lower half that is nearest to Xmax: no two
// ids in use are further apart than 2^31.
func (v Visibility) widen(xid uint32) uint64 {
	diff := int32(xid - uint32(v.Xmax))
	if diff < 0 && uint64(-int64(diff)) > v.Xmax {
		return uint64(xid)
	}
	return v.Xmax + uint64(int64(diff))
}
