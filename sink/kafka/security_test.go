package kafka

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/sink"
)

// Every way to log in that a broker of a test has, and the refusals of wrong ones, which
// show no secret.
func TestSecurity(t *testing.T) {
	t.Parallel()
	broker := kafkatest.New(t, kafkatest.TLS(), kafkatest.SASL())
	for name, k := range ways(t, broker) {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(broker.Addr())
			cfg.Brokers, cfg.TLS, cfg.SASL, cfg.Resolve = k.cfg.Brokers, k.cfg.TLS, k.cfg.SASL, k.cfg.Resolve
			if k.bad {
				cfg.WriteTimeout = 3 * time.Second
			}
			for _, p := range cfg.Validate() {
				require.True(t, p.Warning, p)
			}
			s := New(cfg, nil)
			defer s.Close(ctxOf(t))
			_, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
			require.Equal(t, k.bad, err != nil, "%v", err)
			if err != nil {
				require.NotContains(t, err.Error(), "geheim")
			}
		})
	}
}

// way is a way to connect, good or bad.
type way struct {
	cfg Config // what it needs of one
	bad bool
}

func ways(t *testing.T, broker *kafkatest.Broker) map[string]way {
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		return path
	}
	ca := write("ca.pem", broker.Authority().CA)
	cert, key, err := broker.Authority().Client("walbridge")
	require.NoError(t, err)
	broker.ScramUser(t, saslScram1, "scram1", "geheim-1")
	broker.ScramUser(t, saslScram2, "scram2", "geheim-2")
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	expiry := time.Now().Add(time.Hour).Unix()
	token := part(`{"alg":"none"}`) + "." + part(`{"sub":"walbridge","iat":`+strconv.FormatInt(expiry-3700, 10)+`,"exp":`+strconv.FormatInt(expiry, 10)+`}`) + "."
	login := func(mechanism, user, password string) Config {
		return Config{Brokers: []string{broker.SASLAddr()}, SASL: &SASL{Mechanism: mechanism, Username: user, Password: secret.Text(password)}}
	}
	resolved := login(saslPlain, kafkatest.PlainUser, "${file:password}")
	resolved.Resolve = func(string) (string, error) { return kafkatest.PlainPassword, nil }
	mutual := &TLS{CAFile: ca, CertFile: write("c.pem", cert), KeyFile: write("k.pem", key)}
	return map[string]way{
		"tls":               {cfg: Config{Brokers: []string{broker.TLSAddr()}, TLS: &TLS{CAFile: ca}}},
		"unknown authority": {cfg: Config{Brokers: []string{broker.TLSAddr()}, TLS: &TLS{}}, bad: true},
		"another name":      {cfg: Config{Brokers: []string{broker.TLSAddr()}, TLS: &TLS{CAFile: ca, ServerName: "other"}}, bad: true},
		"unverified":        {cfg: Config{Brokers: []string{broker.TLSAddr()}, TLS: &TLS{InsecureSkipVerify: true}}},
		"certificate":       {cfg: Config{Brokers: []string{broker.MutualTLSAddr()}, TLS: mutual}},
		"no certificate":    {cfg: Config{Brokers: []string{broker.MutualTLSAddr()}, TLS: &TLS{CAFile: ca}}, bad: true},
		"plain":             {cfg: login(saslPlain, kafkatest.PlainUser, kafkatest.PlainPassword)},
		"resolved":          {cfg: resolved},
		"plain, wrong":      {cfg: login(saslPlain, kafkatest.PlainUser, "geheim-3"), bad: true},
		"scram 256":         {cfg: login(saslScram1, "scram1", "geheim-1")},
		"scram 512":         {cfg: login(saslScram2, "scram2", "geheim-2")},
		"scram, wrong":      {cfg: login(saslScram2, "scram2", "geheim-3"), bad: true},
		"oauth file":        {cfg: Config{Brokers: []string{broker.SASLAddr()}, SASL: &SASL{Mechanism: saslOAuth, TokenFile: write("token", []byte(token+"\n"))}}},
		"oauth command":     {cfg: Config{Brokers: []string{broker.SASLAddr()}, SASL: &SASL{Mechanism: saslOAuth, TokenCommand: []string{"cat", filepath.Join(dir, "token")}}}},
		"oauth, wrong":      {cfg: Config{Brokers: []string{broker.SASLAddr()}, SASL: &SASL{Mechanism: saslOAuth, TokenFile: write("bad", []byte("geheim-3"))}}, bad: true},
		"no login":          {cfg: Config{Brokers: []string{broker.SASLAddr()}}, bad: true},
	}
}

// AWS_MSK_IAM signs with the key of the environment, for the broker that is dialled,
// and sends no secret.
func TestMSK(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "geheim")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", "/no/such/file")
	cfg := Config{SASL: &SASL{Mechanism: saslMSK, Region: "eu-central-1"}}
	m, err := cfg.mechanism(t.Context())
	require.NoError(t, err)
	require.Equal(t, saslMSK, m.Name())
	_, message, err := m.Start(sasl.WithMetadata(t.Context(), &sasl.Metadata{Host: "broker.example", Port: 9098}))
	require.NoError(t, err)
	require.Contains(t, string(message), "broker.example")
	require.Contains(t, string(message), "eu-central-1/kafka-cluster/aws4_request")
	require.NotContains(t, string(message), "geheim")
	cfg.SASL.Region = ""
	_, err = cfg.mechanism(t.Context())
	require.ErrorContains(t, err, "sink.kafka.sasl.region")
}
