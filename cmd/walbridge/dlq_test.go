package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A bridge replays and discards only its own dead letters of a work table that
// several share: another's would be mapped by the wrong routes.
func TestOnlyItsOwnDeadLetters(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	letter := func(source string) string {
		return s.db.One(t, `INSERT INTO walbridge.dead_letter (source, commit_lsn, tx_seq, sub, raw, committed_at, replayable, reason, error)
			VALUES ($1, '0/1', 1, 0, '{}', now(), true, 'payload_not_json', 'x') RETURNING id::text`, source)
	}
	own, foreign := letter(s.name()), letter("other")
	says := "dead letter " + foreign + " is of the bridge \"other\", not of \"" + s.name() + "\": use its configuration"

	list := s.do(t, exitOK, "dlq", "list").stdout
	require.Contains(t, list, "payload_not_json")
	for _, args := range [][]string{{"replay", foreign}, {"replay", foreign, "--trial"}, {"discard", foreign}, {"discard", own, foreign}} {
		r := s.do(t, exitFailure, append([]string{"dlq"}, args...)...)
		require.Contains(t, r.stderr, says, args)
	}
	open := "SELECT count(*) FROM walbridge.dead_letter WHERE resolution IS NULL"
	require.Equal(t, "2", s.db.One(t, open), "a mistake in one id closes none")
	s.do(t, exitOK, "dlq", "discard", own)
	require.Equal(t, "1", s.db.One(t, open))
}
