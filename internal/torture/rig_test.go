package torture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/torture"
)

// startWithin bounds what a bridge does at once, such as to stream. In a full run
// all have to share the machine with transactions of millions of rows.
func startWithin() time.Duration { return time.Duration(sized(40, 300)) * time.Second }

// drainWithin bounds the delivery of all that has committed.
func drainWithin() time.Duration { return time.Duration(sized(90, 1200)) * time.Second }

// full says that the sizes are those of a full run.
func full() bool { return os.Getenv("WALBRIDGE_TORTURE") == "1" }

// sized is small in a test run and large in a full one.
func sized(small, large int) int {
	if full() {
		return large
	}
	return small
}

// rig is a bridge's configuration between a source and a work table.
type rig struct {
	name         string
	source, sink *pgtest.DB
	// sourceDSN, replicationDSN and sinkDSN are what the bridge is told; proxies stand
	// in between where a test wants them. replicationDSN empty: the same as sourceDSN.
	sourceDSN, replicationDSN, sinkDSN string
	moreSource                         string // further lines of the section source
	extra                              string // further lines of the configuration
	routes                             string // in the place of the workload's
	toStdout                           bool   // in the place of the work table
	toKafka                            string // a broker in the place of the work table
	delivery                           string // of Kafka
	dir                                string
}

// workloadRoutes read no rows: the checker knows what the stream has to deliver.
const workloadRoutes = `
  - tables: [load.outbox]
    outbox: {}
  - tables: ["load.*"]
    changes: {}
    snapshot: never
`

// newRig makes a rig between two databases, the source with the tables of the
// workload.
func newRig(t *testing.T, source, sink *pgtest.DB) *rig {
	t.Helper()
	require.NoError(t, torture.Install(t.Context(), source.DSN()))
	return bareRig(t, source, sink)
}

// bareRig is newRig with a source that stays as it is.
func bareRig(t *testing.T, source, sink *pgtest.DB) *rig {
	t.Helper()
	return &rig{
		name: "t" + strings.TrimLeft(source.Name()[strings.LastIndexByte(source.Name(), '_'):], "_"), source: source, sink: sink,
		sourceDSN: source.DSN(), sinkDSN: sink.DSN(), routes: workloadRoutes, dir: t.TempDir(),
	}
}

// ownRig is a sharedRig, and of a full run one of a cluster of its own: no slot can be
// made anywhere in a cluster while a transaction of millions of rows goes on.
func ownRig(t *testing.T) *rig {
	t.Helper()
	if !full() {
		return sharedRig(t)
	}
	c := pgtest.New(t)
	return newRig(t, c.DB(t), c.DB(t))
}

// sharedRig is a rig between two databases of the shared cluster.
func sharedRig(t *testing.T) *rig {
	t.Helper()
	c := pgtest.Shared(t)
	return newRig(t, c.DB(t), c.DB(t))
}

func (r *rig) slot() string        { return "walbridge_" + r.name }
func (r *rig) publication() string { return "walbridge_" + r.name }

