package decoder

// Step is what a message came to.
type Step uint8

// The steps.
const (
	// StepNone: nothing for the caller, such as a description or a duplicate.
	StepNone Step = iota
	// StepBegin: a transaction has begun that the sink does not have, or not whole.
	StepBegin
	// StepChange: Change has a change, and More may have more of the same message.
	StepChange
	// StepCommit: the transaction has ended; Tx().End is set.
	StepCommit
)

// String returns none, begin, change or commit.
func (s Step) String() string {
	switch s {
	case StepNone:
		return "none"
	case StepBegin:
		return "begin"
	case StepChange:
		return "change"
	case StepCommit:
		return "commit"
	}
	return "unknown"
}
