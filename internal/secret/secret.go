// Package secret holds values that must never be shown: every way of printing
// or marshalling them gives a redacted form. Redaction sits in the type, so
// that a log line or an error cannot forget it.
package secret

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Redacted stands in the place of a secret.
const Redacted = "xxxxx"

// DSN is a connection string of PostgreSQL, a URL or keyword/value pairs. It
// prints without its password. The zero value is no connection string.
type DSN string

// Reveal returns the connection string with its password, to connect with.
func (d DSN) Reveal() string { return string(d) }

// String returns the connection string with each password replaced.
func (d DSN) String() string { return Redact(string(d)) }

// GoString is String, for %#v.
func (d DSN) GoString() string { return d.String() }

// Format prints String under every verb.
func (d DSN) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(d.String())) }

// MarshalText gives String to JSON and YAML encoders.
func (d DSN) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Text is a secret without any part that may be shown, such as a token.
type Text string

// Reveal returns the secret.
func (s Text) Reveal() string { return string(s) }

// String returns Redacted, or nothing when there is no secret.
func (s Text) String() string {
	if s == "" {
		return ""
	}
	return Redacted
}

// GoString is String, for %#v.
func (s Text) GoString() string { return s.String() }

// Format prints String under every verb.
func (s Text) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText gives String to JSON and YAML encoders.
func (s Text) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// keywordPassword finds the password of a keyword/value connection string, also
// quoted, also sslpassword, with spaces around the sign.
var keywordPassword = regexp.MustCompile(`(?i)(\b(?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'?|[^\s'&]+)`)

// urlPassword finds the password of a URL that url.Parse refuses.
var urlPassword = regexp.MustCompile(`(://[^:/?#\s]*:)(\S*)(@)`)

// Redact replaces each password in s, a connection string or a text that holds
// some.
func Redact(s string) string {
	s = redactURL(s)
	s = urlPassword.ReplaceAllString(s, "${1}"+Redacted+"${3}")
	return keywordPassword.ReplaceAllString(s, "${1}"+Redacted)
}

func redactURL(s string) string {
	if !strings.HasPrefix(s, "postgres://") && !strings.HasPrefix(s, "postgresql://") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), Redacted)
	}
	return u.String()
}
