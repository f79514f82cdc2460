# make demo | test | slow | gpu | lint | docs | clean
#
# The first call makes .venv, which later calls reuse. Another interpreter: make demo PYTHON=/path/to/python.
# More options for pytest: make test PYTEST_ARGS="-k hull -x".

PYTHON ?=
PYTEST_ARGS ?=
# Processes that run tests side by side; a file stays in one, because its fits are shared.
WORKERS ?= 2
DEMO_ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: help demo test slow gpu lint docs clean distclean
# Two installers in one environment would get into each other's way.
.NOTPARALLEL:

help:
	@echo "make demo       fit an oscillator's levels and write bands, plots and a report"
	@echo "make test       run the tests, less the slow ones and those that need a GPU"
	@echo "make slow       run the slow tests"
	@echo "make gpu        run the tests that need an accelerator"
	@echo "make lint       check style, format and types"
	@echo "make docs       build the documentation into docs/_build/html"
	@echo "make clean      remove what the above built, but keep $(VENV)"
	@echo "make distclean  remove $(VENV) too"

demo: $(VENV)/.installed
	$(VENV)/bin/bayes-pmm demo $(DEMO_ARGS)

test: $(VENV)/.installed-all
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not gpu" $(PYTEST_ARGS)

slow: $(VENV)/.installed-all
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile -m "slow and not gpu" $(PYTEST_ARGS)

# Bit for bit on a GPU only with this flag, which one test asks for. One process: each would reserve most of the memory.
gpu: $(VENV)/.installed-all
	XLA_FLAGS="--xla_gpu_deterministic_ops=true $(XLA_FLAGS)" $(RUN) -m pytest -m gpu $(PYTEST_ARGS)

lint: $(VENV)/.installed-all
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# -E: pages that are not read again would keep their warnings to themselves.
docs: $(VENV)/.installed-all
	$(RUN) -m sphinx -E -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf docs/_build docs/jupyter_execute docs/.jupyter_cache build dist htmlcov .coverage .coverage.*
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .cache
	find . \( -path './.venv*' -o -path ./.git \) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# A stamp is written only after a whole install, so that an interrupted one is taken up again.
$(VENV)/.installed: pyproject.toml
	$(make_venv)
	$(RUN) -m pip install --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-all: pyproject.toml
	$(make_venv)
	$(RUN) -m pip install --disable-pip-version-check -e ".[test,docs]"
	@touch $(VENV)/.installed $@

# An environment without a working pip is a leftover of an interrupted call, or its interpreter is gone.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
define make_venv
@if $(RUN) -m pip --version >/dev/null 2>&1; then \
	$(RUN) -c '$(NEW_ENOUGH)' && exit 0; \
	echo "error: $(VENV) holds $$($(RUN) -V), and bayes_pmm needs Python 3.11 or newer; run 'make distclean' and try again" >&2; \
	exit 1; \
fi; \
for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11); do \
	if "$$python" -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then \
		echo "making $(VENV) with $$("$$python" -V)"; \
		exec "$$python" -m venv --clear $(VENV); \
	fi; \
done; \
echo "error: bayes_pmm needs Python 3.11 or newer, but $(if $(PYTHON),'$(PYTHON)' is older or does not run,python3 is older or missing and there is no python3.13 python3.12 or python3.11); install one or name it: make PYTHON=/path/to/python" >&2; \
exit 1
endef
