# The two commands a new user needs are `make reproduce` and `make test`; both set up all they need first.
PYTHON ?= python3
VENV ?= .venv
OUT ?= build/paper
TRAIN_OUT ?= build/scenes
CC ?= gcc
WORKERS ?= $(shell nproc)

python := $(VENV)/bin/python
c_sources := $(wildcard csrc/edgeinfer/*.c)
c_headers := $(wildcard csrc/edgeinfer/*.h csrc/edgeinfer/*.inc csrc/tests/*.h)
c_tests := $(patsubst csrc/tests/%.c,%,$(wildcard csrc/tests/test_*.c))
c_warnings := -Wall -Wextra -Wconversion -Wshadow -Wcast-qual -Werror
c_flags := -std=c11 -g -ffp-contract=off -Icsrc $(c_warnings)
gsl = $(shell pkg-config --cflags --libs gsl)
# The allocation-failure tests stand between the core and these functions.
wrap := csrc/tests/failing_malloc.c -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=free

.PHONY: help reproduce test train bench bench-history wheel lint ctest ctest-sanitize pytest pytest-sanitize docs install-core setup clean signalling

help:
	@echo "make reproduce   draw every figure and table of the paper into $(OUT)"
	@echo "make test        C tests, Python tests, doctests and notebooks"
	@echo "make train       train the shipped text-to-image cascade and the planner again, from nothing to ONNX, into $(TRAIN_OUT)"
	@echo "make bench       benchmarks, each beside its rival and its floor"
	@echo "make bench-history RANGE=A..B   ratios to rivals, commit by commit"
	@echo "make lint        ruff, mypy, clang-format, exported symbols"
	@echo "make docs        the documentation site into build/docs; every page's code runs"
	@echo "make install-core PREFIX=DIR   the C core as a library: headers, libedgeinfer.a and .so, a pkg-config file"
	@echo "make wheel       manylinux wheel for every Python with a private GSL, and an sdist; ARCHITECTURE=aarch64 for another processor"

reproduce: $(VENV)/.paper
	$(VENV)/bin/edgeinfer reproduce --out $(OUT)
	@echo "open $(abspath $(OUT))/index.html"

test: ctest pytest

# Sets of extras that are wanted together cost one build of the core and one search for packages.
SETS ?= test
setup: | system-packages
	$(call install,$(SETS))

# One stamp for each set of extras, so that reproducing the paper does not wait for the test tools.
$(VENV)/.%: pyproject.toml setup.py $(c_sources) $(wildcard csrc/edgeinfer/*.h csrc/edgeinfer/*.inc csrc/python/*) | system-packages
	$(call install,$*)

space := $() $()
comma := ,
define install
test -x $(python) || $(PYTHON) -m venv $(VENV)
$(python) -m pip install --quiet --upgrade pip
$(python) -m pip install --quiet --editable ".[$(subst $(space),$(comma),$(strip $1))]"
touch $(addprefix $(VENV)/.,$1)
endef

.PHONY: system-packages
system-packages:
	@PYTHON="$(PYTHON)" sh scripts/system-packages.sh

# As many at a time as there are processors, what each says in one piece.
ctest ctest-sanitize: system-packages
	@$(MAKE) --no-print-directory -j $(WORKERS) --output-sync=target $(c_tests:%=build/$@/%.passed)

# No such file comes to be, so that every test runs.
build/ctest/%.passed: build/ctest/%
	@echo "$<"; "$<"

build/ctest-sanitize/%.passed: build/ctest-sanitize/%
	@echo "$<"; "$<"

# Every C test takes the same objects of the core, compiled once and kept: those of `install-core`, or sanitized ones.
core_objects := $(c_sources:csrc/edgeinfer/%.c=build/core/%.o)
sanitized_objects := $(c_sources:csrc/edgeinfer/%.c=build/ctest-sanitize/core/%.o)
.SECONDARY: $(core_objects) $(sanitized_objects) $(foreach kind,ctest ctest-sanitize,$(c_tests:%=build/$(kind)/%))
plain := -O3 -fPIC -pthread
sanitized := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

build/core/%.o: csrc/edgeinfer/%.c $(c_headers) | system-packages
	@mkdir -p $(@D)
	$(CC) $(c_flags) $(plain) $(shell pkg-config --cflags gsl) -c $< -o $@

build/ctest-sanitize/core/%.o: csrc/edgeinfer/%.c $(c_headers) | system-packages
	@mkdir -p $(@D)
	$(CC) $(c_flags) $(sanitized) $(shell pkg-config --cflags gsl) -c $< -o $@

build/ctest/%: csrc/tests/%.c $(core_objects) csrc/tests/failing_malloc.c $(c_headers)
	@mkdir -p $(@D)
	$(CC) $(c_flags) $(plain) $< $(filter %.o,$^) $(wrap) -o $@ $(gsl) -lm -pthread

build/ctest-sanitize/%: csrc/tests/%.c $(sanitized_objects) csrc/tests/failing_malloc.c $(c_headers)
	$(CC) $(c_flags) $(sanitized) $< $(filter %.o,$^) $(wrap) -o $@ $(gsl) -lm -pthread

# Where there is a worker for each processor, threads of the libraries' own would wait for each other.
pytest pytest-sanitize docs: export OPENBLAS_NUM_THREADS = 1
pytest pytest-sanitize docs: export OMP_NUM_THREADS = 1

pytest: $(VENV)/.test
	$(python) -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGUMENTS)

# The extension once more, built with the sanitizers, under the tests of the core.
pytest-sanitize: $(VENV)/.test
	PYTHON=$(abspath $(python)) CC="$(CC)" WORKERS=$(WORKERS) sh scripts/pytest-sanitize.sh

# Stopped, it goes on from its checkpoints. To ship the result, replace edgeinfer/network/models/scenes with model/.
train: $(VENV)/.train
	$(python) training/train.py --out $(TRAIN_OUT)
	$(python) training/evaluate.py $(TRAIN_OUT)/model --out $(TRAIN_OUT)/evaluation.json --sheet $(TRAIN_OUT)/sheet.png
	$(python) training/planner.py --out $(TRAIN_OUT)/planner_small

# Twice, since kernels of notebooks that run side by side may take each other's ports, and one then does not start.
sphinx = $(python) -m sphinx -q -W --keep-going -j $(WORKERS) -b html docs build/docs
docs: $(VENV)/.docs
	$(sphinx) || $(sphinx)
	@echo "open $(abspath build/docs)/index.html"

PREFIX ?= /usr/local
install-core: $(core_objects)
	sh scripts/install-core.sh "$(PREFIX)" "$(CC)" $(core_objects)

bench: $(VENV)/.benchmarks
	@set -e; for benchmark in benchmarks/bench_*.py; do echo; echo "== $$benchmark"; $(python) $$benchmark; done

# Ratios to rivals over commits, RANGE as git has it; build/asv/html shows them.
RANGE ?= HEAD^!
bench-history: $(VENV)/.history
	cd benchmarks/history && $(abspath $(VENV))/bin/asv machine --yes && $(abspath $(VENV))/bin/asv run "$(RANGE)"
	cd benchmarks/history && $(abspath $(VENV))/bin/asv publish

lint: $(VENV)/.lint $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run --Werror $(wildcard csrc/*/*.c csrc/*/*.h csrc/*/*.inc)
	$(VENV)/bin/check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/check-jsonschema -q --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	sh scripts/exported-symbols.sh $(CC)

# The messages are generated by an old compiler, whose output every later protobuf accepts; tests compare them with the text.
signalling:
	test -x build/protoc/bin/python || $(PYTHON) -m venv build/protoc
	build/protoc/bin/python -m pip install --quiet "grpcio-tools==1.62.3" "setuptools<80"
	build/protoc/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. edgeinfer/bridge/wire/signalling.proto

wheel: $(VENV)/.wheel
	PYTHON=$(abspath $(python)) ARCHITECTURE=$(ARCHITECTURE) sh scripts/wheel.sh

clean:
	rm -rf build dist *.egg-info edgeinfer/*.so
