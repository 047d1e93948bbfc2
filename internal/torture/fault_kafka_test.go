package torture_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/torture"
	"github.com/walbridge/walbridge/sink/kafka"
)

// Into Kafka, exactly once for consumers with read_committed, and at least once. One
// broker serves all of it, and is killed at last.
func TestKafka(t *testing.T) {
	t.Parallel()
	b := kafkatest.New(t, kafkatest.QuickRestart())
	t.Run("bridge", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *kafkatest.Broker){
			"killed":                        func(t *testing.T, b *kafkatest.Broker) { killBridgeToKafka(t, b, "exactly_once") },
			"killed, at least once":         func(t *testing.T, b *kafkatest.Broker) { killBridgeToKafka(t, b, "at_least_once") },
			"killed in a large transaction": largeTransactionToKafka,
			"terminated":                    terminateToKafka,
			"standby":                       standbyToKafka,
			"stopped":                       stoppedOwnerToKafka,
			"snapshot":                      snapshotToKafka,
			"faults of a snapshot":          snapshotFaultsToKafka,
			"outbox_of_before":              outboxToKafka,
			"table_without_a_key":           keylessToKafka,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, b)
			})
		}
	})
	t.Run("broker killed", func(t *testing.T) { killBroker(t, b) })
}

// newestKafka is a version whose brokers can lose the marker of a commit when they are
// killed (KAFKA-20734).
const newestKafka = "4.4.0"

// On a broker that loses markers the bridge mends what it knows to be committed, or
// halts; it repeats nothing.
func TestNewestKafka(t *testing.T) {
	if !full() {
		t.Skip("a broker of another version: with WALBRIDGE_TORTURE=1")
	}
	t.Parallel()
	broker := kafkatest.New(t, kafkatest.QuickRestart(), kafkatest.Release(newestKafka))
	s := seed(t)
	rand := torture.Rand(s, 62)
	r := kafkaRig(t, broker, "exactly_once")
	b := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 100})
	kills := 0
	for ; kills < 20 && b.haltedBy() == ""; kills++ {
		before := r.confirmed(t)
		moment(t, rand, 500*time.Millisecond)
		broker.Kill(t)
		broker.Restart(t)
		pgtest.Eventually(t, drainWithin(), func() bool { return r.confirmed(t) != before || b.haltedBy() != "" }, "the bridge writes again, or halts")
	}
	counts := l.stop(t)
	if rule := b.haltedBy(); rule != "" {
		require.Equal(t, "kafka-hanging-transaction", rule)
		require.Zero(t, b.Terminate(t, startWithin()))
		all, repeated := readKafka(t, broker.Addr(), r.name, false, false)
		require.Zero(t, repeated)
		t.Logf("halted after %d kills, %d items", kills, len(all))
		r.record(t, "kill-broker-"+newestKafka+"-halted", s, torture.Proven{Items: int64(len(all))}, counts, "kills", kills)
		return
	}
	r.proveKafka(t, b, broker, "kill-broker-"+newestKafka, s, counts, "kills", kills)
}

// haltedBy is the rule of a halt, empty when there is none.
func (b *bridge) haltedBy() string {
	st, ok := b.status()
	if !ok || st.State != status.StateHalted || st.Halt == nil {
		return ""
	}
	return st.Halt.Rule
}

// kafkaRig is a rig that ends in a broker.
func kafkaRig(t *testing.T, b *kafkatest.Broker, delivery string) *rig {
	t.Helper()
	db := pgtest.Shared(t).DB(t)
	r := newRig(t, db, db)
	r.toKafka, r.delivery = b.Addr(), delivery
	r.setup(t)
	return r
}

func killBridgeToKafka(t *testing.T, broker *kafkatest.Broker, delivery string) {
	kills := sized(10, 200)
	s := seed(t)
	rand := torture.Rand(s, 60)
	r := kafkaRig(t, broker, delivery)
	b := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 150})
	for range kills {
		moment(t, rand, 500*time.Millisecond)
		require.NoError(t, b.Kill())
		<-b.Done()
		b = r.run(t)
	}
	counts := l.stop(t)
	r.proveKafka(t, b, broker, "kill-bridge-kafka-"+delivery, s, counts, "kills", kills)
}

