package configs

import (
	"reflect"
	"strings"
)

// EnvPrefix begins the environment form of every key.
const EnvPrefix = "WALBRIDGE_"

// EnvName returns the environment form of a key path: WALBRIDGE_SOURCE_DSN for
// source.dsn.
func EnvName(path string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// environment sets the keys of the section v that have their environment form
// set, over what the file gave. It reports whether there was any.
func (d *decoder) environment(path string, v reflect.Value) bool {
	any := false
	for _, f := range fieldsOf(v.Type()) {
		key, to := join(path, f.key), v.FieldByIndex(f.index)
		if f.typ.Kind() == reflect.Struct && !isScalar(f.typ) {
			any = d.environment(key, to) || any
			continue
		}
		any = d.fromVariable(key, to) || any
		if f.typ.Kind() == reflect.Pointer && f.typ.Elem().Kind() == reflect.Struct {
			any = d.optionalSection(key, to) || any
		}
	}
	return any
}

// optionalSection chooses a section that the file left out when one of its keys is
// in the environment.
func (d *decoder) optionalSection(path string, v reflect.Value) bool {
	section := reflect.New(v.Type().Elem())
	if !v.IsNil() {
		section = v
	}
	if !d.environment(path, section.Elem()) {
		return false
	}
	v.Set(section)
	return true
}

// fromVariable sets v from the environment form of path. An empty variable counts
// as not set: that is what compose files and unit files leave behind for "nothing".
func (d *decoder) fromVariable(path string, v reflect.Value) bool {
	name := EnvName(path)
	text, ok := d.resolver.env(name)
	if !ok || text == "" {
		return false
	}
	d.variable = name
	defer func() { d.variable = "" }()
	d.given.forget(path)
	d.given[path] = name
	if isScalar(v.Type()) {
		d.setText(nil, path, v, text)
		return true
	}
	if v.Kind() == reflect.Pointer && isScalar(v.Type().Elem()) {
		v.Set(reflect.New(v.Type().Elem()))
		d.setText(nil, path, v.Elem(), text)
		return true
	}
	if body, ok := d.parse([]byte(text), path); ok {
		d.decode(body, path, v)
	}
	return true
}

// forget drops path and all below it.
func (p places) forget(path string) {
	for k := range p {
		if k == path || strings.HasPrefix(k, path+".") || strings.HasPrefix(k, path+"[") {
			delete(p, k)
		}
	}
}
