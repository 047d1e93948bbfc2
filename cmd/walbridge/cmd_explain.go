package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink/kafka"
)

func (a *app) explainCommand() *cobra.Command {
	var row string
	cmd := &cobra.Command{
		Use: "explain [schema.table ...]", Short: "Show what becomes of a table's rows",
		Long: `Show which route takes a table, and what an inserted row becomes: kind, stream, key,
type and payload, with a made-up row or the one given by --row. Without a table, all
tables of the source are listed, and the messages that routes take; message:outbox names
those of the prefix outbox. Nothing is changed, and no slot is needed.`,
		Example: `  walbridge explain
  walbridge explain public.outbox --row '{"id":"1","aggregatetype":"order","aggregateid":"9182","type":"OrderPaid","payload":"{}"}'`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.explain(cmd.Context(), args, row) },
	}
	cmd.Flags().StringVar(&row, "row", "", "the row, as a JSON object of columns and PostgreSQL's text of their values; of a message its content")
	a.jsonFlag(cmd)
	return cmd
}

func (a *app) explain(ctx context.Context, names []string, rowText string) error {
	names, messages := messageNames(names)
	row, err := parseRow(rowText, messages)
	if err != nil {
		return err
	}
	loaded, err := a.load()
	if err != nil {
		return err
	}
	src, err := source(loaded, a.quiet())
	if err != nil {
		return err
	}
	tables, err := src.Tables(ctx)
	if err != nil {
		return err
	}
	types, err := src.Types(ctx)
	if err != nil {
		return err
	}
	m, err := newMapper(loaded, mapped{version: a.version})(types, tables)
	if err != nil {
		return err
	}
	all, err := explainAll(m, loaded, tables, subjects{names, messages, row})
	if err != nil {
		return err
	}
	return a.showExplanations(all, len(names)+len(messages) > 0, loaded.Config.Sink.Kafka != nil)
}

// subjects is what is to be explained: everything where nothing is named.
type subjects struct {
	tables, messages []string
	row              rowGiven
}

// explainAll explains tables, and then messages.
func explainAll(m *mapper.Mapper, l configs.Loaded, tables []catalog.Table, e subjects) ([]mapper.Explanation, error) {
	whole := len(e.tables)+len(e.messages) == 0
	var all []mapper.Explanation
	if whole || len(e.tables) > 0 {
		chosen, err := choose(tables, e.tables)
		if err != nil {
			return nil, err
		}
		for i := range chosen {
			if !ownTable(l, &chosen[i]) {
				all = append(all, m.Explain(&chosen[i], e.row.columns))
			}
		}
	}
	for _, name := range e.messages {
		if !m.TakesMessages(strings.TrimPrefix(name, messageName)) {
			return nil, fault.Config(fault.Problem{Check: "messages", Where: name, What: "no route takes messages of this prefix", Fix: "a route with messages: [" + strings.TrimPrefix(name, messageName) + "]"})
		}
	}
	for _, x := range m.ExplainMessages(e.row.content) {
		if whole || slices.Contains(e.messages, x.Table) {
			all = append(all, x)
		}
	}
	return all, nil
}

// messageName begins the names of messages among those of tables.
var messageName = mapper.MessageTable("")

// messageNames takes the messages out of the names.
func messageNames(names []string) (tables, messages []string) {
	for _, name := range names {
		if strings.HasPrefix(name, messageName) {
			messages = append(messages, name)
			continue
		}
		tables = append(tables, name)
	}
	return tables, messages
}

// rowGiven is what --row says: the columns of a row, or the content of a message.
type rowGiven struct {
	columns map[string]string
	content []byte
}

func parseRow(text string, messages []string) (rowGiven, error) {
	if text == "" {
		return rowGiven{}, nil
	}
	if len(messages) > 0 {
		return rowGiven{content: []byte(text)}, nil
	}
	var row rowGiven
	if err := json.Unmarshal([]byte(text), &row.columns); err != nil {
		return rowGiven{}, usageError{fmt.Errorf("--row is no JSON object of texts: %w", err)}
	}
	return row, nil
}

// choose picks the named tables; all without names.
func choose(tables []catalog.Table, names []string) ([]catalog.Table, error) {
	if len(names) == 0 {
		return tables, nil
	}
	var chosen []catalog.Table
	for _, name := range names {
		i := indexOf(tables, name)
		if i < 0 {
			return nil, fault.Config(fault.Problem{Check: "table", Where: name, What: "the source has no such table", Fix: "tables are written schema.table; the source has " + someNames(tables)})
		}
		chosen = append(chosen, tables[i])
	}
	return chosen, nil
}

func indexOf(tables []catalog.Table, name string) int {
	for i := range tables {
		if tables[i].QualifiedName() == name {
			return i
		}
	}
	return -1
}

func (a *app) showExplanations(all []mapper.Explanation, whole, toKafka bool) error {
	stream := "stream"
	if toKafka {
		stream = "topic"
	}
	if a.json {
		return a.printJSON(all)
	}
	if !whole {
		t := table.NewWriter()
		t.SetOutputMirror(a.stdout)
		t.AppendHeader(table.Row{"table", "route", "kind", stream, "key", "note"})
		for _, e := range all {
			t.AppendRow(table.Row{e.Table, route(e), e.Kind, e.Stream, e.Key, e.Why})
		}
		t.Render()
		return nil
	}
	w := bufio.NewWriter(a.stdout)
	for _, e := range all {
		fmt.Fprintf(w, "%s\n", e.Table)
		for _, line := range []struct{ name, value string }{
			{"route", route(e)}, {"not mapped", e.Why}, {"kind", e.Kind}, {stream, e.Stream}, {"key", e.Key}, {"id", e.EventID},
			{"type", e.Type}, {"envelope", e.Envelope}, {"headers", e.Headers}, {"and", ownHeaders(e, toKafka)}, {"payload", e.Payload}, {"note", strings.Join(e.Notes, "; ")},
		} {
			if line.value != "" {
				fmt.Fprintf(w, "  %-10s  %s\n", line.name, line.value)
			}
		}
	}
	return w.Flush()
}

// ownHeaders names the headers that a record in Kafka has beside the item's.
func ownHeaders(e mapper.Explanation, toKafka bool) string {
	if !toKafka || e.Why != "" {
		return ""
	}
	return "the headers " + strings.Join(kafka.OwnHeaders(e.Kind == mapper.KindEvent.String()), ", ")
}

func route(e mapper.Explanation) string {
	if e.Route < 0 {
		return "none"
	}
	return fmt.Sprintf("routes[%d]", e.Route)
}
