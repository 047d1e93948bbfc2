package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// A database without a table for a route gives no file that does not load, but a
// word on what is missing and how to go on.
func TestInitRefusesADatabaseWithoutAUsableTable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tables string
		says   []string
	}{
		"empty":       {"", []string{"the database has no tables, so there is no route to write", "run this again", `routes: [{tables: ["public.*"], changes: {}}]`}},
		"without key": {"CREATE TABLE audit (line text); CREATE TABLE notes (line text)", []string{"without a key are public.audit, public.notes", "ADD PRIMARY KEY", "REPLICA IDENTITY FULL"}},
	} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.Shared(t).DB(t)
			db.Exec(t, c.tables)
			r := invoke(t, nil, "init", "--source", db.DSN())
			require.Equal(t, exitUsage, r.code)
			require.Empty(t, r.stdout)
			require.Equal(t, 1, strings.Count(r.stderr, "error: "))
			for _, says := range c.says {
				require.Contains(t, r.stderr, says)
			}
		})
	}
}

// The way out that an empty database gets is one that loads.
func TestInitNamesARouteThatLoads(t *testing.T) {
	err := nothingToRead("shop", nil)
	_, route, ok := strings.Cut(err.Error(), "routes: ")
	require.True(t, ok)
	text := "source: {dsn: postgres://u@h/d}\nsink: {stdout: {}}\nroutes: " + strings.TrimSuffix(route, ")") + "\n"
	_, err = configs.Parse("walbridge.yaml", []byte(text), noVariables)
	require.NoError(t, err)
}

// What init writes loads, with a variable for the password of each database, and
// never holds a password.
func TestInitWritesAVariableForEachPassword(t *testing.T) {
	t.Parallel()
	db := shopDB(t)
	source, other := db.DSNAs("postgres", "MARKER"), strings.Replace(db.DSNAs("postgres", "MARKER2"), db.Name(), "work", 1)
	const fromSource, fromSink = "${WALBRIDGE_SOURCE_PASSWORD}", "${WALBRIDGE_SINK_PASSWORD}"
	for name, c := range map[string]struct {
		args         []string
		source, sink int // how often each variable is used
		head         string
	}{
		"no password":    {[]string{"--source", db.DSN()}, 0, 0, ""},
		"one database":   {[]string{"--source", source}, 2, 0, "environment: WALBRIDGE_SOURCE_PASSWORD.\n"},
		"two databases":  {[]string{"--source", source, "--sink", other}, 1, 1, "environment: WALBRIDGE_SOURCE_PASSWORD, WALBRIDGE_SINK_PASSWORD.\n"},
		"only the sink":  {[]string{"--source", db.DSN(), "--sink", other}, 0, 1, "environment: WALBRIDGE_SINK_PASSWORD.\n"},
		"keyword values": {[]string{"--source", db.DSN(), "--sink", "host=db password='MARKER x' dbname=work sslmode=verify-full"}, 0, 1, "environment: WALBRIDGE_SINK_PASSWORD.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := invoke(t, nil, append([]string{"init", "--name", "shop"}, c.args...)...)
			require.Equal(t, exitOK, r.code, r.stderr)
			require.NotContains(t, r.stdout+r.stderr, "MARKER")
			require.Equal(t, c.source, strings.Count(r.stdout, fromSource), r.stdout)
			require.Equal(t, c.sink, strings.Count(r.stdout, fromSink), r.stdout)
			require.Contains(t, r.stdout, c.head)
			env := map[string]string{"WALBRIDGE_SOURCE_PASSWORD": "one", "WALBRIDGE_SINK_PASSWORD": "two"}
			valid := invoke(t, env, "config", "validate", "--config", configFile(t, r.stdout))
			require.Equal(t, exitOK, valid.code, valid.stderr)
			require.Empty(t, valid.stderr)
		})
	}
}

// The longest file that there is: every kind of route, tables that cannot be read, tables
// left out, passwords.
func TestInitWritesAtMostFifteenLines(t *testing.T) {
	t.Parallel()
	db := shopDB(t)
	db.Exec(t, `CREATE SCHEMA walbridge; CREATE TABLE walbridge.inbox (n bigint PRIMARY KEY);
		CREATE TABLE public.visits (page text); ALTER TABLE public.visits REPLICA IDENTITY FULL`)
	r := invoke(t, nil, "init", "--source", db.DSNAs("postgres", "x"))
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Equal(t, 15, strings.Count(r.stdout, "\n"), r.stdout)
	for _, kind := range []string{"outbox: {}", "inbox: {}", "changes: {}\n    snapshot: initial # ",
		`- {tables: ["public.visits"], changes: {}, snapshot: never} # without a key`, "left out"} {
		require.Contains(t, r.stdout, kind)
	}
	valid := invoke(t, map[string]string{sourcePassword: "x"}, "config", "validate", "--config", configFile(t, r.stdout))
	require.Equal(t, exitOK, valid.code, valid.stderr)
}

func TestInitRefusesANameThatNoBridgeCanHave(t *testing.T) {
	t.Parallel()
	r := invoke(t, nil, "init", "--source", shopDB(t).DSN(), "--name", "Shop!")
	require.Equal(t, exitUsage, r.code)
	require.Empty(t, r.stdout)
	require.Contains(t, r.stderr, `"Shop!" is not 1 to 40 of a-z, 0-9 and _`)
}
