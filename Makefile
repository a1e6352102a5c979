# Each target makes the environment it needs, from the package index alone.
PYTHON ?= python3
# The oldest versions that pyproject.toml allows.
OLDEST := openai==2.0.0 chevron==0.14.0 python-dotenv==1.0.0 opentelemetry-api==1.20.0 opentelemetry-sdk==1.20.0 sentencex==1.0.30 markdown-it-py==4.0.0 nh3==0.3.0 trustme==1.2.0

# An environment that was made with another interpreter must not be taken for this one's.
IDENTITY := import sys; print(sys.version, sys.base_prefix)
ifeq ($(filter clean,$(MAKECMDGOALS)),)
$(foreach python,$(wildcard .venv*/bin/python),$(if \
    $(shell test "`$(python) -c '$(IDENTITY)'`" = "`$(PYTHON) -c '$(IDENTITY)'`" || echo other), \
    $(error expected environments of PYTHON=$(PYTHON), got $(python), which is of another one: run "make clean" first)))
endif

.PHONY: demo check docs test lint test-newest test-oldest test-slow-path test-other-platform test-next test-dist dist coverage test-engine test-browser bench demo-recording clean

demo: .venv/demo
	@.venv/bin/python examples/run_stream.py

# For the daily loop, in half a minute: no sockets, no processes, and nothing whose growth is measured.
check: lint
	.venv/bin/python -m pytest -q -m pure --mutations=2000 -k "not linear and not grows and not huge and not bomb"

# The environments side by side, because they wait for the network; then the suites, because each keeps one core busy.
# What they print comes when each of them has ended, where make can keep it apart.
test:
	$(MAKE) --jobs=2 .venv/test .venv-oldest/test
	$(MAKE) lint
	$(MAKE) --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) test-newest test-oldest

lint: .venv/test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

test-newest: .venv/test
	.venv/bin/python -m pytest

test-oldest: .venv-oldest/test
	.venv-oldest/bin/python -m pytest

# Every body through the HTTP library, as on a platform or with a client where the fast path cannot be taken.
test-slow-path: .venv/test
	.venv/bin/python -m pytest --no-fast-path

# As on Windows, as far as that can be done here: no shutdown() that wakes, no poll(), no fork, a coarse clock.
test-other-platform: .venv/test
	.venv/bin/python -m pytest --other-platform

# A canary: pre-releases of the official client and of its HTTP libraries, also of a next major version.
test-next: .venv-next/test
	.venv-next/bin/python -m pytest

# dist/: a source archive and a wheel, and the tests of the one with each of them installed in an empty environment.
# The wheel holds the package alone. Its 213 kB, deflated: code 127, docstrings 51, comments 15, names and README 20.
dist: .venv-build/build
	rm -rf dist
	.venv-build/bin/python -m build
	.venv-build/bin/twine check --strict dist/*
	test $$(cat dist/*.whl | wc -c) -lt 225000
	$(MAKE) test-dist KIND=whl
	$(MAKE) test-dist KIND=tar.gz

test-dist:
	rm -rf .venv-dist
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --quiet --upgrade pip
	.venv-dist/bin/python -m pip install --quiet dist/*.$(KIND) --group test
	mkdir .venv-dist/source
	tar -xzf dist/*.tar.gz -C .venv-dist/source --strip-components=1
	rm -r .venv-dist/source/blades
	cd .venv-dist/source && ../bin/python -m pytest $(PYTEST)

# Not what the tests are judged by: the tracer takes half their time again, and holds threads up.
coverage: .venv/test
	.venv/bin/python -m pytest --cov --cov-report=term

# Against a real inference engine; downloads some hundred megabytes. CPU torch comes first, so that no CUDA build is
# pulled in; where the package index has CUDA builds only, set PIP_EXTRA_INDEX_URL to PyTorch's own index of CPU builds.
test-engine: .venv-engine/test
	.venv-engine/bin/python -m pytest -v -s tests/engine/checks.py

# In a real JupyterLab; needs Chromium and its driver (Debian: apt-get install chromium chromium-driver).
test-browser: .venv-browser/test
	PYTHONPATH=tests .venv-browser/bin/python -m pytest -v -s tests/browser/checks.py

# Half an hour, on a machine that has nothing else to do; with PEERS=1 other clients are measured as well.
bench: .venv/bench
	.venv/bin/python benchmarks/run.py $(if $(PEERS),--peers)

# The site, in site/: index.html opens from the disk. Warnings are errors.
docs: .venv-docs/docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

# docs/demo.svg, from a real run of the demo.
demo-recording: .venv/bench
	.venv/bin/python benchmarks/record_demo.py

.venv/demo: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --editable .
	touch $@

.venv/test: pyproject.toml .venv/demo
	.venv/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable . --group lint --group test
	touch $@

.venv/bench: pyproject.toml .venv/demo
	.venv/bin/python -m pip install --quiet --upgrade --editable . --group bench
	touch $@

.venv-oldest/test: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --upgrade pip
	.venv-oldest/bin/python -m pip install --quiet --editable . --group test $(OLDEST)
	touch $@

.venv-next/test: pyproject.toml
	$(PYTHON) -m venv .venv-next
	.venv-next/bin/python -m pip install --quiet --upgrade pip
	.venv-next/bin/python -m pip install --quiet --editable . --group test
	.venv-next/bin/python -m pip install --quiet --pre --upgrade openai httpx httpcore httpx2 httpcore2
	touch $@

.venv-build/build: pyproject.toml
	$(PYTHON) -m venv .venv-build
	.venv-build/bin/python -m pip install --quiet --upgrade pip
	.venv-build/bin/python -m pip install --quiet build twine
	touch $@

.venv-browser/test: pyproject.toml
	$(PYTHON) -m venv .venv-browser
	.venv-browser/bin/python -m pip install --quiet --upgrade pip
	.venv-browser/bin/python -m pip install --quiet --editable '.[notebook]' jupyterlab ipywidgets selenium pytest
	touch $@

.venv-docs/docs: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --upgrade pip
	.venv-docs/bin/python -m pip install --quiet --group docs
	touch $@

.venv-engine/test: pyproject.toml
	$(PYTHON) -m venv .venv-engine
	.venv-engine/bin/python -m pip install --quiet --upgrade pip
	.venv-engine/bin/python -m pip install --quiet torch==2.13.0
	.venv-engine/bin/python -m pip install --quiet --editable . 'transformers[serving]' pytest
	touch $@

clean:
	rm -rf dist .venv .venv-oldest .venv-next .venv-build .venv-dist .venv-engine .venv-browser .venv-docs .venv-peers site .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
