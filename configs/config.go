package configs

import (
	"time"

	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
)

// Config is the whole configuration of a bridge.
type Config struct {
	// Name of the bridge: 1 to 40 of a-z, 0-9 and _. It names the slot, the publication
	// (walbridge_<name>), the source in the destination and the label of the metrics.
	// Two bridges of one name are owner and standby. Defaults to main.
	Name string `yaml:"name"`
	// Source is the database that is read.
	Source replication.Config `yaml:"source"`
	// Routes say which tables are read and what becomes of their changes; the first
	// that matches a table takes it.
	Routes []mapper.Route `yaml:"routes"`
	// Sink is the destination.
	Sink Sink `yaml:"sink"`
	// Batch says when a batch is full and how long it may wait.
	Batch Batch `yaml:"batch"`
	// Memory bounds what the bridge holds.
	Memory Memory `yaml:"memory"`
	// OnError says what becomes of an item that can never be stored.
	OnError OnError `yaml:"on_error"`
	// Snapshot bounds the reading of rows that are older than the stream.
	Snapshot Snapshot `yaml:"snapshot"`
	// HTTP is the listener of the status page and the metrics.
	HTTP HTTP `yaml:"http"`
	// Log is how the bridge logs to its standard error.
	Log Log `yaml:"log"`
	// TakeoverAfter is how long the owner of the name must show no sign of life before
	// a standby takes over. Raise it where the network stalls for longer. At least 5 s.
	// Defaults to 10 s.
	TakeoverAfter time.Duration `yaml:"takeover_after"`
	// Migrate says who brings the schema of the work table up to date: never
	// (`walbridge setup` or `walbridge migrate up` do) or auto (each start does).
	// Defaults to never.
	Migrate string `yaml:"migrate"`
}

// Batch says when a batch is full and how long it may wait. It has the fields of
// the pipeline's type of that name, so that one converts to the other.
type Batch struct {
	// MaxBytes ends a batch at the next commit; a transaction that alone is larger is
	// split. At most an eighth of memory.limit. Defaults to 4 MiB.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxItems likewise. Defaults to 10,000.
	MaxItems int `yaml:"max_items"`
	// Wait is the time after its first item at which a batch is handed over at the
	// latest. A quiet stream does not wait. Defaults to 5 ms, at most a minute.
	Wait time.Duration `yaml:"wait"`
}

// Memory bounds what the bridge holds, whatever the size of a row, a transaction
// or a backlog. It has the fields of the pipeline's type of that name.
type Memory struct {
	// Limit in bytes, of which every buffer is a share; the Go runtime's soft limit is
	// set from it. At least 32 MiB. Defaults to 128 MiB.
	Limit int64 `yaml:"limit"`
	// MaxRow in bytes: a larger row becomes a dead letter that names it. From 64 KiB to
	// a quarter of Limit, which is the default.
	MaxRow int64 `yaml:"max_row"`
}

// The policies of OnError.
const (
	PolicyDeadLetter = "dead_letter"
	PolicyHalt       = "halt"
)

// OnError says what becomes of an item that can never be stored. It has the fields
// of the pipeline's type of that name.
type OnError struct {
	// Policy is dead_letter (keep it aside and go on) or halt (wait for an operator).
	// Defaults to dead_letter.
	Policy string `yaml:"policy"`
	// MaxPerMinute is the number of dead letters within a minute above which the
	// bridge halts all the same. Defaults to 60.
	MaxPerMinute int `yaml:"max_per_minute"`
}

// Snapshot bounds the reading of rows that are older than the stream, which the
// routes or `walbridge snapshot` ask for. It has the fields of the pipeline's type of
// that name.
type Snapshot struct {
	// Parallel is how many tables are read at a time, each over a connection of its own;
	// 1 to 32. Defaults to 2.
	Parallel int `yaml:"parallel"`
	// RowsPerSecond bounds the reading of all tables together. Set it where the reading
	// disturbs the source. Defaults to 0: no bound.
	RowsPerSecond int `yaml:"rows_per_second"`
}

// HTTP is the listener of the status page, /status, /metrics, /healthz and
// /readyz. None of its routes changes anything.
type HTTP struct {
	// Listen is host:port; port 0 takes any free one. Whoever reaches it sees table
	// names, positions and rates, and no rows. Defaults to 127.0.0.1:8480.
	Listen string `yaml:"listen"`
	// Pprof adds /debug/pprof. Turn it on to hunt a performance problem. Defaults to
	// false.
	Pprof bool `yaml:"pprof"`
}

// The levels and formats of Log.
const (
	LevelDebug = "debug"
	LevelInfo  = "info"
	LevelWarn  = "warn"
	LevelError = "error"

	FormatText = "text"
	FormatJSON = "json"
)

// Log is how the bridge logs to its standard error.
type Log struct {
	// Level is debug, info, warn or error; nothing is logged per row above debug.
	// Defaults to info.
	Level string `yaml:"level"`
	// Format is text or json. Defaults to text.
	Format string `yaml:"format"`
}

// The values of Migrate.
const (
	MigrateNever = "never"
	MigrateAuto  = "auto"
)

// Defaults of the keys that belong to no stage.
const (
	DefaultName   = "main"
	DefaultListen = "127.0.0.1:8480"
)

// WithDefaults returns a copy in which each zero value is its default. The copy
// shares nothing with c that it changes.
func (c Config) WithDefaults() Config {
	setDefault(&c.Name, DefaultName)
	c.Source = c.Source.WithDefaults(c.Name)
	c.Routes = mapper.Config{Routes: c.Routes}.WithDefaults().Routes
	c.Sink = c.Sink.withDefaults()
	setDefault(&c.Batch.MaxBytes, 4<<20)
	setDefault(&c.Batch.MaxItems, 10_000)
	setDefault(&c.Batch.Wait, 5*time.Millisecond)
	setDefault(&c.Memory.Limit, 128<<20)
	setDefault(&c.Memory.MaxRow, c.Memory.Limit/4)
	setDefault(&c.OnError.Policy, PolicyDeadLetter)
	setDefault(&c.OnError.MaxPerMinute, 60)
	setDefault(&c.Snapshot.Parallel, 2)
	setDefault(&c.HTTP.Listen, DefaultListen)
	setDefault(&c.Log.Level, LevelInfo)
	setDefault(&c.Log.Format, FormatText)
	setDefault(&c.TakeoverAfter, 10*time.Second)
	setDefault(&c.Migrate, MigrateNever)
	return c
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}
