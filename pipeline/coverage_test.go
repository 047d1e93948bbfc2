package pipeline

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/snapshot"
)

func lackingTable(name string, added bool) *replication.Coverage {
	c := &replication.Coverage{Unpublished: 1, Problems: []fault.Problem{{Check: "not-published", Where: "public." + name, Warning: true, What: "it lacks", Fix: "add it"}}}
	if added {
		c.Additions = []replication.Addition{{Table: catalog.Table{Schema: "public", Name: name}}}
	}
	return c
}

// However often it is looked, and over any number of sessions, a finding is logged once,
// and once more when it comes again.
func TestCoverageIsToldOnce(t *testing.T) {
	var out bytes.Buffer
	c := coverage{log: hclog.New(&hclog.LoggerOptions{Output: &out})}
	times := func(text string) int { return strings.Count(out.String(), text) }
	for range 3 {
		c.set(lackingTable("a", false), nil)
	}
	require.Equal(t, 1, times("public.a"))
	c.set(&replication.Coverage{}, nil)
	require.Equal(t, 1, times("no longer so"))
	c.set(lackingTable("a", false), nil)
	require.Equal(t, 2, times("add it"))
	for range 3 {
		c.failed(errors.New("no connection"))
	}
	require.Equal(t, 1, times("no connection"))
	_, warnings, _ := c.status()
	require.Len(t, warnings, 1, "what the last comparison has found stays")
	c.set(lackingTable("b", true), nil)
	require.Zero(t, times("where=public.b"), "it is about to be published")
	for range 3 {
		c.refused("public.b", errors.New("busy"), time.Now())
		c.set(lackingTable("b", true), nil)
	}
	require.Equal(t, 1, times("busy"))
	_, warnings, _ = c.status()
	require.Contains(t, warnings[0].Why, "busy")
	c.forget()
	counts, warnings, notReady := c.status()
	require.Nil(t, counts)
	require.Empty(t, warnings)
	require.Empty(t, notReady)
}

func TestRootsOfPartitions(t *testing.T) {
	c := coverage{log: hclog.NewNullLogger()}
	require.Empty(t, c.root("parts.a"))
	c.set(&replication.Coverage{}, []replication.CoveredTable{{Table: catalog.Table{Schema: "parts", Name: "a", Root: "public.a"}}, {Table: catalog.Table{Schema: "public", Name: "a"}}})
	require.Equal(t, "public.a", c.root("parts.a"))
	require.Empty(t, c.root("public.a"))
}

// A table that is to be read is published when its request will be known after a crash,
// and while not too many are to be read.
func TestTablesThatWaitToBePublished(t *testing.T) {
	s := &session{p: &Pipeline{}, snapshots: snapshot.NewSession(snapshot.Config{}, snapshot.State{Secret: []byte("s")})}
	streamed, read := &replication.Addition{}, &replication.Addition{Read: make([]catalog.Table, 2)}
	require.NoError(t, s.mayRead(streamed, maxReading))
	require.ErrorIs(t, s.mayRead(read, 0), errUnsigned)
	s.p.signs.Store(true)
	require.NoError(t, s.mayRead(read, maxReading-2))
	require.ErrorIs(t, s.mayRead(read, maxReading-1), errManyReading)
	require.NoError(t, s.mayRead(&replication.Addition{Read: make([]catalog.Table, maxReading+1)}, 0), "one alone may be larger")
}
