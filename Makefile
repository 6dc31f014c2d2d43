# Two commands matter: `make demo` shows it, `make test` is all that CI runs. Both set up what they need.

VENV := .venv
PY := $(VENV)/bin/python
NODE_MODULES := extension/node_modules/.package-lock.json
STATIC := onthefly/hub/static

.PHONY: demo test check-python check-dashboard browsers vsix pytest faults fidelity bench types dashboard format clean

$(VENV)/bin/python:
	python3 -m venv $(VENV)

# torch is pinned by constraints.txt, unless the environment holds one that serves (a bare torch brings CUDA's gigabytes).
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PY) scripts/install.py '.[examples]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PY) scripts/install.py '.[dev,examples]'
	touch $@ $(VENV)/.demo

# Frameworks that only the full tier tests.
$(VENV)/.full: $(VENV)/.dev
	$(PY) scripts/install.py '.[dev,examples,frameworks]'
	touch $@

demo: $(VENV)/.demo
	$(PY) scripts/demo.py

# At the same time what neither needs the other nor measures time: what is downloaded, and what is checked.
test: $(VENV)/bin/python
	$(MAKE) -j3 --output-sync=recurse check-python check-dashboard browsers
	$(MAKE) pytest

$(NODE_MODULES): extension/package-lock.json $(VENV)/bin/python
	$(PY) scripts/node.py ci
	touch $@

check-python: $(VENV)/.dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(VENV)/bin/pyright
	$(PY) extension/dashboard/scripts/generate_types.py --check

# Rebuilt and compared: users install without Node, so what is committed is what they run.
check-dashboard: $(VENV)/bin/python $(NODE_MODULES)
	$(PY) scripts/node.py run typecheck
	$(PY) scripts/node.py run lint
	$(PY) scripts/node.py run test
	$(PY) scripts/node.py run build
	git diff --exit-code --stat -- $(STATIC)
	test -z "$$(git status --porcelain -- $(STATIC))"
	$(PY) scripts/node.py run package

# The VS Code extension, with the dashboard inside: dist/onthefly.vsix.
vsix: $(VENV)/bin/python $(NODE_MODULES)
	$(PY) scripts/node.py run build
	$(PY) scripts/node.py run package

# What the tests drive: Chromium, and a VS Code that is served to it.
browsers: $(VENV)/bin/python
	$(PY) scripts/chromium.py
	$(PY) -m scripts.vscode

pytest: $(VENV)/.dev browsers
	$(VENV)/bin/pytest -m alone --dear 0.2
	$(VENV)/bin/pytest -m "not alone" -n 2 --dist loadfile --dear 0.2

# Every suite with its full counts; writes docs/reliability.md.
faults: $(VENV)/.full browsers
	$(PY) scripts/faults.py

# Loops, losses and frameworks against brute force; writes docs/fidelity.md.
fidelity: $(VENV)/.full
	$(PY) scripts/fidelity.py

bench: $(VENV)/.dev
	$(PY) -m tests.bench

types: $(VENV)/.dev
	$(PY) extension/dashboard/scripts/generate_types.py

dashboard: types $(NODE_MODULES)
	$(PY) scripts/node.py run build

format: $(VENV)/.dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) .tools extension/node_modules extension/*/node_modules extension/host/dist dist
