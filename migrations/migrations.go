package migrations

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// Version is the schema that this program makes and knows.
	Version = 8
	// CompatibleFrom is the oldest program version that works with schema Version.
	CompatibleFrom = 5
	// DefaultSchema is the schema that configurations default to.
	DefaultSchema = "walbridge"
	// DefaultLanes is the number of lanes that configurations default to.
	DefaultLanes = 64
	// MaxLanes bounds the number of lanes: an item of all lanes is a row for each.
	MaxLanes = 1024
	// Channel is the NOTIFY channel that says that log has new rows; the payload is
	// the schema's name.
	Channel = "walbridge_log"
	// MarkChannel is the NOTIFY channel that asks who stores a source's position to
	// store where it is; the payload is what Mark returns.
	MarkChannel = "walbridge_mark"
)

// The first keys of two-key advisory locks. The second is the schema's OID; of
// LockMigrations hashtext(schema name), since the schema may not exist yet.
const (
	LockLog        int32 = 0x57420001 // transaction lock: adding to log
	LockPartitions int32 = 0x57420002 // transaction lock: making partitions
	LockMigrations int32 = 0x57420003 // session lock: migrating

	// LockSubscriptions is a transaction lock: making, moving and dropping
	// subscriptions, and taking partitions away.
	LockSubscriptions int32 = 0x57420004
	LockInbox         int32 = 0x57420005 // transaction lock: moving rows of inbox to log

	// LockWait is a lock of who waits for a source's position; the second key is
	// hashtext(what Mark returns).
	LockWait int32 = 0x57420006
)

// SQLSTATEs that the schema's functions raise.
const (
	CodeFenced   = "WB001" // the source has been opened by another writer
	CodeArgument = "WB002" // an argument is out of range

	CodeIsolation           = "WB003" // the transaction is not READ COMMITTED
	CodeUnknownSubscription = "WB004" // there is no such subscription
	CodeLostLease           = "WB005" // a lane is no longer at the worker's generation; the detail lists the lanes, as 3,7
	CodeExpired             = "WB006" // log no longer waited for the subscription; only a reset leads out
	CodeBelowFloor          = "WB007" // log no longer holds the start; the detail is the first seq it holds
	CodeTransaction         = "WB008" // next in a transaction that already wrote
	CodeExists              = "WB009" // the subscription exists and reads other streams
	CodeDeadLetter          = "WB010" // not an open dead letter of a subscription
	CodeNotLatest           = "WB011" // a newer item of the key is there; the detail is its seq
	CodeNoItem              = "WB012" // the item is neither parked nor in log, or not in the hand of the receipt
)

//go:embed sql/*.sql
var files embed.FS

// schemaName is what a schema may be called: what needs no thought in shells and
// configuration files, and leaves room for suffixes in 63 bytes.
var schemaName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,47}$`)

// CheckSchema returns an error that says what a schema may be called, unless name
// is one: letters, digits, _ and -, not beginning with a digit, at most 48 bytes,
// not pg_….
func CheckSchema(name string) error {
	if !schemaName.MatchString(name) || strings.HasPrefix(name, "pg_") {
		return fmt.Errorf("%q is no schema name that walbridge uses: letters, digits, _ and -, at most 48, not beginning with a digit or pg_", name)
	}
	return nil
}

// Mark names a source of a schema where somebody waits for its position.
func Mark(schema, source string) string { return schema + " " + source }

// InboxSource is the source of what workers move from inbox to log.
const InboxSource = "inbox"

// CheckLanes returns an error unless n is a possible number of lanes.
func CheckLanes(n int) error {
	if n < 1 || n > MaxLanes {
		return fmt.Errorf("%d lanes: the number of lanes is between 1 and %d", n, MaxLanes)
	}
	return nil
}

// Ident quotes an identifier for SQL.
func Ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Literal quotes a string for SQL, for servers with standard_conforming_strings
// on, which is the default since 9.1.
func Literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// render fills in a migration. Every placeholder stands for something that is
// quoted here, or a number.
func render(sql []byte, schema string, lanes int) []byte {
	return []byte(strings.NewReplacer(
		"{{schema}}", Ident(schema),
		"{{schema_literal}}", Literal(Ident(schema)), // for regnamespace
		"{{schema_name_literal}}", Literal(schema), // for format('%I')
		"{{schema_in_literal}}", strings.ReplaceAll(Ident(schema), "'", "''"), // inside a literal, for regclass
		"{{lanes}}", strconv.Itoa(lanes),
		"{{log_lock}}", strconv.Itoa(int(LockLog)),
		"{{partition_lock}}", strconv.Itoa(int(LockPartitions)),
		"{{inbox_lock}}", strconv.Itoa(int(LockInbox)),
		"{{wait_lock}}", strconv.Itoa(int(LockWait)),
		"{{mark_channel}}", MarkChannel,
		"{{subscription_lock}}", strconv.Itoa(int(LockSubscriptions)),
	).Replace(string(sql)))
}

// FS returns the migrations for a schema and its number of lanes, in goose's
// format, at its root.
func FS(schema string, lanes int) (fs.FS, error) {
	if err := CheckSchema(schema); err != nil {
		return nil, err
	}
	if err := CheckLanes(lanes); err != nil {
		return nil, err
	}
	sub, err := fs.Sub(files, "sql")
	if err != nil {
		return nil, fmt.Errorf("open the embedded migrations: %w", err)
	}
	return rendered{sub, schema, lanes}, nil
}

// InboxSQL returns the statements that make the inbox alone, in the database of
// the applications; they change nothing where it exists.
func InboxSQL(schema string) (string, error) {
	fsys, err := FS(schema, DefaultLanes) // the inbox has no lanes
	if err != nil {
		return "", err
	}
	sql, err := fs.ReadFile(fsys, "00005_inbox.sql")
	if err != nil {
		return "", fmt.Errorf("read the embedded migration of the inbox: %w", err)
	}
	up, _, _ := strings.Cut(string(sql), "UPDATE "+Ident(schema)+".schema_version")
	return "CREATE SCHEMA IF NOT EXISTS " + Ident(schema) + ";\n" + strings.TrimPrefix(up, "-- +goose Up\n"), nil
}

// rendered is the embedded folder with its placeholders filled in.
type rendered struct {
	fs.FS
	schema string
	lanes  int
}

// Open returns a folder as it is, a file filled in.
func (r rendered) Open(name string) (fs.File, error) {
	f, err := r.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return f, err
	}
	_ = f.Close() // embedded: nothing is open
	raw, err := fs.ReadFile(r.FS, name)
	if err != nil {
		return nil, err
	}
	text := render(raw, r.schema, r.lanes)
	return &file{bytes.NewReader(text), name, int64(len(text))}, nil
}

// file is one migration, filled in.
type file struct {
	*bytes.Reader
	name string
	size int64
}

// file is its own fs.FileInfo, but for Size, which bytes.Reader has as well.

func (f *file) Stat() (fs.FileInfo, error) { return f, nil }
func (f *file) Close() error               { return nil }
func (f *file) Name() string               { return f.name }
func (f *file) Size() int64                { return f.size }
func (f *file) Mode() fs.FileMode          { return 0o444 }
func (f *file) ModTime() time.Time         { return time.Time{} }
func (f *file) IsDir() bool                { return false }
func (f *file) Sys() any                   { return nil }
