package logtail

import (
	"context"
	"fmt"
	"time"

	"github.com/walbridge/walbridge/migrations"
)

const (
	pageItems = 200
	poll      = time.Second // when nobody notifies
)

// Read gives the items above a seq to each, in the order of the log, until what was
// there at the beginning is read, or for ever with follow, or until each returns
// false. It returns nil when ctx ends.
func (l *Log) Read(ctx context.Context, after int64, follow bool, each func(Item) (bool, error)) error {
	if follow {
		if _, err := l.conn.Exec(ctx, "LISTEN "+migrations.Channel); err != nil {
			return l.ended(ctx, fmt.Errorf("listen: %w", err))
		}
	}
	for {
		head, err := l.Head(ctx)
		if err != nil {
			return l.ended(ctx, err)
		}
		on, err := l.upTo(ctx, after, head, each)
		if err != nil || !on || !follow {
			return l.ended(ctx, err)
		}
		after = max(after, head)
		if err := l.wait(ctx); err != nil {
			return l.ended(ctx, err)
		}
	}
}

// ended is an error of a reader that was not asked to end.
func (l *Log) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// upTo reads a range in windows: of many streams no more is read than a window
// holds, and a window that was empty is followed by a wider one.
func (l *Log) upTo(ctx context.Context, after, head int64, each func(Item) (bool, error)) (on bool, err error) {
	width := int64(4 * pageItems)
	for after < head {
		upto := head
		if head-after > width {
			upto = after + width
		}
		n, last, on, err := l.page(ctx, after, upto, pageItems, each)
		if err != nil || !on {
			return false, err
		}
		switch n {
		case pageItems:
			after, width = last, 4*pageItems
		case 0:
			after, width = upto, min(width*4, 1<<40)
		default:
			after = upto
		}
	}
	return true, nil
}

// wait waits for a notification, or so long that a lost one does not matter.
func (l *Log) wait(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, poll)
	defer cancel()
	_, err := l.conn.WaitForNotification(short)
	if err != nil && short.Err() != nil && !l.conn.IsClosed() {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("wait for the log to grow: %w", err)
	}
	return nil
}
