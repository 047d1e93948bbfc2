package kafkatest

// JVM replaces the arguments of the broker's Java machine, which are those of a small
// broker that starts soon.
func JVM(args ...string) Option { return func(c *config) { c.jvm = args } }

// Run starts a broker for a program that is no test: the benchmarks. The caller ends it
// with Remove.
func Run(opts ...Option) (*Broker, error) {
	cfg := config{settings: map[string]string{}}
	for _, o := range opts {
		o(&cfg)
	}
	return start(cfg)
}

// Remove kills the broker and deletes its data.
func (b *Broker) Remove() error { return b.remove() }

// PID is the id of the broker's process.
func (b *Broker) PID() int { return b.proc.PID() }
