package replication

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
)

// inbox is the one table of the bridge's own schema that applications write to, so
// that it may be published.
const inbox = "inbox"

// The versions that are read: below, pgoutput lacks what is needed.
const (
	oldestMajor  = 14
	newestTested = 18
)

// Check is the preflight: everything about the server, the role, the publication and
// the tables that would stop the bridge, harm the source, or surprise somebody, with
// the statement that mends it. It is pure. What belongs to a stored position is
// Reconcile's; of the slot it only warns.
//
// tables are all of the source, want those that a route takes, and own is the schema
// that the bridge writes to, in case it is in the source's database: none of its
// tables but the inbox may be published, since each change would make another.
func (s *Source) Check(srv *Server, tables, want []catalog.Table, own string) []fault.Problem {
	c := &check{srv: srv, app: s.applicationName()}
	c.connection(s)
	c.server()
	c.slotSpace(s.cfg.Failover)
	c.outage()
	c.otherSlots()
	c.publication(own)
	c.tables(tables, want)
	return c.found
}

// check collects problems.
type check struct {
	srv   *Server
	app   string
	found []fault.Problem
}

func (c *check) add(p fault.Problem) { c.found = append(c.found, p) }

func (c *check) warn(p fault.Problem) {
	p.Warning = true
	c.add(p)
}

func (c *check) connection(s *Source) {
	srv := c.srv
	var config *fault.ConfigError
	switch {
	case errors.As(srv.ReplicationErr, &config):
		c.found = append(c.found, config.Problems...)
	case srv.ReplicationErr != nil:
		c.warn(fault.Problem{Check: "replication-connection", Where: "source", What: oneLine(srv.ReplicationErr.Error()),
			Fix: "the bridge tries again; a pooler in between is avoided by source.replication_dsn"})
	case srv.SQLSystemID != 0 && srv.SQLSystemID != srv.SystemID:
		c.add(fault.Problem{Check: "two-servers", Where: "source.replication_dsn",
			What: fmt.Sprintf("source.dsn reaches the cluster %d, source.replication_dsn the cluster %d", srv.SQLSystemID, srv.SystemID),
			Fix:  "point both at the same server"})
	}
	if !srv.TLSVerified {
		c.warn(fault.Problem{Check: "tls", Where: "source.dsn", What: "the connection does not verify the server's certificate and name",
			Why: "whoever can redirect it reads every published row and the role's password", Fix: "sslmode=verify-full, with sslrootcert= for a certificate authority of your own"})
	}
}

// brokenMinors are releases with a regression in decoding: "invalid memory alloc
// request size" at sizes that have nothing to do with a row's. The next minor of
// each is well again.
var brokenMinors = []int{140018, 150013, 160009, 170005}

func (c *check) server() {
	srv := c.srv
	if srv.Major() < oldestMajor {
		c.add(fault.Problem{Check: "version", Where: "source", What: fmt.Sprintf("version %s of the server is older than %d", srv.Version, oldestMajor), Fix: "upgrade the server"})
	}
	if srv.Major() > newestTested {
		c.warn(fault.Problem{Check: "version", Where: "source", What: fmt.Sprintf("version %s of the server is newer than %d, the newest that was tested", srv.Version, newestTested), Fix: "try it on a copy first"})
	}
	if slices.Contains(brokenMinors, srv.VersionNum) {
		c.warn(fault.Problem{Check: "version", Where: "source", What: fmt.Sprintf("version %s has a regression in logical decoding", srv.Version),
			Why: "decoding can fail with \"invalid memory alloc request size\" and then stands still", Fix: "install the next minor version"})
	}
	if srv.InRecovery {
		c.add(onStandby(srv))
	}
	if srv.WALLevel != "logical" && srv.Major() < 19 { // 19 raises it by itself when a logical slot is made
		c.add(fault.Problem{Check: "wal-level", Where: "source", What: "wal_level is " + srv.WALLevel + ", not logical",
			Why: "the WAL lacks what changes are decoded from", Fix: "ALTER SYSTEM SET wal_level = 'logical', then restart the server (managed services have a parameter of their own for it)"})
	}
	if srv.Encoding == "SQL_ASCII" {
		c.warn(fault.Problem{Check: "encoding", Where: srv.Database, What: "the database's encoding is SQL_ASCII, so it may hold text that is no UTF-8",
			Why: "decoding fails at the first such value, for good, and the slot stands still there", Fix: "convert the database to UTF8 before you rely on it"})
	}
	if syncStandby(srv.SyncStandbyNames, c.app) {
		c.warn(fault.Problem{Check: "synchronous-standby", Where: "source", What: fmt.Sprintf("synchronous_standby_names (%s) takes this bridge (%s) for a synchronous standby", srv.SyncStandbyNames, c.app),
			Why: "commits of the application would wait until the destination has stored them", Fix: "name the standbys in synchronous_standby_names one by one"})
	}
	for _, p := range srv.PreparedTx {
		if p.Age > time.Hour {
			c.warn(fault.Problem{Check: "prepared-transaction", Where: p.Database, What: fmt.Sprintf("the prepared transaction %q has been open for %v", p.GID, p.Age.Round(time.Minute)),
				Why: "it keeps WAL from being removed for as long as it is there, and slot creation waits for it", Fix: "COMMIT PREPARED " + quoteLiteral(p.GID) + " or ROLLBACK PREPARED " + quoteLiteral(p.GID)})
		}
	}
}

