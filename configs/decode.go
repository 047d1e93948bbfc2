package configs

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
)

// decoder fills a struct from a tree of YAML nodes and collects what is wrong with
// the tree. It stands beside goccy's own decoder because that one ends at its first
// problem, quotes the lines around it, which may hold a password, and follows
// aliases without bound.
type decoder struct {
	file     string // that is being read
	variable string // the environment variable that is being read; empty: the file
	root     reflect.Type
	resolver Resolver
	given    places
	problems []fault.Problem
	// touched are the key paths with a problem, and those that an unknown key was
	// likely meant to be: what else may be wrong with them follows from it.
	touched []string
}

func newDecoder(file string, env Env) *decoder {
	return &decoder{file: file, root: reflect.TypeFor[Config](), resolver: NewResolver(env), given: places{}}
}

// places tells where the value of each key path came from: shop.yaml:12:3, or
// WALBRIDGE_NAME.
type places map[string]string

// of returns the place of a key path or of the nearest section around it, and ""
// when neither was given.
func (p places) of(path string) string {
	for path != "" {
		if place, ok := p[path]; ok {
			return place
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return ""
}

// where joins a place and the key path there.
func where(place, path string) string {
	switch {
	case place == "":
		return path
	case path == "":
		return place
	}
	return place + ": " + path
}

func (d *decoder) place(n ast.Node) string {
	if d.variable != "" {
		return d.variable
	}
	pos := n.GetToken().Position
	return fmt.Sprintf("%s:%d:%d", d.file, pos.Line, pos.Column)
}

func (d *decoder) problem(n ast.Node, path, check, what, fix string) {
	d.problems = append(d.problems, fault.Problem{Check: check, Where: where(d.place(n), path), What: what, Fix: fix})
	d.touched = append(d.touched, path)
}

// decode sets v from n, the value of the key path.
func (d *decoder) decode(n ast.Node, path string, v reflect.Value) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		d.problem(n, path, "yaml", "anchors, aliases and tags are not supported", "write the value out")
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		if _, null := n.(*ast.NullNode); null && v.Elem().Kind() == reflect.Struct {
			return // "stdout:" alone chooses the section, with its defaults
		}
		d.decode(n, path, v.Elem())
		return
	}
	switch {
	case isScalar(v.Type()):
		d.decodeScalar(n, path, v)
	case v.Kind() == reflect.Struct:
		d.decodeStruct(n, path, v)
	case v.Kind() == reflect.Slice:
		d.decodeList(n, path, v)
	case v.Kind() == reflect.Map:
		d.decodeMap(n, path, v)
	default:
		panic(fmt.Sprintf("configs: key %s has the type %s, for which there is no rule", path, v.Type()))
	}
}

func (d *decoder) mismatch(n ast.Node, path string, t reflect.Type) {
	fix := ""
	if _, scalar := scalarText(n); scalar && t.Kind() == reflect.Slice {
		fix = "put it in brackets: [ ]"
	}
	d.problem(n, path, "type", "expected "+expected(t)+", found "+found(n), fix)
}

func (d *decoder) decodeStruct(n ast.Node, path string, v reflect.Value) {
	fields := fieldsOf(v.Type())
	d.eachKey(n, path, v.Type(), func(key string, keyNode, value ast.Node) {
		for _, f := range fields {
			if f.key == key {
				d.decode(value, join(path, key), v.FieldByIndex(f.index))
				return
			}
		}
		d.unknown(keyNode, path, key, fields)
	})
}

func (d *decoder) decodeMap(n ast.Node, path string, v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	d.eachKey(n, path, v.Type(), func(key string, _, value ast.Node) {
		elem := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, join(path, key), elem)
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), elem)
	})
}

