package migrate

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/walbridge/walbridge/migrations"
)

// Print returns the SQL that brings a schema from one version to another, as psql
// takes it: each migration in a transaction, with the note that it ran, so that Up
// and Down go on from there. Equal versions: nothing.
func Print(cfg Config, from, to int) (string, error) {
	cfg = cfg.withDefaults()
	for _, v := range []int{from, to} {
		if v < 0 || v > migrations.Version {
			return "", fmt.Errorf("print migrations: version %d is not between 0 and %d", v, migrations.Version)
		}
	}
	fsys, err := migrations.FS(cfg.Schema, cfg.Lanes)
	if err != nil {
		return "", err
	}
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return "", fmt.Errorf("list the embedded migrations: %w", err)
	}
	var b strings.Builder
	if from == 0 && to > 0 {
		b.WriteString(begin(cfg.Schema))
	}
	for v := from + 1; v <= to; v++ {
		if err := section(&b, fsys, names[v-1], "Up", fmt.Sprintf("INSERT INTO %s.migration (version) VALUES (%d);", migrations.Ident(cfg.Schema), v)); err != nil {
			return "", err
		}
	}
	for v := from; v > to; v-- {
		if err := section(&b, fsys, names[v-1], "Down", fmt.Sprintf("DELETE FROM %s.migration WHERE version = %d;", migrations.Ident(cfg.Schema), v)); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// begin makes the schema and the list of what ran, as goose would.
func begin(schema string) string {
	return "BEGIN;\n" + strings.Join(createStatements(schema), ";\n") +
		";\nINSERT INTO " + migrations.Ident(schema) + ".migration (version) VALUES (0);\nCOMMIT;\n"
}

// section writes one direction of a migration.
func section(b *strings.Builder, fsys fs.FS, name, direction, note string) error {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return fmt.Errorf("read the embedded migration %s: %w", name, err)
	}
	fmt.Fprintf(b, "\n-- %s, %s\nBEGIN;\n", name, strings.ToLower(direction))
	in := false
	for line := range strings.Lines(string(text)) {
		mark, is := strings.CutPrefix(strings.TrimSpace(line), "-- +goose ")
		switch {
		case is && (mark == "Up" || mark == "Down"):
			in = mark == direction
		case in && !is:
			b.WriteString(line)
		}
	}
	b.WriteString(note + "\nCOMMIT;\n")
	return nil
}
