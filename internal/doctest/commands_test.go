package doctest_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// commandLine is a walbridge command in a line of shell or in backquotes.
var commandLine = regexp.MustCompile(`(?:^|[\s;&|(])(walbridge|go run \./cmd/walbridge)( [a-z][^;&|]*)`)

// commandsIn returns the commands of a text as their arguments.
func commandsIn(text string) [][]string {
	var all [][]string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, " #")
		for _, m := range commandLine.FindAllStringSubmatch(line, -1) {
			args, _, _ := strings.Cut(m[2], " > ")
			all = append(all, strings.Fields(args))
		}
	}
	return all
}

// Every command of the documents, and every one that a halt or a problem tells
// people to run, is one of the program's, with flags that it has.
func TestNamedCommandsParse(t *testing.T) {
	seen := map[string]string{}
	for _, d := range documents(t) {
		texts := d.code()
		for _, b := range d.blocks() {
			if b.lang == "sh" {
				texts = append(texts, b.text)
			}
		}
		collect(seen, d.path, texts)
	}
	require.Greater(t, len(seen), 15)
	for _, s := range sources(t) {
		if !s.test() && !strings.HasPrefix(s.path, "cmd/") {
			collect(seen, s.path, s.waysOut())
		}
	}
	for line, where := range seen {
		parses(t, where, strings.Split(line, "\x00"))
	}
}

func collect(seen map[string]string, where string, texts []string) {
	for _, text := range texts {
		for _, args := range commandsIn(text) {
			seen[strings.Join(args, "\x00")] = where
		}
	}
}

// wayOut is a literal of the program that is a command and no sentence.
var wayOut = regexp.MustCompile("^walbridge ([a-z]+|(dlq|migrate|config) [a-z]+)( <[a-z]+>| --[a-z-]+)*( +#.*)?$")

// waysOut returns the commands of a file's literals: whole ones, and those between
// backquotes.
func (s source) waysOut() []string {
	var all []string
	for _, text := range s.literals() {
		if wayOut.MatchString(text) {
			all = append(all, text)
		}
		all = append(all, codeIn(text)...)
	}
	return all
}

// parses asks the program for the help of the command, which it gives only when
// the flags before it are its own.
func parses(t *testing.T, where string, args []string) {
	t.Helper()
	p := pgtest.Run(t, append(slices.Clone(args), "--help")...)
	require.Zero(t, p.WaitExit(t, time.Minute), "%s: walbridge %s\n%s", where, strings.Join(args, " "), p.Output())
	usage := usageOf(p.Stdout())
	words := 0
	for words < len(args) && words+1 < len(usage) && usage[words+1] == args[words] {
		words++
	}
	require.Positive(t, words, "%s: walbridge %s is no command", where, strings.Join(args, " "))
	if words < len(args) && !strings.HasPrefix(args[words], "-") {
		takes := slices.DeleteFunc(slices.Clone(usage[words+1:]), func(w string) bool { return w == "[flags]" })
		require.NotEmpty(t, takes, "%s: walbridge %s takes no arguments", where, strings.Join(args[:words], " "))
	}
}

// usageOf returns the words of the line that shows how a command is used.
func usageOf(help string) []string {
	_, after, _ := strings.Cut(help, "Usage:\n")
	line, _, _ := strings.Cut(after, "\n")
	return strings.Fields(line)
}

// The check itself finds what is wrong.
func TestCommandsAreFound(t *testing.T) {
	require.Equal(t, [][]string{{"run"}, {"dlq", "list"}}, commandsIn("walbridge run   # stays\nx && walbridge dlq list\n"))
	require.Equal(t, [][]string{{"init", "--source", "$S"}}, commandsIn("walbridge init --source $S > walbridge.yaml"))
	require.Empty(t, commandsIn("walbridge.yaml walbridge_shop"))
}