func onStandby(srv *Server) fault.Problem {
	return fault.Problem{Check: "standby", Where: "source", What: fmt.Sprintf("the server of the database %q is a standby (pg_is_in_recovery)", srv.Database),
		Why: "a slot there is invalidated by the primary's vacuum, and ends with a promotion", Fix: "point source.dsn at the primary; several hosts with target_session_attrs=read-write follow a failover"}
}

// slotSpace checks what a first start needs, and warns of a slot that no start can
// use: with a stored position that is a halt, which says more.
func (c *check) slotSpace(failover string) {
	srv := c.srv
	if failover == FailoverOn && srv.Major() < 17 {
		c.add(fault.Problem{Check: "failover", Where: "source.failover", What: fmt.Sprintf("on, but version %s of the server has no failover slots (17 and later do)", srv.Version), Fix: "failover: auto"})
	}
	switch {
	case srv.Slot == nil && srv.Slots.Free() < firstStartSlots:
		what := fmt.Sprintf("no free replication slot: all %d of max_replication_slots are in use", srv.Slots.Max)
		if srv.Slots.Free() > 0 {
			what = fmt.Sprintf("one free replication slot of %d (max_replication_slots), and the first start needs a second one for a moment", srv.Slots.Max)
		}
		c.add(fault.Problem{Check: "free-slot", Where: "source", What: what,
			Fix: "raise max_replication_slots (needs a restart), or drop a slot that nobody reads: SELECT slot_name, active, wal_status FROM pg_replication_slots; SELECT pg_drop_replication_slot('…')"})
	case srv.Slot != nil:
		if reason, lost := srv.Slot.Lost(); lost {
			c.warn(fault.Problem{Check: "slot", Where: srv.SlotName, What: "the slot is lost: " + reason, Why: "it can never be read again", Fix: "walbridge run says which ways lead out"})
		} else if why := unusable(srv); why != "" {
			c.warn(fault.Problem{Check: "slot", Where: srv.SlotName, What: "the slot cannot serve a bridge: " + why, Fix: "give the bridge a `source.slot` of its own, or drop it: " + dropSlot(srv.SlotName)})
		}
	}
	active := srv.Slot != nil && srv.Slot.Active
	if srv.Senders.Free() == 0 && !active {
		c.add(fault.Problem{Check: "free-sender", Where: "source", What: fmt.Sprintf("no free walsender: all %d of max_wal_senders are in use", srv.Senders.Max),
			Fix: "raise max_wal_senders (needs a restart), or end a session that nobody needs: SELECT pid, application_name FROM pg_stat_replication"})
	}
}

