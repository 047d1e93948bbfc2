package configs

import (
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink/discard"
	"github.com/walbridge/walbridge/sink/kafka"
	"github.com/walbridge/walbridge/sink/stdout"
	"github.com/walbridge/walbridge/sink/worktable"
)

// Sink is the destination: exactly one of the sections, and how long a write may
// take.
type Sink struct {
	// Worktable stores rows and position in one transaction of a PostgreSQL database.
	Worktable *worktable.Config `yaml:"worktable,omitempty"`
	// Kafka stores records and position in one transaction of a Kafka cluster.
	Kafka *kafka.Config `yaml:"kafka,omitempty"`
	// Stdout writes JSON lines, for first steps and for pipes.
	Stdout *stdout.Config `yaml:"stdout,omitempty"`
	// Discard decodes, maps, encodes and stores only the position, for benchmarks.
	Discard *discard.Config `yaml:"discard,omitempty"`
	// WriteTimeout bounds one write of a batch; when it runs out the sink is opened
	// anew, which finds out what was stored. At least 1 s. Defaults to 30 s, with kafka to
	// 15 s: records of a transaction are held back from consumers as long.
	WriteTimeout time.Duration `yaml:"write_timeout"`
}

// Kind returns the name of the section that is given, empty when it is not one.
func (s Sink) Kind() string {
	if given := s.given(); len(given) == 1 {
		return given[0]
	}
	return ""
}

func (s Sink) given() []string {
	var given []string
	for _, k := range []struct {
		name string
		set  bool
	}{{"worktable", s.Worktable != nil}, {"kafka", s.Kafka != nil}, {"stdout", s.Stdout != nil}, {"discard", s.Discard != nil}} {
		if k.set {
			given = append(given, k.name)
		}
	}
	return given
}

func (s Sink) withDefaults() Sink {
	if s.Kafka != nil {
		c := *s.Kafka
		c.WriteTimeout = s.WriteTimeout
		c = c.WithDefaults()
		s.WriteTimeout = c.WriteTimeout
		s.Kafka = &c
	}
	setDefault(&s.WriteTimeout, 30*time.Second)
	if s.Worktable != nil {
		c := s.Worktable.WithDefaults()
		c.WriteTimeout = s.WriteTimeout
		s.Worktable = &c
	}
	if s.Stdout != nil {
		c := s.Stdout.WithDefaults()
		s.Stdout = &c
	}
	if s.Discard != nil {
		c := s.Discard.WithDefaults()
		s.Discard = &c
	}
	return s
}

const minWriteTimeout = time.Second

func (s Sink) validate() []fault.Problem {
	var f findings
	given := s.given()
	switch len(given) {
	case 0:
		f.bad("sink", "missing", "sink: {worktable: {dsn: postgres://user@host/database}}, or sink: {stdout: {}} to look around")
	case 1:
	default:
		f.bad("sink", list(given)+" are given", "a bridge has one destination: keep one, and run a second bridge for the other")
	}
	if s.Worktable != nil {
		f.add(s.Worktable.Validate()...) // the time-out, too
	}
	if s.Kafka != nil {
		f.add(s.Kafka.Validate()...) // the time-out, too
	}
	if s.Stdout != nil {
		f.add(s.Stdout.Validate()...)
	}
	if s.Discard != nil {
		f.add(s.Discard.Validate()...)
	}
	if s.Worktable == nil && s.Kafka == nil && s.WriteTimeout < minWriteTimeout {
		f.bad("sink.write_timeout", FormatDuration(s.WriteTimeout)+" is less than 1s", "30s is the default")
	}
	return f.all
}
