package kafka

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// The deliveries.
const (
	ExactlyOnce = "exactly_once"
	AtLeastOnce = "at_least_once"
)

// Config says which cluster items go to, and how.
type Config struct {
	// Brokers are some of the cluster's brokers, host:port; the others are found through
	// them. Required.
	Brokers []string `yaml:"brokers"`
	// Delivery is exactly_once (items and position in one Kafka transaction) or
	// at_least_once (for brokers or rights without transactions: after a crash the last
	// batch may come again, with the same wb-id). Defaults to exactly_once.
	Delivery string `yaml:"delivery"`
	// Compression of the records: none, gzip, snappy, lz4 or zstd. Defaults to zstd.
	Compression string `yaml:"compression"`
	// TLS turns on TLS, also when the section is empty.
	TLS *TLS `yaml:"tls,omitempty"`
	// SASL is how to log in; without it the client does not.
	SASL *SASL `yaml:"sasl,omitempty"`
	// CreateTopics makes topics that items go to and that are missing. Without it a
	// missing topic is a halt when the configuration names it, and a dead letter when
	// its name comes from a row.
	CreateTopics *CreateTopics `yaml:"create_topics,omitempty"`
	// ProgressTopic keeps the positions of all bridges of the cluster; it is made when
	// it is missing, compacted. Defaults to walbridge.progress.
	ProgressTopic string `yaml:"progress_topic"`
	// DeadLetterTopic keeps what could not be delivered; it is made when it is missing.
	// Defaults to <name of the bridge>.dead_letter.
	DeadLetterTopic string `yaml:"dead_letter_topic"`
	// TransactionalID is the id that fences older processes of the bridge. Change it
	// where access rules prescribe another prefix, and only while the bridge is stopped.
	// Defaults to walbridge-<name of the bridge>.
	TransactionalID string `yaml:"transactional_id"`
	// WriteTimeout bounds a write. A bridge that dies in a transaction holds
	// read_committed consumers back for this and 10 s more. It is sink.write_timeout of
	// the file, beside this section. Defaults to 15 s.
	WriteTimeout time.Duration `yaml:"-"`
	// Streams are the topics whose names the routes fix: they must be there, or be made,
	// when the sink is opened.
	Streams []string `yaml:"-"`
	// Resolve turns a password into what to log in with, at each connection attempt: for
	// values that come from files. nil: as it stands.
	Resolve func(string) (string, error) `yaml:"-"`
}

// CreateTopics says how missing topics are made.
type CreateTopics struct {
	// Partitions of a topic. Defaults to 12.
	Partitions int `yaml:"partitions"`
	// Replication is the number of copies. Defaults to what the broker's
	// default.replication.factor says.
	Replication int `yaml:"replication"`
	// Configs are settings of the topics, such as retention.ms: "604800000".
	Configs map[string]string `yaml:"configs,omitempty"`
	// Max is the number of topics that one process makes because a row names them; an
	// item for one more is a dead letter. Defaults to 100.
	Max int `yaml:"max"`
}

const (
	defaultWriteTimeout  = 15 * time.Second
	defaultProgressTopic = "walbridge.progress"
	defaultPartitions    = 12
	defaultMaxTopics     = 100
	// afterWrite is how long a transaction may be open beyond a write's time-out.
	afterWrite = 10 * time.Second
)

// WithDefaults fills in what is not given. The copy shares nothing with c that it
// changes.
func (c Config) WithDefaults() Config {
	setDefault(&c.Delivery, ExactlyOnce)
	setDefault(&c.Compression, "zstd")
	setDefault(&c.ProgressTopic, defaultProgressTopic)
	setDefault(&c.WriteTimeout, defaultWriteTimeout)
	if c.CreateTopics != nil {
		t := *c.CreateTopics
		setDefault(&t.Partitions, defaultPartitions)
		setDefault(&t.Max, defaultMaxTopics)
		c.CreateTopics = &t
	}
	return c
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// deadLetterTopic and transactionalID depend on the bridge's name, which only Open
// tells.
func (c Config) deadLetterTopic(name string) string {
	if c.DeadLetterTopic != "" {
		return c.DeadLetterTopic
	}
	return name + ".dead_letter"
}

func (c Config) transactionalID(name string) string {
	if c.TransactionalID != "" {
		return c.TransactionalID
	}
	return "walbridge-" + name
}

// Validate returns all that is wrong with a Config that has its defaults, without
// connecting.
func (c Config) Validate() []fault.Problem {
	var all []fault.Problem
	bad := func(key, what, fix string) {
		all = append(all, fault.Problem{Check: "config", Where: "sink.kafka." + key, What: what, Fix: fix})
	}
	if len(c.Brokers) == 0 {
		bad("brokers", "missing", "brokers: [host:9092]")
	}
	for i, b := range c.Brokers {
		if err := checkAddress(b); err != nil {
			bad(fmt.Sprintf("brokers[%d]", i), err.Error(), "host:port, such as broker1:9092")
		}
	}
	oneOf := func(key, value string, values ...string) {
		if !slices.Contains(values, value) {
			bad(key, fmt.Sprintf("%q is not known", value), strings.Join(values, ", ")+" are possible")
		}
	}
	oneOf("delivery", c.Delivery, ExactlyOnce, AtLeastOnce)
	oneOf("compression", c.Compression, recordbatch.Codecs()...)
	for key, name := range map[string]string{"progress_topic": c.ProgressTopic, "dead_letter_topic": c.DeadLetterTopic} {
		if name != "" && !legalTopic(name) {
			bad(key, fmt.Sprintf("%q is no legal name of a topic", name), "1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'")
		}
	}
	if c.ProgressTopic == c.DeadLetterTopic {
		bad("dead_letter_topic", "the same as progress_topic", "give each a topic of its own")
	}
	if t := c.CreateTopics; t != nil {
		if t.Partitions < 1 {
			bad("create_topics.partitions", fmt.Sprintf("%d is less than 1", t.Partitions), fmt.Sprintf("%d is the default", defaultPartitions))
		}
		if t.Replication < 0 || t.Replication > 1<<15-1 {
			bad("create_topics.replication", fmt.Sprintf("%d is no number of copies", t.Replication), "leave it out for the broker's default")
		}
		if t.Max < 0 {
			bad("create_topics.max", fmt.Sprintf("%d is less than 0", t.Max), fmt.Sprintf("%d is the default", defaultMaxTopics))
		}
	}
	all = append(all, c.TLS.validate()...)
	all = append(all, c.SASL.validate(c.TLS != nil)...)
	if c.WriteTimeout < time.Second {
		all = append(all, fault.Problem{
			Check: "config", Where: "sink.write_timeout", What: c.WriteTimeout.String() + " is less than 1s", Fix: "write_timeout: " + defaultWriteTimeout.String(),
		})
	}
	return all
}

// legalTopic reports whether brokers take the name
// (org.apache.kafka.common.internals.Topic.validate).
func legalTopic(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > 249 {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
