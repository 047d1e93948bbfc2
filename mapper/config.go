package mapper

import (
	"slices"
	"time"

	"github.com/walbridge/walbridge/internal/secret"
)

// Config says which tables are mapped, and to what. Its zero value maps nothing.
type Config struct {
	// Routes are tried in order; the first that matches a table maps it. A table that
	// none matches yields nothing. Required.
	Routes []Route `yaml:"routes"`
}

// Route maps the tables that match it, as exactly one of outbox, inbox or changes.
type Route struct {
	// Tables are the patterns that a table must match one of, each schema.table with
	// * for any number of characters and ? for one, in either half. Names are compared
	// as PostgreSQL stores them: case matters, nothing is quoted. A partition is
	// matched by its own name or by that of the topmost partitioned table above it.
	// Required, but for a route with Messages.
	Tables []string `yaml:"tables"`
	// Exclude are patterns that keep a table out of this route though Tables matches;
	// a later route may still take it. Defaults to none.
	Exclude []string `yaml:"exclude"`
	// Messages are the prefixes of logical messages that are events of an outbox without
	// a table: pg_logical_emit_message(true, 'prefix', '{…}'), with a JSON object whose
	// members are what the columns of the outbox are. Prefixes are compared as they are;
	// those that begin with walbridge. are the bridge's own. Only with Outbox. Defaults to
	// none.
	Messages []string `yaml:"messages"`
	// Outbox makes each inserted row a domain event.
	Outbox *Outbox `yaml:"outbox"`
	// Inbox makes each row inserted into walbridge.inbox a domain event.
	Inbox *Inbox `yaml:"inbox"`
	// Changes makes each row change a change record.
	Changes *Changes `yaml:"changes"`
	// Columns says which columns of a changes route leave the bridge. Defaults to all.
	Columns *Columns `yaml:"columns"`
	// Stream names where the items go: text with ${column} for the value of a column of
	// an outbox row; ${bridge}, ${schema} and ${table} for a changes route. Defaults to
	// ${aggregatetype} for an outbox, ${schema}.${table} for changes, and
	// ${bridge}.${schema}.${table} for those in Debezium's envelope; an inbox row names
	// its stream itself.
	Stream string `yaml:"stream"`
	// Snapshot says whether the rows that are there when the bridge starts for the first
	// time are read: initial or never. Initial is the default of a changes route, and needs
	// the right to SELECT. For an outbox, which has no default, initial makes an event of
	// each of them, and never says that they are settled: without either `walbridge setup`
	// refuses one that is not empty.
	Snapshot string `yaml:"snapshot"`
	// Where is a condition in SQL, over the table's columns, that the rows must meet which
	// the first start reads; names of functions and types are written with their schema.
	// Only with initial. It does not filter the stream: that is the publication's row
	// filter. Defaults to none.
	Where string `yaml:"where"`
}

// Outbox names the columns of an outbox table. The defaults are those of
// Debezium's outbox event router.
type Outbox struct {
	// ID is the column of the event's own id, by which consumers know an event again.
	// Defaults to id.
	ID string `yaml:"id"`
	// Key is the column that orders: events of one key are delivered in commit order.
	// A NULL or empty value means no order. Defaults to aggregateid.
	Key string `yaml:"key"`
	// Type is the column of the event's type, or payload.name for the member of that
	// name of a JSON payload. NULL, an absent member, or one that is an array or an
	// object, gives an event without type. Defaults to type.
	Type string `yaml:"type"`
	// Payload is the column of the value. Defaults to payload.
	Payload string `yaml:"payload"`
	// PayloadFormat says what the payload is: json (the default; what is not JSON is a
	// dead letter), text (a JSON string), or bytes (a JSON string in base64, with the
	// header content-encoding: base64). In Kafka, whose values are bytes, text and bytes
	// are as they are.
	PayloadFormat string `yaml:"payload_format"`
	// Timestamp is a column of type timestamp (taken as UTC) or timestamptz whose value
	// is the event's time. Defaults to none: the commit's time.
	Timestamp string `yaml:"timestamp"`
	// Headers is the column of the headers, a JSON object of strings; numbers and
	// booleans in it become their text, nulls are left out. Defaults to the column
	// headers when the table has one.
	Headers string `yaml:"headers"`
	// Extra are further columns: "column" and "column:header" add a header of the
	// column's name, "column:header:name" one of that name, and
	// "column:envelope:name" (or "column:envelope") wraps the payload as
	// {"payload": …, "name": …}, as Debezium's router does. A NULL adds no header, and
	// a null to the envelope. A header from here wins over one of the same name in the
	// headers column. Defaults to none.
	Extra []string `yaml:"extra"`
	// AvailableAt is a column of type timestamp or timestamptz before whose time the
	// event is not handed out. NULL means at once. Defaults to the column available_at
	// when the table has one.
	AvailableAt string `yaml:"available_at"`
	// OnUpdate says what an UPDATE of an outbox row does: skip (the default; counted) or
	// halt. DELETE is always ignored: deleting relayed rows is normal housekeeping.
	OnUpdate string `yaml:"on_update"`
	// TombstoneOnNullPayload makes a NULL payload an item without value, which removes
	// the key from a compacted topic. Defaults to false: a dead letter.
	TombstoneOnNullPayload bool `yaml:"tombstone_on_null_payload"`
	// Prune is the age from which rows are deleted that are proven to be relayed, such as
	// 1h or 7d; at least 1m. The age is that of Timestamp where it names a column of type
	// timestamp or timestamptz, else it counts from when this process has first seen the
	// row's transaction ended. It needs SELECT, DELETE and, on one column, UPDATE on the
	// table. Defaults to 0: nothing is deleted.
	Prune time.Duration `yaml:"prune"`
	// Format is plain (the default), or cloudevents: the attributes of CloudEvents 1.0 are
	// headers with the prefix ce_, as its Kafka protocol binding has them in binary mode.
	Format string `yaml:"format"`
}

