# Headwater's house-keeping. The targets a person uses:
#
#   make demo         build, start Top with two emulated sites, boot a server as proof, run until Ctrl-C
#   make demo ONCE=1  the same, but stop after the proof; exit status 0 or 1
#   make test         everything: check, all suites, PostgreSQL, real OpenStack regions
#   make check        what must pass before a commit, under three minutes when warm
#   make integration  the whole-system tests alone
#   make bench        the benchmarks
#   make build        bin/headwater (one static file) and bin/headwater-agent
#   make generate     rewrites generated files
#   make clean        removes what these targets made

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := check
.PHONY: demo test check house full integration bench build generate clean fmt cgo tools

# ---------------------------------------------------------------- pinned tools, installed into .tools/
GOLANGCI_LINT_VERSION := v2.15.0
GOIMPORTS_VERSION     := v0.52.0
PROTOC_GEN_GO_VERSION := v1.36.12
PROTOC_GEN_GRPC_VERSION := v1.6.2
TOOLS         := $(CURDIR)/.tools
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOIMPORTS     := $(TOOLS)/goimports-$(GOIMPORTS_VERSION)

# ---------------------------------------------------------------- an environment that does not depend on the caller's
MODULE := github.com/headwater-cloud/headwater
export LC_ALL := C.UTF-8
export TZ     := UTC
export HOME   := $(or $(HOME),$(shell getent passwd "$$(id -u)" | cut -d: -f6),/tmp)
# A caller's GOFLAGS (-mod=vendor, -tags, -race) would change what is tested; the version stamp is asked for where it is wanted.
export GOFLAGS := -buildvcs=false
export GOWORK  := off
# Without cgo Go silently builds a stub of the SQLite driver that fails at run time.
export CGO_ENABLED := 1
PKG    := ./...
OUT    := .test
BIN    := bin
COUNTS := $(TOOLS)/counts
PROTOC_GEN_GO   := $(TOOLS)/protoc-gen-go-$(PROTOC_GEN_GO_VERSION)
PROTOC_GEN_GRPC := $(TOOLS)/protoc-gen-go-grpc-$(PROTOC_GEN_GRPC_VERSION)
# What exists in the tree.
HAS_TOP   := $(wildcard cmd/headwater/*.go)
HAS_AGENT := $(wildcard cmd/headwater-agent/*.go)
HAS_BENCH := $(wildcard integration/bench/*.go)
VCS := $(if $(shell git rev-parse -q --verify HEAD 2>/dev/null),true,false)

# ---------------------------------------------------------------- build
RELEASE_TAGS    := netgo osusergo sqlite_omit_load_extension
RELEASE_LDFLAGS := -linkmode external -extldflags "-static" -s -w

build: cgo
	@mkdir -p $(BIN)
ifneq ($(HAS_TOP),)
	go build -buildvcs=$(VCS) -trimpath -tags '$(RELEASE_TAGS)' -ldflags '$(RELEASE_LDFLAGS)' -o $(BIN)/headwater ./cmd/headwater
endif
ifneq ($(HAS_AGENT),)
	CGO_ENABLED=0 go build -buildvcs=$(VCS) -trimpath -ldflags '-s -w' -o $(BIN)/headwater-agent ./cmd/headwater-agent
endif

# The demo needs no release build: it is dynamic, so that its parts come from the build cache in seconds.
demo: cgo
	@mkdir -p $(BIN)
	go build -buildvcs=$(VCS) -o $(BIN)/headwater ./cmd/headwater
	$(BIN)/headwater demo --dir .demo $(if $(ONCE),--once)

cgo:
	@integration/install --quiet build

# ---------------------------------------------------------------- check
check: cgo tools
	@rm -rf $(OUT)/check && mkdir -p $(OUT)/check
	@rc=0; \
	$(MAKE) house RECORD=$(OUT)/check || rc=1; \
	$(COUNTS) run -o $(OUT)/check/archtest.json -- -count=1 -timeout 5m ./integration/archtest || rc=1; \
	$(COUNTS) run -o $(OUT)/check/short.json -- -race -shuffle=on -short -timeout 15m $$(go list $(PKG) | grep -v '/archtest$$') || rc=1; \
	if [ $(MAKELEVEL) = 0 ]; then $(COUNTS) sum $(OUT)/check/*.json || rc=1; fi; exit $$rc

# Each step of the house is recorded as a test of its own name, so that it shows in the counts.
RECORD := $(OUT)/house
STEP = $(COUNTS) step -o $(RECORD)/house.json
house: tools
	@mkdir -p $(RECORD); rm -f $(RECORD)/house.json; rc=0; \
	$(STEP) gofmt         -empty -- gofmt -l $(GO_DIRS) || rc=1; \
	$(STEP) goimports     -empty -- $(GOIMPORTS) -local $(MODULE) -l $(GO_DIRS) || rc=1; \
	$(STEP) vet           -- go vet $(PKG) || rc=1; \
	$(STEP) mod-tidy      -- go mod tidy -diff || rc=1; \
	$(STEP) golangci-lint -- $(GOLANGCI_LINT) run $(PKG) || rc=1; \
	exit $$rc
GO_DIRS = $(wildcard cmd top cascade sites sync crosssite agents scheduler dbschema web integration)

fmt: tools
	gofmt -w $(GO_DIRS)
	$(GOIMPORTS) -local $(MODULE) -w $(GO_DIRS)

# ---------------------------------------------------------------- the whole
# around stops the real regions that were started in here, and leaves those that ran before.
test:
	@rm -rf $(OUT) && mkdir -p $(OUT)
	@integration/install || echo "make test: not everything could be installed: what is missing is skipped by name, or fails where it is required"
	@rc=0; integration/realcloud/around $(MAKE) suites || rc=1; \
	$(COUNTS) sum $(OUT)/*.json $(OUT)/check/*.json || rc=1; exit $$rc

.PHONY: suites
suites: tools
	@rc=0; \
	$(MAKE) check || rc=1; \
	$(MAKE) generated || rc=1; \
	$(MAKE) full || rc=1; \
	$(MAKE) integration || rc=1; exit $$rc

# Everything but integration, long tests included, on SQLite and PostgreSQL.
full: cgo tools
	@mkdir -p $(OUT); $(COUNTS) run -o $(OUT)/full.json -- -timeout 30m -skip '$(ORACLE)' $$(go list $(PKG) | grep -v '^$(MODULE)/integration')

integration: cgo tools
	@mkdir -p $(OUT); rc=0; \
	$(COUNTS) run -o $(OUT)/integration.json -- -count=1 -p 1 -timeout 60m ./integration/... || rc=1; \
	clouds=$$(integration/realcloud/clouds east) || rc=1; \
	HEADWATER_REALCLOUD=$$clouds $(COUNTS) run -o $(OUT)/oracle.json -- -count=1 -p 1 -timeout 15m -run '$(ORACLE)' ./sites/emulator ./top/identity ./top/network || rc=1; \
	exit $$rc

# Tests of lower layers that hold their package against a real region, which integration starts; they import nothing of it.
ORACLE := ^(TestSameAsRealRegion|TestExternalReal|TestRealRegion)$$

bench: cgo
	go test -run '^$$' -bench . -benchmem $$(go list $(PKG) | grep -v '^$(MODULE)/integration')
ifneq ($(HAS_BENCH),)
	@integration/install --quiet openvswitch ovn || echo "make bench: no Open vSwitch or neither OVN nor os-ken: the dataplane is measured without"
	go run ./integration/bench
endif

# ---------------------------------------------------------------- generated files
# protoc is Debian's protobuf-compiler; the release numbers that it and its plugins write into a file's head are those pinned here.
generate: tools $(PROTOC_GEN_GO) $(PROTOC_GEN_GRPC)
	@integration/install --quiet protobuf
	PROTOC_GEN_GO=$(PROTOC_GEN_GO) PROTOC_GEN_GRPC=$(PROTOC_GEN_GRPC) GOIMPORTS='$(GOIMPORTS) -local $(MODULE)' go generate $(PKG)

# Fails when the committed generated files are not what generate makes.
.PHONY: generated
generated: tools
	@$(COUNTS) step -o $(OUT)/generated.json generated -- integration/generated $(MAKE) generate

# ---------------------------------------------------------------- tools
tools: $(GOLANGCI_LINT) $(GOIMPORTS) $(COUNTS)

$(GOLANGCI_LINT):
	@echo "installing golangci-lint $(GOLANGCI_LINT_VERSION) (about a minute, once)"
	@mkdir -p $(TOOLS)/tmp-lint && CGO_ENABLED=0 GOBIN=$(TOOLS)/tmp-lint go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@mv $(TOOLS)/tmp-lint/golangci-lint $@ && rmdir $(TOOLS)/tmp-lint

$(GOIMPORTS):
	@mkdir -p $(TOOLS)/tmp-imports && CGO_ENABLED=0 GOBIN=$(TOOLS)/tmp-imports go install golang.org/x/tools/cmd/goimports@$(GOIMPORTS_VERSION)
	@mv $(TOOLS)/tmp-imports/goimports $@ && rmdir $(TOOLS)/tmp-imports

$(PROTOC_GEN_GO):
	@mkdir -p $(TOOLS)/tmp-pb && CGO_ENABLED=0 GOBIN=$(TOOLS)/tmp-pb go install google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION)
	@mv $(TOOLS)/tmp-pb/protoc-gen-go $@ && rmdir $(TOOLS)/tmp-pb

$(PROTOC_GEN_GRPC):
	@mkdir -p $(TOOLS)/tmp-grpc && CGO_ENABLED=0 GOBIN=$(TOOLS)/tmp-grpc go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GRPC_VERSION)
	@mv $(TOOLS)/tmp-grpc/protoc-gen-go-grpc $@ && rmdir $(TOOLS)/tmp-grpc

# Ours; rebuilt when its source changes.
$(COUNTS): $(wildcard integration/counts/*.go)
	@mkdir -p $(TOOLS) && CGO_ENABLED=0 go build -o $@ ./integration/counts

clean:
	rm -rf bin $(TOOLS) $(OUT) .demo
