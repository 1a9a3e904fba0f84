# make demo    set everything up and caption the clips that come with the project
# make test    set everything up and run the tests, with the CPU build of vLLM where there is one
# make ui      the Dagster UI on http://127.0.0.1:3000
# make fuzz    damage 500 copies of the demo clips and read them; FILES=2000 SEED=7 for others
# make check   lint and types, as CI runs them
# make bench-video     how fast windows are cut, against the decoder alone and the way of the peers; PARTS="cores memory"
# make bench-previews  what previews cost and how they look, against the ffmpeg program
# make bench-engines   output tokens a second through the platform, over vLLM alone on the same inputs
# make bench-ledger    what the ledger costs with 100,000 windows; SIZE="--size 200 1000 5 4" for a million, in 6 GB
# make clean   remove the environment and the demo's data

PYTHON ?= python3
BIN := .venv/bin
INSTALL := tools/pip_install.sh $(BIN)/python --constraint constraints.txt
DEMO_BATCH := demo
# One more than there are cores: many tests wait for processes of their own.
WORKERS ?= $(shell expr $$(nproc) + 1)
FILES ?= 500
SEED ?= 0

# Dagster keeps its history beside dagster.yaml, so that what the demo did is there in the UI.
export DAGSTER_HOME := $(CURDIR)

.PHONY: demo test ui fuzz check bench-video bench-previews bench-engines bench-ledger clean
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/caption-assets run clips --batch $(DEMO_BATCH) --root data

# Threads of PyTorch that wait would keep a core from the other tests; whoever dies in native code says where.
test: .venv/installed-dev .venv/installed-vllm
	OMP_WAIT_POLICY=passive PYTHONFAULTHANDLER=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

fuzz: .venv/installed-dev
	$(BIN)/python -m tests.video.fuzz --files $(FILES) --seed $(SEED)

ui: .venv/installed
	$(BIN)/dagster dev

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy caption_assets
	$(BIN)/lint-imports --no-logo
	$(BIN)/python docs/make_reference.py --check

bench-video: .venv/installed
	$(BIN)/python -m benchmarks.video $(PARTS)

bench-previews: .venv/installed
	$(BIN)/python -m benchmarks.previews

bench-engines: .venv/installed-dev .venv/installed-vllm
	$(BIN)/python -m benchmarks.engines

bench-ledger: .venv/installed
	$(BIN)/python -m benchmarks.ledger $(SIZE)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt tools/pip_install.sh
	$(INSTALL) --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(INSTALL) --editable '.[dev]'
	touch $@

# Left out where vLLM cannot be installed; the script says why.
.venv/installed-vllm: .venv/installed-dev tests/engines/install_vllm.sh tests/engines/torchvision_operators.py
	tests/engines/install_vllm.sh $(CURDIR)/$(BIN)/python $(CURDIR)/$@

clean:
	rm -rf .venv data storage history schedules logs .logs_queue .nux .telemetry
