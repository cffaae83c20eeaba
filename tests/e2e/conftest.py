# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One site for all tests here: the demo's host, and two more that are watched, each with a real Ollama of its own."""

from __future__ import annotations

import os
import secrets
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "servers")]

from demo import Demo  # noqa: E402
from running_site import CRASHES, HANGS, QUIET, Site  # noqa: E402


@pytest.fixture(scope="session")
def site():
    demo = Demo(os.environ.get("AISTACK_RUN") or "e2e" + secrets.token_hex(3))
    one = Site(demo)
    try:
        demo.make_hosts((HANGS, CRASHES))
        demo.set(observability_thresholds=QUIET)
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
