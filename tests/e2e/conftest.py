# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three sites, each made once for all tests that ask for it.

`site`: the demo's host, and two more that are watched, each with a real Ollama of its own. `grafana_site`: the demo's
host alone, where Grafana, Keycloak and PostgreSQL are looked at. `logs_site`: the demo's host with Alloy, and one that
is watched with Promtail.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "servers")]

from demo import MAIN, Demo  # noqa: E402
from running_site import ALARMED, CRASHES, HANGS, LOG_SOURCES, QUIET, WATCHED, Site  # noqa: E402

# The hosts of a test stage are removed by its run id; a second site in the same session needs one of its own.
RUN_IDS = iter([RUN := os.environ.get("AISTACK_RUN") or "e2e" + secrets.token_hex(3), RUN + "b"])


@contextlib.contextmanager
def running(watched=(), own=None, flavour="", **variables):
    demo = Demo(next(RUN_IDS))
    demo.own = own or {}
    one = Site(demo)
    one.variables = variables
    try:
        demo.make_hosts(watched, flavour)
        demo.set(**variables)
        if not demo.prepare():
            with open(demo.log, encoding="utf-8") as log:
                pytest.fail(log.read()[-6000:], pytrace=False)
        one.play("site.yml")
        one.watch()
        yield one
    finally:
        if one._watcher.is_alive():
            one.stop()
        demo.down()


@pytest.fixture(scope="session")
def site():
    with running((HANGS, CRASHES), observability_thresholds=QUIET) as one:
        yield one


@pytest.fixture(scope="session")
def logs_site():
    with running((WATCHED,), {MAIN: LOG_SOURCES, WATCHED: {**LOG_SOURCES, "log_shipper": "promtail"}},
                 "docker", observability_thresholds=QUIET) as one:
        yield one


@pytest.fixture(scope="session")
def grafana_site():
    """Its thresholds are passed from the start: alerts wait for five minutes, and other things are tried meanwhile.

    Grafana notices earlier than usual that a session has ended in Keycloak.
    """
    with running(observability_thresholds=ALARMED, keycloak_client_token_lifespan=20) as one:
        one.demo.let_in()
        yield one
