# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does every log alert fire for the lines that it is meant for, and for no others? A running Loki, its ruler and a
Prometheus, with the lines of mixins/*/logs.corpus.yml.

Every case of a corpus is a host of its own, so what fires for it is seen apart from the others. Only how often the
rules are evaluated differs from a real site. What comes to people is in test_logs.py.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import signal
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import host
import pytest
import yaml
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import Mixins
from demo import free_ports
from running_site import wait_for

MIXINS = Mixins()
RULED = [name for name in MIXINS.names() if MIXINS.logs(name).get("groups")]
CORPUS = {name: yaml.safe_load((MIXINS.folder / name / "logs.corpus.yml").read_text(encoding="utf-8"))
          for name in RULED}
UNITS = {"s": 1, "m": 60, "h": 3600}


def cases():
    """(host, mixin, alert, whether it fires, the lines) of every case there is."""
    for name, texts in CORPUS.items():
        for alert, kinds in texts["alerts"].items():
            for kind, its in kinds.items():
                for number, case in enumerate(its):
                    yield (f"{kind}-{name}-{alert.lower()}-{number}", name, alert, kind == "fires",
                           case if isinstance(case, list) else [case])


CASES = list(cases())


def streams(place, name, lines, now):
    """Lines as a shipper would push them, the oldest first."""
    for entry in sorted(lines, key=lambda entry: -seconds(entry.get("ago", "0s"))):
        labels = {"host": place, "service": entry.get("service", name), "level": entry["level"], "stream": "journal"}
        text, times = entry["line"], entry.get("times", 1)
        text = text.ljust(entry.get("kilobytes", 0) * 1000, "x")
        end = now - seconds(entry.get("ago", "0s"))
        values = [[str(int((end - 50 * (times - number) / times) * 1e9)), text] for number in range(times)]
        for first in range(0, len(values), max(1, 3_000_000 // len(text))):
            yield {"stream": labels, "values": values[first:first + max(1, 3_000_000 // len(text))]}


def seconds(duration):
    number, unit = re.fullmatch(r"(\d+)([smh])", duration).groups()
    return int(number) * UNITS[unit]


class Sink(http.server.BaseHTTPRequestHandler):
    """Takes what Alertmanager would, and remembers it."""

    alerts: dict[tuple, dict] = {}

    def do_POST(self):
        for alert in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
            Sink.alerts[tuple(sorted(alert["labels"].items()))] = alert
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


class Running:
    """Loki with all log rules, the Prometheus that gets what it records, and what it told Alertmanager."""

    def __init__(self, folder):
        self.folder = folder
        self.loki, self.grpc, self.prometheus, self.sink = free_ports([0, 0, 0, 0])
        self.programs: list[subprocess.Popen] = []

    def ask(self, path, body=None, port=0):
        request = urllib.request.Request(f"http://127.0.0.1:{port or self.loki}{path}",
                                         None if body is None else json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def rules(self):
        """Every rule that the ruler evaluates."""
        return [rule for group in json.loads(self.ask("/prometheus/api/v1/rules"))["data"]["groups"]
                for rule in group["rules"]]

    def answers(self, port, path):
        def question():
            with contextlib.suppress(OSError):
                self.ask(path, port=port)
                return True
            assert all(program.poll() is None for program in self.programs), self.said()
            return False
        wait_for(f"an answer of {path}", question, 60)

    def said(self):
        return "".join(path.read_text(errors="replace")[-3000:] for path in self.folder.glob("*.log"))

    def start(self, *argv):
        with open(self.folder / f"{Path(argv[0]).name}.log", "wb") as log:
            self.programs.append(subprocess.Popen(argv, cwd=self.folder, stdout=log, stderr=log))

    def up(self, loki, prometheus):
        rules = self.folder / "rules" / "fake"
        rules.mkdir(parents=True)
        for file, document in MIXINS.log_rule_files(RULED).items():
            for group in document["groups"]:
                group["interval"] = "5s"
            (rules / file).write_text(json.dumps(document), encoding="utf-8")
        (self.folder / "loki.yml").write_text(json.dumps(self.settings()), encoding="utf-8")
        (self.folder / "prometheus.yml").write_text("{}", encoding="utf-8")
        self.start(prometheus, "--config.file=prometheus.yml", "--web.enable-remote-write-receiver",
                   f"--web.listen-address=127.0.0.1:{self.prometheus}")
        self.start(loki, "-config.file=loki.yml")
        self.answers(self.prometheus, "/-/ready")
        self.answers(self.loki, f"/loki/api/v1/query?query={quote('vector(1)')}")

    def settings(self):
        """Labels, ages and lengths as roles/loki sets them; the rest is what makes it one small program."""
        return {
            "auth_enabled": False,
            "analytics": {"reporting_enabled": False},
            "server": {"http_listen_address": "127.0.0.1", "http_listen_port": self.loki, "log_level": "warn",
                       "grpc_listen_address": "127.0.0.1", "grpc_listen_port": self.grpc,
                       "grpc_server_max_recv_msg_size": 2 ** 26, "grpc_server_max_send_msg_size": 2 ** 26},
            "common": {"path_prefix": str(self.folder / "data"), "instance_addr": "127.0.0.1", "replication_factor": 1,
                       "ring": {"kvstore": {"store": "inmemory"}},
                       "storage": {"filesystem": {"chunks_directory": str(self.folder / "data/chunks"),
                                                  "rules_directory": str(self.folder / "rules")}}},
            "frontend": {"address": "127.0.0.1"},
            "schema_config": {"configs": [{"from": "2024-01-01", "store": "tsdb", "object_store": "filesystem",
                                           "schema": "v13", "index": {"prefix": "index_", "period": "24h"}}]},
            "ingester": {"lifecycler": {"min_ready_duration": "0s"}},
            "limits_config": {"discover_log_levels": False, "discover_service_name": ["service"],
                              "shard_streams": {"enabled": False}, "max_line_size": "256KB",
                              "ingestion_rate_mb": 200, "ingestion_burst_size_mb": 200,
                              "per_stream_rate_limit": "200MB", "per_stream_rate_limit_burst": "200MB"},
            "ruler": {"storage": {"type": "local", "local": {"directory": str(self.folder / "rules")}},
                      "rule_path": str(self.folder / "data/rules"), "wal": {"dir": str(self.folder / "data/wal")},
                      "poll_interval": "5s", "enable_api": True,
                      "alertmanager_url": f"http://127.0.0.1:{self.sink}",
                      "remote_write": {"enabled": True, "add_org_id_header": False, "clients": {"prometheus": {
                          "url": f"http://127.0.0.1:{self.prometheus}/api/v1/write"}}}},
        }

    def push(self):
        now = time.time()
        hosts = [(place, name, lines) for place, name, _alert, _fires, lines in CASES]
        hosts += [(f"recordings-{name}", name, texts["recordings"]["lines"]) for name, texts in CORPUS.items()
                  if "recordings" in texts]
        batch: list[dict] = []
        for place, name, lines in hosts:
            for stream in streams(place, name, lines, now):
                batch.append(stream)
                if sum(len(value[1]) for one in batch for value in one["values"]) > 2_000_000:
                    self.ask("/loki/api/v1/push", {"streams": batch})
                    batch = []
        self.ask("/loki/api/v1/push", {"streams": batch})

    def evaluated(self, rounds=2):
        """Waits until every rule has been evaluated with all lines there, so often that its alerts were sent too."""
        for _round in range(rounds):
            since = time.time()

            def done(since=since):
                rules = self.rules()
                assert not [rule["lastError"] for rule in rules if rule.get("lastError")]
                return rules and all(stamp(rule["lastEvaluation"]) > since for rule in rules)

            wait_for("every rule evaluated", done, 120)

    def down(self):
        for program in self.programs:
            program.send_signal(signal.SIGKILL)
            program.wait()


def stamp(text):
    """Seconds of a time as Go writes it."""
    whole, fraction, zone = re.fullmatch(r"([-\dT:]{19})(\.\d+)?(Z|[+-]\d\d:\d\d)", text).groups()
    return datetime.fromisoformat(whole + zone.replace("Z", "+00:00")).timestamp() + float(fraction or 0)


def program(name, pattern, folder):
    """One of the test servers' programs."""
    (*_older, archive) = sorted((Path(host.cache_folder()) / "mirror").glob(pattern)) or [None]
    if archive is None:
        pytest.fail(f"there is no {name}: run `make servers`", pytrace=False)
    target = folder / name
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            (member,) = (one for one in opened.namelist() if one.startswith(name))
            target.write_bytes(opened.read(member))
    else:
        with tarfile.open(archive) as opened:
            member = next(one for one in opened if one.name.endswith(f"/{name}"))
            target.write_bytes(opened.extractfile(member).read())
    target.chmod(0o755)
    return str(target)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loki")
    one = Running(folder)
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", one.sink), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    try:
        one.up(program("loki", "loki-*.zip", folder), program("prometheus", "prometheus-*.tar.gz", folder))
        wait_for("every rule loaded", lambda: len(one.rules()) == sum(
            len(group["rules"]) for file in MIXINS.log_rule_files(RULED).values() for group in file["groups"]), 60)
        one.push()
        one.evaluated()
        yield one
    finally:
        one.down()
        sink.shutdown()


@pytest.fixture(scope="module")
def fired(running):
    """{host: the alerts that Alertmanager was told of}"""
    found: dict[str, list[dict]] = {}
    for alert in Sink.alerts.values():
        found.setdefault(alert["labels"]["instance"], []).append(alert)
    return found


@pytest.mark.parametrize("place, name, alert, fires, lines", CASES, ids=[case[0] for case in CASES])
def test_alert(fired, place, name, alert, fires, lines):
    """It fires with the labels that silence and inhibit it; and nothing else fires for the same lines."""
    its = fired.get(place, [])
    assert [one["labels"]["alertname"] for one in its] == ([alert] if fires else [])
    for one in its:
        labels, texts = one["labels"], one["annotations"]
        assert labels["service"] == lines[0].get("service", name)
        assert place in texts["summary"] and "<no value>" not in str(one) and "<error" not in str(one)
        assert f"/{name}/runbook.md#{alert.lower()}" in texts["runbook_url"]


def test_no_alert_is_of_another_host(fired):
    assert set(fired) <= {case[0] for case in CASES}


SERIES = [(name, record, one["labels"], one["value"]) for name, texts in CORPUS.items()
          for record, series in texts.get("recordings", {}).get("series", {}).items() for one in series]


@pytest.mark.parametrize("record", sorted({(name, record) for name, record, _labels, _value in SERIES}),
                         ids=lambda record: record[1])
def test_what_is_recorded_arrives_at_prometheus(running, record):
    name, series = record
    expected = {tuple(sorted({**labels, "service": labels.get("service", name)}.items())): value
                for its, one, labels, value in SERIES if (its, one) == record}
    expression = quote(f'{{__name__="{series}", instance="recordings-{name}"}}')

    def arrived():
        answer = json.loads(running.ask(f"/api/v1/query?query={expression}", port=running.prometheus))
        return {tuple(sorted((key, value) for key, value in one["metric"].items()
                             if key not in ("__name__", "instance"))): float(one["value"][1])
                for one in answer["data"]["result"]}

    found = wait_for(f"{series} at Prometheus", lambda: (found := arrived()).keys() == expected.keys() and found, 60)
    assert found == pytest.approx(expected, rel=0.01)


def test_every_rule_was_evaluated(running):
    assert {rule["health"] for rule in running.rules()} == {"ok"}