// eachKey calls f for each key of the mapping n, and notes where it stands.
func (d *decoder) eachKey(n ast.Node, path string, t reflect.Type, f func(key string, keyNode, value ast.Node)) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.mismatch(n, path, t)
		return
	}
	seen := map[string]bool{}
	for it := m.MapRange(); it.Next(); {
		k := it.Key()
		key, ok := keyText(k)
		switch {
		case !ok:
			d.problem(k, path, "yaml", "a key is one word, and merge keys are not supported", "write the keys out")
		case seen[key]:
			d.problem(k, join(path, key), "duplicate-key", "given twice", "keep one of them")
		default:
			seen[key] = true
			d.given[join(path, key)] = d.place(k)
			f(key, k, it.Value())
		}
	}
}

func (d *decoder) decodeList(n ast.Node, path string, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.mismatch(n, path, v.Type())
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		d.given[at(path, i)] = d.place(item)
		d.decode(item, at(path, i), v.Index(i))
	}
}

func (d *decoder) decodeScalar(n ast.Node, path string, v reflect.Value) {
	text, ok := scalarText(n)
	if !ok {
		d.mismatch(n, path, v.Type())
		return
	}
	d.setText(n, path, v, text)
}

// setText expands text as the key allows and parses it into v.
func (d *decoder) setText(n ast.Node, path string, v reflect.Value, text string) {
	switch v.Type() {
	case typeDSN:
		d.checkExpressions(n, path, text)
		v.SetString(text) // Resolver gives its value, at each attempt
		return
	case typeText:
		value, err := expand(text, d.resolver.lookup, nil)
		if err != nil {
			d.problem(n, path, "expression", oneLine(err), "")
		}
		v.SetString(value)
		return
	}
	value, shown := text, quoted(text)
	if !inRoutes(path) && strings.Contains(text, "${") {
		var err error
		if value, err = expand(text, d.resolver.plain, nil); err != nil {
			d.problem(n, path, "expression", oneLine(err), "")
			return
		}
		shown = "the value of " + text // the value itself may be a secret put in the wrong place
	}
	err := setScalar(v, value)
	if errors.Is(err, errNotOfType) {
		d.problem(n, path, "type", "expected "+expected(v.Type())+", found "+shown, "")
	} else if err != nil {
		d.problem(n, path, "type", oneLine(err), "")
	}
}

// checkExpressions finds what Resolver would refuse at each attempt: a variable
// that is not set is no less wrong later. A file may well appear later; Load warns.
func (d *decoder) checkExpressions(n ast.Node, path, text string) {
	_, err := expand(text, func(name string) (string, error) {
		if strings.HasPrefix(name, "file:") {
			return "", nil
		}
		return d.resolver.variable(name)
	}, nil)
	if err != nil {
		d.problem(n, path, "expression", oneLine(err), "")
	}
}

// unknown reports a key that the section does not have.
func (d *decoder) unknown(keyNode ast.Node, path, key string, fields []field) {
	full := join(path, key)
	fix := "the keys here are " + list(keysOf(fields))
	if near, ok := nearest(key, keysOf(fields)); ok {
		fix = "did you mean " + near + "?"
		d.touched = append(d.touched, join(path, near))
	} else if elsewhere := placesOf(d.root, "", key); len(elsewhere) > 0 {
		fix = "it belongs to " + list(elsewhere)
	}
	d.problem(keyNode, full, "unknown-key", "unknown key", fix)
}

// keyText returns the text of a mapping's key.
func keyText(k ast.MapKeyNode) (string, bool) {
	if k.IsMergeKey() {
		return "", false
	}
	return scalarText(k)
}

// scalarText returns the text of a scalar as it was written, without quotes: 1.10
// stays 1.10 where a text is wanted.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// found says what a node is, without its value when that is long.
func found(n ast.Node) string {
	switch n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "keys with values"
	}
	if text, ok := scalarText(n); ok {
		return quoted(text)
	}
	return n.Type().YAMLName()
}

// quoted shows a value of the file in a problem, short, on one line and without
// the password that a connection string in the wrong place may hold.
func quoted(text string) string {
	const most = 60
	text = secret.Redact(text)
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return fmt.Sprintf("%q", text)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