// config writes the configuration and returns its path. Each process has its own
// port.
func (r *rig) config(t *testing.T, port int) string {
	t.Helper()
	replication := r.moreSource
	if r.replicationDSN != "" {
		replication += "\n  replication_dsn: " + r.replicationDSN
	}
	sink := fmt.Sprintf("worktable: {dsn: %q, lanes: 8}", r.sinkDSN)
	if r.toStdout {
		sink = fmt.Sprintf("stdout: {state: %q}", filepath.Join(r.dir, "state"))
	}
	if r.toKafka != "" {
		sink = fmt.Sprintf("kafka: {brokers: [%q], delivery: %s, create_topics: {partitions: 3}}", r.toKafka, r.delivery)
	}
	text := fmt.Sprintf("name: %s\nsource:\n  dsn: %s%s\nroutes:%ssink:\n  %s\nhttp: {listen: \"127.0.0.1:%d\"}\nlog: {level: debug}\n%s\n",
		r.name, r.sourceDSN, replication, r.routes, sink, port, r.extra)
	path := filepath.Join(r.dir, fmt.Sprintf("walbridge-%d.yaml", port))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// setup runs `walbridge setup`, past any proxy.
func (r *rig) setup(t *testing.T) {
	t.Helper()
	direct := *r
	direct.sourceDSN, direct.replicationDSN, direct.sinkDSN = r.source.DSN(), "", r.sink.DSN()
	p := pgtest.Run(t, "setup", "--config", direct.config(t, pgtest.FreePort(t)))
	require.Zero(t, p.WaitExit(t, startWithin()), "setup: %s", p.Output())
}

// bridge is a running `walbridge run`.
type bridge struct {
	*pgtest.Process
	url string
}

// run starts a bridge and does not wait for it.
func (r *rig) run(t *testing.T, args ...string) *bridge {
	t.Helper()
	port := pgtest.FreePort(t)
	args = append([]string{"run", "--config", r.config(t, port)}, args...)
	return &bridge{Process: pgtest.Run(t, args...), url: fmt.Sprintf("http://127.0.0.1:%d", port)}
}

// start starts a bridge and waits until it streams.
func (r *rig) start(t *testing.T, args ...string) *bridge {
	t.Helper()
	b := r.run(t, args...)
	b.await(t, startWithin(), status.StateStreaming)
	return b
}

// status asks the bridge; false when it does not answer.
func (b *bridge) status() (status.Status, bool) {
	var s status.Status
	ok := b.get("/status", func(resp *http.Response) bool {
		return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(&s) == nil
	})
	return s, ok
}

// ready asks /readyz.
func (b *bridge) ready() bool {
	return b.get("/readyz", func(resp *http.Response) bool { return resp.StatusCode == http.StatusOK })
}

func (b *bridge) get(path string, check func(*http.Response) bool) bool {
	client := http.Client{Timeout: startWithin(), Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(b.url + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return check(resp)
}

// await waits until the bridge is in a state.
func (b *bridge) await(t *testing.T, within time.Duration, state string) status.Status {
	t.Helper()
	var s status.Status
	pgtest.Eventually(t, within, func() bool {
		if !b.Running() {
			t.Fatalf("the bridge ended with code %d before it was %s", b.ExitCode(), state)
		}
		var ok bool
		s, ok = b.status()
		return ok && s.State == state
	}, "the bridge is %s", state)
	return s
}

// awaitHalt waits for a halt by a rule and checks what every halt must have: it is
// not ready, stays up, and says which way leads out.
func (b *bridge) awaitHalt(t *testing.T, within time.Duration, rule string) status.Status {
	t.Helper()
	s := b.await(t, within, status.StateHalted)
	require.NotNil(t, s.Halt)
	require.Equal(t, rule, s.Halt.Rule, "%+v", s.Halt)
	require.NotEmpty(t, s.Halt.What)
	require.NotEmpty(t, s.Halt.Why)
	require.NotEmpty(t, s.Halt.Ways)
	require.False(t, s.Ready)
	require.False(t, b.ready())
	return s
}

// load is a workload that runs beside a test.
type load struct {
	*torture.Workload
	stopIt context.CancelFunc
	ended  chan error
}

// startLoad starts a workload on the rig's source.
func (r *rig) startLoad(t *testing.T, cfg torture.Config) *load {
	t.Helper()
	cfg.DSN = r.source.DSN()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{Workload: torture.NewWorkload(cfg), stopIt: cancel, ended: make(chan error, 1)}
	go func() {
		defer close(l.ended)
		l.ended <- l.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-l.ended // closed, at the latest when it has ended
	})
	return l
}

// awaitCommits waits until n more transactions have committed.
func (l *load) awaitCommits(t *testing.T, n int64) {
	t.Helper()
	goal := l.Counts().Committed + n
	pgtest.Eventually(t, time.Duration(sized(60, 900))*time.Second, func() bool { return l.Counts().Committed >= goal || len(l.ended) > 0 }, "%d more transactions", n)
}

// stop ends the workload.
func (l *load) stop(t *testing.T) torture.Counts {
	t.Helper()
	l.stopIt()
	require.NoError(t, <-l.ended)
	return l.Counts()
}

// progress is a column of the sink's position of this bridge.
func (r *rig) progress(t *testing.T, column string) string {
	t.Helper()
	return r.sink.One(t, "SELECT coalesce("+column+"::text, '') FROM walbridge.progress WHERE source = $1", r.name)
}

// insertItems inserts that many rows of load.item in one transaction.
func (r *rig) insertItems(t *testing.T, rows int) {
	t.Helper()
	_, err := r.source.Conn(t).Exec(t.Context(), "INSERT INTO load.item (id, n, v) SELECT g, g, repeat('x', 100) FROM generate_series(1, $1::int) g", rows)
	require.NoError(t, err)
}

// drain commits one last row and waits until it is delivered, and with it all that
// was committed before.
func (r *rig) drain(t *testing.T) {
	t.Helper()
	before := r.source.One(t, "SELECT pg_current_wal_insert_lsn()::text")
	r.source.Exec(t, "INSERT INTO load.reading (sensor) VALUES ('drained')")
	pgtest.Eventually(t, drainWithin(), func() bool {
		return r.sink.One(t, "SELECT coalesce(bool_or(last_tx_end > $2::text::pg_lsn), false)::text FROM walbridge.progress WHERE source = $1", r.name, before) == "true"
	}, "all that was committed before %s is delivered", before)
}

// prove drains and proves that the work table holds what the source committed.
func (r *rig) prove(t *testing.T) torture.Proven {
	t.Helper()
	r.drain(t)
	proven, err := torture.Proof{
		SourceDSN: r.source.DSN(), SinkDSN: r.sink.DSN(), Bridge: r.name, Publication: r.publication(),
	}.Run(t.Context())
	require.NoError(t, err)
	t.Logf("proven: %+v", proven)
	return proven
}

// moment waits for a moment that nothing announces: a fault at a random time is
// the point of it.
func moment(t *testing.T, r *rand.Rand, most time.Duration) {
	t.Helper()
	timer := time.NewTimer(time.Duration(r.Int64N(int64(most))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
