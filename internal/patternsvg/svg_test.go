package patternsvg_test

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/patternsvg"
)

var update = flag.Bool("update", false, "draw the pictures of docs/img/patterns anew")

// The pictures are those of their texts. `go test ./internal/patternsvg -update` draws
// them.
func TestPicturesAreOfTheirTexts(t *testing.T) {
	t.Parallel()
	texts, err := filepath.Glob("../../docs/img/patterns/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, texts)
	for _, path := range texts {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		svg, err := patternsvg.Render(string(text))
		require.NoError(t, err, path)
		wellFormed(t, svg)
		path = strings.TrimSuffix(path, ".txt") + ".svg"
		if *update {
			require.NoError(t, os.WriteFile(path, svg, 0o644))
		}
		have, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(have), string(svg), path)
	}
}

func wellFormed(t *testing.T, svg []byte) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

// What is not understood is named with its line.
func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"title a\ncircle 1": `line 2: "circle" is none of title, box and arrow`,
		"box 0 plain":       "line 1: read a box: expected integer",
		"box 0 0 round a":   `line 1: a box of kind "round"`,
		"arrow 0 0 1":       "line 1: read an arrow: EOF",
		"arrow 0 0 1 1 x":   "line 1: an arrow from 0 0 to 1 1",
	} {
		_, err := patternsvg.Render(text)
		require.EqualError(t, err, want, text)
	}
}
