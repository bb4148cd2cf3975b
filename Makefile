# make demo         shows the main job on a real photograph, and installs what that needs and no more
# make test         runs the tests
# make test-fast    runs those that take a minute in all on two cores: the format, the codecs, Pillow's side
# make test-pillow  runs those of the plugin with the oldest Pillow that will do, with the last of version 12, and again
#                   with the one of make test
# make test-other-pythons  tries the bare wheel, without torch, with other Pythons that are on the machine
# make lint         checks style, formatting and types
# make format       mends style and formatting where ruff can
# make fuzz         holds mutated files against what SECURITY.md promises, for half a minute, and has a compiler, where
#                   there is one, check the kernel
# make gpu          tests and measures on a machine with CUDA, in six minutes; the figures go to out/gpu.json
# make viewer       builds the page that shows files into out/viewer, and tests it with the golden files; needs Node 20
# make docs         builds the documentation into out/site
# make clean        removes .venv and out
# make help         prints this
#
# What runs Python first makes .venv and installs into it what is needed; nothing else is required but Python 3.11 or later.

PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv/.demo
INSTALLED := .venv/.installed
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

OWN_PILLOW := $(shell sed -n 's/^pillow==//p' constraints.txt)
OTHER_PILLOWS := 11.0.0 12.3.0
# Those that run: a command may be there and lead to no Python, as pyenv's do.
OTHER_PYTHONS = $(foreach name,python3.12 python3.13 python3.14,$(shell $(name) -c 'import sys; print(sys.executable)' 2> /dev/null))
PILLOW_TESTS := $(addprefix tests/test_,plugin.py pillow_conventions.py)

# Each needs some seconds of a core. Most others start many processes, or load torch or models.
FAST := alpha container context_stream layers metadata mixtures noise_schedule options pipeline \
	other_formats palette pillow_conventions plugin range_coder registration resaving signatures tiling \
	trellis uint8
FAST_TESTS := $(FAST:%=tests/test_%.py)

.PHONY: demo help test test-fast test-pillow test-other-pillows test-other-pythons $(OTHER_PILLOWS:%=test-pillow-%) fuzz gpu viewer docs lint format clean

demo: $(DEMO)
	@$(BIN)/python examples/demo.py

# Two processes with a thread for every core each would spend much of their time spinning while they wait.
test test-fast test-pillow test-other-pillows: export OMP_WAIT_POLICY = PASSIVE
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2

test-fast: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 $(FAST_TESTS)

test-pillow: test-other-pillows
	PILLOW_SDC_TEST_PILLOW=$(OWN_PILLOW) $(BIN)/python -m pytest -n 2 $(PILLOW_TESTS)

test-other-pillows: $(OTHER_PILLOWS:%=test-pillow-%)

$(OTHER_PILLOWS:%=test-pillow-%): test-pillow-%: .venv/pillow-%
	PYTHONPATH=$(CURDIR)/$< PILLOW_SDC_TEST_PILLOW=$* $(BIN)/python -m pytest -n 2 $(PILLOW_TESTS)

$(OTHER_PILLOWS:%=.venv/pillow-%): .venv/pillow-%: | $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-deps --target $@ pillow==$*

test-other-pythons: $(INSTALLED)
	PILLOW_SDC_TEST_PYTHONS="$(OTHER_PYTHONS)" $(BIN)/python -m pytest tests/test_autoload.py -k need_no_torch

fuzz: $(INSTALLED)
	$(BIN)/python fuzz/fuzz_open.py --seconds 30
	$(BIN)/python fuzz/fuzz_kernel.py --runs 3000

viewer: $(INSTALLED) viewer/node_modules/.package-lock.json viewer/public/preview.json
	cd viewer && npm test --silent && npm run --silent build
	$(BIN)/python -m pytest tests/test_viewer.py

viewer/public/preview.json: pillow_sdc/pipeline/preview.py | $(INSTALLED)
	@mkdir -p $(@D)
	$(BIN)/python -c "import json; from pillow_sdc.pipeline.preview import WEIGHTS; print(json.dumps(WEIGHTS.tolist()))" > $@

viewer/node_modules/.package-lock.json: viewer/package-lock.json
	cd viewer && npm ci --no-audit --no-fund --silent
	@touch $@

gpu: $(INSTALLED)
	$(BIN)/python benchmarks/gpu.py --tests --json out/gpu.json

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv out

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

KERNEL := hatch_build.py $(wildcard pillow_sdc/format/context/*.c)

$(DEMO): pyproject.toml constraints.txt $(KERNEL)
	@echo "Installing pillow-sdc and what the demo needs into .venv: 1.6 GB with torch for CPUs, more with torch for CUDA ..."
	$(PYTHON) -m venv --upgrade-deps .venv
	$(INSTALL) --editable . --group demo
	@touch $@

# The groups name the package and its extras, which is here by now: only what these need beyond the demo is installed.
$(INSTALLED): $(DEMO)
	@echo "Installing what the tests, the documentation and the other tools need, too: another 1.2 GB ..."
	$(INSTALL) --quiet --group dev
	@touch $@
