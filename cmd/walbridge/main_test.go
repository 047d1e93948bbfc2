package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { pgtest.Main(m) }

// result is what one command line did.
type result struct {
	code           int
	stdout, stderr string
}

// invoke runs a command line in this process, in an environment of its own.
func invoke(t testing.TB, env map[string]string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{
		stdin: strings.NewReader(""), stdout: &out, stderr: &errs, version: "0.0.0-test",
		env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}
	code := a.main(t.Context(), args)
	return result{code, out.String(), errs.String()}
}

// golden compares got with the file of that name in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the test with -update to write it")
	require.Equal(t, string(want), got, "run the test with -update when it was meant to change")
}
