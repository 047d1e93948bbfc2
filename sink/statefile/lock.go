package statefile

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// ErrOwned is returned by Acquire when another instance holds the lock.
var ErrOwned = errors.New("the state file is in use")

// Lock is a held lock of a state file.
type Lock struct {
	path string
	file *os.File
	once sync.Once
	err  error
}

// Acquire takes the lock of a state file, at once or not at all: ErrOwned, wrapped
// with the process that holds it.
func Acquire(state string) (*Lock, error) {
	path := state + ".lock"
	file, err := tryLock(path)
	if errors.Is(err, ErrOwned) {
		return nil, fmt.Errorf("%s: %w by %s", state, ErrOwned, holder(path))
	}
	if err != nil {
		return nil, fmt.Errorf("lock the state file: %w", err)
	}
	l := &Lock{path: path, file: file}
	if err := l.sign(); err != nil {
		_ = l.Release()
		return nil, fmt.Errorf("write the lock of the state file: %w", err)
	}
	return l, nil
}

// sign writes who holds the lock, for people who wait for it.
func (l *Lock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "" // the process alone says enough
	}
	_, err = l.file.WriteAt(fmt.Appendf(nil, "%d %s\n", os.Getpid(), host), 0)
	return err
}

// holder reads who has signed the lock.
func holder(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "another process"
	}
	pid, host, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if _, err := strconv.Atoi(pid); err != nil {
		return "another process"
	}
	if host == "" {
		return "process " + pid
	}
	return "process " + pid + " on " + host
}

// Held returns nil while the lock file is still the one that is locked. An error
// means that somebody has removed or replaced it, so that another process may
// believe it is the owner as well.
func (l *Lock) Held() error {
	mine, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("look at the lock: %w", err)
	}
	there, err := os.Stat(l.path)
	if err != nil {
		return fmt.Errorf("look at the lock: %w", err)
	}
	if !os.SameFile(mine, there) {
		return fmt.Errorf("the lock file %s was replaced", l.path)
	}
	return nil
}

// Release lets go. Safe to call twice, from any goroutine.
func (l *Lock) Release() error {
	l.once.Do(func() { l.err = unlock(l.file) })
	return l.err
}
