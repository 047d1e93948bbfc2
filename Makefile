# `make help` lists what can be done here.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# PostgreSQL versions that tests need on this machine. The matrix is all that are
# supported; on systems where no build of one is known, name the others in PG.
PG ?= $(if $(DEPS_MATRIX),14 15 16 17 18,15 18)

# Further arguments of `go test`, such as -race or -run.
TESTFLAGS ?=

# Further arguments of the benchmarks, such as -scale 0.1 -runs 2.
BENCHFLAGS ?=

# For each fuzz target: a number of inputs (20000x) or a time (5m).
FUZZTIME ?= 20000x

# Run from its own module, so that it is no dependency of ours.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build ./walbridge, one static file
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o walbridge ./cmd/walbridge

.PHONY: deps
deps: ## fetch what tests need, once: modules, PostgreSQL (DEPS_MATRIX=1: all versions), Kafka, a browser, Python's driver
	go mod download
	go run ./internal/embeddedpg/fetch $(PG)
	.ci/kafka
	.ci/browser
	.ci/python

.PHONY: test
test: deps ## run all tests (six to seven minutes on two cores)
	go test -timeout 15m $(TESTFLAGS) ./...

.PHONY: torture
torture: ## the long tests of the promises, with all versions of PostgreSQL (up to an hour)
	$(MAKE) deps DEPS_MATRIX=1
	.ci/kafka 4.4.0
	WALBRIDGE_TORTURE=1 WALBRIDGE_TEST_PG=14,15,16,17,18 \
		go test -count=1 -timeout 90m -v ./internal/torture -args -torture.result $(CURDIR)/bench/results/torture.jsonl

.PHONY: bench
bench: deps ## measure: the short set (minutes)
	go run ./bench -out bench/results/bench.jsonl

.PHONY: bench-full
bench-full: deps ## measure: everything but Kafka, at full size (an hour and a half)
	go run ./bench -full -out bench/results/bench-full.jsonl

.PHONY: bench-kafka
bench-kafka: deps ## measure: into Kafka, beside Debezium (ten minutes; needs Java and Maven)
	go run ./bench -kafka -full -envelopes walbridge,debezium -debezium "$$(.ci/debezium)" -out bench/results/kafka.jsonl $(BENCHFLAGS)

.PHONY: debezium-record
debezium-record: ## record anew what Debezium makes of a workload (half a minute; needs a JDK and Maven)
	go run ./internal/debeziumtest/record -jars "$$(.ci/debezium)"

.PHONY: fmt
fmt: ## format the source
	gofmt -w .

.PHONY: lint
lint: ## check format, vet, staticcheck, the architecture and the house style
	@unformatted="$$(gofmt -l .)"; if [[ -n "$$unformatted" ]]; then echo "not formatted (make fmt):"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...
	go test ./internal/arch

.PHONY: cross
cross: ## compile for the other systems that the program runs on
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build ./...
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 go build ./...

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

.PHONY: ci
ci: ## what must pass before a change lands
	bash .ci/run
