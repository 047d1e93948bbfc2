package embeddedpg

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// versions runs f on the oldest and the newest server of this machine.
func versions(t *testing.T, f func(t *testing.T, i Install)) {
	installed(t)
	all, err := Search{}.All()
	require.NoError(t, err)
	for _, i := range slices.Compact([]Install{all[0], all[len(all)-1]}) {
		t.Run(i.Version, func(t *testing.T) { f(t, i) })
	}
}

func TestStandby(t *testing.T) {
	versions(t, func(t *testing.T, i Install) {
		p := started(t, Config{Install: i, Settings: map[string]string{"wal_level": "logical", "max_connections": "150"}})
		run(t, p.DSN("postgres"), "CREATE TABLE a AS SELECT 1 AS id")
		if i.Major >= 17 {
			run(t, p.DSN("postgres"), "SELECT pg_create_logical_replication_slot('f', 'pgoutput', false, false, true)")
		}
		s, err := p.Standby(timeout(t), StandbyConfig{Slot: "s1"})
		require.NoError(t, err)
		cleanUp(t, s)
		require.True(t, one[bool](t, s.DSN("postgres"), "SELECT pg_is_in_recovery()"))
		require.Equal(t, "s1", one[string](t, p.DSN("postgres"), "SELECT application_name FROM pg_stat_replication"))

		run(t, p.DSN("postgres"), "INSERT INTO a VALUES (2)")
		until(t, "the row has arrived", func() bool { return one[int](t, s.DSN("postgres"), "SELECT count(*) FROM a") == 2 })
		if i.Major >= 17 {
			until(t, "the failover slot is synchronised", func() bool {
				// A slot is taken over when it has passed what the standby still has.
				run(t, p.DSN("postgres"), "SELECT pg_log_standby_snapshot()",
					"SELECT pg_replication_slot_advance('f', pg_current_wal_lsn())")
				return one[int](t, s.DSN("postgres"), "SELECT count(*) FROM pg_replication_slots WHERE synced AND NOT temporary") == 1
			})
		}
		require.NoError(t, p.Kill())
		require.NoError(t, s.Promote(timeout(t)))
		run(t, s.DSN("postgres"), "INSERT INTO a VALUES (3)")
		require.Equal(t, 3, one[int](t, s.DSN("postgres"), "SELECT count(*) FROM a"))
		require.NoError(t, s.Restart(timeout(t)), "a promoted standby is a server like others")
		require.False(t, one[bool](t, s.DSN("postgres"), "SELECT pg_is_in_recovery()"))
	})
}

// A clone is the same database as it was, also after the original went on.
func TestClone(t *testing.T) {
	p := started(t, Config{})
	run(t, p.DSN("postgres"), "CREATE TABLE a AS SELECT 1 AS id")
	_, err := p.Clone(folder(t))
	require.ErrorContains(t, err, "is running")
	require.NoError(t, p.Kill(), "a killed server can be cloned")
	cfg, err := p.Clone(folder(t))
	require.NoError(t, err)
	require.NoError(t, p.Restart(timeout(t)))
	run(t, p.DSN("postgres"), "INSERT INTO a VALUES (2)")

	c := started(t, cfg)
	require.NotEqual(t, p.Port(), c.Port())
	require.Equal(t, 1, one[int](t, c.DSN("postgres"), "SELECT count(*) FROM a"))
	const id = "SELECT system_identifier::text FROM pg_control_system()"
	require.Equal(t, one[string](t, p.DSN("postgres"), id), one[string](t, c.DSN("postgres"), id))

	require.NoError(t, c.Stop(timeout(t), Fast))
	_, err = c.Clone(p.Dir())
	require.ErrorContains(t, err, "it exists")
}

func TestNotInBackup(t *testing.T) {
	for path, out := range map[string]bool{
		"data/PG_VERSION": false, "data/base": false, "data/base/1/1259": false, "data/pg_wal": false,
		"data/pg_wal/000000010000000000000001": true, "data/pg_wal/archive_status": false,
		"data/pg_wal/archive_status/000000010000000000000001.ready": true,
		"data/pg_replslot": false, "data/pg_replslot/s": true, "data/postmaster.pid": true,
		"data/base/1/pg_internal.init": true, "data/base/pgsql_tmp": true,
	} {
		require.Equal(t, out, notInBackup(path), path)
	}
}

func TestCopyTree(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.MkdirAll(filepath.Join(src, "a", "b"), 0o700))
	for _, f := range []string{"x", "a/x", "a/b/x", "a/b/skipped"} {
		require.NoError(t, os.WriteFile(filepath.Join(src, f), []byte(f), 0o600))
	}
	var owned int
	own := func(string) error { owned++; return nil }
	skip := func(path string) bool { return filepath.Base(path) == "skipped" }
	require.NoError(t, copyTree(src, dst, skip, own))
	require.Equal(t, 6, owned) // three folders, three files
	got, err := os.ReadFile(filepath.Join(dst, "a", "b", "x"))
	require.NoError(t, err)
	require.Equal(t, "a/b/x", string(got))
	require.NoFileExists(t, filepath.Join(dst, "a", "b", "skipped"))

	require.NoError(t, os.Symlink("/", filepath.Join(src, "tablespace")))
	require.ErrorContains(t, copyTree(src, filepath.Join(t.TempDir(), "copy"), skip, own), "neither a file nor a folder")
	require.ErrorContains(t, copyTree(filepath.Join(src, "none"), dst, skip, own), "no such file")
}
