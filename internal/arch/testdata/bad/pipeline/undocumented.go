package pipeline

type Stage struct{}

func (*Stage) Run() {}

func (Stage) hidden() {}

// this one begins with another word.
func Start() {}

// A Batch is documented: an article may come first.
type Batch[T any] struct{}

func (b *Batch[T]) Len() int { return 0 }

type inner struct{}

func (inner) String() string { return "methods of unexported types need no comment" }

// Sink is documented, its methods are not all.
type Sink interface {
	// Write is.
	Write()
	Close()
	flush()
}

const Limit = 1

// Kinds share a comment.
const (
	KindA = iota
	KindB
)

const KindC = 3 // a comment on the line is enough

var Exported, Another = 1, 2

// Starting is no comment of Start.
type Started struct{}
