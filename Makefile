# `make run`: the main job. `make test`: the tests; `make check`: those that start no process.
# Needs python3 (3.10 to 3.13), make, and the
# package registries for the first call; with ROS 2 sourced, that ROS is used. Another Python:
# `make run PYTHON=python3.12`; more for the main job: `make run ARGS='--duration 120'`. Where ROS
# comes from wheels: `make run ROS_WHEELS=9.1` takes those of ROS 2 Kilted, in an environment of
# their own, and `make test-wheels` tries both kinds.

PYTHON ?= python3
# rclpy of the wheels: 7.1 (Jazzy) or 9.1 (Kilted); its extra in setup.py is the next line.
ROS_WHEELS ?= 7.1
ROS_EXTRA := $(if $(filter 7.1%,$(ROS_WHEELS)),ros,$(if $(filter 9.1%,$(ROS_WHEELS)),ros-kilted,\
    $(error ROS_WHEELS is '$(ROS_WHEELS)'; set it to 7.1 or 9.1)))
VENV ?= .venv$(if $(filter ros-kilted,$(ROS_EXTRA)),-kilted)
TORCH ?= torch==2.13.0
ARGS ?=

HAS_ROS := $(if $(ROS_DISTRO),$(shell $(PYTHON) -c 'import rclpy' 2>&1 || echo no),no)
ifeq ($(HAS_ROS),)
FLAVOUR := $(ROS_DISTRO)
EXTRAS := onnx,openvino,learning,tensorboard,test
# So that rclpy's message code, built against NumPy 1.26, goes on working.
CONSTRAINTS := 'numpy<2'
VENV_OPTIONS := --system-site-packages
else
FLAVOUR := wheels$(if $(filter ros-kilted,$(ROS_EXTRA)),-kilted)
EXTRAS := $(ROS_EXTRA),onnx,openvino,learning,tensorboard,test
endif

BIN := $(VENV)/bin
REQUIREMENTS := $(VENV)/.requirements-$(FLAVOUR)
PACKAGE := $(VENV)/.package
# With the folders, whose times tell of files that are gone.
SOURCES := package.xml setup.py setup.cfg $(shell \
    find config launch resource scripts stream_agent -name __pycache__ -prune -o -print)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

# What ROS 2 asks for the files of a package; neither pip nor the wheels set it.
export AMENT_PREFIX_PATH := $(abspath $(VENV))$(if $(AMENT_PREFIX_PATH),:$(AMENT_PREFIX_PATH))
export PATH := $(abspath $(BIN)):$(PATH)
# Empty, so that Python keeps what it has compiled, rather than compile it in every process.
export PYTHONDONTWRITEBYTECODE :=

# Each process begins with half of the files, so that a module's fixtures are made once.
TWO := --numprocesses 2 --dist worksteal

.PHONY: run check test slow test-wheels types soak coverage install clean

run: install
	$(BIN)/python -m stream_agent run $(ARGS)

# The gate is covered line by line, in a run of its own, since tracing slows all others down. Tests
# in real time come after those that compute, three at once, as they wait most of the time, and
# have one more try, as a machine that stands still for a second fails what it measures. With ARGS
# (as in `make test ARGS=test/theory`) only those tests run.
TRIES := --reruns 1 --reruns-delay 5
test: install
ifeq ($(ARGS),)
	$(BIN)/python -m pytest --quiet test/gate --cov=stream_agent.gate \
	    --cov-report=term-missing --cov-fail-under=100
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m '(not real_time or any_time) and not slow' $(TWO)
	$(BIN)/python -m pytest --quiet -m alone $(TRIES)
	$(BIN)/python -m pytest -m 'real_time and not any_time and not alone' --numprocesses 3 \
	    --dist worksteal $(TRIES)
else
	$(BIN)/python -m pytest $(ARGS)
endif

# The full forms of tests that `make test` has shorter ones of; a minute.
slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet -m 'slow and (not real_time or any_time)' \
	    $(TWO)

# What depends on the version of rclpy, with both kinds of wheels; the main job among it.
WHEELS_TESTS := test/nodes/test_messages.py test/nodes/test_command_types.py \
    test/nodes/test_prompt_end.py test/nodes/test_main_job.py test/nodes/test_robots.py \
    test/cli/test_run.py
test-wheels:
	$(if $(HAS_ROS),,$(error ROS is sourced, so no wheels are used; try it in a fresh shell))
	$(MAKE) test ARGS='--quiet --reruns 2 $(WHEELS_TESTS)' ROS_WHEELS=7.1
	$(MAKE) test ARGS='--quiet --reruns 2 $(WHEELS_TESTS)' ROS_WHEELS=9.1

# What needs no process and no DDS.
check: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet $(TWO) \
	    -m 'not real_time and not child_process and not slow and not thorough'

# What the annotations say; its settings are in setup.cfg.
types: install
	$(BIN)/python -m mypy

# The full forms of docs/safety.md, a quarter of an hour on idle cores.
soak: install
	$(BIN)/python -m pytest -s -m soak test/nodes
	$(BIN)/python benchmark/fuzz.py
	$(BIN)/python benchmark/soak.py --minutes 5

# Of all lines, by the tests that start no process; `make test` holds the gate's at 100 %.
coverage: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet $(TWO) \
	    -m 'not real_time and not child_process' --cov=stream_agent --cov-report=term:skip-covered

install: $(PACKAGE)

$(PACKAGE): $(REQUIREMENTS) $(SOURCES)
	rm -rf build/pip
	$(PIP) --no-build-isolation --no-deps --no-index --force-reinstall .
	@# ROS 2's own programs run under the system's Python, which knows no virtual environment.
	{ echo 'source "$(abspath $(BIN))/activate"'; \
	  echo 'export AMENT_PREFIX_PATH="$(abspath $(VENV))$${AMENT_PREFIX_PATH:+:$$AMENT_PREFIX_PATH}"'; \
	  echo "export PYTHONPATH=\"$$(echo $(abspath $(VENV))/lib/python3.*/site-packages)\$${PYTHONPATH:+:\$$PYTHONPATH}\""; \
	} > $(VENV)/setup.bash
	touch $@

$(REQUIREMENTS): setup.py Makefile
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || { \
	    echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); Python 3.10 to 3.13 is needed:" \
	    "make PYTHON=python3.12" >&2; exit 1; }
	@# An environment for another ROS is of no use to this one.
	if ls $(VENV)/.requirements-* 2>/dev/null | grep -qvx '$@'; then rm -rf $(VENV); fi
	$(PYTHON) -m venv $(VENV_OPTIONS) $(VENV)
	$(PIP) setuptools wheel
	rm -rf build/pip
	@# An OpenCV that is there stays, whatever package it came with.
	extras='$(EXTRAS)'; $(BIN)/python -c 'import cv2' 2>/dev/null || extras=$$extras,opencv; \
	    $(PIP) --no-build-isolation '$(TORCH)' $(CONSTRAINTS) ".[$$extras]"
	touch $@

clean:
	rm -rf $(VENV) .venv-kilted build/pip stream_agent.egg-info .pytest_cache .hypothesis .coverage \
	    .mypy_cache
	find stream_agent test -name __pycache__ -type d -prune -exec rm -rf {} +
