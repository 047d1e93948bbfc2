package mapper

import (
	"strings"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/catalog"
)

// form is how the text of a value becomes JSON.
type form uint8

const (
	formText form = iota // a string of PostgreSQL's text: every type not named below
	formBool
	formInt         // a number
	formFloat       // a number; NaN and the infinities are strings
	formNumeric     // a number when it is exact as a double, else a string
	formNumericText // always a string
	formNumericAny  // a number; NaN and the infinities are strings
	formTimestamp
	formTimestamptz
	formJSON  // embedded as it is, so that JSON's null and NULL look the same
	formBytea // base64
	formArray
	formComposite
	formHstore

	// Of Debezium's envelope alone.
	formDecimal     // numeric as text
	formMoney       // a decimal as text
	formMoneyNumber // a decimal as a number
	formDays        // a date since 1970
	formTimeOfDay   // a number since midnight
	formZonedTime   // text in UTC
	formEpoch       // a timestamp as a number since 1970
	formZoned       // a timestamptz as text in UTC
	formInterval    // microseconds
	formPoint       // an object
	formBit         // a boolean
	formBits        // base64 of bytes, the lowest first
	formHstoreText  // a string of JSON
)

// codec is how one type's values become JSON. Immutable; codecs share elements.
type codec struct {
	form   form
	elem   *codec       // of an array
	delim  byte         // of an array
	plain  bool         // an array that lower bounds of its own leave an array
	fields []codecField // of a composite
	digits int8         // of a second, in Debezium's envelope
}

type codecField struct {
	label []byte // ,"name":
	codec *codec
}

// maxCodecDepth ends composites that contain themselves by way of arrays or
// domains, which no server allows and a damaged catalog could show.
const maxCodecDepth = 16

// codecs makes codecs and keeps them by type.
type codecs struct {
	types  catalog.Types
	byName map[string]*catalog.Type // "schema.name", of types
	made   map[codecKey]*codec
	// missed: types that were asked for and that the set lacks. They ask for a new
	// set once.
	missed map[uint32]struct{}
	stale  bool // a type was missed for the first time since the set came
}

type codecKey struct {
	oid  uint32
	name string // of the column's Type message: it decides where the set lacks the OID
	numberFormat
}

// numberFormat is the part of a route's settings that changes values.
type numberFormat struct {
	numeric form
	int8    form
	// debezium: the forms of that envelope; typmod is then the column's type modifier, by
	// which they differ, -1 for none.
	debezium bool
	typmod   int32
}

// defaultNumbers is what keys are written with whatever the route says, so that a
// changed setting moves no row to another lane.
func defaultNumbers() numberFormat { return numberFormat{numeric: formNumeric, int8: formInt} }

// maxMissed bounds the memory of types that asked for a refresh; beyond it they
// are forgotten and may ask again.
const maxMissed = 10000

func (c *codecs) set(types catalog.Types) {
	c.types = types
	c.byName = make(map[string]*catalog.Type, len(types))
	for _, t := range types {
		c.byName[t.Namespace+"."+t.Name] = t
	}
	c.made = make(map[codecKey]*codec)
	c.stale = false
	if c.missed == nil || len(c.missed) > maxMissed {
		c.missed = make(map[uint32]struct{})
	}
}

// column returns the codec of a relation's column.
func (c *codecs) column(col *decoder.Column, nf numberFormat) *codec {
	if nf.debezium {
		nf.typmod = col.TypeMod
	}
	key := codecKey{oid: col.TypeOID, numberFormat: nf}
	if col.TypeName != "" {
		key.name = col.TypeNamespace + "." + col.TypeName
	}
	if made, ok := c.made[key]; ok {
		return made
	}
	made := c.ofColumn(col, nf)
	c.made[key] = made
	return made
}

// keyColumn returns the codec for a key. It knows built-in types alone, so that a
// key never depends on whether the set of types had come when the row did.
func keyColumn(col *decoder.Column) *codec {
	builtinOnly := codecs{}
	return builtinOnly.ofColumn(col, defaultNumbers())
}

