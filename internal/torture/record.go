package torture

import (
	"fmt"
	"strconv"

	"github.com/walbridge/walbridge/internal/lsn"
)

// record is a change record taken apart; its parts alias the payload.
type record struct {
	op, schema, table        string
	key, oldKey, newKey      []byte // nil: not there
	before, after, unchanged []byte
	commit                   lsn.LSN
	seq                      uint32
	bridge                   string
}

// parseRecord reads a payload of the envelope walbridge.
func parseRecord(payload []byte) (record, error) {
	var r record
	err := members(payload, func(name, value []byte) error {
		switch string(name) {
		case "op":
			r.op = text1(value)
		case "schema":
			r.schema = text1(value)
		case "table":
			r.table = text1(value)
		case "key":
			r.key = notNull(value)
		case "old_key":
			r.oldKey = notNull(value)
		case "new_key":
			r.newKey = notNull(value)
		case "before":
			r.before = notNull(value)
		case "after":
			r.after = notNull(value)
		case "unchanged":
			r.unchanged = value
		case "source":
			return r.parseSource(value)
		case "cascade", "restart_identity":
		default:
			return fmt.Errorf("member %s: %w", name, errSyntax)
		}
		return nil
	})
	if err == nil && (r.op == "" || r.schema == "" || r.table == "" || r.bridge == "") {
		err = fmt.Errorf("op, schema, table or source is missing: %w", errSyntax)
	}
	return r, err
}

func (r *record) parseSource(source []byte) error {
	return members(source, func(name, value []byte) error {
		var err error
		switch string(name) {
		case "bridge":
			r.bridge = text1(value)
		case "commit_lsn":
			r.commit, err = lsn.Parse(text1(value))
		case "tx_seq":
			var seq uint64
			seq, err = strconv.ParseUint(string(value), 10, 32)
			r.seq = uint32(seq)
		}
		return err
	})
}

// text1 is a JSON string's text; anything else is empty.
func text1(value []byte) string {
	if len(value) < 2 || value[0] != '"' {
		return ""
	}
	return string(unquote(value))
}

func notNull(value []byte) []byte {
	if string(value) == "null" {
		return nil
	}
	return value
}
