# Each target makes the environment it needs. Caches are in the user's cache folder; only .venv is made here.
LAB ?= 03_vllm
PYTHON ?= python3
PACKAGES := bubblewrap iproute2 nftables
BIN := .venv/bin
# A node takes five inotify instances, what is beside the nodes nine, three tests at a time 126; Linux allows a user 128.
INSTANCES := /proc/sys/fs/inotify/max_user_instances
WORKERS ?= $(shell [ "$$(cat $(INSTANCES))" -ge 256 ] && echo 3 || echo 2)
# uv trusts what the system trusts, as pip does.
export UV_SYSTEM_CERTS ?= 1
IMAGES := clusters/embedded/images
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: demo lab test quick faults walk lint lock machine instances conformance
.DEFAULT_GOAL := demo

demo: .venv/ready machine  ## grade the reference of 03_vllm on the embedded cluster
	$(BIN)/gpulab grade 03_vllm --submission tests/solutions/03_vllm

lab: .venv/ready machine  ## grade your work on LAB (work/LAB, else its starter)
	$(BIN)/gpulab grade $(LAB)

test: .venv/ready machine instances lint  ## the tests that this machine can run, but those of `walk`
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

quick: .venv/ready  ## the tests that need no cluster and no patience
	$(BIN)/pytest -m "not cluster and not serving and not slow and not walk"

# FOCUS and SKIP are regular expressions on a spec's name, NODES is how many run at a time, KUBECONFIG another cluster.
conformance: .venv/ready machine  ## Kubernetes' own conformance specs
	$(BIN)/python -m tests.conformance.run --procs $(or $(NODES),8) \
	  $(if $(FOCUS),--focus '$(FOCUS)') $(if $(SKIP),--skip '$(SKIP)') $(if $(KUBECONFIG),--kubeconfig '$(KUBECONFIG)')

faults: .venv/ready machine  ## prove LAB: grade its reference, starter, faults and cheats for real (one to two hours)
	$(BIN)/gpulab verify $(LAB)

walk: .venv/ready machine  ## walk docs/write-a-lab.md, from a new lab to its proof
	$(BIN)/pytest -m walk tests/test_write_a_lab.py

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lock: .venv/ready  ## write every lock anew: the harness, Go, vLLM, PyTorch, the peers of the load generator
	$(LOCK) requirements/harness.in -o requirements/harness.txt
	$(LOCK) requirements/go.in -o requirements/go.txt
	cd $(IMAGES)/vllm-openai && $(CURDIR)/$(LOCK) --no-annotate cpu.in --override cpu-overrides.txt -o cpu.txt
	cd $(IMAGES)/vllm-openai && $(CURDIR)/$(LOCK) --no-annotate gpu.in -o gpu.txt
	cd $(IMAGES)/pytorch && $(CURDIR)/$(LOCK) --no-annotate packages.in -o packages.txt
	cd benchmarks/peers && for peer in guidellm aiperf; do $(CURDIR)/$(LOCK) --no-annotate $$peer.in -o $$peer.txt || exit 1; done

# uv where it is on PATH, else the pinned one, fetched by pip, which would take ten times as long for all the others.
# Bytecode saves a second of every command where Python may not write it later (PYTHONDONTWRITEBYTECODE, a CI's cache).
.venv/ready: requirements/harness.txt pyproject.toml
	@echo "Making .venv with the packages of requirements/harness.txt"
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) .venv; \
	else \
	  $(PYTHON) -m venv .venv && sed -n '/^uv==/,/[^\\]$$/p' requirements/harness.txt >.venv/uv.txt && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt; \
	fi
	@PATH="$(BIN):$$PATH" uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/harness.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

instances:
	@if [ -w $(INSTANCES) ] && [ "$$(cat $(INSTANCES))" -lt 256 ]; then \
	  echo "Allowing a user 1024 inotify instances until this machine starts anew (fs.inotify.max_user_instances)"; \
	  echo 1024 >$(INSTANCES) || true; \
	fi

# The embedded cluster's system programs: installed where that is possible without asking, else named by the doctor.
machine:
	@missing=; for program in bwrap ip nft; do \
	  PATH="$$PATH:/usr/sbin:/sbin" command -v $$program >/dev/null || missing=yes; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing the system packages $(PACKAGES) (apt-get, as root)"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PACKAGES) >/dev/null; \
	fi
