// Command record makes the recordings of internal/debeziumtest anew: it runs the
// workload on a PostgreSQL server of its own and Debezium's embedded engine on it.
//
//	go run ./internal/debeziumtest/record -jars DIR
//
// It needs a JDK, and the jars of Debezium that .ci/debezium puts into DIR.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/debeziumtest"
	"github.com/walbridge/walbridge/internal/embeddedpg"
)

// timeout bounds everything; two minutes is usual.
const timeout = 15 * time.Minute

const publication = "recorded"

func main() {
	jars := flag.String("jars", "", "folder of Debezium's `jars`")
	dir := flag.String("dir", "internal/debeziumtest", "folder of the package")
	major := flag.Int("pg", 0, "major version of PostgreSQL (0: the newest found)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := run(ctx, *jars, *dir, *major); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

// recorder holds what the recordings share.
type recorder struct {
	server  *embeddedpg.Server
	jars    string
	dir     string // of the package
	scratch string
	head    debeziumtest.Head
}

func run(ctx context.Context, jars, dir string, major int) (err error) {
	r := &recorder{jars: jars, dir: dir}
	if r.head, err = versions(ctx, jars); err != nil {
		return err
	}
	install, err := embeddedpg.Search{BinDir: os.Getenv("WALBRIDGE_PG_BIN")}.Find(major)
	if err != nil {
		return err
	}
	r.server, err = embeddedpg.Start(ctx, embeddedpg.Config{Install: install, Settings: map[string]string{"wal_level": "logical"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.server.Kill(), r.server.Remove()) }()
	r.head.PostgreSQL = install.Version
	if r.scratch, err = os.MkdirTemp("", "walbridge-record-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.scratch)) }()
	if err := r.workload(ctx); err != nil {
		return err
	}
	for _, plan := range debeziumtest.Plans() {
		n, err := r.record(ctx, plan)
		if err != nil {
			return fmt.Errorf("record %s: %w", plan.Name, err)
		}
		fmt.Printf("%s: %d records\n", plan.Name, n)
	}
	return nil
}

// versions returns those of Debezium and Kafka Connect, by the names of their jars,
// and of Java.
func versions(ctx context.Context, jars string) (head debeziumtest.Head, err error) {
	if head.Debezium, err = version(jars, "debezium-connector-postgres-"); err != nil {
		return head, err
	}
	if head.Connect, err = version(jars, "connect-runtime-"); err != nil {
		return head, err
	}
	out, err := exec.CommandContext(ctx, "java", "--version").Output()
	if err != nil {
		return head, fmt.Errorf("ask Java for its version: %w", err)
	}
	head.Java, _, _ = strings.Cut(string(out), "\n")
	head.Workload = debeziumtest.WorkloadSum()
	return head, nil
}

func version(jars, prefix string) (string, error) {
	found, _ := filepath.Glob(filepath.Join(jars, prefix+"*.jar")) // the pattern is well formed
	if len(found) != 1 {
		return "", fmt.Errorf("%d jars named %s* in %q", len(found), prefix, jars)
	}
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(found[0]), prefix), ".jar"), nil
}

// workload runs the steps, with a slot for each recording made before the changes.
func (r *recorder) workload(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, r.server.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // the server ends anyway
	exec := func(name, sql string) error {
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("workload: %s: %w", name, err)
		}
		return nil
	}
	for i, step := range debeziumtest.Steps() {
		if err := exec(step.Name, step.SQL); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		if err := exec("publication", "CREATE PUBLICATION "+publication+" FOR ALL TABLES"); err != nil {
			return err
		}
		for _, plan := range debeziumtest.Plans() {
			if err := exec("slot", "SELECT pg_create_logical_replication_slot('"+plan.Name+"', 'pgoutput')"); err != nil {
				return err
			}
		}
	}
	return nil
}

// record makes one recording and returns how many records it has.
func (r *recorder) record(ctx context.Context, plan debeziumtest.Plan) (int, error) {
	properties, err := r.properties(plan)
	if err != nil {
		return 0, err
	}
	output := filepath.Join(r.scratch, plan.Name)
	cmd := exec.CommandContext(ctx, "java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", filepath.Join(r.jars, "*"),
		filepath.Join(r.dir, "record", "Recorder.java"), properties, plan.Converters, output)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("run the engine: %w", err)
	}
	records, err := os.ReadFile(output)
	if err != nil {
		return 0, err
	}
	head := r.head
	head.Snapshot, head.Converters, head.Settings = plan.Snapshot, plan.Converters, plan.Settings
	first, err := json.Marshal(head)
	if err != nil {
		return 0, err
	}
	text := append(append(first, '\n'), records...)
	path := filepath.Join(r.dir, "testdata", plan.Name+".jsonl")
	return strings.Count(string(records), "\n"), os.WriteFile(path, text, 0o644)
}

// properties writes the engine's settings and returns the file's path.
func (r *recorder) properties(plan debeziumtest.Plan) (string, error) {
	lines := []string{
		"name=" + plan.Name,
		"database.hostname=127.0.0.1",
		fmt.Sprintf("database.port=%d", r.server.Port()),
		"database.user=postgres",
		"database.password=unused",
		"database.dbname=postgres",
		"slot.name=" + plan.Name,
		"publication.name=" + publication,
	}
	for name, value := range plan.Settings {
		lines = append(lines, name+"="+value)
	}
	slices.Sort(lines)
	path := filepath.Join(r.scratch, plan.Name+".properties")
	return path, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}
