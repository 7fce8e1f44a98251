# transitd. `make help` lists the targets. Anything longer than a line lives in .ci/.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null)
PKG     := github.com/transitd/transitd/pkg/version
LDFLAGS := -s -w -X $(PKG).linkedVersion=$(VERSION) -X $(PKG).linkedCommit=$(COMMIT)

# What make build makes, and where
CMDS ?= ./cmd/...
BIN ?= bin/

# Seconds of each fuzz target, as go test takes them: make fuzz FUZZTIME=10m
FUZZTIME ?= 4s
# Options of the demo: make demo DEMO="--edge bird -o json"
DEMO ?=
# Options of the benchmark: make bench BENCH="--rounds 9 --profile wire"
BENCH ?=

GOLANGCI := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help build test check lint fuzz bench microbench demo package generate clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## static binaries in bin/ (GOARCH=arm64 make build for the other machine)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(BIN) $(CMDS)

test: ## everything: installs the peers, vet, lint, race tests, fuzz targets (root, about 20 minutes)
	@.ci/need-root 'make test' 'its tests build networks in namespaces'
	@.ci/install-peers
	@$(MAKE) --no-print-directory build
	go vet ./...
	@$(MAKE) --no-print-directory lint
	.ci/race-tests
	@$(MAKE) --no-print-directory fuzz

check: ## what needs no root: vet, the arm64 build, short tests
	go vet ./...
	GOARCH=arm64 CGO_ENABLED=0 go build -buildvcs=false ./...
	go test -short ./...

lint: ## golangci-lint with .golangci.yml (the first run builds it: one to two minutes)
	$(GOLANGCI) run --allow-parallel-runners ./...

fuzz: ## every fuzz target for FUZZTIME, two at a time
	.ci/fuzz $(FUZZTIME)

bench: ## transitd beside kernel VXLAN, wireguard-go and strongSwan: bench.html, bench.json (root, under 15 minutes)
	@.ci/need-root 'make bench' 'it builds networks in namespaces'
	@.ci/install-peers iproute2 iputils-ping ethtool iperf3
	@.ci/install-peers strongswan-charon strongswan-swanctl libcharon-extra-plugins libstrongswan-standard-plugins || \
		echo 'make bench: goes on without strongSwan' >&2
	@$(MAKE) --no-print-directory build
	bin/transitbench run --report bench.html -o json $(BENCH) > bench.json
	@echo 'Open bench.html in a browser; bench.json is for bin/transitbench compare.'

microbench: ## Go benchmarks of the packages: nanoseconds and allocations for a packet
	go test -run '^$$' -bench . -benchmem ./...

demo: ## Azure in network namespaces: the loop, then transitd without it (root, a few minutes)
	@.ci/need-root 'make demo' 'it builds networks in namespaces'
	@.ci/install-peers iproute2
	@$(MAKE) --no-print-directory build
	bin/transitlab demo $(DEMO)

package: ## .deb and .rpm for amd64 and arm64 in dist/ (VERSION=1.2.3 make package for another version)
	packaging/build

generate: ## the documents made from code: docs/configuration.md, docs/schema.json, docs/man, docs/json, golden files
	go test ./pkg/config -update
	go test ./cmd/transitctl ./cmd/transitd -run 'TestManPages$$|TestSchemas$$' -update

clean: ## remove bin/ and dist/
	rm -rf bin dist
