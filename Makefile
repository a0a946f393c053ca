# Two commands matter on a fresh machine with Python >= 3.11: `make run` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Where the control plane of the e2e is built: outside the tree, shared by all checkouts.
TOOLS  ?= $(HOME)/.cache/slicewise
PURE   := scaler/signals/*,scaler/policy/*,scaler/access.py,scaler/doctor.py,scaler/evaluate.py,scaler/forecast/*,scaler/keys.py,scaler/trigger.py,extender/placement/*,extender/ledger.py,extender/verbs.py,extender/wire.py

.PHONY: run test lint covered check integration e2e bench fidelity tools vllm proto format clean

run: $(STAMP)                     ## install, then watch the real servers drive a simulated cluster for about a minute
	$(BIN)/slicewise demo

test: $(STAMP)                    ## everything that needs no server; the others are skipped and say what they lack
	$(BIN)/pytest -n auto -q -rs $(COVER)

lint: $(STAMP)                    ## style, types, directions of imports, generated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/codegen.py --check

covered: $(STAMP)                 ## what `make test COVER="--cov --cov-report="` has covered is enough
	$(BIN)/coverage report --include='$(PURE)' --fail-under=100
	$(BIN)/coverage report --fail-under=85 > /dev/null

check: COVER := --cov --cov-report=
check: lint test covered          ## what CI runs, except the servers

tools:                            ## build etcd, Kubernetes, KEDA, KWOK and Prometheus as Go modules (25 min cold, 2 cores), bring the brokers
	tests/e2e/build-tools "$(TOOLS)"
	tests/e2e/install-brokers "$(TOOLS)"

vllm:                             ## install vLLM for the CPU in an environment of its own (6 GB; 5 min cold)
	PYTHON="$(PYTHON)" tests/e2e/install-vllm "$(TOOLS)"

integration: $(STAMP)             ## tests against real single servers
	SLICEWISE_TOOLS="$(TOOLS)" $(BIN)/pytest -q -m integration

e2e: $(STAMP)                     ## tests against the real control plane
	SLICEWISE_TOOLS="$(TOOLS)" $(BIN)/pytest -q -m e2e

bench: $(STAMP)                   ## GetMetrics, filter and prioritize, simulated requests: one table, comparable within one run
	$(BIN)/python -m bench

fidelity: $(STAMP) vllm            ## the simulator against a real engine; wants two idle cores for about five minutes
	$(BIN)/python -m bench.fidelity "$(TOOLS)"

proto: $(STAMP)                   ## regenerate the code under */pb from proto/
	$(BIN)/python tests/codegen.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Slicewise needs Python >= 3.11; $(PYTHON) is {sys.version.split()[0]}. Name another one: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis .coverage*
