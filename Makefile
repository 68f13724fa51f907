# One verb for each thing to do; CI and the hooks call these and nothing else. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# A cache that outlives the checkout spares CI the downloads; without one everything lies in the checkout.
VENV ?= $(if $(NAVARCH_CACHE),$(NAVARCH_CACHE)/venv,.venv)
PYTHON ?= python3
# `dev` compiles our crates fast; what is measured or shown is built with PROFILE=release.
PROFILE ?= dev
DIST := dist

BIN := $(abspath $(VENV))/bin
READY := $(VENV)/.ready
BUILT := $(VENV)/.built-$(PROFILE)
SOURCES := $(shell find rust python -type f -not -path '*/__pycache__/*' -not -path '*/fuzz/*') \
	Cargo.toml Cargo.lock pyproject.toml

# One interpreter for all of cargo's calls: another would rebuild the bindings each time. The extension does not link
# libpython, so that no development package of Python is needed.
export PYO3_PYTHON := $(BIN)/python
export PYO3_BUILD_EXTENSION_MODULE := 1
export PATH := $(BIN):$(PATH)
# Tests over a real API server need it built; on a desk without Go they are passed over.
NEEDS_SERVERS := $(if $(CI),servers,$(if $(shell command -v go),servers))

.PHONY: help
help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: setup
setup: $(READY) ## make the virtual environment with all tools, from the lock file

$(READY): requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "navarch needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@

.PHONY: build
build: $(BUILT) ## build the wheel and install it into the environment (PROFILE=release for speed)

$(BUILT): $(READY) $(SOURCES)
	rm -rf $(DIST) $(VENV)/.built-*
	cargo build --quiet --locked --profile $(PROFILE) -p navarch-agent
	install -D -m 755 $(or $(CARGO_TARGET_DIR),target)/$(PROFILE:dev=debug)/navarch-agent \
		rust/agent/wheel/scripts/navarch-agent
	$(BIN)/maturin build --quiet --locked --profile $(PROFILE) --interpreter $(BIN)/python --out $(DIST)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps --no-index \
		$(DIST)/navarch-*.whl
	touch $@

.PHONY: fmt
fmt: setup ## lay out all code
	cargo fmt --all
	ruff format .
	ruff check --fix --exit-zero --quiet .

.PHONY: lint
lint: setup ## layout, ruff, clippy
	cargo fmt --all --check
	ruff format --check --quiet .
	ruff check --quiet .
	cargo clippy --quiet --workspace --all-targets --locked -- -D warnings

.PHONY: types
types: build ## mypy, and the extension against its typed face
	mypy
	cd $(VENV) && python -m mypy.stubtest --mypy-config-file $(abspath pyproject.toml) navarch._core

.PHONY: walls
walls: build ## who may import whom, sizes, plates
	PYTHONPATH=python lint-imports --no-cache
	pytest --quiet tests/contracts

.PHONY: servers
servers: ## build kube-apiserver, etcd, helm and Istio's agent for the tests (needs Go; kept in NAVARCH_SERVERS or NAVARCH_CACHE)
	$(PYTHON) tests/kubernetes/servers/build.py

.PHONY: test
test: lint types walls $(NEEDS_SERVERS) ## all that must pass before a change lands
	cargo test --workspace --locked
	pytest --durations=10

.PHONY: soak
soak: build ## sidecars under traffic for SOAK_SECONDS (600) while certificates, intermediates and navarch change
	python -m tests.lab.soak --seconds $(or $(SOAK_SECONDS),600)

.PHONY: golden
golden: build ## write the lists of expected answers anew from what is answered now
	UPDATE_PARITY=1 pytest --quiet tests/parity

.PHONY: oracle
oracle: setup ## build what answers parity cases as Istio does (needs Go; tests/parity/oracle)
	cd tests/parity/oracle && go build -o $(abspath $(VENV))/oracle .

.PHONY: bench
bench: $(if $(ISTIOD),servers) ## measure, and tell in docs/benchmarks.md (benches/README.md); ISTIOD=PATH beside Istio; SUITES=...
	$(MAKE) build PROFILE=release
	python -m benches.run $(SUITES) $(if $(ISTIOD),--istiod $(ISTIOD)) --into docs/benchmarks
	python -m benches.report

.PHONY: bench-report
bench-report: setup ## write the tables and plots of docs/benchmarks.md anew from the figures beside it
	python -m benches.report

.PHONY: istiod
istiod: setup ## build Istio's pilot-discovery to measure beside (needs Go; benches/istiod)
	cd benches/istiod && go build -o $(abspath $(VENV))/istiod/pilot-discovery istio.io/istio/pilot/cmd/pilot-discovery

.PHONY: bench-kubernetes
bench-kubernetes: servers ## measure over a real API server
	$(MAKE) build PROFILE=release
	python -m benches.cluster

.PHONY: soak-kubernetes
soak-kubernetes: servers ## churn 5,000 pods for ten minutes over an API server that fails, and an outage of a minute
	$(MAKE) build PROFILE=release
	python -m benches.soak

.PHONY: bench-translate
bench-translate: ## measure the generation of resources, in Istio's own scenarios
	cargo bench --locked -p navarch-bench-translate

.PHONY: bench-push
bench-push: ## count the allocations of a push
	cargo bench --locked -p navarch-bench-push

# Frame pointers make another build of every crate, in a folder of its own.
PROFILED := $(abspath $(or $(CARGO_TARGET_DIR),target)/profiled)
INFERNO := $(abspath $(VENV))/inferno/bin
SCENARIO ?= endpoint
SIDECARS ?= 500

.PHONY: profile
profile: setup $(INFERNO)/inferno-flamegraph ## draw a flame graph of a scenario (needs perf; SCENARIO=connect, SIDECARS=500)
	CARGO_TARGET_DIR=$(PROFILED) RUSTFLAGS="-C force-frame-pointers=yes" cargo build --quiet --locked --release -p navarch-bindings
	rm -rf $(PROFILED)/python && cp -r python $(PROFILED)/python
	cp $(PROFILED)/release/lib_core.so $(PROFILED)/python/navarch/_core.abi3.so
	PYTHONPATH=$(PROFILED)/python python -m benches.profile $(SCENARIO) --sidecars $(SIDECARS) \
		--inferno $(INFERNO) --server "python -m navarch serve"

$(INFERNO)/inferno-flamegraph:
	cargo install --quiet --locked --no-default-features --features cli --root $(dir $(INFERNO)) inferno@0.12.8

.PHONY: demo
demo: ## real sidecars route real traffic by a folder of YAML (ONCE=1 without a terminal)
	@$(MAKE) --no-print-directory build PROFILE=release
	@python examples/bookshop/demo.py $(if $(ONCE),--once)

.PHONY: gen
gen: setup ## generate what is generated
	python rust/envoy/descriptors/generate.py
	python rust/identity/descriptors/generate.py

.PHONY: manifests
manifests: build servers ## write what deploy/ holds of the definitions and of the chart
	python deploy/render.py

.PHONY: lock
lock: setup ## pin the newest versions that pyproject.toml allows
	for extra in "runtime.txt" "dev.txt --extra dev --allow-unsafe"; do \
		pip-compile --quiet --upgrade --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links \
			--no-emit-trusted-host --no-emit-options -o requirements/$$extra pyproject.toml; done

.PHONY: all
all: gen test ## what CI runs, and that nothing generated is out of date
	git diff --exit-code -- rust/envoy/descriptors rust/identity/descriptors

.PHONY: clean
clean: ## remove all that was made here
	rm -rf $(DIST) .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	cargo clean
