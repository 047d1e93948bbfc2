package queue

import (
	"context"
	"fmt"
)

// Unknown says what a Mux does with an item of a type that it has no handler for.
type Unknown int

const (
	// SkipUnknown settles it: others' types are none of this consumer's business.
	SkipUnknown Unknown = iota
	// DeadUnknown makes it a dead letter: every type is this consumer's business.
	DeadUnknown
)

// Mux hands each item to the handler of its type. Fill it before it is used; then it
// may be used from several goroutines. Make it with NewMux.
type Mux struct {
	unknown  Unknown
	handlers map[string]Handler
}

// NewMux returns a Mux without handlers.
func NewMux(unknown Unknown) *Mux { return &Mux{unknown, map[string]Handler{}} }

// On gives the items of a type to handle, with their payload decoded. A payload that
// is no T makes a dead letter. It panics when the type has a handler already, since
// that is a mistake in the program.
func On[T any](m *Mux, typ string, handle func(ctx context.Context, it Item, value T) error) {
	if m.handlers[typ] != nil {
		panic(fmt.Sprintf("queue.On: type %q has two handlers", typ))
	}
	m.handlers[typ] = func(ctx context.Context, it Item) error {
		var value T
		if err := it.Decode(&value); err != nil {
			return err
		}
		return handle(ctx, it, value)
	}
}

// Handle is a Handler.
func (m *Mux) Handle(ctx context.Context, it Item) error {
	if handle := m.handlers[it.Type]; handle != nil {
		return handle(ctx, it)
	}
	if m.unknown == DeadUnknown {
		return Dead(fmt.Errorf("no handler for type %q", it.Type))
	}
	return nil
}
