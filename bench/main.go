// Command bench measures walbridge against what else reads a replication slot, on
// real servers that it starts itself, and writes every single run to a file of
// JSON lines.
//
//	make bench         the short set
//	make bench-full    everything but Kafka
//	make bench-kafka   into Kafka, beside Debezium
//
// The consumers of the work table are measured likewise, against a table whose rows
// are claimed one by one, and against the same writes without any reading. The reading
// of rows that are there already is measured against COPY of the same tables.
//
// The rules it keeps: WAL is made first, with nobody consuming, and every run
// reads a copy of the same slot, so that all contenders decode the same WAL; runs
// of the contenders alternate; what is counted is counted at the destination, or,
// where there is none, by the position that was made durable; processor time and
// memory are the operating system's figures. It prints medians and ratios and
// judges nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"regexp"
	"strings"
)

type options struct {
	full   bool
	only   *regexp.Regexp
	out    string
	binary string
	runs   int
	scale  float64
	// kafka: the measurements with Kafka, and no others.
	kafka    bool
	debezium string // folder of Debezium's jars
	// envelopes are those of change records, each a contender.
	envelopes []string
}

func main() {
	log.SetFlags(log.Ltime)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func parse() (options, error) {
	var o options
	only := flag.String("only", "", "regular expression of the measurements to make; all without it")
	flag.BoolVar(&o.full, "full", false, "the full set: all workloads at full size, and the long measurements")
	flag.StringVar(&o.out, "out", "", "file for the results, JSON lines; none without it")
	flag.StringVar(&o.binary, "binary", "", "the walbridge to measure; built from this tree without it")
	flag.IntVar(&o.runs, "runs", 5, "runs of each contender")
	flag.Float64Var(&o.scale, "scale", 0, "size of the workloads; 1 is a million rows; 0.2 in the short set and 1 in the full one by default")
	flag.BoolVar(&o.kafka, "kafka", false, "measure into Kafka, on a broker that is started for it, and nothing else")
	flag.StringVar(&o.debezium, "debezium", "", "folder of Debezium's `jars` (.ci/debezium); with -kafka, to measure it too")
	envelopes := flag.String("envelopes", defaultEnvelope, "with -kafka: envelopes of change records to measure, with commas between them")
	flag.Parse()
	o.envelopes = strings.Split(*envelopes, ",")
	if o.scale == 0 {
		o.scale = 0.2
		if o.full {
			o.scale = 1
		}
	}
	re, err := regexp.Compile(*only)
	o.only = re
	return o, err
}

func run() error {
	o, err := parse()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	if o.kafka {
		if err := b.warmBroker(ctx); err != nil {
			return fmt.Errorf("warm the broker: %w", err)
		}
	}
	for _, m := range b.measurements() {
		if m.kafka != o.kafka || !o.only.MatchString(m.name) {
			continue
		}
		log.Printf("measuring: %s", m.name)
		if err := m.f(ctx); err != nil {
			b.results.print(os.Stdout)
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	b.results.print(os.Stdout)
	return b.results.close()
}

// measurement is one of the things that are measured.
type measurement struct {
	name  string
	kafka bool
	f     func(context.Context) error
}

func (b *bench) measurements() []measurement {
	return []measurement{
		{"drain", false, b.drain},
		{"worktable", false, b.worktable},
		{"latency", false, b.latency},
		{"start", false, b.start},
		{"idle", false, b.idle},
		{"memory", false, b.memory},
		{"consume", false, b.consume},
		{"runtx", false, b.project},
		{"rare", false, b.rare},
		{"inbox", false, b.inbox},
		{"snapshot", false, b.snapshot},
		{"kafka drain", true, b.kafkaDrain},
		{"kafka latency", true, b.kafkaLatency},
		{"kafka ceiling", true, b.kafkaCeiling},
	}
}
