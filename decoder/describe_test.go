package decoder_test

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/decoder"
)

// maxShown is how much of a value golden texts show.
const maxShown = 60

// describe is a message on one line, with all its fields.
func describe(m decoder.Message) string {
	switch m := m.(type) {
	case *decoder.BeginMessage:
		return fmt.Sprintf("Begin final=%s at=%d xid=%d", m.FinalLSN, m.CommitTime, m.Xid)
	case *decoder.CommitMessage:
		return fmt.Sprintf("Commit commit=%s end=%s at=%d", m.CommitLSN, m.EndLSN, m.CommitTime)
	case *decoder.OriginMessage:
		return fmt.Sprintf("Origin commit=%s name=%q", m.CommitLSN, m.Name)
	case *decoder.RelationMessage:
		return fmt.Sprintf("Relation%s oid=%d name=%q.%q identity=%q (%s)", xidText(m.Xid), m.OID, m.Namespace, m.Name, byte(m.Identity), columnsText(m.Columns))
	case *decoder.TypeMessage:
		return fmt.Sprintf("Type%s oid=%d name=%q.%q", xidText(m.Xid), m.OID, m.Namespace, m.Name)
	case *decoder.InsertMessage:
		return fmt.Sprintf("Insert%s rel=%d new=%s", xidText(m.Xid), m.Relation, rowText(m.New))
	case *decoder.UpdateMessage:
		return fmt.Sprintf("Update%s rel=%d%s new=%s", xidText(m.Xid), m.Relation, oldText(m.Old, m.OldIsKey), rowText(m.New))
	case *decoder.DeleteMessage:
		return fmt.Sprintf("Delete%s rel=%d%s", xidText(m.Xid), m.Relation, oldText(m.Old, m.OldIsKey))
	case *decoder.TruncateMessage:
		return fmt.Sprintf("Truncate%s rels=%d cascade=%t restart=%t", xidText(m.Xid), m.Relations, m.Cascade, m.RestartIdentity)
	case *decoder.LogicalMessage:
		return fmt.Sprintf("Message%s transactional=%t lsn=%s prefix=%q content=%s", xidText(m.Xid), m.Transactional, m.LSN, m.Prefix, dataText(m.Content))
	}
	return describeLater(m)
}

func describeLater(m decoder.Message) string {
	switch m := m.(type) {
	case *decoder.StreamStartMessage:
		return fmt.Sprintf("StreamStart xid=%d first=%t", m.Xid, m.First)
	case *decoder.StreamStopMessage:
		return "StreamStop"
	case *decoder.StreamCommitMessage:
		return fmt.Sprintf("StreamCommit xid=%d commit=%s end=%s at=%d", m.Xid, m.CommitLSN, m.EndLSN, m.CommitTime)
	case *decoder.StreamAbortMessage:
		return fmt.Sprintf("StreamAbort xid=%d subxid=%d lsn=%s at=%d", m.Xid, m.SubXid, m.AbortLSN, m.AbortTime)
	case *decoder.BeginPrepareMessage:
		return fmt.Sprintf("BeginPrepare prepare=%s end=%s at=%d xid=%d gid=%q", m.PrepareLSN, m.EndLSN, m.PrepareTime, m.Xid, m.GID)
	case *decoder.PrepareMessage:
		return fmt.Sprintf("Prepare prepare=%s end=%s at=%d xid=%d gid=%q", m.PrepareLSN, m.EndLSN, m.PrepareTime, m.Xid, m.GID)
	case *decoder.StreamPrepareMessage:
		return fmt.Sprintf("StreamPrepare prepare=%s end=%s at=%d xid=%d gid=%q", m.PrepareLSN, m.EndLSN, m.PrepareTime, m.Xid, m.GID)
	case *decoder.CommitPreparedMessage:
		return fmt.Sprintf("CommitPrepared commit=%s end=%s at=%d xid=%d gid=%q", m.CommitLSN, m.EndLSN, m.CommitTime, m.Xid, m.GID)
	case *decoder.RollbackPreparedMessage:
		return fmt.Sprintf("RollbackPrepared prepare_end=%s rollback_end=%s prepared=%d rolled_back=%d xid=%d gid=%q",
			m.PrepareEndLSN, m.RollbackEndLSN, m.PrepareTime, m.RollbackTime, m.Xid, m.GID)
	}
	return fmt.Sprintf("%T", m)
}

func xidText(xid uint32) string {
	if xid == 0 {
		return ""
	}
	return fmt.Sprintf(" xid=%d", xid)
}

func columnsText(columns []decoder.RelationColumn) string {
	texts := make([]string, len(columns))
	for i, c := range columns {
		texts[i] = fmt.Sprintf("%q type=%d mod=%d", c.Name, c.TypeOID, c.TypeMod)
		if c.Key {
			texts[i] += " key"
		}
	}
	return strings.Join(texts, ", ")
}

func oldText(old []decoder.Value, isKey bool) string {
	switch {
	case old == nil:
		return ""
	case isKey:
		return " key=" + rowText(old)
	}
	return " old=" + rowText(old)
}

func rowText(row []decoder.Value) string {
	texts := make([]string, len(row))
	for i, v := range row {
		switch v.Kind {
		case decoder.ValueNull:
			texts[i] = "NULL"
		case decoder.ValueUnchanged:
			texts[i] = "<unchanged>"
		case decoder.ValueBinary:
			texts[i] = fmt.Sprintf("\\x%x", v.Data)
		default:
			texts[i] = dataText(v.Data)
		}
	}
	return "(" + strings.Join(texts, ", ") + ")"
}

func dataText(b []byte) string {
	if len(b) <= maxShown {
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%q…%d bytes", b[:maxShown/2], len(b))
}
