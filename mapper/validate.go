package mapper

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
)

// Validate returns everything that is wrong with c, which has its defaults
// already. Where is the key, such as routes[2].outbox.type.
func (c Config) Validate() []fault.Problem {
	var v validation
	if len(c.Routes) == 0 {
		v.add("routes", "there is no route, so no table would be bridged", "name a table and what its rows are: routes: [{tables: [public.outbox], outbox: {}}]")
	}
	for i := range c.Routes {
		v.route(fmt.Sprintf("routes[%d]", i), &c.Routes[i])
	}
	v.messages(c.Routes)
	return v.problems
}

// minPrune is the least age of rows that are pruned.
const minPrune = time.Minute

// ownPrefix begins the prefixes of messages that the bridge writes for itself.
const ownPrefix = "walbridge."

// validation collects problems.
type validation struct{ problems []fault.Problem }

func (v *validation) add(where, what, fix string) {
	v.problems = append(v.problems, fault.Problem{Check: "routes", Where: where, What: what, Fix: fix})
}

// choice checks a word against those that are built, and those that will be.
func (v *validation) choice(where, got string, built []string, later ...string) {
	switch {
	case slices.Contains(built, got):
	case slices.Contains(later, got):
		v.add(where, fmt.Sprintf("%q is not available in this version", got), "use "+orList(built))
	default:
		v.add(where, fmt.Sprintf("%q is not one of its values", got), "use "+orList(built))
	}
}

func orList(words []string) string { return strings.Join(words, " or ") }

func (v *validation) route(at string, r *Route) {
	v.kinds(at, r)
	v.patterns(at, r)
	v.snapshot(at, r)
	if r.Outbox != nil {
		v.outbox(at+".outbox", r.Outbox)
	}
	if r.Changes != nil {
		v.changes(at+".changes", r.Changes)
	}
	if r.Columns != nil {
		v.columns(at+".columns", r)
	}
	v.stream(at+".stream", r)
}

func (v *validation) snapshot(at string, r *Route) {
	if r.Snapshot != "" {
		v.choice(at+".snapshot", r.Snapshot, []string{wordInitial, wordNever})
	}
	if r.Snapshot == wordInitial && (r.Inbox != nil || r.Outbox != nil && len(r.Messages) > 0 && len(r.Tables) == 0) {
		v.add(at+".snapshot", "only the tables of a changes or outbox route have rows that are read", "never")
	}
	switch {
	case r.Where == "":
	case r.Changes == nil:
		v.add(at+".where", "only a changes route reads some rows and leaves others", "leave the key out")
	case r.Snapshot == wordNever:
		v.add(at+".where", "says which rows the first start reads, and snapshot is never", "leave the key out; walbridge snapshot has --where")
	}
}

func (v *validation) kinds(at string, r *Route) {
	kinds := 0
	for _, set := range []bool{r.Outbox != nil, r.Inbox != nil, r.Changes != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		v.add(at, fmt.Sprintf("has %d of the keys outbox, inbox and changes, needs exactly one", kinds), "say what the rows are, for example changes: {}")
	}
	if r.Outbox != nil && r.Outbox.Prune != 0 && len(r.Tables) == 0 {
		v.add(at+".outbox.prune", "messages leave no rows", "leave the key out")
	}
	if len(r.Messages) > 0 && r.Outbox == nil {
		v.add(at+".messages", "messages are events of an outbox", "outbox: {}, and a route of its own for tables that are none")
	}
}

// messages checks the prefixes of all routes.
func (v *validation) messages(routes []Route) {
	taken := make(map[string]int)
	for i := range routes {
		for j, prefix := range routes[i].Messages {
			at := fmt.Sprintf("routes[%d].messages[%d]", i, j)
			first, dup := taken[prefix]
			switch {
			case dup:
				v.add(at, fmt.Sprintf("routes[%d] takes the messages %q already", first, prefix), "name each prefix once")
			case prefix == "" || strings.ContainsRune(prefix, 0):
				v.add(at, fmt.Sprintf("%q is no prefix", prefix), "name what the application gives to pg_logical_emit_message")
			case strings.HasPrefix(prefix, ownPrefix):
				v.add(at, fmt.Sprintf("%q is one of the bridge's own", prefix), "give the messages a prefix of their own, such as outbox")
			}
			taken[prefix] = i
		}
	}
}

func (v *validation) patterns(at string, r *Route) {
	if len(r.Tables) == 0 && len(r.Messages) == 0 {
		v.add(at+".tables", "names no table", "list patterns such as public.orders or public.*")
	}
	v.patternList(at+".tables", r.Tables)
	v.patternList(at+".exclude", r.Exclude)
}

