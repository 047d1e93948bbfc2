package replication

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
)

func shopSource(t *testing.T) *Source {
	t.Helper()
	s, err := New(Config{DSN: "postgres://u@localhost/shop"}.WithDefaults("shop"), "shop", hclog.NewNullLogger())
	require.NoError(t, err)
	return s
}

func aTable(name string) catalog.Table {
	return catalog.Table{OID: uint32(len(name)*1000) + uint32(name[0]), Schema: "public", Name: name, Kind: 'r', Identity: 'd', IdentityColumns: []string{"id"},
		Columns: []catalog.Column{{Name: "id"}, {Name: "v"}}}
}

func published(t catalog.Table) catalog.Table { t.Published = true; return t }

//arch:flat
func TestCheck(t *testing.T) {
	keyless := aTable("keyless")
	keyless.IdentityColumns = nil
	full := aTable("full")
	full.Identity, full.IdentityColumns = 'f', nil
	unlogged := aTable("unlogged")
	unlogged.Unlogged = true
	root := aTable("root")
	root.Kind = 'p'
	list := func(cols, filter []string) func(*Server) {
		return func(s *Server) {
			s.Published.Tables = []PublishedTable{{Schema: "public", Name: "t", Columns: cols, FilterColumns: filter}}
		}
	}
	own := PublishedTable{Schema: "walbridge", Name: "log"}
	for _, c := range []struct {
		name    string
		change  func(*Server)
		tables  []catalog.Table
		want    []catalog.Table
		check   string // the checks that find something
		warning bool
	}{
		{name: "all is well", tables: []catalog.Table{published(aTable("t")), keyless, unlogged}},
		{name: "no replication connection", change: func(s *Server) { s.ReplicationErr = pooler(errors.New("x")) }, check: "pooler"},
		{name: "replication connection refused for now", change: func(s *Server) { s.ReplicationErr = fault.Transient(ReasonStarting, errors.New("x")) }, check: "replication-connection", warning: true},
		{name: "two servers", change: func(s *Server) { s.SQLSystemID = 5 }, check: "two-servers"},
		{name: "system identifier unknown", change: func(s *Server) { s.SQLSystemID = 0 }},
		{name: "TLS unverified", change: func(s *Server) { s.TLSVerified = false }, check: "tls", warning: true},
		{name: "too old", change: func(s *Server) { s.VersionNum = 130000 }, check: "version"},
		{name: "newer than tested", change: func(s *Server) { s.VersionNum = 190000 }, check: "version", warning: true},
		{name: "19 raises wal_level itself", change: func(s *Server) { s.VersionNum, s.WALLevel = 190000, "replica" }, check: "version", warning: true},
		{name: "known regression", change: func(s *Server) { s.VersionNum = 150013 }, check: "version", warning: true},
		{name: "standby", change: func(s *Server) { s.InRecovery = true }, check: "standby"},
		{name: "wal_level", change: func(s *Server) { s.WALLevel = "replica" }, check: "wal-level"},
		{name: "SQL_ASCII", change: func(s *Server) { s.Encoding = "SQL_ASCII" }, check: "encoding", warning: true},
		{name: "synchronous standby", change: func(s *Server) { s.SyncStandbyNames = "*" }, check: "synchronous-standby", warning: true},
		{name: "old prepared transaction", change: func(s *Server) { s.PreparedTx = []PreparedTx{{"g'1", "shop", 2 * time.Hour}} }, check: "prepared-transaction", warning: true},
		{name: "young prepared transaction", change: func(s *Server) { s.PreparedTx = []PreparedTx{{"g", "shop", time.Minute}} }},
		{name: "no free slot", change: func(s *Server) { s.Slot, s.Slots = nil, Usage{4, 4} }, check: "free-slot"},
		{name: "one free slot", change: func(s *Server) { s.Slot, s.Slots = nil, Usage{4, 3} }, check: "free-slot"},
		{name: "two free slots", change: func(s *Server) { s.Slot, s.Slots = nil, Usage{4, 2} }},
		{name: "no free slot, but ours exists", change: func(s *Server) { s.Slots = Usage{4, 4} }},
		{name: "no free sender", change: func(s *Server) { s.Senders = Usage{2, 2} }, check: "free-sender"},
		{name: "no free sender, but one holds our slot", change: func(s *Server) { s.Senders = Usage{2, 2}; s.Slot.Active = true }},
		{name: "slot lost", change: func(s *Server) { s.Slot.WALStatus = "lost" }, check: "slot", warning: true},
		{name: "two-phase slot", change: func(s *Server) { s.Slot.TwoPhase = true }, check: "slot", warning: true},
		{name: "idle time-out", change: func(s *Server) { s.IdleSlotTimeout = time.Hour }, check: "maximum-outage", warning: true},
		{name: "forgotten slot", change: func(s *Server) { s.OtherSlots = []Slot{{Name: "walbridge_old", RestartLSN: 1}} }, check: "inactive-slot", warning: true},
		{name: "another bridge's slot", change: func(s *Server) { s.OtherSlots = []Slot{{Name: "walbridge_other", Active: true}} }},
		{name: "no publication", change: func(s *Server) { s.Published = nil }, check: "publication"},
		{name: "our own table is published", change: func(s *Server) { s.Published.Tables = []PublishedTable{own} }, check: "feedback-loop"},
		{name: "our inbox is published", change: func(s *Server) { s.Published.Tables = []PublishedTable{{Schema: "walbridge", Name: "inbox"}} }},
		{name: "all tables", change: func(s *Server) { s.Published.AllTables = true }, check: "all-tables", warning: true},
		{name: "deletes are left out", change: func(s *Server) { s.Published.Delete = false }, check: "publish", warning: true},
		{name: "published table without a key", tables: []catalog.Table{published(keyless)}, check: "no-identity"},
		{name: "wanted table without a key", tables: []catalog.Table{keyless}, want: []catalog.Table{keyless}, check: "not-published no-identity"},
		{name: "wanted table is not published", tables: []catalog.Table{aTable("t")}, want: []catalog.Table{aTable("t")}, check: "not-published"},
		{name: "wanted table, no publication", change: func(s *Server) { s.Published = nil }, tables: []catalog.Table{aTable("t")}, want: []catalog.Table{aTable("t")}, check: "publication"},
		{name: "published table that no route takes", change: func(s *Server) { s.Published.Explicit = []string{"public.t"} }, tables: []catalog.Table{published(aTable("t"))}, check: "not-routed", warning: true},
		{name: "FULL needs no key", tables: []catalog.Table{published(full)}},
		{name: "wanted unlogged table", tables: []catalog.Table{unlogged}, want: []catalog.Table{unlogged}, check: "unlogged", warning: true},
		{name: "partitions under their own names", change: func(s *Server) { s.Published.ViaRoot = false }, tables: []catalog.Table{published(root)}, check: "partitions", warning: true},
		{name: "column list with the key", change: list([]string{"id"}, nil), tables: []catalog.Table{published(aTable("t"))}},
		{name: "column list without the key", change: list([]string{"v"}, nil), tables: []catalog.Table{published(aTable("t"))}, check: "column-list"},
		{name: "row filter by the key", change: list(nil, []string{"id"}), tables: []catalog.Table{published(aTable("t"))}},
		{name: "row filter outside of the key", change: list(nil, []string{"v"}), tables: []catalog.Table{published(aTable("t"))}, check: "row-filter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := aServer()
			srv.MaxSlotWALKeep = 10 << 30
			if c.change != nil {
				c.change(srv)
			}
			found := shopSource(t).Check(srv, c.tables, c.want, "walbridge")
			outage := slices.IndexFunc(found, func(p fault.Problem) bool { return strings.Contains(p.What, "10240 MiB") })
			require.GreaterOrEqual(t, outage, 0, "the maximum outage is always told")
			found = slices.Delete(found, outage, outage+1)
			if c.check == "" {
				require.Empty(t, found)
				return
			}
			var checks []string
			for _, p := range found {
				checks = append(checks, p.Check)
				require.Equal(t, c.warning, p.Warning)
				require.NotEmpty(t, p.What)
				require.NotEmpty(t, p.Fix)
				require.NotContains(t, p.String(), "\n")
			}
			require.Equal(t, c.check, strings.Join(checks, " "))
		})
	}
	t.Run("inserts of a table without a key may be published alone", func(t *testing.T) {
		srv := aServer()
		srv.Published.Update, srv.Published.Delete = false, false
		for _, p := range shopSource(t).Check(srv, []catalog.Table{published(keyless)}, nil, "walbridge") {
			require.NotEqual(t, "no-identity", p.Check)
		}
	})
}

