# Lamina is one Go module; this file only spells out its commands. With these the
# binary filters system calls, and needs no library of the machine it is on.
export TAGS    = seccomp,netgo,osusergo
export LDFLAGS = -linkmode external -extldflags "-static"
VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
PREFIX  = /usr/local
GOFILES = $(shell find . -name '*.go' -not -name '*_test.go' -not -path './testdata/*')

.PHONY: all demo test check bench fuzz install clean help
.DEFAULT_GOAL = all

all: bin/lamina ## build bin/lamina, a static binary

bin/lamina: $(GOFILES) go.mod go.sum
	@.ci/need build
	go build -tags $(TAGS) -trimpath -o $@ \
		-ldflags '-s -w -X main.version=$(VERSION) $(LDFLAGS)' ./cmd/lamina

demo: bin/lamina ## build an image out of nothing, and run it
	@.ci/need demo
	testdata/demo/demo

test: bin/lamina ## all tests, as root and as an ordinary user; what CI runs
	@.ci/need build test
	.ci/test

check: ## format, vet, staticcheck, and the tests with the race detector
	@.ci/need build
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	go vet -tags $(TAGS) ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 -tags $(TAGS) ./...
	go test -race -tags $(TAGS) ./...

bench: bin/lamina ## compare with Debian's buildah and podman
	@.ci/need build bench
	LAMINA_BENCH=1 LAMINA=$(CURDIR)/bin/lamina go test -count=1 -timeout 60m -tags $(TAGS) -run '^TestBench$$' -v ./cmd/lamina

fuzz: ## fuzz each target for 30 seconds
	@.ci/need build
	@go list ./... | while read -r package; do \
		go test -tags $(TAGS) -list '^Fuzz' $$package | grep '^Fuzz' | while read -r target; do \
			echo "$$package $$target"; \
			go test -tags $(TAGS) -run '^$$' -fuzz "^$$target\$$" -fuzztime 30s $$package || exit 1; \
		done || exit 1; \
	done

install: bin/lamina ## copy the binary to PREFIX/bin (/usr/local/bin)
	install -D -m 755 bin/lamina $(DESTDIR)$(PREFIX)/bin/lamina

clean: ## remove what make made
	rm -rf bin

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile
