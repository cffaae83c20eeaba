# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus scrapes and judges what the inventory says, and no change to it is an outage."""

import pytest
import yaml


@pytest.fixture
def api(ask):
    """api("query", query="up"): the data of Prometheus's own answer."""
    def question(path, **parameters):
        answer = ask(f":9090/api/v1/{path}", login=True, **parameters)
        assert answer.status == 200, answer.text
        return answer.json["data"]
    return question


@pytest.fixture
def checksums(host):
    return lambda: host.check_output("cd /etc/prometheus && find . -type f | sort | xargs sha256sum")


def test_it_answers_who_logs_in_and_nobody_else(ask, api):
    for path in ("/api/v1/query?query=up", "/metrics", "/"):
        assert ask(f":9090{path}").status == 401
    assert api("query", query="vector(1)")["result"][0]["value"][1] == "1"


def test_targets_are_those_of_the_inventory(api, eventually):
    def targets():
        return {(one["labels"]["job"], one["labels"]["instance"], one["labels"]["service"], one["scrapeUrl"]):
                one["health"] for one in api("targets", state="active")["activeTargets"]}
    eventually(lambda: "unknown" not in targets().values())
    # This scenario installs Prometheus alone: the others are in the inventory and not there.
    assert targets() == {
        ("alertmanager", "monitor", "alertmanager", "http://127.0.0.1:9093/metrics"): "down",
        ("node", "monitor", "host", "http://127.0.0.1:9100/metrics"): "down",
        ("ollama", "monitor", "ollama", "http://127.0.0.1:9877/metrics"): "down",
        ("prometheus", "monitor", "prometheus", "http://127.0.0.1:9090/metrics"): "up",
    }


def test_every_rule_of_the_mixins_is_loaded_and_healthy(api, rules, eventually):
    def loaded():
        return [rule for group in api("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 30
    assert sorted(rule["name"] for rule in loaded()) == sorted(rule.get("alert") or rule["record"] for rule in rules)
    eventually(lambda: all(rule["health"] != "unknown" for rule in loaded()), within=60)
    assert not [rule for rule in loaded() if rule["health"] != "ok"]
    assert not [rule["name"] for rule in loaded() if "${" in str(rule)]


def test_a_changed_setting_is_a_reload(api, checksums, main_pid, site):
    before, pid = checksums(), main_pid("prometheus")
    outcome = site(prometheus_external_labels={"site": "molecule"})
    assert outcome.changing["prometheus"]["service"] == "reload"
    assert outcome.changing["prometheus"]["files"]["change"] == ["/etc/prometheus/prometheus.yml"]
    assert yaml.safe_load(api("status/config")["yaml"])["global"]["external_labels"] == {"site": "molecule"}
    assert site().changing["prometheus"]["service"] == "reload"
    assert checksums() == before
    assert main_pid("prometheus") == pid


def test_a_rule_of_the_users_own_is_loaded(api, site):
    group = {"name": "own", "rules": [{"record": "own:answer", "expr": "vector(42)"}]}
    assert site(prometheus_extra_rule_groups=[group]).changing["prometheus"]["service"] == "reload"
    assert [one for one in api("rules")["groups"] if one["name"] == "own"][0]["rules"][0]["query"] == "vector(42)"
    assert site().changing["prometheus"]["files"]["remove"] == ["/etc/prometheus/rules/extra.yml"]
    assert "own" not in {one["name"] for one in api("rules")["groups"]}


def test_a_broken_rule_is_refused_and_nothing_happened(api, checksums, main_pid, site):
    before, pid = checksums(), main_pid("prometheus")
    group = {"name": "own", "rules": [{"alert": "Broken", "expr": "sum(up"}]}
    outcome = site(refused=True, prometheus_extra_rule_groups=[group])
    assert "promtool" in outcome.message
    assert "unclosed left parenthesis" in outcome.message
    assert checksums() == before
    assert main_pid("prometheus") == pid
    assert api("query", query="vector(1)")
    assert not site().changing


def test_retention_is_what_the_inventory_says(api, site):
    assert api("status/runtimeinfo")["storageRetention"] == "30d"
    assert site(observability_retention={"metrics": "7d", "metrics_size": "1GB"}).changing
    assert api("status/runtimeinfo")["storageRetention"] == "7d or 1GB"
    assert site().changing
    assert api("status/runtimeinfo")["storageRetention"] == "30d"


def test_a_password_for_elsewhere_is_a_credential(api, host, site):
    outcome = site("--diff", prometheus_remote_write=[
        {"url": "http://127.0.0.1:9/push", "basic_auth": {"username": "site", "password": "push-51d0c2"}}])
    assert outcome.changing["prometheus"]["service"] == "restart"
    assert "push-51d0c2" not in outcome.text
    holders = host.check_output("grep -rlF push-51d0c2 /etc /opt/aistack /run /var/lib --include='*' || true").split()
    placed = [path for path in holders if not path.startswith("/var/lib/aistack/")]
    assert "/run/credentials/prometheus.service" in {path.rsplit("/", 1)[0] for path in placed}
    for path in placed:
        assert not host.run("setpriv --reuid=65534 --regid=65534 --clear-groups cat %s", path).succeeded
    (remote,) = yaml.safe_load(api("status/config")["yaml"])["remote_write"]
    assert remote["basic_auth"]["password_file"].startswith("/run/credentials/prometheus.service/")
    assert site().changing["prometheus"]["service"] == "restart"
    assert not host.check_output("grep -rlF push-51d0c2 /etc /opt/aistack /run || true")