// A second process waits while the first has the slot, and goes on where it ended.
func standbyToKafka(t *testing.T, broker *kafkatest.Broker) {
	s := seed(t)
	r := kafkaRig(t, broker, "exactly_once")
	first := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 100})
	second := r.run(t)
	second.await(t, startWithin(), status.StateWaiting)
	l.awaitCommits(t, 50)
	st, ok := first.status()
	require.True(t, ok)
	require.Equal(t, status.StateStreaming, st.State, "the second process has disturbed the first")
	require.NoError(t, first.Kill())
	second.await(t, startWithin(), status.StateStreaming)
	counts := l.stop(t)
	r.proveKafka(t, second, broker, "standby-kafka", s, counts, "takeovers", 1)
}

// The bridge dies inside a transaction that takes many batches.
func largeTransactionToKafka(t *testing.T, broker *kafkatest.Broker) {
	rows, kills := sized(100_000, 1_000_000), sized(3, 6)
	r := ownRig(t)
	r.toKafka, r.delivery = broker.Addr(), "exactly_once"
	r.extra = "batch: {max_items: " + strconv.Itoa(rows/400) + "}"
	r.setup(t)
	b := r.start(t)
	r.insertItems(t, rows)
	var at lsn.Position
	for range kills {
		pgtest.Eventually(t, startWithin(), func() bool {
			p := r.stored(t)
			return p.Commit != 0 && at.Before(p)
		}, "the position moves on inside the transaction, beyond %v", at)
		require.NoError(t, b.Kill())
		<-b.Done()
		now := r.stored(t)
		require.False(t, now.Before(at), "the position moved back")
		at = now
		b = r.run(t)
	}
	require.NotZero(t, at.Commit, "the last kill came after the transaction")
	r.proveKafka(t, b, broker, "kill-bridge-in-large-transaction-kafka", seed(t), torture.Counts{Rows: int64(rows)}, "kills", kills)
}

// stored is the bridge's position in the progress topic.
func (r *rig) stored(t *testing.T) lsn.Position {
	t.Helper()
	cfg := kafka.Config{Brokers: []string{r.toKafka}, Delivery: r.delivery}.WithDefaults()
	latest, err := kafka.ReadLatest(t.Context(), cfg, r.name)
	require.NoError(t, err)
	return latest.Progress.Position
}

// What was taken when the signal came is delivered, and the slot knows.
func terminateToKafka(t *testing.T, broker *kafkatest.Broker) {
	stops := sized(3, 20)
	s := seed(t)
	rand := torture.Rand(s, 63)
	r := kafkaRig(t, broker, "exactly_once")
	b := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 100})
	for range stops {
		moment(t, rand, 500*time.Millisecond)
		require.Zero(t, b.Terminate(t, startWithin()))
		var p lsn.Position
		pgtest.Eventually(t, startWithin(), func() bool { // the broker says that it commits before readers see it
			p = r.stored(t)
			return p.End == r.slotConfirmed(t)
		}, "the slot knows what is stored")
		require.Zero(t, p.Commit, "it stopped inside a transaction")
		b = r.start(t)
	}
	r.proveKafka(t, b, broker, "terminate-kafka", s, l.stop(t), "stops", stops)
}

// A process that was stopped beyond the server's patience has lost the slot, and what it
// had in hand changes nothing.
func stoppedOwnerToKafka(t *testing.T, broker *kafkatest.Broker) {
	s := seed(t)
	r := kafkaRig(t, broker, "exactly_once")
	a := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 100})
	for range sized(1, 5) {
		l.awaitCommits(t, 50)
		require.NoError(t, a.Pause())
		b := r.run(t)
		b.await(t, 20*time.Second+startWithin(), status.StateStreaming)
		require.NoError(t, a.Resume())
		a.await(t, startWithin(), status.StateWaiting)
		l.awaitCommits(t, 50)
		st, ok := b.status()
		require.True(t, ok)
		require.Equal(t, status.StateStreaming, st.State, "the process that woke up has disturbed the owner")
		require.Zero(t, b.Terminate(t, startWithin()))
		a.await(t, startWithin(), status.StateStreaming)
	}
	r.proveKafka(t, a, broker, "stopped-owner-kafka", s, l.stop(t), "pauses", sized(1, 5))
}

