# The commands a newcomer needs: `make demo` and `make test`. `make help` lists the others.

.DEFAULT_GOAL := help
# How long `make torture` strikes, and with which faults; a random seed if it is empty.
MINUTES := 10
SEED :=
# How long each fuzzer runs, in seconds.
SECONDS := 60
# How many disturbances the model checker goes through; each setup has its own number if this is empty.
DEPTH :=
.PHONY: help install demo test page-test model races fuzz torture observability check deny docs conformance nomad-e2e nomad-cluster packages packages-test bench bench-failover

CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: ## Install what the lab and the tests need; without root, say what is missing
	lab/install

demo: install ## Start a real cluster and the proxy, and show a switchover and a leader crash (ARGS=--stay keeps it running)
	cargo build --release -p pg-leader-proxy -p lab
	target/release/lab demo $(ARGS)

test: install ## Prove it: the core, the sessions, every fault on a real cluster, every client and server version, the Nomad driver
	clients/install
	nomad/tests/install
	cargo build --workspace --bins
	cargo test --workspace --no-fail-fast
	cd torture/checker && test -z "$$(gofmt -l .)" && go vet ./... && go test -count=1 ./...
	$(MAKE) conformance

page-test: install ## Look at the admin page in Chromium, before, during and after a real failover; the pictures go to target/page
	clients/install
	cargo build -p pg-leader-proxy
	cargo test --workspace --test page

model: ## Check the decision in a model of the whole system, and the checker by its mutants (DEPTH=4 goes deeper than usual)
	cargo run --release -p model -- $(if $(DEPTH),--depth $(DEPTH))
	cargo run --release -p model -- --mutants

torture: install ## Registers and lists under random faults of a real cluster, judged by porcupine (MINUTES=60 SEED=7; ARGS for more)
	cargo build --release -p pg-leader-proxy -p torture
	target/release/torture --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: ## Fuzz every parser, and the decision under the laws (SECONDS=60 for each; TARGETS="values decision" for some)
	@cargo fuzz --version 2>/dev/null | grep -q " $(CARGO_FUZZ_VERSION)$$" || cargo install cargo-fuzz --locked --version $(CARGO_FUZZ_VERSION)
	fuzz/run $(SECONDS) $(TARGETS)

races: ## Go through the orders in which the threads of admission, hand-over and termination may run
	cargo test -p pg-leader-proxy --features races --lib -- races::

observability: install ## Prove alert rules and dashboard on a real Prometheus through a real failover (about seven minutes)
	cargo build --release -p pg-leader-proxy -p lab
	target/release/lab observability

check: deny ## Formatting, lints, documentation, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	cargo test -p docs --lib --test pages --test configurations --test mirrors --test observability

deny: install
	@cargo deny --version 2>/dev/null | grep -q " $(CARGO_DENY_VERSION)$$" || cargo install cargo-deny --locked --version $(CARGO_DENY_VERSION)
	cargo deny check bans licenses sources

docs: ## Build the book into target/book, and write the parts of its pages that are made from the code
	cargo run -p docs

conformance: install ## Hold the Nomad driver to Nomad's own code: loader, client, exec suite, and a real agent before a real cluster (root)
	cargo build --workspace --bins
	cd driver-plugin/conformance && test -z "$$(gofmt -l .)" && go vet ./... && go test -count=1 -timeout 30m ./...

nomad-e2e: ## Run the job files of nomad/e2e on a Nomad agent, with any `nomad` on the PATH (JOBS="starts reloads" for some)
	cargo build -p nomad-driver-pg-leader-proxy
	nomad/e2e/run $(JOBS)

nomad-cluster: install ## Run the database's layout for real on a Nomad cluster of this machine: deploy, cut over, drill, back up (root; DRILLS="switchover" for some)
	nomad/tests/cluster/run $(DRILLS)

packages: ## Build the Debian packages into target/packages
	cargo build --release -p pg-leader-proxy -p nomad-driver-pg-leader-proxy
	packaging/build

packages-test: install packages ## Boot a fresh Debian 12 with its own systemd, install the packages, and serve a real cluster (root)
	cargo build --release -p lab
	packaging/test

bench: install ## Measure what the hop costs, beside HAProxy, PgBouncer, no proxy and a bare epoll loop (about 70 minutes)
	-benches/newest-peers --once
	cargo build --release -p pg-leader-proxy -p benches
	target/release/wire $(ARGS)

bench-failover: install ## Measure switchovers, leader crashes and faults in between, beside HAProxy and direct connections (about 40 minutes)
	cargo build --release -p pg-leader-proxy -p benches
	target/release/failover $(ARGS)
