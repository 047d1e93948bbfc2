//go:build unix && !linux

package child

import "syscall"

// setDeathSignal does nothing: only Linux tells a child that its parent died.
func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

// Children returns none: there is no /proc to read here.
func Children(int) []int { return nil }

// Alive reports whether a process exists.
func Alive(pid int) bool { return Exists(pid) }
