package migrations

import (
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The files are numbered 1 to Version without a gap, each with a way back and its
// number stored at its end.
func TestFilesAreNumbered(t *testing.T) {
	fsys, err := FS("walbridge", 64)
	require.NoError(t, err)
	names, err := fs.Glob(fsys, "*.sql")
	require.NoError(t, err)
	require.Len(t, names, Version)
	for i, name := range names {
		require.Regexp(t, `^\d{5}_[a-z_]+\.sql$`, name)
		n, err := strconv.Atoi(name[:5])
		require.NoError(t, err)
		require.Equal(t, i+1, n)
		text, err := fs.ReadFile(fsys, name)
		require.NoError(t, err)
		up, down, found := strings.Cut(string(text), "-- +goose Down\n")
		require.True(t, found, "%s has a way back", name)
		require.True(t, strings.HasPrefix(up, "-- +goose Up\n"), name)
		require.NotEmpty(t, strings.TrimSpace(down), name)
		if n > 1 {
			require.Contains(t, up, "schema_version SET version = "+strconv.Itoa(n)+",", name)
			require.Contains(t, down, "schema_version SET version = "+strconv.Itoa(n-1)+",", name)
		}
		require.NotContains(t, string(text), "{{", "%s: a placeholder is left", name)
	}
}

func TestFSIsAFileSystem(t *testing.T) {
	fsys, err := FS("walbridge", 64)
	require.NoError(t, err)
	text, err := fs.ReadFile(fsys, "00001_base.sql")
	require.NoError(t, err)
	require.Contains(t, string(text), `CREATE TABLE "walbridge".schema_version`)
	require.Contains(t, string(text), "SELECT 64 ")
	_, err = fsys.Open("absent.sql")
	require.ErrorIs(t, err, fs.ErrNotExist)
	f, err := fsys.Open("00001_base.sql")
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(fstest.MapFS{"a.sql": {Data: text}}, "a.sql"))
	info, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, int64(len(text)), info.Size())
}

func TestSchemaNames(t *testing.T) {
	for _, good := range []string{"walbridge", "wb_2", "Shop-Work", "_x", strings.Repeat("a", 48)} {
		require.NoError(t, CheckSchema(good), good)
	}
	for _, bad := range []string{"", "pg_walbridge", "2wb", `a"b`, "a'b", "a.b", "a b", "a;b", "ä", "a\n", strings.Repeat("a", 49)} {
		require.Error(t, CheckSchema(bad), bad)
		_, err := FS(bad, 64)
		require.Error(t, err, bad)
		_, err = InboxSQL(bad)
		require.Error(t, err, bad)
	}
	for _, lanes := range []int{-1, 0, MaxLanes + 1} {
		_, err := FS("walbridge", lanes)
		require.Error(t, err)
	}
}

func TestInboxAlone(t *testing.T) {
	sql, err := InboxSQL("wb")
	require.NoError(t, err)
	require.Contains(t, sql, `CREATE SCHEMA IF NOT EXISTS "wb"`)
	require.Contains(t, sql, `CREATE TABLE IF NOT EXISTS "wb".inbox`)
	require.NotRegexp(t, regexp.MustCompile(`schema_version|goose|DROP`), sql)
}

func TestQuoting(t *testing.T) {
	require.Equal(t, `"a""b"`, Ident(`a"b`))
	require.Equal(t, `'a''b'`, Literal(`a'b`))
}

func TestCompatible(t *testing.T) {
	require.NoError(t, compatible(5, 5, 5))
	require.NoError(t, compatible(5, 7, 5), "a newer schema that still works with this program")
	require.EqualError(t, compatible(5, 4, 1), "the walbridge schema has version 4, this program needs version 5: migrate the schema")
	require.EqualError(t, compatible(5, 0, 0), "the walbridge schema has version 0, this program needs version 5: migrate the schema")
	require.EqualError(t, compatible(5, 7, 6), "the walbridge schema has version 7 and works with programs from version 6 on, this one has 5: use a newer walbridge")
	require.NoError(t, Compatible(Version, CompatibleFrom))
}

// laneVectors are golden: any client in any language has to agree with them. The
// SQL side is tested in internal/migrate with the same ones.
var laneVectors = map[string]int{
	"": 2, "order:9182": 60, "a": 18, "public.orders:[1]": 54, "Zoë": 24, "\U0001F600": 52,
}

func TestLaneVectors(t *testing.T) {
	for key, lane := range laneVectors {
		require.Equal(t, lane, Lane([]byte(key), 64), "%q", key)
	}
	require.Zero(t, Lane([]byte("anything"), 1))
	require.Zero(t, testing.AllocsPerRun(100, func() { Lane([]byte("order:9182"), 64) }))
}

func TestLaneIsInRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		lanes := rapid.IntRange(1, MaxLanes).Draw(t, "lanes")
		if lane := Lane(key, lanes); lane < 0 || lane >= lanes {
			t.Fatalf("Lane(%q, %d) = %d", key, lanes, lane)
		}
	})
}
