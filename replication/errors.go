package replication

import "errors"

var (
	// ErrInterrupted is returned by Stream.Next after Stream.Interrupt. Nothing is lost:
	// the next call goes on reading.
	ErrInterrupted error = interrupted{}
	// ErrShutdown is returned by Source.Watch when the server is shutting down. Close
	// the stream at once, keep the position, and come back later: a fast shutdown waits
	// for each walsender, and one whose client does not read waits for ever.
	ErrShutdown = errors.New("the source server is shutting down")
	// ErrSilent is returned by Stream.Next, as transient, when the server was asked for a
	// sign of life and gave none.
	ErrSilent = errors.New("no sign of life from the source server")
	// ErrEnded is returned by Stream.Next, as transient, when the server ended the
	// stream in good order, as it does in a fast shutdown.
	ErrEnded = errors.New("the source server ended the stream")
)

// interrupted looks like a time-out to crypto/tls, which keeps a connection alive
// after one (it gives up after any other error).
type interrupted struct{}

func (interrupted) Error() string   { return "interrupted" }
func (interrupted) Timeout() bool   { return true }
func (interrupted) Temporary() bool { return true }
