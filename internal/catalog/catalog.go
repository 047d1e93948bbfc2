// Package catalog describes the tables and types of a source database as values,
// so that the package that reads the catalog (replication) and the pure one that
// needs it (mapper) need not know each other.
package catalog

// TypeKind is pg_type.typtype, with arrays told apart from base types.
type TypeKind byte

// The kinds of types.
const (
	TypeBase       TypeKind = 'b'
	TypeArray      TypeKind = 'a'
	TypeComposite  TypeKind = 'c'
	TypeDomain     TypeKind = 'd'
	TypeEnum       TypeKind = 'e'
	TypeRange      TypeKind = 'r'
	TypeMultirange TypeKind = 'm'
	TypePseudo     TypeKind = 'p'
)

// Type is one row of pg_type, as far as values need it.
type Type struct {
	OID       uint32
	Namespace string
	Name      string
	Kind      TypeKind
	Elem      uint32  // of an array: the type of its elements
	Delim     byte    // of an array's elements: ',' but for box
	Base      uint32  // of a domain: what it is over, which may be a domain too
	Fields    []Field // of a composite, dropped ones left out
	Extension string  // the extension that made it, such as hstore; empty otherwise
}

// Field is one attribute of a composite type.
type Field struct {
	Name    string
	TypeOID uint32
}

// Types is a set of types by OID. Today's catalog does not know the types of rows
// written long ago: a miss is normal, and such values are carried as text.
type Types map[uint32]*Type

// Table is a table that can be published, with what decides how its changes look.
type Table struct {
	OID      uint32
	Schema   string
	Name     string
	Kind     byte // pg_class.relkind: 'r' table, 'p' partitioned
	Identity byte // pg_class.relreplident: d n f i
	// IdentityColumns are the columns of the key that updates and deletes carry; empty:
	// UPDATE and DELETE fail on the publisher once it is published, unless Identity is f.
	// With Identity f, where they carry the whole row, they are the primary key's.
	IdentityColumns []string
	// Root is the topmost partitioned table ("schema.name"), empty when the table is
	// no partition.
	Root      string
	Unlogged  bool
	Owner     string
	Columns   []Column
	EstRows   int64 // pg_class.reltuples; -1: never analysed
	Bytes     int64 // an estimate by pg_class, its indexes and TOAST with it
	Prunable  bool  // the role may delete its rows, and lock them for that
	Published bool  // by the bridge's publication
	Readable  bool  // the role may SELECT from it, and use its schema
	// RowSecurity: policies of the table decide which rows the role sees.
	RowSecurity bool
}

// Column is one column of a table.
type Column struct {
	Name      string
	TypeOID   uint32
	TypeName  string // format_type
	NotNull   bool
	Toastable bool // attstorage is not plain
	Generated bool
}

// QualifiedName is schema.name, unquoted, as routes and items spell it.
func (t *Table) QualifiedName() string { return t.Schema + "." + t.Name }

// SafeToPublish reports whether UPDATE and DELETE go on working on the publisher
// once the table is published.
func (t *Table) SafeToPublish() bool { return t.Identity == 'f' || len(t.IdentityColumns) > 0 }
