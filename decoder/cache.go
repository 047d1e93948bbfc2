package decoder

// cache holds what a session has said of relations and types. It has an entry for
// each relation that sent a change, as the server has in its session.
type cache struct {
	relations map[uint32]*Relation
	types     map[uint32]typeName
	// recent is the relation that was asked for last: rows of one table come in runs.
	recent *Relation
}

type typeName struct{ namespace, name string }

func newCache() cache {
	return cache{relations: map[uint32]*Relation{}, types: map[uint32]typeName{}}
}

// relation returns nil for an OID that the session has not described.
func (c *cache) relation(oid uint32) *Relation {
	if c.recent != nil && c.recent.OID == oid {
		return c.recent
	}
	rel := c.relations[oid]
	if rel != nil {
		c.recent = rel
	}
	return rel
}

// putType remembers a type's name for the relations that follow.
func (c *cache) putType(m *TypeMessage) {
	if known, ok := c.types[m.OID]; ok && sameNamespace(known.namespace, m.Namespace) && known.name == string(m.Name) {
		return
	}
	c.types[m.OID] = typeName{namespace(m.Namespace), string(m.Name)}
}

// putRelation makes the description the one in force, and leaves the one there is
// when it says the same.
func (c *cache) putRelation(m *RelationMessage) {
	if known := c.relations[m.OID]; known != nil && c.same(known, m) {
		return
	}
	rel := &Relation{
		OID: m.OID, Namespace: namespace(m.Namespace), Name: string(m.Name), Identity: m.Identity,
		Columns: make([]Column, len(m.Columns)),
	}
	for i := range m.Columns {
		rel.Columns[i] = c.column(&m.Columns[i])
	}
	c.relations[m.OID] = rel
	c.recent = rel
}

func (c *cache) column(m *RelationColumn) Column {
	t := c.types[m.TypeOID]
	return Column{
		Name: string(m.Name), TypeOID: m.TypeOID, TypeMod: m.TypeMod, Key: m.Key,
		TypeNamespace: t.namespace, TypeName: t.name,
	}
}

func (c *cache) same(rel *Relation, m *RelationMessage) bool {
	if !sameNamespace(rel.Namespace, m.Namespace) || rel.Name != string(m.Name) ||
		rel.Identity != m.Identity || len(rel.Columns) != len(m.Columns) {
		return false
	}
	for i := range m.Columns {
		if !c.sameColumn(&rel.Columns[i], &m.Columns[i]) {
			return false
		}
	}
	return true
}

func (c *cache) sameColumn(col *Column, m *RelationColumn) bool {
	t := c.types[m.TypeOID]
	return col.Name == string(m.Name) && col.TypeOID == m.TypeOID && col.TypeMod == m.TypeMod && col.Key == m.Key &&
		col.TypeNamespace == t.namespace && col.TypeName == t.name
}

// systemSchema is the schema that the wire has as the empty string (proto.c:
// logicalrep_write_namespace).
const systemSchema = "pg_catalog"

func namespace(b []byte) string {
	if len(b) == 0 {
		return systemSchema
	}
	return string(b)
}

func sameNamespace(s string, b []byte) bool {
	return s == string(b) || len(b) == 0 && s == systemSchema
}
