package doctest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the top of the tree, as seen from this package.
const root = "../.."

// document is one Markdown file.
type document struct {
	path string // from the top of the tree
	text string
}

// block is a fenced block with the mark in the line before it.
type block struct {
	mark, lang, text string
}

var fence = regexp.MustCompile("(?ms)^(?:<!-- ([^\n]*) -->\n)?```([a-z]*)\n(.*?)^```$")

func (d document) blocks() []block {
	var all []block
	for _, m := range fence.FindAllStringSubmatch(d.text, -1) {
		all = append(all, block{m[1], m[2], m[3]})
	}
	return all
}

// prose is the text without its fenced blocks.
func (d document) prose() string { return fence.ReplaceAllString(d.text, "") }

var inline = regexp.MustCompile("`([^`\n]+)`")

// code returns the texts between backquotes.
func (d document) code() []string { return codeIn(d.prose()) }

func codeIn(text string) []string {
	var all []string
	for _, m := range inline.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// marked returns the only block with a mark.
func (d document) marked(t *testing.T, mark string) string {
	t.Helper()
	var found []string
	for _, b := range d.blocks() {
		if b.mark == mark {
			found = append(found, b.text)
		}
	}
	require.Len(t, found, 1, "blocks marked %q in %s", mark, d.path)
	return found[0]
}

// section returns what stands between the first line and the next one that begins
// with end.
func (d document) section(t *testing.T, first, end string) string {
	t.Helper()
	_, after, found := strings.Cut(d.text, "\n"+first+"\n")
	require.True(t, found, "%s has no line %q", d.path, first)
	text, _, _ := strings.Cut(after, "\n"+end)
	return text
}

func read(t *testing.T, path string) document {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return document{path, string(text)}
}

// documents are all Markdown files that users and contributors read.
func documents(t *testing.T) []document {
	t.Helper()
	var all []document
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, p := range paths {
			rel, err := filepath.Rel(root, p)
			require.NoError(t, err)
			all = append(all, read(t, filepath.ToSlash(rel)))
		}
	}
	require.Greater(t, len(all), 10)
	return all
}

// firstColumn returns the texts between backquotes in the first column of all
// tables.
func firstColumn(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) > 2 && strings.HasPrefix(line, "|") {
			all = append(all, codeIn(cells[1])...)
		}
	}
	return all
}

func exists(path string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(path)))
	return err == nil
}
