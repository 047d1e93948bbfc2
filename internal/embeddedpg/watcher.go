package embeddedpg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
)

// watcher is an http.RoundTripper that passes everything on and watches the
// download of one archive: it can be cancelled, reports its progress, and ends
// with an error instead of io.EOF when the bytes are not those that were pinned.
type watcher struct {
	ctx      context.Context
	base     http.RoundTripper
	archive  archive
	progress func(done, total int64) // may be nil

	verified bool  // the archive came whole and has its checksum
	err      error // what ended the download
}

// RoundTrip implements http.RoundTripper.
func (w *watcher) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/"+w.archive.file()):
		return w.get(r)
	case strings.Contains(r.URL.Path, "/"+w.archive.file()): // its published checksum
		return w.base.RoundTrip(r.WithContext(w.ctx))
	}
	return w.base.RoundTrip(r)
}

func (w *watcher) get(r *http.Request) (*http.Response, error) {
	resp, err := w.base.RoundTrip(r.WithContext(w.ctx))
	if err != nil {
		return nil, w.fail(fmt.Errorf("download: %w", err))
	}
	if resp.StatusCode != http.StatusOK {
		w.err = fmt.Errorf("download: the server answers %s", resp.Status)
		return resp, nil
	}
	resp.Body = &body{from: resp.Body, watcher: w, sum: sha256.New()}
	return resp, nil
}

func (w *watcher) fail(err error) error {
	w.err = err
	return err
}

// body is the archive on its way in.
type body struct {
	from    io.ReadCloser
	watcher *watcher
	sum     hash.Hash
	n       int64
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.n += int64(n)
	b.sum.Write(p[:n]) // never fails (hash.Hash)
	w := b.watcher
	if b.n > w.archive.size {
		return 0, w.fail(fmt.Errorf("download: longer than the %d bytes that are known", w.archive.size))
	}
	if w.progress != nil && n > 0 {
		w.progress(b.n, w.archive.size)
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		return n, b.verify()
	}
	return n, w.fail(fmt.Errorf("download: cut off after %d of %d bytes: %w", b.n, w.archive.size, err))
}

// verify returns io.EOF when the archive is the pinned one.
func (b *body) verify() error {
	got := hex.EncodeToString(b.sum.Sum(nil))
	if got != b.watcher.archive.sha256 {
		return b.watcher.fail(fmt.Errorf("download: the checksum of %s is %s, want %s: it is not the build that is known",
			b.watcher.archive.file(), got, b.watcher.archive.sha256))
	}
	b.watcher.verified = true
	return io.EOF
}

// Close implements io.Closer. It returns nil, since the library that reads ends
// the whole program otherwise.
func (b *body) Close() error {
	_ = b.from.Close()
	return nil
}
