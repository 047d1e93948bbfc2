package mapper

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// Markers for values that are no text, in rows written as strings.
const (
	null      = "∅"
	unchanged = "<unchanged>"
)

// typeOIDs are the types of tests by name; others have the OID of text.
func typeOIDs() map[string]uint32 {
	return map[string]uint32{
		"bool": oidBool, "bytea": oidBytea, "int8": oidInt8, "int2": oidInt2, "int4": oidInt4, "text": 25,
		"json": oidJSON, "jsonb": oidJSONB, "float4": oidFloat4, "float8": oidFloat8, "numeric": oidNumeric,
		"timestamp": oidTimestamp, "timestamptz": oidTimestamptz, "date": 1082, "time": 1083, "interval": 1186,
		"uuid": 2950, "varchar": 1043, "inet": 869, "int4range": 3904, "_int4": 1007, "_text": 1009, "_json": 199,
		"_numeric": 1231, "_box": 1020, "_bytea": 1001, "int2vector": 22, "_timestamptz": 1185, "_bool": 1000,
		"pair": 20001, "_pair": 20002, "mood": 20003, "posint": 20004, "hstore": 20005, "nested": 20006, "lost": 20099,
	}
}

// testTypes are user types: a composite, its array, an enum, a domain, hstore.
func testTypes() catalog.Types {
	ids := typeOIDs()
	list := []*catalog.Type{
		{Name: "pair", Kind: catalog.TypeComposite, Fields: []catalog.Field{{Name: "n", TypeOID: oidInt4}, {Name: "say \"s\"", TypeOID: 25}}},
		{Name: "_pair", Kind: catalog.TypeArray, Elem: ids["pair"], Delim: ','},
		{Name: "mood", Kind: catalog.TypeEnum},
		{Name: "posint", Kind: catalog.TypeDomain, Base: oidInt4},
		{Name: "hstore", Kind: catalog.TypeBase, Extension: "hstore"},
		{Name: "nested", Kind: catalog.TypeComposite, Fields: []catalog.Field{{Name: "p", TypeOID: ids["pair"]}, {Name: "list", TypeOID: ids["_pair"]}, {Name: "doc", TypeOID: oidJSON}}},
	}
	types := catalog.Types{}
	for _, t := range list {
		t.OID, t.Namespace = ids[t.Name], "public"
		types[t.OID] = t
	}
	return types
}

// newRelation describes a table by its columns, each "name type", with * before the
// name of one that is part of the replica identity.
func newRelation(schema, table string, identity decoder.ReplicaIdentity, columns ...string) *decoder.Relation {
	r := &decoder.Relation{OID: 16384 + uint32(len(schema)*100+len(table)), Namespace: schema, Name: table, Identity: identity}
	for _, c := range columns {
		name, typ, _ := strings.Cut(c, " ")
		key := strings.HasPrefix(name, "*") || identity == decoder.IdentityFull
		oid, ok := typeOIDs()[typ]
		if !ok {
			oid = 25
		}
		r.Columns = append(r.Columns, decoder.Column{Name: strings.TrimPrefix(name, "*"), TypeOID: oid, TypeMod: -1, Key: key})
	}
	return r
}

func testTx() *decoder.Tx {
	return &decoder.Tx{Commit: 0x1924E48, CommitTime: 757382400_123456, Xid: 745}
}

func change(op decoder.Op, rel *decoder.Relation) *decoder.Change {
	tx := testTx()
	return &decoder.Change{ID: lsn.ID{Commit: tx.Commit, Seq: 3}, Op: op, Relation: rel, Tx: tx}
}

func insert(rel *decoder.Relation, values ...string) *decoder.Change {
	c := change(decoder.OpInsert, rel)
	c.New = tuple(values...)
	return c
}

func tuple(values ...string) []decoder.Value {
	row := make([]decoder.Value, len(values))
	for i, v := range values {
		switch v {
		case null:
			row[i].Kind = decoder.ValueNull
		case unchanged:
			row[i].Kind = decoder.ValueUnchanged
		default:
			row[i] = decoder.Value{Kind: decoder.ValueText, Data: []byte(v)}
		}
	}
	return row
}

func newMapper(t testing.TB, cfg Config) *Mapper {
	t.Helper()
	m, err := New(cfg, Env{Bridge: "shop", Database: "shopdb", Types: testTypes()})
	require.NoError(t, err)
	return m
}

// mapOne maps a change that gives one item.
func mapOne(t testing.TB, m *Mapper, c *decoder.Change) *Item {
	t.Helper()
	items, err := m.Map(c)
	require.NoError(t, err)
	require.Len(t, items, 1)
	return &items[0]
}
