# The verbs of this repository. The work is in scripts/, so that it reads as a program.
CARGO = $(shell scripts/cargo.sh)

.DEFAULT_GOAL := help
.PHONY: help demo test check crash bench cluster cluster-down fmt crds schemas docs audit

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Break a make-believe cluster and watch fother heal it (needs no cluster); ARGS=--once ends by itself
	@scripts/prerequisites.sh build
	$(CARGO) run --locked -- dev --demo $(ARGS)

test: ## Everything: format, lints, tests, docs, dependencies, a real control plane
	@scripts/test.sh

check: ## The fast part of it, for while you work
	@scripts/test.sh --fast

crash: ## Kill the controller at each request of its start and of the main path, in every way, and once more after it
	@scripts/prerequisites.sh test
	FOTHER_CRASH_ALL=1 $(CARGO) test --locked --test it every_request -- --nocapture

bench: ## Measure fother beside its floors and write docs/performance.md; ARGS=latency measures one thing
	@scripts/prerequisites.sh build
	@tests/cluster/build.sh etcd kube-apiserver kube-controller-manager kubectl helm >/dev/null
	$(CARGO) bench --locked --bench fother -- $(ARGS)

cluster: ## Start a whole Kubernetes on this machine, as root, and say where its kubeconfig is
	@scripts/prerequisites.sh node --install
	@tests/cluster/build.sh etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl >/dev/null
	@$(CARGO) run --locked --quiet --example cluster -- up

cluster-down: ## End that Kubernetes and leave nothing of it behind
	@$(CARGO) run --locked --quiet --example cluster -- down

fmt: ## Format the code
	$(CARGO) fmt

crds: ## Write crds/, and the chart's copy, from the Rust types
	$(CARGO) run --locked --quiet -- crds --output-dir crds
	cp crds/*.yaml charts/fother/files/crds/

schemas: ## Write the snapshot of Kubernetes' schemas that expressions are checked against
	UPDATE_EXPECT=1 $(CARGO) test --locked --quiet --test it -- schemas::the_snapshot

docs: ## Build the documentation of the code
	$(CARGO) doc --locked --no-deps --document-private-items

audit: ## Advisories against our dependencies (needs the network), and crates that we build twice
	@scripts/deny.sh check --hide-inclusion-graph advisories bans
