package doctest_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the tables of docs/performance.md anew")

// run is a line of a result file of the benchmarks; the first one describes the machine.
type run struct {
	Machine   string             `json:"machine"`
	Cores     int                `json:"cores"`
	Postgres  string             `json:"postgres"`
	Go        string             `json:"go"`
	Commit    string             `json:"commit"`
	Measure   string             `json:"measure"`
	Case      string             `json:"case"`
	Contender string             `json:"contender"`
	Rows      float64            `json:"rows"`
	RowsPerS  float64            `json:"rows_per_s"`
	Client    float64            `json:"client_cpu_s"`
	Sender    float64            `json:"walsender_cpu_s"`
	Peak      float64            `json:"peak_rss_mib"`
	Figures   map[string]float64 `json:"figures"`
	Kafka     *kafkaEnv          `json:"kafka"`
}

// group are the runs of one contender in one case.
type group struct {
	run
	all []run
}

func (g group) median(of func(run) float64) float64 {
	values := make([]float64, len(g.all))
	for i, r := range g.all {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func readRuns(t *testing.T, path string) (env run, groups []group) {
	t.Helper()
	f, err := os.Open(filepath.Join(root, path))
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	require.True(t, lines.Scan())
	require.NoError(t, json.Unmarshal(lines.Bytes(), &env))
	for lines.Scan() {
		var r run
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		i := slices.IndexFunc(groups, func(g group) bool {
			return g.Measure == r.Measure && g.Case == r.Case && g.Contender == r.Contender
		})
		if i < 0 {
			i = len(groups)
			groups = append(groups, group{run: r})
		}
		groups[i].all = append(groups[i].all, r)
	}
	require.NoError(t, lines.Err())
	return env, groups
}

// throughput is the table of what reads a whole slot: medians, and each one's share of
// the reference of its case, which is the contender that is not walbridge.
func throughput(groups []group) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| measurement | rows | contender | runs | rows/s | of the reference | CPU s per million rows: client | walsender | peak RSS |")
	fmt.Fprintln(&b, "|---|---|---|---|---|---|---|---|---|")
	for _, g := range groups {
		rate := g.median(func(r run) float64 { return r.RowsPerS })
		if rate == 0 {
			continue
		}
		share := ""
		for _, other := range groups {
			if g.Contender == "walbridge" && other.Contender != "walbridge" && other.Measure == g.Measure && other.Case == g.Case {
				share = fmt.Sprintf("%.2f×", rate/other.median(func(r run) float64 { return r.RowsPerS }))
			}
		}
		perMillion := func(of func(run) float64) string {
			if v := g.median(of); v > 0 {
				return fmt.Sprintf("%.2f", v/g.Rows*1e6)
			}
			return ""
		}
		peak := ""
		if v := g.median(func(r run) float64 { return r.Peak }); v > 0 {
			peak = fmt.Sprintf("%.0f MiB", v)
		}
		fmt.Fprintf(&b, "| %s, %s | %.0f | %s | %d | %.0f | %s | %s | %s | %s |\n", g.Measure, g.Case, g.Rows, g.Contender, len(g.all), rate, share,
			perMillion(func(r run) float64 { return r.Client }), perMillion(func(r run) float64 { return r.Sender }), peak)
	}
	return b.String()
}

// others is the table of all other figures: medians.
func others(groups []group) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| measurement | figure | runs | median |\n|---|---|---|---|")
	for _, g := range groups {
		names := make([]string, 0, len(g.Figures))
		for name := range g.Figures {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(&b, "| %s, %s | `%s` | %d | %.3g |\n", g.Measure, g.Case, name, len(g.all), g.median(func(r run) float64 { return r.Figures[name] }))
		}
	}
	return b.String()
}

// consumers is the table of what works on a work table: medians, each beside those of
// whatever did the same, and backlogs beside the first of them.
func consumers(groups []group) string {
	rateOf := func(g group) float64 { return g.median(func(r run) float64 { return r.RowsPerS }) }
	var b strings.Builder
	fmt.Fprintln(&b, "| measurement | items | runs | walbridge, items/s | of the first backlog | against | items/s | walbridge is |\n|---|---|---|---|---|---|---|---|")
	first := 0.0
	for _, g := range groups {
		rate := rateOf(g)
		if g.Contender != "walbridge" || rate == 0 {
			continue
		}
		share := ""
		if strings.HasPrefix(g.Case, "backlog") {
			if first == 0 {
				first = rate
			}
			share = fmt.Sprintf("%.2f×", rate/first)
		}
		row := fmt.Sprintf("| %s, %s | %.0f | %d | %.0f | %s |", g.Measure, g.Case, g.median(func(r run) float64 { return r.Rows }), len(g.all), rate, share)
		alone := true
		for _, other := range groups {
			if other.Contender != "walbridge" && other.Measure == g.Measure && other.Case == g.Case {
				fmt.Fprintf(&b, "%s %s | %.0f | %.2f× |\n", row, other.Contender, rateOf(other), rate/rateOf(other))
				alone = false
			}
		}
		if alone {
			fmt.Fprintf(&b, "%s | | |\n", row)
		}
	}
	return b.String()
}

var generated = regexp.MustCompile(`(?s)<!-- (throughput|figures|consumers|conditions|kafka|latency) of (bench/results/[\w.-]+) -->\n.*?<!-- end -->`)

// The tables of docs/performance.md say what the result files say.
func TestPerformanceTables(t *testing.T) {
	const path = "docs/performance.md"
	text := read(t, path).text
	require.Regexp(t, generated, text)
	want := generated.ReplaceAllStringFunc(text, func(part string) string {
		m := generated.FindStringSubmatch(part)
		if _, err := os.Stat(filepath.Join(root, m[2])); os.IsNotExist(err) {
			return fmt.Sprintf("<!-- %s of %s -->\nNot measured yet.\n\n<!-- end -->", m[1], m[2])
		}
		env, groups := readRuns(t, m[2])
		body := ""
		switch m[1] {
		case "consumers":
			body = consumers(groups)
		case "throughput":
			body = throughput(groups)
		case "figures":
			body = others(groups)
		case "conditions":
			body = fmt.Sprintf("%s, %d cores, PostgreSQL %s, %s%s, commit %s.\n", env.Machine, env.Cores, env.Postgres, env.Go, env.Kafka, env.Commit)
		case "kafka":
			body = intoKafka(groups)
		case "latency":
			body = kafkaLatencies(groups)
		}
		return fmt.Sprintf("<!-- %s of %s -->\n%s\n<!-- end -->", m[1], m[2], body)
	})
	if *update {
		require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(want), 0o644))
		return
	}
	require.Equal(t, want, text, "go test ./internal/doctest -run TestPerformanceTables -update")
}
