//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package statefile

import (
	"errors"
	"io/fs"
	"os"
)

// tryLock makes the file, which must not be there. After a crash it is, and has to
// be removed by hand.
func tryLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, ErrOwned
	}
	return file, err
}

// unlock removes the file.
func unlock(file *os.File) error {
	return errors.Join(file.Close(), os.Remove(file.Name()))
}
