# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus scrapes and judges what the inventory says, and no change to it is an outage."""

from urllib.parse import quote

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
    eventually(lambda: targets() and "unknown" not in targets().values())
    # This scenario installs Prometheus alone: the others are in the inventory and not there.
    def probe(module, address):
        return f"http://127.0.0.1:9115/probe?module={module}&target={quote('http://127.0.0.1' + address, safe='')}"
    assert targets() == {
        ("alertmanager", "monitor", "alertmanager", "http://127.0.0.1:9093/metrics"): "down",
        ("alloy", "monitor", "alloy", "http://127.0.0.1:12345/metrics"): "down",
        ("blackbox", "monitor", "blackbox", "http://127.0.0.1:9115/metrics"): "down",
        ("grafana", "monitor", "grafana", "http://127.0.0.1:3000/metrics"): "down",
        ("loki", "monitor", "loki", "http://127.0.0.1:3100/metrics"): "down",
        ("node", "monitor", "host", "http://127.0.0.1:9100/metrics"): "down",
        ("ollama", "monitor", "ollama", "http://127.0.0.1:9877/metrics"): "down",
        # The two behind the web log-in are asked by a module that logs in.
        ("probe", "monitor", "alertmanager", probe("alertmanager", ":9093/-/ready")): "down",
        ("probe", "monitor", "grafana", probe("http_2xx", ":3000/api/health")): "down",
        ("probe", "monitor", "loki", probe("http_2xx", ":3100/ready")): "down",
        ("probe", "monitor", "ollama", probe("http_2xx", ":11434/api/version")): "down",
        ("probe", "monitor", "prometheus", probe("prometheus", ":9090/-/ready")): "down",
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


class TestReload:
    """Changed settings are served without a restart, and what is wrong is refused while the old ones serve on."""

    CHANGES = {
        "prometheus_external_labels": {"site": "molecule"},
        "observability_retention": {"metrics": "7d", "metrics_size": "1GB"},
        "prometheus_extra_rule_groups": [{"name": "own", "rules": [{"record": "own:answer", "expr": "vector(42)"}]}],
    }

    @pytest.fixture(scope="class")
    def changed(self, host, site):
        """The outcome of a run with changes; they are taken back afterwards, and all is as it was."""
        def state():
            return host.check_output("systemctl show -P MainPID prometheus; cd /etc/prometheus && "
                                     "find . -type f | sort | xargs sha256sum")
        before = state()
        yield site(**self.CHANGES)
        assert site().changing["prometheus"]["files"]["remove"] == ["/etc/prometheus/rules/extra.yml"]
        assert state() == before

    def test_settings(self, api, changed):
        assert changed.changing["prometheus"]["service"] == "reload"
        assert changed.changing["prometheus"]["files"]["change"] == ["/etc/prometheus/prometheus.yml"]
        assert yaml.safe_load(api("status/config")["yaml"])["global"]["external_labels"] == {"site": "molecule"}

    def test_retention(self, api, changed):
        assert api("status/runtimeinfo")["storageRetention"] == "1w or 1GiB"

    def test_a_rule_of_the_users_own(self, api, changed):
        (own,) = [group for group in api("rules")["groups"] if group["name"] == "own"]
        assert own["rules"][0]["query"] == "vector(42)"

    def test_a_broken_rule_is_refused(self, api, checksums, main_pid, site, changed):
        before, pid = checksums(), main_pid("prometheus")
        group = {"name": "own", "rules": [{"alert": "Broken", "expr": "sum(up"}]}
        outcome = site(refused=True, **self.CHANGES | {"prometheus_extra_rule_groups": [group]})
        assert "promtool" in outcome.message
        assert "unclosed left parenthesis" in outcome.message
        assert checksums() == before
        assert main_pid("prometheus") == pid
        assert api("status/runtimeinfo")["reloadConfigSuccess"] is True


def test_retention_is_a_month_by_default(api):
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
