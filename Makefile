# Every target works in a fresh clone: it makes its own virtual environment first.
VENV ?= .venv
PYTHON ?= python3
RUN = $(VENV)/bin/python
# On a CPU, XLA asks for its temporary memory anew at every step. Kept by the process, in huge pages, it costs far less;
# torch gains too (docs/performance.md, "Step"). Other C libraries than GNU's ignore it.
KEEP = GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.arena_max=1

.PHONY: demo test test-all fuzz soak lint format bench bench-gpu demo-clip lock audit clean

demo: $(VENV)/.runtime          ## train teacher and student on synthetic pedestrians: four to seven minutes on 2 cores
	$(KEEP) $(RUN) main.py --config=configs/demo.py --workdir=runs/demo

test: $(VENV)/.dev              ## the tests, less the slow ones
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m 'not slow'

test-all: $(VENV)/.dev          ## every test
	$(RUN) -m pytest

FUZZ_MINUTES ?= 60
fuzz: $(VENV)/.dev              ## hostile files, invented for FUZZ_MINUTES in all; says how many
	FUZZ_MINUTES=$(FUZZ_MINUTES) $(RUN) -m pytest -s -m fuzz

soak: $(VENV)/.dev              ## what a run survives, with figures: kills, faults, full disks, any number of devices
	$(RUN) -m pytest -s -m slow tests/training/kill_test.py tests/training/soak_test.py tests/training/parallel_test.py \
		tests/training/hosts_test.py

lint: $(VENV)/.dev              ## style and import order
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/.dev            ## mend what can be mended
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(VENV)/.dev             ## every benchmark that needs no training and no run; about an hour on 2 cores
	$(KEEP) $(RUN) -m benchmarks

# $(PYTHON) must have jax[cuda12], flax, optax, orbax-checkpoint, torch, transformers, matplotlib; neither TensorFlow nor ml_collections
bench-gpu:                      ## what to ask of a GPU
	$(PYTHON) -m benchmarks.device --out runs/device      # ten minutes; the table comes last
	$(PYTHON) -m benchmarks.growth --tables rows image views search
	$(PYTHON) -m benchmarks.device_compare --out runs/gpu --seconds 600

demo-clip: $(VENV)/.runtime     ## make the small CLIP of lcr2s_jax/weights/demo_clip/ again: an hour and a half on 2 cores
	$(KEEP) $(RUN) -m benchmarks.demo_clip --workdir=runs/demo_clip

lock: $(VENV)/.runtime          ## requirements.lock: every package of the runtime at one version, with hashes (needs a network)
	$(RUN) -m pip install --quiet 'uv>=0.9'
	$(RUN) -m uv pip compile requirements.txt --generate-hashes --python-version 3.11 --no-emit-index-url --quiet -o requirements.lock

audit: $(VENV)/.runtime         ## known vulnerabilities of what is locked (needs a network)
	$(RUN) -m pip install --quiet 'pip-audit>=2.9'
	$(RUN) -m pip_audit --requirement requirements.lock --disable-pip

clean:                          ## forget environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache

# A marker is written last, so an interrupted installation is done again.
$(VENV)/.runtime: requirements.txt
	$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or later is needed, found {v}")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt requirements-video.txt requirements-cluster.txt $(VENV)/.runtime
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	touch $@
