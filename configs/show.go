package configs

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/walbridge/walbridge/internal/bytesize"
)

// Show writes the configuration in force as YAML: defaults filled in, expressions
// resolved, secrets redacted. An expression that cannot be resolved now is shown as
// it was written. But for the redacted passwords, Load reads it back as the same
// configuration.
func (l Loaded) Show() ([]byte, error) {
	cfg := mapDSNs(l.Config, func(_, text string) string {
		value, err := expand(text, l.Resolver.lookup, quoterFor(text))
		if err != nil {
			return text
		}
		return value
	})
	out, err := yaml.MarshalWithOptions(tree(reflect.ValueOf(cfg)), yaml.Indent(2), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return out, nil
}

// tree turns a value into what the YAML encoder writes the way the file spells it.
// What was not given and has no default is left out.
func tree(v reflect.Value) any {
	switch {
	case isScalar(v.Type()):
		return spelled(v)
	case v.Kind() == reflect.Pointer:
		return tree(v.Elem())
	case v.Kind() == reflect.Slice:
		items := make([]any, v.Len())
		for i := range items {
			items[i] = tree(v.Index(i))
		}
		return items
	case v.Kind() == reflect.Map:
		section := yaml.MapSlice{}
		for _, k := range slices.Sorted(maps.Keys(v.Interface().(map[string]string))) {
			section = append(section, yaml.MapItem{Key: k, Value: v.Interface().(map[string]string)[k]})
		}
		return section
	}
	section := yaml.MapSlice{}
	for _, f := range fieldsOf(v.Type()) {
		if value := v.FieldByIndex(f.index); !isAbsent(value) {
			section = append(section, yaml.MapItem{Key: f.key, Value: tree(value)})
		}
	}
	return section
}

func isAbsent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil()
	case reflect.Slice, reflect.Map, reflect.String:
		return v.Len() == 0
	}
	return false
}

// spelled returns a scalar as the encoder is to write it; text and numbers keep
// their types, so that quotes come where they are needed.
func spelled(v reflect.Value) any {
	switch {
	case v.Type() == typeDuration, v.Type() == typeSize:
		return showScalar(v)
	case isSecret(v.Type()):
		return fmt.Sprint(v.Interface()) // the type redacts
	case v.Kind() == reflect.String:
		return v.String()
	}
	return v.Interface()
}

// showScalar writes a value as the file would, without quotes.
func showScalar(v reflect.Value) string {
	switch v.Type() {
	case typeDuration:
		return FormatDuration(time.Duration(v.Int()))
	case typeSize:
		return bytesize.Format(v.Int())
	}
	return fmt.Sprint(v.Interface())
}
