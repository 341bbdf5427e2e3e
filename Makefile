# Everything a newcomer types. Each target makes .venv and installs what it needs.
PYTHON ?= python3.11
BIN := .venv/bin
export FISTFUL_DATA ?= $(abspath ../shared/data)
export PYTHONWARNINGS ?= ignore::DeprecationWarning

.PHONY: demo photos docs browser test test-all test-gpu bench-captions bench-training bench-labels bench-stores bench-gpu bench-text evidence evidence-masking evidence-text evidence-tune bench-evaluation check format clean

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/installed  ## captions in, models, scores and a page out
	$(BIN)/fistful demo --out demo-out

photos: .venv/installed  ## the whole way on FISTFUL_DATA's photos, twice: within 90 minutes on two cores; goes on where it was stopped
	$(BIN)/python -m benchmarks.photos --out photos-out

docs: .venv/installed  ## the site of all pages, in site/; a link that leads nowhere ends it
	$(BIN)/sphinx-build -q -W --keep-going -E -c docs . site
	@echo "site/index.html: open it in a browser"

BROWSERS := chromium chromium-browser google-chrome
browser:  # the report's tests open it in one; where none can be installed they are left out, and pytest's last lines say so
	@[ "$$FISTFUL_NO_BROWSER" = 1 ] || for name in $(BROWSERS); do command -v $$name && break; done | grep -q . || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null || true

test: .venv/installed browser  ## the tests: under ten minutes on two cores
	$(BIN)/python -m pytest -q -n 3 --dist loadgroup -m "not slow and not gpu"

test-all: .venv/installed browser  ## the slow ones too
	$(BIN)/python -m pip install --quiet --editable '.[dev,slow]'
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not gpu"

test-gpu: .venv/installed  ## what only a GPU can show; without one it says so
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then $(BIN)/python -m pytest -q -n 0 tests/gpu; \
	  else echo 'test-gpu: torch sees no GPU here; nothing was tested'; fi

bench-captions: .venv/installed  ## the figures of the caption jobs, beside plain loops: half an hour, a quiet machine
	$(BIN)/python -m benchmarks.captions

bench-training: .venv/installed  ## the figures of the trainer, beside open_clip_train and webdataset: twenty minutes, a quiet machine
	$(BIN)/python -m benchmarks.training

bench-labels: .venv/installed  ## how fast label looks at pictures, beside the bare forward pass: ten minutes, a quiet machine
	$(BIN)/python -m benchmarks.labels

bench-stores: .venv/installed  ## what object stores cost, and that they hold the same bytes: half an hour, a quiet machine
	$(BIN)/python -m pip install --quiet --editable '.[dev,slow]'
	$(BIN)/python -m benchmarks.stores

bench-gpu: .venv/installed  ## the figures of a GPU, beside open_clip_train and the bare forward pass: an hour; without one it says so
	$(BIN)/python -m benchmarks.gpu

bench-text: .venv/installed  ## what text towers can tell apart, of four small models and MiniLM: half an hour, a quiet machine
	$(BIN)/python -m benchmarks.text

evidence-masking: .venv/installed  ## does hiding more words teach more, and what completion finds: two hours on two cores; goes on where it was stopped
	$(BIN)/python -m benchmarks.evidence_masking --seeds 0 1 2 --out masking-out
	$(BIN)/python -m benchmarks.evidence_masking --cost --out masking-out
	$(BIN)/python -m benchmarks.evidence_masking --figures --out masking-out
	$(BIN)/python -m benchmarks.masking_completion --seeds 0 1 2 --out masking-out

evidence: .venv/installed  ## what helps a student that has a fifth of the captions: hours on two cores; goes on where it was stopped
	$(BIN)/python -m benchmarks.evidence --seeds 0 1 2 3 4 5 6 7 --out evidence-out
	$(BIN)/python -m benchmarks.evidence --figures --out evidence-out

evidence-text: .venv/installed  ## what students of a sentence encoder keep of it, beside other ways: two hours on two cores; goes on where it was stopped
	$(BIN)/python -m benchmarks.evidence_text --out evidence-text-out
	$(BIN)/python -m benchmarks.evidence_text --figures --out evidence-text-out

evidence-tune: .venv/installed  ## what one percent of the weights reach beside all of them: hours on two cores; goes on where it was stopped
	$(BIN)/python -m benchmarks.evidence_tune --out tune-out
	$(BIN)/python -m benchmarks.evidence_tune --figures --out tune-out

bench-evaluation: .venv/installed  ## the figures of evaluation, beside clip_benchmark and open_clip: two hours, a quiet machine
	$(BIN)/python -m benchmarks.evaluation

check: .venv/installed  ## style, types, layers, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md CITATION.cff docs bow pipelines training eval fistful/*.py fistful/verbs tests benchmarks

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf demo-out photos-out evidence-out masking-out evidence-text-out tune-out site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
