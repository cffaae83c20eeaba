# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Development and tests. `make help` lists what there is. The image comes before the servers, so that a
# missing Docker is said at once, not after half an hour of building.

PYTHON ?= python3
LINK = .collections/ansible_collections/aistack/observability

.DEFAULT_GOAL := help
.PHONY: help venv venv-2.19 link host-image servers clean-hosts demo demo-down test bench docs lint

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: link  ## .venv with the newest Ansible that the newest Python here can run, and all test tools
	@$(PYTHON) tests/servers/venv.py .venv

venv-2.19: link  ## .venv-2.19 with the oldest supported Ansible
	@$(PYTHON) tests/servers/venv.py .venv-2.19 --core 2.19

link: $(LINK)  ## makes this checkout visible to Ansible as the collection aistack.observability

$(LINK):
	@mkdir -p $(@D) && ln -sfn ../../.. $@

host-image: venv  ## the images of the throwaway hosts that the tests run on
	@.venv/bin/python tests/servers/host.py image --all

servers: venv  ## the real servers that the tests and the demo run, built or fetched into the cache
	@.venv/bin/python tests/servers/servers.py build

clean-hosts:  ## removes every throwaway host, also those of interrupted runs
	@$(PYTHON) tests/servers/host.py down --label aistack.run

demo: host-image servers  ## everything from nothing on a throwaway host: a real Ollama, and the site that watches it
	@.venv/bin/python tests/servers/demo.py up

demo-down:  ## removes the demo's host and all that was generated for it
	@$(PYTHON) tests/servers/demo.py down

test: venv  ## lint, unit, rule and contract tests, the engine's faults, every Molecule scenario, end to end
	@.venv/bin/python tests/run.py

bench: host-image servers  ## how long runs take, and what the logs carry; writes docs/benchmarks.md
	@.venv/bin/python tests/bench/site.py
	@.venv/bin/python tests/bench/logs.py

docs: venv  ## what is generated and checked in: docs/roles.md from the roles' specs, the mixins' dashboard.json
	@.venv/bin/python docs/roles_page.py > docs/roles.md
	@.venv/bin/python mixins/dashboards.py

lint: venv
	@PATH=$(CURDIR)/.venv/bin:$$PATH ansible-lint --offline -q
	@.venv/bin/yamllint --strict .
	@.venv/bin/ruff check -q .
	@.venv/bin/mypy --config-file pyproject.toml
	@PATH=$(CURDIR)/.venv/bin:$$PATH .venv/bin/antsibull-changelog lint
	@.venv/bin/python mixins/dashboards.py --check
	@.venv/bin/python docs/roles_page.py | diff -u docs/roles.md - || (echo "docs/roles.md is old: make docs" && false)
