# Needs Python 3.11 or newer, pip and make; everything else goes into .venv by itself.
# PYTHON=python3.12 picks the interpreter; ARGS="-k spool" is handed on to the program.

PYTHON =
ARGS =
BIN = .venv/bin

.PHONY: help demo test faults lint format bench bench-pages bench-viewer screenshots wheel clean core dev
.DEFAULT_GOAL = help

help:
	@echo "make demo    see it work: a day of an agent platform, recorded and found again"
	@echo "make test    run every test, with a PostgreSQL of their own"
	@echo "make faults  kill, cut and fill up real processes and stores, all rounds; shows a tally"
	@echo "make lint    check style, types and layers"
	@echo "make format  format the code"
	@echo "make bench   measure it on this machine; make bench-pages: a page in ten million events;"
	@echo "             make bench-viewer: the viewer's first page there"
	@echo "make screenshots  take the pictures of the viewer in docs/images anew"
	@echo "make wheel   build the package into dist/"
	@echo "make clean   remove what the others made"

demo: core
	@$(BIN)/muniment demo $(ARGS)

test: dev
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

faults: dev
	@$(BIN)/python -m pytest tests/faults tests/proofs/test_many_writers.py --all-rounds $(ARGS)

lint: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache

format: dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: dev
	@$(BIN)/python -m bench $(ARGS)

bench-pages: dev
	@$(BIN)/python -m bench.pages $(ARGS)

bench-viewer: dev
	@$(BIN)/python -m bench.viewer $(ARGS)

screenshots: dev
	@scripts/setup.sh fonts
	@$(BIN)/python -m tests.browser.screenshots

wheel: core
	@$(BIN)/python -m pip wheel -qq --no-deps --wheel-dir dist .
	@ls dist/*.whl

clean:
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

core dev:
	@scripts/setup.sh $@ "$(PYTHON)"
