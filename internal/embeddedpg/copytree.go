package embeddedpg

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// copyTree copies the folder src to dst, without the paths that skip names, and
// calls own for each thing it made. What vanishes from src meanwhile is left out,
// as a backup of a running server demands (manual, section 26.3.4.1). Tablespaces
// outside the folder are refused.
func copyTree(src, dst string, skip func(path string) bool, own func(path string) error) error {
	err := filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = copyEntry(path, filepath.Join(dst, path[len(src):]), d, skip)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != src, errors.Is(err, errSkipped):
			return nil
		case err != nil:
			return err
		}
		return own(filepath.Join(dst, path[len(src):]))
	})
	if err != nil {
		return fmt.Errorf("copy %s: %w", src, err)
	}
	return nil
}

var errSkipped = errors.New("left out")

func copyEntry(path, to string, d fs.DirEntry, skip func(string) bool) error {
	switch {
	case skip(path) && d.IsDir():
		return fs.SkipDir
	case skip(path):
		return errSkipped
	case d.IsDir():
		return os.Mkdir(to, 0o700)
	case d.Type().IsRegular():
		return copyFile(path, to)
	}
	return fmt.Errorf("%s is neither a file nor a folder", path)
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
