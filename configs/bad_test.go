package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
)

// badFile is one of testdata/*.bad.yml: a file that breaks one rule, and says in
// its first lines which problems it must give, in their order.
type badFile struct {
	name, text string
	want       []string
	unseen     bool // by the schema
}

func badFiles(t testing.TB) []badFile {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.bad.yml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	var all []badFile
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		f := badFile{name: path, text: string(text)}
		for line := range strings.Lines(f.text) {
			if want, ok := strings.CutPrefix(line, "# want: "); ok {
				f.want = append(f.want, strings.TrimSuffix(want, "\n"))
			}
			f.unseen = f.unseen || line == "# the schema cannot see it\n"
		}
		require.NotEmpty(t, f.want, path)
		all = append(all, f)
	}
	return all
}

// withoutHead drops the comment lines at the top, but for one, so that line numbers
// in the expected texts do not depend on how many there are.
func (f badFile) withoutHead() string {
	rest := f.text
	for strings.HasPrefix(rest, "#") {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	return "#\n" + rest
}

func TestBadFiles(t *testing.T) {
	for _, f := range badFiles(t) {
		t.Run(filepath.Base(f.name), func(t *testing.T) {
			_, err := Load(write(t, f.withoutHead()), environ())
			var config *fault.ConfigError
			require.ErrorAs(t, err, &config)
			require.Len(t, config.Problems, len(f.want), err.Error())
			for i, p := range config.Problems {
				require.Contains(t, p.String(), f.want[i])
				require.False(t, p.Warning)
				require.NotEmpty(t, p.Check)
			}
			require.NotContains(t, err.Error(), "MARKER", "no secret in a problem")
		})
	}
}
