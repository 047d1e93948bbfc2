package statefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// Step is a step of Store, in their order.
type Step string

// The steps of Store. At each, all before it is done and nothing after it.
const (
	StepWrite  Step = "write"  // before the new file is written
	StepSync   Step = "sync"   // before it is flushed
	StepRename Step = "rename" // before it takes the place of the old one
	StepSettle Step = "settle" // before the rename is flushed
)

// File is a state file.
type File struct {
	Path string
	// At, when set, is called at each step of Store and ends it there with its error.
	// It is how tests put a crash between two steps.
	At func(Step) error
}

// Load returns the progress of the bridge of that name: PhaseNone when there is no
// file. Errors: *fault.Halt for a file that is not a state file of this version,
// *fault.ConfigError for one that cannot be opened or is another bridge's.
func (f File) Load(name string) (lsn.Progress, error) {
	text, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return lsn.Progress{}, nil
	}
	if err != nil {
		return lsn.Progress{}, f.unusable(err)
	}
	owner, p, err := decode(text)
	if err != nil {
		return lsn.Progress{}, f.unreadable(err)
	}
	if owner != name {
		return lsn.Progress{}, fault.Config(fault.Problem{
			Check: "state-file-owner", Where: f.Path,
			What: fmt.Sprintf("the state file belongs to the bridge %q, and this is %q", owner, name),
			Why:  "One file keeps the position of one bridge.",
			Fix:  "give each bridge a state file of its own, or set name back",
		})
	}
	return p, nil
}

// Store replaces the file's content. It returns nil when the new progress is on
// disk; after an error it holds the old or the new one.
func (f File) Store(name string, p lsn.Progress) error {
	text, err := encode(name, p)
	if err != nil {
		return fmt.Errorf("encode the position: %w", err)
	}
	next := f.Path + ".tmp"
	if err := f.write(next, text); err != nil {
		return fmt.Errorf("write the state file: %w", err)
	}
	if err := f.at(StepRename); err != nil {
		return err
	}
	if err := os.Rename(next, f.Path); err != nil {
		return fmt.Errorf("replace the state file: %w", err)
	}
	if err := f.at(StepSettle); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(f.Path)); err != nil {
		return fmt.Errorf("flush the directory of the state file: %w", err)
	}
	return nil
}

// write makes the new file, flushed. Cursors may hold keys of rows, so it is the
// owner's alone.
func (f File) write(path string, text []byte) (err error) {
	if err := f.at(StepWrite); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := out.Write(text); err != nil {
		return err
	}
	if err := f.at(StepSync); err != nil {
		return err
	}
	return out.Sync()
}

func (f File) at(s Step) error {
	if f.At == nil {
		return nil
	}
	return f.At(s)
}

// syncDir flushes a directory, so that a rename in it outlives a power cut.
// Windows cannot, and its rename is logged by the file system.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// unusable is for a path at which no file can be.
func (f File) unusable(err error) error {
	return fault.Config(fault.Problem{
		Check: "state-file", Where: f.Path, What: "the state file cannot be used: " + err.Error(),
		Why: "The position of the bridge is kept there; without it nothing can be confirmed to the server.",
		Fix: "name a file in a directory that exists and that this user may write to",
	})
}

// unreadable is for a file that is no state file of this version.
func (f File) unreadable(err error) error {
	h := &fault.Halt{
		Rule: "state-file-unreadable",
		What: "the state file holds no position that can be read",
		Why:  "Beginning without the position would leave out what the server does not send again, or repeat what was delivered.",
		Facts: []fault.Fact{
			{Name: "state file", Value: f.Path},
		},
		Ways: []fault.Way{
			{Text: "Put back a copy of the file, not older than the last start of the bridge."},
			{Text: "Give up the position: what was delivered since the slot was made may be missing or repeated.", Commands: []string{"walbridge teardown", "rm " + f.Path, "walbridge setup", "walbridge run"}},
		},
		Err: err,
	}
	if errors.Is(err, errVersion) {
		h.Rule, h.What = "state-file-version", "the state file was written by another version of this program"
		h.Ways[0] = fault.Way{Text: "Run the version that wrote the file, or a newer one."}
	}
	return h
}
