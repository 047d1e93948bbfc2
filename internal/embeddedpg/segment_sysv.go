//go:build linux || darwin

package embeddedpg

import "golang.org/x/sys/unix"

// removeSegment deletes a System V shared memory segment. One that is gone is no
// concern, and nobody else's can be deleted by a user who may not.
func removeSegment(id int) { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) }
