package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// maxPassword bounds what a password command may print; cloud tokens have a few KiB.
const maxPassword = 64 << 10

// password runs argv, without a shell, and returns what it printed without the last
// line's end. Neither that nor what it wrote to its standard error is ever part of
// an error: both may hold the secret.
func password(ctx context.Context, argv []string, within time.Duration) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("no password within %v", within))
	defer cancel()
	var out capped
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout = &out
	cmd.WaitDelay = time.Second // for children of it that keep the pipe open
	err := cmd.Run()
	switch {
	case context.Cause(ctx) != nil:
		err = context.Cause(ctx)
	case out.over:
		err = fmt.Errorf("it printed more than %d bytes", maxPassword)
	case err == nil && strings.TrimRight(out.kept.String(), "\r\n") == "":
		err = errors.New("it printed nothing")
	}
	if err != nil {
		return "", fmt.Errorf("password command %s: %w", argv[0], err)
	}
	return strings.TrimRight(out.kept.String(), "\r\n"), nil
}

// capped keeps the first maxPassword bytes and notes that there were more. The
// buffer is no embedded one, whose ReadFrom would pass by Write.
type capped struct {
	kept bytes.Buffer
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.kept.Len()+len(p) > maxPassword {
		c.over = true
		return len(p), nil
	}
	return c.kept.Write(p)
}