// outage says how long the bridge may be away.
func (c *check) outage() {
	srv := c.srv
	switch {
	case srv.MaxSlotWALKeep < 0:
		c.warn(fault.Problem{Check: "maximum-outage", Where: "source", What: "max_slot_wal_keep_size is not set",
			Why: "while the bridge is away the server keeps all WAL, until its disk is full", Fix: "watch walbridge_slot_retained_bytes, or ALTER SYSTEM SET max_slot_wal_keep_size to what the disk can spare; a slot that exceeds it is lost"})
	default:
		c.warn(fault.Problem{Check: "maximum-outage", Where: "source", What: fmt.Sprintf("the slot is lost when the bridge is more than %d MiB of WAL behind (max_slot_wal_keep_size)", srv.MaxSlotWALKeep>>20),
			Why: "what it had not delivered then is not delivered any more", Fix: "let it cover the longest outage you plan for"})
	}
	if srv.IdleSlotTimeout > 0 {
		c.warn(fault.Problem{Check: "maximum-outage", Where: "source", What: fmt.Sprintf("the slot is lost when the bridge is away for longer than %v (idle_replication_slot_timeout)", srv.IdleSlotTimeout),
			Why: "what it had not delivered then is not delivered any more", Fix: "let it cover the longest outage you plan for"})
	}
}

func (c *check) otherSlots() {
	for _, o := range c.srv.OtherSlots {
		if o.Active {
			continue
		}
		held := "holds no WAL"
		if o.RestartLSN > 0 && c.srv.WALEnd > o.RestartLSN {
			held = fmt.Sprintf("holds %d MiB of WAL", c.srv.WALEnd.Sub(o.RestartLSN)>>20)
		}
		c.warn(fault.Problem{Check: "inactive-slot", Where: o.Name, What: "a slot of another bridge that nobody reads " + held,
			Why: "a slot that is forgotten fills the server's disk", Fix: "start its bridge, or drop it: " + dropSlot(o.Name)})
	}
}

func (c *check) publication(own string) {
	pub := c.srv.Published
	if pub == nil {
		c.add(fault.Problem{Check: "publication", Where: c.srv.Publication, What: "the publication does not exist", Why: "it must be there before the slot is", Fix: "walbridge setup"})
		return
	}
	for _, t := range pub.Tables {
		if t.Schema == own && t.Name != inbox {
			c.add(fault.Problem{Check: "feedback-loop", Where: t.QualifiedName(), What: "the publication has a table that the bridge writes to",
				Why: "each delivery would be a change to deliver", Fix: c.withoutOwn(t)})
		}
		c.rowFilter(t)
	}
	if pub.AllTables {
		c.warn(fault.Problem{Check: "all-tables", Where: pub.Name, What: "the publication is FOR ALL TABLES",
			Why: "a table without a key that somebody makes later refuses UPDATE and DELETE, and the server sends what no route takes", Fix: "let `walbridge setup` make a publication of the routes' tables"})
	}
	for _, k := range []struct {
		on   bool
		kind string
	}{{pub.Insert, "insert"}, {pub.Update, "update"}, {pub.Delete, "delete"}, {pub.Truncate, "truncate"}} {
		if !k.on {
			c.warn(fault.Problem{Check: "publish", Where: pub.Name, What: "the publication leaves out every " + k.kind, Fix: "ALTER PUBLICATION " + quoteIdent(pub.Name) + " SET (publish = 'insert, update, delete, truncate')"})
		}
	}
}

func (c *check) withoutOwn(t PublishedTable) string {
	if slices.Contains(c.srv.Published.Explicit, t.QualifiedName()) {
		return "ALTER PUBLICATION " + quoteIdent(c.srv.Publication) + " DROP TABLE " + quoteQualified(t.Schema, t.Name)
	}
	return "name the tables in the publication one by one: DROP PUBLICATION " + quoteIdent(c.srv.Publication) + ", then `walbridge setup`"
}

// rowFilter warns of what a row filter does to the stream.
func (c *check) rowFilter(t PublishedTable) {
	if t.Filter != "" {
		c.warn(fault.Problem{Check: "row-filter", Where: t.QualifiedName(), What: "the publication has a row filter: " + oneLine(t.Filter),
			Why: "an update that moves a row into the filter arrives as an insert, one that moves it out as a delete", Fix: "filter at the consumers, or expect it"})
	}
}

