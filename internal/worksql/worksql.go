// Package worksql holds the tests of the consumer protocol as the database offers
// it: the functions of the schema, called as a client in any language calls them,
// over several connections that meet inside them. It has no code of its own.
package worksql
