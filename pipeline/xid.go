package pipeline

// xidWidener makes 32-bit transaction ids 64 bits wide. The stream carries the low
// half; the epoch comes from pg_snapshot_xmax(pg_current_snapshot()) at the start
// of a session. Of the values with the low half it was given, it takes the one
// nearest to the last it knows, which is right as long as two transactions that
// follow each other are less than 2^31 ids apart, as PostgreSQL itself demands.
type xidWidener struct{ last uint64 }

func (w *xidWidener) widen(xid uint32) uint64 {
	if xid == 0 {
		return 0
	}
	diff := int32(xid - uint32(w.last))
	if diff < 0 && uint64(-int64(diff)) > w.last {
		w.last = uint64(xid)
		return w.last
	}
	w.last += uint64(int64(diff))
	return w.last
}
