# Each target does all of its own set-up: virtual environment, installs. Needs python3 (>= 3.11) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint generate bench clean

demo: $(STAMP)  ## run the whole pipeline on the recorded chain that ships with Tidebook
	$(BIN)/tidebook demo

test: $(STAMP)  ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup --max-worker-restart 0

lint: $(STAMP)  ## style, types, architecture contracts, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.generate --check

generate: $(STAMP)  ## records, data dictionary, frozen schema ids
	$(BIN)/python -m schemas.generate

bench: $(STAMP)  ## figures as ratios to named baselines (minutes)
	$(BIN)/tidebook bench decode
	$(BIN)/tidebook bench agent
	$(BIN)/tidebook bench pipeline

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tidebook needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,dev]'
	@touch $(STAMP)

clean:  ## the environment and the demo's data
	rm -rf $(VENV) tidebook-data
