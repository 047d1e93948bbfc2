package stdout

import (
	"fmt"

	"github.com/walbridge/walbridge/internal/fault"
)

// The formats of the output.
const (
	FormatJSON   = "json"   // one JSON object a line, everything in it
	FormatPretty = "pretty" // for people: a block a transaction, long values cut
)

// Config is the section sink.stdout of the configuration.
type Config struct {
	// State is the file that keeps the position, relative to the working directory;
	// beside it stand one with the ending .lock and now and then one with .tmp. The
	// directory must be there. Defaults to walbridge.state. To New, empty means that no
	// position is kept and every Open begins anew.
	State string `yaml:"state"`
	// Format is json or pretty. Defaults to json.
	Format string `yaml:"format"`
}

// WithDefaults fills in what is not set.
func (c Config) WithDefaults() Config {
	if c.State == "" {
		c.State = "walbridge.state"
	}
	if c.Format == "" {
		c.Format = FormatJSON
	}
	return c
}

// Validate returns what is wrong with the section.
func (c Config) Validate() []fault.Problem {
	switch c.Format {
	case "", FormatJSON, FormatPretty:
		return nil
	}
	return []fault.Problem{{
		Check: "config", Where: "sink.stdout.format", What: fmt.Sprintf("%q is no format", c.Format), Fix: "json or pretty",
	}}
}
