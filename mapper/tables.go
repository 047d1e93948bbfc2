package mapper

import (
	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/catalog"
)

// facts is what the catalog says of a table and the stream does not.
type facts struct {
	root    string          // schema.table of the topmost partitioned table; empty: it is no partition
	key     []string        // the columns that key it where the stream marks all of them
	notNull map[string]bool // the columns that are NOT NULL
}

func factsOf(t *catalog.Table) *facts {
	f := &facts{root: t.Root, key: t.IdentityColumns, notNull: make(map[string]bool)}
	for _, c := range t.Columns {
		if c.NotNull {
			f.notNull[c.Name] = true
		}
	}
	return f
}

// tables is what is known of the catalog's tables. By OID is exact: a table that was
// dropped and made again is two. By name is for rows of a table that was dropped before
// the catalog was read, and made again since.
type tables struct {
	byOID  map[uint32]*facts
	byName map[string]*facts
	// asked are the OIDs that were missed, or that no route took: each asks once.
	asked map[uint32]struct{}
	// keys are the primary keys that are given by name, and win.
	keys map[string][]string
}

func newTables(env Env) tables {
	k := tables{byOID: make(map[uint32]*facts), byName: make(map[string]*facts), asked: make(map[uint32]struct{}), keys: env.PrimaryKeys}
	for i := range env.Tables {
		k.add(&env.Tables[i])
	}
	return k
}

func (k *tables) add(t *catalog.Table) {
	f := factsOf(t)
	k.byOID[t.OID] = f
	k.byName[t.QualifiedName()] = f
}

// of returns what is known of a relation; never nil.
func (k *tables) of(rel *decoder.Relation) *facts {
	if f := k.byOID[rel.OID]; f != nil {
		return f
	}
	return k.named(qualified(rel))
}

// named is of for a table whose OID is not at hand.
func (k *tables) named(name string) *facts {
	if f := k.byName[name]; f != nil {
		return f
	}
	return &facts{}
}

// key returns the columns of the key of a relation, in the order of the catalog.
func (k *tables) key(rel *decoder.Relation) []string {
	if given, ok := k.keys[qualified(rel)]; ok {
		return given
	}
	return k.of(rel).key
}

// ask reports whether the catalog has to be asked for a table: it is not known or, when
// no route takes it, may have been attached to one since; and it was not asked for yet.
func (k *tables) ask(oid uint32, taken bool) bool {
	if _, again := k.asked[oid]; again || taken && k.byOID[oid] != nil {
		return false
	}
	k.asked[oid] = struct{}{}
	return true
}

// Unknown is what a mapper lacks to map a relation's changes as it should.
type Unknown uint8

// What may be unknown. The table comes first: it decides about the route.
const (
	UnknownNothing Unknown = iota
	UnknownTable           // SetTable is to be called with its OID
	UnknownTypes           // SetTypes is to be called
)

// Unknown says what has to be read from the catalog before a relation's changes are
// mapped, so that its first row looks like its later ones: a table that was made, or
// attached as a partition, after the mapper was told of the tables, and types that the
// set lacks. Each is asked for once. What is unknown then, because it was dropped since,
// is mapped by what the stream says: types are carried as text.
func (m *Mapper) Unknown(rel *decoder.Relation) Unknown {
	if rel == nil {
		return UnknownNothing
	}
	return m.relation(rel).unknown
}

// SetTypes replaces the set of types, which the caller must not change afterwards.
func (m *Mapper) SetTypes(types catalog.Types) {
	m.codecs.set(types)
	m.forget()
}

// SetTable tells what the catalog says of a table today; nil: it has none of that OID.
// What was known of it is replaced, and stays when it is gone: the stream may still come
// to its rows.
func (m *Mapper) SetTable(oid uint32, t *catalog.Table) {
	m.tables.asked[oid] = struct{}{}
	if t != nil {
		m.tables.add(t)
	}
	m.forget()
}

// forget makes every plan be made anew.
func (m *Mapper) forget() {
	m.learned++
	m.latest = nil
}
