// Package decoder turns the messages of PostgreSQL's pgoutput plugin into row
// changes.
//
// It has two layers. A Parser reads one message: bytes in, a struct out, each
// message in a file of its own with its layout. A Decoder follows one session:
// it keeps the relations, numbers the changes, checks that the messages come in
// the order that the protocol promises, and drops what the sink already has.
//
//	Relation, Type,                        Relation, Type, Origin,
//	Message (not                           Insert, Update, Delete, Truncate,
//	transactional)                         Message (transactional)
//	  ┌──────┐           Begin               ┌──────┐
//	  └─▶ outside ────────────────▶ transaction ◀───┘
//	         ▲                           │
//	         └───────────────────────────┘
//	                    Commit
//
// Any other message in any other place is an error. So are messages of streamed
// and of prepared transactions: a bridge never asks for them, since what is
// streamed may still be rolled back.
//
// The package is pure and never copies a value: what it returns aliases the bytes
// that it was given and is valid until the next call. It allocates nothing for a
// row once it has seen the relation, and never what a length on the wire claims.
// It does not interpret values, knows no catalog, and does not decide what an
// error means.
//
// The formats are those of the manual's section "Logical Replication Message
// Formats" (protocol.sgml), read as PostgreSQL reads them itself
// (src/backend/replication/logical/proto.c).
package decoder
