package torture

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/walbridge/walbridge/internal/lsn"
)

// lineStart is what every line begins with.
const lineStart = `{"id":"`

// maxLine bounds a line of the destination stdout.
const maxLine = 64 << 20

// LineReader reads the lines of the destination stdout, which has no lanes.
type LineReader struct {
	Source string // whose lines they are
	// Torn counts lines that a killed bridge has left unfinished. What follows on the
	// same line counts as a line.
	Torn int64
	// After is the number of lines read.
	After int64
}

// Read hands every line of r to f. An error of f ends it.
func (l *LineReader) Read(r io.Reader, f func(*Item) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	for s.Scan() {
		l.After++
		line := s.Bytes()
		if !json.Valid(line) {
			l.Torn++
			if line = afterTear(line); line == nil {
				continue
			}
		}
		it, err := l.item(line)
		if err != nil {
			return fmt.Errorf("read line %d: %w", l.After, err)
		}
		if err := f(it); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read the lines behind %d: %w", l.After, err)
	}
	return nil
}

// afterTear returns the whole line that begins within a torn one, nil when there
// is none.
func afterTear(line []byte) []byte {
	if i := bytes.LastIndex(line, []byte(lineStart)); i > 0 && json.Valid(line[i:]) {
		return line[i:]
	}
	return nil
}

func (l *LineReader) item(line []byte) (*Item, error) {
	it := &Item{At: l.After, Source: l.Source}
	err := members(line, func(name, value []byte) error {
		var err error
		switch string(name) {
		case "id":
			it.ID, err = lsn.ParseID(text1(value))
		case "kind":
			it.Kind = text1(value)
		case "stream":
			it.Stream = text1(value)
		case "key":
			it.Key = text1(value)
		case "type":
			it.Type = text1(value)
		case "event_id":
			it.EventID = text1(value)
		case "tx_end":
			it.TxEnd = string(value) == "true"
		case "payload":
			it.Payload = value
		case "headers":
			it.Headers = value
		}
		return err
	})
	if err == nil && it.Kind == "dead_letter" {
		err = errors.New("it is a dead letter")
	}
	return it, err
}
