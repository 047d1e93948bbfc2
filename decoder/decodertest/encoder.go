// Package decodertest builds pgoutput messages for tests: an Encoder that writes
// one message, and a Log that stands in for a server's history.
//
// It is deterministic and writes what it is told, also what no server would
// send. It is written from the manual's "Logical Replication Message Formats",
// apart from the decoder, so that each checks the other.
package decodertest

import (
	"encoding/binary"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// Encoder writes messages, each into memory of its own. Its zero value writes
// them as they are outside of stream blocks.
type Encoder struct {
	// InStream: the messages that carry an xid inside a stream block do, StreamXid.
	InStream  bool
	StreamXid uint32
}

// Text is a value in text form.
func Text(s string) decoder.Value {
	return decoder.Value{Kind: decoder.ValueText, Data: []byte(s)}
}

// Binary is a value in binary form.
func Binary(b []byte) decoder.Value {
	return decoder.Value{Kind: decoder.ValueBinary, Data: b}
}

// Null is NULL.
func Null() decoder.Value { return decoder.Value{Kind: decoder.ValueNull} }

// Unchanged is a TOAST value that an update left alone.
func Unchanged() decoder.Value { return decoder.Value{Kind: decoder.ValueUnchanged} }

// Row is a row of values in text form.
func Row(texts ...string) []decoder.Value {
	row := make([]decoder.Value, len(texts))
	for i, t := range texts {
		row[i] = Text(t)
	}
	return row
}

// Begin encodes a Begin message.
func (Encoder) Begin(final lsn.LSN, at lsn.Micros, xid uint32) []byte {
	return message('B').lsn(final).time(at).uint32(xid)
}

// Commit encodes a Commit message.
func (Encoder) Commit(commit, end lsn.LSN, at lsn.Micros) []byte {
	return message('C').uint8(0).lsn(commit).lsn(end).time(at)
}

// Origin encodes an Origin message.
func (Encoder) Origin(commit lsn.LSN, name string) []byte {
	return message('O').lsn(commit).string(name)
}

// Relation encodes a Relation message. pg_catalog becomes the empty string, as on
// the wire; the types' names are not part of it.
func (e Encoder) Relation(rel *decoder.Relation) []byte {
	b := e.message('R').uint32(rel.OID).namespace(rel.Namespace).string(rel.Name).uint8(byte(rel.Identity))
	b = b.uint16(len(rel.Columns))
	for _, c := range rel.Columns {
		var flags byte
		if c.Key {
			flags = 1
		}
		b = b.uint8(flags).string(c.Name).uint32(c.TypeOID).uint32(uint32(c.TypeMod))
	}
	return b
}

// Type encodes a Type message.
func (e Encoder) Type(oid uint32, namespace, name string) []byte {
	return e.message('Y').uint32(oid).namespace(namespace).string(name)
}

// Insert encodes an Insert message.
func (e Encoder) Insert(rel uint32, row []decoder.Value) []byte {
	return e.message('I').uint32(rel).uint8('N').tuple(row)
}

// Update encodes an Update message. marker is 'K' or 'O' for what old is, 0 when
// there is none.
func (e Encoder) Update(rel uint32, marker byte, old, row []decoder.Value) []byte {
	b := e.message('U').uint32(rel)
	if marker != 0 {
		b = b.uint8(marker).tuple(old)
	}
	return b.uint8('N').tuple(row)
}

// Delete encodes a Delete message. marker is 'K' or 'O' for what old is.
func (e Encoder) Delete(rel uint32, marker byte, old []decoder.Value) []byte {
	return e.message('D').uint32(rel).uint8(marker).tuple(old)
}

// Truncate encodes a Truncate message.
func (e Encoder) Truncate(cascade, restart bool, rels ...uint32) []byte {
	var flags byte
	if cascade {
		flags |= 1
	}
	if restart {
		flags |= 2
	}
	b := e.message('T').uint32(uint32(len(rels))).uint8(flags)
	for _, oid := range rels {
		b = b.uint32(oid)
	}
	return b
}

// Message encodes a logical message; end is the end of its record.
func (e Encoder) Message(transactional bool, end lsn.LSN, prefix string, content []byte) []byte {
	var flags byte
	if transactional {
		flags = 1
	}
	b := e.message('M').uint8(flags).lsn(end).string(prefix).uint32(uint32(len(content)))
	return append(b, content...)
}

// bytes is a message under construction.
type bytes []byte

func message(kind byte) bytes { return bytes{kind} }

// message begins one that carries the xid inside a stream block.
func (e Encoder) message(kind byte) bytes {
	if !e.InStream {
		return message(kind)
	}
	return message(kind).uint32(e.StreamXid)
}

func (b bytes) uint8(v byte) bytes      { return append(b, v) }
func (b bytes) uint16(v int) bytes      { return binary.BigEndian.AppendUint16(b, uint16(v)) }
func (b bytes) uint32(v uint32) bytes   { return binary.BigEndian.AppendUint32(b, v) }
func (b bytes) lsn(v lsn.LSN) bytes     { return binary.BigEndian.AppendUint64(b, uint64(v)) }
func (b bytes) time(v lsn.Micros) bytes { return binary.BigEndian.AppendUint64(b, uint64(v)) }
func (b bytes) string(s string) bytes   { return append(append(b, s...), 0) }
func (b bytes) namespace(s string) bytes {
	if s == "pg_catalog" {
		s = ""
	}
	return b.string(s)
}

func (b bytes) tuple(row []decoder.Value) bytes {
	b = b.uint16(len(row))
	for _, v := range row {
		b = b.uint8(byte(v.Kind))
		if v.Kind == decoder.ValueText || v.Kind == decoder.ValueBinary {
			b = append(b.uint32(uint32(len(v.Data))), v.Data...)
		}
	}
	return b
}
