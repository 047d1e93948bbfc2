package statefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
)

// version is the number of the form that document describes.
const version = 1

// document is the content of a state file. Numbers of 64 bits are strings, as
// many readers of JSON would round them.
type document struct {
	Version    int       `json:"version"`
	Name       string    `json:"name"`
	SystemID   uint64    `json:"system_id,string"`
	Timeline   uint32    `json:"timeline"`
	Slot       string    `json:"slot"`
	Phase      lsn.Phase `json:"phase"`
	Position   position  `json:"position"`
	Xid        uint64    `json:"xid,string"`
	CommitTime time.Time `json:"commit_time"` // the year 1 when there is none
	ConfigHash string    `json:"config_hash"`
	Cursors    []byte    `json:"cursors,omitempty"` // base64
}

type position struct {
	End       string `json:"end"`
	LastTxEnd string `json:"last_tx_end"`
	Commit    string `json:"commit"` // 0/0: no transaction is under way
	Seq       uint32 `json:"seq"`
	Sub       uint16 `json:"sub"`
}

func encode(name string, p lsn.Progress) ([]byte, error) {
	text, err := json.MarshalIndent(document{
		Version: version, Name: name, SystemID: p.SystemID, Timeline: p.Timeline, Slot: p.Slot, Phase: p.Phase,
		Position: position{p.Position.End.String(), p.Position.LastTxEnd.String(), p.Position.Commit.String(), p.Position.Seq, p.Position.Sub},
		Xid:      p.Xid, CommitTime: p.CommitTime.UTC(), ConfigHash: p.ConfigHash, Cursors: p.Cursors,
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// errVersion is wrapped by decode for a document of another version.
var errVersion = errors.New("another version")

// decode reads what encode wrote. A field that it does not know is an error, and so
// is a document without a name, a phase or a position.
func decode(text []byte) (name string, p lsn.Progress, err error) {
	var of struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal(text, &of); err != nil {
		return "", p, err
	}
	if of.Version == nil {
		return "", p, errors.New("it has no version")
	}
	if *of.Version != version {
		return "", p, fmt.Errorf("%w: %d, this program knows %d", errVersion, *of.Version, version)
	}
	var d document
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&d); err != nil {
		return "", p, err
	}
	if _, err := strict.Token(); !errors.Is(err, io.EOF) {
		return "", p, errors.New("something follows the document")
	}
	return d.progress()
}

func (d *document) progress() (string, lsn.Progress, error) {
	p := lsn.Progress{
		SystemID: d.SystemID, Timeline: d.Timeline, Slot: d.Slot, Phase: d.Phase, Xid: d.Xid,
		CommitTime: d.CommitTime, ConfigHash: d.ConfigHash, Cursors: d.Cursors,
		Position: lsn.Position{Seq: d.Position.Seq, Sub: d.Position.Sub},
	}
	if d.Name == "" {
		return "", p, errors.New("it names no bridge")
	}
	switch d.Phase {
	case lsn.PhaseNew, lsn.PhaseStreaming:
	default:
		return "", p, fmt.Errorf("phase %q is none", d.Phase)
	}
	for _, field := range []struct {
		text string
		to   *lsn.LSN
	}{{d.Position.End, &p.Position.End}, {d.Position.LastTxEnd, &p.Position.LastTxEnd}, {d.Position.Commit, &p.Position.Commit}} {
		var err error
		if *field.to, err = lsn.Parse(field.text); err != nil {
			return "", p, err
		}
	}
	return d.Name, p, nil
}
