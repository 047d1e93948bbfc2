package doctest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var picture = regexp.MustCompile(`!\[[^\]]+\]\((img/patterns/[a-z-]+\.svg)\)`)

// Each Go example has a section with a picture, a command that the example's own test
// runs, and tests that are there.
func TestPatternsHavePictureCommandAndProof(t *testing.T) {
	sections := strings.Split(read(t, "docs/patterns.md").text, "\n## ")
	programs, err := filepath.Glob(filepath.Join(root, "examples", "*", "main.go"))
	require.NoError(t, err)
	require.Len(t, programs, 8)
	for _, program := range programs {
		name := filepath.Base(filepath.Dir(program))
		command := "<!-- run: examples/" + name + " -->\n```sh\ngo run ./examples/" + name + "\n```"
		var section string
		for _, s := range sections {
			if strings.Contains(s, command) {
				section = s
			}
		}
		require.NotEmpty(t, section, name)
		image := picture.FindStringSubmatch(section)
		require.NotNil(t, image, name)
		require.True(t, exists("docs/"+image[1]), image[1])
		for _, part := range []string{"**Owns**", "**Durable work**", "**walbridge**", "**Do not use it**"} {
			require.Contains(t, section, part, name)
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(program), "main_test.go"))
		require.NoError(t, err)
		require.Contains(t, string(text), `proof.Output(t, "`+name+`")`, "the command is run by a test")
		_, proof, found := strings.Cut(section, "\nProven by ")
		require.True(t, found, name)
		for _, test := range codeIn(proof) {
			if strings.HasPrefix(test, "Test") {
				require.Contains(t, string(text), "func "+test+"(", name)
			}
		}
		require.Contains(t, proof, "`Test", name)
	}
}
