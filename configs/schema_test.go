package configs

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"flag"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write walbridge.schema.json")

// words are the keys whose value is one of a few words.
var words = map[string][]string{
	"source.failover":                              {"auto", "on", "off"},
	"source.on_new_table":                          {"alert", "publish"},
	"routes[].snapshot":                            {"initial", "never"},
	"routes[].outbox.payload_format":               {"json", "text", "bytes"},
	"routes[].outbox.on_update":                    {"skip", "halt"},
	"routes[].outbox.format":                       {"plain", "cloudevents"},
	"routes[].changes.envelope":                    {"walbridge", "row", "debezium"},
	"routes[].changes.order":                       {"key", "table"},
	"routes[].changes.truncate":                    {"propagate", "ignore", "halt"},
	"routes[].changes.numeric":                     {"exact", "string", "number"},
	"routes[].changes.int64":                       {"number", "string"},
	"routes[].columns.at":                          {"bridge"},
	"sink.stdout.format":                           {"json", "pretty"},
	"sink.discard.form":                            {"json", "worktable"},
	"on_error.policy":                              {"dead_letter", "halt"},
	"sink.worktable.retention.on_exceeded":         {"expire", "keep"},
	"sink.worktable.retention.events.on_exceeded":  {"expire", "keep"},
	"sink.worktable.retention.changes.on_exceeded": {"expire", "keep"},
	"log.level":                                    {"debug", "info", "warn", "error"},
	"log.format":                                   {"text", "json"},
	"migrate":                                      {"never", "auto"},
	"sink.kafka.delivery":                          {"exactly_once", "at_least_once"},
	"sink.kafka.compression":                       {"none", "gzip", "snappy", "lz4", "zstd"},
}

// patterns are those of keys that are names.
var patterns = map[string]string{
	"name":        `^[a-z0-9_]{1,40}$`,
	"source.slot": `^[a-z0-9_]{0,63}$`,
}

// least are the smallest values of numbers.
var least = map[string]int{"batch.max_items": 1, "on_error.max_per_minute": 1, "sink.worktable.lanes": 1, "sink.kafka.create_topics.partitions": 1, "snapshot.parallel": 1}

const (
	expression      = `\$\{`
	sizePattern     = `^ *[0-9]+(\.[0-9]+)? *([kKmMgGtT][iI]?)?[bB]? *$|` + expression
	durationPattern = `^([0-9]+d)?([0-9.]+(ns|us|µs|ms|s|m|h))*$|^0$|` + expression
)

// generator makes the schema from the structs and the comments of their fields.
type generator struct {
	docs map[reflect.Type]map[string]string // field name to its comment
	t    testing.TB
}

func (g *generator) of(t reflect.Type, path string) map[string]any {
	switch {
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		s := g.of(t.Elem(), path)
		s["type"] = []string{"object", "null"}
		return s
	case t == typeDuration:
		return map[string]any{"type": []string{"string", "integer"}, "pattern": durationPattern, "maximum": 0}
	case t == typeSize:
		return map[string]any{"type": []string{"string", "integer"}, "pattern": sizePattern, "minimum": 0}
	case isScalar(t):
		return g.scalar(t, path)
	case t.Kind() == reflect.Slice:
		return map[string]any{"type": "array", "items": g.of(t.Elem(), path+"[]")}
	case t.Kind() == reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": g.of(t.Elem(), path+".*")}
	}
	return g.section(t, path)
}

func (g *generator) scalar(t reflect.Type, path string) map[string]any {
	outside := !inRoutes(path)
	switch t.Kind() {
	case reflect.Bool:
		return orExpression(map[string]any{"type": "boolean"}, outside)
	case reflect.Int:
		s := map[string]any{"type": "integer"}
		if n, ok := least[path]; ok {
			s["minimum"] = n
		}
		return orExpression(s, outside)
	}
	if values, ok := words[path]; ok {
		return orExpression(map[string]any{"enum": append(slices.Clone(values), "")}, outside)
	}
	if p, ok := patterns[path]; ok {
		return map[string]any{"type": "string", "pattern": p + "|" + expression}
	}
	return map[string]any{"type": []string{"string", "number", "boolean"}} // 1.10 is the text 1.10
}

// orExpression accepts ${NAME} where a value may come from the environment.
func orExpression(s map[string]any, outsideRoutes bool) map[string]any {
	if !outsideRoutes {
		return s
	}
	return map[string]any{"anyOf": []any{s, map[string]any{"type": "string", "pattern": expression}}}
}

func (g *generator) section(t reflect.Type, path string) map[string]any {
	properties := map[string]any{}
	for _, f := range fieldsOf(t) {
		p := join(path, f.key)
		s := g.of(f.typ, p)
		name := t.FieldByIndex(f.index).Name
		owner := t
		if n := len(f.index) - 1; n > 0 {
			owner = t.FieldByIndex(f.index[:n]).Type // inlined
		}
		doc := g.docsOf(owner)[name]
		require.NotEmpty(g.t, doc, "%s.%s has no comment", t, name)
		if rest, ok := strings.CutPrefix(doc, name+" "); ok {
			doc = f.key + " " + rest
		}
		s["description"] = doc
		properties[f.key] = s
	}
	s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	switch path {
	case "routes[]":
		s["anyOf"] = []any{required("tables"), required("messages")}
		s["oneOf"] = []any{required("outbox"), required("inbox"), required("changes")}
	case "sink":
		kinds := []string{"worktable", "kafka", "stdout", "discard"}
		for i, kind := range kinds {
			for _, other := range kinds[i+1:] {
				s["allOf"] = append(anys(s["allOf"]), map[string]any{"not": required(kind, other)})
			}
		}
	}
	return s
}

