package child

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

func setDeathSignal(a *syscall.SysProcAttr, sig syscall.Signal) { a.Pdeathsig = sig }

// Children returns the live processes whose parent is pid.
func Children(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	var pids []int
	for _, path := range stats {
		if _, parent := readStat(path); parent != pid {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// Alive reports whether a process exists and is no zombie: an orphan's zombie may
// stay where process 1 does not reap, as in many containers.
func Alive(pid int) bool {
	state, _ := readStat(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return state != 0 && state != 'Z'
}

// readStat reads state and parent from a stat file of /proc (proc(5)); zeros when
// the process has ended.
func readStat(path string) (state byte, parent int) {
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, 0
	}
	// The second field is the program's name in brackets and may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0, 0
	}
	if parent, err = strconv.Atoi(string(fields[1])); err != nil {
		return 0, 0
	}
	return fields[0][0], parent
}
