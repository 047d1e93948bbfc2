package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// Tests of the commands that only look: status, doctor, peek.

// A page that is another bridge's, or none at all, is not taken for ours.
func TestStatusNamesAnotherBridgeThatAnswers(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for name, c := range map[string]struct{ answer, says string }{
		"another bridge": {`{"bridge": "other", "state": "streaming", "ready": true}`, `another bridge, "other", answers at `},
		"no bridge":      {`<html>hello`, "no bridge answers at "},
		"other JSON":     {`{"ready": true}`, "no bridge answers at "},
	} {
		t.Run(name, func(t *testing.T) {
			page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, c.answer) }))
			defer page.Close()
			env := map[string]string{"WALBRIDGE_HTTP_LISTEN": strings.TrimPrefix(page.URL, "http://")}
			for _, json := range []bool{false, true} {
				args := []string{"status", "--config", s.path}
				if json {
					args = append(args, "--json")
				}
				r := invoke(t, env, args...)
				require.Equal(t, exitFailure, r.code, "it is not our bridge that is ready")
				require.Contains(t, strings.ReplaceAll(r.stdout, `\"`, `"`), c.says)
				require.Contains(t, r.stdout, "stopped")
			}
		})
	}
}

// When the databases do not answer either, it is still said who does.
func TestStatusNamesAnotherBridgeWithoutADatabase(t *testing.T) {
	t.Parallel()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"bridge": "other"}`) }))
	defer page.Close()
	nowhere := "postgres://u@127.0.0.1:1/shop?sslmode=disable"
	path := configFile(t, config("shop", nowhere, worktableAt(nowhere)))
	r := invoke(t, map[string]string{"WALBRIDGE_HTTP_LISTEN": strings.TrimPrefix(page.URL, "http://")}, "status", "--config", path)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, `another bridge, "other", answers`)
}

func TestDoctorAsJSONIsRedacted(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out, json: true}
	require.NoError(t, a.diagnosis([]fault.Problem{{
		Check: "c", Where: "postgres://u:MARKER@db/shop", What: "password=MARKER", Why: "postgres://u:MARKER@db/shop", Fix: "password='MARKER x'",
	}}, 1))
	require.NotContains(t, out.String(), "MARKER")
	require.JSONEq(t, `{"ok": false, "problems": [{"check": "c", "warning": false, "where": "postgres://u:xxxxx@db/shop",
		"what": "password=xxxxx", "why": "postgres://u:xxxxx@db/shop", "fix": "password=xxxxx"}]}`, out.String())
}

// A bridge whose position is in a file has nothing wrong with its slot, running or
// not; doctor and status read the file.
func TestDoctorReadsTheStateFile(t *testing.T) {
	t.Parallel()
	db := shopDB(t)
	s := newSite(t, db, config(bridgeName(db.Name()), db.DSN(), "stdout: {state: "+folder(t, "state")+"}"))
	s.do(t, exitOK, "setup")
	r := s.run(t)
	s.do(t, exitOK, "doctor")
	require.Equal(t, exitOK, r.stopped(t), r.errs.String())
	s.do(t, exitOK, "doctor")
	require.Regexp(t, `confirmed [0-9A-F]+/`, s.do(t, exitFailure, "status").stdout)
	db.Exec(t, "SELECT pg_drop_replication_slot($1)", "walbridge_"+s.name())
	require.Contains(t, s.do(t, exitFailure, "doctor").stdout, "is gone")
}

// The position of a bridge that runs may be newer than what doctor has read of the
// server; that is no server that has lost WAL.
func TestDoctorReadsABusyServerTwice(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.Equal(t, exitOK, s.run(t).stopped(t))
	loaded, err := configs.Load(s.path, noVariables)
	require.NoError(t, err)
	src, err := source(loaded, hclog.NewNullLogger())
	require.NoError(t, err)
	srv, err := src.Inspect(t.Context())
	require.NoError(t, err)
	srv.WALEnd = lsn.LSN(1)
	require.Empty(t, positionFindings(t.Context(), loaded, src, srv))
}

// Peek shows what commits and leaves nothing behind, however it ends.
func TestPeekLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	const insert = "INSERT INTO public.orders VALUES (9182, 'paid')"
	for name, c := range map[string]struct {
		peek func(t *testing.T, db *pgtest.DB)
	}{
		"time is up": {func(t *testing.T, db *pgtest.DB) {
			r := begin(t, nil, "peek", "--source", db.DSN(), "public.*", "--for", "2s")
			pgtest.Eventually(t, within, func() bool { return strings.Contains(r.errs.String(), "showing what commits") }, "it begins")
			db.Exec(t, insert)
			require.Equal(t, exitOK, r.wait(t), r.errs.String())
			require.Contains(t, r.out.String(), "9182")
			require.Contains(t, r.errs.String(), "public.audit is not shown: it is unlogged, or has no key")
		}},
		"interrupted": {func(t *testing.T, db *pgtest.DB) {
			p := pgtest.Run(t, "peek", "--source", db.DSN(), "public.orders", "--json")
			p.WaitLine(t, within, "showing what commits")
			db.Exec(t, insert)
			p.WaitLine(t, within, "9182")
			require.NoError(t, p.Signal(syscall.SIGINT))
			require.Equal(t, exitOK, p.WaitExit(t, within), p.Output())
		}},
		"interrupted while it waits for a transaction": {func(t *testing.T, db *pgtest.DB) {
			tx, err := db.Conn(t).Begin(t.Context())
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), insert)
			require.NoError(t, err)
			r := begin(t, nil, "peek", "--source", db.DSN(), "public.legacy_customers")
			pgtest.Eventually(t, within, func() bool {
				return db.One(t, "SELECT count(*) FROM pg_replication_slots WHERE database = $1", db.Name()) == "1"
			}, "the slot is being made")
			require.Equal(t, exitOK, r.stopped(t), r.errs.String())
			require.NotContains(t, r.errs.String(), "showing what commits")
			require.NoError(t, tx.Rollback(t.Context()))
		}},
		"no table": {func(t *testing.T, db *pgtest.DB) {
			r := invoke(t, nil, "peek", "--source", db.DSN(), "public.audit")
			require.Equal(t, exitUsage, r.code)
			require.Contains(t, r.stderr, "no table with a key matches")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			db := shopDB(t)
			c.peek(t, db)
			nothingLeft(t, db, "walbridge_peek_")
		})
	}
}
