package replication

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// This file has what a server refuses and how it is told, and the ways to a server
// that are not plain.

// requireProblem checks that an error is one problem of the configuration, in one
// line with the way out.
func requireProblem(t *testing.T, err error, check, fix string) {
	t.Helper()
	var config *fault.ConfigError
	require.ErrorAs(t, err, &config)
	require.Len(t, config.Problems, 1)
	require.Equal(t, check, config.Problems[0].Check)
	require.Contains(t, config.Problems[0].Fix, fix)
	require.NotContains(t, config.Error(), "\n")
}

func TestPublicationWithoutRights(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	db := c.DB(t)
	db.Exec(t, "CREATE ROLE repl LOGIN REPLICATION; CREATE TABLE a (id int PRIMARY KEY)")
	p, _ := plan(t, testSource(t, db, db.DSN()), "public.a")
	requireProblem(t, testSource(t, db, db.DSNAs("repl", "")).ApplyPublication(t.Context(), p), "rights", "CREATE PUBLICATION")
}

func TestRefusedLogin(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.HBA("host all locked 127.0.0.1/32 scram-sha-256"))
	db := c.DB(t)
	db.Exec(t, "CREATE ROLE locked LOGIN REPLICATION PASSWORD 'right'")
	s := testSource(t, db, db.DSNAs("locked", "wrongsecret"))
	_, err := s.Inspect(t.Context())
	requireProblem(t, err, "login", "pg_hba.conf")
	require.NotContains(t, err.Error(), "wrongsecret")
	s.cfg.PasswordCommand = []string{"echo", "right"}
	srv, err := s.Inspect(t.Context())
	require.NoError(t, err)
	require.NoError(t, srv.ReplicationErr)
}

// A prepared transaction holds up a new slot as an open one does, has no process,
// and is named by its identifier.
func TestSlotCreationNamesPreparedTransactions(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	db, elsewhere := c.DB(t), c.DB(t)
	s := testSource(t, db, db.DSN())
	s.limits.slot, s.limits.slotBlockers = time.Second, 50*time.Millisecond
	elsewhere.Exec(t, "CREATE TABLE a (id int)")
	writer := elsewhere.Conn(t)
	_, err := writer.Exec(t.Context(), "BEGIN; INSERT INTO a VALUES (1); PREPARE TRANSACTION 'half a transfer'")
	require.NoError(t, err)
	_, err = s.CreateSlot(t.Context())
	require.Equal(t, ReasonBlocked, fault.Reason(err))
	require.ErrorContains(t, err, "half a transfer")
	_, err = writer.Exec(t.Context(), "ROLLBACK PREPARED 'half a transfer'")
	require.NoError(t, err)
	_, err = s.CreateSlot(t.Context())
	require.NoError(t, err)
}

// Defaults of the role and the database change how values are written; ours win.
func TestSessionSettingsArePinned(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		db.Exec(t, "CREATE ROLE poisoned LOGIN SUPERUSER REPLICATION")
		settings := []string{"datestyle = 'German'", "bytea_output = 'escape'", "intervalstyle = 'iso_8601'", "extra_float_digits = -5", "timezone = 'Asia/Kolkata'",
			"client_encoding = 'LATIN1'", "statement_timeout = '1s'", "idle_session_timeout = '1s'", "lock_timeout = '1s'", "standard_conforming_strings = off", "search_path = nowhere"}
		if c.Major() >= 17 {
			settings = append(settings, "transaction_timeout = '1s'")
		}
		for _, set := range settings {
			db.Exec(t, "ALTER ROLE poisoned SET "+set)
			db.Exec(t, "ALTER DATABASE "+quoteIdent(db.Name())+" SET "+set)
		}
		owner := db.Conn(t) // its own search path would be poisoned too
		_, err := owner.Exec(t.Context(), "SET search_path = public; SET client_encoding = 'UTF8'")
		require.NoError(t, err)
		s := testSource(t, db, db.DSNAs("poisoned", ""))
		s.cfg.Publication = `back\slash`
		_, err = owner.Exec(t.Context(), `CREATE TABLE a (id int PRIMARY KEY, t timestamptz, b bytea, i interval, f float8, s text);
			CREATE PUBLICATION "back\slash" FOR TABLE a`)
		require.NoError(t, err)
		srv, err := s.Inspect(t.Context())
		require.NoError(t, err)
		require.NoError(t, srv.ReplicationErr)
		require.NotNil(t, srv.Published)
		at, err := s.CreateSlot(t.Context())
		require.NoError(t, err)
		_, err = owner.Exec(t.Context(), `INSERT INTO a VALUES (1, '2024-02-03 04:05:06.789+00', decode('00ff41', 'hex'), '1 day 2 hours', 0.1::float8 + 0.2::float8, 'ä')`)
		require.NoError(t, err)
		row := until(t, open(t, s, at, positionAt(at).get), func(f *Frame) bool { return kind(f) == 'I' })
		for _, want := range []string{"2024-02-03 04:05:06.789+00", `\x00ff41`, "1 day 02:00:00", "0.30000000000000004", "ä"} {
			require.Contains(t, string(row.Data), want)
		}
	})
}

