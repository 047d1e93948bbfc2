package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pause"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/snapshot"
)

// request signs a request with the secret that the bridge keeps with its position, and
// writes it into the source's log. It returns it with its number.
func (a *app) request(ctx context.Context, l configs.Loaded, src *replication.Source, r snapshot.Request) (snapshot.Request, error) {
	state, err := storedSnapshot(ctx, l)
	if err != nil {
		return r, err
	}
	if len(state.Secret) == 0 {
		return r, fault.Config(fault.Problem{Check: "snapshot", What: "the bridge has not been started yet, so there is nobody to ask", Fix: "walbridge run"})
	}
	r.Number, r.Bridge, r.ID = state.Request+1, l.Config.Name, rand.Text()
	content, err := r.Sign(state.Secret)
	if err != nil {
		return r, err
	}
	return r, src.EmitMessage(ctx, snapshot.RequestPrefix, content)
}

// ask makes a request and waits until the bridge has taken it. Where somebody else's
// of the same number was first, it is made again.
func (a *app) ask(ctx context.Context, l configs.Loaded, src *replication.Source, r snapshot.Request) error {
	for {
		sent, err := a.request(ctx, l, src, r)
		if err != nil {
			return err
		}
		if taken, err := a.awaitRequest(ctx, l, sent); taken || err != nil {
			return err
		}
	}
}

func storedSnapshot(ctx context.Context, l configs.Loaded) (snapshot.State, error) {
	p, err := stored(ctx, l)
	if err != nil {
		return snapshot.State{}, err
	}
	return snapshot.Decode(p.Cursors)
}

const (
	askEvery   = 300 * time.Millisecond
	askPatient = 5 * time.Second
)

// awaitRequest waits until the bridge has taken a request; false: another one of that
// number.
func (a *app) awaitRequest(ctx context.Context, l configs.Loaded, r snapshot.Request) (bool, error) {
	said := false
	for begun := time.Now(); ; {
		state, err := storedSnapshot(ctx, l)
		if err != nil || state.Request >= r.Number {
			return slices.Contains(state.Taken, r.ID), err
		}
		if !said && time.Since(begun) > askPatient {
			said = true
			fmt.Fprintln(a.stderr, "waiting for the bridge to come to the request; one that does not run takes it when it starts")
		}
		if err := pause.For(ctx, askEvery); err != nil {
			return false, fmt.Errorf("the request is in the log and not taken yet: %w", err)
		}
	}
}

// follow shows how far the reading is, until the tables are done.
func (a *app) follow(ctx context.Context, l configs.Loaded, tables []*snapshot.Table) error {
	var names []string
	for _, t := range tables {
		names = append(names, t.QualifiedName())
	}
	bar := newProgress(a.stderr, a.terminal)
	for {
		s, err := a.snapshotProgress(ctx, l)
		if err == nil {
			over := done(s, names) && a.durablyRead(ctx, l, names)
			if bar.show(s, names, over); over {
				_, err := fmt.Fprintln(a.stdout, "done: all rows are delivered")
				return err
			}
		}
		if pause.For(ctx, askEvery) != nil {
			fmt.Fprintln(a.stderr, "\nthe reading goes on; see walbridge snapshot status")
			return nil
		}
	}
}

// durablyRead reports whether the destination has stored that tables are read: the bridge
// says it a moment earlier.
func (a *app) durablyRead(ctx context.Context, l configs.Loaded, names []string) bool {
	state, err := storedSnapshot(ctx, l)
	return err == nil && !slices.ContainsFunc(state.Tables, func(t *snapshot.Table) bool { return slices.Contains(names, t.QualifiedName()) })
}