func (c *check) tables(tables, want []catalog.Table) {
	pub := c.srv.Published
	wanted := map[uint32]bool{}
	for _, t := range want {
		wanted[t.OID] = true
	}
	for i := range tables {
		t := &tables[i]
		if !t.Published && !wanted[t.OID] {
			continue
		}
		c.published(t, wanted[t.OID])
		if t.Unlogged {
			c.warn(fault.Problem{Check: "unlogged", Where: t.QualifiedName(), What: "the table is unlogged, so its changes are in no WAL", Fix: "ALTER TABLE " + quoteQualified(t.Schema, t.Name) + " SET LOGGED"})
			continue
		}
		if !publishesUpdates(pub) {
			continue
		}
		if t.Kind == 'r' && !t.SafeToPublish() {
			c.add(noIdentity(*t))
			continue
		}
		c.identityCovered(t)
	}
	c.partitions(tables)
}

// published compares the routes with the publication, both ways. A table that a
// route takes and the publication lacks would be a gap that nobody sees.
func (c *check) published(t *catalog.Table, wanted bool) {
	switch {
	case c.srv.Published == nil:
		return // that the publication is missing says it for all tables
	case wanted && !t.Published && !t.Unlogged:
		c.add(notPublished(c.srv.Publication, t))
	case !wanted && slices.Contains(c.srv.Published.Explicit, t.QualifiedName()):
		c.add(notRouted(c.srv.Publication, t))
	}
}

// identityCovered finds column lists and row filters that make UPDATE and DELETE
// fail on the publisher with 42P10 (publicationcmds.c, pub_rf_contains_invalid_column
// and pub_collist_contains_invalid_column).
func (c *check) identityCovered(t *catalog.Table) {
	if c.srv.Published == nil {
		return
	}
	i := slices.IndexFunc(c.srv.Published.Tables, func(p PublishedTable) bool { return p.Schema == t.Schema && p.Name == t.Name })
	if i < 0 {
		return
	}
	p := c.srv.Published.Tables[i]
	identity := t.IdentityColumns
	if t.Identity == 'f' {
		identity = nil
		for _, col := range t.Columns {
			identity = append(identity, col.Name)
		}
	}
	const why = "UPDATE and DELETE on the table fail for the application (SQLSTATE 42P10)"
	if lacks := without(identity, p.Columns); p.Columns != nil && len(lacks) > 0 {
		c.add(fault.Problem{Check: "column-list", Where: t.QualifiedName(), What: "the publication's column list lacks columns of the replica identity: " + strings.Join(lacks, ", "), Why: why,
			Fix: "ALTER PUBLICATION " + quoteIdent(c.srv.Publication) + " SET TABLE … with those columns in the list"})
	}
	if outside := without(p.FilterColumns, identity); len(outside) > 0 {
		c.add(fault.Problem{Check: "row-filter", Where: t.QualifiedName(), What: "the publication's row filter uses columns outside of the replica identity: " + strings.Join(outside, ", "), Why: why,
			Fix: "ALTER TABLE " + quoteQualified(t.Schema, t.Name) + " REPLICA IDENTITY FULL, or filter by columns of the key"})
	}
}

// without returns the elements of a that are not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// partitions warns when changes of partitioned tables come under the names of their
// partitions.
func (c *check) partitions(tables []catalog.Table) {
	if c.srv.Published == nil || c.srv.Published.ViaRoot {
		return
	}
	for _, t := range tables {
		if t.Kind == 'p' && t.Root == "" && t.Published {
			c.warn(fault.Problem{Check: "partitions", Where: t.QualifiedName(), What: "its changes arrive under the names of its partitions",
				Why: "routes that name the table do not match them, and a row that moves to another partition arrives as a delete and an insert",
				Fix: "ALTER PUBLICATION " + quoteIdent(c.srv.Publication) + " SET (publish_via_partition_root = true), while the bridge is stopped and has no backlog"})
		}
	}
}

// syncStandby reports whether a session of that name can become a synchronous
// standby: synchronous_standby_names has it, or *, in any of its forms (syncrep.c
// compares without case).
func syncStandby(names, app string) bool {
	for name := range strings.FieldsFuncSeq(names, func(r rune) bool { return strings.ContainsRune(" \t\n,()", r) }) {
		name = strings.ReplaceAll(strings.Trim(name, `"`), `""`, `"`)
		if name == "*" || strings.EqualFold(name, app) {
			return true
		}
	}
	return false
}
