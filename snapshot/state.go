package snapshot

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxState bounds the encoded State, in bytes: a sink keeps no more.
const MaxState = 64 << 10

// State is what has to be remembered of snapshots. It is stored with the position,
// as lsn.Progress.Cursors. The zero value: there never was one.
type State struct {
	// Secret signs requests. Whoever can read the destination's bookkeeping may ask for
	// a snapshot, and nobody else.
	Secret []byte `json:"secret,omitempty"`
	// Request is the number of the last request taken: a request counts once.
	Request uint64 `json:"request,omitempty"`
	// Taken are the ids of the last requests taken, by which who asked finds out that it
	// was not somebody else's of the same number.
	Taken []string `json:"taken,omitempty"`
	// Run is the number of the last reading of a table; each begins anew with a number
	// of its own.
	Run    uint32 `json:"run,omitempty"`
	Paused bool   `json:"paused,omitempty"`
	// Tables are those that are not done, in the order in which they are read.
	Tables []*Table `json:"tables,omitempty"`
	// DoneTables and DoneRows count what was finished since there was nothing to do.
	DoneTables int   `json:"done_tables,omitempty"`
	DoneRows   int64 `json:"done_rows,omitempty"`
}

// Table is a table that is being read, or waits for it.
type Table struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	Run    uint32 `json:"run"`
	// Where is a condition in SQL that rows must meet; empty: none. It is the
	// operator's, beside the publication's row filter.
	Where string `json:"where,omitempty"`
	// Frozen, if not nil, restricts the reading to the rows of before the stream, each
	// delivered once.
	Frozen *Frozen `json:"frozen,omitempty"`
	// Whole, of a table without a key, says that it is read at once, by Whole, and is no
	// part of a State.
	Whole bool `json:"-"`
	// OID is that of the table that is being read; 0: not known yet.
	OID uint32 `json:"oid,omitempty"`
	// Key names the columns that order the reading; nil: it has not begun.
	Key []string `json:"key,omitempty"`
	// After is the key of the last row that was delivered, as texts; nil: none was.
	After []string `json:"after,omitempty"`
	// Scanned: all rows were read once; what is left is Again.
	Scanned bool `json:"scanned,omitempty"`
	// Again are the keys of rows that have to be read once more.
	Again [][]string `json:"again,omitempty"`
	// Pass counts the readings of Again that were delivered.
	Pass uint32 `json:"pass,omitempty"`
	// Rows were delivered so far. Estimate and Bytes are what the catalog had said before.
	Rows     int64 `json:"rows,omitempty"`
	Estimate int64 `json:"estimate,omitempty"`
	Bytes    int64 `json:"bytes,omitempty"`
}

// QualifiedName is schema.name, unquoted.
func (t *Table) QualifiedName() string { return t.Schema + "." + t.Name }

// finished: nothing is left to read.
func (t *Table) finished() bool { return t.Scanned && len(t.Again) == 0 }

// New returns a state with a fresh secret and tables to read.
func New(tables []*Table) State {
	s := State{Secret: newSecret()}
	s.add(tables)
	return s
}

func newSecret() []byte {
	secret := make([]byte, 16)
	_, _ = rand.Read(secret) // never fails (package crypto/rand)
	return secret
}

// add queues tables, each as a reading of its own. One that waits already stays
// where it is.
func (s *State) add(tables []*Table) {
	if len(s.Tables) == 0 {
		s.DoneTables, s.DoneRows = 0, 0
	}
	for _, t := range tables {
		if s.table(t.Schema, t.Name) != nil {
			continue
		}
		s.Run++
		s.Tables = append(s.Tables, &Table{Schema: t.Schema, Name: t.Name, Where: t.Where, Frozen: t.Frozen, Estimate: t.Estimate, Bytes: t.Bytes, Run: s.Run})
	}
}

// table returns the unfinished table of that name, nil when there is none.
func (s *State) table(schema, name string) *Table {
	for _, t := range s.Tables {
		if t.Schema == schema && t.Name == name {
			return t
		}
	}
	return nil
}

// remove takes a table out.
func (s *State) remove(gone *Table) {
	var left []*Table
	for _, t := range s.Tables {
		if t != gone {
			left = append(left, t)
		}
	}
	s.Tables = left
}

// plainState is how long a state may be before it is packed. Packed it begins with
// another byte than JSON does.
const (
	plainState = 8 << 10
	packed     = 'z'
)

// Encode returns the state as it is stored: JSON, packed when it is long. The error
// says that it is too long all the same: too many tables at once.
func (s *State) Encode() ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the state of snapshots: %w", err)
	}
	if len(text) > plainState {
		text = pack(text)
	}
	if len(text) > MaxState {
		return nil, fmt.Errorf("encode the state of snapshots: %w: %d tables are too many at once", ErrTooMany, len(s.Tables))
	}
	return text, nil
}

// ErrTooMany is wrapped by the error of a state that is too long to be stored.
var ErrTooMany = errors.New("the state is too long")

func pack(text []byte) []byte {
	var b bytes.Buffer
	b.WriteByte(packed)
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return text // cannot be: the level is one
	}
	_, err1 := w.Write(text)
	err2 := w.Close()
	if err1 != nil || err2 != nil {
		return text // cannot be: memory does not refuse
	}
	return b.Bytes()
}

// maxUnpacked bounds what a packed state may claim to be.
const maxUnpacked = 4 << 20

// Decode reads what Encode wrote; nothing is the zero State.
func Decode(stored []byte) (State, error) {
	var s State
	if len(stored) == 0 {
		return s, nil
	}
	if stored[0] == packed {
		text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(stored[1:])), maxUnpacked))
		if err != nil {
			return s, fmt.Errorf("unpack the state of snapshots: %w", err)
		}
		stored = text
	}
	strict := json.NewDecoder(bytes.NewReader(stored))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&s); err != nil {
		return s, fmt.Errorf("read the state of snapshots: %w", err)
	}
	for _, t := range s.Tables {
		if t == nil || t.Schema == "" || t.Name == "" || len(t.After) > 0 && len(t.After) != len(t.Key) {
			return s, errors.New("read the state of snapshots: a table in it is not whole")
		}
	}
	return s, nil
}
