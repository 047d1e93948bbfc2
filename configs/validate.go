package configs

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"time"

	"github.com/walbridge/walbridge/internal/bytesize"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
)

// namePattern leaves room for what is put before and after the name: a slot's name
// has at most 63 bytes, of a-z, 0-9 and _ (ReplicationSlotValidateName in slot.c).
var namePattern = regexp.MustCompile(`^[a-z0-9_]{1,40}$`)

// The bounds of keys that belong to no stage.
const (
	minBatchBytes    = 1 << 10
	batchShare       = 8 // a batch is at most limit/8: several are in flight
	maxBatchWait     = time.Minute
	minMemory        = 32 << 20
	minRow           = 64 << 10
	rowShare         = 4 // a row is at most limit/4: it is held raw and encoded
	minTakeoverAfter = 5 * time.Second
	maxParallel      = 32
)

// Validate returns all that is wrong with the configuration, defaults filled in,
// and what is worth a warning. Where of each problem is a key path. It connects to
// nothing; connection strings must be resolved.
func (c Config) Validate() []fault.Problem {
	var f findings
	if !namePattern.MatchString(c.Name) {
		f.bad("name", fmt.Sprintf("%q is not 1 to 40 of a-z, 0-9 and _", c.Name), "choose a short name, such as shop; it names the slot walbridge_shop")
	}
	f.add(c.validateSource()...)
	f.add(mapper.Config{Routes: c.Routes}.Validate()...)
	f.add(c.Sink.validate()...)
	c.validateTLS(&f)
	c.validateBatch(&f)
	c.validateMemory(&f)
	f.oneOf("on_error.policy", c.OnError.Policy, PolicyDeadLetter, PolicyHalt)
	if c.OnError.MaxPerMinute < 1 {
		f.bad("on_error.max_per_minute", fmt.Sprintf("%d is less than 1", c.OnError.MaxPerMinute), "on_error.policy: halt stops at the first")
	}
	if n := c.Snapshot.Parallel; n < 1 || n > maxParallel {
		f.bad("snapshot.parallel", fmt.Sprintf("%d is not between 1 and %d", n, maxParallel), "2 is the default")
	}
	if c.Snapshot.RowsPerSecond < 0 {
		f.bad("snapshot.rows_per_second", fmt.Sprintf("%d is negative", c.Snapshot.RowsPerSecond), "0 is the default: no bound")
	}
	c.HTTP.validate(&f)
	f.oneOf("log.level", c.Log.Level, LevelDebug, LevelInfo, LevelWarn, LevelError)
	f.oneOf("log.format", c.Log.Format, FormatText, FormatJSON)
	if c.TakeoverAfter < minTakeoverAfter {
		f.bad("takeover_after", FormatDuration(c.TakeoverAfter)+" is less than "+FormatDuration(minTakeoverAfter), "an owner shows a sign of life every few seconds; 10s is the default")
	}
	f.oneOf("migrate", c.Migrate, MigrateNever, MigrateAuto)
	return f.all
}

// validateSource leaves out what is wrong with a slot's name only because it was
// made from the bridge's.
func (c Config) validateSource() []fault.Problem {
	if !namePattern.MatchString(c.Name) {
		var none replication.Config
		if c.Source.Slot == none.WithDefaults(c.Name).Slot {
			c.Source.Slot = none.WithDefaults(DefaultName).Slot
		}
	}
	return c.Source.Validate()
}

func (c Config) validateBatch(f *findings) {
	b, most := c.Batch, c.Memory.Limit/batchShare
	if b.MaxBytes < minBatchBytes {
		f.bad("batch.max_bytes", bytesize.Format(b.MaxBytes)+" is less than 1KiB", "4MiB is the default")
	}
	if b.MaxBytes > most && c.Memory.Limit >= minMemory {
		f.bad("batch.max_bytes", fmt.Sprintf("%s is more than an eighth of memory.limit, which is %s", bytesize.Format(b.MaxBytes), bytesize.Human(most)),
			"lower it, or raise memory.limit to "+bytesize.Human(b.MaxBytes*batchShare))
	}
	if b.MaxItems < 1 {
		f.bad("batch.max_items", fmt.Sprintf("%d is less than 1", b.MaxItems), "10000 is the default")
	}
	if b.Wait < 0 || b.Wait > maxBatchWait {
		f.bad("batch.wait", FormatDuration(b.Wait)+" is not between 0s and 1m", "5ms is the default")
	}
}

func (c Config) validateMemory(f *findings) {
	m, most := c.Memory, c.Memory.Limit/rowShare
	if m.Limit < minMemory {
		f.bad("memory.limit", bytesize.Format(m.Limit)+" is less than 32MiB", "128MiB is the default")
		return // the share of a row follows from it
	}
	if m.MaxRow < minRow {
		f.bad("memory.max_row", bytesize.Format(m.MaxRow)+" is less than 64KiB", "leave it out for a quarter of memory.limit")
	}
	if m.MaxRow > most {
		f.bad("memory.max_row", fmt.Sprintf("%s is more than a quarter of memory.limit, which is %s", bytesize.Format(m.MaxRow), bytesize.Human(most)),
			"lower it, or raise memory.limit")
	}
}

func (h HTTP) validate(f *findings) {
	host, port, err := net.SplitHostPort(h.Listen)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n > 65535 {
		f.bad("http.listen", fmt.Sprintf("%q is not host:port", h.Listen), DefaultListen+" is the default")
		return
	}
	if !isLoopback(host) {
		f.add(fault.Problem{
			Check: "http-open", Warning: true, Where: "http.listen", What: h.Listen + " can be reached from other machines",
			Why: "whoever reaches it sees table names, positions and rates, without a password", Fix: DefaultListen + ", or a proxy that asks who is there",
		})
	}
	if h.Pprof && !isLoopback(host) {
		f.add(fault.Problem{
			Check: "pprof-open", Warning: true, Where: "http.pprof", What: "profiles can be fetched from other machines",
			Why: "a heap profile shows what the process works on, and taking one costs it time", Fix: "turn it off when the measurement is done",
		})
	}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// findings collects problems.
type findings struct{ all []fault.Problem }

func (f *findings) add(p ...fault.Problem) { f.all = append(f.all, p...) }

func (f *findings) bad(path, what, fix string) {
	f.add(fault.Problem{Check: "config", Where: path, What: what, Fix: fix})
}

func (f *findings) oneOf(path, value string, values ...string) {
	for _, v := range values {
		if v == value {
			return
		}
	}
	fix := list(values) + " are possible"
	if near, ok := nearest(value, values); ok {
		fix = "did you mean " + near + "?"
	}
	f.bad(path, quoted(value)+" is not known", fix)
}
