package torture_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/torture"
)

// result is one line of the results of full runs.
type result struct {
	Fault    string         `json:"fault"`
	At       time.Time      `json:"at"`
	Commit   string         `json:"commit"`
	Seed     uint64         `json:"seed"`
	Versions string         `json:"postgresql"`
	Go       string         `json:"go"`
	Machine  string         `json:"machine"`
	CPUs     int            `json:"cpus"`
	Repeats  map[string]int `json:"repeats"`
	Workload torture.Counts `json:"workload"`
	Proven   torture.Proven `json:"proven"`
}

// results guards the file, which tests that run at once share.
var results sync.Mutex

// record logs what a fault came to and adds it to the file of results, when there
// is one. name says what was repeated, and repeats how often.
func (r *rig) record(t *testing.T, fault string, seed uint64, proven torture.Proven, counts torture.Counts, name string, repeats int) {
	t.Helper()
	line, err := json.Marshal(result{
		Fault: fault, At: time.Now().UTC().Truncate(time.Second), Commit: commit(), Seed: seed,
		Versions: r.source.Cluster().Server().Install().Version, Go: runtime.Version(), Machine: machine(), CPUs: runtime.NumCPU(),
		Repeats: map[string]int{name: repeats}, Workload: counts, Proven: proven,
	})
	require.NoError(t, err)
	t.Logf("%s", line)
	if *resultFlag == "" {
		return
	}
	results.Lock()
	defer results.Unlock()
	f, err := os.OpenFile(*resultFlag, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	_, err = f.Write(append(line, '\n'))
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// commit is what is checked out, with a mark when it was changed. The results, which
// this very run adds to, are no change.
func commit() string {
	out, err := exec.Command("git", "describe", "--always").Output()
	if err != nil {
		return "unknown"
	}
	name := strings.TrimSpace(string(out))
	changed, err := exec.Command("git", "status", "--porcelain", "--", ":/", ":!/bench/results").Output()
	if err != nil || len(changed) > 0 {
		name += "-dirty"
	}
	return name
}

// machine names the processor.
func machine() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // elsewhere there is none
	for line := range strings.Lines(string(info)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOOS + "/" + runtime.GOARCH
}
