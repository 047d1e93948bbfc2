package configs

import (
	"math"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/sink/worktable"
)

// exampleDSN is the connection string of both example files.
const exampleDSN = "postgres://walbridge@db.example:5432/shop?sslmode=verify-full"

func TestExampleIsTheDefaults(t *testing.T) {
	got := load(t, string(Example()))
	want := Config{
		Source: replication.Config{DSN: exampleDSN},
		Routes: []mapper.Route{{Tables: []string{"public.outbox"}, Outbox: &mapper.Outbox{}}, {Tables: []string{"public.*"}, Changes: &mapper.Changes{}}},
		Sink:   Sink{Worktable: &worktable.Config{DSN: exampleDSN}},
	}.WithDefaults()
	want.Source.PasswordCommand = []string{}
	want.Routes[0].Exclude, want.Routes[0].Messages = []string{}, []string{}
	want.Routes[0].Outbox.Extra = []string{}
	require.Equal(t, want, got.Config)
	require.Empty(t, got.Warnings)
}

func TestExampleExplainsEveryKey(t *testing.T) {
	text := string(Example())
	for _, path := range allKeys(reflect.TypeFor[Config](), "") {
		key := path[strings.LastIndexByte(path, '.')+1:]
		require.Regexp(t, regexp.MustCompile(`(?m)^[ #-]*`+regexp.QuoteMeta(key)+`:`), text, path)
	}
	before := ""
	for line := range strings.Lines(text) {
		key := regexp.MustCompile(`^ *(- )?[a-z_]+:`).MatchString(line)
		if key && !strings.Contains(line, "#") && strings.TrimSpace(before) == "" && !strings.HasPrefix(line, "log:") {
			t.Errorf("no comment above or beside %q", line)
		}
		before = line
	}
}

// allKeys returns the pattern of every key that this version has, below path.
func allKeys(t reflect.Type, path string) []string {
	switch t.Kind() {
	case reflect.Pointer:
		return allKeys(t.Elem(), path)
	case reflect.Slice:
		return allKeys(t.Elem(), path+"[]")
	case reflect.Struct:
	default:
		return nil
	}
	var all []string
	for _, f := range fieldsOf(t) {
		p := join(path, f.key)
		all = append(append(all, p), allKeys(f.typ, p)...)
	}
	return all
}

func TestMinimalFile(t *testing.T) {
	text, err := os.ReadFile("minimal.yaml")
	require.NoError(t, err)
	require.LessOrEqual(t, strings.Count(string(text), "\n"), 15)
	require.Empty(t, load(t, string(text)).Warnings)
}

func TestShowIsReadBackAsTheSame(t *testing.T) {
	l := load(t, string(Example()))
	shown, err := l.Show()
	require.NoError(t, err)
	again := load(t, string(shown))
	l.Config.Source.PasswordCommand, l.Config.Routes[0].Exclude, l.Config.Routes[0].Messages, l.Config.Routes[0].Outbox.Extra = nil, nil, nil, nil
	require.Equal(t, l.Config, again.Config)
}

func TestShowResolvesAndRedacts(t *testing.T) {
	l := load(t, `
source:
  dsn: "${DSN}"
  replication_dsn: "host=direct user=u password=${PW}"
routes: [{tables: ["public.*"], changes: {}, columns: {mask: {email: hash}, mask_key: MARKER}}]
sink: {worktable: {dsn: "postgres://u:${file:`+secretFile(t, "MARKER")+`}@db/shop"}}
batch: {max_items: "${ITEMS}"}
`, "DSN=postgres://u:MARKER@fromenv/shop", "PW=MARKER MARKER", "ITEMS=77")
	b, err := l.Show()
	require.NoError(t, err)
	shown := string(b)
	require.NotContains(t, shown, "MARKER")
	require.Contains(t, shown, "dsn: postgres://u:xxxxx@fromenv/shop")
	require.Contains(t, shown, "host=direct user=u password=xxxxx")
	require.Contains(t, shown, "dsn: postgres://u:xxxxx@db/shop")
	require.Contains(t, shown, "mask_key: xxxxx")
	require.Contains(t, shown, "max_items: 77")
	require.Contains(t, l.Config.Sink.Worktable.DSN.Reveal(), "${file:", "showing changes nothing")
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "5ms": 5 * time.Millisecond, "7d": 7 * day, "1d12h": 36 * time.Hour, "0d": 0, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "-5s": -5 * time.Second,
	} {
		got, err := ParseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "5", "d", "1.5d", "-1d", "1d-2h", "1dd", "1h1d", "106752d", "99999999999d", "106751d24h", "5 ms", "forever", "0x1d"} {
		_, err := ParseDuration(text)
		require.Error(t, err, text)
	}
	for d, want := range map[time.Duration]string{0: "0s", time.Hour: "1h", 5 * time.Minute: "5m", 90 * time.Second: "1m30s", 7 * day: "7d", 36 * time.Hour: "1d12h", day + time.Second: "1d1s", 10 * time.Second: "10s", 20 * time.Minute: "20m"} {
		require.Equal(t, want, FormatDuration(d))
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "d"))
		if got, err := ParseDuration(FormatDuration(d)); err != nil || got != d {
			t.Fatalf("%s: got %v, %v", FormatDuration(d), got, err)
		}
	})
}

func TestNearest(t *testing.T) {
	names := []string{"dsn", "slot", "publication", "failover", "log", "max_bytes", "max_items"}
	for key, want := range map[string]string{
		"dns": "dsn", "DSN": "dsn", "publicaton": "publication", "max_byte": "max_bytes", "fail_over": "failover", "lgo": "log",
		"foo": "", "x": "", "": "", "colour": "", strings.Repeat("dsn", 100): "",
	} {
		got, ok := nearest(key, names)
		require.Equal(t, want != "", ok, key)
		if ok {
			require.Equal(t, want, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.StringN(0, 20, 64).Draw(t, "a"), rapid.StringN(0, 20, 64).Draw(t, "b")
		if d := distance(a, b); d != distance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Fatalf("distance of %q and %q: %d, the other way %d", a, b, d, distance(b, a))
		}
	})
}
