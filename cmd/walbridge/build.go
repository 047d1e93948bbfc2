package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/consumers"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/pipeline"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/discard"
	"github.com/walbridge/walbridge/sink/kafka"
	"github.com/walbridge/walbridge/sink/stdout"
	"github.com/walbridge/walbridge/sink/worktable"
)

// source makes the source of a configuration.
func source(l configs.Loaded, log hclog.Logger) (*replication.Source, error) {
	cfg := l.Config.Source
	cfg.Resolve = l.Resolver.DSN
	return replication.New(cfg, l.Config.Name, log.Named("source"))
}

// workTableConfig is the work table of a configuration that has one.
func workTableConfig(l configs.Loaded) (worktable.Config, error) {
	if l.Config.Sink.Worktable == nil {
		return worktable.Config{}, fault.Config(fault.Problem{
			Check: "sink", Where: "sink", What: "the configuration has no work table, which this command is about",
			Fix: "sink: {worktable: {dsn: postgres://user@host/database}}",
		})
	}
	cfg := *l.Config.Sink.Worktable
	cfg.Resolve = l.Resolver.DSN
	return cfg, nil
}

// kafkaConfig is the Kafka sink of a configuration that has one, with the topics that
// its routes fix, and those of the tables that are known.
func kafkaConfig(l configs.Loaded, tables []catalog.Table) kafka.Config {
	cfg := *l.Config.Sink.Kafka
	cfg.Streams = mapper.Config{Routes: l.Config.Routes}.FixedStreams(l.Config.Name)
	if m, err := newMapper(l, mapped{})(nil, tables); err == nil { // an error is the preflight's to report
		cfg.Streams = append(cfg.Streams, m.TableStreams(tables)...)
		slices.Sort(cfg.Streams)
		cfg.Streams = slices.Compact(cfg.Streams)
	}
	return cfg
}

// destination makes the sink of a configuration, and its name for the status.
func (a *app) destination(l configs.Loaded, log hclog.Logger) (sink.Sink, status.Sink, error) {
	s := l.Config.Sink
	switch s.Kind() {
	case "worktable":
		cfg, err := workTableConfig(l)
		return worktable.New(cfg, log.Named("sink")), sinkOf(l), err
	case "kafka":
		return kafka.New(kafkaConfig(l, nil), log.Named("sink")), sinkOf(l), nil
	case "stdout":
		out := stdout.New(*s.Stdout, stdout.Options{Out: a.stdout, Terminal: a.terminal})
		return out, sinkOf(l), nil
	case "discard":
		encoder := worktable.New(worktable.Config{}.WithDefaults(), log)
		out, err := discard.New(*s.Discard, discard.Options{Worktable: encoder.NewBatch})
		return out, sinkOf(l), err
	}
	return nil, status.Sink{}, fmt.Errorf("sink %q: no such sink", s.Kind())
}

// look reads what a mapper must know of a source.
func look(ctx context.Context, src *replication.Source) (*replication.Server, catalog.Types, []catalog.Table, error) {
	srv, err := src.Inspect(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	types, err := src.Types(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	tables, err := src.Tables(ctx)
	return srv, types, tables, err
}

// mapped says for whom a mapper is: the database's name and the program's version stand in
// the records it makes.
type mapped struct{ database, version string }

// newMapper makes the mapper of one session.
func newMapper(l configs.Loaded, of mapped) func(catalog.Types, []catalog.Table) (*mapper.Mapper, error) {
	return func(types catalog.Types, tables []catalog.Table) (*mapper.Mapper, error) {
		return mapper.New(mapper.Config{Routes: l.Config.Routes}, mapper.Env{
			Bridge: l.Config.Name, Database: of.database, Version: of.version, Raw: l.Config.Sink.Kafka != nil, Types: types, Tables: tables,
		})
	}
}

func pipelineConfig(c configs.Config) pipeline.Config {
	return pipeline.Config{
		Bridge: c.Name, Batch: pipeline.Batch(c.Batch), Memory: pipeline.Memory(c.Memory), OnError: pipeline.OnError(c.OnError), Snapshot: pipeline.Snapshot(c.Snapshot),
		TakeoverAfter: c.TakeoverAfter,
	}
}

// bridge is everything that `walbridge run` runs.
type bridge struct {
	pipeline *pipeline.Pipeline
	metrics  *prometheus.Registry
	// closed is closed when the reader of the output has gone; nil for other sinks.
	closed <-chan struct{}
	// watcher looks at the readers of the work table; nil for other sinks.
	watcher *consumers.Watcher
}

// status is what the bridge says of itself, and of the readers of its work table.
func (b *bridge) status() status.Status {
	s := b.pipeline.Status()
	if b.watcher != nil {
		s.Consumers = b.watcher.Latest()
	}
	return s
}

// bridge wires a configuration up. Nothing is connected to yet.
func (a *app) bridge(l configs.Loaded, log hclog.Logger, o runOptions) (*bridge, error) {
	src, err := source(l, log)
	if err != nil {
		return nil, err
	}
	out, named, err := a.destination(l, log)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	cfg := pipelineConfig(l.Config)
	cfg.ExitOnHalt = o.exitOnHalt
	cfg.PruneEvery = o.pruneEvery
	p, err := pipeline.New(cfg, pipeline.Stages{
		Source: src, Sink: out, SinkStatus: named, Log: log.Named("pipeline"), Metrics: registry, Version: a.version,
		Mapper: func(srv *replication.Server, types catalog.Types, tables []catalog.Table) (*mapper.Mapper, error) {
			return newMapper(l, mapped{srv.Database, a.version})(types, tables)
		},
		Own: func(t *catalog.Table) bool { return ownTable(l, t) },
		Check: func(srv *replication.Server, tables []catalog.Table) []fault.Problem {
			return preflight(l, src, srv, tables)
		},
	})
	b := &bridge{pipeline: p, metrics: registry}
	if table, ok := out.(*worktable.Sink); ok && err == nil {
		err = a.watch(l, log, b, table)
	}
	if lines, ok := out.(*stdout.Sink); ok {
		b.closed = lines.OutputClosed()
	}
	return b, err
}

// watch adds what looks at the readers of the work table. The standby of a bridge
// does not look: the owner's metrics have the same names.
func (a *app) watch(l configs.Loaded, log hclog.Logger, b *bridge, table *worktable.Sink) error {
	cfg, err := workTableConfig(l)
	if err != nil {
		return err
	}
	b.watcher = consumers.NewWatcher(consumers.WatchConfig{
		Connect: func(ctx context.Context) (*pgx.Conn, error) {
			return worktable.Connect(ctx, cfg, l.Config.Name+" consumers")
		},
		Any:    table.HasReaders,
		Schema: cfg.Schema, Bridge: l.Config.Name, Log: log.Named("consumers"),
		Active: func() bool {
			switch b.pipeline.Status().State {
			case status.StateStreaming, status.StateBackoff, status.StateHalted:
				return true
			}
			return false
		},
	})
	return b.metrics.Register(b.watcher)
}
