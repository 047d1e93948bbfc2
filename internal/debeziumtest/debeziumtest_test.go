package debeziumtest_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/debeziumtest"
	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// What is committed was recorded with the plans and the workload as they are.
func TestRecordingsAreOfThePlans(t *testing.T) {
	for _, plan := range debeziumtest.Plans() {
		r, err := debeziumtest.Load(plan.Name)
		require.NoError(t, err)
		require.Equal(t, plan.Settings, r.Head.Settings, plan.Name)
		require.Equal(t, plan.Converters, r.Head.Converters, plan.Name)
		require.Equal(t, plan.Snapshot, r.Head.Snapshot, plan.Name)
		require.Equal(t, debeziumtest.WorkloadSum(), r.Head.Workload, "%s: recorded with another workload: make debezium-record", plan.Name)
		require.NotEmpty(t, r.Records, plan.Name)
		for _, rec := range r.Records {
			require.True(t, json.Valid(rec.Key) && json.Valid(rec.Value), "%s: %s", plan.Name, rec.Topic)
		}
	}
}

func TestLoadNamesWhatIsMissing(t *testing.T) {
	_, err := debeziumtest.Load("nothing")
	require.ErrorContains(t, err, "nothing")
}

func TestWorkloadRuns(t *testing.T) {
	db := pgtest.Shared(t).DB(t)
	for _, step := range debeziumtest.Steps() {
		db.Exec(t, step.SQL)
	}
	require.Equal(t, "1", db.One(t, "SELECT count(*) FROM finish"))
}
