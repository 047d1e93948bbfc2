package torture_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// What only the server's settings, its rights or the configuration can cure ends
// the first start with exit code 2 and says what to do. It does not try again.
//
//arch:flat
func TestFirstStartNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T) *rig
		says    []string
	}{
		"wal_level": {func(t *testing.T) *rig {
			r := newRig(t, pgtest.New(t, pgtest.Setting("wal_level", "replica")).DB(t), pgtest.Shared(t).DB(t))
			r.setup(t)
			return r
		}, []string{"wal_level"}},
		"slots": {func(t *testing.T) *rig {
			r := newRig(t, pgtest.New(t, pgtest.Setting("max_replication_slots", "1")).DB(t), pgtest.Shared(t).DB(t))
			r.setup(t)
			r.source.Exec(t, "SELECT pg_create_logical_replication_slot('taken', 'pgoutput')")
			return r
		}, []string{"max_replication_slots"}},
		"senders": {func(t *testing.T) *rig {
			r := newRig(t, pgtest.New(t, pgtest.Setting("max_wal_senders", "0")).DB(t), pgtest.Shared(t).DB(t))
			r.setup(t)
			return r
		}, []string{"max_wal_senders"}},
		"rights": {func(t *testing.T) *rig {
			r := sharedRig(t)
			r.setup(t)
			role := "norights_" + r.name
			r.source.Exec(t, "CREATE ROLE "+role+" LOGIN")
			t.Cleanup(func() { r.source.Exec(t, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
			r.sourceDSN = r.source.DSNAs(role, "")
			return r
		}, []string{"REPLICATION"}},
		"publication": {func(t *testing.T) *rig {
			r := sharedRig(t)
			r.setup(t)
			r.source.Exec(t, "DROP PUBLICATION "+r.publication())
			return r
		}, []string{"publication", "walbridge setup"}},
		"schema of the work table": {func(t *testing.T) *rig {
			r := sharedRig(t)
			r.setup(t)
			r.sink.Exec(t, "DROP SCHEMA walbridge CASCADE")
			return r
		}, []string{"walbridge"}},
		"our own tables are published": {func(t *testing.T) *rig {
			c := pgtest.Shared(t)
			db := c.DB(t)
			r := newRig(t, db, db)
			r.setup(t)
			r.source.Exec(t, "DROP PUBLICATION "+r.publication()+"; CREATE PUBLICATION "+r.publication()+" FOR ALL TABLES")
			return r
		}, []string{"walbridge."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := c.prepare(t).run(t)
			require.Equal(t, 2, b.WaitExit(t, startWithin()), "%s", b.Output())
			for _, says := range c.says {
				require.Contains(t, b.Output(), says)
			}
			require.NotContains(t, b.Output(), "panic")
			require.LessOrEqual(t, strings.Count(b.Output(), "[ERROR]"), 1, "%s", b.Output())
		})
	}
}