func (v *validation) patternList(at string, list []string) {
	for i, s := range list {
		if _, err := parsePattern(s); err != nil {
			v.add(fmt.Sprintf("%s[%d]", at, i), fmt.Sprintf("%q: %v", s, err), "write for example public."+strings.Trim(s, "."))
		}
	}
}

func (v *validation) stream(at string, r *Route) {
	if r.Inbox != nil {
		if r.Stream != "" {
			v.add(at, "an inbox row names its stream itself, in its column stream", "leave the key out")
		}
		return
	}
	if r.Outbox == nil && r.Changes == nil {
		return
	}
	t, err := parseTemplate(r.Stream)
	if err != nil {
		v.add(at, fmt.Sprintf("%q: %v", r.Stream, err), "write text with ${column} in it")
		return
	}
	for _, p := range t {
		if r.Changes != nil && p.variable && p.text != "schema" && p.text != "table" && p.text != "bridge" {
			v.add(at, fmt.Sprintf("a changes route knows no ${%s}", p.text), "use ${bridge}, ${schema} and ${table}")
		}
	}
}

func (v *validation) outbox(at string, o *Outbox) {
	v.choice(at+".payload_format", o.PayloadFormat, []string{formatJSON, formatText, formatBytes})
	v.choice(at+".on_update", o.OnUpdate, []string{wordSkip, wordHalt})
	v.choice(at+".format", o.Format, []string{wordPlain, formatCloudEvents})
	if o.Prune != 0 && o.Prune < minPrune {
		v.add(at+".prune", fmt.Sprintf("%v is less than %v", o.Prune, minPrune), "rows are looked at once a minute; 1h leaves time to look at them")
	}
	if _, isMember := o.typeMember(); isMember && o.PayloadFormat != formatJSON {
		v.add(at+".type", fmt.Sprintf("%q is a member of a JSON payload, and payload_format is %s", o.Type, o.PayloadFormat), "name a column")
	}
	v.extras(at+".extra", o)
}

func (v *validation) extras(at string, o *Outbox) {
	seen := make(map[string]int)
	for i, s := range o.Extra {
		where := fmt.Sprintf("%s[%d]", at, i)
		e, err := parseExtra(s)
		if err != nil {
			v.add(where, fmt.Sprintf("%q: %v", s, err), "write column, column:header:name or column:envelope:name")
			continue
		}
		place := fmt.Sprint(e.envelope, e.name)
		if first, dup := seen[place]; dup {
			v.add(where, fmt.Sprintf("%q has the same name as extra[%d]", s, first), "give it another name")
		}
		seen[place] = i
		if e.envelope && e.name == "payload" || !e.envelope && e.name == contentEncoding && o.PayloadFormat == formatBytes {
			v.add(where, fmt.Sprintf("the name %q is taken", e.name), "give it another name")
		}
	}
}

func (v *validation) changes(at string, c *Changes) {
	v.choice(at+".envelope", c.Envelope, []string{envelopeWalbridge, envelopeRow, envelopeDebezium})
	if c.Envelope == envelopeDebezium && c.Order == orderTable {
		v.add(at+".order", "records of Debezium's envelope have the table's key", "leave the key out")
	}
	v.choice(at+".order", c.Order, []string{orderKey, orderTable})
	v.choice(at+".truncate", c.Truncate, []string{truncatePropagate, truncateIgnore, wordHalt})
	v.choice(at+".numeric", c.Numeric, []string{numericExact, numericString, numericNumber})
	v.choice(at+".int64", c.Int64, []string{int64Number, int64String})
}

func (v *validation) columns(at string, r *Route) {
	c := r.Columns
	if r.Changes == nil {
		v.add(at, "only a changes route chooses columns; an event has those that its keys name", "leave the key out")
	}
	v.choice(at+".at", c.At, []string{wordBridge}, "server")
	if len(c.Include) > 0 && len(c.Exclude) > 0 {
		v.add(at, "has both include and exclude", "keep one of them")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Mask)) {
		where := at + ".mask." + name
		v.choice(where, c.Mask[name], []string{maskHash})
		if slices.Contains(c.Exclude, name) {
			v.add(where, "the column is excluded as well", "keep one of them")
		}
		if len(c.Include) > 0 && !slices.Contains(c.Include, name) {
			v.add(where, "the column is not among those included", "include it, or drop the mask")
		}
	}
	if len(c.Mask) == 0 && c.MaskKey != "" {
		v.add(at+".mask_key", "there is no column to mask", "leave the key out")
	}
	v.columnList(at+".include", c.Include)
	v.columnList(at+".exclude", c.Exclude)
}

func (v *validation) columnList(at string, list []string) {
	for i, name := range list {
		if slices.Contains(list[:i], name) {
			v.add(fmt.Sprintf("%s[%d]", at, i), fmt.Sprintf("column %q is named twice", name), "name it once")
		}
	}
}
