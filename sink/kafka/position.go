package kafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
)

// positionVersion is the number of the form that position describes.
const positionVersion = 1

// position is the value of a bridge's record in the progress topic. Numbers of 64
// bits are strings, as many readers of JSON would round them.
type position struct {
	Version    int       `json:"version"`
	Name       string    `json:"name"`
	N          uint64    `json:"n,string"`   // counts the bridge's writes: of two records the higher is newer
	Partitions int       `json:"partitions"` // of the topic: with another number now, a newer record may be elsewhere
	SystemID   uint64    `json:"system_id,string"`
	Timeline   uint32    `json:"timeline"`
	Slot       string    `json:"slot"`
	Phase      lsn.Phase `json:"phase"`
	Position   point     `json:"position"`
	Xid        uint64    `json:"xid,string"`
	CommitTime time.Time `json:"commit_time"` // the year 1 when there is none
	ConfigHash string    `json:"config_hash"`
	Cursors    []byte    `json:"cursors,omitempty"` // base64
}

// point is an lsn.Position as text.
type point struct {
	End       string `json:"end"`
	LastTxEnd string `json:"last_tx_end"`
	Commit    string `json:"commit"` // 0/0: no transaction is under way
	Seq       uint32 `json:"seq"`
	Sub       uint16 `json:"sub"`
}

func encodePosition(name string, n uint64, partitions int, p lsn.Progress) ([]byte, error) {
	return json.Marshal(position{
		Version: positionVersion, Name: name, N: n, Partitions: partitions, SystemID: p.SystemID, Timeline: p.Timeline, Slot: p.Slot, Phase: p.Phase,
		Position: point{p.Position.End.String(), p.Position.LastTxEnd.String(), p.Position.Commit.String(), p.Position.Seq, p.Position.Sub},
		Xid:      p.Xid, CommitTime: p.CommitTime.UTC(), ConfigHash: p.ConfigHash, Cursors: p.Cursors,
	})
}

// decodePosition reads what encodePosition wrote; of a newer version only an error.
func decodePosition(text []byte) (n uint64, partitions int, p lsn.Progress, err error) {
	var d position
	if err := json.Unmarshal(text, &d); err != nil {
		return 0, 0, p, err
	}
	if d.Version != positionVersion {
		return 0, 0, p, fmt.Errorf("it has version %d, this program knows %d", d.Version, positionVersion)
	}
	if d.Phase != lsn.PhaseNew && d.Phase != lsn.PhaseStreaming {
		return 0, 0, p, fmt.Errorf("phase %q is none", d.Phase)
	}
	if d.N == 0 {
		return 0, 0, p, errors.New("it has no number")
	}
	p = lsn.Progress{
		SystemID: d.SystemID, Timeline: d.Timeline, Slot: d.Slot, Phase: d.Phase, Xid: d.Xid,
		CommitTime: d.CommitTime, ConfigHash: d.ConfigHash, Cursors: d.Cursors,
		Position: lsn.Position{Seq: d.Position.Seq, Sub: d.Position.Sub},
	}
	for _, field := range []struct {
		text string
		to   *lsn.LSN
	}{{d.Position.End, &p.Position.End}, {d.Position.LastTxEnd, &p.Position.LastTxEnd}, {d.Position.Commit, &p.Position.Commit}} {
		if *field.to, err = lsn.Parse(field.text); err != nil {
			return 0, 0, lsn.Progress{}, err
		}
	}
	return d.N, d.Partitions, p, nil
}