// ofColumn looks for the type by OID, then by the name that the server sent with
// the relation: that one is of the time when the row was written, when the OID may
// be gone from today's catalog. A domain bears its base type's name there.
func (c *codecs) ofColumn(col *decoder.Column, nf numberFormat) *codec {
	if made, ok := c.ofOID(col.TypeOID, nf, 0); ok {
		return made
	}
	if made, ok := c.ofName(col.TypeNamespace, col.TypeName, nf); ok {
		return made
	}
	c.miss(col.TypeOID)
	return &codec{form: formText}
}

func (c *codecs) miss(oid uint32) {
	if c.missed == nil {
		return
	}
	if _, asked := c.missed[oid]; !asked {
		c.missed[oid] = struct{}{}
		c.stale = true
	}
}

// ofOID returns the codec of a type. ok is false when it is neither built in nor
// in the set.
func (c *codecs) ofOID(oid uint32, nf numberFormat, depth int) (made *codec, ok bool) {
	if made, isBase := builtinCodec(oid, nf); isBase {
		return made, true
	}
	if elem, delim, isArray := builtinArray(oid); isArray {
		nf.typmod = -1
		if own, has := debeziumArray(oid); has {
			elem = own
		}
		inner, _ := builtinCodec(elem, nf)
		return &codec{form: formArray, elem: inner, delim: delim, plain: nf.debezium}, true
	}
	if t := c.types[oid]; t != nil {
		return c.ofType(t, nf, depth), true
	}
	// Types below FirstUnpinnedObjectId (access/transam.h) are PostgreSQL's own: text
	// unless named above, whatever the version.
	const firstUnpinned = 12000
	if oid < firstUnpinned {
		return &codec{form: formText}, true
	}
	return nil, false
}

// ofName finds a type by the name in a Type message.
func (c *codecs) ofName(schema, name string, nf numberFormat) (made *codec, ok bool) {
	if name == "" {
		return nil, false
	}
	if schema == "pg_catalog" {
		elem, isArray := strings.CutPrefix(name, "_")
		base := &codec{form: builtinFormByName(elem, nf)}
		if !isArray {
			return base, true
		}
		delim := byte(',')
		if elem == "box" {
			delim = ';'
		}
		return &codec{form: formArray, elem: base, delim: delim}, true
	}
	if t := c.byName[schema+"."+name]; t != nil {
		return c.ofType(t, nf, 0), true
	}
	return nil, false
}

func (c *codecs) ofType(t *catalog.Type, nf numberFormat, depth int) *codec {
	if depth >= maxCodecDepth {
		return &codec{form: formText}
	}
	switch t.Kind {
	case catalog.TypeDomain:
		return c.inner(t.Base, nf, depth)
	case catalog.TypeArray:
		delim := t.Delim
		if delim == 0 {
			delim = ','
		}
		nf.typmod = -1
		return &codec{form: formArray, elem: c.inner(t.Elem, nf, depth), delim: delim, plain: nf.debezium}
	case catalog.TypeComposite:
		if nf.debezium {
			return &codec{form: formText}
		}
		made := &codec{form: formComposite}
		for _, f := range t.Fields {
			made.fields = append(made.fields, codecField{label(f.Name), c.inner(f.TypeOID, nf, depth)})
		}
		return made
	}
	if t.Extension == "hstore" && t.Name == "hstore" && nf.debezium {
		return &codec{form: formHstoreText}
	}
	if t.Extension == "hstore" && t.Name == "hstore" {
		return &codec{form: formHstore}
	}
	return &codec{form: formText}
}

// inner is the codec of a type that another one is made of.
func (c *codecs) inner(oid uint32, nf numberFormat, depth int) *codec {
	made, ok := c.ofOID(oid, nf, depth+1)
	if !ok {
		c.miss(oid)
		return &codec{form: formText}
	}
	return made
}

// label returns ,"name": for a member of an object.
func label(name string) []byte {
	return append(appendString([]byte{','}, []byte(name)), ':')
}
