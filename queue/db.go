package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/migrations"
)

// Statements go out with text parameters and come back binary, each parsed and run
// in one message exchange without a name, so that nothing is kept in a session: it
// works through a transaction pooler as well.

// call runs one statement and gives its rows to each, whose values are valid until
// it returns. each may be nil.
func call(ctx context.Context, conn *pgconn.PgConn, each func(row [][]byte) error, sql string, args ...any) error {
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = textOf(a)
	}
	rows := conn.ExecParams(ctx, sql, values, nil, nil, []int16{1})
	var failed error
	for rows.NextRow() {
		if each != nil && failed == nil {
			failed = each(rows.Values())
		}
	}
	if _, err := rows.Close(); err != nil {
		return translate(err)
	}
	return failed
}

// textOf is a parameter in text form.
func textOf(a any) []byte {
	switch a := a.(type) {
	case nil:
		return nil
	case string:
		return []byte(a)
	case []byte:
		return a
	case int:
		return strconv.AppendInt(nil, int64(a), 10)
	case int64:
		return strconv.AppendInt(nil, a, 10)
	case bool:
		return strconv.AppendBool(nil, a)
	case time.Duration:
		return fmt.Appendf(nil, "%d microseconds", a.Microseconds())
	case []int64:
		return arrayOf(len(a), func(b []byte, i int) []byte { return strconv.AppendInt(b, a[i], 10) })
	case []string:
		return arrayOf(len(a), func(b []byte, i int) []byte {
			return append(append(append(b, '"'), strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a[i])...), '"')
		})
	}
	panic(fmt.Sprintf("parameter of type %T", a)) // this package's own statements only
}

func arrayOf(n int, element func([]byte, int) []byte) []byte {
	b := []byte{'{'}
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = element(b, i)
	}
	return append(b, '}')
}

// Values in binary form; what is too short is 0. NULL is nil.

func int16Of(v []byte) int {
	if len(v) < 2 {
		return 0
	}
	return int(int16(binary.BigEndian.Uint16(v)))
}

func int32Of(v []byte) int {
	if len(v) < 4 {
		return 0
	}
	return int(int32(binary.BigEndian.Uint32(v)))
}

func int64Of(v []byte) int64 {
	if len(v) < 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(v))
}

func boolOf(v []byte) bool { return len(v) > 0 && v[0] != 0 }

// postgresEpoch is 2000-01-01 in microseconds of Unix.
const postgresEpoch = 946_684_800_000_000

func timeOf(v []byte) time.Time {
	if len(v) < 8 {
		return time.Time{}
	}
	return time.UnixMicro(int64Of(v) + postgresEpoch).UTC()
}

// errLostLease: at least one lane of a statement is no longer ours.
var errLostLease = errors.New("a lane is no longer ours")

// translate gives the schema's own errors names.
func translate(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	names := map[string]error{
		migrations.CodeUnknownSubscription: ErrUnknown, migrations.CodeLostLease: errLostLease, migrations.CodeExpired: ErrExpired, migrations.CodeBelowFloor: ErrFloor, migrations.CodeExists: ErrConflict,
	}
	if name := names[pg.Code]; name != nil {
		return fmt.Errorf("%w: %w", name, err)
	}
	return err
}

func isCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// rolledBack reports whether a statement that failed certainly left nothing: the
// server said so in a session that lives on, or never got it. Anything else, a lost
// connection or an administrator's shutdown in the middle of COMMIT, is unknown.
func rolledBack(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Severity == "ERROR" || pg.SeverityUnlocalized == "ERROR"
	}
	return pgconn.SafeToRetry(err)
}

// hopeless reports whether trying again cannot help: the subscription is gone or
// expired, the schema or the rights are not there.
func hopeless(err error) bool {
	if errors.Is(err, ErrUnknown) || errors.Is(err, ErrExpired) {
		return true
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case migrations.CodeArgument, migrations.CodeIsolation:
		return true
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "42", "3F":
		return true
	}
	return false
}
