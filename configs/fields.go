package configs

import (
	"reflect"
	"strconv"
	"strings"
)

// field is one key of a section.
type field struct {
	key   string
	index []int
	typ   reflect.Type
}

// fieldsOf returns the keys of a struct in their order. A field without a yaml tag
// is none: it is for the program, not for the file. Sections may be inlined.
func fieldsOf(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if options == "inline" {
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				all = append(all, inner)
			}
			continue
		}
		if name != "" && name != "-" {
			all = append(all, field{key: name, index: []int{i}, typ: f.Type})
		}
	}
	return all
}

func keysOf(fields []field) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
}

// join appends a key to the path of its section: sink.worktable.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// at appends an index to the path of a list: routes[0].
func at(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// inRoutes reports whether path belongs to the routes, where ${…} is a stream
// template's.
func inRoutes(path string) bool {
	return path == "routes" || strings.HasPrefix(path, "routes[")
}

// placesOf returns the patterns of the keys named name anywhere below t, for the
// hint that a key stands in the wrong place.
func placesOf(t reflect.Type, path, name string) []string {
	switch t.Kind() {
	case reflect.Pointer:
		return placesOf(t.Elem(), path, name)
	case reflect.Slice:
		return placesOf(t.Elem(), path+"[]", name)
	case reflect.Struct:
	default:
		return nil
	}
	var all []string
	for _, f := range fieldsOf(t) {
		p := join(path, f.key)
		if f.key == name {
			all = append(all, p)
		}
		all = append(all, placesOf(f.typ, p, name)...)
	}
	return all
}
