package worktable

import (
	"encoding/binary"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
)

// The binary form of COPY (manual, COPY, "Binary Format"): a header, per row the
// number of fields and each field behind its length, -1 for NULL, and a trailer.

// copyHeader is the signature, no flags, no extension.
const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// copyTrailer is a row of -1 fields.
const copyTrailer = "\xff\xff"

// logColumns are the columns of a row, the fixed ones first, so that what is
// patched lies at a fixed distance from the row's beginning.
const (
	logColumns = "seq,lane,stream_id,tx_end,commit_lsn,tx_seq,sub,committed_at,created_at," +
		"kind,stream,partition_key,idempotency_key,type,source,available_at,payload,headers"
	logFields = 18
)

// Offsets of the fixed columns' values in a row.
const (
	atSeq       = 2 + 4
	atLane      = atSeq + 8 + 4
	atStream    = atLane + 2 + 4
	atEnd       = atStream + 4 + 4
	atCommit    = atEnd + 1 + 4
	atTxSeq     = atCommit + 8 + 4
	atSub       = atTxSeq + 8 + 4
	atCommitted = atSub + 4 + 4
	atCreated   = atCommitted + 8 + 4
	fixedBytes  = atCreated + 8
)

// appendRow appends one row of log. seq, stream_id and tx_end are left zero.
func appendRow(dst []byte, it *mapper.Item, id lsn.ID, lane int, eventID []byte, source string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, logFields)
	dst = appendInt64(dst, 0)
	dst = binary.BigEndian.AppendUint16(appendLen(dst, 2), uint16(lane))
	dst = binary.BigEndian.AppendUint32(appendLen(dst, 4), 0)
	dst = append(appendLen(dst, 1), 0)
	dst = appendID(dst, id)
	dst = appendInt64(dst, int64(it.CommittedAt))
	dst = appendInt64(dst, int64(ownTime(it)))
	dst = appendString(dst, it.Kind.String())
	dst = appendString(dst, it.Stream)
	dst = appendKey(dst, it.Key)
	dst = appendBytes(dst, eventID)
	dst = appendMaybe(dst, it.Type)
	dst = appendString(dst, source)
	dst = appendTime(dst, it.AvailableAt)
	dst = appendPayload(dst, it.Payload)
	return appendMaybe(dst, it.Headers)
}

// ownTime is an item's own time, the commit's when it has none.
func ownTime(it *mapper.Item) lsn.Micros {
	if it.Time == 0 {
		return it.CommittedAt
	}
	return it.Time
}

func appendLen(dst []byte, n int) []byte { return binary.BigEndian.AppendUint32(dst, uint32(n)) }

func appendNull(dst []byte) []byte { return binary.BigEndian.AppendUint32(dst, 0xFFFFFFFF) }

func appendInt64(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(appendLen(dst, 8), uint64(v))
}

// appendID appends commit_lsn, tx_seq and sub. pg_lsn is its 64 bits (pg_lsn.c,
// pg_lsn_recv).
func appendID(dst []byte, id lsn.ID) []byte {
	dst = appendInt64(dst, int64(id.Commit))
	dst = appendInt64(dst, int64(id.Seq))
	return binary.BigEndian.AppendUint32(appendLen(dst, 4), uint32(id.Sub))
}

func appendString(dst []byte, s string) []byte { return append(appendLen(dst, len(s)), s...) }

func appendBytes(dst, b []byte) []byte { return append(appendLen(dst, len(b)), b...) }

// appendMaybe appends bytes, NULL for nil.
func appendMaybe(dst, b []byte) []byte {
	if b == nil {
		return appendNull(dst)
	}
	return appendBytes(dst, b)
}

// appendKey appends a partition key; none, and the empty one, are NULL: no order.
func appendKey(dst, key []byte) []byte {
	if len(key) == 0 {
		return appendNull(dst)
	}
	return appendBytes(dst, key)
}

// appendTime appends a timestamptz, which is microseconds since 2000 (timestamp.c,
// timestamptz_recv), NULL for none.
func appendTime(dst []byte, at lsn.Micros) []byte {
	if at == 0 {
		return appendNull(dst)
	}
	return appendInt64(dst, int64(at))
}

// appendPayload lets the payload write itself behind its length.
func appendPayload(dst []byte, p mapper.Payload) []byte {
	if p == nil {
		return appendNull(dst)
	}
	at := len(dst)
	dst = p.AppendJSON(appendLen(dst, 0))
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// fields cuts a row that appendRow made into its values, nil for NULL. They alias
// the row.
func fields(row []byte) [logFields][]byte {
	var all [logFields][]byte
	row = row[2:]
	for i := range all {
		n := int32(binary.BigEndian.Uint32(row))
		row = row[4:]
		if n < 0 {
			continue
		}
		all[i], row = row[:n:n], row[n:]
	}
	return all
}

// rowID reads the id of a row.
func rowID(row []byte) lsn.ID {
	return lsn.ID{
		Commit: lsn.LSN(binary.BigEndian.Uint64(row[atCommit:])),
		Seq:    uint32(binary.BigEndian.Uint64(row[atTxSeq:])),
		Sub:    uint16(binary.BigEndian.Uint32(row[atSub:])),
	}
}