func killBroker(t *testing.T, broker *kafkatest.Broker) {
	kills := sized(2, 20)
	s := seed(t)
	rand := torture.Rand(s, 61)
	r := kafkaRig(t, broker, "exactly_once")
	b := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 100})
	for range kills {
		before := r.confirmed(t)
		pgtest.Eventually(t, drainWithin(), func() bool { return r.confirmed(t) != before }, "the bridge writes again")
		moment(t, rand, 500*time.Millisecond)
		broker.Kill(t)
		broker.Restart(t)
	}
	counts := l.stop(t)
	require.True(t, b.Running(), "the bridge outlives its broker")
	r.proveKafka(t, b, broker, "kill-broker", s, counts, "kills", kills)
}

// A broker that keeps its connections and answers nothing, for longer than the server
// waits for a word of the bridge, and that is dead then: the stream to the source lives,
// the server hears of nothing that is not stored, and it all arrives in the end.
func TestSilentKafka(t *testing.T) {
	t.Parallel()
	broker := kafkatest.New(t, kafkatest.QuickRestart())
	const senderTimeout = 20 * time.Second // the bridge's own wal_sender_timeout
	s := seed(t)
	r := kafkaRig(t, broker, "exactly_once")
	b := r.start(t)
	sender := func() string {
		return r.source.One(t, "SELECT active_pid::text FROM pg_replication_slots WHERE slot_name = $1", r.slot())
	}
	before := sender()
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 100, Kinds: []torture.Kind{torture.Mixed, torture.Event}})
	l.awaitCommits(t, 20)
	broker.Pause(t)
	at := mustLSN(t, r.source.One(t, "SELECT pg_current_wal_insert_lsn()::text")) // what comes behind it is not stored
	stalled := time.NewTimer(time.Duration(sized(11, 30)) * senderTimeout / 10)
	defer stalled.Stop()
	<-stalled.C
	require.LessOrEqual(t, r.slotConfirmed(t), at, "the server was told of what is not stored")
	broker.Kill(t)
	l.awaitCommits(t, 100)
	require.Equal(t, before, sender(), "the connection was replaced")
	broker.Restart(t)
	counts := l.stop(t)
	r.proveKafka(t, b, broker, "silent-broker", s, counts, "timeouts", sized(1, 3))
}

func (r *rig) confirmed(t *testing.T) string {
	t.Helper()
	return r.source.One(t, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", r.slot())
}

// proveKafka ends the bridge when all is confirmed, and proves that a consumer sees what
// the source committed.
func (r *rig) proveKafka(t *testing.T, b *bridge, broker *kafkatest.Broker, name string, seed uint64, counts torture.Counts, what string, n int) {
	t.Helper()
	before := r.source.One(t, "SELECT pg_current_wal_insert_lsn()::text")
	r.source.Exec(t, "INSERT INTO load.reading (sensor) VALUES ('drained')")
	pgtest.Eventually(t, drainWithin(), func() bool {
		return r.source.One(t, "SELECT (confirmed_flush_lsn > $2::text::pg_lsn)::text FROM pg_replication_slots WHERE slot_name = $1", r.slot(), before) == "true"
	}, "all that has committed is confirmed")
	require.Zero(t, b.Terminate(t, startWithin()))
	c := torture.NewChecker(torture.Rules{})
	all, repeated := readKafka(t, broker.Addr(), r.name, r.delivery == "at_least_once", true)
	for _, it := range all {
		require.NoError(t, c.Add(it))
	}
	require.NoError(t, c.End())
	require.NoError(t, c.Compare(t.Context(), r.source.DSN(), r.name, r.publication()))
	t.Logf("%d items, %d repeated", c.Items, repeated)
	r.record(t, name, seed, torture.Proven{Items: c.Items, Rows: c.Rows(r.name), Events: c.Events(r.name)}, counts, what, n)
}
