package pgtest

import (
	"sync"
	"testing"

	"github.com/walbridge/walbridge/internal/embeddedpg"
)

// shared is the cluster of this test binary. It is global because it must live
// over all tests, and only TestMain sees their end.
var shared struct {
	sync.Mutex
	cluster *Cluster
	err     error
}

// Shared returns the one cluster that the tests of this binary share, started at
// the first call. Tests take a database each (DB) and leave the server alone.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = start()
		if shared.err == nil {
			shared.cluster.shared = true
		}
	}
	if embeddedpg.IsNotFound(shared.err) {
		missing(t, "this test needs a PostgreSQL server", shared.err)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster
}

func stopShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		return nil
	}
	return shared.cluster.remove()
}
