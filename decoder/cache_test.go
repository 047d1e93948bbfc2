package decoder_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
)

// insertOf decodes the messages and then an insert into relation 1, whose
// relation it returns.
func insertOf(t *testing.T, d *decoder.Decoder, rel *decoder.Relation, messages ...[]byte) *decoder.Relation {
	t.Helper()
	_, err := feed(d, append(messages, enc.Relation(rel), enc.Insert(rel.OID, row(len(rel.Columns), 1)))...)
	require.NoError(t, err)
	return d.Change().Relation
}

func TestUnchangedRelationKeepsItsPointer(t *testing.T) {
	d := inTx(t)
	rel := table(1, 3)
	first := insertOf(t, d, rel)
	require.Equal(t, rel, first)
	require.Same(t, first, insertOf(t, d, rel))
	insertOf(t, d, table(2, 3))
	require.Same(t, first, insertOf(t, d, rel))
}

// Whatever changes gives a new pointer, and the old one still says what it said.
func TestChangedRelationIsANewPointer(t *testing.T) {
	for name, change := range map[string]func(*decoder.Relation){
		"schema":    func(r *decoder.Relation) { r.Namespace = "other" },
		"to system": func(r *decoder.Relation) { r.Namespace = "pg_catalog" },
		"name":      func(r *decoder.Relation) { r.Name = "renamed" },
		"identity":  func(r *decoder.Relation) { r.Identity = decoder.IdentityFull },
		"added": func(r *decoder.Relation) {
			r.Columns = append(r.Columns, decoder.Column{Name: "n", TypeOID: 23, TypeMod: -1})
		},
		"dropped":  func(r *decoder.Relation) { r.Columns = r.Columns[:2] },
		"column":   func(r *decoder.Relation) { r.Columns[1].Name = "renamed" },
		"type":     func(r *decoder.Relation) { r.Columns[1].TypeOID = 20 },
		"modifier": func(r *decoder.Relation) { r.Columns[1].TypeMod = 36 },
		"key":      func(r *decoder.Relation) { r.Columns[1].Key = true },
	} {
		t.Run(name, func(t *testing.T) {
			d := inTx(t)
			first := insertOf(t, d, table(1, 3))
			changed := table(1, 3)
			change(changed)
			second := insertOf(t, d, changed)
			require.NotSame(t, first, second)
			require.Equal(t, changed, second)
			require.Equal(t, table(1, 3), first, "a change bound before keeps its description")
			require.Same(t, second, insertOf(t, d, changed))
		})
	}
}

func TestSystemSchemaIsNamed(t *testing.T) {
	d := inTx(t)
	rel := table(1, 1)
	rel.Namespace = "pg_catalog" // empty on the wire
	first := insertOf(t, d, rel, enc.Type(25, "pg_catalog", "text"))
	require.Equal(t, "pg_catalog", first.Namespace)
	require.Equal(t, "pg_catalog", first.Columns[0].TypeNamespace)
	require.Same(t, first, insertOf(t, d, rel, enc.Type(25, "pg_catalog", "text")))
}

// Type messages name the types of the relations that follow, by the OID of the
// column; a new name is a new relation, once the server has described it again.
func TestTypesNameColumns(t *testing.T) {
	d := inTx(t)
	rel := table(1, 3)
	rel.Columns[1].TypeOID, rel.Columns[2].TypeOID = 16390, 16391
	first := insertOf(t, d, rel, enc.Type(16390, "public", "mood"), enc.Type(16391, "public", "_mood"))
	require.Equal(t, "", first.Columns[0].TypeName)
	require.Equal(t, "mood", first.Columns[1].TypeName)
	require.Equal(t, "_mood", first.Columns[2].TypeName)

	_, err := feed(d, enc.Type(16390, "public", "temper"), enc.Insert(1, decodertest.Row("a", "b", "c")))
	require.NoError(t, err)
	require.Same(t, first, d.Change().Relation)
	second := insertOf(t, d, rel)
	require.NotSame(t, first, second)
	require.Equal(t, "temper", second.Columns[1].TypeName)
	require.Equal(t, "mood", first.Columns[1].TypeName)
}

// What is kept must not alias the frame that it came in.
func TestRelationsOwnTheirNames(t *testing.T) {
	d := inTx(t)
	rel := table(1, 1)
	described, typed := enc.Relation(rel), enc.Type(25, "public", "kind")
	_, err := feed(d, typed, described)
	require.NoError(t, err)
	clear(described)
	clear(typed)
	_, err = feed(d, enc.Insert(1, decodertest.Row("a")))
	require.NoError(t, err)
	rel.Columns[0].TypeNamespace, rel.Columns[0].TypeName = "public", "kind"
	require.Equal(t, rel, d.Change().Relation)
}
