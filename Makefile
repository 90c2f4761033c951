# Everything that one does with this repository. `make help` lists it.

PYTHON ?= python3
PREFIX ?= /usr/local
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps

# What the tests, the demo and the benchmark run beside ocirun itself.
DEBIAN_PACKAGES := busybox-static runc crun strace skopeo umoci gcc libc6-dev uidmap dbus-daemon
DEBIAN_PACKAGES += libseccomp2 man-db mandoc zsh fish
# The kernels of tests/lab. What apt cannot install is told by the tests that skip.
LAB_PACKAGES := user-mode-linux qemu-system-x86 debootstrap e2fsprogs
# The engines of tests/engines, without their services (tools/setup.sh).
ENGINE_PACKAGES := podman conmon netavark golang-github-containers-common catatonit buildah
ENGINE_PACKAGES += docker.io docker-compose containerd containernetworking-plugins iptables nftables slirp4netns crun uidmap bsdutils iproute2
PYTHON_DIRS := $(wildcard ocirun tools tests bench bundles)
LAUNCHER := build/prefix/bin/ocirun

# Python is new enough and can make a virtual environment (Debian: a package of its own).
CHECK_PYTHON = \
    $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo 'Python 3.11 or later is needed: make PYTHON=/path/to/python3' >&2; exit 1; }; \
    $(PYTHON) -c 'import ensurepip' 2>/dev/null || tools/setup.sh python3-venv

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore

.DELETE_ON_ERROR:
.PHONY: help setup demo test test-engines lab follow lab-shell lint types generated generate format bench install uninstall clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do \
	    printf '  make %-12s %s\n' "$$name" "$$text"; done

setup: $(STAMPS)/setup $(LAUNCHER) build/probe ## make .venv, install what is missing, build the launcher

demo: setup ## see a container run, step by step (as root)
	@OCIRUN=$(abspath $(LAUNCHER)) tools/demo.sh </dev/null

# They wait most of their time. The engines' files are shared by three processes.
LABS := $(BIN)/python -m pytest tests/lab
ENGINES := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder tests/engines
test: setup lint types generated ## run everything: style, types, generated files, all tests
	@log=$$(mktemp); \
	setsid sh -c '$(LABS); labs=$$?; $(ENGINES) && exit $$labs' >$$log 2>&1 & other=$$!; \
	trap 'kill -- -$$other 2>/dev/null; rm -f $$log; exit 130' INT TERM; status=0; \
	$(BIN)/python -m pytest --ignore=tests/lab --ignore=tests/engines || status=$$?; \
	echo 'test: waiting for the labs and the engines, which run beside the rest'; \
	wait $$other || status=$$?; cat $$log; rm -f $$log; exit $$status

ENGINE_RUNTIMES ?= runc ocirun
test-engines: setup ## Podman, Docker, Swarm, containerd, Buildah with ENGINE_RUNTIMES='runc crun ocirun'
	@ENGINE_RUNTIMES='$(ENGINE_RUNTIMES)' $(ENGINES) -q

# The labs' command line: LAB=uml TESTS='tests/e2e/test_pure_v2.py -k memory'
LAB ?= uml
TESTS ?= tests/root/test_cgroups_v2_limits.py
lab: setup ## run TESTS='paths, options of pytest' in LAB=uml or qemu (docs/labs.md)
	@PYTHONPATH=tests $(BIN)/python -m lab $(LAB) $(TESTS)

follow: setup ## follow docs/engines.md step by step on a clean Debian (LAB=page)
	@PYTHONPATH=tests $(BIN)/python -m lab page /usr/bin/python3 tests/lab/follow.py

lab-shell: setup ## a shell in LAB=uml or qemu
	@PYTHONPATH=tests $(BIN)/python -m lab $(LAB)

lint: $(STAMPS)/setup ## check style and formatting
	@$(BIN)/ruff check --quiet $(PYTHON_DIRS)
	@$(BIN)/ruff format --check --quiet $(PYTHON_DIRS) || \
	    { echo 'lint: formatting differs: run `make format`' >&2; exit 1; }

types: $(STAMPS)/setup ## check the types, strictly
	@$(BIN)/mypy

generated: $(STAMPS)/setup ## check that the generated files are current
	@$(BIN)/python -m tools.gen_table --check
	@$(BIN)/python -m tools.gen_man --check
	@$(BIN)/python -m tools.gen_fastcheck --check
	@$(BIN)/python -m tools.gen_coverage --check

generate: $(STAMPS)/setup ## write the generated files again
	@$(BIN)/python -m tools.gen_table
	@$(BIN)/python -m tools.gen_man
	@$(BIN)/python -m tools.gen_fastcheck
	@$(BIN)/python -m tools.gen_coverage

format: $(STAMPS)/setup ## format the code
	@$(BIN)/ruff check --quiet --fix $(PYTHON_DIRS)
	@$(BIN)/ruff format $(PYTHON_DIRS)

bench: setup ## compare the speed with runc and crun (as root)
	@$(BIN)/python bench/run.py
	@$(BIN)/python bench/library.py
	@$(BIN)/python bench/docker.py

install: ## install under PREFIX (default /usr/local)
	@[ -x $(BIN)/python ] || { $(CHECK_PYTHON); }
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) tools/install.py "$(PREFIX)"

uninstall: ## remove what install made under PREFIX
	@$(PYTHON) tools/install.py --remove "$(PREFIX)"

clean: ## remove what was built; keeps .venv
	rm -rf build dist $(STAMPS) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find ocirun tools tests bench bundles -name __pycache__ -prune -exec rm -rf {} +

$(STAMPS)/setup: constraints.txt tools/setup.sh Makefile
	@tools/setup.sh $(DEBIAN_PACKAGES)
	@mkdir -p $(STAMPS) && tools/setup.sh --optional $(STAMPS)/lab-packages $(LAB_PACKAGES)
	@tools/setup.sh --optional $(STAMPS)/engine-packages $(ENGINE_PACKAGES)
	@[ -x $(BIN)/python ] || { $(CHECK_PYTHON); }
	@[ -x $(BIN)/python ] || { echo 'setup: making $(VENV)'; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet -r constraints.txt
	@mkdir -p $(STAMPS) && touch $@

build/probe: tests/probe/probe.c
	@mkdir -p build
	@gcc -O1 -Wall -Wextra -Wno-format-truncation -static -o $@ $<

$(LAUNCHER): $(STAMPS)/setup tools/install.py
	@$(BIN)/python tools/install.py --editable build/prefix
