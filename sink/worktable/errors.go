package worktable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/migrations"
)

var (
	errNotOpen   = errors.New("the sink is not open: Open comes before Write, and after each error of it")
	errForeign   = errors.New("the batch is not one of this sink's, or was filled before the sink was opened")
	errPartition = errors.New("a partition is missing")
)

// SQLSTATEs, by their names in the manual's appendix "PostgreSQL Error Codes".
const (
	codeLockNotAvailable = "55P03"
	codeUniqueViolation  = "23505"
	codeCheckViolation   = "23514"
	codeUndefinedTable   = "42P01"
)

// ourConstraints are the constraints of the tables that a write touches: a row that
// breaks one of them says something about the writer, not about the row.
func ourConstraints() []string {
	return []string{"batch_pkey", "dead_letter_pkey", "stream_pkey", "stream_name_key"}
}

// poisonReasons names the conditions that only the row itself can be the cause of.
// The list is closed: whatever a server reports beside it (a missing partition or
// table, no space, no rights, a deadlock, a shutdown) would pass, or concern all
// rows.
func poisonReason(err error) (string, bool) {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return "", false
	}
	switch pg.Code {
	case "23502":
		return "not_null_violation", true
	case codeUniqueViolation, codeCheckViolation, "23P01":
		// Without a constraint's name it is a missing partition, or a partition's own
		// bounds (execPartition.c, ExecFindPartition; execMain.c,
		// ExecPartitionCheckEmitError).
		theirs := pg.ConstraintName != "" && !slices.Contains(ourConstraints(), pg.ConstraintName)
		return map[string]string{
			codeUniqueViolation: "unique_violation", codeCheckViolation: "check_violation", "23P01": "exclusion_violation",
		}[pg.Code], theirs
	case "P0001":
		return "raise_exception", true
	case "54000":
		return "program_limit_exceeded", true
	}
	return "data_exception", strings.HasPrefix(pg.Code, "22")
}

func isPoison(err error) bool {
	_, poison := poisonReason(err)
	return poison
}

// hasCode reports whether the server gave the SQLSTATE.
func hasCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// isFenced reports whether the server said that a newer writer has the source: by
// the fence, or by a row of batch that was there already.
func isFenced(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) &&
		(pg.Code == migrations.CodeFenced || pg.Code == codeUniqueViolation && pg.ConstraintName == "batch_pkey")
}

// isMissingPartition reports whether log has no partition for a row.
func isMissingPartition(err error) bool {
	var pg *pgconn.PgError
	return errors.Is(err, errPartition) || errors.As(err, &pg) && pg.Code == codeCheckViolation && pg.ConstraintName == ""
}

// operationError gives an error its kind.
func operationError(ctx context.Context, doing string, err error) error {
	var halt *fault.Halt
	var config *fault.ConfigError
	switch {
	case errors.As(err, &halt), errors.As(err, &config), errors.Is(err, fault.ErrFenced):
		return err
	case isFenced(err):
		return fmt.Errorf("%s: %w", doing, fault.ErrFenced)
	case ctx.Err() != nil:
		return fault.Transient("sink_timeout", fmt.Errorf("%s: %w: %w", doing, context.Cause(ctx), redacted(err)))
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return serverError(doing, err)
	}
	return fault.Transient("sink_network", fmt.Errorf("%s: %w", doing, redacted(err)))
}

// serverError tells what only the configuration or an administrator can cure from
// what may pass.
func serverError(doing string, err error) error {
	var pg *pgconn.PgError
	errors.As(err, &pg)
	fix := map[string]string{
		"28P01": "correct the password of sink.worktable.dsn",
		"28000": "allow the role in pg_hba.conf, or correct sink.worktable.dsn",
		"3D000": "create the database, or correct sink.worktable.dsn",
		"3F000": "walbridge setup", // invalid_schema_name
		"42P01": "walbridge migrate up",
		"42883": "walbridge migrate up",
		"42501": "walbridge setup --print shows the GRANTs of the role",
	}[pg.Code]
	if fix == "" {
		return fault.Transient("sink_server", fmt.Errorf("%s: %w", doing, redacted(err)))
	}
	return fault.Config(fault.Problem{
		Check: "sink-" + pg.Code, Where: "sink.worktable", What: doing + ": " + pg.Message, Fix: fix,
	})
}
