# Everything a newcomer types. Each target makes .venv and installs what it needs.
PYTHON ?= python3.11
BIN := .venv/bin
export FISTFUL_DATA ?= $(abspath ../shared/data)
export PYTHONWARNINGS ?= ignore::DeprecationWarning

.PHONY: demo photos test test-all bench-captions bench-training bench-evaluation check format clean

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/installed  ## captions in, models, scores and a page out
	$(BIN)/fistful demo --out demo-out

photos: .venv/installed  ## the whole way on FISTFUL_DATA's photos, twice: within 90 minutes on two cores; goes on where it was stopped
	$(BIN)/python -m benchmarks.photos --out photos-out

test: .venv/installed  ## the tests: under ten minutes on two cores
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not slow"

test-all: .venv/installed  ## the slow ones too
	$(BIN)/python -m pip install --quiet --editable '.[dev,slow]'
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup

bench-captions: .venv/installed  ## the figures of the caption jobs, beside plain loops: half an hour, a quiet machine
	$(BIN)/python -m benchmarks.captions

bench-training: .venv/installed  ## the figures of the trainer, beside open_clip_train and webdataset: twenty minutes, a quiet machine
	$(BIN)/python -m benchmarks.training

bench-evaluation: .venv/installed  ## the figures of evaluation, beside clip_benchmark and open_clip: two hours, a quiet machine
	$(BIN)/python -m benchmarks.evaluation

check: .venv/installed  ## style, types, layers, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md docs bow pipelines training eval fistful/*.py tests benchmarks

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf demo-out photos-out build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
