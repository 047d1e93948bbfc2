package replication

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
)

// Routed is what the routes say of a table.
type Routed struct {
	Taken bool // a route takes it
	Wild  bool // only by a pattern with wildcards
	Read  bool // the rows that are in it are to be read when it is published
	Asks  bool // somebody has to say what becomes of rows that are in it: it must be empty
}

// Coverage is how the routes, the publication and the tables fit.
type Coverage struct {
	// Counts of tables. Partitions count with the table above them that a route takes,
	// but for those that lack a replica identity.
	Published   int // a route takes it, and it is streamed
	Unpublished int // a route takes it, and the publication lacks it
	Unrouted    int // it is streamed, and no route takes it
	NoIdentity  int // a route takes it, and UPDATE and DELETE on it fail, or would
	Vanished    int // a route names it, and it is not there
	// Problems are warnings, with what mends each, in the order of the tables' names; of a
	// kind, a bounded number.
	Problems []fault.Problem
	// NotReady says which of the tables that a route spells out are not streamed; empty:
	// none.
	NotReady string
	// Additions are what may be added to the publication by this role.
	Additions []Addition
}

// Addition is a table to be added to the publication, and what is to be read of it:
// itself, its partitions where changes come under their names, or nothing.
type Addition struct {
	Table catalog.Table
	Read  []catalog.Table
	Empty bool // only while no row is in it
}

// CoverageChecks are the names of the problems of a Coverage. What a preflight says under
// them is outdated once the bridge runs.
func CoverageChecks() []string {
	return []string{"not-published", "not-routed", "no-identity", "unlogged", "vanished"}
}

// Cover compares. It is pure. names are the tables that routes spell without wildcards.
func (s *Source) Cover(c *Covered, names []string, route func(*catalog.Table) Routed) *Coverage {
	v := cover{source: s, Covered: c, routed: make([]Routed, len(c.Tables)), at: make(map[string]int), said: make(map[string]int)}
	for i := range c.Tables {
		v.routed[i] = route(&c.Tables[i].Table)
		v.at[c.Tables[i].QualifiedName()] = i
	}
	v.leaves()
	if !c.Exists {
		v.warn(fault.Problem{Check: "publication", Where: s.cfg.Publication, What: "the publication does not exist", Why: "nothing is streamed without it", Fix: "walbridge setup"})
		v.lacking = append(v.lacking, "the publication does not exist")
	}
	for i := range c.Tables {
		v.table(&c.Tables[i], v.routed[i])
	}
	for _, name := range names {
		if _, there := v.at[name]; !there {
			v.vanished(name)
		}
	}
	v.more()
	v.found.NotReady = firstFew(v.lacking)
	return &v.found
}

// maxLacking bounds how many tables a bridge that is not ready names in one line.
const maxLacking = 5

func firstFew(all []string) string {
	if n := len(all) - maxLacking; n > 0 {
		all = append(slices.Clone(all[:maxLacking]), fmt.Sprintf("and %d more", n))
	}
	return strings.Join(all, "; ")
}

// cover is a comparison that goes on.
type cover struct {
	*Covered
	source *Source
	routed []Routed
	at     map[string]int // the place of a table in both, by its name
	// unsafe are the partitioned tables, by name, with a partition that has no replica
	// identity: publishing them would make UPDATE fail there.
	unsafe  map[string]bool
	parts   map[string][]catalog.Table // leaf partitions, by the root's name
	found   Coverage
	lacking []string
	said    map[string]int // problems by check
}

// leaves takes note of leaf partitions.
func (v *cover) leaves() {
	v.unsafe, v.parts = make(map[string]bool), make(map[string][]catalog.Table)
	for i := range v.Tables {
		t := &v.Tables[i]
		if t.Root == "" || t.Kind != 'r' {
			continue
		}
		v.parts[t.Root] = append(v.parts[t.Root], t.Table)
		v.unsafe[t.Root] = v.unsafe[t.Root] || !t.SafeToPublish()
	}
}

func (v *cover) table(t *CoveredTable, r Routed) {
	if !r.Taken {
		v.unrouted(t)
		return
	}
	keyless := v.Updates && t.Kind == 'r' && !t.SafeToPublish()
	if root, ok := v.at[t.Root]; ok && v.routed[root].Taken { // it comes with its root
		if keyless {
			v.keyless(t)
		}
		return
	}
	switch {
	case t.Unlogged:
		v.found.Unpublished++
		v.warn(fault.Problem{Check: "unlogged", Where: t.QualifiedName(), What: "the table is unlogged, so its changes are in no WAL",
			Fix: "ALTER TABLE " + quoteQualified(t.Schema, t.Name) + " SET LOGGED, or exclude it from the route"})
		return
	case keyless, v.Updates && !t.Published && (!t.SafeToPublish() || v.unsafe[t.QualifiedName()]):
		v.keyless(t)
	case t.Published:
		v.found.Published++
	default:
		v.unpublished(t, r)
	}
	if !t.Published && !r.Wild && v.Exists {
		v.lacking = append(v.lacking, "the table "+t.QualifiedName()+", which a route names, is not published")
	}
}

// unrouted is for a table that no route takes. A partition is in the publication by the
// table above it, unless it is named there.
func (v *cover) unrouted(t *CoveredTable) {
	if !t.Published || t.Root != "" && !t.Named {
		return
	}
	v.found.Unrouted++
	if t.Named {
		v.warn(notRouted(v.source.cfg.Publication, &t.Table))
	}
}

