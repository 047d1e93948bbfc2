package mapper

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"github.com/walbridge/walbridge/decoder"
)

// The kinds of values that only a replayed dead letter has: what took the place of
// a value that must not leave the bridge.
const (
	valueMasked  decoder.ValueKind = 'm' // Data is the hash
	valueDropped decoder.ValueKind = 'x'
)

// rawVersion is the version of the raw form.
const rawVersion = 1

// maxCutBytes is how much of each value is kept of a row above memory.max_row.
const maxCutBytes = 1024

// EncodeRaw appends a change in the raw form of dead letters, a JSON object with
// everything that mapping it again takes: DecodeRaw reads it. Every column is in
// it; the dead letters that a Mapper makes lack what its route excludes, and have
// the hash of what it masks.
func EncodeRaw(c *decoder.Change, dst []byte) []byte {
	w := rawWriter{dst: dst}
	return w.change(c)
}

// rawWriter writes the raw form.
type rawWriter struct {
	dst      []byte
	withheld []policy // by column; nil: every column is kept
	mask     *mask
}

func (w *rawWriter) change(c *decoder.Change) []byte {
	w.text(`{"version":`).int(rawVersion).text(`,"id":"`)
	w.dst = c.ID.Append(w.dst)
	w.text(`","op":"`).text(c.Op.String()).text(`"`)
	if c.Cascade {
		w.text(`,"cascade":true`)
	}
	if c.RestartIdentity {
		w.text(`,"restart_identity":true`)
	}
	if c.CutSize > 0 {
		w.text(`,"cut_size":`).int(c.CutSize)
	}
	w.tx(c.Tx)
	w.read(c.Read)
	w.relation(c.Relation)
	w.message(c)
	w.tuple(`,"new":`, c.New, c.CutSize > 0)
	w.tuple(`,"old":`, c.Old, c.CutSize > 0)
	if c.OldIsKey {
		w.text(`,"old_is_key":true`)
	}
	return append(w.dst, '}')
}

func (w *rawWriter) text(s string) *rawWriter {
	w.dst = append(w.dst, s...)
	return w
}

func (w *rawWriter) quoted(s string) *rawWriter {
	w.dst = appendString(w.dst, []byte(s))
	return w
}

func (w *rawWriter) int(n int64) *rawWriter {
	w.dst = strconv.AppendInt(w.dst, n, 10)
	return w
}

func (w *rawWriter) tx(tx *decoder.Tx) {
	if tx == nil {
		return
	}
	w.text(`,"tx":{"commit_lsn":"`).text(tx.Commit.String())
	w.text(`","commit_time":`).int(int64(tx.CommitTime)).text(`,"xid":`).int(int64(tx.Xid))
	if tx.Origin != "" {
		w.text(`,"origin":`).quoted(tx.Origin)
	}
	w.text("}")
}

// read leaves the salt out: a key that is not in the raw form cannot be replayed.
func (w *rawWriter) read(r *decoder.Read) {
	if r == nil {
		return
	}
	w.text(`,"read":{"run":`).quoted(r.Run).text(`,"at":`).int(int64(r.At)).text("}")
}

func (w *rawWriter) relation(r *decoder.Relation) {
	if r == nil {
		return
	}
	w.text(`,"relation":{"oid":`).int(int64(r.OID)).text(`,"schema":`).quoted(r.Namespace)
	w.text(`,"table":`).quoted(r.Name).text(`,"identity":`).quoted(string(rune(r.Identity))).text(`,"columns":[`)
	for i := range r.Columns {
		if i > 0 {
			w.text(",")
		}
		w.column(&r.Columns[i])
	}
	w.text("]}")
}

func (w *rawWriter) column(c *decoder.Column) {
	w.text(`{"name":`).quoted(c.Name).text(`,"type":`).int(int64(c.TypeOID)).text(`,"typmod":`).int(int64(c.TypeMod))
	if c.Key {
		w.text(`,"key":true`)
	}
	if c.TypeName != "" {
		w.text(`,"type_schema":`).quoted(c.TypeNamespace).text(`,"type_name":`).quoted(c.TypeName)
	}
	w.text("}")
}

func (w *rawWriter) message(c *decoder.Change) {
	if c.Op != decoder.OpMessage {
		return
	}
	w.text(`,"prefix":`).quoted(c.Prefix).text(`,"lsn":"`).text(c.LSN.String()).text(`","content":`)
	w.dst = appendBase64(w.dst, c.Content)
	if c.Transactional {
		w.text(`,"transactional":true`)
	}
}

// tuple writes a row as an array: a string for text, null for NULL, an object for
// all else.
func (w *rawWriter) tuple(label string, row []decoder.Value, cut bool) {
	if row == nil {
		return
	}
	w.text(label).text("[")
	for i := range row {
		if i > 0 {
			w.text(",")
		}
		w.value(i, &row[i], cut)
	}
	w.text("]")
}

func (w *rawWriter) value(i int, v *decoder.Value, cut bool) {
	hasData := v.Kind == decoder.ValueText || v.Kind == decoder.ValueBinary
	if p := w.policy(i); hasData && p != policyKeep {
		w.withhold(p, v)
		return
	}
	switch {
	case v.Kind == decoder.ValueNull:
		w.text("null")
	case v.Kind == decoder.ValueUnchanged:
		w.text(`{"unchanged":true}`)
	case v.Kind == valueMasked:
		w.text(`{"masked":`).quoted(string(v.Data)).text("}")
	case v.Kind == valueDropped:
		w.text(`{"excluded":true}`)
	case cut && len(v.Data) > maxCutBytes:
		w.text(`{"length":`).int(int64(len(v.Data))).text(`,"begins":`)
		w.dst = append(appendBase64(w.dst, v.Data[:maxCutBytes]), '}')
	case v.Kind == decoder.ValueText && utf8.Valid(v.Data):
		w.dst = appendString(w.dst, v.Data)
	default:
		w.data(v)
	}
}

// policy says what is kept of the i-th value; of one that belongs to no column,
// nothing, where anything at all is withheld.
func (w *rawWriter) policy(i int) policy {
	switch {
	case w.withheld == nil:
		return policyKeep
	case i < len(w.withheld):
		return w.withheld[i]
	}
	return policyDrop
}

// data writes what is no text that JSON can hold.
func (w *rawWriter) data(v *decoder.Value) {
	name := `{"binary":"`
	if v.Kind == decoder.ValueText {
		name = `{"bytes":"`
	}
	w.text(name)
	w.dst = base64.StdEncoding.AppendEncode(w.dst, v.Data)
	w.text(`"}`)
}

// withhold writes what takes the place of a value that must not leave.
func (w *rawWriter) withhold(p policy, v *decoder.Value) {
	if p == policyDrop || w.mask == nil {
		w.text(`{"excluded":true}`)
		return
	}
	w.text(`{"masked":"`)
	w.dst = w.mask.append(w.dst, v.Data)
	w.text(`"}`)
}
