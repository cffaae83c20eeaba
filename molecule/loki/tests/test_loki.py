# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loki keeps what it was given once, finds it, judges it by the rules that are placed, and lets it go in time."""

import json
import time

import pytest
import yaml

# Runs on the host: what is pushed need not fit into a command line. Each line is [labels, age in seconds, text, times,
# metadata]; a text in hexadecimal digits is taken byte by byte.
PUSH = r"""
import json, sys, time, urllib.error, urllib.request
streams = []
for labels, age, text, times, metadata in json.loads(sys.argv[1]):
    line = text * times
    at = str(int((float(sys.argv[2]) - age) * 1000) * 1000000)
    streams.append({"stream": labels, "values": [[at, line, metadata]]})
body = json.dumps({"streams": streams}, ensure_ascii=False).encode().replace(b"@raw@", b"\xff\xfe")
request = urllib.request.Request("http://127.0.0.1:3100/loki/api/v1/push", body, {"Content-Type": "application/json"})
try:
    print(urllib.request.urlopen(request, timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


@pytest.fixture
def push(host):
    """push(("hello", {"service": "a"}), …): the answer to one request with these lines."""
    def post(*lines, at=None):
        given = []
        for text, labels, *rest in lines:
            options = rest[0] if rest else {}
            given.append([{"host": "monitor", "level": "info", "stream": "file", **labels}, options.get("age", 0), text,
                          options.get("times", 1), options.get("metadata", {})])
        return host.check_output("python3 -c %s %s %s", PUSH, json.dumps(given), str(at or time.time()))
    return post


@pytest.fixture
def query(ask):
    """query('{service="a"}'): [(labels with metadata, line)], newest first."""
    def question(expression, since="6h", path="query_range"):
        answer = ask(f":3100/loki/api/v1/{path}", query=expression, since=since, limit=1000)
        assert answer.status == 200, answer.text
        return [(stream["stream"], line) for stream in answer.json["data"]["result"]
                for _at, line, *_rest in stream["values"]]
    return question


@pytest.fixture
def ruler(ask):
    """{file/group: its rules} that the ruler has loaded."""
    def loaded():
        answer = ask(":3100/prometheus/api/v1/rules")
        assert answer.status == 200, answer.text
        return {f"{group['file']}/{group['name']}": group["rules"] for group in answer.json["data"]["groups"]}
    return loaded


@pytest.fixture
def state(host):
    return lambda: host.check_output("systemctl show -P MainPID loki; cd /etc/loki && find . -type f | sort | "
                                     "xargs sha256sum")


class TestLines:
    def test_found_by_label_and_by_text(self, push, query):
        assert push(("one needle in it", {"service": "a"}), ("nothing here", {"service": "a", "level": "error"}),
                    ("another needle", {"service": "b", "container": "b-1"})) == "204"
        assert {line for _labels, line in query('{service="a"}')} == {"one needle in it", "nothing here"}
        assert [line for _labels, line in query('{host="monitor", service=~"a|b"} |= "needle" != "one"')] == [
            "another needle"]
        assert [line for _labels, line in query('{level="error", service="a"}')] == ["nothing here"]

    def test_labels_are_those_that_were_sent(self, push, query):
        push(("level=error msg=hello", {"service": "labels"}, {"metadata": {"request_id": "7f3a"}}))
        ((labels, _line),) = query('{service="labels"} | request_id="7f3a"')
        # Loki adds service_name; it finds no level of its own.
        assert labels == {"host": "monitor", "service": "labels", "level": "info", "stream": "file",
                          "service_name": "labels", "request_id": "7f3a"}

    def test_the_same_line_twice_is_one(self, push, query):
        at = time.time() - 5
        for _again in range(3):
            assert push(("twice", {"service": "twice"}), at=at) == "204"
        push(("twice", {"service": "twice"}, {"metadata": {"request_id": "other"}}), at=at + 0.001)
        assert [line for _labels, line in query('{service="twice"}')] == ["twice", "twice"]

    def test_a_megabyte_is_cut_and_counted(self, push, query, metrics):
        assert push(("x", {"service": "long"}, {"times": 1_000_000})) == "204"
        ((_labels, line),) = query('{service="long"}')
        assert len(line) == 256 * 1024
        assert metrics(":3100").value("loki_mutated_samples_total", reason="line_too_long") == 1

    def test_bytes_that_are_no_text_arrive(self, push, query):
        assert push(("before @raw@ after", {"service": "bytes"})) == "204"
        ((_labels, line),) = query('{service="bytes"}')
        assert line.startswith("before ")
        assert line.endswith(" after")

    def test_older_than_a_week_is_refused_and_counted(self, push, query, metrics):
        answer = push(("old", {"service": "old"}, {"age": 8 * 86400}), ("new", {"service": "old"}))
        assert answer.startswith("400")
        assert "timestamp too old" in answer
        assert metrics(":3100").value("loki_discarded_samples_total", reason="greater_than_max_sample_age") == 1
        # The others of the same request are kept.
        assert [line for _labels, line in query('{service="old"}')] == ["new"]

    def test_more_than_is_allowed_is_told_to_come_again(self, push, metrics):
        answers = {push(*[("y", {"service": f"flood{number}"}, {"times": 250_000}) for number in range(30)])[:3]
                   for _again in range(6)}
        assert answers == {"204", "429"}
        assert metrics(":3100").series("loki_discarded_samples_total", reason="rate_limited")

    def test_killed_it_has_what_it_took(self, host, push, query, metrics, main_pid, eventually, ask):
        push(("before the end", {"service": "kill"}))
        before = main_pid("loki")
        host.check_output("kill -9 %s", str(before))
        eventually(lambda: main_pid("loki") not in (0, before) and ask(":3100/ready").status == 200)
        assert [line for _labels, line in query('{service="kill"}')] == ["before the end"]
        assert metrics(":3100").value("loki_ingester_wal_recovered_entries_total") > 0
        host.check_output("systemctl restart loki")
        eventually(lambda: ask(":3100/ready").status == 200)


class TestRules:
    GROUP = {"name": "own", "rules": [{"alert": "Needle", "expr": 'count_over_time({service="needle"}[5m]) > 0'}]}

    def test_every_rule_of_the_mixins_is_loaded_and_healthy(self, host, ruler, eventually):
        placed = {f"{path.rsplit('/', 1)[-1]}/{group['name']}": group["rules"]
                  for path in host.check_output("ls /etc/loki/rules/fake/*.yml").splitlines()
                  for group in yaml.safe_load(host.file(path).content_string)["groups"]}
        assert {"aistack.yml/aistack", "loki.yml/log.errors"} <= set(placed)
        assert {name: [rule["name"] for rule in rules] for name, rules in ruler().items()} == {
            name: [rule.get("alert") or rule["record"] for rule in rules] for name, rules in placed.items()}
        # Some groups are asked every five minutes only.
        eventually(lambda: sum(rule["health"] == "ok" for rules in ruler().values() for rule in rules) > 5, within=90)
        assert not [rule for rules in ruler().values() for rule in rules if rule["health"] == "err"]

    def test_a_changed_rule_is_served_without_a_restart(self, site, state, ruler, main_pid):
        before, pid = state(), main_pid("loki")
        outcome = site(loki_extra_rule_groups=[self.GROUP])
        assert outcome.changing["loki"]["service"] == "reload"
        assert main_pid("loki") == pid
        assert "Needle" in str(ruler()["extra.yml/own"])
        changed = {"name": "own", "rules": [{"alert": "Needle", "expr": 'count_over_time({service="n"}[5m]) > 1'}]}
        site(loki_extra_rule_groups=[changed])
        assert 'service=\\"n\\"' in json.dumps(ruler()["extra.yml/own"])
        assert not site("--check", loki_extra_rule_groups=[changed]).changing
        assert site().changing["loki"]["files"]["remove"] == ["/etc/loki/rules/fake/extra.yml"]
        assert state() == before

    @staticmethod
    def broken(expression):
        return {"loki_extra_rule_groups": [{"name": "own", "rules": [{"alert": "Broken", "expr": expression}]}]}

    @staticmethod
    def looking_in(folder):
        return {"loki_extra_config": {"ruler": {"storage": {"local": {"directory": folder}}}}}

    @pytest.mark.parametrize("variables, words", [
        (broken('sum(count_over_time({a="b"}[5m]'), ["try_loki", "extra.yml", "'Broken'", "parse error"]),
        (broken("up == 0"), ["try_loki", "extra.yml", "'Broken'", "parse error"]),
        (looking_in("/etc/loki/rules/fake"), ["try_loki", "/etc/loki/rules/fake/fake", "lie elsewhere"]),
        (looking_in("/etc/loki/elsewhere"), ["try_loki", "/etc/loki/elsewhere"]),
        ({"loki_extra_config": {"auth_enabled": True}}, ["try_loki", "tenant"]),
        ({"loki_retention": "12h"}, ["try_loki", "loki_retention is 12h", "24h or more"]),
        ({"loki_extra_config": {"compactor": {"retention_enable": True}}}, ["loki -verify-config", "retention_enable"]),
    ], ids=["syntax", "promql", "one-too-deep", "elsewhere", "tenants", "retention", "unknown-key"])
    def test_what_is_wrong_is_refused_while_the_old_ones_serve_on(self, site, state, ruler, variables, words):
        before, groups = state(), set(ruler())
        outcome = site(refused=True, **variables)
        assert not [word for word in words if word not in outcome.message], outcome.message
        assert state() == before
        assert set(ruler()) == groups


def test_no_secret_is_shown(ask, web_login, host):
    password = web_login.split(":", 1)[1]
    shown = ask(":3100/config").text
    assert "basic_auth_username: admin" in shown
    assert password not in shown
    assert password in host.file("/etc/loki/loki.yml").content_string
    assert password not in host.check_output("systemctl show loki; tr '\\0' ' ' < /proc/$(systemctl show -P MainPID "
                                             "loki)/cmdline; journalctl -u loki --no-pager")


class TestRetention:
    """With every waiting time shortened, what is older than a day leaves the disk, and what is younger stays."""

    @pytest.fixture
    def hurried(self, site):
        outcome = site(loki_retention="24h", loki_reject_older_than="4w", loki_compaction_interval="2s",
                       loki_retention_delete_delay="1s", loki_extra_config={"ingester": {"chunk_idle_period": "1s"}})
        assert outcome.changing["loki"]["service"] == "restart"
        yield
        site()

    @staticmethod
    def chunks(host):
        return int(host.check_output("find /var/lib/loki/chunks/fake -type f | wc -l"))

    @staticmethod
    def days(host):
        return set(host.check_output("ls /var/lib/loki/chunks/index | sed 's/index_//'").split())

    def test_old_chunks_leave_the_disk(self, host, hurried, push, query, ask, eventually, metrics):
        day, ages = int(time.time() // 86400), [10, 3]
        # A chunk goes when its youngest line is too old: each in a stream of its own.
        for age in ages:
            assert push((f"aged {age}", {"service": f"aged{age}"}, {"age": age * 86400})) == "204"
        push(("young", {"service": "aged0"}, {"age": 60}))
        assert ask(":3100/flush", body={}).status == 204
        eventually(lambda: metrics(":3100").value("loki_ingester_memory_chunks") == 0, within=90)
        assert len(query('{service=~"aged.+"} |= "aged"', since="700h")) == 2
        before = self.chunks(host)
        # The index of the day is written out at the latest when it starts again.
        host.check_output("systemctl restart loki")
        eventually(lambda: ask(":3100/ready").status == 200)
        eventually(lambda: self.chunks(host) <= before - 2, within=120)
        eventually(lambda: not self.days(host) & {str(day - age) for age in ages}, within=60)
        # What was just read is in its cache for a while yet.
        assert [line for _labels, line in query('{service="aged0"}')] == ["young"]
