package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/internal/secret"
)

// secretFile writes a file that ${file:…} can name.
func secretFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestExpressionsInOrdinaryKeys(t *testing.T) {
	c := load(t, valid+"name: sh${X}${Y}\nbatch: {wait: \"${WAIT}\", max_items: \"${ITEMS}\"}\nlog: {level: \"${LEVEL}\"}\n", "X=o", "Y=p", "WAIT=7ms", "ITEMS=9", "LEVEL=warn").Config
	require.Equal(t, "shop", c.Name)
	require.Equal(t, "7ms", FormatDuration(c.Batch.Wait))
	require.Equal(t, 9, c.Batch.MaxItems)
	require.Equal(t, "warn", c.Log.Level)
}

func TestExpressionsInRoutesAreStreamTemplates(t *testing.T) {
	c := load(t, `
source: {dsn: host=db}
routes:
  - {tables: [public.outbox], outbox: {}, stream: "a.${aggregatetype}.${HOME}"}
  - {tables: ["public.*"], changes: {}, stream: "${schema}.${table}"}
sink: {stdout: {}}
`, "aggregatetype=WRONG", "HOME=WRONG", "schema=WRONG", "table=WRONG").Config
	require.Equal(t, "a.${aggregatetype}.${HOME}", c.Routes[0].Stream)
	require.Equal(t, "${schema}.${table}", c.Routes[1].Stream)
}

func TestMaskKeyIsASecretInRoutes(t *testing.T) {
	text := `
source: {dsn: host=db}
routes: [{tables: [public.a], changes: {}, columns: {mask: {email: hash}, mask_key: "${file:PATH}${SUFFIX}"}}]
sink: {stdout: {}}
`
	l := load(t, strings.Replace(text, "PATH", secretFile(t, "MARKER\n"), 1), "SUFFIX=x")
	require.Equal(t, "MARKERx", l.Config.Routes[0].Columns.MaskKey.Reveal())
	shown, err := l.Show()
	require.NoError(t, err)
	require.NotContains(t, string(shown), "MARKER")
	problems := problemsOf(t, strings.Replace(text, "PATH", "/nowhere/key", 1), "SUFFIX=x")
	require.Len(t, problems, 1)
	require.Contains(t, problems[0], "/nowhere/key: no such file")
}

func TestDollarBraceCanBeWritten(t *testing.T) {
	got, err := expand("a$${b} $$ $c ${X} $", func(string) (string, error) { return "v", nil }, nil)
	require.NoError(t, err)
	require.Equal(t, "a${b} $$ $c v $", got)
}

func TestAFileIsReadAgainAtEachAttempt(t *testing.T) {
	path := secretFile(t, "first\n")
	l := load(t, strings.Replace(valid, "host=localhost dbname=shop", "postgres://u:${file:"+path+"}@db/shop", 1))
	require.Contains(t, l.Config.Source.DSN.Reveal(), "${file:", "the expression is kept")
	got, err := l.Resolver.DSN(l.Config.Source.DSN)
	require.NoError(t, err)
	require.Equal(t, "postgres://u:first@db/shop", got.Reveal())
	require.NoError(t, os.WriteFile(path, []byte("second\r\n"), 0o600))
	got, err = l.Resolver.DSN(l.Config.Source.DSN)
	require.NoError(t, err)
	require.Equal(t, "postgres://u:second@db/shop", got.Reveal())
	require.NoError(t, os.Remove(path))
	_, err = l.Resolver.DSN(l.Config.Source.DSN)
	require.ErrorContains(t, err, "no such file")
}

func TestAFileThatIsNotThereYetIsAWarning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "later")
	l := load(t, strings.Replace(valid, "host=localhost dbname=shop", "postgres://u:${file:"+path+"}@localhost/shop", 1))
	require.Len(t, l.Warnings, 1)
	require.Contains(t, l.Warnings[0].String(), ":2:10: source.dsn: ${file:…}: open "+path)
	shown, err := l.Show()
	require.NoError(t, err)
	require.Contains(t, string(shown), "@localhost/shop", "an expression without a value is shown as it was written")
}

