package stdout

import (
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/jsonline"
)

// printable is a batch of this sink.
type printable interface {
	sink.Batch
	text() []byte
	lend() // says that another goroutine reads the text until Reset
}

// lineBatch is a batch of JSON lines.
type lineBatch struct {
	jsonline.Batch
	lent bool
}

func (b *lineBatch) text() []byte { return b.Lines() }
func (b *lineBatch) lend()        { b.lent = true }

func (b *lineBatch) CarryLast(next sink.Batch) (lsn.ID, bool) {
	return b.Batch.CarryLast(&next.(*lineBatch).Batch)
}

func (b *lineBatch) Reset() {
	if b.lent {
		b.Abandon()
		b.lent = false
		return
	}
	b.Batch.Reset()
}