func TestSyncStandby(t *testing.T) {
	for names, want := range map[string]bool{
		"": false, "*": true, "walbridge_shop": true, "WalBridge_Shop": true, `"walbridge_shop"`: true,
		"FIRST 1 (a, walbridge_shop)": true, "ANY 2 (*)": true, "2 (a,b)": false, "walbridge_shop2": false, "a, b": false,
	} {
		require.Equal(t, want, syncStandby(names, "walbridge_shop"), names)
	}
}

//arch:flat
func TestPlanPublication(t *testing.T) {
	keyless := aTable("keyless")
	keyless.IdentityColumns = nil
	unlogged := aTable("unlogged")
	unlogged.Unlogged = true
	leaf := aTable("leaf")
	leaf.Root = "public.root"
	root := aTable("root")
	root.Kind = 'p'
	mixed := aTable(`Mixed"Case`)
	explicit := func(names ...string) func(*Server) {
		return func(s *Server) {
			for _, n := range names {
				s.Published.Explicit = append(s.Published.Explicit, "public."+n)
				s.Published.Tables = append(s.Published.Tables, PublishedTable{Schema: "public", Name: n})
			}
		}
	}
	noSlot := func(s *Server) { s.Slot = nil }
	missing := func(s *Server) { s.Published = nil }
	for _, c := range []struct {
		name    string
		change  []func(*Server)
		want    []catalog.Table
		plan    PublicationPlan
		refused []string
	}{
		{name: "nothing to do", change: []func(*Server){explicit("t")}, want: []catalog.Table{published(aTable("t"))}},
		{name: "new", change: []func(*Server){missing}, want: []catalog.Table{aTable("t"), mixed}, plan: PublicationPlan{Create: true, Add: []string{"public.t", `public.Mixed"Case`},
			Statements: []string{`CREATE PUBLICATION "walbridge_shop" FOR TABLE ONLY "public"."t", ONLY "public"."Mixed""Case" WITH (publish_via_partition_root = true)`}}},
		{name: "new without tables", change: []func(*Server){missing}, plan: PublicationPlan{Create: true, Statements: []string{`CREATE PUBLICATION "walbridge_shop" WITH (publish_via_partition_root = true)`}}},
		{name: "add before the slot is there", change: []func(*Server){noSlot}, want: []catalog.Table{aTable("t")}, plan: PublicationPlan{Add: []string{"public.t"},
			Statements: []string{`ALTER PUBLICATION "walbridge_shop" ADD TABLE ONLY "public"."t"`}}},
		{name: "add to a running bridge", want: []catalog.Table{aTable("t")}, plan: PublicationPlan{Add: []string{"public.t"},
			Statements: []string{`BEGIN; SET LOCAL lock_timeout = '5s'; LOCK TABLE "public"."t" IN SHARE ROW EXCLUSIVE MODE; ALTER PUBLICATION "walbridge_shop" ADD TABLE ONLY "public"."t"; COMMIT`}}},
		{name: "drop", change: []func(*Server){explicit("t", "old")}, want: []catalog.Table{published(aTable("t"))}, plan: PublicationPlan{Drop: []string{"public.old"},
			Statements: []string{`ALTER PUBLICATION "walbridge_shop" DROP TABLE ONLY "public"."old"`}}},
		{name: "what all tables covers is left alone", change: []func(*Server){func(s *Server) {
			s.Published.AllTables = true
			s.Published.Tables = []PublishedTable{{Schema: "public", Name: "t"}, {Schema: "public", Name: "u"}}
		}}, want: []catalog.Table{published(aTable("t"))}},
		{name: "partitions come through their root", change: []func(*Server){missing}, want: []catalog.Table{root, leaf}, plan: PublicationPlan{Create: true, Add: []string{"public.root"},
			Statements: []string{`CREATE PUBLICATION "walbridge_shop" FOR TABLE ONLY "public"."root" WITH (publish_via_partition_root = true)`}}},
		{name: "a partition alone", change: []func(*Server){missing}, want: []catalog.Table{leaf}, plan: PublicationPlan{Create: true, Add: []string{"public.leaf"},
			Statements: []string{`CREATE PUBLICATION "walbridge_shop" FOR TABLE ONLY "public"."leaf" WITH (publish_via_partition_root = true)`}}},
		{name: "unsafe tables, all of them", change: []func(*Server){missing}, want: []catalog.Table{keyless, aTable("t"), unlogged}, refused: []string{"public.keyless", "public.unlogged"}},
		{name: "inserts alone need no key", change: []func(*Server){noSlot, func(s *Server) { s.Published.Update, s.Published.Delete = false, false }}, want: []catalog.Table{keyless},
			plan: PublicationPlan{Add: []string{"public.keyless"}, Statements: []string{`ALTER PUBLICATION "walbridge_shop" ADD TABLE ONLY "public"."keyless"`}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := aServer()
			for _, f := range c.change {
				f(srv)
			}
			plan, err := shopSource(t).PlanPublication(srv, c.want)
			if c.refused == nil {
				require.NoError(t, err)
				require.Equal(t, c.plan, plan)
				return
			}
			var config *fault.ConfigError
			require.ErrorAs(t, err, &config)
			var where []string
			for _, p := range config.Problems {
				where = append(where, p.Where)
			}
			require.Equal(t, c.refused, where)
			require.Empty(t, plan)
		})
	}
}
