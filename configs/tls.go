package configs

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/sink/kafka"
)

// validateTLS warns of connections over a network whose server is not verified:
// without sslmode libpq's default is prefer, which takes any certificate, and none.
func (c Config) validateTLS(f *findings) {
	f.unverified("source.dsn", c.Source.DSN)
	if c.Source.ReplicationDSN != c.Source.DSN {
		f.unverified("source.replication_dsn", c.Source.ReplicationDSN)
	}
	if c.Sink.Worktable != nil {
		f.unverified("sink.worktable.dsn", c.Sink.Worktable.DSN)
	}
	if c.Sink.Kafka != nil {
		f.unencryptedBrokers(*c.Sink.Kafka)
	}
}

// unencryptedBrokers warns of records that go over a network as they are. What else may
// be wrong with TLS and logins the sink's own checks say.
func (f *findings) unencryptedBrokers(c kafka.Config) {
	remote := slices.IndexFunc(c.Brokers, func(b string) bool {
		host, _, err := net.SplitHostPort(b)
		return err == nil && !isLoopback(host)
	})
	if c.TLS != nil || remote < 0 {
		return
	}
	f.add(fault.Problem{
		Check: "tls-unverified", Warning: true, Where: "sink.kafka.brokers", What: "the connection to " + c.Brokers[remote] + " is not encrypted",
		Why: "whoever is on the way could read the records, or answer in the brokers' place", Fix: "sink.kafka.tls: {}, with ca_file for an authority of your own",
	})
}

func (f *findings) unverified(path string, dsn secret.DSN) {
	if dsn == "" {
		return
	}
	c, err := pgconn.ParseConfig(dsn.Reveal())
	if err != nil || verified(c) {
		return // an error is reported with the key itself
	}
	f.add(fault.Problem{
		Check: "tls-unverified", Warning: true, Where: path, What: "the connection to " + c.Host + " does not verify who answers",
		Why: "whoever is on the way could read the password and the rows, or answer in the server's place", Fix: "sslmode=verify-full, with sslrootcert for an authority of your own",
	})
}

// verified reports whether each way of connecting that c allows stays on this
// machine or verifies the server's certificate.
func verified(c *pgconn.Config) bool {
	if !safe(c.Host, c.TLSConfig) {
		return false
	}
	for _, f := range c.Fallbacks {
		if !safe(f.Host, f.TLSConfig) {
			return false
		}
	}
	return true
}

// safe: pgconn does verify-ca by a function of its own beside InsecureSkipVerify.
func safe(host string, c *tls.Config) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || isLoopback(host) {
		return true
	}
	return c != nil && (!c.InsecureSkipVerify || c.VerifyPeerCertificate != nil)
}
