package decoder_test

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
	"github.com/walbridge/walbridge/internal/lsn"
)

// TestGolden replays the captures of every server version and compares what the
// messages and the changes are with testdata/golden, which -rewrite writes. LSNs,
// xids, OIDs and times are replaced, in order, so that a capture of the same
// scenario on another day reads the same; a comparison of two of the files shows
// what differs between two versions of PostgreSQL.
func TestGolden(t *testing.T) {
	for _, major := range corpusMajors() {
		path := filepath.Join("testdata", "golden", fmt.Sprintf("%d.txt", major))
		seen := map[string]int{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			require.Len(t, d.CmdArgs, 1)
			name := d.CmdArgs[0].Key
			seen[name]++
			frames := readCorpus(t, corpusPath(major, name))
			if d.Cmd == "messages" {
				return messagesText(t, frames)
			}
			require.Equal(t, "changes", d.Cmd)
			return changesText(frames)
		})
		for _, s := range scenarios() {
			if s.since <= major {
				require.Equal(t, 2, seen[s.name], "%s is not replayed in %s", s.name, path)
			}
		}
	}
}

// messagesText is what the Parser reads, a message a line.
func messagesText(t testing.TB, frames []decodertest.Frame) string {
	t.Helper()
	var p decoder.Parser
	var lines []string
	for _, f := range frames {
		m, err := p.Parse(f.Data)
		require.NoError(t, err)
		lines = append(lines, describe(m))
	}
	return normalize(lines)
}

// withoutRepeats leaves out descriptions of a table that are those of before: a server
// sends one again when anything has touched its cache, such as autovacuum.
func withoutRepeats(frames []decodertest.Frame) (kept []decodertest.Frame) {
	latest := map[string]string{}
	for _, f := range frames {
		if len(f.Data) > 5 && f.Data[0] == 'R' {
			oid := string(f.Data[1:5])
			if latest[oid] == string(f.Data) {
				continue
			}
			latest[oid] = string(f.Data)
		}
		kept = append(kept, f)
	}
	return kept
}

// changesText is what the Decoder makes of a session, a step a line, and the type
// of the error that ends it.
func changesText(frames []decodertest.Frame) string {
	d := decoder.New(decoder.Config{})
	var lines []string
	for _, f := range frames {
		step, err := d.Decode(f.Data, f.Start)
		if err != nil {
			for errors.Unwrap(err) != nil {
				err = errors.Unwrap(err)
			}
			lines = append(lines, fmt.Sprintf("%T: %s", err, err))
			break
		}
		lines = append(lines, stepLines(d, step)...)
	}
	return normalize(lines)
}

func stepLines(d *decoder.Decoder, step decoder.Step) (lines []string) {
	switch step {
	case decoder.StepBegin:
		return []string{fmt.Sprintf("begin commit=%s xid=%d", d.Tx().Commit, d.Tx().Xid)}
	case decoder.StepCommit:
		return []string{fmt.Sprintf("commit commit=%s end=%s", d.Tx().Commit, d.Tx().End)}
	case decoder.StepChange:
		for more := true; more; more = d.More() {
			lines = append(lines, changeLine(d.Change()))
		}
	}
	return lines
}

func changeLine(c *decoder.Change) string {
	if c.Op == decoder.OpMessage {
		where := fmt.Sprintf("  %d", c.ID.Seq)
		if c.Tx == nil {
			where = fmt.Sprintf("outside lsn=%s id=LSN%+d-%d", c.LSN, c.ID.Commit.Sub(c.LSN), c.ID.Seq)
		}
		return fmt.Sprintf("%s message %q %s", where, c.Prefix, dataText(c.Content))
	}
	text := fmt.Sprintf("  %d %s %s.%s", c.ID.Seq, c.Op, c.Relation.Namespace, c.Relation.Name)
	if c.Tx.Origin != "" {
		text += " from " + c.Tx.Origin
	}
	if c.Op == decoder.OpTruncate {
		text += fmt.Sprintf(" cascade=%t restart=%t", c.Cascade, c.RestartIdentity)
	}
	if c.Old != nil && c.OldIsKey {
		text += " key" + namedText(c.Relation, c.Old, true)
	}
	if c.Old != nil && !c.OldIsKey {
		text += " old" + namedText(c.Relation, c.Old, false)
	}
	if c.New != nil {
		text += " new" + namedText(c.Relation, c.New, false)
	}
	return text
}

