package mapper

import (
	"errors"
	"strings"
)

// contentEncoding is the header that says how a payload of bytes is written.
const contentEncoding = "content-encoding"

// extra is one further column of an outbox row and where its value goes.
type extra struct {
	column   string
	name     string
	envelope bool // into the payload's envelope, not the headers
}

// parseExtra reads column, column:header, column:header:name, column:envelope or
// column:envelope:name. A name may have colons in it, a column may not.
func parseExtra(s string) (extra, error) {
	column, rest, placed := strings.Cut(s, ":")
	place, name, named := strings.Cut(rest, ":")
	if column == "" || named && name == "" {
		return extra{}, errors.New("a column or a name is empty")
	}
	if !named {
		name = column
	}
	if placed && place != "header" && place != "envelope" {
		return extra{}, errors.New("the place after the column is header or envelope")
	}
	return extra{column: column, name: name, envelope: place == "envelope"}, nil
}

// typeMember returns the name of the payload's member that holds the event's type.
func (o *Outbox) typeMember() (name string, ok bool) {
	name, ok = strings.CutPrefix(o.Type, "payload.")
	return name, ok && name != ""
}
