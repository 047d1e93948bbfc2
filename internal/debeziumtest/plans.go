package debeziumtest

import "maps"

// Plan is how a recording is made.
type Plan struct {
	Name       string // of the file, without its ending
	Snapshot   bool
	Converters string
	Settings   map[string]string // of the connector, less the addresses
}

// Plans returns the recordings there are:
//
//   - stream: all changes, with the settings that formats of walbridge follow;
//   - options: the same with numbers as doubles, intervals as text, hstore as objects
//     and the types that Debezium leaves out by default;
//   - snapshot: the tables as the workload leaves them;
//   - outbox: the events of the outbox by Debezium's event router;
//   - outbox_more: the same with further columns as headers and in an envelope.
func Plans() []Plan {
	tables := settings(map[string]string{"table.exclude.list": "public.outbox"})
	events := settings(map[string]string{
		"table.include.list":          "public.outbox,public.finish",
		"message.prefix.exclude.list": ".*",
		"transforms":                  "outbox",
		"transforms.outbox.type":      "io.debezium.transforms.outbox.EventRouter",
		"transforms.outbox.predicate": "isOutbox",
		"predicates":                  "isOutbox",
		"predicates.isOutbox.type":    "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
		"predicates.isOutbox.pattern": ".*outbox",
	})
	return []Plan{
		{Name: "stream", Converters: "json", Settings: tables},
		{Name: "options", Converters: "json", Settings: with(tables, map[string]string{
			"decimal.handling.mode":     "double",
			"interval.handling.mode":    "string",
			"hstore.handling.mode":      "map",
			"include.unknown.datatypes": "true",
		})},
		{Name: "snapshot", Snapshot: true, Converters: "json", Settings: with(tables, map[string]string{
			"snapshot.mode":      "initial",
			"table.exclude.list": "public.outbox,public.finish",
		})},
		{Name: "outbox", Converters: "string", Settings: events},
		{Name: "outbox_more", Converters: "json", Settings: with(events, map[string]string{
			"transforms.outbox.table.fields.additional.placement": "type:header:eventType,tenant:header,priority:envelope",
			"transforms.outbox.table.expand.json.payload":         "true",
			"transforms.outbox.route.tombstone.on.empty.payload":  "true",
		})},
	}
}

// settings are those of all recordings, with more.
func settings(more map[string]string) map[string]string {
	return with(map[string]string{
		"connector.class":             "io.debezium.connector.postgresql.PostgresConnector",
		"plugin.name":                 "pgoutput",
		"topic.prefix":                Prefix,
		"publication.autocreate.mode": "disabled",
		"snapshot.mode":               "no_data",
		"decimal.handling.mode":       "string",
		"skipped.operations":          "none",
		// The context of OpenLineage, in headers that differ from run to run.
		"extended.headers.enabled": "false",
		"offset.storage":           "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
	}, more)
}

func with(base, more map[string]string) map[string]string {
	all := maps.Clone(base)
	maps.Copy(all, more)
	return all
}
