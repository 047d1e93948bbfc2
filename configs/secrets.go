package configs

import (
	"reflect"

	"github.com/walbridge/walbridge/internal/fault"
)

// notYet stands for the value of a file that cannot be read yet, so that the
// connection string around it can be checked all the same.
const notYet = "not-yet-readable"

// forCheck returns a copy of cfg with its connection strings resolved, and a warning for each
// file that cannot be read now: it is read again at every connection attempt, and
// the machine that checks a configuration need not be the one that runs it.
func (d *decoder) forCheck(cfg Config) (Config, []fault.Problem) {
	var warnings []fault.Problem
	return mapDSNs(cfg, func(path, text string) string {
		value, err := expand(text, d.resolver.lookup, quoterFor(text))
		if err == nil {
			return value
		}
		if _, given := d.given[path]; given {
			warnings = append(warnings, fault.Problem{
				Check: "secret", Warning: true, Where: path, What: oneLine(err), Why: "every connection attempt reads it again, and fails until it is there",
			})
		}
		value, _ = expand(text, d.resolver.orPlaceholder, quoterFor(text))
		return value
	}), warnings
}

func (r Resolver) orPlaceholder(name string) (string, error) {
	value, err := r.lookup(name)
	if err != nil {
		return notYet, nil
	}
	return value, nil
}

// mapDSNs returns a copy of cfg in which f has replaced each connection string that
// is not empty. The copy shares no memory that holds one.
func mapDSNs(cfg Config, f func(path, text string) string) Config {
	mapValue(reflect.ValueOf(&cfg).Elem(), "", f)
	return cfg
}

func mapValue(v reflect.Value, path string, f func(path, text string) string) {
	if v.Type() == typeDSN {
		if v.Len() > 0 {
			v.SetString(f(path, v.String()))
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		fresh := reflect.New(v.Type().Elem())
		fresh.Elem().Set(v.Elem())
		v.Set(fresh)
		mapValue(fresh.Elem(), path, f)
	case reflect.Struct:
		for _, key := range fieldsOf(v.Type()) {
			mapValue(v.FieldByIndex(key.index), join(path, key.key), f)
		}
	case reflect.Slice:
		fresh := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(fresh, v)
		if !v.IsNil() {
			v.Set(fresh)
		}
		for i := range v.Len() {
			mapValue(v.Index(i), at(path, i), f)
		}
	}
}
