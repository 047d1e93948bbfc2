package worktable

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/migrations"
	"github.com/walbridge/walbridge/sink"
)

// role makes a role that may log in, and returns a configuration for it.
func role(t *testing.T, db *pgtest.DB, grants bool) (Config, string) {
	t.Helper()
	name := "r_" + db.Name()
	db.Exec(t, "CREATE ROLE "+migrations.Ident(name)+" LOGIN PASSWORD 'hunter2'")
	t.Cleanup(func() { db.Exec(t, "DROP OWNED BY "+migrations.Ident(name)+"; DROP ROLE "+migrations.Ident(name)) })
	if grants {
		for stmt := range strings.Lines(GrantsSQL("walbridge", name)) {
			db.Exec(t, stmt)
		}
	}
	cfg := testConfig(db)
	cfg.DSN = secret.DSN(db.DSNAs(name, "hunter2"))
	return cfg, name
}

// serious drops warnings: test servers run without fsync.
func serious(all []fault.Problem) []fault.Problem {
	var left []fault.Problem
	for _, p := range all {
		if !p.Warning {
			left = append(left, p)
		}
	}
	return left
}

// A role with the printed GRANTs and nothing else can do everything that a bridge
// and its operators do.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := migrated(t, c)
		cfg, _ := role(t, db, true)
		found, err := Check(ctxOf(t), cfg, SourceOf{})
		require.NoError(t, err)
		require.Empty(t, serious(found))
		choosy(t, db)
		s := newTest(t, cfg)
		s.tune.partitionSize, s.tune.trimEvery, s.tune.trimKeep, s.tune.notifyPause = 50, 2, 1, time.Millisecond
		l, err := s.Lock(ctxOf(t), "shop", time.Minute, nil)
		require.NoError(t, err)
		mustOpen(t, s, "shop")
		b := fillWith(s, 0x1000, 40, 3)
		b.Append([]mapper.Item{letterItem(0x2000, 0)})
		require.NoError(t, s.Write(ctxOf(t), b, at(0x2030)))
		for i := range lsn.LSN(5) {
			writeN(t, s, 0x10000*(i+1), 40)
		}
		pgtest.Eventually(t, within, func() bool { return s.upkeep.trimmedTo() > 0 }, "a trim")
		latest, err := ReadLatest(ctxOf(t), cfg, "shop")
		require.NoError(t, err)
		require.Equal(t, int64(2), latest.DeadLetters)
		store, err := OpenStore(ctxOf(t), cfg)
		require.NoError(t, err)
		defer store.Close()
		letters, err := store.List(ctxOf(t), Filter{})
		require.NoError(t, err)
		require.Len(t, letters, 2)
		conn := db.Conn(t)
		pgtest.Eventually(t, within, func() bool { // the upkeep may be making a partition: one of the two is the victim of a deadlock
			_, err := conn.Exec(ctxOf(t), "ALTER TABLE walbridge.log DROP CONSTRAINT no_bad")
			return err == nil
		}, "the constraint is gone")
		for _, l := range letters {
			_, err = store.Replay(ctxOf(t), l.ID, func([]byte) ([]mapper.Item, error) { return []mapper.Item{event(0x2000, 0, "k")}, nil }, Operator{}, false)
			require.NoError(t, err)
		}
		_, err = store.Discard(ctxOf(t), []int64{1}, Operator{})
		require.NoError(t, err)
		require.NoError(t, l.Unlock(ctxOf(t)))
	})
}

// Each right that is missing is found, and its GRANT mends it.
func TestEachMissingRightIsNamed(t *testing.T) {
	t.Parallel()
	db := shared(t)
	cfg, name := role(t, db, true)
	for _, r := range rights() {
		db.Exec(t, "REVOKE ALL ON "+r.kind+" "+r.object("walbridge")+" FROM "+migrations.Ident(name))
		found, err := Check(ctxOf(t), cfg, SourceOf{})
		require.NoError(t, err)
		found = serious(found)
		require.Len(t, found, 1, r.object("walbridge"))
		require.Equal(t, "sink-rights", found[0].Check)
		for _, p := range r.privileges {
			require.Contains(t, found[0].What, p)
		}
		db.Exec(t, found[0].Fix)
		found, err = Check(ctxOf(t), cfg, SourceOf{})
		require.NoError(t, err)
		require.Empty(t, serious(found), "after %s", r.object("walbridge"))
	}
	db.Exec(t, "REVOKE EXECUTE ON FUNCTION walbridge.make_partitions(bigint, integer, bigint) FROM "+migrations.Ident(name))
	_, err := newTest(t, cfg).Open(ctxOf(t), sink.Source{Name: "shop"})
	var config *fault.ConfigError
	require.ErrorAs(t, err, &config, "a missing right is for an operator")
	require.Contains(t, config.Problems[0].Fix, "GRANT")
}

func TestCheckWithoutSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	found, err := Check(ctxOf(t), testConfig(db), SourceOf{})
	require.NoError(t, err)
	found = serious(found)
	require.Len(t, found, 1)
	require.Equal(t, "walbridge setup", found[0].Fix)

	db = shared(t)
	cfg := testConfig(db)
	cfg.Lanes = 16
	found, err = Check(ctxOf(t), cfg, SourceOf{})
	require.NoError(t, err)
	found = serious(found)
	require.Len(t, found, 1)
	require.Equal(t, "sink-lanes", found[0].Check)
}

// A server that can lose what it has confirmed is warned of.
func TestCheckWarnsOfDurability(t *testing.T) {
	t.Parallel()
	db := migrated(t, pgtest.New(t, pgtest.Setting("full_page_writes", "off")))
	found, err := Check(ctxOf(t), testConfig(db), SourceOf{})
	require.NoError(t, err)
	var checks []string
	for _, p := range found {
		require.True(t, p.Warning)
		checks = append(checks, p.Check)
	}
	require.Equal(t, []string{"sink-fsync", "sink-full-page-writes"}, checks)
}

// When the source is the work table's own database, a publication that covers the
// work table is refused, the inbox aside.
func TestCheckSameDatabase(t *testing.T) {
	t.Parallel()
	db := shared(t)
	id, err := strconv.ParseInt(db.One(t, "SELECT system_identifier FROM pg_control_system()"), 10, 64)
	require.NoError(t, err)
	src := SourceOf{SystemID: uint64(id), Database: db.Name(), Publication: "walbridge_shop"}
	same, err := SameDatabase(ctxOf(t), testConfig(db), src)
	require.NoError(t, err)
	require.True(t, same)
	for _, other := range []SourceOf{{SystemID: src.SystemID + 1, Database: src.Database}, {SystemID: src.SystemID, Database: "other"}, {}} {
		same, err = SameDatabase(ctxOf(t), testConfig(db), other)
		require.NoError(t, err)
		require.False(t, same)
	}
	check := func() []fault.Problem {
		found, err := Check(ctxOf(t), testConfig(db), src)
		require.NoError(t, err)
		var mine []fault.Problem
		for _, p := range found {
			if p.Check == "sink-published" {
				mine = append(mine, p)
			}
		}
		return mine
	}
	db.Exec(t, "CREATE PUBLICATION walbridge_shop FOR TABLE walbridge.inbox")
	require.Empty(t, check())
	db.Exec(t, "DROP PUBLICATION walbridge_shop; CREATE PUBLICATION walbridge_shop FOR ALL TABLES; CREATE PUBLICATION other FOR TABLE walbridge.batch")
	found := check()
	require.Len(t, found, 2)
	require.True(t, found[0].Warning, "somebody else's publication")
	require.False(t, found[1].Warning, "the bridge's own")
}

func TestConfig(t *testing.T) {
	t.Parallel()
	cfg := Config{DSN: "postgres://u@h/d"}.WithDefaults()
	require.Equal(t, Config{
		DSN: "postgres://u@h/d", Schema: "walbridge", Lanes: 64, WriteTimeout: 30 * time.Second, DedupeWindow: 7 * 24 * time.Hour,
		Retention: Retention{Policy: Policy{Min: 24 * time.Hour, Max: 7 * 24 * time.Hour, OnExceeded: "expire"}},
	}, cfg)
	require.Empty(t, cfg.Validate())
	bad := Config{Schema: "pg_x", Lanes: -1, WriteTimeout: time.Millisecond}.WithDefaults()
	var where []string
	for _, p := range bad.Validate() {
		where = append(where, p.Where)
		require.NotEmpty(t, p.Fix)
	}
	require.Equal(t, []string{"sink.worktable.dsn", "sink.worktable.schema", "sink.worktable.lanes", "sink.write_timeout"}, where)
}
