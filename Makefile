# One command for each task; `make help` lists them. Environments are made when they are first needed, in .venv and
# .venv-zoo; a second run installs nothing. PYTHON=python3.12 chooses another interpreter.

PYTHON ?= python3
VENV := .venv
ZOO := .venv-zoo
BIN := $(VENV)/bin

# Exact versions, installed before everything else: a looser requirement would get the newest build, of several gigabytes.
TORCH := torch==2.13.0
ZOO_TORCH := torch==2.14.1 torchvision==0.29.1
# Installed without their requirements, which are the GPU build of TensorFlow (tensorflow-cpu replaces it) or tokenizers' own build of it.
TF_KERAS := tf-keras==2.21.0
KECAM := keras-cv-attention-models==1.4.3
HUB := keras-hub==0.32.0
# In a folder of their own, since the zoo has a newer transformers.
PORTS := transformers==4.57.6 huggingface_hub==0.36.0 tokenizers==0.22.1 tfimm==0.2.14

# How long `make fuzz` runs.
SECONDS := 600
PYTHON_FILES := keras_torch_convert tests benchmarks docs examples setup.py
C_FILES := $(wildcard csrc/*.h csrc/*/*.c csrc/*/*.h tests/c/*.c tests/c/*.h)
C_SOURCES := $(wildcard csrc/*.h csrc/*/*.c csrc/*/*.h) setup.py
# A file's tests stay together, since they share what is slow to make.
WORKERS := --numprocesses 2 --dist loadfile --no-loadscope-reorder

# No GPU is needed, and TensorFlow prints warnings if it finds none.
export CUDA_VISIBLE_DEVICES := -1
export TF_CPP_MIN_LOG_LEVEL := 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-quick lint format test-c sanitize sanitize-threads hostile fuzz valgrind bench zoo docs notebook picture clean distclean zoo-quick

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 20

demo: $(VENV)/made-demo $(VENV)/built ## convert real pretrained weights and prove both models equal on a picture
	@$(BIN)/python examples/demo.py

test: $(VENV)/made-test $(VENV)/built-strict ## build with warnings as errors, then run all tests
	$(BIN)/python -m pytest $(WORKERS) -m "not alone"
	$(BIN)/python -m pytest -m alone

test-quick: $(VENV)/made-test $(VENV)/built-strict ## run the tests that take a few seconds or less
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

lint: $(VENV)/made-test $(VENV)/made-lint $(VENV)/built-strict ## run ruff, isort, yapf, mypy --strict, clang-format and the source rules
	$(BIN)/ruff check .
	$(BIN)/isort --check --quiet $(PYTHON_FILES)
	$(BIN)/yapf --diff --parallel --recursive $(PYTHON_FILES)
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	$(BIN)/python -m pytest -q tests/test_source_rules.py tests/test_layers.py

format: $(VENV)/made-lint ## format Python and C files
	$(BIN)/ruff check --fix .
	$(BIN)/isort --quiet $(PYTHON_FILES)
	$(BIN)/yapf --in-place --parallel --recursive $(PYTHON_FILES)
	$(BIN)/clang-format -i $(C_FILES)

test-c: ## run the C kernels' unit tests, without Python, under ASan and UBSan
	bash tests/c/run.sh

sanitize: $(VENV)/made-test ## run the Python tests of the C extension under ASan and UBSan
	PYTHON=$(CURDIR)/$(BIN)/python bash tests/sanitize.sh

sanitize-threads: $(VENV)/made-test ## run what releases the GIL in many threads under TSan
	PYTHON=$(CURDIR)/$(BIN)/python bash tests/sanitize.sh thread

hostile: $(VENV)/made-test $(VENV)/built ## read 5,000 files made to do harm; writes docs/security.md (under ten minutes)
	$(BIN)/python -m tests.hostile.attack --cases 5004 --with-torch --write docs/security.md

fuzz: $(VENV)/made-fuzz $(VENV)/built ## fuzz every reader, guided by coverage, for SECONDS (default: 600)
	$(BIN)/python -m tests.hostile.fuzz --seconds $(SECONDS)

valgrind: ## run the C kernels' unit tests under valgrind
	bash tests/c/run.sh --valgrind

bench: $(VENV)/made-test $(VENV)/built ## measure every stage beside its rival (40 minutes); writes docs/speed.md
	@rm -rf build/bench && mkdir -p build/bench
	@for file in benchmarks/bench_*.py; do \
	  KTC_BENCH_RESULTS=build/bench $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; done
	$(BIN)/python -m benchmarks.page build/bench docs/speed.md

zoo: $(ZOO)/made-ports ## run the classic workflow on real weights, then every pair of the zoo (an hour); writes docs/zoo.md
	$(ZOO)/bin/python -m pytest tests/zoo
	$(ZOO)/bin/python tests/zoo/run.py --write docs/zoo.md

zoo-quick: $(ZOO)/made ## convert eight quick pairs of the zoo
	$(ZOO)/bin/python tests/zoo/run.py --quick

docs: $(VENV)/made-docs $(VENV)/built ## build the documentation into docs/_build; a broken link is an error
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build

notebook: $(VENV)/made-test $(VENV)/built ## run the example notebook and keep its outputs
	$(BIN)/python examples/run_notebook.py

picture: $(VENV)/made-demo $(VENV)/built ## draw docs/images from the real output and code
	$(BIN)/python docs/render_picture.py
	$(BIN)/python docs/render_rooms.py

clean: ## remove what was built; environments stay
	rm -rf build dist demo_output docs/_build *.egg-info keras_torch_convert/*.so $(VENV)/built $(VENV)/built-strict
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis

distclean: clean ## remove the environments as well
	rm -rf $(VENV) $(ZOO)

# --- environments and the extension; each stamp is a file inside the environment ---

$(VENV)/made-base:
	@echo 'Making an environment in $(VENV), once. PyTorch comes first: about 1 GB on the disk and a minute or two'
	@echo '(on Linux, PyPI may give the build with CUDA, 4 GB; PIP_INDEX_URL chooses another index).'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(TORCH) 'setuptools>=77' wheel 'numpy>=2.0'
	touch $@

$(VENV)/made-demo: $(VENV)/made-base pyproject.toml
	@echo 'Keras, a zoo and pretrained weights: about 300 MB and a minute. Then a C compiler builds the extension.'
	$(BIN)/python -m pip install --no-build-isolation -e '.[demo]'
	touch $@

$(VENV)/made-test: $(VENV)/made-base pyproject.toml
	@echo 'TensorFlow, JAX, a browser driver and what else the tests need: about 2 GB and a few minutes.'
	$(BIN)/python -m pip install --quiet --no-build-isolation -e '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps $(TF_KERAS)
	touch $@ $(VENV)/made-demo

$(VENV)/made-lint: $(VENV)/made-base pyproject.toml
	$(BIN)/python -m pip install --quiet --no-build-isolation -e '.[lint]'
	touch $@

# Built for some interpreters only; without it the files are changed blindly.
$(VENV)/made-fuzz: $(VENV)/made-test
	-$(BIN)/python -m pip install --quiet --only-binary :all: atheris
	touch $@

$(VENV)/made-docs: $(VENV)/made-base pyproject.toml
	$(BIN)/python -m pip install --quiet --no-build-isolation -e '.[docs]'
	touch $@

$(VENV)/built: $(VENV)/made-base $(C_SOURCES)
	$(BIN)/python setup.py --quiet build_ext --inplace
	touch $@

$(VENV)/built-strict: $(VENV)/made-base $(C_SOURCES)
	KTC_WERROR=1 $(BIN)/python setup.py --quiet build_ext --inplace --force
	touch $@ $(VENV)/built

$(ZOO)/made: tests/zoo/requirements.txt $(C_SOURCES)
	$(PYTHON) -m venv $(ZOO)
	$(ZOO)/bin/python -m pip install --quiet $(ZOO_TORCH) 'setuptools>=77' wheel 'numpy>=2.0'
	$(ZOO)/bin/python -m pip install --quiet -r tests/zoo/requirements.txt
	$(ZOO)/bin/python -m pip install --quiet --no-deps $(TF_KERAS) $(KECAM) $(HUB)
	$(ZOO)/bin/python -m pip install --quiet --no-build-isolation -e .
	touch $@

$(ZOO)/made-ports: $(ZOO)/made
	$(ZOO)/bin/python -m pip install --quiet --no-deps --ignore-requires-python --upgrade --target $(ZOO)/ports $(PORTS)
	touch $@
