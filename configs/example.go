package configs

import _ "embed" // the example and the schema are files of the repository

//go:embed walbridge.example.yaml
var example []byte

//go:embed walbridge.schema.json
var schema []byte

// Example returns a configuration in which every key is explained and has its
// default.
func Example() []byte { return append([]byte(nil), example...) }

// Schema returns the JSON schema (draft 2020-12) of the configuration file, for
// editors that complete and check by one. It accepts what Load accepts of a file
// and refuses what it can: relations between keys are Load's alone.
func Schema() []byte { return append([]byte(nil), schema...) }
