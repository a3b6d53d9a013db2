# What a developer types. CI runs .ci/run, which uses these.
SHELL := bash
export PATH := $(CURDIR)/.cache/bin:$(PATH)

.PHONY: build test test-long chaos bench fairness lint generate baseline image clean

build:
	CGO_ENABLED=0 go build -trimpath -o bin/qstream ./cmd/qstream

# Everything: without anything installed, then on one Kafka and on three, then
# with real peers. Says what it skips.
test:
	test/run

# The slow rest: long holds, many kills, three brokers at length.
test-long:
	QSTREAM_TEST_LONG=1 test/run

# How fast qstream relays on every kind of broker, with Postfix beside it;
# writes docs/performance.md. As root; takes half an hour.
bench:
	go run ./test/bench/speed -all -rounds 5 -broker embedded,kafka1-synced,kafka1,kafka3 -page docs/performance.md

# Real systems through many faults: make chaos BROKER=kafka3 FAULTS=200 SEED=7.
# Others: MINUTES=30 instead of FAULTS, ROUND=50 faults on one system, FROM=3
# TO=9 of a seed's faults, CLEAN=true for stops that may not make a duplicate,
# RATE=40 mails a second, FLAGS for the rest (go run ./test/chaos -help).
chaos:
	go run ./test/chaos $(if $(BROKER),-broker $(BROKER)) $(if $(FAULTS),-faults $(FAULTS)) \
		$(if $(SEED),-seed $(SEED)) $(if $(MINUTES),-minutes $(MINUTES)) $(if $(ROUND),-round $(ROUND)) \
		$(if $(FROM),-from $(FROM)) $(if $(TO),-to $(TO)) $(if $(CLEAN),-clean) $(if $(RATE),-rate $(RATE)) $(FLAGS)

lint:
	.ci/install lint
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	staticcheck ./...
	buf lint
	buf breaking --against schemas/baseline.binpb

# The Go code of schemas/*.proto.
generate:
	.ci/install generate
	buf generate

# Moves what "buf breaking" compares with; only when a release froze it.
baseline:
	.ci/install generate
	buf build -o schemas/baseline.binpb

# What a noisy tenant does to a quiet one, beside Postfix; needs root and half an
# hour. Writes its section of docs/performance.md.
fairness:
	go run ./test/bench/fairness -data test/bench/fairness/trials.json -page docs/performance.md

image:
	docker build -t qstream .

clean:
	rm -rf bin .cache
