package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// connectJVM are the arguments of Kafka Connect's Java machine.
func connectJVM() []string { return []string{"-Xms1g", "-Xmx2g", "-XX:+UseG1GC"} }

// workerSettings are those of the Kafka Connect worker: the producer of large batches
// that loses nothing, as Kafka Connect's and Debezium's documentation advise for
// throughput.
func workerSettings(outbox bool) map[string]string {
	s := map[string]string{
		"key.converter":                                  "org.apache.kafka.connect.json.JsonConverter",
		"value.converter":                                "org.apache.kafka.connect.json.JsonConverter",
		"offset.flush.interval.ms":                       "1000",
		"plugin.discovery":                               "only_scan",
		"producer.acks":                                  "all",
		"producer.enable.idempotence":                    "true",
		"producer.max.in.flight.requests.per.connection": "5",
		"producer.compression.type":                      "none",
		"producer.linger.ms":                             "5",
		"producer.batch.size":                            "524288",
		"producer.buffer.memory":                         "134217728",
		"producer.max.request.size":                      "8388608",
	}
	if outbox { // the event router's payload is a text
		s["key.converter"], s["value.converter"] = "org.apache.kafka.connect.storage.StringConverter", "org.apache.kafka.connect.storage.StringConverter"
		return s
	}
	s["key.converter.schemas.enable"], s["value.converter.schemas.enable"] = "false", "false"
	return s
}

// connectorSettings are those of Debezium's connector: large batches and queues, no
// waiting, no tombstones, no headers but the records' own.
func connectorSettings(outbox bool) map[string]string {
	s := map[string]string{
		"connector.class":             "io.debezium.connector.postgresql.PostgresConnector",
		"tasks.max":                   "1",
		"plugin.name":                 "pgoutput",
		"publication.autocreate.mode": "disabled",
		"snapshot.mode":               "no_data",
		"decimal.handling.mode":       "string",
		"tombstones.on.delete":        "false",
		"extended.headers.enabled":    "false",
		"poll.interval.ms":            "10",
		"max.batch.size":              "8192",
		"max.queue.size":              "32768",
		"status.update.interval.ms":   "1000",
		"statistics.metrics.enabled":  "false",
	}
	if outbox {
		s["transforms"], s["transforms.outbox.type"] = "outbox", "io.debezium.transforms.outbox.EventRouter"
	}
	return s
}

// runConnect starts Kafka Connect with Debezium's connector on an existing slot. The
// records go to the topic, whose name is that of the slot and the table.
func (b *bench) runConnect(ctx context.Context, slot, topic string, w workload) (*child, error) {
	server, err := url.Parse(b.server.DSN("postgres"))
	if err != nil {
		return nil, err
	}
	b.slots++
	worker := with(workerSettings(w.outbox), map[string]string{
		"bootstrap.servers":            b.kafka.broker.Addr(),
		"listeners":                    fmt.Sprintf("http://127.0.0.1:%d", 20000+b.slots),
		"offset.storage.file.filename": filepath.Join(b.dir, slot+".offsets"),
	})
	connector := with(connectorSettings(w.outbox), map[string]string{
		"name": slot, "topic.prefix": slot, "slot.name": slot, "publication.name": w.publication, "table.include.list": "public." + w.table,
		"database.hostname": server.Hostname(), "database.port": server.Port(), "database.user": server.User.Username(), "database.password": "unused", "database.dbname": "postgres",
	})
	if w.outbox {
		connector["transforms.outbox.route.topic.replacement"] = topic
	}
	args := append(connectJVM(), "-Djava.awt.headless=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", filepath.Join(b.o.debezium, "*"),
		"org.apache.kafka.connect.cli.ConnectStandalone")
	for name, s := range map[string]map[string]string{"worker": worker, "connector": connector} {
		if err := writeProperties(b.propertiesPath(slot, name), s); err != nil {
			return nil, err
		}
	}
	return b.spawn(ctx, "java", append(args, b.propertiesPath(slot, "worker"), b.propertiesPath(slot, "connector"))...)
}

func (b *bench) propertiesPath(slot, name string) string {
	return filepath.Join(b.dir, slot+"."+name+".properties")
}

func writeProperties(path string, s map[string]string) error {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&text, "%s=%s\n", name, s[name])
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}

func with(base, more map[string]string) map[string]string {
	all := maps.Clone(base)
	maps.Copy(all, more)
	return all
}
