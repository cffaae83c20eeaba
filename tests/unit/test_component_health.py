# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The question, and whose answer it is."""

import pytest
from ansible_collections.aistack.observability.plugins.module_utils.component import health

METRICS = "# HELP a b\nreload_ok 1\nreload_at{} 1.7e+09\nlabelled{a=\"b\"} 2\nodd NaN\n"
NAMES = {"url": "http://x/", "success": "reload_ok", "time": "reload_at"}


@pytest.mark.parametrize("name, value", [
    ("reload_ok", 1), ("reload_at", 1.7e9), ("labelled", None), ("reload", None), ("odd", None)])
def test_metric(name, value):
    assert health.metric(METRICS, name) == value


def test_a_unit_owns_its_processes_only():
    ours = "0::/system.slice/toy.service\n"
    assert health.belongs_to(ours, "toy.service")
    assert health.belongs_to("0::/system.slice/system-toy.slice/toy@a.service/sub\n", "toy@a.service")
    assert not health.belongs_to(ours, "oy.service") and not health.belongs_to("0::/docker/abc\n", "toy.service")


class Told:
    def __init__(self, body, code=200):
        self.answer = code, body

    def ask(self, _url):
        return self.answer


@pytest.mark.parametrize("body, asked_at, loaded", [
    ("reload_ok 1\nreload_at 100.5", 100.4, True), ("reload_ok 1\nreload_at 100.5", 100.6, False),
    ("reload_ok 0\nreload_at 100.5", 100.4, False), ("reload_ok 1\nreload_at 100", 100.9, True),
    ("reload_ok 1\nreload_at 99", 100.9, False), ("", 1, False)])
def test_a_reload_is_done_when_the_program_says_so(body, asked_at, loaded):
    trouble, _body = health._reloaded(Told(body), NAMES, asked_at)
    assert (trouble == "") is loaded


def test_our_own_listening_socket_is_found():
    import os
    import socket
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert [holder[0] for holder in health.holders(port)] == [os.getpid()]
    assert health.holders(port) == []
