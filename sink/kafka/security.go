package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/segmentio/kafka-go/sasl"
	msk "github.com/segmentio/kafka-go/sasl/aws_msk_iam_v2"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
)

// TLS says whom to trust and how to show who we are. Its zero value verifies the
// brokers by the system's authorities.
type TLS struct {
	// CAFile is a PEM file of the authorities to trust instead of the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile is a PEM file of a client's certificate, read again at each connection
	// attempt. Only with KeyFile.
	CertFile string `yaml:"cert_file"`
	// KeyFile is a PEM file of the certificate's key. Only with CertFile.
	KeyFile string `yaml:"key_file"`
	// ServerName is the name that the brokers' certificates must bear, where it is not
	// that of the address.
	ServerName string `yaml:"server_name"`
	// InsecureSkipVerify takes any certificate: whoever is between can read and change
	// all. For tests. Defaults to false.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

func (t *TLS) validate() []fault.Problem {
	if t == nil {
		return nil
	}
	var all []fault.Problem
	if (t.CertFile == "") != (t.KeyFile == "") {
		all = append(all, fault.Problem{
			Check: "config", Where: "sink.kafka.tls", What: "cert_file and key_file go together, one is missing", Fix: "give both, or none",
		})
	}
	if t.InsecureSkipVerify {
		all = append(all, fault.Problem{
			Check: "sink-tls-unverified", Warning: true, Where: "sink.kafka.tls.insecure_skip_verify", What: "the brokers' certificates are not verified",
			Why: "Whoever is between can read and change all that is sent, the password among it.", Fix: "ca_file: /path/to/ca.pem",
		})
	}
	return all
}

// config returns what to connect with; nil: no TLS.
func (t *TLS) config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fileProblem("sink.kafka.tls.ca_file", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fileProblem("sink.kafka.tls.ca_file", errors.New(t.CAFile+": no certificate in it"))
		}
	}
	if t.CertFile == "" {
		return c, nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		return &pair, err
	}
	if _, err := load(); err != nil {
		return nil, fileProblem("sink.kafka.tls.cert_file", err)
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return c, nil
}

func fileProblem(where string, err error) error {
	return fault.Config(fault.Problem{Check: "sink-tls", Where: where, What: err.Error(), Fix: "give a PEM file that the bridge's user may read"})
}

// The SASL mechanisms.
const (
	saslPlain   = "PLAIN"
	saslScram1  = "SCRAM-SHA-256"
	saslScram2  = "SCRAM-SHA-512"
	saslOAuth   = "OAUTHBEARER"
	saslMSK     = "AWS_MSK_IAM"
	saslChoices = saslPlain + ", " + saslScram1 + ", " + saslScram2 + ", " + saslOAuth + " and " + saslMSK
)

// SASL is how to log in.
type SASL struct {
	// Mechanism is PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM.
	// Required.
	Mechanism string `yaml:"mechanism"`
	// Username is that of PLAIN and SCRAM.
	Username string `yaml:"username"`
	// Password is that of PLAIN and SCRAM.
	Password secret.Text `yaml:"password"`
	// TokenFile is a file that holds the token of OAUTHBEARER, read at each connection
	// attempt. OAUTHBEARER needs it or TokenCommand.
	TokenFile string `yaml:"token_file"`
	// TokenCommand is a program and its arguments that prints the token of OAUTHBEARER, run
	// without a shell at each connection attempt.
	TokenCommand []string `yaml:"token_command,omitempty"`
	// Region of the cluster, of AWS_MSK_IAM; the key comes from where AWS programs take
	// theirs (environment, profile, role of the machine). Defaults to the region that is
	// set there.
	Region string `yaml:"region"`
}

func (s *SASL) validate(encrypted bool) []fault.Problem {
	if s == nil {
		return nil
	}
	var all []fault.Problem
	bad := func(key, what, fix string) {
		all = append(all, fault.Problem{Check: "config", Where: "sink.kafka.sasl." + key, What: what, Fix: fix})
	}
	switch s.Mechanism {
	case saslPlain, saslScram1, saslScram2:
		if s.Username == "" {
			bad("username", "missing", "username: walbridge")
		}
		if s.Password == "" {
			bad("password", "missing", "password: ${KAFKA_PASSWORD}")
		}
	case saslOAuth:
		if (s.TokenFile == "") == (len(s.TokenCommand) == 0) {
			bad("token_file", "one of token_file and token_command is needed", "token_file: /var/run/secrets/token")
		}
	case saslMSK:
	case "":
		bad("mechanism", "missing", saslChoices+" are possible")
	default:
		bad("mechanism", fmt.Sprintf("%q is not known", s.Mechanism), saslChoices+" are possible")
	}
	if !encrypted && (s.Mechanism == saslPlain || s.Mechanism == saslOAuth) {
		all = append(all, fault.Problem{
			Check: "sink-sasl-clear", Warning: true, Where: "sink.kafka.tls", What: "missing, while " + s.Mechanism + " sends a secret as it is",
			Why: "Whoever is between can read it.", Fix: "tls: {}",
		})
	}
	return all
}

// loadTimeout bounds the look for AWS's settings.
const loadTimeout = 10 * time.Second

// mechanism returns how to log in; nil: not at all.
func (c Config) mechanism(ctx context.Context) (sasl.Mechanism, error) {
	s := c.SASL
	if s == nil {
		return nil, nil
	}
	switch s.Mechanism {
	case saslPlain:
		return &login{cfg: c, make: func(user, password string) (sasl.Mechanism, error) {
			return plain.Mechanism{Username: user, Password: password}, nil
		}}, nil
	case saslScram1:
		return &login{cfg: c, make: func(u, p string) (sasl.Mechanism, error) { return scram.Mechanism(scram.SHA256, u, p) }}, nil
	case saslScram2:
		return &login{cfg: c, make: func(u, p string) (sasl.Mechanism, error) { return scram.Mechanism(scram.SHA512, u, p) }}, nil
	case saslOAuth:
		return &bearer{file: s.TokenFile, command: s.TokenCommand}, nil
	}
	return s.aws(ctx)
}

func (s *SASL) aws(ctx context.Context) (sasl.Mechanism, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	var options []func(*awsconfig.LoadOptions) error
	if s.Region != "" {
		options = append(options, awsconfig.WithRegion(s.Region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("load the settings for AWS: %w", err)
	}
	if cfg.Region == "" {
		return nil, fault.Config(fault.Problem{Check: "sink-sasl", Where: "sink.kafka.sasl.region", What: "missing, and not set elsewhere", Fix: "region: eu-central-1"})
	}
	return &msk.Mechanism{Signer: signer.NewSigner(), Credentials: aws.NewCredentialsCache(cfg.Credentials), Region: cfg.Region}, nil
}

// login is a mechanism with a password, which is resolved at each attempt.
type login struct {
	cfg  Config
	make func(user, password string) (sasl.Mechanism, error)
}

// Name is that of the mechanism.
func (l *login) Name() string { return l.cfg.SASL.Mechanism }

// Start begins an attempt.
func (l *login) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	password := l.cfg.SASL.Password.Reveal()
	if l.cfg.Resolve != nil {
		var err error
		if password, err = l.cfg.Resolve(password); err != nil {
			return nil, nil, fmt.Errorf("resolve sink.kafka.sasl.password: %w", err)
		}
	}
	m, err := l.make(l.cfg.SASL.Username, password)
	if err != nil {
		return nil, nil, fmt.Errorf("log in by %s: %w", l.Name(), err)
	}
	return m.Start(ctx)
}

// checkAddress checks host:port.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return fmt.Errorf("%q is not host:port", address)
	}
	return nil
}
