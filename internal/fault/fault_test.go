package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHaltIsOneLine(t *testing.T) {
	h := &Halt{
		Rule: "slot-ahead", What: "the slot is ahead of the sink",
		Facts: []Fact{{"slot confirmed", "0/20"}, {"sink position", "0/10"}}, Err: io.EOF,
	}
	require.Equal(t, "halted (slot-ahead): the slot is ahead of the sink [slot confirmed 0/20; sink position 0/10]: EOF", h.Error())
	require.ErrorIs(t, fmt.Errorf("start: %w", h), io.EOF)
	require.Equal(t, "halted (x): y", (&Halt{Rule: "x", What: "y"}).Error())
}

func TestConfigErrorListsAll(t *testing.T) {
	err := &ConfigError{[]Problem{
		{Where: "source.dsn", What: "missing", Fix: "set it"},
		{What: "wal_level is replica"},
	}}
	require.Equal(t, "source.dsn: missing (fix: set it)\nwal_level is replica", err.Error())
}

func TestReason(t *testing.T) {
	require.NoError(t, Transient("network", nil))
	err := fmt.Errorf("read frame: %w", Transient("network", io.ErrUnexpectedEOF))
	require.Equal(t, "network", Reason(err))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, "read frame: unexpected EOF", err.Error())
	require.Equal(t, "other", Reason(errors.New("x")))
}