func anys(v any) []any { list, _ := v.([]any); return list }

func required(keys ...string) map[string]any { return map[string]any{"required": keys} }

// docsOf reads the comments of a struct's fields from its source.
func (g *generator) docsOf(t reflect.Type) map[string]string {
	if docs, ok := g.docs[t]; ok {
		return docs
	}
	const module = "github.com/walbridge/walbridge/"
	dir := filepath.Join("..", strings.TrimPrefix(t.PkgPath(), module))
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(g.t, err)
	docs := map[string]string{}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(g.t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != t.Name() {
				return true
			}
			for _, f := range spec.Type.(*ast.StructType).Fields.List {
				for _, name := range f.Names {
					docs[name.Name] = strings.Join(strings.Fields(f.Doc.Text()+f.Comment.Text()), " ")
				}
			}
			return false
		})
	}
	g.docs[t] = docs
	return docs
}

func generate(t testing.TB) []byte {
	g := &generator{docs: map[reflect.Type]map[string]string{}, t: t}
	s := g.section(reflect.TypeFor[Config](), "")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Configuration of a walbridge bridge"
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	require.NoError(t, e.Encode(s))
	return out.Bytes()
}

func TestSchemaAgreesWithTheStructs(t *testing.T) {
	want := generate(t)
	if *update {
		require.NoError(t, os.WriteFile("walbridge.schema.json", want, 0o644))
		return
	}
	require.Equal(t, string(want), string(Schema()), "run the test with -update")
}

func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("walbridge.schema.json", doc))
	s, err := c.Compile("walbridge.schema.json")
	require.NoError(t, err)
	return s
}

// check validates YAML as an editor does.
func check(t testing.TB, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(text)
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	require.NoError(t, err)
	return s.Validate(doc)
}

func TestSchemaAcceptsTheExamples(t *testing.T) {
	s := compiled(t)
	for _, name := range []string{"walbridge.example.yaml", "minimal.yaml"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, check(t, s, text), name)
	}
	for _, text := range []string{valid, valid + "batch: {wait: 1d, max_bytes: 65536, max_items: \"${ITEMS}\"}\nlog: {level: \"${LEVEL}\"}\nhttp: {pprof: \"${PPROF}\"}\n", "{}"} {
		require.NoError(t, check(t, s, []byte(text)), text)
	}
	shown, err := load(t, string(Example())).Show()
	require.NoError(t, err)
	require.NoError(t, check(t, s, shown))
}

func TestSchemaRefusesTheBadFiles(t *testing.T) {
	s := compiled(t)
	for _, f := range badFiles(t) {
		if f.unseen {
			continue
		}
		require.Error(t, check(t, s, []byte(f.text)), f.name)
	}
}

// TestWordsOfTheSchemaAreThoseOfValidate keeps the table above honest in both
// directions that a test can see: each word is accepted, another is refused.
func TestWordsOfTheSchemaAreThoseOfValidate(t *testing.T) {
	for _, path := range slices.Sorted(maps.Keys(words)) {
		for _, word := range append(slices.Clone(words[path]), "another") {
			problems := problemsOf(t, withKey(t, path, word))
			if word == "another" {
				require.Len(t, problems, 1, path)
				require.Contains(t, problems[0], strings.ReplaceAll(path, "[]", "[0]"))
				continue
			}
			require.Empty(t, problems, "%s: %s", path, word)
		}
	}
}

// withKey makes a valid file in which one key has the value.
func withKey(t testing.TB, path, value string) string {
	t.Helper()
	doc := map[string]any{
		"source": map[string]any{"dsn": "host=db"},
		"routes": []any{map[string]any{"tables": []any{"public.a"}}},
		"sink":   map[string]any{},
	}
	route := doc["routes"].([]any)[0].(map[string]any)
	route["changes"] = map[string]any{}
	if strings.HasPrefix(path, "routes[].outbox") {
		delete(route, "changes")
	}
	switch {
	case strings.HasPrefix(path, "sink.worktable"):
		doc["sink"] = map[string]any{"worktable": map[string]any{"dsn": "host=db"}}
	case strings.HasPrefix(path, "sink.kafka"):
		doc["sink"] = map[string]any{"kafka": map[string]any{"brokers": []any{"k1:9092"}}}
	case !strings.HasPrefix(path, "sink.discard"):
		doc["sink"] = map[string]any{"stdout": map[string]any{}}
	}
	at := doc
	keys := strings.Split(path, ".")
	for _, k := range keys[:len(keys)-1] {
		if k == "routes[]" {
			at = route
			continue
		}
		if at[k] == nil {
			at[k] = map[string]any{}
		}
		at = at[k].(map[string]any)
	}
	last := keys[len(keys)-1]
	at[strings.TrimSuffix(last, "[]")] = value
	text, err := yaml.Marshal(doc)
	require.NoError(t, err)
	return string(text)
}
