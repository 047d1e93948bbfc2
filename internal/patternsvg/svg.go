// Package patternsvg draws the pictures of docs/patterns.md from texts that lie beside
// them: boxes on a grid, and arrows between them.
//
// Nothing is laid out by itself: a text says where each box stands. So a picture is
// the same on every machine, and its text can be reviewed.
package patternsvg

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
)

// Sizes in pixels. A cell has a box in its middle.
const (
	cellWidth, cellHeight = 210, 110
	boxWidth, boxHeight   = 140, 56
	lineHeight            = 16
)

// style has the colours, for light and dark pages.
const style = `<style>
text{font:13px system-ui,sans-serif;fill:#1f2328;text-anchor:middle}.label,.beside{font-size:11px;fill:#57606a}.beside{text-anchor:start}
rect{fill:#f6f8fa;stroke:#57606a;rx:6px}.truth{fill:#dafbe1;stroke:#1a7f37;stroke-width:2}.walbridge{fill:#ddf4ff;stroke:#0969da}
line{stroke:#57606a;stroke-width:1.5;marker-end:url(#a)}#a path{fill:#57606a}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.label,.beside{fill:#9198a1}rect{fill:#151b23;stroke:#9198a1}.truth{fill:#12261e;stroke:#3fb950}.walbridge{fill:#121d2f;stroke:#4493f8}line{stroke:#9198a1}#a path{fill:#9198a1}}
</style><defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>
`

// picture is a text taken apart.
type picture struct {
	title  string
	boxes  []box
	arrows []arrow
}

type box struct {
	x, y  int // cell
	kind  string
	lines []string
}

type arrow struct {
	x1, y1, x2, y2 int
	label          string
}

// Render draws a text. Its lines are:
//
//	title <text>
//	box <column> <row> <plain|truth|walbridge> <text>[|<second line>]
//	arrow <column> <row> <column> <row> <label, or nothing>
//
// A line that is empty or begins with # says nothing. An arrow goes between cells of
// one row or of one column.
func Render(text string) ([]byte, error) {
	var p picture
	n := 0
	for line := range strings.Lines(text) {
		n++
		if err := p.line(strings.TrimSpace(line)); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return p.svg(), nil
}

func (p *picture) line(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "", "#":
		return nil
	case "title":
		p.title = rest
		return nil
	case "box":
		return p.box(rest)
	case "arrow":
		return p.arrow(rest)
	}
	return fmt.Errorf("%q is none of title, box and arrow", word)
}

func (p *picture) box(rest string) error {
	var b box
	if _, err := fmt.Sscan(rest, &b.x, &b.y, &b.kind); err != nil {
		return fmt.Errorf("read a box: %w", err)
	}
	if b.kind != "plain" && b.kind != "truth" && b.kind != "walbridge" {
		return fmt.Errorf("a box of kind %q", b.kind)
	}
	b.lines = strings.Split(strings.Join(strings.Fields(rest)[3:], " "), "|")
	p.boxes = append(p.boxes, b)
	return nil
}

func (p *picture) arrow(rest string) error {
	var a arrow
	if _, err := fmt.Sscan(rest, &a.x1, &a.y1, &a.x2, &a.y2); err != nil {
		return fmt.Errorf("read an arrow: %w", err)
	}
	if (a.x1 == a.x2) == (a.y1 == a.y2) {
		return fmt.Errorf("an arrow from %d %d to %d %d", a.x1, a.y1, a.x2, a.y2)
	}
	a.label = strings.Join(strings.Fields(rest)[4:], " ")
	p.arrows = append(p.arrows, a)
	return nil
}

func (p *picture) svg() []byte {
	var width, height int
	for _, b := range p.boxes {
		width, height = max(width, (b.x+1)*cellWidth), max(height, (b.y+1)*cellHeight)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\"><title>%s</title>\n%s",
		width, height, width, height, escape(p.title), style)
	for _, a := range p.arrows {
		a.draw(&out)
	}
	for _, b := range p.boxes {
		b.draw(&out)
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func (b box) draw(out *bytes.Buffer) {
	x, y := middle(b.x, b.y)
	fmt.Fprintf(out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n", b.kind, x-boxWidth/2, y-boxHeight/2, boxWidth, boxHeight)
	y += 5 - lineHeight*(len(b.lines)-1)/2
	for i, line := range b.lines {
		fmt.Fprintf(out, "<text x=\"%d\" y=\"%d\">%s</text>\n", x, y+i*lineHeight, escape(line))
	}
}

// draw draws from the border of one box to that of the other, with the label above a
// level arrow and beside an upright one.
func (a arrow) draw(out *bytes.Buffer) {
	x1, y1 := middle(a.x1, a.y1)
	x2, y2 := middle(a.x2, a.y2)
	dx, dy := sign(x2-x1)*boxWidth/2, sign(y2-y1)*boxHeight/2
	fmt.Fprintf(out, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n", x1+dx, y1+dy, x2-dx, y2-dy)
	if a.label == "" {
		return
	}
	class, x, y := "beside", x1+8, (y1+y2)/2+4
	if dx != 0 {
		class, x, y = "label", (x1+x2)/2, y1-boxHeight/2-8
	}
	fmt.Fprintf(out, "<text class=\"%s\" x=\"%d\" y=\"%d\">%s</text>\n", class, x, y, escape(a.label))
}

func middle(x, y int) (int, int) { return x*cellWidth + cellWidth/2, y*cellHeight + cellHeight/2 }

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

func escape(text string) string {
	var out bytes.Buffer
	_ = xml.EscapeText(&out, []byte(text)) // a buffer takes everything
	return out.String()
}
