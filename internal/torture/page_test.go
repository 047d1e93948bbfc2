package torture_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/browsertest"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// pictureAfter is how long the bridge has run when its picture is taken for the
// documentation: the chart of the lag then shows something.
const pictureAfter = 3 * time.Minute

// The status page of a bridge at work, in a browser: its positions move by
// themselves; a halt appears by itself, with the ways out.
func TestStatusPageOfARunningBridge(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	if *pictures != "" {
		r.name = "shop"
	}
	r.setup(t)
	b := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: seed(t), Rate: 200})
	page := browsertest.New(t)
	page.Open(b.url)
	require.Equal(t, "streaming", page.Text("#state"))
	first := page.Text("#confirmed .lsn")
	require.NotEmpty(t, first)
	page.Eventually("the confirmed position moves", func() bool {
		now := page.Text("#confirmed .lsn")
		return now != "" && now != first
	})
	require.NotEmpty(t, page.Picture())
	if *pictures != "" {
		r.liven(t)
	}
	takePicture(t, b, "status-streaming.png", 1120)
	takePicture(t, b, "status-streaming-dark.png", 1120, browsertest.Dark())
	takePicture(t, b, "status-phone.png", 390)
	l.stop(t)
	r.drain(t)

	require.NoError(t, b.Kill())
	<-b.Done()
	pgtest.Eventually(t, startWithin(), func() bool {
		return r.source.One(t, "SELECT active::text FROM pg_replication_slots WHERE slot_name = $1", r.slot()) == "false"
	}, "the walsender of the killed bridge ends")
	r.source.Exec(t, "SELECT pg_drop_replication_slot($1)", r.slot())
	b = r.run(t)
	halt := b.awaitHalt(t, startWithin(), "slot-missing").Halt
	page.Open(b.url)
	require.Equal(t, "halted", page.Text("#state"))
	require.Equal(t, halt.What, page.Text("#halt-title"))
	require.Contains(t, page.Text("#halt .ways li:first-child"), halt.Ways[0].Text)
	require.Equal(t, halt.Ways[0].Commands[0], page.Text("#halt .ways li:first-child .command"))
	takePicture(t, b, "status-halted.png", 1120)
}

// liven lets the load go on for a while, with a stalled destination now and then.
func (r *rig) liven(t *testing.T) {
	t.Helper()
	rand := rand.New(rand.NewPCG(1, 2)) // the same picture each time, as far as that can be
	for began := time.Now(); time.Since(began) < pictureAfter; {
		moment(t, rand, 20*time.Second)
		unlock := r.lockLog(t)
		moment(t, rand, 2*time.Second)
		unlock()
	}
}

// takePicture keeps a picture of the page, where pictures are wanted.
func takePicture(t *testing.T, b *bridge, name string, width int64, options ...browsertest.Option) {
	t.Helper()
	if *pictures == "" {
		return
	}
	page := browsertest.New(t, options...)
	page.Size(width, 800)
	page.Open(b.url + "?refresh=off")
	require.NoError(t, os.WriteFile(filepath.Join(*pictures, name), page.Picture(), 0o644))
}
