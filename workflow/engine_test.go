package workflow

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// A whole run on every version: forward to the end, and back from each step.
func TestForwardAndBack(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := migrated(t, c)
		s := newShop(t, db)
		w := s.checkout("checkout")
		e := engine(t, db, quick(t), w)
		runs(t, e)
		startShipped(t, e, w, "good", order{})
		for _, at := range forward {
			startShipped(t, e, w, "bad at "+at, order{Break: at})
		}
		d := comesTo(t, e, "checkout", "good", Completed)
		requireWhole(t, db, d)
		require.Equal(t, "reserve completed, charge completed, shipped completed, pack completed, thank completed", stepsOf(d))
		require.Nil(t, d.AvailableAt)
		require.NotNil(t, d.FinishedAt)
		require.Empty(t, d.Step)
		for n, at := range forward {
			d := comesTo(t, e, "checkout", "bad at "+at, Compensated)
			requireWhole(t, db, d)
			require.Equal(t, "step "+at+": broken as told", d.Reason)
			want := []string{"", "reserve release", "reserve charge refund release", "reserve charge pack unpack refund release"}
			require.Equal(t, want[n], join(history(t, db, "checkout", d.Key)))
		}
		require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.workflow_instance WHERE available_at IS NOT NULL"))
	})
}
