package replication

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
)

func TestConfig(t *testing.T) {
	c := Config{DSN: "postgres://u@h/d"}.WithDefaults("shop")
	require.Equal(t, Config{DSN: "postgres://u@h/d", ReplicationDSN: "postgres://u@h/d", Slot: "walbridge_shop", Publication: "walbridge_shop", Failover: "auto",
		OnNewTable: "alert", CoverageInterval: 30 * time.Second}, c)
	require.Empty(t, c.Validate())

	for name, c := range map[string]struct {
		key    string
		change func(*Config)
	}{
		"no DSN":               {"source.dsn", func(c *Config) { c.DSN = ""; c.ReplicationDSN = "" }},
		"bad DSN":              {"source.dsn", func(c *Config) { c.DSN = "postgres://u:secretword@h:port/d"; c.ReplicationDSN = c.DSN }},
		"bad replication DSN":  {"source.replication_dsn", func(c *Config) { c.ReplicationDSN = "postgres://u:secretword@h:port/d" }},
		"slot in upper case":   {"source.slot", func(c *Config) { c.Slot = "Shop" }},
		"slot too long":        {"source.slot", func(c *Config) { c.Slot = strings.Repeat("a", 64) }},
		"two publications":     {"source.publication", func(c *Config) { c.Publication = "a,b" }},
		"publication too long": {"source.publication", func(c *Config) { c.Publication = strings.Repeat("ä", 32) }},
		"failover":             {"source.failover", func(c *Config) { c.Failover = "maybe" }},
		"new table":            {"source.on_new_table", func(c *Config) { c.OnNewTable = "ignore" }},
		"coverage interval":    {"source.coverage_interval", func(c *Config) { c.CoverageInterval = time.Millisecond }},
		"password command":     {"source.password_command", func(c *Config) { c.PasswordCommand = []string{""} }},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{DSN: "postgres://u@h/d"}.WithDefaults("shop")
			c.change(&cfg)
			found := cfg.Validate()
			require.Len(t, found, 1)
			require.Equal(t, c.key, found[0].Where)
			require.NotEmpty(t, found[0].Fix)
			require.NotContains(t, found[0].String(), "secretword")
			_, err := New(cfg, "shop", hclog.NewNullLogger())
			require.ErrorAs(t, err, new(*fault.ConfigError))
		})
	}
}

func TestPasswordCommand(t *testing.T) {
	run := func(within time.Duration, argv ...string) (string, error) { return password(t.Context(), argv, within) }
	got, err := run(time.Minute, "printf", "%s\n", "a b$c")
	require.NoError(t, err)
	require.Equal(t, "a b$c", got, "no shell, and the last line's end is not part of it")

	for name, argv := range map[string][]string{
		"fails":       {"sh", "-c", "echo hushhush; echo hushhush >&2; exit 3"},
		"nothing":     {"true"},
		"too much":    {"sh", "-c", "yes hushhush | head -c 100000"},
		"not found":   {"/no/such/program"},
		"much and no": {"sh", "-c", "yes hushhush | head -c 100000; exit 1"},
	} {
		_, err := run(time.Minute, argv...)
		require.Error(t, err, name)
		require.Contains(t, err.Error(), argv[0])
		require.NotContains(t, err.Error(), "hushhush", name)
	}
	_, err = run(50*time.Millisecond, "sleep", "60")
	require.ErrorContains(t, err, "no password within 50ms")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = password(ctx, []string{"sleep", "60"}, time.Minute)
	require.ErrorIs(t, err, context.Canceled)
}

// The password of the command wins over the DSN's, and no connection error shows
// either.
func TestPasswordsStaySecret(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	cfg := Config{DSN: secret.DSN("postgres://u:fromthedsn@" + addr + "/d?sslmode=disable"), PasswordCommand: []string{"echo", "fromthecommand"}}.WithDefaults("x")
	s, err := New(cfg, "x", hclog.NewNullLogger())
	require.NoError(t, err)
	c, err := s.config(t.Context(), cfg.DSN)
	require.NoError(t, err)
	require.Equal(t, "fromthecommand", c.Password)
	_, err = s.Inspect(t.Context())
	require.Equal(t, ReasonNetwork, fault.Reason(err))
	for _, shown := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprint(s.DSN())} {
		require.NotContains(t, shown, "fromthe")
	}
}

func TestResolveAtEachAttempt(t *testing.T) {
	n := 0
	cfg := Config{DSN: "${file:dsn}", Resolve: func(d secret.DSN) (secret.DSN, error) {
		n++
		return secret.DSN(fmt.Sprintf("postgres://u:p%d@h/d", n)), nil
	}}.WithDefaults("x")
	s, err := New(cfg, "x", hclog.NewNullLogger())
	require.NoError(t, err)
	for i := 1; i <= 2; i++ {
		c, err := s.config(t.Context(), cfg.DSN)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("p%d", i), c.Password)
	}
}

func TestVerified(t *testing.T) {
	for dsn, want := range map[string]bool{
		"postgres://u@db/d?sslmode=verify-full":              true,
		"postgres://u@db/d?sslmode=verify-ca":                false,
		"postgres://u@db/d?sslmode=require":                  false,
		"postgres://u@db/d":                                  false,
		"postgres://u@db/d?sslmode=disable":                  false,
		"postgres://u@localhost/d?sslmode=disable":           true,
		"postgres://u@127.0.0.1/d?sslmode=disable":           true,
		"postgres://u@[::1]/d":                               true,
		"host=/run/postgresql dbname=d":                      true,
		"postgres://u@localhost,db/d?sslmode=disable":        false,
		"postgres://u@db1,db2/d?sslmode=verify-full":         true,
		"host=db,/run/postgresql sslmode=prefer dbname=d":    false,
		"host=/run/postgresql,db sslmode=verify-full user=u": true,
	} {
		cfg, err := pgconn.ParseConfig(dsn)
		require.NoError(t, err, dsn)
		require.Equal(t, want, verified(cfg), dsn)
	}
}

func TestQuoting(t *testing.T) {
	require.Equal(t, `"My ""Pub"`, quoteIdent(`My "Pub`))
	require.Equal(t, `'it''s'`, quoteLiteral(`it's`))
	require.Equal(t, ` E'back\\slash'`, quoteLiteral(`back\slash`))
	require.Equal(t, `'it''s\'`, quoteOption(`it's\`))
	require.Equal(t, `proto_version '1', publication_names '"it''s ""it"""', messages 'true'`, pluginOptions(`it's "it"`))
}

func TestCreateSlotCommand(t *testing.T) {
	for _, c := range []struct {
		major    int
		failover string
		want     string
	}{
		{14, FailoverAuto, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput NOEXPORT_SNAPSHOT`},
		{15, FailoverAuto, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput (SNAPSHOT 'nothing')`},
		{16, FailoverOff, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput (SNAPSHOT 'nothing')`},
		{17, FailoverAuto, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput (SNAPSHOT 'nothing', FAILOVER)`},
		{18, FailoverOn, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput (SNAPSHOT 'nothing', FAILOVER)`},
		{18, FailoverOff, `CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput (SNAPSHOT 'nothing')`},
	} {
		got, err := (&Source{cfg: Config{Slot: "s", Failover: c.failover}}).createSlotCommand("s", slotForm{major: c.major})
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	_, err := (&Source{cfg: Config{Slot: "s", Failover: FailoverOn}}).createSlotCommand("s", slotForm{major: 16})
	require.ErrorAs(t, err, new(*fault.ConfigError))
}
