package stdout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrOutputClosed: the reader of the output has gone. No other try can help. It
// takes a process that ignores SIGPIPE (signal.Ignore) to see it: without, Go ends
// a process that writes to a standard output nobody reads (os/signal, "SIGPIPE").
var ErrOutputClosed = errors.New("output closed")

// file is a writer that may be a regular file: *os.File.
type file interface {
	io.Writer
	Stat() (fs.FileInfo, error)
	Sync() error
	Name() string
}

// output is the writer and what is known of it. It is used by one goroutine at a
// time.
type output struct {
	w    io.Writer
	file file // set for a regular file
	// cut: what was written last may not end with a line break.
	cut bool
}

func newOutput(w io.Writer) *output {
	o := &output{w: w}
	if f, ok := w.(file); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			o.file, o.cut = f, endsCut(f, info)
		}
	}
	return o
}

// endsCut reports whether a file's last byte is no line break, as a kill leaves it.
// Where it cannot be read, it reports true: an empty line is harmless.
func endsCut(f file, info fs.FileInfo) bool {
	if info.Size() == 0 {
		return false
	}
	in, err := os.Open(f.Name()) // standard output is open for writing alone
	if err != nil {
		return true
	}
	defer func() { _ = in.Close() }()
	if again, err := in.Stat(); err != nil || !os.SameFile(info, again) {
		return true
	}
	var last [1]byte
	_, err = in.ReadAt(last[:], info.Size()-1)
	return err != nil || last[0] != '\n'
}

// write writes all of text, after a line break where the last line was cut, and
// flushes a regular file when the position depends on it.
func (o *output) write(text []byte, flush bool) error {
	if len(text) == 0 {
		return nil
	}
	if o.cut {
		if err := o.all([]byte{'\n'}); err != nil {
			return err
		}
	}
	if err := o.all(text); err != nil {
		return err
	}
	o.cut = false
	if o.file == nil || !flush {
		return nil
	}
	if err := o.file.Sync(); err != nil {
		return fmt.Errorf("flush the output: %w", err)
	}
	return nil
}

func (o *output) all(text []byte) error {
	n, err := o.w.Write(text)
	if n > 0 {
		o.cut = text[min(n, len(text))-1] != '\n'
	}
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	if err == nil {
		return nil
	}
	if gone(err) {
		return fmt.Errorf("%w: %w", ErrOutputClosed, err)
	}
	return fmt.Errorf("write the output: %w", err)
}

// gone reports whether an error of a write means that nobody reads any more.
func gone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, fs.ErrClosed)
}
