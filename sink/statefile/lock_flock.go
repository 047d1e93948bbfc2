//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package statefile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock opens and locks the file. The file stays when the lock is given up: were
// it removed, one process could lock the old file while another makes a new one.
// Somebody may have removed it all the same, between the open and the lock.
func tryLock(path string) (*os.File, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if err := flock(file); err != nil {
			_ = file.Close()
			return nil, err
		}
		if (&Lock{path: path, file: file}).Held() == nil {
			return file, nil
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
}

func flock(file *os.File) error {
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrOwned
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

// unlock closes the file, which gives up its lock: no other process has the
// descriptor, since Go opens files close-on-exec.
func unlock(file *os.File) error { return file.Close() }
