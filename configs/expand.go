package configs

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/walbridge/walbridge/internal/secret"
)

// Env looks up an environment variable, as os.LookupEnv does.
type Env func(name string) (string, bool)

// maxSecretBytes bounds a file that ${file:…} names.
const maxSecretBytes = 64 << 10

// Resolver turns the expressions in connection strings into their values. It keeps nothing:
// a file is read each time, so that a rotated password is found. Safe for use by
// several goroutines when its Env is. The zero value knows no variables.
type Resolver struct {
	env Env
}

// NewResolver returns a Resolver that looks variables up in env.
func NewResolver(env Env) Resolver { return Resolver{env} }

// DSN returns d with its expressions replaced, to connect with; call it anew for
// each attempt. A value that lands in the user, the password or a parameter of a URL
// is percent-encoded, and one that is the whole value of a keyword is quoted as libpq
// asks for it, so that a password may hold any character. Elsewhere the value is
// taken as it is. No error holds any part of a value.
func (r Resolver) DSN(d secret.DSN) (secret.DSN, error) {
	s, err := expand(d.Reveal(), r.lookup, quoterFor(d.Reveal()))
	return secret.DSN(s), err
}

func (r Resolver) lookup(name string) (string, error) {
	if path, ok := strings.CutPrefix(name, "file:"); ok {
		return readSecret(path)
	}
	return r.variable(name)
}

func (r Resolver) variable(name string) (string, error) {
	if !isVariable(name) {
		return "", fmt.Errorf("${%s}: not the name of an environment variable; $${ stands for the characters ${", name)
	}
	if r.env != nil {
		if v, ok := r.env(name); ok {
			return v, nil
		}
	}
	return "", fmt.Errorf("${%s}: the environment variable is not set", name)
}

// plain looks up variables alone, for values that are shown.
func (r Resolver) plain(name string) (string, error) {
	if strings.HasPrefix(name, "file:") {
		return "", fmt.Errorf("${%s}: only connection strings and other secrets can come from a file", name)
	}
	return r.variable(name)
}

func isVariable(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// readSecret returns the content of a file without the newline at its end, which
// editors and echo leave there.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("${file:…}: %w", err)
	}
	defer f.Close() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return "", fmt.Errorf("${file:…}: %w", err)
	}
	if len(b) > maxSecretBytes {
		return "", fmt.Errorf("${file:%s}: larger than %d bytes", path, maxSecretBytes)
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if s == "" {
		return "", fmt.Errorf("${file:%s}: the file is empty", path)
	}
	return s, nil
}

// quoter makes a value fit for the place between the texts before and after it.
type quoter func(before, value, after string) string

// expand replaces each ${name} of s by what lookup returns, and $${ by ${. All
// errors are joined; each names the expression.
func expand(s string, lookup func(string) (string, error), quote quoter) (string, error) {
	var out strings.Builder
	var errs []error
	for rest := s; ; {
		i := strings.Index(rest, "${")
		if i < 0 {
			out.WriteString(rest)
			return out.String(), errors.Join(errs...)
		}
		if i > 0 && rest[i-1] == '$' {
			out.WriteString(rest[:i-1] + "${")
			rest = rest[i+2:]
			continue
		}
		out.WriteString(rest[:i])
		name, after, closed := strings.Cut(rest[i+2:], "}")
		if !closed {
			return "", errors.Join(append(errs, errors.New("${ without its }; $${ stands for the characters ${"))...)
		}
		value, err := lookup(name)
		if err != nil {
			errs = append(errs, err)
		} else if quote != nil {
			value = quote(out.String(), value, after)
		}
		out.WriteString(value)
		rest = after
	}
}

// quoterFor returns how values are put into the connection string dsn.
func quoterFor(dsn string) quoter {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		return quoteInURL
	}
	return quoteInKeywords
}

// quoteInURL percent-encodes what lands in the user or the password of a URL (what
// has an @ after it, before the path begins) and what is the value of a parameter.
func quoteInURL(before, value, after string) string {
	_, authority, _ := strings.Cut(before, "://")
	login := !strings.ContainsAny(authority, "@/?") && strings.Contains(untilPath(after), "@")
	parameter := strings.Contains(authority, "?") && strings.HasSuffix(authority, "=")
	if !login && !parameter {
		return value
	}
	return strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
}

// untilPath cuts a URL's rest where its path or query begins, slashes inside ${…}
// left aside.
func untilPath(s string) string {
	depth := 0
	for i, c := range s {
		switch {
		case c == '{':
			depth++
		case c == '}':
			depth--
		case depth <= 0 && (c == '/' || c == '?'):
			return s[:i]
		}
	}
	return s
}

// quoteInKeywords escapes what lands inside quotes and quotes what is the whole
// value of a keyword; the expression that is the whole string holds a connection
// string itself. (libpq-connect, section "Keyword/Value Connection Strings".)
func quoteInKeywords(before, value, after string) string {
	escaped := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value)
	if insideQuotes(before) {
		return escaped
	}
	ends := after == "" || after[0] == ' '
	if strings.HasSuffix(strings.TrimRight(before, " "), "=") && ends {
		return "'" + escaped + "'"
	}
	return value
}

func insideQuotes(s string) bool {
	inside := false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			inside = !inside
		}
	}
	return inside
}
