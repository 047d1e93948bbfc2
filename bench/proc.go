package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// cpuSeconds is the processor time of a process so far, user and system; 0 when it
// is gone (proc(5), stat: fields 14 and 15, in ticks of 10 ms).
func cpuSeconds(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, ok := strings.Cut(string(b), ") ")
	f := strings.Fields(after)
	if !ok || len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}

// cpuSelf is that of this process.
func cpuSelf() float64 { return cpuSeconds(os.Getpid()) }

// peakMiB is the largest resident set that a process has had; rssMiB the present one.
func peakMiB(pid int) float64 { return statusMiB(pid, "VmHWM:") }
func rssMiB(pid int) float64  { return statusMiB(pid, "VmRSS:") }

func statusMiB(pid int, key string) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}
