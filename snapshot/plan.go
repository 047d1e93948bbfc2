package snapshot

import (
	"fmt"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/bytesize"
)

// guessedRows is the speed that an estimate is made with where no bound is set: what a
// small machine reads and stores.
const guessedRows = 30_000

// Estimate is about how long the reading of so many rows takes; 0: not known.
func Estimate(rows int64, rowsPerSecond int) time.Duration {
	if rows <= 0 {
		return 0
	}
	if rowsPerSecond <= 0 {
		rowsPerSecond = guessedRows
	}
	return time.Duration(float64(rows) / float64(rowsPerSecond) * float64(time.Second)).Round(time.Second)
}

// PlanOf says what is going to be read, a line for each table and one for all.
func PlanOf(tables []*Table, rowsPerSecond int) string {
	var b strings.Builder
	var rows, bytes int64
	known := true
	for _, t := range tables {
		size := "a number of rows that is not known (never analysed)"
		if t.Estimate >= 0 {
			size = fmt.Sprintf("about %d rows", t.Estimate)
		}
		fmt.Fprintf(&b, "read %s: %s, %s", t.QualifiedName(), size, bytesize.Human(t.Bytes))
		if t.Whole {
			b.WriteString(", at once and before the stream begins, since it has no key: WAL is kept meanwhile, and a failure begins it anew")
		}
		if t.Where != "" {
			b.WriteString(", where " + t.Where)
		}
		b.WriteString("\n")
		rows, bytes, known = rows+max(0, t.Estimate), bytes+t.Bytes, known && t.Estimate >= 0
	}
	size := "a number of rows that is not known"
	if known {
		size = fmt.Sprintf("about %d rows", rows)
	}
	fmt.Fprintf(&b, "%d tables, %s, %s", len(tables), size, bytesize.Human(bytes))
	if wait := Estimate(rows, rowsPerSecond); wait > 0 && known {
		fmt.Fprintf(&b, ", perhaps %v", wait)
	}
	b.WriteString("; the stream goes on meanwhile and has the right of way\n")
	return b.String()
}
