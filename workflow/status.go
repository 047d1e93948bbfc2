package workflow

// Status is where an instance stands.
type Status string

// The statuses. Completed and Compensated are the end; Failed and Halted wait for
// Resume, or, where a program that has its workflow was missing, for that program.
const (
	Running      Status = "running"      // a step is at hand or due, or is tried again later
	Waiting      Status = "waiting"      // for a signal or a time
	Compensating Status = "compensating" // completed steps are undone, the last one first
	Completed    Status = "completed"    // all steps are done
	Compensated  Status = "compensated"  // it did not succeed, and all that was done is undone
	Failed       Status = "failed"       // a compensation has failed for good
	Halted       Status = "halted"       // no program can go on with it: see LastError
)

// final reports whether engines leave an instance alone.
func (s Status) final() bool {
	switch s {
	case Completed, Compensated, Failed, Halted:
		return true
	}
	return false
}
