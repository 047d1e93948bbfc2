package migrations

import "fmt"

// Incompatible says that a program and a schema do not work together.
type Incompatible struct {
	Program        int // the program's Version
	Schema         int // the schema's version
	CompatibleFrom int // the oldest program that the schema works with
}

// Error says which of the two has to change.
func (e *Incompatible) Error() string {
	if e.Schema < e.Program {
		return fmt.Sprintf("the walbridge schema has version %d, this program needs version %d: migrate the schema", e.Schema, e.Program)
	}
	return fmt.Sprintf("the walbridge schema has version %d and works with programs from version %d on, this one has %d: use a newer walbridge", e.Schema, e.CompatibleFrom, e.Program)
}

// Compatible compares what schema_version holds with this program. The error is an
// *Incompatible.
func Compatible(version, compatibleFrom int) error {
	return compatible(Version, version, compatibleFrom)
}

func compatible(program, version, compatibleFrom int) error {
	if version < program || compatibleFrom > program {
		return &Incompatible{program, version, compatibleFrom}
	}
	return nil
}
