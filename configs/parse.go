package configs

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
)

// MaxFileBytes bounds the configuration file, and each environment form.
const MaxFileBytes = 256 << 10

// maxDepth bounds how deep brackets and dashes nest: the parser recurses, and its
// time grows with the square of the depth.
const maxDepth = 64

// parse returns the one document of text, and false when there is none or it is
// not YAML, which it reports.
func (d *decoder) parse(text []byte, path string) (ast.Node, bool) {
	file, err := parseText(string(text))
	if err != nil {
		tk, message := position(err)
		d.syntax(tk, path, message)
		return nil, false
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			d.syntax(doc.Body.GetToken(), path, "a second document begins here; a configuration is one")
			return nil, false
		default:
			body = doc.Body
		}
	}
	return body, body != nil
}

// parseText keeps a panic of the parser, which is not ours and reads what users
// wrote, from ending the program.
func parseText(text string) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser gave up: %v", p)
		}
	}()
	tokens := lexer.Tokenize(text)
	if tk := tooDeep(tokens); tk != nil {
		return nil, &yaml.SyntaxError{Message: fmt.Sprintf("nested more than %d deep", maxDepth), Token: tk}
	}
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // eachKey finds duplicates, all of them
}

// position returns the token that err is about, nil when it names none, and its
// message without the lines of the file around it.
func position(err error) (*token.Token, string) {
	var located yaml.Error
	if errors.As(err, &located) {
		return located.GetToken(), located.GetMessage()
	}
	return nil, err.Error()
}

func (d *decoder) syntax(tk *token.Token, path, what string) {
	place := d.file
	switch {
	case d.variable != "":
		place = d.variable
	case tk != nil && tk.Position != nil:
		place = fmt.Sprintf("%s:%d:%d", d.file, tk.Position.Line, tk.Position.Column)
	}
	d.problems = append(d.problems, fault.Problem{Check: "yaml", Where: where(place, path), What: "not YAML: " + secret.Redact(what), Fix: d.syntaxFix(what)})
	d.touched = append(d.touched, path)
}

// syntaxFix adds the two causes that the parser's words do not lead to.
func (d *decoder) syntaxFix(what string) string {
	switch {
	case what == "',' or '}' must be specified":
		return "put values with ${…} in quotes"
	case what == "found character '\t' that cannot start any token":
		return "indent with spaces"
	}
	return ""
}

// tooDeep returns the token at which brackets, or dashes on one line, nest deeper
// than maxDepth.
func tooDeep(tokens token.Tokens) *token.Token {
	open, line, dashes := 0, 0, 0
	for _, tk := range tokens {
		if tk.Position.Line != line {
			line, dashes = tk.Position.Line, 0
		}
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			open++
		case token.SequenceEndType, token.MappingEndType:
			open--
		case token.SequenceEntryType, token.MappingKeyType:
			dashes++
		}
		if open > maxDepth || dashes > maxDepth {
			return tk
		}
	}
	return nil
}
