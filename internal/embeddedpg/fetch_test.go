package embeddedpg

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestArchives(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range archives() {
		require.Regexp(t, `^\d+\.\d+\.\d+$`, a.version)
		require.Regexp(t, regexp.MustCompile(`^[0-9a-f]{64}$`), a.sha256)
		require.False(t, seen[a.sha256], "two builds cannot have one checksum: %v", a)
		require.Greater(t, a.size, int64(10<<20))
		seen[a.sha256] = true
		got, err := pinned(a.platform, a.major())
		require.NoError(t, err)
		require.Equal(t, a, got, "one build per platform and major version")
	}
	newest, err := pinned("linux-amd64", 0)
	require.NoError(t, err)
	require.Equal(t, 18, newest.major())
	_, err = pinned("plan9-mips", 18)
	require.ErrorContains(t, err, "plan9-mips")
	_, err = Search{CacheDir: t.TempDir()}.Fetch(t.Context(), 3, nil)
	require.ErrorContains(t, err, "no build of PostgreSQL 3 is known")
}

// registry is an http.RoundTripper that serves one jar, whatever the host.
type registry struct {
	jar   io.Reader
	size  int64
	code  int
	asked []string // file names
}

func (r *registry) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	name := filepath.Base(req.URL.Path)
	r.asked = append(r.asked, name)
	resp := &http.Response{StatusCode: r.code, Status: http.StatusText(r.code), Request: req, ContentLength: r.size}
	resp.Body = io.NopCloser(r.jar)
	if strings.HasSuffix(name, ".sha256") {
		resp.StatusCode, resp.Body = http.StatusNotFound, http.NoBody
	}
	return resp, nil
}

// jar makes an archive as they are published, of the shell scripts in
// testdata/build.txz, which say that they are PostgreSQL 18.6.
func jar(t *testing.T) ([]byte, archive) {
	t.Helper()
	txz, err := os.ReadFile("testdata/build.txz")
	require.NoError(t, err)
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("postgres-any.txz")
	require.NoError(t, err)
	_, err = f.Write(txz)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	sum := sha256.Sum256(b.Bytes())
	return b.Bytes(), archive{platform(), "18.6.0", hex.EncodeToString(sum[:]), int64(b.Len())}
}

// serve replaces the network for one test.
func serve(t *testing.T, r *registry) *registry {
	t.Helper()
	if r.code == 0 {
		r.code = http.StatusOK
	}
	old := http.DefaultTransport
	http.DefaultTransport = r
	t.Cleanup(func() {
		require.Same(t, r, http.DefaultTransport, "the transport was given back")
		http.DefaultTransport = old
	})
	return r
}

func TestFetchInto(t *testing.T) {
	content, a := jar(t)
	r := serve(t, &registry{jar: bytes.NewReader(content), size: a.size})
	cache := folder(t)
	dir := filepath.Join(cache, "18.6-any")
	var last, total int64
	i, err := fetchInto(t.Context(), a, cache, dir, func(done, of int64) { last, total = done, of })
	require.NoError(t, err)
	require.Equal(t, Install{filepath.Join(dir, "bin"), filepath.Join(dir, "lib", "postgresql"), "18.6", 18}, i)
	require.Equal(t, []string{a.file(), a.file() + ".sha256"}, r.asked)
	require.Equal(t, a.size, last)
	require.Equal(t, a.size, total)
	require.Equal(t, []string{"18.6-any"}, names(t, cache))
}

// What is cached is not asked for again.
func TestFetchFromTheCache(t *testing.T) {
	pin, err := pinned(platform(), 18)
	if err != nil {
		t.Skip(err)
	}
	content, a := jar(t)
	a.version = pin.version
	r := serve(t, &registry{jar: bytes.NewReader(content), size: a.size})
	cache := folder(t)
	dir := filepath.Join(cache, "postgresql", a.server()+"-"+a.platform)
	_, err = fetchInto(t.Context(), a, filepath.Dir(dir), dir, nil)
	require.NoError(t, err)
	asked := len(r.asked)
	for _, get := range []func(Search) (Install, error){
		func(s Search) (Install, error) { return s.Fetch(t.Context(), 18, nil) },
		func(s Search) (Install, error) { return s.Ensure(t.Context(), 18, nil) },
	} {
		i, err := get(Search{CacheDir: cache})
		require.NoError(t, err)
		require.Equal(t, 18, i.Major)
	}
	require.Len(t, r.asked, asked)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// Each way in which a download can go wrong is an error that says so, and leaves
// the cache as it was.
func TestFetchFailures(t *testing.T) {
	content, a := jar(t)
	changed := bytes.Clone(content)
	changed[len(changed)/2] ^= 1
	half := io.MultiReader(bytes.NewReader(content[:len(content)/2]), iotest.ErrReader(io.ErrUnexpectedEOF))
	otherVersion := a
	otherVersion.version = "18.7.0"
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name, want string
		ctx        context.Context
		archive    archive
		registry   registry
	}{
		{"other bytes", "it is not the build that is known", t.Context(), a, registry{jar: bytes.NewReader(changed)}},
		{"cut off", "cut off after", t.Context(), a, registry{jar: half}},
		{"ends early", "it is not the build that is known", t.Context(), a, registry{jar: bytes.NewReader(content[:100])}},
		{"too long", "longer than", t.Context(), a, registry{jar: io.MultiReader(bytes.NewReader(content), strings.NewReader("x"))}},
		{"not there", "answers Not Found", t.Context(), a, registry{jar: http.NoBody, code: http.StatusNotFound}},
		{"another version inside", "it is version 18.6", t.Context(), otherVersion, registry{jar: bytes.NewReader(content)}},
		{"cancelled", "context canceled", cancelled, a, registry{jar: bytes.NewReader(content)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.registry.size = a.size
			serve(t, &c.registry)
			cache := folder(t)
			_, err := fetchInto(c.ctx, c.archive, cache, filepath.Join(cache, "18.6-any"), nil)
			require.ErrorContains(t, err, c.want)
			require.Empty(t, names(t, cache))
		})
	}
}

// A faster process's build is taken; a broken one is replaced.
func TestInstallMeetsAnotherBuild(t *testing.T) {
	other := filepath.Dir(fake(t, "postgres (PostgreSQL) 18.6", postgresFile, initdbFile, pluginFile))
	mine := filepath.Dir(fake(t, "postgres (PostgreSQL) 18.6", postgresFile, initdbFile, pluginFile))
	i, err := install(mine, other, folder(t))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(other, "bin"), i.BinDir)
	require.DirExists(t, mine, "not moved")

	require.NoError(t, os.Remove(filepath.Join(other, initdbFile)))
	i, err = install(mine, other, folder(t))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(other, "bin"), i.BinDir)
	require.NoDirExists(t, mine, "moved")
	require.NoError(t, os.MkdirAll(mine, 0o755)) // for the clean-up
}

func TestRemoveStale(t *testing.T) {
	cache := folder(t)
	old, fresh := filepath.Join(cache, unfinished+"1"), filepath.Join(cache, unfinished+"2")
	for _, dir := range []string{old, fresh} {
		require.NoError(t, os.Mkdir(dir, 0o755))
	}
	fi, err := os.Stat(fresh)
	require.NoError(t, err)
	before := fi.ModTime().Add(-2 * staleAfter)
	require.NoError(t, os.Chtimes(old, before, before))
	removeStale(cache)
	require.NoDirExists(t, old)
	require.DirExists(t, fresh)
}