func namedText(rel *decoder.Relation, row []decoder.Value, keyOnly bool) string {
	var texts []string
	for i, c := range rel.Columns {
		if keyOnly && !c.Key {
			continue
		}
		text := c.Name
		if c.TypeName != "" {
			text += "::" + c.TypeNamespace + "." + c.TypeName
		}
		texts = append(texts, text+"="+strings.Trim(rowText(row[i:i+1]), "()"))
	}
	return "{" + strings.Join(texts, " ") + "}"
}

var (
	lsnField  = regexp.MustCompile(`\b(final|commit|end|prepare|lsn|prepare_end|rollback_end)=([0-9A-F]+/[0-9A-F]+)`)
	xidField  = regexp.MustCompile(`\b(xid|subxid)=(\d+)`)
	oidField  = regexp.MustCompile(`\b(oid|rel|type)=(\d+)`)
	relsField = regexp.MustCompile(`\brels=\[([\d ]+)\]`)
	// How often a transaction fills the server's memory decides how many blocks without
	// a message there are.
	emptyBlock = regexp.MustCompile(`StreamStart xid=\d+ first=false\nStreamStop\n`)
	timeField  = regexp.MustCompile(` (at|prepared|rolled_back)=-?\d+`)
)

// firstUserOID is where the OIDs of what users make begin (transam.h:
// FirstNormalObjectId).
const firstUserOID = 16384

// normalize replaces what differs from one run to the next: LSNs by their rank,
// xids and OIDs by the order in which they came.
func normalize(lines []string) string {
	text := timeField.ReplaceAllString(strings.Join(lines, "\n"), "")
	text = emptyBlock.ReplaceAllString(text, "")
	text = relsField.ReplaceAllStringFunc(text, func(s string) string { return "rel=" + strings.ReplaceAll(s[6:len(s)-1], " ", " rel=") })
	ranks := lsnRanks(text)
	text = replaceField(text, lsnField, func(v string) string { return ranks[v] })
	xids, oids := map[string]string{}, map[string]string{}
	text = replaceField(text, xidField, func(v string) string { return numbered(xids, v, "X") })
	text = replaceField(text, oidField, func(v string) string {
		var oid int
		if _, err := fmt.Sscan(v, &oid); err == nil && oid < firstUserOID {
			return v
		}
		return numbered(oids, v, "O")
	})
	return text + "\n"
}

func replaceField(text string, field *regexp.Regexp, value func(string) string) string {
	return field.ReplaceAllStringFunc(text, func(s string) string {
		name, v, _ := strings.Cut(s, "=")
		return name + "=" + value(v)
	})
}

func numbered(known map[string]string, v, prefix string) string {
	if known[v] == "" {
		known[v] = fmt.Sprintf("%s%d", prefix, len(known)+1)
	}
	return known[v]
}

// lsnRanks gives the LSNs of a text their rank, from 1; 0/0 stays.
func lsnRanks(text string) map[string]string {
	var all []lsn.LSN
	for _, m := range lsnField.FindAllStringSubmatch(text, -1) {
		if v, err := lsn.Parse(m[2]); err == nil && v != 0 {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, cmp.Compare)
	ranks := map[string]string{"0/0": "0"}
	for i, v := range slices.Compact(all) {
		ranks[v.String()] = fmt.Sprintf("L%d", i+1)
	}
	return ranks
}