// A cut in the middle of a frame and bytes that trickle change nothing about the
// frames.
func TestFramesOverABadLine(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	proxy := pgtest.NewProxy(t, db.DSN())
	s := testSource(t, db, proxy.DSN(db.DSN()))
	at := ready(t, s, db)
	db.Exec(t, "INSERT INTO a SELECT i, repeat('x', i) FROM generate_series(1, 300) i")
	read := func() []string {
		st := open(t, s, at, positionAt(at).get)
		var all []string
		until(t, st, func(f *Frame) bool {
			if !f.Keepalive {
				all = append(all, string(f.Data))
			}
			return isCommit(f)
		})
		require.NoError(t, st.Close())
		pgtest.Eventually(t, within, func() bool {
			return db.One(t, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", s.Slot()) == "f"
		}, "the slot is free")
		return all
	}
	want := read()
	proxy.Trickle(7, 0)
	require.Equal(t, want, read())
	proxy.Heal()

	// Armed before the stream is asked for: behind it, all rows may have passed.
	proxy.CutAfter(20_000) // the session's start is 2 kB, the rows are 60 kB
	st := open(t, s, at, positionAt(at).get)
	var err error
	for err == nil {
		_, err = st.Next()
	}
	require.Equal(t, ReasonNetwork, fault.Reason(err), "%v", err)
	pgtest.Eventually(t, within, func() bool {
		return db.One(t, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", s.Slot()) == "f"
	}, "the slot is free")
	require.Equal(t, want, read())
}

// Over TLS everything is as without: frames, an interruption in the middle, the
// stop, and verification of the certificate.
func TestStreamOverTLS(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	front := newTLSFront(t, db.DSN())
	s := testSource(t, db, front.dsn("verify-full", front.ca))
	at := ready(t, s, db)
	srv, err := s.Inspect(t.Context())
	require.NoError(t, err)
	require.NoError(t, srv.ReplicationErr)

	p := positionAt(at)
	st := open(t, s, at, p.get)
	require.IsType(t, &tls.Conn{}, st.conn)
	st.Interrupt()
	for err == nil {
		_, err = st.Next()
	}
	require.ErrorIs(t, err, ErrInterrupted, "TLS survives an interruption")
	db.Exec(t, "INSERT INTO a SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i")
	rows := 0
	f := until(t, st, func(f *Frame) bool {
		if kind(f) == 'I' {
			rows++
		}
		return isCommit(f)
	})
	require.Equal(t, 20_000, rows)
	p.set(f.End)
	require.NoError(t, st.Stop(t.Context()))
	require.Equal(t, f.End.String(), confirmedFlush(t, db, s))

	stranger := newTLSFront(t, db.DSN())
	_, err = testSource(t, db, stranger.dsn("verify-full", front.ca)).Inspect(t.Context())
	requireProblem(t, err, "tls", "sslrootcert")
}

// tlsFront is a TLS listener before a server: it answers the request for TLS as a
// server does (protocol.sgml, "SSL Session Encryption") and relays what is inside.
type tlsFront struct {
	listener net.Listener
	behind   string // DSN of the server
	target   string
	config   *tls.Config
	ca       string // path of the certificate
	gone     sync.WaitGroup
}

func newTLSFront(t *testing.T, dsn string) *tlsFront {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	cert, ca := selfSigned(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &tlsFront{listener: l, behind: dsn, target: u.Host, config: &tls.Config{Certificates: []tls.Certificate{cert}}, ca: ca}
	f.gone.Go(f.serve)
	t.Cleanup(func() {
		_ = l.Close()
		f.gone.Wait()
	})
	return f
}

func (f *tlsFront) dsn(mode, ca string) string {
	u, _ := url.Parse(f.behind) // parsed before
	u.Host = f.listener.Addr().String()
	u.RawQuery = url.Values{"sslmode": {mode}, "sslrootcert": {ca}}.Encode()
	return u.String()
}

func (f *tlsFront) serve() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.gone.Go(func() { f.relay(c) })
	}
}

// relay ends when either side does.
func (f *tlsFront) relay(c net.Conn) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 8)); err != nil { // SSLRequest
		return
	}
	if _, err := c.Write([]byte{'S'}); err != nil {
		return
	}
	inside := tls.Server(c, f.config)
	server, err := net.Dial("tcp", f.target)
	if err != nil {
		return
	}
	defer server.Close()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(server, inside)
		_ = server.Close()
	})
	_, _ = io.Copy(inside, server)
	_ = c.Close()
	up.Wait()
}

// selfSigned makes a certificate for 127.0.0.1 and writes it to a file.
func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}
