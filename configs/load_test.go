package configs

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walbridge/walbridge/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// environ makes an Env of pairs NAME=value.
func environ(pairs ...string) Env {
	return func(name string) (string, bool) {
		for _, p := range pairs {
			if n, v, _ := strings.Cut(p, "="); n == name {
				return v, true
			}
		}
		return "", false
	}
}

// write puts text into a file walbridge.yaml of its own directory.
func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "walbridge.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// problemsOf loads text and returns the problems as lines, the directory cut off.
func problemsOf(t testing.TB, text string, env ...string) []string {
	t.Helper()
	path := write(t, text)
	_, err := Load(path, environ(env...))
	if err == nil {
		return nil
	}
	var config *fault.ConfigError
	require.ErrorAs(t, err, &config)
	return strings.Split(strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", ""), "\n")
}

// load loads text, which must be valid.
func load(t testing.TB, text string, env ...string) Loaded {
	t.Helper()
	l, err := Load(write(t, text), environ(env...))
	require.NoError(t, err)
	return l
}

// valid is a file with all that must be given, and name for more.
const valid = `
source: {dsn: "host=localhost dbname=shop"}
routes: [{tables: ["public.*"], changes: {}}]
sink: {stdout: {}}
`

func TestDefaultsAreFilledIn(t *testing.T) {
	c := load(t, valid).Config
	require.Equal(t, "main", c.Name)
	require.Equal(t, "walbridge_main", c.Source.Slot)
	require.Equal(t, "walbridge.state", c.Sink.Stdout.State)
	require.Equal(t, Batch{MaxBytes: 4 << 20, MaxItems: 10_000, Wait: 5 * time.Millisecond}, c.Batch)
	require.Equal(t, Memory{Limit: 128 << 20, MaxRow: 32 << 20}, c.Memory)
	require.Equal(t, OnError{Policy: PolicyDeadLetter, MaxPerMinute: 60}, c.OnError)
	require.Equal(t, HTTP{Listen: "127.0.0.1:8480"}, c.HTTP)
	require.Equal(t, Log{Level: "info", Format: "text"}, c.Log)
	require.Equal(t, 10*time.Second, c.TakeoverAfter)
	require.Equal(t, MigrateNever, c.Migrate)
}

func TestEachKeyTakesItsValue(t *testing.T) {
	c := load(t, valid+`
name: shop
batch: {max_bytes: 2MiB, max_items: 7, wait: 1m}
memory: {limit: 256MiB, max_row: 16MiB}
on_error: {policy: halt, max_per_minute: 5}
http: {listen: "localhost:0", pprof: true}
log: {level: debug, format: json}
takeover_after: 1d
migrate: auto
`).Config
	require.Equal(t, "walbridge_shop", c.Source.Publication)
	require.Equal(t, Batch{MaxBytes: 2 << 20, MaxItems: 7, Wait: time.Minute}, c.Batch)
	require.Equal(t, Memory{Limit: 256 << 20, MaxRow: 16 << 20}, c.Memory)
	require.Equal(t, OnError{Policy: PolicyHalt, MaxPerMinute: 5}, c.OnError)
	require.Equal(t, HTTP{Listen: "localhost:0", Pprof: true}, c.HTTP)
	require.Equal(t, Log{Level: "debug", Format: "json"}, c.Log)
	require.Equal(t, 24*time.Hour, c.TakeoverAfter)
	require.Equal(t, MigrateAuto, c.Migrate)
}

func TestEnvironmentWinsOverTheFile(t *testing.T) {
	c := load(t, valid+"name: file\nbatch: {max_items: 5}\n",
		"WALBRIDGE_NAME=environment", "WALBRIDGE_BATCH_MAX_ITEMS=6", "WALBRIDGE_BATCH_WAIT=7ms", "WALBRIDGE_MEMORY_LIMIT=1GiB",
		"WALBRIDGE_HTTP_PPROF=true", "WALBRIDGE_SOURCE_DSN=host=other", "WALBRIDGE_SOURCE_PASSWORD_COMMAND=[token, --db, shop]").Config
	require.Equal(t, "environment", c.Name)
	require.Equal(t, 6, c.Batch.MaxItems)
	require.Equal(t, 7*time.Millisecond, c.Batch.Wait)
	require.Equal(t, int64(1<<30), c.Memory.Limit)
	require.True(t, c.HTTP.Pprof)
	require.Equal(t, "host=other", c.Source.DSN.Reveal())
	require.Equal(t, []string{"token", "--db", "shop"}, c.Source.PasswordCommand)
}

func TestEnvironmentAloneIsEnough(t *testing.T) {
	t.Chdir(t.TempDir())
	l, err := Load("", environ("WALBRIDGE_SOURCE_DSN=host=db", "WALBRIDGE_ROUTES=[{tables: [public.a], changes: {order: table}}]", "WALBRIDGE_SINK_WORKTABLE_DSN=host=db"))
	require.NoError(t, err)
	require.Empty(t, l.Path)
	require.Equal(t, "table", l.Config.Routes[0].Changes.Order)
	require.Equal(t, "host=db", l.Config.Sink.Worktable.DSN.Reveal())
	require.Equal(t, 64, l.Config.Sink.Worktable.Lanes)
}

func TestEnvironmentChoosesASectionWithoutKeys(t *testing.T) {
	t.Chdir(t.TempDir())
	l, err := Load("", environ("WALBRIDGE_SOURCE_DSN=host=db", "WALBRIDGE_ROUTES=[{tables: [public.a], changes: {}}]", "WALBRIDGE_SINK_STDOUT={}"))
	require.NoError(t, err)
	require.Equal(t, "stdout", l.Config.Sink.Kind())
}

func TestAnEmptyVariableCountsAsNotSet(t *testing.T) {
	c := load(t, valid+"name: file\n", "WALBRIDGE_NAME=", "WALBRIDGE_ROUTES=", "WALBRIDGE_BATCH_WAIT=").Config
	require.Equal(t, "file", c.Name)
	require.Len(t, c.Routes, 1)
	require.Equal(t, 5*time.Millisecond, c.Batch.Wait)
}

func TestProblemsNameTheVariable(t *testing.T) {
	require.Equal(t, []string{
		`WALBRIDGE_ROUTES: routes[0].tabels: unknown key (fix: did you mean tables?)`,
		`WALBRIDGE_BATCH_WAIT: batch.wait: expected a duration such as 5ms, 30s or 7d, found "soon"`,
		`WALBRIDGE_NAME: name: "My Shop" is not 1 to 40 of a-z, 0-9 and _ (fix: choose a short name, such as shop; it names the slot walbridge_shop)`,
	}, problemsOf(t, valid, "WALBRIDGE_NAME=My Shop", "WALBRIDGE_BATCH_WAIT=soon", "WALBRIDGE_ROUTES=[{tabels: [public.a], changes: {}}]"))
	require.Equal(t, []string{"WALBRIDGE_ROUTES: routes: not YAML: sequence end token ']' not found"}, problemsOf(t, valid, "WALBRIDGE_ROUTES=[{tables: [a]}"))
}

func TestEachKeyHasAnEnvironmentFormOfItsOwn(t *testing.T) {
	seen := map[string]string{PathVariable: "the file", "WALBRIDGE_PG_BIN": "PostgreSQL", "WALBRIDGE_TEST_PG": "the tests"}
	var visit func(reflect.Type, string)
	visit = func(typ reflect.Type, path string) {
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for _, f := range fieldsOf(typ) {
			p := join(path, f.key)
			require.Empty(t, seen[EnvName(p)], p)
			seen[EnvName(p)] = p
			visit(f.typ, p)
		}
	}
	visit(reflect.TypeFor[Config](), "")
	require.Equal(t, "source.dsn", seen["WALBRIDGE_SOURCE_DSN"])
	require.Equal(t, "sink.worktable.dsn", seen["WALBRIDGE_SINK_WORKTABLE_DSN"])
}

func TestWhichFileIsRead(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"walbridge.yaml", "variable.yaml", "flag.yaml"} {
		require.NoError(t, os.WriteFile(name, []byte(valid), 0o600))
	}
	for _, c := range []struct{ flag, variable, want string }{
		{"flag.yaml", "WALBRIDGE_CONFIG=variable.yaml", "flag.yaml"},
		{"", "WALBRIDGE_CONFIG=variable.yaml", "variable.yaml"},
		{"", "WALBRIDGE_CONFIG=", "walbridge.yaml"},
		{"", "", "walbridge.yaml"},
	} {
		l, err := Load(c.flag, environ(c.variable))
		require.NoError(t, err)
		require.Equal(t, c.want, l.Path)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "none.yaml: no such file (fix: walbridge config example > ",
		dir:                             "cannot be read: is a directory",
		write(t, strings.Repeat("# much\n", MaxFileBytes/7+1)): "larger than 256 KiB",
	} {
		_, err := Load(path, environ())
		var config *fault.ConfigError
		require.ErrorAs(t, err, &config)
		require.ErrorContains(t, err, want)
	}
}

