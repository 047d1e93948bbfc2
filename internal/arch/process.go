package arch

import "strconv"

// process checks that a part is given what belongs to the whole process.
func (f *file) process() []Finding {
	if f.test || f.ast.Name.Name == "main" || within(f.pkg, processOwners()...) {
		return nil
	}
	var found []Finding
	for pos, name := range f.uses("os", "Getenv", "LookupEnv", "Environ", "ExpandEnv", "Args", "Exit") {
		found = append(found, f.at(pos, "uses os.%s: only cmd reads the environment and arguments and ends the program", name))
	}
	for pos, name := range f.uses("fmt", "Print", "Printf", "Println") {
		found = append(found, f.at(pos, "uses fmt.%s: standard output belongs to cmd", name))
	}
	for _, spec := range f.ast.Imports {
		switch name, _ := strconv.Unquote(spec.Path.Value); name {
		case "flag", "os/signal":
			found = append(found, f.at(spec.Pos(), "imports %s: only cmd reads flags and signals", name))
		}
	}
	return found
}

// sleeps checks that nothing waits by sleeping.
func (f *file) sleeps() []Finding {
	if _, ok := sleepers()[f.path]; ok {
		return nil
	}
	var found []Finding
	for pos := range f.uses("time", "Sleep") {
		found = append(found, f.at(pos, "sleeps: wait for a signal with a deadline; a test uses pgtest.Eventually, other code a timer and its context"))
	}
	return found
}
