package configs

// laterKeys are the keys that later versions know, by the pattern of their path.
// They get a clear answer instead of a guess at a misspelling.
var laterKeys = map[string]struct{}{
	"source.coverage_interval": {},
	"source.on_new_table":      {},
}
