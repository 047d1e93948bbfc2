package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// begin opens a transaction and decides by its commit LSN whether the sink has
// it. The server's own test is the same: it leaves a transaction out when its
// commit record begins before the position that replication was started at
// (snapbuild.c: SnapBuildXactNeedsSkip). A record that begins exactly there is
// the next one: a commit LSN may equal the end LSN of the transaction before.
func (d *Decoder) begin(m *BeginMessage) (Step, error) {
	switch {
	case d.open:
		return StepNone, &SequenceError{m.Kind(), "the transaction before has not ended", d.tx.Commit, m.FinalLSN}
	case m.FinalLSN < d.floor || m.FinalLSN == 0:
		return StepNone, &SequenceError{m.Kind(), "its commit LSN lies before the end of what came before", d.floor, m.FinalLSN}
	}
	d.tx = Tx{Commit: m.FinalLSN, CommitTime: m.CommitTime, Xid: m.Xid}
	d.open, d.current = true, true
	d.seq, d.keep = 0, 0
	d.skip = m.FinalLSN < d.from.End
	if d.skip {
		d.stats.SkippedTransactions++
		return StepNone, nil
	}
	return StepBegin, d.resumeWith(m)
}

// resumeWith checks the first transaction that is not skipped when the position
// lies inside one: it must be that one.
func (d *Decoder) resumeWith(m *BeginMessage) error {
	if !d.resume {
		return nil
	}
	if m.FinalLSN != d.from.Commit || d.fromXid != 0 && m.Xid != d.fromXid {
		return d.incomplete(m.FinalLSN, m.Xid)
	}
	d.resume = false
	d.keep = uint64(d.from.Seq) + 1
	return nil
}

// incomplete is the error for what came instead of the transaction to resume.
func (d *Decoder) incomplete(got lsn.LSN, xid uint32) error {
	return &IncompleteTransactionError{
		Want: d.from.Commit, WantXid: d.fromXid, Got: got, GotXid: xid, Seq: d.from.Seq,
	}
}

// commit ends the transaction and proves what begin went by.
func (d *Decoder) commit(m *CommitMessage) (Step, error) {
	switch {
	case !d.open:
		return StepNone, &SequenceError{m.Kind(), "no transaction has begun", d.floor, m.CommitLSN}
	case m.CommitLSN != d.tx.Commit:
		return StepNone, &SequenceError{m.Kind(), "its commit LSN is not the one that Begin announced", d.tx.Commit, m.CommitLSN}
	case m.EndLSN <= m.CommitLSN:
		return StepNone, &SequenceError{m.Kind(), "its end LSN is not after its commit LSN", m.CommitLSN, m.EndLSN}
	case d.skip && m.EndLSN > d.from.End:
		return StepNone, &PositionError{d.from.End, m.CommitLSN, m.EndLSN}
	case d.seq < d.keep:
		return StepNone, &IncompleteTransactionError{
			Want: d.from.Commit, WantXid: d.fromXid, Got: d.tx.Commit, GotXid: d.tx.Xid,
			Seq: d.from.Seq, Changes: uint32(d.seq),
		}
	}
	d.tx.End = m.EndLSN
	d.floor, d.open = m.EndLSN, false
	if d.skip {
		return StepNone, nil
	}
	return StepCommit, nil
}

// origin says where the transaction was written first.
func (d *Decoder) origin(m *OriginMessage) (Step, error) {
	if !d.open {
		return StepNone, &SequenceError{m.Kind(), "no transaction has begun", d.floor, m.CommitLSN}
	}
	d.tx.Origin = d.names.intern(m.Name)
	return StepNone, nil
}
