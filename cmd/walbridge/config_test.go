package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/configs"
)

const validConfig = `
source: {dsn: "postgres://u:MARKER@localhost/shop"}
routes: [{tables: ["public.*"], changes: {}}]
sink: {stdout: {}}
`

func configFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shop.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestConfigValidate(t *testing.T) {
	path := configFile(t, validConfig)
	r := invoke(t, nil, "config", "validate", "--config", path)
	require.Equal(t, result{exitOK, path + " is valid\n", ""}, r)
	r = invoke(t, map[string]string{"WALBRIDGE_CONFIG": path}, "config", "validate")
	require.Equal(t, result{exitOK, path + " is valid\n", ""}, r)
}

func TestConfigValidateListsAllProblems(t *testing.T) {
	path := configFile(t, validConfig+"batch: {wait: 5}\nlog: {levle: info}\n")
	r := invoke(t, nil, "config", "validate", "--config", path)
	require.Equal(t, exitUsage, r.code)
	require.Empty(t, r.stdout)
	require.Equal(t, "error: "+path+`:5:15: batch.wait: expected a duration such as 5ms, 30s or 7d, found "5"
error: `+path+`:6:7: log.levle: unknown key
    fix: did you mean level?
`, r.stderr)
}

func TestConfigValidateWarns(t *testing.T) {
	path := configFile(t, validConfig+"http: {listen: \"0.0.0.0:8480\"}\n")
	r := invoke(t, nil, "config", "validate", "--config", path)
	require.Equal(t, exitOK, r.code)
	require.Contains(t, r.stderr, "warning: "+path+":5:8: http.listen: 0.0.0.0:8480 can be reached from other machines\n    why: ")
}

func TestConfigValidateAsJSON(t *testing.T) {
	for text, want := range map[string]struct {
		code     int
		valid    bool
		problems int
	}{
		validConfig: {exitOK, true, 0},
		validConfig + "http: {listen: \":8480\"}\n":         {exitOK, true, 1},
		validConfig + "batch: {wait: 5, max_items: many}\n": {exitUsage, false, 2},
	} {
		r := invoke(t, nil, "config", "validate", "--json", "--config", configFile(t, text))
		require.Equal(t, want.code, r.code)
		require.Empty(t, r.stderr, "scripts read one stream")
		var v validation
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &v))
		require.Equal(t, want.valid, v.Valid)
		require.NotNil(t, v.Problems)
		require.Len(t, v.Problems, want.problems)
	}
}

func TestConfigShowRedacts(t *testing.T) {
	r := invoke(t, map[string]string{"WALBRIDGE_NAME": "fromenv"}, "config", "show", "--config", configFile(t, validConfig))
	require.Equal(t, exitOK, r.code)
	require.NotContains(t, r.stdout+r.stderr, "MARKER")
	require.Contains(t, r.stdout, "dsn: postgres://u:xxxxx@localhost/shop")
	require.Contains(t, r.stdout, "name: fromenv")
	require.Contains(t, r.stdout, "slot: walbridge_fromenv")
}

func TestConfigExampleIsValid(t *testing.T) {
	example := invoke(t, nil, "config", "example")
	require.Equal(t, result{exitOK, string(configs.Example()), ""}, example)
	require.Equal(t, exitOK, invoke(t, nil, "config", "validate", "--config", configFile(t, example.stdout)).code)
}

func TestConfigSchemaIsJSON(t *testing.T) {
	r := invoke(t, nil, "config", "schema")
	require.Equal(t, exitOK, r.code)
	require.True(t, json.Valid([]byte(r.stdout)))
	require.Contains(t, r.stdout, "https://json-schema.org/draft/2020-12/schema")
}

func TestVersion(t *testing.T) {
	r := invoke(t, nil, "version")
	require.Equal(t, exitOK, r.code)
	require.Regexp(t, `^walbridge \S+, commit .+, go1\.\d+`, r.stdout)
	r = invoke(t, nil, "version", "--json")
	var b buildInfo
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &b))
	require.Equal(t, build(), b)
	require.Equal(t, "unknown and changes", buildInfo{Commit: "unknown", Modified: true}.commit())
	require.Contains(t, invoke(t, nil, "--version").stdout, "0.0.0-test")
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		r := invoke(t, nil, "completion", shell)
		require.Equal(t, exitOK, r.code)
		require.Contains(t, r.stdout, "walbridge")
	}
	require.Equal(t, exitUsage, invoke(t, nil, "completion", "tcsh").code)
	require.Equal(t, exitUsage, invoke(t, nil, "completion").code)
	r := invoke(t, nil, "__complete", "config", "")
	require.Equal(t, "example,schema,show,validate", strings.Join(firstWords(r.stdout), ","))
}

// firstWords returns what comes before the tab of each line that has one.
func firstWords(text string) []string {
	var words []string
	for line := range strings.Lines(text) {
		if word, _, ok := strings.Cut(line, "\t"); ok {
			words = append(words, word)
		}
	}
	return words
}
