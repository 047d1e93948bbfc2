package mapper

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// golden runs one script of testdata/golden. Its commands:
//
//	routes                      the routes as YAML; prints the problems or ok
//	table NAME [identity=d] [pk=(a,b)]   columns, each "name type", * marks the identity's
//	insert|update|delete|read|truncate NAME [cut=N] [cascade] [restart]
//	                            new:, old: and key: with values between " | "
//	message PREFIX [outside] [cut=N]   the content of a logical message
//	counts                      what gave no item
//	explain NAME [nosample]     the values of a sample row as name=value
//
// Every change is also mapped twice and mapped again from its raw form, which must
// not differ.
type golden struct {
	cfg    Config
	m      *Mapper
	tables map[string]*decoder.Relation
	pks    map[string][]string
}

func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		g := &golden{tables: map[string]*decoder.Relation{}, pks: map[string][]string{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return g.run(t, d) })
	})
}

func (g *golden) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "routes":
		return g.routes(t, d)
	case "table":
		return g.table(t, d)
	case "counts":
		return fmt.Sprintf("%+v", g.m.Counts())
	case "explain":
		return g.explain(t, d)
	}
	return g.change(t, d)
}

func (g *golden) routes(t *testing.T, d *datadriven.TestData) string {
	var cfg Config
	require.NoError(t, yaml.UnmarshalWithOptions([]byte("routes:\n"+d.Input), &cfg, yaml.Strict()))
	g.cfg = cfg
	return g.make()
}

func (g *golden) make() string {
	var err error
	if g.m, err = New(g.cfg, Env{Bridge: "shop", Database: "shopdb", Types: testTypes(), PrimaryKeys: g.pks}); err != nil {
		return err.Error()
	}
	return "ok"
}

func (g *golden) table(t *testing.T, d *datadriven.TestData) string {
	name, identity := d.CmdArgs[0].Key, "d"
	d.MaybeScanArgs(t, "identity", &identity)
	for _, arg := range d.CmdArgs {
		if arg.Key == "pk" {
			g.pks[name] = arg.Vals
			g.make()
		}
	}
	schema, table, _ := strings.Cut(name, ".")
	g.tables[name] = newRelation(schema, table, decoder.ReplicaIdentity(identity[0]), strings.Split(d.Input, "\n")...)
	return ""
}

func (g *golden) change(t *testing.T, d *datadriven.TestData) string {
	op, err := parseOp(d.Cmd)
	require.NoError(t, err)
	if op == decoder.OpMessage {
		return g.message(t, d)
	}
	rel := g.tables[d.CmdArgs[0].Key]
	require.NotNil(t, rel, "no table %s", d.CmdArgs[0].Key)
	c := change(op, rel)
	c.Cascade, c.RestartIdentity = d.HasArg("cascade"), d.HasArg("restart")
	d.MaybeScanArgs(t, "cut", &c.CutSize)
	if op == decoder.OpRead {
		c.Tx = nil
	}
	for _, line := range strings.Split(d.Input, "\n") {
		what, values, _ := strings.Cut(line, ": ")
		row := tuple(goldenValues(t, values)...)
		switch what {
		case "new":
			c.New = row
		case "old":
			c.Old = row
		case "key":
			c.Old, c.OldIsKey = row, true
		}
	}
	return g.mapped(t, c)
}

func (g *golden) message(t *testing.T, d *datadriven.TestData) string {
	c := change(decoder.OpMessage, nil)
	c.Prefix, c.Content, c.LSN, c.Transactional = d.CmdArgs[0].Key, []byte(d.Input), c.ID.Commit-8, !d.HasArg("outside")
	d.MaybeScanArgs(t, "cut", &c.CutSize)
	if c.CutSize > 0 {
		c.Content = nil
	}
	if !c.Transactional {
		c.ID, c.Tx = lsn.ID{Commit: c.LSN - 1}, nil
	}
	return g.mapped(t, c)
}

// goldenValues splits a row; a value in Go quotes may hold anything.
func goldenValues(t *testing.T, s string) []string {
	list := strings.Split(s, " | ")
	for i, v := range list {
		if strings.HasPrefix(v, "go\"") {
			var err error
			list[i], err = strconv.Unquote(v[2:])
			require.NoError(t, err)
		}
	}
	return list
}

func (g *golden) mapped(t *testing.T, c *decoder.Change) string {
	items, err := g.m.Map(c)
	replayable := len(items) == 0 || items[0].DeadLetter == nil || items[0].DeadLetter.Replayable
	first := show(items, err)
	require.NotContains(t, first, "MARKER", "what must not leave has left")
	require.Equal(t, first, show(g.m.Map(c)), "a redelivery differs")
	if !replayable {
		_, err = DecodeRaw(EncodeRaw(c, nil))
		require.Error(t, err)
		return first
	}
	raw := EncodeRaw(c, nil)
	require.True(t, json.Valid(raw), "%s", raw)
	again, err := DecodeRaw(raw)
	require.NoError(t, err)
	require.Equal(t, first, show(g.m.Map(again)), "a replay differs")
	return first
}

// show prints items.
func show(items []Item, err error) string {
	if err != nil {
		return err.Error()
	}
	if len(items) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for i := range items {
		it := &items[i]
		fmt.Fprintf(&b, "%s %s stream=%q key=%s event=%s type=%s", it.Kind, it.ID, it.Stream, orNone(it.Key), it.EventID, orNone(it.Type))
		if it.Headers != nil {
			fmt.Fprintf(&b, " headers=%s", it.Headers)
		}
		if it.Time != it.CommittedAt {
			fmt.Fprintf(&b, " time=%s", it.Time.Time())
		}
		if it.AvailableAt != 0 {
			fmt.Fprintf(&b, " available=%s", it.AvailableAt.Time())
		}
		if it.AllLanes {
			b.WriteString(" all-lanes")
		}
		b.WriteString("\n" + showBody(it) + "\n")
	}
	return b.String()
}

func showBody(it *Item) string {
	if d := it.DeadLetter; d != nil {
		if !json.Valid(d.Raw) {
			return "RAW IS NO JSON"
		}
		return fmt.Sprintf("%s: %s (replayable %t)\n%s", d.Reason, d.Error, d.Replayable, d.Raw)
	}
	if it.Payload == nil {
		return "no value"
	}
	js := it.Payload.AppendJSON([]byte("x"))[1:]
	if !json.Valid(js) || it.Headers != nil && !json.Valid(it.Headers) {
		return "NO JSON: " + string(js)
	}
	return string(js)
}

func orNone(b []byte) string {
	if b == nil {
		return "∅"
	}
	return string(b)
}
