package configs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
)

// DefaultPath is the file that is read when none is named. It may be missing when
// the environment gives all that has no default.
const DefaultPath = "walbridge.yaml"

// PathVariable names the file in the environment.
const PathVariable = EnvPrefix + "CONFIG"

// Loaded is a configuration together with what the program needs to use it.
type Loaded struct {
	// Config has its defaults filled in and is valid. Its connection strings hold their
	// expressions: Resolver gives their values.
	Config   Config
	Resolver Resolver
	// Path is the file that was read; empty when there was none.
	Path string
	// Warnings do not stop the bridge.
	Warnings []fault.Problem
}

// Load reads the file at path, else the one that WALBRIDGE_CONFIG names, else
// DefaultPath; sets what the environment forms give over it; fills in the defaults
// and validates. env must not be nil.
//
// A *fault.ConfigError holds all problems that were found, each with its place; of
// Loaded only Path is then set.
func Load(path string, env Env) (Loaded, error) {
	file, named := choose(path, env)
	text, err := readFile(file, named)
	if err != nil {
		return Loaded{}, err
	}
	return loadText(file, text, env)
}

// Parse is Load of a text that stands in no file yet; file is what problems call it.
func Parse(file string, text []byte, env Env) (Loaded, error) {
	return loadText(file, text, env)
}

// loadText is Load without the file system but for the files of secrets; text is nil
// when there is no file.
func loadText(file string, text []byte, env Env) (Loaded, error) {
	d := newDecoder(file, env)
	var cfg Config
	d.readAll(text, &cfg)
	loaded := Loaded{Config: cfg.WithDefaults(), Resolver: d.resolver}
	if text != nil {
		loaded.Path = file
	}
	d.checkZeros(reflect.ValueOf(cfg), reflect.ValueOf(loaded.Config), "")
	for _, p := range d.validate(loaded.Config) {
		if p.Warning {
			loaded.Warnings = append(loaded.Warnings, p)
			continue
		}
		d.problems = append(d.problems, p)
	}
	if len(d.problems) > 0 {
		return Loaded{Path: loaded.Path}, &fault.ConfigError{Problems: redacted(d.problems)}
	}
	loaded.Warnings = redacted(loaded.Warnings)
	return loaded, nil
}

// redacted is the net under all checks, which quote values: a connection string in
// the wrong place must not show its password.
func redacted(all []fault.Problem) []fault.Problem {
	for i := range all {
		all[i].What, all[i].Why, all[i].Fix = secret.Redact(all[i].What), secret.Redact(all[i].Why), secret.Redact(all[i].Fix)
	}
	return all
}

// choose returns the file to read and whether the user named it.
func choose(path string, env Env) (string, bool) {
	if path != "" {
		return path, true
	}
	if name, ok := env(PathVariable); ok && name != "" {
		return name, true
	}
	return DefaultPath, false
}

// readFile returns the file's content, nil when a file that nobody named is missing.
func readFile(path string, named bool) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close() // read only
	text, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if len(text) > MaxFileBytes {
		return nil, fault.Config(fault.Problem{Check: "file", Where: path, What: fmt.Sprintf("larger than %d KiB", MaxFileBytes>>10)})
	}
	return text, nil
}

func unreadable(path string, err error) error {
	p := fault.Problem{Check: "file", Where: path, What: "cannot be read: " + cause(err)}
	if errors.Is(err, fs.ErrNotExist) {
		p.What, p.Fix = "no such file", "walbridge config example > "+path
	}
	return fault.Config(p)
}

// cause drops the operation and the path, which the problem names already.
func cause(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	return err.Error()
}

// readAll decodes the file's text, then the environment, into cfg.
func (d *decoder) readAll(text []byte, cfg *Config) {
	v := reflect.ValueOf(cfg).Elem()
	if body, ok := d.parse(text, ""); ok {
		d.decode(body, "", v)
	}
	d.environment("", v)
}

// validate checks cfg with its connection strings resolved as far as they can be now, and
// gives each problem its place. What follows from a problem already found is left
// out.
func (d *decoder) validate(cfg Config) []fault.Problem {
	resolved, all := d.forCheck(cfg)
	all = append(all, resolved.Validate()...)
	kept := all[:0]
	for _, p := range all {
		if !p.Warning && d.followsFrom(p.Where) {
			continue
		}
		p.Where = where(d.given.of(p.Where), p.Where)
		kept = append(kept, p)
	}
	if len(d.given) == 0 && len(kept) > 0 {
		kept = append([]fault.Problem{nothingGiven(d.file)}, kept...)
	}
	return kept
}

// nothingGiven explains a start without a file in a directory without one.
func nothingGiven(file string) fault.Problem {
	return fault.Problem{
		Check: "file", Where: file, What: "missing or empty, and no " + EnvPrefix + "… variable sets a key",
		Fix: "walbridge config example > " + file + ", or name a file with --config or " + PathVariable,
	}
}

func (d *decoder) followsFrom(path string) bool {
	for _, t := range d.touched {
		if t == "" || path == t || below(path, t) || below(t, path) {
			return true
		}
	}
	return false
}

// below reports whether the key path lies in the section or list at parent.
func below(path, parent string) bool {
	return strings.HasPrefix(path, parent+".") || strings.HasPrefix(path, parent+"[")
}

// checkZeros finds keys that were set to zero or false where that means "the
// default": what was written would silently be something else.
func (d *decoder) checkZeros(given, filled reflect.Value, path string) {
	switch given.Kind() {
	case reflect.Pointer:
		if !given.IsNil() && !filled.IsNil() {
			d.checkZeros(given.Elem(), filled.Elem(), path)
		}
	case reflect.Struct:
		for _, f := range fieldsOf(given.Type()) {
			d.checkZeros(given.FieldByIndex(f.index), filled.FieldByIndex(f.index), join(path, f.key))
		}
	case reflect.Slice:
		for i := range min(given.Len(), filled.Len()) {
			d.checkZeros(given.Index(i), filled.Index(i), at(path, i))
		}
	case reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Float64:
		place, set := d.given[path]
		if !set || !given.IsZero() || filled.IsZero() || d.followsFrom(path) {
			return
		}
		d.problems = append(d.problems, fault.Problem{
			Check: "zero", Where: where(place, path), What: fmt.Sprintf("cannot be %s", showScalar(given)),
			Fix: "leave the key out for its default, " + showScalar(filled),
		})
	}
}
