package mapper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// The shape of the raw form. Its writer is rawWriter.
type (
	rawChange struct {
		Version         int               `json:"version"`
		ID              string            `json:"id"`
		Op              string            `json:"op"`
		Cascade         bool              `json:"cascade"`
		RestartIdentity bool              `json:"restart_identity"`
		CutSize         int64             `json:"cut_size"`
		Tx              *rawTx            `json:"tx"`
		Read            *rawRead          `json:"read"`
		Relation        *rawRelation      `json:"relation"`
		Prefix          string            `json:"prefix"`
		LSN             string            `json:"lsn"`
		Content         []byte            `json:"content"`
		Transactional   bool              `json:"transactional"`
		New             []json.RawMessage `json:"new"`
		Old             []json.RawMessage `json:"old"`
		OldIsKey        bool              `json:"old_is_key"`
	}
	rawTx struct {
		Commit     string     `json:"commit_lsn"`
		CommitTime lsn.Micros `json:"commit_time"`
		Xid        uint32     `json:"xid"`
		Origin     string     `json:"origin"`
	}
	rawRead struct {
		Run string     `json:"run"`
		At  lsn.Micros `json:"at"`
	}
	rawRelation struct {
		OID      uint32      `json:"oid"`
		Schema   string      `json:"schema"`
		Table    string      `json:"table"`
		Identity string      `json:"identity"`
		Columns  []rawColumn `json:"columns"`
	}
	rawColumn struct {
		Name       string `json:"name"`
		Type       uint32 `json:"type"`
		TypeMod    int32  `json:"typmod"`
		Key        bool   `json:"key"`
		TypeSchema string `json:"type_schema"`
		TypeName   string `json:"type_name"`
	}
	rawValue struct {
		Unchanged bool    `json:"unchanged"`
		Excluded  bool    `json:"excluded"`
		Masked    *string `json:"masked"`
		Bytes     *[]byte `json:"bytes"`
		Binary    *[]byte `json:"binary"`
	}
)

// DecodeRaw reads what EncodeRaw or a dead letter's Raw holds. The change shares
// no memory with raw. Mapping it gives the same items with the same ids as the
// first time; what the route excluded or masked then is not in it, so that mapping
// it by a route that needs it is a dead letter again.
//
// The error says what is wrong with raw; a row that was cut is one.
func DecodeRaw(raw []byte) (*decoder.Change, error) {
	var r rawChange
	if err := decodeStrict(raw, &r); err != nil {
		return nil, fmt.Errorf("read raw change: %w", err)
	}
	c, err := r.change()
	if err != nil {
		return nil, fmt.Errorf("read raw change: %w", err)
	}
	return c, nil
}

// decodeStrict reads one JSON value that has only known members.
func decodeStrict(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something follows the end of the value")
	}
	return nil
}

func (r *rawChange) change() (*decoder.Change, error) {
	if r.Version != rawVersion {
		return nil, fmt.Errorf("version %d, this program knows %d", r.Version, rawVersion)
	}
	if r.CutSize != 0 {
		return nil, fmt.Errorf("the row of %d bytes was cut", r.CutSize)
	}
	id, err1 := lsn.ParseID(r.ID)
	op, err2 := parseOp(r.Op)
	tx, err3 := r.Tx.decode()
	rel, err4 := r.Relation.decode()
	neu, err5 := decodeTuple(r.New)
	old, err6 := decodeTuple(r.Old)
	c := &decoder.Change{
		ID: id, Op: op, Relation: rel, Tx: tx, New: neu, Old: old, OldIsKey: r.OldIsKey,
		Cascade: r.Cascade, RestartIdentity: r.RestartIdentity,
		Prefix: r.Prefix, Content: r.Content, Transactional: r.Transactional,
	}
	if r.Read != nil {
		c.Read = &decoder.Read{Run: r.Read.Run, At: r.Read.At}
	}
	var err7 error
	if op == decoder.OpMessage {
		c.LSN, err7 = lsn.Parse(r.LSN)
	}
	return c, errors.Join(err1, err2, err3, err4, err5, err6, err7, checkShape(c))
}

// checkShape checks what the mapper takes for granted of a decoder's change.
func checkShape(c *decoder.Change) error {
	if c.Relation == nil {
		if c.Op != decoder.OpMessage || c.New != nil || c.Old != nil {
			return errors.New("a change of a row without its relation")
		}
		return nil
	}
	if c.Op == decoder.OpTruncate && c.New == nil && c.Old == nil {
		return nil
	}
	if bad := checkTuples(c); bad != nil {
		return errors.New(bad.text)
	}
	return nil
}

func parseOp(s string) (decoder.Op, error) {
	for op := decoder.OpInsert; op <= decoder.OpRead; op++ {
		if op.String() == s {
			return op, nil
		}
	}
	return 0, fmt.Errorf("unknown operation %q", s)
}

func (r *rawTx) decode() (*decoder.Tx, error) {
	if r == nil {
		return nil, nil
	}
	commit, err := lsn.Parse(r.Commit)
	return &decoder.Tx{Commit: commit, CommitTime: r.CommitTime, Xid: r.Xid, Origin: r.Origin}, err
}

func (r *rawRelation) decode() (*decoder.Relation, error) {
	if r == nil {
		return nil, nil
	}
	if !slices.Contains([]string{"d", "n", "f", "i"}, r.Identity) {
		return nil, fmt.Errorf("unknown replica identity %q", r.Identity)
	}
	rel := &decoder.Relation{OID: r.OID, Namespace: r.Schema, Name: r.Table, Identity: decoder.ReplicaIdentity(r.Identity[0])}
	for _, c := range r.Columns {
		rel.Columns = append(rel.Columns, decoder.Column{
			Name: c.Name, TypeOID: c.Type, TypeMod: c.TypeMod, Key: c.Key, TypeNamespace: c.TypeSchema, TypeName: c.TypeName,
		})
	}
	return rel, nil
}

func decodeTuple(raw []json.RawMessage) ([]decoder.Value, error) {
	if raw == nil {
		return nil, nil
	}
	row := make([]decoder.Value, len(raw))
	for i, r := range raw {
		var err error
		if row[i], err = decodeValue(r); err != nil {
			return nil, fmt.Errorf("value %d: %w", i, err)
		}
	}
	return row, nil
}

func decodeValue(raw []byte) (decoder.Value, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return decoder.Value{Kind: decoder.ValueNull}, nil
	}
	if raw[0] == '"' {
		var s string
		err := json.Unmarshal(raw, &s)
		return decoder.Value{Kind: decoder.ValueText, Data: []byte(s)}, err
	}
	var v rawValue
	if err := decodeStrict(raw, &v); err != nil {
		return decoder.Value{}, err
	}
	switch {
	case v.Unchanged:
		return decoder.Value{Kind: decoder.ValueUnchanged}, nil
	case v.Excluded:
		return decoder.Value{Kind: valueDropped}, nil
	case v.Masked != nil:
		return decoder.Value{Kind: valueMasked, Data: []byte(*v.Masked)}, nil
	case v.Bytes != nil:
		return decoder.Value{Kind: decoder.ValueText, Data: *v.Bytes}, nil
	case v.Binary != nil:
		return decoder.Value{Kind: decoder.ValueBinary, Data: *v.Binary}, nil
	}
	return decoder.Value{}, errors.New("an object that names no kind of value")
}
