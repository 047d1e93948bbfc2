package mapper

import (
	"errors"
	"strings"
)

// template is text with ${name} in it.
type template []part

// part is literal text, or the name of a variable.
type part struct {
	text     string
	variable bool
}

// parseTemplate reads a template. A $ without a brace stands for itself.
func parseTemplate(s string) (template, error) {
	var t template
	for s != "" {
		before, after, found := strings.Cut(s, "${")
		if before != "" {
			t = append(t, part{text: before})
		}
		if !found {
			break
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed {
			return nil, errors.New("a ${ without its }")
		}
		if name == "" {
			return nil, errors.New("${} names nothing")
		}
		t = append(t, part{text: name, variable: true})
		s = rest
	}
	if len(t) == 0 {
		return nil, errors.New("the name is empty")
	}
	return t, nil
}

// String returns the text that was read.
func (t template) String() string {
	var b strings.Builder
	for _, p := range t {
		if p.variable {
			b.WriteString("${" + p.text + "}")
			continue
		}
		b.WriteString(p.text)
	}
	return b.String()
}

// expand returns the template with each variable replaced.
func (t template) expand(value func(name string) string) string {
	var b strings.Builder
	for _, p := range t {
		if p.variable {
			b.WriteString(value(p.text))
			continue
		}
		b.WriteString(p.text)
	}
	return b.String()
}

// The bounds of the memory that stream names take: names beyond them are made
// anew for each item.
const (
	maxInternedNames = 4096
	maxInternedBytes = 255 // of one name
)

// interner gives equal names the same string, so that naming a stream costs no
// allocation.
type interner struct {
	last  string // a run of rows mostly goes to one stream
	names map[string]string
}

func (n *interner) name(b []byte) string {
	if string(b) == n.last {
		return n.last
	}
	s, ok := n.names[string(b)]
	if !ok {
		s = string(b)
		if len(b) > maxInternedBytes || len(n.names) >= maxInternedNames {
			return s
		}
		if n.names == nil {
			n.names = make(map[string]string)
		}
		n.names[s] = s
	}
	n.last = s
	return s
}
