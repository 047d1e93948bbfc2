package decodertest

import "github.com/walbridge/walbridge/internal/lsn"

// StreamStart encodes a Stream Start message.
func (Encoder) StreamStart(xid uint32, first bool) []byte {
	var segment byte
	if first {
		segment = 1
	}
	return message('S').uint32(xid).uint8(segment)
}

// StreamStop encodes a Stream Stop message.
func (Encoder) StreamStop() []byte { return message('E') }

// StreamCommit encodes a Stream Commit message.
func (Encoder) StreamCommit(xid uint32, commit, end lsn.LSN, at lsn.Micros) []byte {
	return message('c').uint32(xid).uint8(0).lsn(commit).lsn(end).time(at)
}

// StreamAbort encodes a Stream Abort message as versions 2 and 3 have it.
func (Encoder) StreamAbort(xid, subXid uint32) []byte {
	return message('A').uint32(xid).uint32(subXid)
}

// StreamAbortParallel encodes a Stream Abort message as version 4 has it with
// streaming parallel.
func (Encoder) StreamAbortParallel(xid, subXid uint32, abort lsn.LSN, at lsn.Micros) []byte {
	return message('A').uint32(xid).uint32(subXid).lsn(abort).time(at)
}

// BeginPrepare encodes a Begin Prepare message.
func (Encoder) BeginPrepare(prepare, end lsn.LSN, at lsn.Micros, xid uint32, gid string) []byte {
	return message('b').lsn(prepare).lsn(end).time(at).uint32(xid).string(gid)
}

// Prepare encodes a Prepare message.
func (Encoder) Prepare(prepare, end lsn.LSN, at lsn.Micros, xid uint32, gid string) []byte {
	return message('P').uint8(0).lsn(prepare).lsn(end).time(at).uint32(xid).string(gid)
}

// StreamPrepare encodes a Stream Prepare message.
func (Encoder) StreamPrepare(prepare, end lsn.LSN, at lsn.Micros, xid uint32, gid string) []byte {
	return message('p').uint8(0).lsn(prepare).lsn(end).time(at).uint32(xid).string(gid)
}

// CommitPrepared encodes a Commit Prepared message.
func (Encoder) CommitPrepared(commit, end lsn.LSN, at lsn.Micros, xid uint32, gid string) []byte {
	return message('K').uint8(0).lsn(commit).lsn(end).time(at).uint32(xid).string(gid)
}

// RollbackPrepared encodes a Rollback Prepared message.
func (Encoder) RollbackPrepared(prepareEnd, rollbackEnd lsn.LSN, prepared, rolledBack lsn.Micros, xid uint32, gid string) []byte {
	return message('r').uint8(0).lsn(prepareEnd).lsn(rollbackEnd).time(prepared).time(rolledBack).uint32(xid).string(gid)
}