func (v *cover) keyless(t *CoveredTable) {
	v.found.NoIdentity++
	if t.Kind == 'p' && v.unsafe[t.QualifiedName()] {
		return // its partitions say it
	}
	p := noIdentity(t.Table)
	if t.Published {
		p.Why = "it is published, so UPDATE and DELETE on it fail for the application"
	}
	v.warn(p)
}

func (v *cover) unpublished(t *CoveredTable, r Routed) {
	v.found.Unpublished++
	if !v.Exists {
		return
	}
	p := notPublished(v.source.cfg.Publication, &t.Table)
	p.Fix = v.source.AddStatement(&t.Table)
	if r.Read {
		p.Fix += "; and for the rows that are in it: walbridge snapshot --tables " + t.QualifiedName()
	}
	if v.source.Publishes() {
		why, fix := v.obstacle(t, r)
		if why == "" {
			v.found.Additions = append(v.found.Additions, Addition{t.Table, v.toRead(t, r), r.Asks})
			p.Why = "the bridge adds it as soon as it gets the lock on it"
		} else {
			p.What += ", and the bridge cannot add it: " + why
		}
		if fix != "" {
			p.Fix = fix
		}
	}
	v.warn(p)
}

// obstacle says what keeps the bridge from publishing a table, and the way out where it is
// another than publishing it by hand.
func (v *cover) obstacle(t *CoveredTable, r Routed) (why, fix string) {
	if !v.Owned || !t.Owned {
		return "its role must own the publication and the table, or be a member of the roles that do", ""
	}
	if r.Asks && !t.Readable {
		return "it must be empty, and the role may not look", "GRANT SELECT ON " + quoteQualified(t.Schema, t.Name) + " TO the role of source.dsn, or give it a route with snapshot: never"
	}
	for _, read := range v.toRead(t, r) {
		table := quoteQualified(read.Schema, read.Name)
		switch {
		case len(read.IdentityColumns) == 0:
			return "its rows are to be read, and " + read.QualifiedName() + " has no key to do it by",
				"ALTER TABLE " + table + " ADD PRIMARY KEY (…), or give it a route with snapshot: never"
		case !read.Readable:
			return "its rows are to be read, and the role may not read " + read.QualifiedName(), "GRANT SELECT ON " + table + " TO the role of source.dsn, or give it a route with snapshot: never"
		}
	}
	return "", ""
}

// toRead are the tables under whose names rows are to be read.
func (v *cover) toRead(t *CoveredTable, r Routed) []catalog.Table {
	switch {
	case !r.Read:
		return nil
	case t.Kind == 'p' && !v.ViaRoot:
		return v.parts[t.QualifiedName()]
	}
	return []catalog.Table{t.Table}
}

func (v *cover) vanished(name string) {
	v.found.Vanished++
	v.warn(fault.Problem{Check: "vanished", Where: name, What: "a route names the table, and it is not there",
		Why: "nothing is delivered for it; made again it is another table, which the publication lacks",
		Fix: "make it again and run `walbridge setup`, or take it out of the routes and start the bridge again"})
	v.lacking = append(v.lacking, "the table "+name+", which a route names, is not there")
}

// maxOfKind bounds how many problems of a kind are told one by one.
const maxOfKind = 50

func (v *cover) warn(p fault.Problem) {
	p.Warning = true
	if v.said[p.Check]++; v.said[p.Check] <= maxOfKind {
		v.found.Problems = append(v.found.Problems, p)
	}
}

// more says how many problems were left out.
func (v *cover) more() {
	for _, check := range CoverageChecks() {
		if n := v.said[check] - maxOfKind; n > 0 {
			v.found.Problems = append(v.found.Problems, fault.Problem{Check: check, Warning: true, What: fmt.Sprintf("the same is true of %d more tables", n), Fix: "walbridge doctor lists them"})
		}
	}
}

func notPublished(publication string, t *catalog.Table) fault.Problem {
	return fault.Problem{Check: "not-published", Where: t.QualifiedName(), What: "a route takes the table, and the publication " + strconv.Quote(publication) + " lacks it",
		Why: "its changes are not sent, and what commits until it is published is never streamed", Fix: "walbridge setup"}
}

func notRouted(publication string, t *catalog.Table) fault.Problem {
	return fault.Problem{Check: "not-routed", Where: t.QualifiedName(), Warning: true, What: "the publication has the table, and no route takes it",
		Why: "its changes are sent and skipped",
		Fix: "ALTER PUBLICATION " + quoteIdent(publication) + " DROP TABLE ONLY " + quoteQualified(t.Schema, t.Name) + ", or a route for it"}
}

// AddStatement is the SQL that adds a table to the publication of a bridge that runs.
func (s *Source) AddStatement(t *catalog.Table) string {
	table := quoteQualified(t.Schema, t.Name)
	return lockedAdd(table, "ALTER PUBLICATION "+quoteIdent(s.cfg.Publication)+" ADD TABLE ONLY "+table)
}

// CoverageInterval is how often Covered is to be asked.
func (s *Source) CoverageInterval() time.Duration { return s.cfg.CoverageInterval }

// Publishes reports whether the bridge adds tables that a route takes to the publication.
func (s *Source) Publishes() bool { return s.cfg.OnNewTable == NewTablePublish }
