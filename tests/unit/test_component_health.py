# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The question, and whose answer it is."""

import calendar
import http.server
import json
import threading
import time

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


class Alertmanager(http.server.BaseHTTPRequestHandler):
    """Remembers what silences were asked of it."""

    asked: list = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ends = calendar.timegm(time.strptime(body["endsAt"], "%Y-%m-%dT%H:%M:%SZ"))
        self.asked.append(("placed", ends - time.time()))
        self._answer({"silenceID": f"silence-{len(self.asked)}"})

    def do_DELETE(self):
        self.asked.append(("expired", self.path.rsplit("/", 1)[-1]))
        self._answer({})

    def _answer(self, document):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def silence():
    Alertmanager.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Alertmanager)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield health.Silence({"urls": [f"http://127.0.0.1:{server.server_address[1]}"], "matchers": {"a": "b"}}, "toy")
    server.shutdown()
    server.server_close()


def test_a_silence_ends_with_a_short_outage(silence):
    assert silence.begin() == "" and silence.begin() == ""
    (_url, identity), = silence.placed
    silence.end()
    silence.end()
    assert [what for what, _value in Alertmanager.asked] == ["placed", "expired"]
    assert Alertmanager.asked[0][1] > 590 and Alertmanager.asked[1][1] == identity


def test_a_silence_outlives_a_long_outage_by_what_an_alert_holds_on(silence):
    silence.begin()
    silence._begun -= silence.SHORT + 1
    silence.end()
    assert [what for what, _value in Alertmanager.asked] == ["placed", "placed", "expired"]
    assert 170 < Alertmanager.asked[1][1] <= 180 and Alertmanager.asked[2][1] == "silence-1"


def test_our_own_listening_socket_is_found():
    import os
    import socket
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert [holder[0] for holder in health.holders(port)] == [os.getpid()]
    assert health.holders(port) == []