func TestNothingGivenSaysWhatToDo(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := Load("", environ())
	require.ErrorContains(t, err, "walbridge.yaml: missing or empty, and no WALBRIDGE_… variable sets a key (fix: walbridge config example > walbridge.yaml")
}

func TestDeepNestingIsRefusedInNoTime(t *testing.T) {
	for _, text := range []string{strings.Repeat("[", MaxFileBytes-1), strings.Repeat("{a: ", MaxFileBytes/4-1), strings.Repeat("- ", MaxFileBytes/2-1), strings.Repeat("? ", MaxFileBytes/2-1)} {
		problems := problemsOf(t, text)
		require.Len(t, problems, 1)
		require.Contains(t, problems[0], "nested more than 64 deep")
	}
	deep := strings.Builder{}
	for i := range 700 {
		deep.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	require.Contains(t, problemsOf(t, deep.String())[0], "a: unknown key", "as deep as lines of spaces can get within the limit")
}

func TestASectionWithoutAValueIsChosen(t *testing.T) {
	c := load(t, "source: {dsn: host=db}\nroutes: [{tables: [public.a], changes: }]\nsink:\n  stdout:\n").Config
	require.Equal(t, "stdout", c.Sink.Kind())
	require.Equal(t, "walbridge", c.Routes[0].Changes.Envelope)
}

func TestTextsAreTakenAsTheyAreWritten(t *testing.T) {
	for written, want := range map[string]string{`0123`: "0123", `1_0`: "1_0", `true`: "true", `"no"`: "no", `|-` + "\n  abc": "abc", `'it_s'`: "it_s"} {
		require.Equal(t, want, load(t, valid+"name: "+written+"\n").Config.Name)
	}
}

func TestWarningsDoNotStop(t *testing.T) {
	l := load(t, valid+"http: {listen: \"0.0.0.0:8480\", pprof: true}\n")
	require.Len(t, l.Warnings, 2)
	require.Contains(t, l.Warnings[0].String(), ":5:8: http.listen: 0.0.0.0:8480 can be reached from other machines")
	require.Contains(t, l.Warnings[1].String(), "http.pprof: profiles can be fetched")
	for _, listen := range []string{"127.0.0.1:1", "[::1]:1", "localhost:1", "127.1.2.3:0"} {
		require.Empty(t, load(t, valid+"http: {listen: \""+listen+"\", pprof: true}\n").Warnings, listen)
	}
	for _, listen := range []string{":8480", "[::]:8480", "10.0.0.1:8480", "shop.example:8480"} {
		require.Len(t, load(t, valid+"http: {listen: \""+listen+"\"}\n").Warnings, 1, listen)
	}
}

func TestSecretsAreNotInProblems(t *testing.T) {
	for _, text := range []string{
		"source: {dsn: 'postgres://u:MARKER@h/db'x}\n",
		"source:\n  dsn: postgres://u:MARKER@h: x\n",
		"source: postgres://u:MARKER@h/db\n",
		"source: {dsn: 'postgres://u:MARKER@h:port/db'}\n",
		"source: {dsn: \"host=h password='MARKER\"}\n",
		"source: {dsn: [\"password=MARKER\"]}\nname: host=x password=MARKER\nbatch: {wait: password=MARKER}\n",
		"sink: {worktable: {dsn: 'postgres://u:MARKER@h:port/db'}}\n",
	} {
		for _, p := range problemsOf(t, text) {
			require.NotContains(t, p, "MARKER", text)
		}
	}
	for _, p := range problemsOf(t, valid+"batch: {wait: \"${PW}\"}\n", "PW=MARKER") {
		require.Contains(t, p, "found the value of ${PW}")
		require.NotContains(t, p, "MARKER")
	}
}

func TestServersThatAreNotVerifiedAreWarnedOf(t *testing.T) {
	for dsn, warned := range map[string]bool{
		"postgres://u@db/shop":                              true, // libpq's default: prefer
		"postgres://u@db/shop?sslmode=disable":              true,
		"postgres://u@db/shop?sslmode=allow":                true,
		"postgres://u@db/shop?sslmode=require":              true,
		"postgres://u@db/shop?sslmode=verify-ca":            false,
		"postgres://u@db/shop?sslmode=verify-full":          false,
		"host=db user=u sslmode=verify-full":                false,
		"host=localhost,db user=u":                          true,
		"host=localhost user=u":                             false,
		"postgres://u@127.0.0.1/shop":                       false,
		"postgres://u@[::1]/shop":                           false,
		"host=/run/postgresql user=u":                       false,
		"postgres://u:MARKER@10.1.2.3/shop?sslmode=disable": true,
		"host=db user=u password='MARKER ' sslmode=disable": true,
	} {
		l := load(t, strings.Replace(valid, "host=localhost dbname=shop", dsn, 1))
		if !warned {
			require.Empty(t, l.Warnings, dsn)
			continue
		}
		require.Len(t, l.Warnings, 1, dsn)
		require.Contains(t, l.Warnings[0].String(), ":2:10: source.dsn: the connection to ")
		require.NotContains(t, l.Warnings[0].String(), "MARKER")
	}
	l := load(t, "source: {dsn: host=localhost, replication_dsn: host=a}\nroutes: [{tables: [public.a], changes: {}}]\nsink: {worktable: {dsn: host=b}}\n")
	require.Len(t, l.Warnings, 2)
	require.Contains(t, l.Warnings[0].Where, "source.replication_dsn")
	require.Contains(t, l.Warnings[1].Where, "sink.worktable.dsn")
}

// FuzzLoad looks for a file that makes Load panic, or that it takes and cannot
// show and take again.
func FuzzLoad(f *testing.F) {
	f.Add(valid)
	f.Add(string(Example()))
	for _, bad := range badFiles(f) {
		f.Add(bad.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 16<<10 {
			return
		}
		l, err := loadText("walbridge.yaml", []byte(text), environ("SET=value"))
		if err != nil {
			var config *fault.ConfigError
			require.ErrorAs(t, err, &config)
			return
		}
		_, err = l.Show()
		require.NoError(t, err)
	})
}
