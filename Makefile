# Thin: every target is a script of .make/, which installs what it needs into the per-user cache.
# Dependencies are compiled once per Cargo.lock and compiler, not once per clone: the target folder is in the cache.
ifndef CARGO_TARGET_DIR
export CARGO_TARGET_DIR := $(shell .make/target-dir)
endif

.DEFAULT_GOAL := help
.PHONY: run build test test-k8s test-long check lint bench bench-ledger generate images soak help

run: ## serve everything on one loopback port (TOLLGATE_PORT, 4000)
	@exec .make/run

build: ## the release binaries and the filter, into target/bin
	@exec .make/build

test: ## every test: Rust, the filter in a real Envoy, the official SDKs, a real Kubernetes cluster
	@exec .make/test

test-k8s: ## the tests on a real Kubernetes cluster alone (TOLLGATE_TEST_KUBECONFIG: on that one)
	@exec .make/test-k8s

test-long: ## what takes long: other gateways and ways in, enforced network policies, cert-manager, PostgreSQL in a cluster, thousands of keys
	@exec .make/test-long

check: ## the fast part: format, clippy, unit tests
	@exec .make/check

lint: ## format, clippy, licences and advisories, the proto, generated code, the filter's imports
	@exec .make/lint

bench: ## speed and memory against plain Envoy
	@exec .make/bench

bench-ledger: ## what the ledger carries beside its disk and its database (BENCH=short: in two minutes)
	@exec .make/bench-ledger

images: ## the container images, into target/images (PLATFORMS="linux/amd64 linux/arm64": for both)
	@exec .make/images

generate: ## rewrite the generated code
	@exec .make/generate

soak: ## the long forms of the tests (SEEDS=n: the simulation of the ledger alone, over n seeds)
	@exec .make/soak

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile
