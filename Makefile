# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Development and tests. `make help` lists what there is.

PYTHON ?= python3
# A lock, so that two makes side by side do not build the same environment.
VENV = flock .venv.lock $(PYTHON) tests/servers/venv.py
LINK = .collections/ansible_collections/aistack/observability

.DEFAULT_GOAL := help
.PHONY: help venv venv-2.19 link host-image servers clean-hosts

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: link  ## .venv with the newest Ansible that the newest Python here can run, and all test tools
	@$(VENV) .venv

venv-2.19: link  ## .venv-2.19 with the oldest supported Ansible
	@$(VENV) .venv-2.19 --core 2.19

link: $(LINK)  ## makes this checkout visible to Ansible as the collection aistack.observability

$(LINK):
	@mkdir -p $(@D) && ln -sfn ../../.. $@

host-image: venv  ## the image of the throwaway host that the tests run on
	@.venv/bin/python tests/servers/host.py image

servers: venv  ## the real servers that the tests and the demo run, built or fetched into the cache
	@.venv/bin/python tests/servers/servers.py build

clean-hosts:  ## removes every throwaway host, also those of interrupted runs
	@$(PYTHON) tests/servers/host.py down --label aistack.run
