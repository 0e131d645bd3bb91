# Ninja: two commands matter. `make demo` does all set-up and runs the main job; `make test` does all set-up and passes
# the tests.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup checkers build demo test bench fuzz prove verify generate clean

# The speech engines, and the compiler for the recogniser's child program.
ENGINES := gcc libc6-dev pkg-config pocketsphinx-en-us libpocketsphinx-dev espeak-ng flite
# What tests and checks hold the product against: other programs' parsers, DNS-SD, clients. zlib1g-dev lets the race detector
# build a library that only tests use.
CHECKERS := libxml2-utils protobuf-compiler libopus-dev zlib1g-dev avahi-daemon avahi-utils dbus iproute2 nftables python3-h2 python3-protobuf \
	python3-cryptography chromium ffmpeg gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good baresip-core libmediastreamer-dev
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
GO := go
COMMANDS := ninjad ninjactl sdsquery demo
FUZZTIME ?= 20s
AREA ?= all
# The map of the demo: the extract of the state of Delaware that ships in a module which the map service builds on.
MAP ?= $(shell $(GO) list -m -f '{{.Dir}}' github.com/paulmach/osm)/testdata/delaware-latest.osm.pbf

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install the Debian packages that building and running need
	@$(call install,$(ENGINES))

checkers: setup ## install those that the tests need too
	@$(call install,$(CHECKERS))

# install PACKAGES: those that are missing.
define install
	missing=; for p in $(1); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing:$$missing"; \
		$(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

build: setup bin/ninja-recognise ## build the commands into bin/ (OPUS=1: with the encoder, by libopus)
	@$(GO) mod download # all of it: the map of the demo and of the tests ships in a module
	@CGO_ENABLED=$(if $(OPUS),1,0) $(GO) build -trimpath $(if $(OPUS),-tags opus) -o bin/ $(addprefix ./cmd/,$(COMMANDS))

bin/ninja-recognise: operators/speech/engine/recognise.c
	@mkdir -p bin
	@gcc -O2 -Wall -Wextra -o $@ $< $$(pkg-config --cflags --libs pocketsphinx sphinxbase) -lm

demo: build ## speak an address into a telephone and hear the way there (SAY="..." VOICE=rms SEED=n MAP=file)
	@bin/demo --map "$(MAP)" $(if $(SAY),--say "$(SAY)") $(if $(VOICE),--voice $(VOICE)) $(if $(SEED),--seed $(SEED))

test: checkers build ## all tests, with the race detector
	$(GO) vet ./...
	$(GO) test -race -timeout 18m ./...
	$(GO) test -tags opus ./operators/audio ./operators/catalogue

bench: checkers build ## all benchmarks, each beside its floor
	$(GO) test -run '^$$' -bench . -benchtime 1s -timeout 60m ./... | grep -v '^ok.*no test files\|no test files'

# Targets with goroutines behind them cover other lines each time: minimizing what is new for a minute would leave no time to fuzz.
fuzz: ## every fuzz target for FUZZTIME each
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz'); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p || exit 1; \
		done; done

prove: checkers build ## the full counts, one line a promise (AREA="access plan"; AREA=help lists the areas)
	@bash prove/run $(AREA)

generate: checkers ## write the generated code again
	@$(GO) build -o bin/pb/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	@PATH="$$PWD/bin/pb:$$PATH" protoc --go_out=. --go_opt=module=ninja --go-grpc_out=. --go-grpc_opt=module=ninja \
		$$(git ls-files '*.proto')
	@clients/python/ninja_sds/generate.sh

verify: generate ## formatting, generated code and dependencies are as they should be
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l .; echo 'run gofmt -w'; exit 1; }
	@git diff --exit-code --stat -- '*.pb.go' '*_pb2.py' || { echo 'the generated code is stale: commit what make generate wrote'; exit 1; }
	@$(GO) mod tidy -diff
	@$(GO) vet ./...
	@$(GO) tool staticcheck ./...

clean: ## remove what was built
	rm -rf bin out
