package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/walbridge/walbridge/internal/kafkatest"
)

// environment is the first line of a result file.
type environment struct {
	Commit   string            `json:"commit"`
	Go       string            `json:"go"`
	Postgres string            `json:"postgres"`
	Machine  string            `json:"machine"`
	Cores    int               `json:"cores"`
	Kernel   string            `json:"kernel"`
	Settings map[string]string `json:"settings"`
	Scale    float64           `json:"scale"`
	Runs     int               `json:"runs"`
	Kafka    *kafkaEnvironment `json:"kafka,omitempty"`
}

// kafkaEnvironment is how the broker and what writes to it are set, besides walbridge.
type kafkaEnvironment struct {
	Kafka     string            `json:"kafka"`
	Debezium  string            `json:"debezium,omitempty"`
	Connect   string            `json:"connect,omitempty"`
	Java      string            `json:"java"`
	BrokerJVM []string          `json:"broker_jvm"`
	Broker    map[string]string `json:"broker_settings"`
	JVM       []string          `json:"connect_jvm,omitempty"`
	Worker    map[string]string `json:"connect_worker,omitempty"`
	Connector map[string]string `json:"debezium_connector,omitempty"`
}

func describeKafka(o options) *kafkaEnvironment {
	if !o.kafka {
		return nil
	}
	java, _, _ := strings.Cut(output("java", "--version"), "\n")
	e := &kafkaEnvironment{Kafka: kafkatest.Version(), Java: java, BrokerJVM: brokerJVM(), Broker: brokerSettings()}
	if o.debezium != "" {
		e.Debezium, e.Connect = jarVersion(o.debezium, "debezium-connector-postgres-"), jarVersion(o.debezium, "connect-runtime-")
		e.JVM, e.Worker, e.Connector = connectJVM(), workerSettings(false), connectorSettings(false)
	}
	return e
}

// jarVersion is the version in the name of a jar.
func jarVersion(dir, prefix string) string {
	found, _ := filepath.Glob(filepath.Join(dir, prefix+"*.jar")) // the pattern is well formed
	if len(found) != 1 {
		return "unknown"
	}
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(found[0]), prefix), ".jar")
}

// result is one run of one contender.
type result struct {
	Measure   string             `json:"measure"`   // drain, worktable, …
	Case      string             `json:"case"`      // workload and transport
	Contender string             `json:"contender"` // walbridge, pg_recvlogical, copy, …
	Run       int                `json:"run"`
	Rows      int64              `json:"rows,omitempty"`
	Seconds   float64            `json:"seconds,omitempty"`
	RowsPerS  float64            `json:"rows_per_s,omitempty"`
	ClientCPU float64            `json:"client_cpu_s,omitempty"`
	SenderCPU float64            `json:"walsender_cpu_s,omitempty"`
	PeakMiB   float64            `json:"peak_rss_mib,omitempty"`
	Figures   map[string]float64 `json:"figures,omitempty"`
}

// results keeps every run and writes it at once.
type results struct {
	file *os.File
	all  []result
}

func newResults(path string, env environment) (*results, error) {
	r := &results{}
	if path == "" {
		return r, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	r.file = f
	return r, json.NewEncoder(f).Encode(env)
}

func (r *results) add(one result) error {
	if one.Seconds > 0 && one.Rows > 0 {
		one.RowsPerS = float64(one.Rows) / one.Seconds
	}
	r.all = append(r.all, one)
	if r.file == nil {
		return nil
	}
	return json.NewEncoder(r.file).Encode(one)
}

func (r *results) close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// print shows medians, a row for each case and contender.
func (r *results) print(w io.Writer) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.AppendHeader(table.Row{"measurement", "case", "contender", "runs", "rows/s", "client CPU s", "walsender CPU s", "peak MiB", "figures"})
	var keys []result
	groups := map[string][]result{}
	for _, one := range r.all {
		key := one.Measure + "|" + one.Case + "|" + one.Contender
		if groups[key] == nil {
			keys = append(keys, one)
		}
		groups[key] = append(groups[key], one)
	}
	for _, k := range keys {
		g := groups[k.Measure+"|"+k.Case+"|"+k.Contender]
		t.AppendRow(table.Row{
			k.Measure, k.Case, k.Contender, len(g),
			show(median(g, func(r result) float64 { return r.RowsPerS })),
			show(median(g, func(r result) float64 { return r.ClientCPU })),
			show(median(g, func(r result) float64 { return r.SenderCPU })),
			show(median(g, func(r result) float64 { return r.PeakMiB })),
			figures(g),
		})
	}
	t.Render()
}

func figures(g []result) string {
	var names []string
	for name := range g[0].Figures {
		names = append(names, name)
	}
	slices.Sort(names)
	var parts []string
	for _, name := range names {
		parts = append(parts, name+" "+show(median(g, func(r result) float64 { return r.Figures[name] })))
	}
	return strings.Join(parts, ", ")
}

func median(g []result, of func(result) float64) float64 {
	var v []float64
	for _, r := range g {
		v = append(v, of(r))
	}
	return quantile(v, 0.5)
}

// quantile sorts v and returns its q-quantile, the nearest below; 0 of nothing.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[min(int(float64(len(v))*q), len(v)-1)]
}

func show(v float64) string {
	switch {
	case v == 0:
		return ""
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func describe(o options, postgres string, settings map[string]string) environment {
	return environment{
		Commit: commit(), Go: runtime.Version(), Postgres: postgres,
		Machine: cpuModel(), Cores: runtime.NumCPU(), Kernel: output("uname", "-r"), Settings: settings, Scale: o.scale, Runs: o.runs, Kafka: describeKafka(o),
	}
}

// commit is what is checked out, with a mark when it was changed. Results that have
// just been written are no change.
func commit() string {
	name := output("git", "describe", "--always")
	if output("git", "status", "--porcelain", "--", ":/", ":!/bench/results") != "" {
		name += "-dirty"
	}
	return name
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
