package worktable

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/sink"
)

// standStill is the environment variable that makes the test binary a process of
// its own which writes and stands still in the log's lock: "<stage> <DSN>".
const standStill = "WALBRIDGE_TEST_STAND_STILL"

// standingStill is that process. It says "there" when it holds the lock.
func standingStill(arg string) int {
	at, dsn, _ := strings.Cut(arg, " ")
	s := New(Config{DSN: secret.DSN(dsn), Lanes: testLanes}.WithDefaults(), nil)
	if _, err := s.Open(context.Background(), sink.Source{Name: "stopped"}); err != nil {
		fmt.Println(err)
		return 1
	}
	s.step = func(ctx context.Context, now stage) error {
		if string(now) == at {
			fmt.Println("there")
			<-ctx.Done()
		}
		return ctx.Err()
	}
	fmt.Println(s.Write(context.Background(), fill(s, 10, 5), lsn.Progress{Timeline: 1, Position: lsn.Position{End: 0x40}}))
	return 0
}

// stopped starts such a process, waits until it is there, and stops it.
func stopped(t *testing.T, db *pgtest.DB, at stage) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), standStill+"="+string(at)+" "+db.DSN())
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "there\n", line)
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
}

// A process that is stopped with the log locked is ended by the next writer, and
// the log goes on; what it had sent is gone, and it is fenced by nothing but that.
func TestStoppedProcessDoesNotStopTheLog(t *testing.T) {
	t.Parallel()
	for _, where := range []stage{stageCopy, stageCommit} {
		t.Run(string(where), func(t *testing.T) {
			db := shared(t)
			stopped(t, db, where)
			cfg := testConfig(db)
			cfg.WriteTimeout = 2 * time.Second
			s := opened(t, cfg, "shop")
			var err error
			pgtest.Eventually(t, within, func() bool {
				mustOpen(t, s, "shop")
				err = s.Write(ctxOf(t), fill(s, 0x100, 3), at(0x130))
				return err == nil
			}, "the log to go on: %v", err)
			require.Equal(t, "3", count(t, db, "log"))
			require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.batch WHERE source = 'stopped'"))
		})
	}
}

// A writer whose network is gone in the middle of COPY keeps nobody from opening its
// source, and loses its session to the next writer, because its transaction has
// lasted longer than a write may.
func TestBlackHoledWriterIsFencedAndEnded(t *testing.T) {
	t.Parallel()
	db := shared(t)
	proxy := pgtest.NewProxy(t, db.DSN())
	cfg := testConfig(db)
	cfg.WriteTimeout = time.Second
	far := cfg
	far.DSN = secret.DSN(proxy.DSN(db.DSN()))
	far.WriteTimeout = 30 * time.Second
	a := opened(t, far, "shop")
	writeN(t, a, 10, 10)
	a.step = func(_ context.Context, now stage) error {
		if now == stageCopy {
			proxy.BlackHole(true)
		}
		return nil
	}
	wrote := make(chan error, 1)
	ctx, give := context.WithCancel(context.Background())
	defer give()
	go func() { wrote <- a.Write(ctx, fill(a, 0x100, 20_000), at(0x130)) }()
	pgtest.Eventually(t, within, func() bool {
		return db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%/writer' AND xact_start IS NOT NULL AND state LIKE 'idle in%'") == "1"
	}, "the writer to hold the log's lock")
	b := newTest(t, cfg)
	require.Equal(t, at(0x3a).Position, mustOpen(t, b, "shop").Position, "Open waits for nothing")
	pgtest.Eventually(t, within, func() bool {
		if b.Write(ctxOf(t), fill(b, 0x100, 5), at(0x130)) == nil {
			return true
		}
		mustOpen(t, b, "shop")
		return false
	}, "the session to be ended")
	require.Equal(t, "15", count(t, db, "log"))
	give()
	require.Error(t, <-wrote)
	proxy.Heal()
	_, err := a.Open(ctxOf(t), sink.Source{Name: "shop"})
	requireFenced(t, err)
}

