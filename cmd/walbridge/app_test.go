package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/fault"
)

func TestExitCodes(t *testing.T) {
	halt := fmt.Errorf("run: %w", &fault.Halt{Rule: "slot-ahead", What: "x"})
	for _, c := range []struct {
		err        error
		exitOnHalt bool
		want       int
	}{
		{nil, false, 0},
		{errors.New("x"), false, 1},
		{errChecked, false, 1},
		{fmt.Errorf("x: %w", fault.Config(fault.Problem{What: "y"})), false, 2},
		{fmt.Errorf("%w: %w", errChecked, fault.Config(fault.Problem{What: "y"})), false, 2},
		{usageError{errors.New("x")}, false, 2},
		{halt, true, 3},
		{halt, false, 1},
		{errors.New("x"), true, 1},
	} {
		require.Equal(t, c.want, (&app{exitOnHalt: c.exitOnHalt}).exitCode(c.err), "%v", c.err)
	}
}

func TestErrorsAreShownOnceWithoutSecrets(t *testing.T) {
	var out bytes.Buffer
	a := &app{stderr: &out}
	a.report(errors.New(`connect to "postgres://u:MARKER@db/shop": refused`))
	require.Equal(t, "walbridge: connect to \"postgres://u:xxxxx@db/shop\": refused\n", out.String())
}

func TestProblemsAreShownAsAList(t *testing.T) {
	config := &fault.ConfigError{Problems: []fault.Problem{
		{Where: "walbridge.yaml:3:1: sink", What: "password=MARKER is wrong", Why: "password=MARKER", Fix: "password=MARKER"},
		{Warning: true, What: "second"},
	}}
	var out bytes.Buffer
	a := &app{stderr: &out}
	a.report(fmt.Errorf("load: %w", config))
	require.Equal(t, `error: walbridge.yaml:3:1: sink: password=xxxxx is wrong
    why: password=xxxxx
    fix: password=xxxxx
warning: second
`, out.String())
}

func TestProblemsAreShownAsJSON(t *testing.T) {
	var out bytes.Buffer
	a := &app{stderr: &out, json: true}
	a.report(&fault.ConfigError{Problems: []fault.Problem{{Check: "c", Where: "w", What: "password=MARKER", Fix: "f"}}})
	require.JSONEq(t, `{"problems": [{"check": "c", "warning": false, "where": "w", "what": "password=xxxxx", "fix": "f"}]}`, out.String())
}

func TestLogFormats(t *testing.T) {
	var out bytes.Buffer
	a := &app{stderr: &out}
	a.logger(configs.Log{Level: configs.LevelInfo, Format: configs.FormatJSON}).Info("moved", "lsn", "0/1")
	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line))
	require.Equal(t, "moved", line["@message"])
	require.Equal(t, "0/1", line["lsn"])
	out.Reset()
	log := a.logger(configs.Log{Level: configs.LevelWarn, Format: configs.FormatText})
	log.Info("hidden")
	log.Warn("seen", "lsn", "0/1")
	require.Contains(t, out.String(), "[WARN]")
	require.Contains(t, out.String(), "seen: lsn=0/1")
	require.NotContains(t, out.String(), "hidden")
}
