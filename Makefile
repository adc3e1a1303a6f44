# make run and make test do all their own set-up; Python 3.11 or later is all that must be there.
PYTHON ?= python3
# Asked for at the root, where no .python-version speaks: that file is for platforms, and any 3.11 or later will do here.
python := $(shell cd / && $(PYTHON) -c 'import sys; print(sys.executable)' 2>/dev/null || echo $(PYTHON))
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run demo install test chaos floods fuzz check screens bench bench-parts bench-sockets bench-scaling simulation mutants lock clean

run: $(VENV)/run
	@exec $(BIN)/python -m app

# What the server needs, and nothing else: for a machine where something else starts it.
install: $(VENV)/run

# A server, a Python peer and the page /demo, which walks a newcomer through a first connection.
demo: $(VENV)/dev
	@PYTHONPATH=examples:examples/python exec $(BIN)/python -m demo

# All tests; the rules' own branches must all be taken. ARGS='tests/test_ws.py -k waits' runs some.
test: $(VENV)/dev
ifdef ARGS
	$(BIN)/python -m pytest -q $(ARGS)
else
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -q -n 2 --dist loadfile --max-worker-restart=0
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report
endif

# Every fault for as long as it lasts in the field, with real processes and signals; takes a quarter of an hour.
chaos: $(VENV)/dev
	CHAOS=1 $(BIN)/python -m pytest -q -s tests/chaos

# Floods as large as in the field against a server with 500 devices, and a table of what they noticed; takes four minutes.
floods: $(VENV)/dev
	FLOODS=1 $(BIN)/python -m pytest -q -s tests/floods

# Devices and owners do whatever comes to their mind for about ten minutes, other things each time.
fuzz: $(VENV)/dev
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -q -o faulthandler_timeout=0 tests/test_authorization.py tests/test_several_books.py

# Pictures of every page, in build/screens.
screens: $(VENV)/dev
	$(BIN)/python -m pytest -q tests/screens.py

# Peerbook beside PeerJS server and bare relays, the same work for each, in one table. Takes about fifteen minutes and wants
# an idle machine; PeerJS and the relay on ws are left out, and named, where there is no Node.
bench: $(VENV)/dev
	$(BIN)/python -m bench.compare

# What a page, the check of an offer and a device that nobody wants cost, whether the time of an answer tells which addresses are known,
# how long a stop takes, and how long two peers take to connect.
bench-parts: $(VENV)/dev
	$(BIN)/python -m bench.pages
	$(BIN)/python -m bench.descriptions
	$(BIN)/python -m bench.dials
	$(BIN)/python -m bench.enumeration
	$(BIN)/python -m bench.stop
	$(BIN)/python -m bench.connects

# What a second process gives and takes, and how cost grows with the peers; takes some minutes and wants an idle machine.
bench-scaling: $(VENV)/dev
	$(BIN)/python -m bench.scaling

# What a relayed message and an idle device cost; takes two minutes and wants an idle machine.
bench-sockets: $(VENV)/dev
	$(BIN)/python -m bench.sockets

# The formulas of docs/scaling.md against 100,000 peers on 50 processes. Takes ten minutes and a gigabyte.
simulation: $(VENV)/dev
	$(BIN)/python -m bench.simulation

# Changes the rules one by one, and says which changes no test minds. Takes the better part of an hour.
mutants: $(VENV)/dev
	$(BIN)/python -m bench.mutants

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The exact versions with their hashes, for every platform and Python 3.11 on.
lock: $(VENV)/dev
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 \
		--no-header pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 \
		--no-header pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt

clean:
	rm -rf $(VENV) build .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(python) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "peerbook needs Python 3.11 or later; name one with make PYTHON=..." >&2; exit 1; }
	@$(python) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python lacks its venv module; on Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/run: requirements.txt | $(BIN)/python
	@echo "Installing what peerbook needs into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(VENV)/dev: requirements.txt requirements-dev.txt | $(BIN)/python
	@echo "Installing what the tests need into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@ $(VENV)/run
