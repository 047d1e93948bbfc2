package doctest_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var metric = regexp.MustCompile(`^walbridge_[a-z_]*[a-z]$`)

// registered returns the names of the metrics that the bridge registers or emits.
// The four positions share a literal; TestProduction sees that a running bridge has
// all of them.
func registered(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	for _, s := range sources(t) {
		if s.test() || !strings.HasPrefix(s.path, "pipeline/") && !strings.HasPrefix(s.path, "internal/consumers/") {
			continue
		}
		for _, text := range s.literals() {
			switch {
			case text == "_lsn_bytes":
				for _, name := range positions() {
					found["walbridge_"+name+"_lsn_bytes"] = true
				}
			case metric.MatchString(text):
				found[text] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func positions() []string { return []string{"received", "written", "confirmed", "reported"} }

// documented returns the metrics that the manual has.
func documented(t *testing.T) []string {
	t.Helper()
	return slices.Sorted(slices.Values(firstColumn(read(t, "docs/operations.md").section(t, "## Metrics", "## "))))
}

// Every metric is in the manual, and no other is.
func TestEveryMetricIsDocumented(t *testing.T) {
	require.Equal(t, registered(t), documented(t))
}

// Metrics that the text names elsewhere are there.
func TestNamedMetricsExist(t *testing.T) {
	known := documented(t)
	name := regexp.MustCompile(`walbridge_[a-z]+_[a-z_]*[a-z]|walbridge_state`)
	for _, d := range documents(t) {
		for _, code := range d.code() {
			if m := name.FindString(code); m != "" && (strings.HasSuffix(m, "_bytes") || strings.HasSuffix(m, "_total") || strings.HasSuffix(m, "_seconds")) {
				require.Contains(t, known, m, d.path)
			}
		}
	}
}
