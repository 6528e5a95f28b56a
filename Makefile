# `make demo` and `make test` prepare everything they need in .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types imports unit bench bench-operator bench-scheduler crds lock proto clean images chart kind-up kind-down e2e

demo: $(VENV)/.installed
	$(BIN)/efaas run examples/h2.yaml

test: lint types imports unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

unit: $(VENV)/.installed-dev
	$(BIN)/pytest

bench: $(VENV)/.installed-dev $(VENV)-bench/.installed
	$(BIN)/python benchmarks/iteration.py --reference-python $(VENV)-bench/bin/python

# Sessions at once up to 2,000, by the real API server's own audit log; `benchmarks/operator.py --faults`
# is the long run in which everything fails.
bench-operator: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/operator.py

# Needs Kubernetes' server programs and kwok on PATH, and a quiet machine.
bench-scheduler: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/scheduler.py

proto: $(VENV)/.installed-dev
	$(BIN)/python -m grpc_tools.protoc -I src --python_out=src --pyi_out=src --grpc_python_out=src src/efaas/api/wire/qpu.proto src/efaas/api/wire/journal.proto

# The CustomResourceDefinitions come from the models in efaas.api.
crds: $(VENV)/.installed-dev
	$(BIN)/python -m efaas.api.crd crds
	cp crds/*.yaml charts/efaas/files/crds/

# Container images; sizes are printed against their targets. Needs a container engine with BuildKit.
images:
	scripts/build_images.sh

# What the chart holds of other files: CRDs, the schema of its values and their page.
chart: crds
	$(BIN)/python scripts/chart_schema.py

# A kind cluster with everything in it, and its end. Needs docker, kind, kubectl and helm.
kind-up:
	scripts/kind_up.sh

kind-down:
	scripts/kind_down.sh

# From nothing: a fresh cluster, the examples, faults. Needs what kind-up needs.
e2e: $(VENV)/.installed-dev
	$(BIN)/pytest e2e -q

# Locks hold versions and hashes, never the address of a registry.
lock: $(VENV)/.installed-dev
	scripts/lock.sh $(LOCK)

$(VENV)/.installed: requirements/run.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.installed-dev: requirements/dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@

$(VENV)-bench/.installed: requirements/bench.txt
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-bench
