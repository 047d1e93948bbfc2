package doctest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/configs"
)

// node is the part of a JSON schema that keys are read from.
type node struct {
	Ref        string          `json:"$ref"`
	Properties map[string]node `json:"properties"`
	Items      *node           `json:"items"`
	Defs       map[string]node `json:"$defs"`
}

// keys returns every key that holds a value or chooses something; sections that
// are always there are no keys of their own.
func keys(t *testing.T) []string {
	t.Helper()
	var schema node
	require.NoError(t, json.Unmarshal(configs.Schema(), &schema))
	found := map[string]bool{}
	var walk func(n node, path string)
	walk = func(n node, path string) {
		if n.Ref != "" {
			n = schema.Defs[n.Ref[strings.LastIndex(n.Ref, "/")+1:]]
		}
		for name, p := range n.Properties {
			key := strings.TrimPrefix(path+"."+name, ".")
			found[key] = true
			walk(p, key)
			if p.Items != nil {
				walk(*p.Items, key+"[]")
			}
		}
	}
	walk(schema, "")
	for _, section := range []string{"source", "routes", "sink", "batch", "memory", "on_error", "snapshot", "http", "log"} {
		require.True(t, found[section], section)
		delete(found, section)
	}
	return slices.Sorted(maps.Keys(found))
}

// Every key of the configuration is in the manual, and no other is.
func TestEveryKeyIsDocumented(t *testing.T) {
	got := firstColumn(read(t, "docs/configuration.md").text)
	slices.Sort(got)
	require.Equal(t, keys(t), got)
}

// The defaults of the manual are those of the example, which are the program's
// (configs has the test for that).
func TestDocumentedDefaults(t *testing.T) {
	var example map[string]any
	require.NoError(t, yaml.Unmarshal(configs.Example(), &example))
	checked := 0
	for line := range strings.Lines(read(t, "docs/configuration.md").text) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(line, "| `") {
			continue
		}
		want, plain := strings.CutPrefix(strings.TrimSpace(cells[2]), "`")
		want, whole := strings.CutSuffix(want, "`")
		got, there := lookUp(example, strings.Split(codeIn(cells[1])[0], "."))
		if !plain || !whole || strings.ContainsAny(want, "`<") || !there || got == "" {
			continue
		}
		require.Equal(t, want, fmt.Sprint(got), line)
		checked++
	}
	require.Greater(t, checked, 25)
}

// lookUp finds a key; in a list, in the first element that has it.
func lookUp(v any, path []string) (any, bool) {
	if len(path) == 0 {
		return v, true
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, false
	}
	name, list := strings.CutSuffix(path[0], "[]")
	if !list {
		next, ok := m[name]
		if !ok {
			return nil, false
		}
		return lookUp(next, path[1:])
	}
	elements, _ := m[name].([]any)
	for _, e := range elements {
		if found, ok := lookUp(e, path[1:]); ok {
			return found, true
		}
	}
	return nil, false
}

// Keys that the text names anywhere are keys.
func TestNamedKeysExist(t *testing.T) {
	known := keys(t)
	sections := []string{"source.", "routes[].", "sink.", "batch.", "memory.", "on_error.", "snapshot.", "http.", "log."}
	for _, d := range documents(t) {
		for _, code := range d.code() {
			name, _, _ := strings.Cut(code, ":")
			key := slices.ContainsFunc(sections, func(s string) bool { return strings.HasPrefix(name, s) })
			if key && !strings.ContainsAny(name, " /()") && !testName.MatchString(name) && !strings.HasSuffix(name, ".go") && name != "sink.Poison" {
				require.Contains(t, known, name, "%s names the key %s", d.path, code)
			}
		}
	}
}

// The configuration of the README is short and valid.
func TestConfigurationOfTheReadme(t *testing.T) {
	text := read(t, "README.md").marked(t, "config")
	require.LessOrEqual(t, strings.Count(text, "\n"), 15)
	path := filepath.Join(t.TempDir(), "walbridge.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	loaded, err := configs.Load(path, func(string) (string, bool) { return "", false })
	require.NoError(t, err)
	require.Empty(t, loaded.Warnings)
}
