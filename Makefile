# `make` without a target lists the targets. There are two environments. Each is made again when its lock changes:
#   .venv     requirements/latest.txt  the newest TensorFlow, Python 3.11 to 3.13
#   .venv-io  requirements/io.txt      TensorFlow 2.17 with tensorflow-io, Python 3.11

PYTHON ?= python3
# Options for `make lock`: LOCK_FLAGS=--upgrade takes the newest versions. Without it, a lock keeps its versions.
LOCK_FLAGS ?=
PYTEST_FLAGS ?= -n 2 --dist worksteal

VENV := .venv
VENV_IO := .venv-io
VENV_LOCK := .venv-lock
VENV_TFLITE := .venv-tflite
UV_VERSION := 0.13.8

export TF_CPP_MIN_LOG_LEVEL ?= 2

# $(call check_python,NEWEST MINOR VERSION,WHAT NEEDS IT)
define check_python
@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $(1)))' || { \
	echo "$(2) needs Python 3.11$(if $(filter-out 11,$(1)), to 3.$(1)); '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
	echo "Name another Python: make PYTHON=python3.11 ..." >&2; \
	exit 1; }
endef

# $(call install,VENV,LOCK): with --no-build-isolation, because the lock contains setuptools.
define install
@echo "Installing $(2) into $(1). The first time takes some minutes."
test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
$(1)/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r $(2)
$(1)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
touch $(1)/.installed
endef

# $(call compile,LOCK,EXTRAS): with as few versions as possible, so that every Python runs the versions CI tested.
define compile
$(VENV_LOCK)/bin/uv pip compile setup.py --no-config --quiet --universal --generate-hashes --python-version 3.11 \
	--fork-strategy fewest $(addprefix --extra ,$(2)) --custom-compile-command "make lock" $(LOCK_FLAGS) \
	--output-file $(1)
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: venv
venv: $(VENV)/.installed ## create .venv with the locked requirements and this package

$(VENV)/.installed: requirements/latest.txt setup.py
	$(call check_python,13,tfseq2seq)
	$(call install,$(VENV),requirements/latest.txt)

$(VENV_IO)/.installed: requirements/io.txt setup.py
	$(call check_python,11,The tensorflow-io stack)
	$(call install,$(VENV_IO),requirements/io.txt)

.PHONY: quickstart
quickstart: venv ## train, evaluate and export a small model, and ask it
	$(VENV)/bin/python pipelines/quickstart.py

# An older TFLite runtime with its own NumPy, which a test asks an exported file in. It exists for Python 3.11.
.PHONY: tflite-runtime
tflite-runtime:
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
		$(MAKE) --no-print-directory $(VENV_TFLITE)/.installed || echo "No test in tflite-runtime 2.14, which cannot be installed here."; \
	else echo "No test in tflite-runtime 2.14, which needs Python 3.11."; fi

$(VENV_TFLITE)/.installed: requirements/tflite-runtime.txt
	test -x $(VENV_TFLITE)/bin/python || $(PYTHON) -m venv $(VENV_TFLITE)
	$(VENV_TFLITE)/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements/tflite-runtime.txt
	touch $@

.PHONY: test
test: lint tflite-runtime ## lint, then all tests: what CI runs
	$(VENV)/bin/python -m pytest $(PYTEST_FLAGS)

.PHONY: test-fast
test-fast: venv ## the fast tests, without lint: under 3 minutes on two idle cores
	$(VENV)/bin/python -m pytest $(PYTEST_FLAGS) -m "not slow"

.PHONY: test-io
test-io: $(VENV_IO)/.installed ## all tests on TensorFlow 2.17 with tensorflow-io
	$(VENV_IO)/bin/python -m pytest $(PYTEST_FLAGS)

.PHONY: lint
lint: venv ## check format, style, import directions and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

.PHONY: format
format: venv ## format the code with ruff, with its safe fixes
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

.PHONY: lock
lock: ## compile requirements/*.txt from setup.py
	$(call check_python,13,make lock)
	test -x $(VENV_LOCK)/bin/python || $(PYTHON) -m venv $(VENV_LOCK)
	$(VENV_LOCK)/bin/python -m pip install --disable-pip-version-check --quiet uv==$(UV_VERSION)
	$(call compile,requirements/latest.txt,test plot audio ctranslate2 tflite serve client sweep hub)
	$(call compile,requirements/io.txt,test plot io audio ctranslate2 tflite serve client sweep hub)
	$(VENV_LOCK)/bin/uv pip compile requirements/tflite-runtime.in --no-config --quiet --generate-hashes \
		--python-version 3.11 --custom-compile-command "make lock" $(LOCK_FLAGS) --output-file requirements/tflite-runtime.txt

.PHONY: clean
clean: ## remove caches and build files; keep the environments, runs/ and saved_models/
	rm -rf build dist *.egg-info .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
