package torture_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/torture"
)

// The proof of a work table fails when the table is spoiled.
func TestSpoiledWorkTableIsFound(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	r.setup(t)
	b := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: seed(t), Kinds: []torture.Kind{torture.Mixed, torture.Event}})
	l.awaitCommits(t, 100)
	l.stop(t)
	r.prove(t)
	require.Zero(t, b.Terminate(t, startWithin()))
	for _, c := range []struct{ rule, spoil, repair string }{
		{torture.RuleBatches, "UPDATE walbridge.batch SET n = n + 1000000 WHERE n = (SELECT max(n) FROM walbridge.batch)",
			"UPDATE walbridge.batch SET n = n - 1000000 WHERE n > 1000000"},
		{torture.RuleBatches, "UPDATE walbridge.batch SET source = 'another' WHERE n = (SELECT max(n) FROM walbridge.batch)",
			"UPDATE walbridge.batch SET source = (SELECT name FROM walbridge.source)"},
		{torture.RuleDeadLetters, "INSERT INTO walbridge.dead_letter (source, replayable, reason, error) SELECT name, true, 'test', 'test' FROM walbridge.source",
			"DELETE FROM walbridge.dead_letter"},
		{torture.RuleLane, "UPDATE walbridge.log SET lane = (lane + 1) % 8 WHERE seq = (SELECT max(seq) FROM walbridge.log)",
			"UPDATE walbridge.log SET lane = (lane + 7) % 8 WHERE seq = (SELECT max(seq) FROM walbridge.log)"},
		{torture.RuleRowLost, "DELETE FROM walbridge.log WHERE seq = (SELECT max(seq) FROM walbridge.log)", "SELECT"}, // the last row, which drained
	} {
		r.sink.Exec(t, c.spoil)
		_, err := torture.Proof{SourceDSN: r.source.DSN(), SinkDSN: r.sink.DSN(), Bridge: r.name, Publication: r.publication()}.Run(t.Context())
		var f *torture.Finding
		require.True(t, errors.As(err, &f), "%s: %v", c.spoil, err)
		require.Equal(t, c.rule, f.Rule, "%s: %v", c.spoil, f)
		r.sink.Exec(t, c.repair)
	}
}
