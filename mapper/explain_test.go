package mapper

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/catalog"
)

// explain is the command of that name in golden scripts.
func (g *golden) explain(t *testing.T, d *datadriven.TestData) string {
	rel := g.tables[d.CmdArgs[0].Key]
	require.NotNil(t, rel)
	table := &catalog.Table{OID: rel.OID, Schema: rel.Namespace, Name: rel.Name, Identity: byte(rel.Identity)}
	d.MaybeScanArgs(t, "root", &table.Root)
	for _, c := range rel.Columns {
		table.Columns = append(table.Columns, catalog.Column{Name: c.Name, TypeOID: c.TypeOID, Toastable: c.TypeOID == 25})
		if c.Key {
			table.IdentityColumns = append(table.IdentityColumns, c.Name)
		}
	}
	var row map[string]string
	if d.Input != "" {
		row = map[string]string{}
		for _, line := range strings.Split(d.Input, "\n") {
			name, value, _ := strings.Cut(line, "=")
			row[name] = value
		}
	}
	before := g.m.Counts()
	js, err := json.MarshalIndent(g.m.Explain(table, row), "", "  ")
	require.NoError(t, err)
	require.Equal(t, before, g.m.Counts(), "explaining is no mapping")
	return string(js)
}
