package embeddedpg

import (
	"bytes"
	"context"
	"os/exec"
)

// childEnv is the whole environment of the server's programs: nothing of ours
// (PGDATA, PGPORT, LC_ALL) may change how they behave.
func childEnv() []string {
	// English messages, since errors are recognised by their text; TZ so that
	// initdb writes the same time zone everywhere.
	return []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/local/bin:/usr/bin:/bin"}
}

// runChild runs one of PostgreSQL's programs to its end and returns its output.
func runChild(ctx context.Context, user *osUser, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = childEnv()
	cmd.Dir = dir
	cmd.SysProcAttr = user.attr()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// firstLine returns the first line of a program's output.
func firstLine(out []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return string(line)
}
