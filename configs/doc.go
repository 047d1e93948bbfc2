// Package configs reads, checks and shows the configuration of a bridge. It
// composes the settings of the stages, which know nothing of it.
//
// # Where a value comes from
//
// Every key has a default, a place in the file and an environment form: the key's
// path in capitals, WALBRIDGE_SOURCE_DSN for source.dsn. The environment wins over
// the file, the file over the default. In the environment a list or a map is
// written as YAML in one line, WALBRIDGE_ROUTES='[{tables: [public.orders], changes: {}}]'.
// A variable that is set and empty counts as not set.
//
// # What a value may refer to
//
//	${NAME}        the environment variable NAME, in every key outside routes
//	${file:/path}  the content of a file, in connection strings and other secrets only
//	$${            the two characters ${
//
// Inside routes ${…} is left alone: there it belongs to stream templates such as
// ${aggregatetype}, which are about a row and not about this process. The one
// exception is a secret there, columns.mask_key, which is no template.
//
// Connection strings keep their expression as it was written. Resolver gives the
// value, and reads the file again each time it is asked, so that a rotated password
// is found by the next connection attempt. All other values are read once, by Load.
//
// # What it refuses
//
// Keys that it does not know, keys given twice, values of another type, anchors,
// aliases, tags and merge keys (a file of a few lines could grow without bound),
// a second document, files above MaxFileBytes. Each problem comes with its line and
// column, and all of them at once. Texts of problems never hold a secret: of the
// file itself they quote keys, and values only where the key is none of a secret.
package configs
