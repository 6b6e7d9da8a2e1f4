# Roadbed's commands. `make help` lists them; .ci/run is what CI runs.

SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
# Progress bars for people, silence for logs.
Q := $(shell [ -t 2 ] || echo -q)
STEP := scripts/step
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
RUNNER := CARGO_TARGET_$(shell echo '$(HOST)' | tr 'a-z-' 'A-Z_')_RUNNER
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(shell sed -n 's/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml | tail -n +2)
DEMO := target/release/roadbed-demo
# In place of the one that cargo made.
PLUGIN := $(STEP) "static plugin" scripts/static release target/release roadbed-cni
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
# A kubelet asks containerd for the full name of an image, so the name needs a registry.
ROADBED_IMAGE ?= localhost/roadbed:$(VERSION)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: release ## two racks, three nodes, six pods in network namespaces; KEEP=1 leaves them up
	@$(SUDO) $(DEMO) run $(if $(KEEP),--keep)

.PHONY: demo-down
demo-down: ## remove what `make demo KEEP=1` left up
	@test -x $(DEMO) || $(MAKE) release
	@$(SUDO) $(DEMO) down

.PHONY: test
test: packages fmt clippy arrows scripts build ## everything that must hold: format, clippy, crate arrows, all tests, docs
	@scripts/setup nextest
	@$(STEP) "tests" $(if $(SUDO),env $(RUNNER)="$(SUDO)") cargo nextest run $(if $(Q),--cargo-quiet) --workspace --profile ci
	@$(STEP) "doc tests" cargo test $(Q) --workspace --doc
	@$(STEP) "docs" env RUSTDOCFLAGS="-D warnings" cargo doc $(Q) --workspace --no-deps

.PHONY: test-kube
test-kube: packages ## Roadbed on a real Kubernetes of three nodes; with KUBECONFIG on that cluster; KEEP=1 leaves it up
	@scripts/setup nextest
	@$(SUDO) scripts/test-kube

.PHONY: soak-kube
soak-kube: packages ## the same for longer, and all network specs of Kubernetes' own conformance suite (docs/conformance.md)
	@scripts/setup nextest
	@$(SUDO) scripts/test-kube soak

.PHONY: lint
lint: packages fmt clippy ## format, clippy, and licences, bans, sources and advisories of dependencies
	@scripts/setup deny
	@$(STEP) "cargo deny" cargo deny --log-level warn check bans licenses sources
	@scripts/advisories

.PHONY: fuzz
fuzz: packages ## every fuzz target for FUZZ_SECONDS (60) each
	@set -e; for target in $(FUZZ_TARGETS); do $(STEP) "fuzz $$target" scripts/fuzz $$target $(FUZZ_SECONDS); done

BGP_TARGETS := codec update_structured open session policy

.PHONY: fuzz-ci
fuzz-ci: ## the fuzz targets of BGP for a minute, the others for half of that
	@$(MAKE) fuzz FUZZ_TARGETS="$(BGP_TARGETS)" FUZZ_SECONDS=12
	@$(MAKE) fuzz FUZZ_TARGETS="$(filter-out $(BGP_TARGETS),$(FUZZ_TARGETS))" FUZZ_SECONDS=6

.PHONY: fuzz-coverage
fuzz-coverage: packages ## how far fuzzing gets into the codec; fails below 50 % of inputs or 95 % of lines
	@rustup component add llvm-tools 2>/dev/null
	@$(STEP) "reach and coverage of fuzzing" scripts/fuzz-coverage $(FUZZ_SECONDS)

.PHONY: soak
soak: packages ## what CI tests, for hours: SOAK_SEEDS=10000 SOAK_PREFIXES=1000000 SOAK_ROUNDS=20 SOAK_FUZZ_SECONDS=1800
	@$(if $(SUDO),env $(RUNNER)="$(SUDO)") scripts/soak

.PHONY: crds
crds: ## write the CustomResourceDefinitions of Kubernetes to deploy/manifests/crds, from crates/api
	@$(STEP) "CustomResourceDefinitions" cargo run $(Q) -p roadbed-crds

.PHONY: release
release: packages ## optimised binaries in target/release
	@$(STEP) "release binaries" cargo build $(Q) --release --workspace --bins
	@$(PLUGIN)

.PHONY: image
image: packages ## container image of the agent, the plugin and roadbedctl: target/image/roadbed.tar
	@$(STEP) "static binaries" scripts/static release target/image roadbed-agent roadbed-cni roadbedctl
	@$(STEP) "image $(ROADBED_IMAGE)" scripts/oci-image target/image/roadbed.tar --name $(ROADBED_IMAGE) \
		--arch $(shell dpkg --print-architecture 2>/dev/null || echo amd64) --entrypoint /usr/bin/roadbed-agent \
		--env PATH=/usr/bin --label org.opencontainers.image.version=$(VERSION) \
		$(foreach binary,roadbed-agent roadbed roadbedctl,target/image/$(binary):/usr/bin/$(binary):755)

# The steps, each of which works alone.

.PHONY: packages
packages:
	@scripts/setup packages

.PHONY: fmt
fmt:
	@$(STEP) "format" cargo fmt --all --check -- -l
	@$(STEP) "format of the fuzz targets" cargo fmt --manifest-path fuzz/Cargo.toml --check -- -l

.PHONY: clippy
clippy:
	@$(STEP) "clippy" cargo clippy $(Q) --workspace --all-targets -- -D warnings

.PHONY: arrows
arrows:
	@$(STEP) "crate arrows" scripts/arrows

PYTHON := scripts/oci-image scripts/oci-image-test scripts/conformance

.PHONY: scripts
scripts:
	@$(STEP) "scripts" shellcheck -x -a $(filter-out %.txt $(PYTHON),$(wildcard scripts/*)) .ci/run tests/kube/bed
	@$(STEP) "image writer" scripts/oci-image-test

# The whole-program tests run the binaries that lie beside them.
.PHONY: build
build:
	@$(STEP) "binaries" cargo build $(Q) --workspace --bins
	@$(STEP) "static plugin" scripts/static dev target/debug/static roadbed-cni

.PHONY: bench-micro
bench-micro: ## codec, best path and policies, function by function (docs/benchmarks.md)
	@$(STEP) "micro-benchmarks" cargo bench $(Q) -p bgp-wire -p bgp-core --benches

.PHONY: bench-cni
bench-cni: packages ## the plugin beside Debian's ptp, and what pods send each other beside a hand-made wiring (docs/benchmarks.md)
	@$(STEP) "release binaries" cargo build $(Q) --release -p roadbed-agent -p roadbedctl -p roadbed-bench --bins
	@$(PLUGIN)
	@$(SUDO) target/release/roadbed-bench-cni $(ARGS)

.PHONY: bench-bgp
bench-bgp: packages ## speed of the speaker beside BIRD and FRR; ARGS=--quick for a short look (docs/benchmarks.md)
	@$(STEP) "release binaries" cargo build $(Q) --release -p roadbed-bgpd -p roadbed-bench
	@$(SUDO) target/release/roadbed-bench $(ARGS)
