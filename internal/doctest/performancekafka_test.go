package doctest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// kafkaEnv is how the measurements into Kafka were set up.
type kafkaEnv struct {
	Kafka    string `json:"kafka"`
	Debezium string `json:"debezium"`
	Connect  string `json:"connect"`
	Java     string `json:"java"`
}

func (e *kafkaEnv) String() string {
	if e == nil {
		return ""
	}
	text := ", Apache Kafka " + e.Kafka
	if e.Debezium != "" {
		text += ", Debezium " + e.Debezium + " on Kafka Connect " + e.Connect
	}
	return text + ", " + e.Java
}

// secondHalf is the rate of the second half of a run.
const secondHalf = "second_half_rows_per_s"

// intoKafka is the table of what moves a slot, or memory, into Kafka: medians. The share
// is that of the rate in the second half of Debezium's runs, when its code is compiled.
func intoKafka(groups []group) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| measurement | rows | contender | runs | rows/s | of Debezium, warm | CPU s per million rows: contender | walsender | broker | peak RSS | bytes of a value |")
	fmt.Fprintln(&b, "|---|---|---|---|---|---|---|---|---|---|---|")
	for _, g := range groups {
		rate := g.median(func(r run) float64 { return r.RowsPerS })
		if rate == 0 {
			continue
		}
		figure := func(name string) float64 { return g.median(func(r run) float64 { return r.Figures[name] }) }
		per := func(v float64) string { return number("%.2f", v/g.Rows*1e6) }
		fmt.Fprintf(&b, "| %s, %s | %.0f | %s | %d | %.0f | %s | %s | %s | %s | %s | %.0f |\n", g.Measure, g.Case, g.Rows, g.Contender, len(g.all), rate, ofDebezium(groups, g, rate),
			per(g.median(func(r run) float64 { return r.Client })), per(g.median(func(r run) float64 { return r.Sender })), per(figure("broker_cpu_s")),
			number("%.0f MiB", g.median(func(r run) float64 { return r.Peak })), figure("value_bytes"))
	}
	return b.String()
}

func number(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

// ofDebezium is the share of Debezium's warm rate in the same case.
func ofDebezium(groups []group, g group, rate float64) string {
	for _, other := range groups {
		if other.Contender != "debezium" || other.Measure != g.Measure || other.Case != g.Case {
			continue
		}
		warm := other.median(func(r run) float64 { return r.Figures[secondHalf] })
		if g.Contender == "debezium" {
			return fmt.Sprintf("%.2f× (%.0f rows/s)", rate/warm, warm)
		}
		return fmt.Sprintf("%.1f×", rate/warm)
	}
	return ""
}

// kafkaLatencies is the table of latencies: medians of the runs.
func kafkaLatencies(groups []group) string {
	var b strings.Builder
	fmt.Fprintln(&b, "| contender | runs | p50 | p95 | p99 | max | share of a core |\n|---|---|---|---|---|---|---|")
	for _, g := range groups {
		if g.Measure != "kafka latency" {
			continue
		}
		figure := func(name string) float64 { return g.median(func(r run) float64 { return r.Figures[name] }) }
		fmt.Fprintf(&b, "| %s | %d | %.1f ms | %.1f ms | %.1f ms | %.0f ms | %.2f |\n", g.Contender, len(g.all),
			figure("p50_ms"), figure("p95_ms"), figure("p99_ms"), figure("max_ms"), figure("cores"))
	}
	return b.String()
}

func TestKafkaTables(t *testing.T) {
	drain := func(contender string, rate, half float64) group {
		r := run{Measure: "kafka", Case: "w2", Contender: contender, Rows: 1e6, RowsPerS: rate, Client: 2, Figures: map[string]float64{secondHalf: half, "value_bytes": 480}}
		return group{run: r, all: []run{r}}
	}
	groups := []group{drain("walbridge", 250_000, 300_000), drain("debezium", 40_000, 50_000)}
	table := intoKafka(groups)
	require.Contains(t, table, "| kafka, w2 | 1000000 | walbridge | 1 | 250000 | 5.0× | 2.00 |")
	require.Contains(t, table, "| 40000 | 0.80× (50000 rows/s) |")
	require.NotContains(t, kafkaLatencies(groups), "walbridge")
	late := run{Measure: "kafka latency", Contender: "walbridge", Figures: map[string]float64{"p50_ms": 2, "cores": 0.1}}
	require.Contains(t, kafkaLatencies([]group{{run: late, all: []run{late}}}), "| walbridge | 1 | 2.0 ms |")
	require.Equal(t, ", Apache Kafka 4, Debezium 3 on Kafka Connect 2, Java", (&kafkaEnv{"4", "3", "2", "Java"}).String())
	require.Empty(t, (*kafkaEnv)(nil).String())
}
