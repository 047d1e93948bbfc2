package configs

import (
	"slices"
	"strings"
)

// nearest returns the name most like key, and false when none is like it: more
// than a third of the letters would have to change.
func nearest(key string, names []string) (string, bool) {
	key = strings.ToLower(key)
	best, bestDistance := "", max(1, len(key)/3)+1
	for _, name := range names {
		if d := distance(key, name); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best, best != "" && bestDistance < len(best)
}

// distance counts the insertions, deletions and replacements of a byte, and the
// swaps of two neighbours, that lead from a to b (Levenshtein's distance with
// Damerau's swaps, each byte edited once). Long names are not worth the time: they
// are like nothing.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	var before, row, next [longest + 1]int
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			replace := row[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			next[j] = min(replace, row[j]+1, next[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}

// list writes names as people do: "a, b and c", sorted.
func list(names []string) string {
	names = slices.Sorted(slices.Values(names))
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
