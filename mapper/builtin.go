package mapper

import "github.com/walbridge/walbridge/decoder"

// OIDs of the built-in types whose values are more than text in JSON
// (catalog/pg_type.dat; fixed for good).
const (
	oidBool        = 16
	oidBytea       = 17
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidNumeric     = 1700
	oidJSONB       = 3802
	oidText        = 25
)

// builtinForm returns the form of a built-in type that is more than text.
func builtinForm(oid uint32, nf numberFormat) (f form, ok bool) {
	switch oid {
	case oidBool:
		return formBool, true
	case oidInt2, oidInt4:
		return formInt, true
	case oidInt8:
		return nf.int8, true
	case oidFloat4, oidFloat8:
		return formFloat, true
	case oidNumeric:
		return nf.numeric, true
	case oidTimestamp:
		return formTimestamp, true
	case oidTimestamptz:
		return formTimestamptz, true
	case oidJSON, oidJSONB:
		return formJSON, true
	case oidBytea:
		return formBytea, true
	}
	return formText, false
}

// builtinCodec is builtinForm with what else the value needs. The codec is that of text
// when ok is false.
func builtinCodec(oid uint32, nf numberFormat) (made *codec, ok bool) {
	if nf.debezium {
		c, ok := debeziumForm(oid, nf)
		return &c, ok
	}
	f, ok := builtinForm(oid, nf)
	return &codec{form: f}, ok
}

// builtinFormByName is builtinForm by pg_type.typname.
func builtinFormByName(name string, nf numberFormat) form {
	oid := map[string]uint32{
		"bool": oidBool, "bytea": oidBytea, "int8": oidInt8, "int2": oidInt2, "int4": oidInt4,
		"json": oidJSON, "float4": oidFloat4, "float8": oidFloat8, "timestamp": oidTimestamp,
		"timestamptz": oidTimestamptz, "numeric": oidNumeric, "jsonb": oidJSONB,
	}[name]
	f, _ := builtinForm(oid, nf)
	return f
}

// builtinArray returns the type of the elements of a built-in array, 0 for one
// whose elements are text, and the sign between them. int2vector and oidvector are
// not among them: their text is no array's.
func builtinArray(oid uint32) (elem uint32, delim byte, ok bool) {
	switch oid {
	case 1000:
		return oidBool, ',', true
	case 1001:
		return oidBytea, ',', true
	case 1016:
		return oidInt8, ',', true
	case 1005:
		return oidInt2, ',', true
	case 1007:
		return oidInt4, ',', true
	case 199:
		return oidJSON, ',', true
	case 1021:
		return oidFloat4, ',', true
	case 1022:
		return oidFloat8, ',', true
	case 1115:
		return oidTimestamp, ',', true
	case 1185:
		return oidTimestamptz, ',', true
	case 1231:
		return oidNumeric, ',', true
	case 3807:
		return oidJSONB, ',', true
	case 1020: // box, whose own text has commas
		return 0, ';', true
	case 143, 271, 629, 651, 719, 775, 791, 1002, 1003, 1006, 1008, 1009,
		1010, 1011, 1012, 1013, 1014, 1015, 1017, 1018, 1019, 1027, 1028, 1034,
		1040, 1041, 1182, 1183, 1187, 1270, 1561, 1563, 2201, 2207, 2208, 2209,
		2210, 2211, 2949, 2951, 3221, 3643, 3644, 3645, 3735, 3770, 3905, 3907,
		3909, 3911, 3913, 3927, 4073, 4090, 4097, 4192, 5039, 6150, 6151, 6152,
		6153, 6155, 6157:
		return 0, ',', true
	}
	return 0, 0, false
}

// isJSONColumn reports whether a column's text is JSON by its type.
func isJSONColumn(col *decoder.Column) bool {
	return keyColumn(col).form == formJSON
}

// isByteaColumn reports whether a column's text is the hex form of bytes.
func isByteaColumn(col *decoder.Column) bool {
	return keyColumn(col).form == formBytea
}
