//go:build !linux

package rawconn

import "net"

// Detach returns the connection as it is.
func Detach(c net.Conn) net.Conn { return c }
