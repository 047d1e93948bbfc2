package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// Fetch downloads the pinned build of a major version into the usual cache, or
// returns it from there. See Search.Fetch.
func Fetch(ctx context.Context, major int, progress func(done, total int64)) (Install, error) {
	return Search{}.Fetch(ctx, major, progress)
}

// Fetch returns the pinned build of a major version (0: the newest) from the
// cache, downloading 15 to 70 MB first when it is not there. What comes over the
// line must have the checksum that this package knows, before a byte of it is
// unpacked or run. Several processes may fetch at once, and one that is cut off
// leaves no half build. progress, when not nil, is called from one goroutine as
// bytes arrive.
//
// While it downloads, http.DefaultTransport is replaced: a program must not start
// to use it for other things at that time.
func (s Search) Fetch(ctx context.Context, major int, progress func(done, total int64)) (Install, error) {
	a, err := pinned(platform(), major)
	if err != nil {
		return Install{}, err
	}
	cache := s.cache()
	if cache == "" {
		return Install{}, errors.New("fetch PostgreSQL: this user has no cache folder")
	}
	dir := filepath.Join(cache, a.server()+"-"+a.platform)
	if i, err := prove(filepath.Join(dir, "bin")); err == nil {
		return i, nil
	}
	i, err := fetchInto(ctx, a, cache, dir, progress)
	if err != nil {
		return Install{}, fmt.Errorf("fetch PostgreSQL %s: %w", a.server(), err)
	}
	return i, nil
}

// Ensure returns what Find finds, or else what Fetch fetches.
func (s Search) Ensure(ctx context.Context, major int, progress func(done, total int64)) (Install, error) {
	i, err := s.Find(major)
	if IsNotFound(err) {
		return s.Fetch(ctx, major, progress)
	}
	return i, err
}

// unfinished is the prefix of the folders in which builds are unpacked, and
// staleAfter the age at which one was surely left by a process that was killed.
const (
	unfinished = ".unfinished-"
	staleAfter = 24 * time.Hour
)

// fetchInto unpacks beside dir and renames, so that dir is whole or absent.
func fetchInto(ctx context.Context, a archive, cache, dir string, progress func(done, total int64)) (Install, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Install{}, fmt.Errorf("make the cache folder: %w", err)
	}
	removeStale(cache)
	work, err := os.MkdirTemp(cache, unfinished)
	if err != nil {
		return Install{}, fmt.Errorf("make a folder to unpack in: %w", err)
	}
	defer os.RemoveAll(work)
	// The user as whom the server runs must be able to try it.
	if err := os.Chmod(work, 0o755); err != nil {
		return Install{}, fmt.Errorf("open the folder to unpack in: %w", err)
	}
	unpacked := filepath.Join(work, "pg")
	if err := download(ctx, a, work, unpacked, progress); err != nil {
		return Install{}, err
	}
	if err := proveVersion(unpacked, a); err != nil {
		return Install{}, err
	}
	return install(unpacked, dir, work)
}

// proveVersion checks that what was unpacked is what the table says.
func proveVersion(unpacked string, a archive) error {
	i, err := prove(filepath.Join(unpacked, "bin"))
	if err != nil {
		return fmt.Errorf("try the unpacked server: %w", err)
	}
	if i.Version != a.server() {
		return fmt.Errorf("try the unpacked server: it is version %s", i.Version)
	}
	return nil
}

// install moves the build to its place. Another process may have been faster,
// then its build counts; a broken one that is there is put aside.
func install(unpacked, dir, work string) (Install, error) {
	err := os.Rename(unpacked, dir)
	if err == nil {
		return prove(filepath.Join(dir, "bin"))
	}
	if i, proveErr := prove(filepath.Join(dir, "bin")); proveErr == nil {
		return i, nil
	}
	if asideErr := os.Rename(dir, filepath.Join(work, "broken")); asideErr != nil {
		return Install{}, fmt.Errorf("put the build in its place: %w", err)
	}
	if err := os.Rename(unpacked, dir); err != nil {
		return Install{}, fmt.Errorf("put the build in its place: %w", err)
	}
	return prove(filepath.Join(dir, "bin"))
}

// removeStale deletes what killed processes left. An error is left to the next
// fetch.
func removeStale(cache string) {
	old, _ := filepath.Glob(filepath.Join(cache, unfinished+"*")) // the pattern is well formed
	for _, dir := range old {
		if fi, err := os.Stat(dir); err == nil && time.Since(fi.ModTime()) > staleAfter {
			_ = os.RemoveAll(dir)
		}
	}
}

// transportMu is held while http.DefaultTransport is replaced.
var transportMu sync.Mutex

// download lets the library embedded-postgres fetch and unpack the build: it
// knows where builds are published and how they are packed. It has no call for
// just that, so its Start is given a data folder that it cannot clear (RemoveAll
// refuses a path that ends in a dot), the first thing that it does after
// unpacking. Nothing of the download is run by it; an empty log file of its own
// stays among the temporary files.
//
// It also gets by http.Get whatever answers, so the request is watched in the
// only place that it leaves: the default transport.
func download(ctx context.Context, a archive, work, unpacked string, progress func(done, total int64)) error {
	port, err := FreePort() // it insists on one
	if err != nil {
		return err
	}
	lib := embedded.NewDatabase(embedded.DefaultConfig().
		Version(embedded.PostgresVersion(a.version)).
		Port(uint32(port)).
		Logger(io.Discard).
		CachePath(filepath.Join(work, "download")).
		RuntimePath(filepath.Join(work, "runtime")).
		BinariesPath(unpacked).
		DataPath(filepath.Join(work, "data") + string(filepath.Separator) + "."))

	transportMu.Lock()
	defer transportMu.Unlock()
	w := &watcher{ctx: ctx, base: http.DefaultTransport, archive: a, progress: progress}
	http.DefaultTransport = w
	defer func() { http.DefaultTransport = w.base }()
	err = lib.Start()
	if w.err != nil {
		return w.err
	}
	if !w.verified {
		return fmt.Errorf("download: %w", err)
	}
	return nil
}
