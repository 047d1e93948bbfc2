package stdout

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/sinktest"
	"github.com/walbridge/walbridge/sink/statefile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The steps of a write, in their order: nothing is printed, half of it is, all is
// and nothing stored, the state is written and not in its place, it is in its place.
const (
	beforeOutput = "before_output"
	halfOutput   = "half_output"
	beforeState  = "before_state"
	beforeRename = "before_rename"
	afterRename  = "after_rename"
)

// process is an instance of the sink with hooks between its steps.
type process struct {
	*os.File
	mu    sync.Mutex
	traps map[string]func() error
	dead  bool
}

var errKilled = errors.New("killed")

func (p *process) trap(stage string, do func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traps[stage] = do
}

// comeTo runs the trap of the stage, once.
func (p *process) comeTo(stage string) error {
	p.mu.Lock()
	do, dead := p.traps[stage], p.dead
	delete(p.traps, stage)
	p.mu.Unlock()
	switch {
	case dead:
		return errKilled
	case do == nil:
		return nil
	}
	return do()
}

func (p *process) kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	return errKilled
}

func (p *process) Write(text []byte) (int, error) {
	if err := p.comeTo(beforeOutput); err != nil {
		return 0, err
	}
	half := len(text) / 2
	n, err := p.File.Write(text[:half])
	if err != nil {
		return n, err
	}
	if err := p.comeTo(halfOutput); err != nil {
		return half, err
	}
	n, err = p.File.Write(text[half:])
	return half + n, err
}

func (p *process) at(step statefile.Step) error {
	return p.comeTo(map[statefile.Step]string{
		statefile.StepWrite: beforeState, statefile.StepRename: beforeRename, statefile.StepSettle: afterRename,
	}[step])
}

// harness describes the sink with JSON lines into a regular file.
func harness() sinktest.Harness {
	return sinktest.Harness{
		Promises:    sinktest.Promises{Exclusive: true},
		Keeps:       keeps,
		CrashStages: []string{beforeOutput, halfOutput, beforeState, beforeRename, afterRename},
		BlockStages: []string{beforeOutput, halfOutput, beforeState, beforeRename, afterRename},
		New:         newDestination,
	}
}

func newDestination(t testing.TB) sinktest.Destination {
	dir := t.TempDir()
	state, out := filepath.Join(dir, "walbridge.state"), filepath.Join(dir, "out.jsonl")
	processes := map[sink.Sink]*process{}
	d := sinktest.Destination{
		Sink: func(t testing.TB) sink.Sink {
			f, err := os.OpenFile(out, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, f.Close()) })
			p := &process{File: f, traps: map[string]func() error{}}
			s := New(Config{State: state}, Options{Out: p, At: p.at})
			processes[s] = p
			return s
		},
		Read:     func(t testing.TB) []sinktest.Stored { return readLines(t, out) },
		Progress: func(t testing.TB, name string) lsn.Progress { return loaded(t, state, name) },
		Crash: func(_ testing.TB, s sink.Sink, stage string) {
			processes[s].trap(stage, processes[s].kill)
		},
		Block: func(_ testing.TB, s sink.Sink, stage string) *sinktest.Blocked {
			return block(processes[s], stage)
		},
		Save: func(t testing.TB) func(testing.TB) { return saveFiles(t, state, out) },
	}
	return d
}

// block holds the process at the stage. An Open waits for the write that is held:
// it needs no signal for that, since it has answered or it waits.
func block(p *process, stage string) *sinktest.Blocked {
	reached, released := make(chan struct{}), make(chan struct{})
	p.trap(stage, func() error {
		close(reached)
		<-released
		return nil
	})
	return &sinktest.Blocked{
		Reached: reached,
		Release: sync.OnceFunc(func() { close(released) }),
		Waiting: func() bool { return true },
	}
}

func loaded(t testing.TB, state, name string) lsn.Progress {
	p, err := statefile.File{Path: state}.Load(name)
	require.NoError(t, err)
	return p
}

func saveFiles(t testing.TB, paths ...string) func(testing.TB) {
	var texts [][]byte
	for _, p := range paths {
		text, err := os.ReadFile(p)
		require.NoError(t, err)
		texts = append(texts, text)
	}
	return func(t testing.TB) {
		for i, p := range paths {
			require.NoError(t, os.WriteFile(p, texts[i], 0o600))
		}
	}
}

// keeps is what a line keeps of an item: all, the JSON in it compacted.
func keeps(s sinktest.Stored) sinktest.Stored {
	s.Payload, s.Headers = compacted(s.Payload), compacted(s.Headers)
	if s.DeadLetter != nil {
		d := *s.DeadLetter
		d.Raw = compacted(d.Raw)
		s.DeadLetter = &d
	}
	return s
}

func compacted(text []byte) []byte {
	if text == nil {
		return nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return []byte(err.Error())
	}
	return b.Bytes()
}

// printed is a line as a reader sees it.
type printed struct {
	ID          string          `json:"id"`
	Kind        string          `json:"kind"`
	Stream      string          `json:"stream"`
	Key         *string         `json:"key"`
	Type        string          `json:"type"`
	EventID     string          `json:"event_id"`
	CommittedAt time.Time       `json:"committed_at"`
	Time        *time.Time      `json:"time"`
	Xid         uint32          `json:"xid"`
	Headers     json.RawMessage `json:"headers"`
	AvailableAt *time.Time      `json:"available_at"`
	TxEnd       bool            `json:"tx_end"`
	Payload     json.RawMessage `json:"payload"`
	Reason      string          `json:"reason"`
	Error       string          `json:"error"`
	Raw         json.RawMessage `json:"raw"`
	Replayable  bool            `json:"replayable"`
}

// readLines reads the output. Lines that a kill has cut are no JSON and are left
// out, as a reader of at-least-once lines has to.
func readLines(t testing.TB, path string) []sinktest.Stored {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var all []sinktest.Stored
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !json.Valid(lines.Bytes()) {
			continue
		}
		strict := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		strict.DisallowUnknownFields()
		var p printed
		require.NoError(t, strict.Decode(&p), lines.Text())
		all = append(all, p.stored(t, bytes.Clone(lines.Bytes())))
	}
	require.NoError(t, lines.Err())
	return all
}

func (p *printed) stored(t testing.TB, line []byte) sinktest.Stored {
	id, err := lsn.ParseID(p.ID)
	require.NoError(t, err)
	s := sinktest.Stored{
		Source: sinktest.SourceName, ID: id, Stream: p.Stream, EventID: p.EventID, Type: p.Type,
		Kind:    map[string]mapper.Kind{"event": mapper.KindEvent, "change": mapper.KindRecord, "dead_letter": mapper.KindDeadLetter}[p.Kind],
		Payload: p.Payload, Headers: p.Headers, CommittedAt: lsn.MicrosOf(p.CommittedAt), Xid: p.Xid, TxEnd: p.TxEnd, Whole: line,
	}
	if p.Key != nil {
		s.Key = []byte(*p.Key)
	}
	s.Time = s.CommittedAt
	if p.Time != nil {
		s.Time = lsn.MicrosOf(*p.Time)
	}
	if p.AvailableAt != nil {
		s.AvailableAt = lsn.MicrosOf(*p.AvailableAt)
	}
	if s.Kind == mapper.KindDeadLetter {
		s.DeadLetter = &mapper.DeadLetter{Reason: p.Reason, Error: p.Error, Raw: p.Raw, Replayable: p.Replayable}
	}
	return s
}

func TestConformance(t *testing.T) { sinktest.Run(t, harness()) }
