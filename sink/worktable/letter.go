package worktable

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/walbridge/walbridge/mapper"
)

// letterColumns are the columns of a dead letter. NULL and default: subscription,
// seq, attempts, errors, and all about a resolution.
const (
	letterColumns = "source,commit_lsn,tx_seq,sub,lane,stream,partition_key,idempotency_key,kind,type," +
		"payload,headers,committed_at,created_at,available_at,raw,replayable,reason,error"
	letterFields = 19
)

// appendLetter appends a change that could not be mapped.
func appendLetter(dst []byte, it *mapper.Item, source string) []byte {
	d := it.DeadLetter
	if d == nil {
		d = &mapper.DeadLetter{Reason: "unknown", Error: "no reason was given"}
	}
	dst = append(dst, 0, letterFields)
	dst = appendString(dst, source)
	dst = appendID(dst, it.ID)
	dst = appendNull(dst) // lane
	dst = appendText(dst, []byte(it.Stream))
	dst = appendOptional(dst, it.Key)
	dst = appendOptional(dst, it.EventID)
	dst = appendNull(dst) // kind
	dst = appendOptional(dst, it.Type)
	dst = appendNull(dst) // payload
	dst = appendOptional(dst, it.Headers)
	dst = appendInt64(dst, int64(it.CommittedAt))
	dst = appendInt64(dst, int64(ownTime(it)))
	dst = appendTime(dst, it.AvailableAt)
	dst = appendText(dst, d.Raw)
	dst = appendBool(dst, d.Replayable)
	dst = appendText(dst, []byte(d.Reason))
	return appendText(dst, []byte(d.Error))
}

// The indices of a row's variable columns among its fields.
const (
	fieldLane = 1 + iota
	fieldStreamID
	fieldEnd
	fieldCommit
	fieldTxSeq
	fieldSub
	fieldCommitted
	fieldCreated
	fieldKind
	fieldStream
	fieldKey
	fieldEventID
	fieldType
	fieldSource
	fieldAvailable
	fieldPayload
	fieldHeaders
)

// appendRefused appends a row of log that the table has refused, with the values as
// they are. Text that no PostgreSQL text can hold goes into raw, exact, and the
// letter cannot be replayed: the log could never hold it either.
func appendRefused(dst, encoded []byte, reason, why string) []byte {
	f := fields(encoded)
	exact := unholdable(f)
	dst = append(dst, 0, letterFields)
	dst = appendText(dst, f[fieldSource])
	dst = appendBytes(dst, f[fieldCommit])
	dst = appendBytes(dst, f[fieldTxSeq])
	dst = appendBytes(dst, f[fieldSub])
	dst = appendBytes(dst, f[fieldLane])
	for _, i := range []int{fieldStream, fieldKey, fieldEventID, fieldKind, fieldType, fieldPayload, fieldHeaders} {
		dst = appendOptional(dst, f[i])
	}
	dst = appendBytes(dst, f[fieldCommitted])
	dst = appendBytes(dst, f[fieldCreated])
	dst = appendMaybe(dst, f[fieldAvailable])
	dst = appendOptional(dst, exact)
	dst = appendBool(dst, exact == nil)
	dst = appendString(dst, reason)
	return appendText(dst, []byte(why))
}

// unholdable returns the fields that no text column can hold as a JSON object of
// base64 strings, nil when there are none.
func unholdable(f [logFields][]byte) []byte {
	exact := map[string][]byte{}
	for name, i := range map[string]int{
		"stream": fieldStream, "partition_key": fieldKey, "idempotency_key": fieldEventID,
		"type": fieldType, "payload": fieldPayload, "headers": fieldHeaders,
	} {
		if !holdable(f[i]) {
			exact[name] = f[i]
		}
	}
	if len(exact) == 0 {
		return nil
	}
	text, err := json.Marshal(map[string]any{"base64": exact})
	if err != nil {
		return []byte("{}") // cannot be: a map of bytes
	}
	return text
}

// holdable reports whether a text column of a UTF8 database can hold b: valid
// UTF-8 without the zero byte (manual, "Character Types").
func holdable(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

// appendText appends text, with U+FFFD for what no text column can hold.
func appendText(dst, b []byte) []byte {
	if !holdable(b) {
		b = bytes.ReplaceAll(bytes.ToValidUTF8(b, []byte("\uFFFD")), []byte{0}, []byte("\uFFFD"))
	}
	return appendBytes(dst, b)
}

func appendOptional(dst, b []byte) []byte {
	if b == nil {
		return appendNull(dst)
	}
	return appendText(dst, b)
}

func appendBool(dst []byte, v bool) []byte {
	dst = appendLen(dst, 1)
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}
