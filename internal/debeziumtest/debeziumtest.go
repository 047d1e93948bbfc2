// Package debeziumtest holds a workload for a PostgreSQL database and what Debezium
// made of it, record by record, so that tests can compare the records of walbridge
// with those that consumers of Debezium have today.
//
// A test runs Steps against a fresh database and compares what it gets with
// the Records of a Load. Positions, transaction ids and processing times differ from
// run to run; everything else in the workload is fixed. `make debezium-record` makes
// the recordings anew with Debezium's own engine; nothing else here needs Java.
package debeziumtest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed workload.sql
var workload string

//go:embed testdata/*.jsonl
var recordings embed.FS

// Prefix is the topic.prefix of the recordings: the first word of topics and the
// name in `source`.
const Prefix = "shop"

// Step is one transaction of the workload.
type Step struct {
	Name string // such as "key changes of the default identity"
	SQL  string // statements separated by semicolons, to be run as one simple query
}

// Steps returns the workload in order. The first step makes the tables and the last
// inserts into the table finish, whose change is in no recording. It needs an empty
// database of PostgreSQL 14 or newer with the extensions hstore and citext. Publication
// and slot are the caller's: they are made after the first step and before the second.
func Steps() []Step {
	const mark = "-- step: "
	var steps []Step
	for _, part := range strings.Split(workload, "\n"+mark)[1:] {
		name, sql, _ := strings.Cut(part, "\n")
		steps = append(steps, Step{Name: name, SQL: strings.TrimSpace(sql)})
	}
	return steps
}

// WorkloadSum returns the SHA-256 of the workload, in hexadecimal: recordings of another
// one say nothing.
func WorkloadSum() string { return fmt.Sprintf("%x", sha256.Sum256([]byte(workload))) }

// Head says how a recording was made.
type Head struct {
	Debezium   string            `json:"debezium"`   // version, such as 3.6.3.Final
	Connect    string            `json:"connect"`    // version of Kafka Connect
	PostgreSQL string            `json:"postgresql"` // version of the server
	Java       string            `json:"java"`
	Workload   string            `json:"workload"`   // WorkloadSum when it was made
	Snapshot   bool              `json:"snapshot"`   // the tables as the workload leaves them, by a snapshot; else its changes
	Converters string            `json:"converters"` // json (schemas off) or string: Kafka Connect's for keys and values
	Settings   map[string]string `json:"settings"`   // of the connector
}

// Record is one record as Kafka Connect would produce it.
type Record struct {
	Topic string `json:"topic"`
	// Key and Value are the bytes that the JSON converter wrote, or with the string
	// converter a JSON string of the text. null: the record has none.
	Key     json.RawMessage   `json:"key"`
	Headers map[string]string `json:"headers"`
	// Timestamp is in milliseconds; nil: left to the producer, which takes the time of
	// sending.
	Timestamp *int64 `json:"timestamp"`
	// Partition is nil when the producer chooses, which it does by the key.
	Partition *int            `json:"partition"`
	Value     json.RawMessage `json:"value"`
}

// Recording is what Debezium produced.
type Recording struct {
	Head    Head
	Records []Record // in the order in which they were produced
}

// Load returns the recording of that name: see Plans.
func Load(name string) (Recording, error) {
	var r Recording
	text, err := recordings.ReadFile("testdata/" + name + ".jsonl")
	if err != nil {
		return r, fmt.Errorf("load the recording %s: %w", name, err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for n := 1; lines.Scan(); n++ {
		if n == 1 {
			err = json.Unmarshal(lines.Bytes(), &r.Head)
		} else {
			var rec Record
			err = json.Unmarshal(lines.Bytes(), &rec)
			r.Records = append(r.Records, rec)
		}
		if err != nil {
			return r, fmt.Errorf("load the recording %s: line %d: %w", name, n, err)
		}
	}
	return r, lines.Err()
}
