# Every target sets up what it needs in .venv; nothing else is required than Python 3.11+ and make.
PYTHON ?= python3
PORT ?= 8080
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: serve test check setup fit bench lint types smoke clean

serve: .venv/.serve  ## answer POST /route on 127.0.0.1:$(PORT)
	$(BIN)/python -m serve --port $(PORT)

test: .venv/.dev  ## every test that this machine can run
	$(BIN)/python -m pytest

check: lint types test smoke  ## what CI runs

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

smoke: .venv/.dev  ## a real server, a real request, a real batch
	$(BIN)/python -m benchmarks.smoke

setup: .venv/.dev .venv/.bench  ## everything for development but the encoder extra (torch)

fit: .venv/.dev  ## train on data/prompts; OUTCOMES=dir adds outcome rows
	$(BIN)/python -m training.fit --prompts data/prompts $(if $(OUTCOMES),--outcomes $(OUTCOMES))

bench: .venv/.bench  ## latency, throughput and peers, as one table
	$(BIN)/python -m benchmarks

.venv/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/.serve: .venv/.python pyproject.toml constraints.txt
	$(PIP) .
	touch $@

.venv/.dev: .venv/.python pyproject.toml constraints.txt
	$(PIP) '.[dev]'
	touch $@ .venv/.serve

.venv/.bench: .venv/.dev
	$(PIP) '.[bench]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
