//go:build !linux

package replication

import (
	"net"
	"time"
)

// Other systems have no way to change the window of a connection: reading is
// always eager there, and a black hole is found by the read's own deadline.

func setUserTimeout(net.Conn, time.Duration) {}

func setWindowClamp(net.Conn, int) bool { return false }

func roundTrip(net.Conn) time.Duration { return 0 }

func nap(time.Duration) {}