// Inbox is the mapping of walbridge.inbox, whose columns are fixed.
type Inbox struct{}

// Changes says how change records look.
type Changes struct {
	// Envelope is walbridge (the default: op, key, before, after, source), row (the row
	// alone; no value for a delete), or debezium (as Debezium's connector writes it: see
	// docs/debezium.md).
	Envelope string `yaml:"envelope"`
	// Order is key (the default: commit order per key) or table (commit order of the
	// whole table). Tables without a key are always ordered as a whole.
	Order string `yaml:"order"`
	// Truncate is propagate (the default: one record to every lane), ignore (counted)
	// or halt.
	Truncate string `yaml:"truncate"`
	// Numeric is exact (the default: a JSON number where a double holds the value, else
	// a string), string, or number.
	Numeric string `yaml:"numeric"`
	// Int64 is number (the default) or string, for consumers whose numbers are doubles.
	Int64 string `yaml:"int64"`
}

// Columns says which columns of a table leave the bridge. A column named here that
// a table lacks halts the bridge, since it may have been renamed and would leave it
// unseen; in a route with wildcards, where tables differ, only once the column had
// been seen and is gone. Include is the safe choice there.
type Columns struct {
	// Include names the columns that leave; all others are excluded. Not together with
	// Exclude.
	Include []string `yaml:"include"`
	// Exclude names columns that do not leave: not in records, keys or dead letters.
	Exclude []string `yaml:"exclude"`
	// Mask gives, by column, what leaves in the place of the value: hash, the
	// hexadecimal HMAC-SHA256 of the value's text under MaskKey. Equal values have
	// equal hashes. NULL stays NULL.
	Mask map[string]string `yaml:"mask"`
	// MaskKey is the key of the hashes. Without one they are plain SHA-256, and whoever
	// can list the possible values (all telephone numbers, all e-mail addresses of a
	// leaked list) finds them again. Defaults to none.
	MaskKey secret.Text `yaml:"mask_key"`
	// At is bridge (the default: the server sends the columns and the bridge drops
	// them). server is not available in this version.
	At string `yaml:"at"`
}

// The values of settings that choose between a few words.
const (
	formatJSON  = "json"
	formatText  = "text"
	formatBytes = "bytes"

	envelopeWalbridge = "walbridge"
	envelopeRow       = "row"
	envelopeDebezium  = "debezium"

	orderKey   = "key"
	orderTable = "table"

	truncatePropagate = "propagate"
	truncateIgnore    = "ignore"

	numericExact  = "exact"
	numericString = "string"
	numericNumber = "number"

	int64Number = "number"
	int64String = "string"

	wordSkip    = "skip"
	wordHalt    = "halt"
	wordNever   = "never"
	wordInitial = "initial"
	wordBridge  = "bridge"
	wordPlain   = "plain"

	formatCloudEvents = "cloudevents"

	maskHash = "hash"
)

// WithDefaults returns a copy in which every key left out has its default.
func (c Config) WithDefaults() Config {
	c.Routes = slices.Clone(c.Routes)
	for i := range c.Routes {
		c.Routes[i] = c.Routes[i].withDefaults()
	}
	return c
}

func (r Route) withDefaults() Route {
	switch {
	case r.Changes != nil:
		or(&r.Snapshot, wordInitial)
	case r.Outbox == nil:
		or(&r.Snapshot, wordNever)
	}
	if r.Outbox != nil {
		or(&r.Stream, "${aggregatetype}")
		o := r.Outbox.withDefaults()
		r.Outbox = &o
	}
	if r.Changes != nil {
		if r.Changes.Envelope == envelopeDebezium {
			or(&r.Stream, "${bridge}.${schema}.${table}")
		}
		or(&r.Stream, "${schema}.${table}")
		c := r.Changes.withDefaults()
		r.Changes = &c
	}
	if r.Columns != nil {
		c := *r.Columns
		or(&c.At, wordBridge)
		r.Columns = &c
	}
	return r
}

func (o Outbox) withDefaults() Outbox {
	or(&o.ID, "id")
	or(&o.Key, "aggregateid")
	or(&o.Type, "type")
	or(&o.Payload, "payload")
	or(&o.PayloadFormat, formatJSON)
	or(&o.OnUpdate, wordSkip)
	or(&o.Format, wordPlain)
	return o
}

func (c Changes) withDefaults() Changes {
	or(&c.Envelope, envelopeWalbridge)
	or(&c.Order, orderKey)
	or(&c.Truncate, truncatePropagate)
	or(&c.Numeric, numericExact)
	or(&c.Int64, int64Number)
	return c
}

// or gives *s the value v when it has none.
func or(s *string, v string) {
	if *s == "" {
		*s = v
	}
}