func TestFilesOfSecretsAreBounded(t *testing.T) {
	for content, want := range map[string]string{
		strings.Repeat("x", maxSecretBytes):   "",
		strings.Repeat("x", maxSecretBytes+1): "larger than 65536 bytes",
		"":                                    "the file is empty",
		"\n":                                  "the file is empty",
	} {
		_, err := NewResolver(environ()).DSN(secret.DSN("${file:" + secretFile(t, content) + "}"))
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "xxxxxxx")
	}
}

func TestAllErrorsOfAnExpression(t *testing.T) {
	_, err := NewResolver(environ("A=1")).DSN("${A} ${B} ${C} ${D E}")
	require.ErrorContains(t, err, "${B}: the environment variable is not set")
	require.ErrorContains(t, err, "${C}: the environment variable is not set")
	require.ErrorContains(t, err, "${D E}: not the name of an environment variable")
	_, err = (Resolver{}).DSN("${A}")
	require.ErrorContains(t, err, "${A}: the environment variable is not set")
}

// TestAPasswordMayHoldAnyCharacter puts passwords of all kinds into connection
// strings of all forms, and asks the driver what it understands.
func TestAPasswordMayHoldAnyCharacter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.StringMatching(`[ -~äß✓\t]{1,20}`).Draw(t, "password")
		for _, form := range []string{
			"postgres://u:${PW}@db:5433/shop?sslmode=disable",
			"postgresql://${USER}:${PW}@db:5433/shop?sslmode=disable",
			"postgres://u@db:5433/shop?sslmode=disable&password=${PW}",
			"host=db port=5433 user=u dbname=shop sslmode=disable password=${PW}",
			"password=${PW} host=db port=5433 user=u dbname=shop sslmode=disable",
			"host=db port=5433 user=u dbname=shop sslmode=disable password = '${PW}'",
		} {
			dsn, err := NewResolver(environ("PW="+password, "USER=u")).DSN(secret.DSN(form))
			if err != nil {
				t.Fatalf("%s: %v", form, err)
			}
			c, err := pgconn.ParseConfig(dsn.Reveal())
			if err != nil {
				t.Fatalf("%s with %q: %v", form, password, err)
			}
			if c.Password != password || c.Host != "db" || c.Port != 5433 || c.User != "u" || c.Database != "shop" {
				t.Fatalf("%s with %q: password %q host %q port %d user %q database %q", form, password, c.Password, c.Host, c.Port, c.User, c.Database)
			}
		}
	})
}

func TestElsewhereAValueIsTakenAsItIs(t *testing.T) {
	r := NewResolver(environ("DSN=postgres://u:p%40@db/shop", "HOST=db:5433", "OPTIONS=sslmode=disable&connect_timeout=3", "KV=host=db user=u"))
	for form, want := range map[secret.DSN]string{
		"${DSN}":                           "postgres://u:p%40@db/shop",
		"postgres://u@${HOST}/shop":        "postgres://u@db:5433/shop",
		"postgres://${HOST}/shop":          "postgres://db:5433/shop",
		"postgres://${HOST}/shop?a=b@c":    "postgres://db:5433/shop?a=b@c",
		"postgres://u@db/shop?${OPTIONS}":  "postgres://u@db/shop?sslmode=disable&connect_timeout=3",
		"${KV} dbname=shop":                "host=db user=u dbname=shop",
		"host=x-${HOST}":                   "host=x-db:5433",
		"postgres://u:p@db/shop?host=$${X": "postgres://u:p@db/shop?host=${X",
	} {
		got, err := r.DSN(form)
		require.NoError(t, err, string(form.Reveal()))
		require.Equal(t, want, got.Reveal())
	}
}
