package embeddedpg

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseVersion(t *testing.T) {
	for out, want := range map[string]struct {
		version string
		major   int
	}{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": {"15.18", 15},
		"postgres (PostgreSQL) 18.6\n":                           {"18.6", 18},
		"postgres (PostgreSQL) 19beta1\n":                        {"19beta1", 19},
		"postgres (PostgreSQL) 20devel\n":                        {"20", 20},
	} {
		version, major, err := parseVersion(out)
		require.NoError(t, err, out)
		require.Equal(t, want.version, version)
		require.Equal(t, want.major, major)
	}
	for _, out := range []string{"", "postgres", "pg_ctl (EnterpriseDB) 15.1", "(PostgreSQL) 99999999999999999999"} {
		_, _, err := parseVersion(out)
		require.Error(t, err, out)
	}
}

// fake makes a folder that looks like an installation: shell scripts.
func fake(t *testing.T, version string, files ...string) (bin string) {
	t.Helper()
	root := folder(t)
	for _, f := range files {
		path := filepath.Join(root, f)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho '"+version+"'\n"), 0o755))
	}
	return filepath.Join(root, "bin")
}

const (
	postgresFile = "bin/postgres"
	initdbFile   = "bin/initdb"
	pluginFile   = "lib/postgresql/pgoutput.so"
)

func TestProveRefusesWhatCannotBeUsed(t *testing.T) {
	good := fake(t, "postgres (PostgreSQL) 99.1", postgresFile, initdbFile, pluginFile)
	i, err := prove(good)
	require.NoError(t, err)
	require.Equal(t, Install{BinDir: good, LibDir: filepath.Join(filepath.Dir(good), "lib", "postgresql"), Version: "99.1", Major: 99}, i)

	for want, bin := range map[string]string{
		"resolve postgres": fake(t, "", initdbFile, pluginFile),
		"look for initdb":  fake(t, "postgres (PostgreSQL) 99.1", postgresFile, pluginFile),
		"pgoutput plugin":  fake(t, "postgres (PostgreSQL) 99.1", postgresFile, initdbFile),
		"no version in":    fake(t, "not me", postgresFile, initdbFile, pluginFile),
		"exit status 3":    fake(t, "'; exit 3; '", postgresFile, initdbFile, pluginFile),
	} {
		_, err := prove(bin)
		require.ErrorContains(t, err, want)
	}
}

// A symbolic link, such as /usr/local/bin/postgres, leads to the real folder.
func TestProveFollowsLinks(t *testing.T) {
	good := fake(t, "postgres (PostgreSQL) 99.1", postgresFile, initdbFile, pluginFile)
	link := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(good, "postgres"), filepath.Join(link, "postgres")))
	i, err := prove(link)
	require.NoError(t, err)
	require.Equal(t, good, i.BinDir)
}

func TestFind(t *testing.T) {
	newest := fake(t, "postgres (PostgreSQL) 99.1", postgresFile, initdbFile, pluginFile)
	s := Search{BinDir: newest, CacheDir: t.TempDir()}
	for _, major := range []int{0, 99} {
		i, err := s.Find(major)
		require.NoError(t, err)
		require.Equal(t, newest, i.BinDir)
	}
	_, err := s.Find(98)
	require.True(t, IsNotFound(err))
	require.ErrorContains(t, err, "no PostgreSQL 98 server found")
	require.ErrorContains(t, err, "is version 99.1")

	_, err = Search{BinDir: t.TempDir()}.Find(0)
	require.Error(t, err, "an explicit folder that is no installation is an error")
	require.False(t, IsNotFound(err), "and not a reason to fetch")
}

func TestFindLooksIntoTheCache(t *testing.T) {
	cache := t.TempDir()
	bin := fake(t, "postgres (PostgreSQL) 99.1", postgresFile, initdbFile, pluginFile)
	require.NoError(t, os.Mkdir(filepath.Join(cache, "postgresql"), 0o755))
	require.NoError(t, os.Symlink(filepath.Dir(bin), filepath.Join(cache, "postgresql", "99.1-any")))
	i, err := Search{CacheDir: cache}.Find(99)
	require.NoError(t, err)
	require.Equal(t, bin, i.BinDir)
}

func TestAllIsOnePerMajorVersionNewestFirst(t *testing.T) {
	installed(t)
	all, err := Search{}.All()
	require.NoError(t, err)
	for i, got := range all[1:] {
		require.Less(t, got.Major, all[i].Major)
	}
}
