package arch

// sleepers are the files that may call time.Sleep, with the reason.
func sleepers() map[string]string {
	return map[string]string{
		"internal/pgtest/pgtest.go": "Eventually is the one polling helper of tests",
	}
}

// processOwners are the packages, besides programs, that may read the environment
// and end the process: test helpers, for what a developer sets for tests, such as
// a seed.
func processOwners() []string {
	return append([]string{"cmd/...", "examples/...", "bench/..."}, testHelpers()...)
}

// globalsAllowed are the package variables that change while the program runs,
// by package and name, with the reason.
func globalsAllowed() map[string]string {
	return map[string]string{
		"internal/pgtest.shared":          "one cluster per test binary: only TestMain sees the end of all tests",
		"internal/pgtest.binaries":        "programs are built once per test binary",
		"internal/kafkatest.shared":       "one broker per test binary: only TestMain sees the end of all tests",
		"internal/pgtest.databases":       "numbers databases so that no two tests share a name",
		"internal/embeddedpg.transportMu": "guards http.DefaultTransport, which is a global itself",
	}
}