// A writer that waits for a synchronous standby is never ended, however long it
// takes: the other one gives up its own write instead, and names it.
func TestWaitForAStandbyIsNeverEnded(t *testing.T) {
	t.Parallel()
	db := migrated(t, pgtest.New(t))
	cfg := testConfig(db)
	cfg.WriteTimeout = time.Second
	patient := cfg
	patient.WriteTimeout = 30 * time.Second
	a, b := opened(t, patient, "shop"), opened(t, cfg, "legacy")
	release := stallCommits(t, db)
	wrote := make(chan error, 1)
	go func() { wrote <- a.Write(context.Background(), fill(a, 10, 5), at(0x40)) }()
	pgtest.Eventually(t, within, func() bool { return writerWaits(t, db, 0, "SyncRep") }, "the commit to wait")
	pid := db.One(t, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name <> 'probe'")
	pgtest.Eventually(t, within, func() bool {
		return db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::int AND clock_timestamp() - xact_start > interval '1.2 s'", pid) == "1"
	}, "it to be older than a write may be")
	err := b.Write(context.Background(), fill(b, 10, 5), at(0x40))
	require.ErrorContains(t, err, "pid "+pid)
	require.ErrorContains(t, err, "SyncRep")
	require.Equal(t, "0", count(t, db, "log"), "nothing is visible that no standby has")
	release()
	require.NoError(t, <-wrote)
	require.Equal(t, "5", count(t, db, "log"))
}

// A client that dies in COMMIT while the commit waits for a standby does not know
// what became of it. Nothing of it is visible, Open waits, and then answers that the
// batch is stored: one copy.
func TestUnknownCommit(t *testing.T) {
	t.Parallel()
	db := migrated(t, pgtest.New(t))
	proxy := pgtest.NewProxy(t, db.DSN())
	cfg := testConfig(db)
	cfg.DSN = secret.DSN(proxy.DSN(db.DSN()))
	s := opened(t, cfg, "shop")
	writeN(t, s, 10, 5)
	release := stallCommits(t, db)
	wrote := make(chan error, 1)
	go func() { wrote <- s.Write(context.Background(), fill(s, 0x100, 5), at(0x130)) }()
	pgtest.Eventually(t, within, func() bool { return writerWaits(t, db, 0, "SyncRep") }, "the commit to wait")
	proxy.Cut()
	require.Error(t, <-wrote)
	require.Equal(t, "5", count(t, db, "log"), "the trap: a reader sees the old position")
	opened := make(chan lsn.Progress, 1)
	go func() {
		p, err := s.Open(context.Background(), sink.Source{Name: "shop"})
		if err != nil {
			t.Error(err)
		}
		opened <- p
	}()
	pgtest.Eventually(t, within, func() bool { return waitsForSource(t, db) }, "Open to wait")
	require.Equal(t, "5", count(t, db, "log"))
	release()
	require.Equal(t, at(0x130).Position, (<-opened).Position)
	require.Equal(t, "10", count(t, db, "log"))
}

// Giving up a write does not cancel its commit. pgconn by itself would: its cancel
// request ends the wait for the standby, and the commit becomes visible.
func TestGivingUpCancelsNothing(t *testing.T) {
	t.Parallel()
	db := migrated(t, pgtest.New(t))
	s := opened(t, testConfig(db), "shop")
	plain, err := pgconn.Connect(t.Context(), db.DSN())
	require.NoError(t, err)
	release := stallCommits(t, db)
	waiting := func(n string) func() bool {
		return func() bool {
			return db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name <> 'probe'") == n
		}
	}

	ctx, giveUp := context.WithCancel(context.Background())
	wrote := make(chan error, 1)
	go func() { wrote <- s.Write(ctx, fill(s, 10, 5), at(0x40)) }()
	pgtest.Eventually(t, within, waiting("1"), "the commit to wait")
	giveUp()
	require.ErrorContains(t, <-wrote, context.Canceled.Error())
	require.True(t, waiting("1")(), "the commit still waits")
	require.Equal(t, "0", count(t, db, "log"))

	ctx, giveUp = context.WithCancel(context.Background())
	go func() {
		_, err := plain.Exec(ctx, "INSERT INTO walbridge.stream (name) VALUES ('the hole')").ReadAll()
		wrote <- err
	}()
	pgtest.Eventually(t, within, waiting("2"), "the other commit to wait")
	giveUp()
	require.Error(t, <-wrote)
	<-plain.CleanupDone()
	pgtest.Eventually(t, within, func() bool { return count(t, db, "stream") == "2" }, "the hole: a cancelled wait makes the commit visible")
	release()
	require.Equal(t, at(0x40).Position, mustOpen(t, s, "shop").Position)
}

// Somebody else's session in the way is named and left alone.
func TestOthersAreNamedAndLeftAlone(t *testing.T) {
	t.Parallel()
	db := shared(t)
	cfg := testConfig(db)
	cfg.WriteTimeout = time.Second
	s := opened(t, cfg, "shop")
	conn, err := pgx.Connect(t.Context(), db.DSN()+"&application_name=analyst")
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), "BEGIN; SELECT walbridge.lock_log()")
	require.NoError(t, err)
	pgtest.Eventually(t, within, func() bool {
		var old bool
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT clock_timestamp() - now() > interval '1 s'").Scan(&old))
		return old
	}, "its transaction to be old")
	err = s.Write(context.Background(), fill(s, 10, 1), at(0x40))
	require.ErrorContains(t, err, `application "analyst"`)
	_, err = conn.Exec(t.Context(), "COMMIT")
	require.NoError(t, err, "it still lives")
}

// A server that ends the session with a commit in flight leaves all of it or
// nothing, and Open says which.
func TestServerDiesInAWrite(t *testing.T) {
	t.Parallel()
	cluster := pgtest.New(t, pgtest.Fsync(), pgtest.Setting("synchronous_commit", "off"))
	db := migrated(t, cluster)
	s := opened(t, testConfig(db), "shop")
	writeN(t, s, 10, 5)
	for i, at0 := range []stage{stageBegin, stageCopy, stageCommit, stageAck} {
		commit := lsn.LSN(0x1000 * (i + 1))
		s.step = func(ctx context.Context, now stage) error {
			if now != at0 {
				return nil
			}
			require.NoError(t, cluster.Server().Kill())
			return ctx.Err()
		}
		err := s.Write(ctxOf(t), fill(s, commit, 7), at(commit+0x30))
		s.step = nil
		if at0 != stageAck {
			require.Error(t, err)
		}
		require.NoError(t, cluster.Server().Restart(t.Context()))
		before := count(t, db, "log")
		p := mustOpen(t, s, "shop")
		require.Equal(t, before, db.One(t, "SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM walbridge.batch"), "rows and positions agree")
		if p.Position != at(commit+0x30).Position {
			require.NotEqual(t, stageAck, at0)
			writeN(t, s, commit, 7)
		}
	}
	require.Equal(t, "33", count(t, db, "log"))
}
