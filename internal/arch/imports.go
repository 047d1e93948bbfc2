package arch

import (
	"strconv"
	"strings"
)

// importRule forbids imports. A pattern is a folder of this module or the path of
// another package; "/..." adds all below. everyOwn is every package of this module.
type importRule struct {
	in     []string // the packages that the rule is about
	except []string // but not these
	never  []string // what they must not import
	tests  bool     // the rule holds for their test files too
	why    string
}

// stages are the packages of the pipeline, in the order of the data.
func stages() []string {
	return []string{"replication/...", "decoder/...", "snapshot/...", "mapper/...", "sink/...", "pipeline/..."}
}

// testHelpers are packages that only tests import, so that they may import what
// only tests need.
func testHelpers() []string {
	return []string{
		"internal/pgtest/...", "internal/kafkatest/...", "internal/browsertest/...", "internal/torture/...",
		"sink/sinktest/...", "decoder/decodertest/...", "queue/queuetest/...", "workflow/workflowtest/...",
		"examples/internal/proof/...",
	}
}

// importRules is the architecture: a stage may import the types of the stage
// before it, never the stage after it.
//
//arch:flat
func importRules() []importRule {
	const forward = "a stage that imports the one after it drags all of that into its tests, and the data path becomes a circle"
	return []importRule{{
		in: []string{"internal/lsn", "internal/fault", "internal/secret", "internal/bytesize", "internal/child", "internal/rawconn", "internal/pause", "migrations/..."}, never: []string{everyOwn},
		why: "it is a leaf: everything may import it, so it imports nothing of this module",
	}, {
		in: []string{"decoder/..."}, tests: true,
		never: []string{"mapper/...", "sink/...", "snapshot/...", "pipeline/..."},
		why:   forward,
	}, {
		in: []string{"decoder/..."}, never: []string{"replication/...", "github.com/jackc/pglogrepl", "github.com/jackc/pgx/..."},
		why: "the decoder gets bytes from anywhere: recorded frames replay in tests and benchmarks without a network stack",
	}, {
		in: []string{"replication/..."}, tests: true,
		never: []string{"decoder/...", "mapper/...", "sink/...", "snapshot/...", "pipeline/..."},
		why:   "a frame is bytes and positions; what they mean is the decoder's",
	}, {
		in: []string{"mapper/..."}, tests: true, never: []string{"sink/...", "pipeline/..."},
		why: forward,
	}, {
		in: []string{"mapper/..."}, never: []string{"replication/...", "snapshot/...", "github.com/jackc/..."},
		why: "the mapper is pure: changes in, items out",
	}, {
		in: []string{"snapshot/..."}, tests: true, never: []string{"mapper/...", "sink/...", "pipeline/..."},
		why: forward,
	}, {
		in: []string{"sink/..."}, tests: true, never: []string{"pipeline/..."},
		why: forward,
	}, {
		in: []string{"sink/..."}, never: []string{"replication/...", "snapshot/..."},
		why: "a destination does not know how changes are read",
	}, {
		in: []string{"sink"}, never: []string{"sink/worktable/...", "sink/kafka/...", "sink/stdout/...", "sink/discard/..."},
		why: "the contract does not know who fulfils it",
	}, {
		in: []string{"sink/..."}, except: []string{"sink/worktable/..."}, never: []string{"sink/worktable/..."},
		why: "destinations do not know each other",
	}, {
		in: []string{"sink/..."}, except: []string{"sink/kafka/..."}, never: []string{"sink/kafka/..."},
		why: "destinations do not know each other",
	}, {
		in: []string{everyOwn}, except: []string{"cmd/...", "configs/..."}, never: []string{"configs/..."},
		why: "a part has its own Config; configs puts them together, and only cmd reads the whole",
	}, {
		in: []string{"configs/..."}, never: []string{"cmd/..."},
		why: "a configuration is data",
	}, {
		in: []string{everyOwn}, except: []string{"cmd/...", "pipeline/...", "configs/..."}, never: []string{"pipeline/..."},
		why: "only cmd joins the stages; others get a function or a value",
	}, {
		in: []string{everyOwn}, except: []string{"cmd/..."}, never: []string{"cmd/..."},
		why: "the program is the outermost layer",
	}, {
		in: []string{"queue/...", "workflow/..."}, never: append(stages(), "configs/..."),
		why: "consumers know the work table's tables, not how they are filled",
	}, {
		in: []string{"queue/...", "workflow/..."}, except: testHelpers(),
		never: []string{"internal/...", "golang.org/x/...", "github.com/pressly/goose/...", "github.com/hashicorp/go-hclog"},
		why:   "a public package drags what it imports into its users' programs: the standard library, pgx, client_golang and migrations are enough",
	}, {
		in: []string{"queue/..."}, never: []string{"workflow/..."},
		why: "a workflow is built on the queue, not the queue on it",
	}, {
		in: []string{"examples/..."}, tests: true, never: append(stages(), "configs/..."),
		why: "an example uses what an application can use; its bridge is the program",
	}, {
		in: []string{everyOwn}, except: []string{"examples/..."}, tests: true, never: []string{"examples/..."},
		why: "an example is read and copied, not built upon",
	}, {
		in: []string{everyOwn}, except: append(testHelpers(), "bench/..."), // the benchmarks run a broker
		never: append([]string{
			"github.com/stretchr/testify/...", "pgregory.net/rapid", "go.uber.org/goleak", "github.com/cockroachdb/datadriven/...",
			"testing", "testing/...", "github.com/chromedp/...", "net/http/httptest",
		}, testHelpers()...),
		why: "test code must not be linked into the program",
	}, {
		in: []string{everyOwn}, except: []string{"internal/embeddedpg/..."}, never: []string{"github.com/fergusstrange/embedded-postgres"},
		why: "internal/embeddedpg wraps it, with checksums and a life bound to ours",
	}, {
		in: []string{everyOwn}, except: []string{"queue/...", "workflow/...", "examples/...", "internal/migrate/..."}, never: []string{"log/slog"},
		why: "the bridge logs by a hclog.Logger that is passed in; only the public queue and workflow take a *slog.Logger",
	}, {
		in: []string{everyOwn}, except: []string{"bench/..."}, tests: true, never: []string{"log", "math/rand", "io/ioutil"},
		why: "there are no global loggers here, and math/rand/v2 and os have taken over the others",
	}}
}

// imports checks the import rules.
func (f *file) imports() []Finding {
	var found []Finding
	for _, spec := range f.ast.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has seen to it
		}
		own, mine := f.own(name)
		for _, r := range importRules() {
			if r.about(f) && r.forbids(own, mine) && (!mine || own != f.pkg) {
				found = append(found, f.at(spec.Pos(), "imports %s: %s", own, r.why))
			}
		}
	}
	return found
}

// own returns the folder of a package of this module, or the path of another one.
func (f *file) own(importPath string) (p string, mine bool) {
	if importPath == f.tree.module {
		return ".", true
	}
	if rel, ok := strings.CutPrefix(importPath, f.tree.module+"/"); ok {
		return rel, true
	}
	return importPath, false
}

// everyOwn is the pattern of all packages of this module.
const everyOwn = "./..."

func (r importRule) forbids(importPath string, mine bool) bool {
	for _, p := range r.never {
		if p == everyOwn && mine || p != everyOwn && within(importPath, p) {
			return true
		}
	}
	return false
}

func (r importRule) about(f *file) bool {
	return (r.tests || !f.test) && within(f.pkg, r.in...) && !within(f.pkg, r.except...)
}
