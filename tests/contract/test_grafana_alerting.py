# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Grafana's panel-bound rules keep: each has its panel, its runbook and its twin in Prometheus, and fires when
that does. Their conditions are evaluated by promtool, as an alert with the same expression, limit and time."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.aistack.observability.plugins.plugin_utils import dashboards, grafana_alerting

sys.path.insert(0, str(Path(__file__).parent))
from test_mixins import ALERTS, MIXINS, NAMES, VALUES, catalogue, seconds, unknown

WRITTEN = {rule["uid"]: rule for rule in grafana_alerting.panel_rules(MIXINS, {}, NAMES)}
MADE = grafana_alerting.alerting(
    MIXINS, {}, NAMES, {"email": {"to": ["a@example.org"], "from": "b@example.org", "smarthost": "c:25"}},
    "contact_points", "/run/credentials/grafana.service")
[GROUP] = MADE["files"]["rules.yml"]["groups"]
RULES = {rule["uid"]: rule for rule in GROUP["rules"]}
TWINS = {rule["alert"]: (name, rule) for name, rule in ALERTS}
STALLED = "aistack-prometheus-rules-stalled"
EACH = pytest.mark.parametrize("uid", RULES)

HOST = 'instance="%s", service="host"'
# What each rule looks at, and its values: all is well, just at the limit, beyond it. %s is the host.
VALUES_OF = {
    "aistack-host-cpu": ("instance:node_cpu_busy:ratio_rate2m{" + HOST + "}", 0.79, 0.8, 0.81),
    "aistack-host-memory": ("instance:node_memory_used:ratio{" + HOST + "}", 0.84, 0.85, 0.86),
    "aistack-host-disk": ("instance_device:node_filesystem_avail:ratio{" + HOST + ', device="/dev/sda1"}',
                          0.16, 0.15, 0.14),
    "aistack-ollama-down": ('service:up{instance="%s", service="ollama"}', 1, 1, 0),
    "aistack-keycloak-down": ('service:up{instance="%s", service="keycloak"}', 1, 1, 0),
    "aistack-postgresql-down": ('service:up{instance="%s", service="postgresql"}', 1, 1, 0),
}


def test_the_users_list_is_complete():
    assert {(rule["dashboard"], rule["panel"], rule["limit"][1], rule["unit"]) for rule in WRITTEN.values()} == {
        ("aistack-host", "CPU", 80, "percent"), ("aistack-host", "Memory", 85, "percent"),
        ("aistack-host", "Disk space free", 15, "percent"), ("aistack-ollama", "Ollama status", 1, "none"),
        ("aistack-keycloak", "Keycloak status", 1, "none"), ("aistack-postgresql", "PostgreSQL status", 1, "none"),
        ("aistack-prometheus", "Rule evaluation", 60, "s")}
    assert set(VALUES_OF) == set(RULES) - {STALLED}


@EACH
def test_the_panel_is_there(uid):
    annotations = RULES[uid]["annotations"]
    dashboard = annotations["__dashboardUid__"]
    document = dashboards.load(MIXINS, dashboard.removeprefix("aistack-"))
    assert document["uid"] == dashboard
    [panel] = [panel for panel in document["panels"] if str(panel["id"]) == annotations["__panelId__"]]
    assert panel["title"] == WRITTEN[uid]["panel"]
    fitted = dashboards.dashboards(MIXINS, VALUES, {WRITTEN[uid]["mixin"], dashboard.removeprefix("aistack-")})
    assert panel["id"] in [panel["id"] for panel in fitted[dashboard.removeprefix("aistack-") + ".json"]["panels"]]


@EACH
def test_the_rule_is_one_that_grafana_takes(uid):
    rule = RULES[uid]
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", uid)
    assert [other["title"] for other in GROUP["rules"]].count(rule["title"]) == 1
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert "Values.A" in rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")
    assert seconds(rule["for"]) % seconds(GROUP["interval"]) == 0
    assert "$" not in json.dumps({**rule, "data": []})


@EACH
def test_the_runbook_has_a_section(uid):
    mixin, anchor = re.fullmatch(re.escape(VALUES["runbook_url"]) + r"/(\w+)/runbook\.md#(\w+)",
                                 RULES[uid]["annotations"]["runbook_url"]).groups()
    text = MIXINS.runbook(mixin)
    section = re.search(rf"^## {anchor}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL | re.IGNORECASE)[1]
    assert re.findall(r"^- \*\*(\w+)\*\*: \S", section, re.M) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


@EACH
def test_every_metric_exists(uid):
    assert unknown({"expr": WRITTEN[uid]["expr"]}, catalogue()) == []


@pytest.mark.parametrize("uid", VALUES_OF)
def test_the_rule_has_a_twin_of_the_same_severity(uid):
    _mixin, twin = TWINS[WRITTEN[uid]["twin"]["alertname"]]
    assert twin["labels"]["severity"] == RULES[uid]["labels"]["severity"]
    assert twin["for"] == RULES[uid]["for"]
    written = next(alert for alert in MIXINS.alerts(_mixin) if alert["alert"] == twin["alert"])
    assert set(re.findall(r"\$\{thresholds\.\w+\}", str(written))) == set(
        re.findall(r"\$\{thresholds\.\w+\}", str(raw(uid))))


def raw(uid):
    [rule] = [rule for path in MIXINS.folder.glob("*/panel_rules.yml")
              for rule in yaml.safe_load(path.read_text(encoding="utf-8")) if rule["uid"] == uid]
    return rule


def test_alertmanager_leaves_exactly_the_twins_to_grafana():
    assert sorted(MADE["twins"]) == sorted(
        [['alertname="HostHighCpu"'], ['alertname="HostHighMemory"'], ['alertname="HostDiskSpaceLow"']]
        + [['alertname="ServiceDown"', f'service=~"{name}"'] for name in ("ollama", "keycloak", "postgresql")])


def test_a_dead_service_reaches_a_person_within_two_minutes():
    """By Grafana, too: poll, its timeout, scrape, service:up, then Grafana's turn, `for`, its wait and the mail."""
    [route] = [route for route in MADE["files"]["policies.yml"]["policies"][0]["routes"]
               if ["severity", "=", "critical"] in route["object_matchers"]]
    turn = seconds(GROUP["interval"])
    assert 15 + 5 + 15 + 5 + turn + seconds(RULES["aistack-ollama-down"]["for"]) + turn + seconds(
        route["group_wait"]) + 5 < 120


# -- when they fire ----------------------------------------------------------------------------------------------------

def as_alert(uid):
    """A panel rule as an alert that promtool can evaluate: the query, then the limit."""
    query, condition = (entry["model"] for entry in RULES[uid]["data"])
    assert (condition["expression"], RULES[uid]["condition"]) == (query["refId"], condition["refId"])
    [limit] = condition["conditions"]
    sign = {"gt": ">", "lt": "<"}[limit["evaluator"]["type"]]
    return {"alert": "Panel", "expr": f"({query['expr']}) {sign} {limit['evaluator']['params'][0]}",
            "for": RULES[uid]["for"]}


class Trial:
    """One run of promtool over a panel rule and its twin."""

    def __init__(self, promtool, folder, uid):
        self.promtool, self.folder = promtool, folder
        self.rules = [as_alert(uid)]
        if twin := WRITTEN[uid].get("twin"):
            self.rules.append({**TWINS[twin["alertname"]][1], "alert": "Twin", "annotations": {}})
            self.rules[-1].pop("keep_firing_for", None)
        self.series, self.cases = [], []

    def given(self, series, values):
        self.series.append({"series": series, "values": values})

    def firing(self, at, hosts):
        """Expects that rule and twin fire for these hosts and no other."""
        for rule in self.rules:
            self.cases.append({
                "expr": f'count by (instance) (ALERTS{{alertname="{rule["alert"]}", alertstate="firing"}})',
                "eval_time": at, "exp_samples": [
                    {"labels": f'{{instance="{host}"}}' if host else "{}", "value": 1} for host in sorted(hosts)]})

    def run(self):
        documents = {
            "rules.yml": {"groups": [{"name": "panel", "interval": "15s", "rules": self.rules}]},
            "test.yml": {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [
                {"interval": "15s", "input_series": self.series, "promql_expr_test": self.cases}]}}
        for name, document in documents.items():
            (self.folder / name).write_text(json.dumps(document), encoding="utf-8")
        done = subprocess.run([self.promtool, "test", "rules", str(self.folder / "test.yml")],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def trial(promtool, tmp_path):
    return lambda uid: Trial(promtool, tmp_path, uid)


@pytest.mark.parametrize("uid", VALUES_OF)
def test_it_fires_beyond_its_limit_for_its_time_as_its_twin_does(uid, trial):
    """From the first minute on: well, at the limit, beyond it for a quarter of a minute too short, and beyond."""
    series, well, limit, beyond = VALUES_OF[uid]
    steps = seconds(RULES[uid]["for"]) // 15
    check = trial(uid)
    check.given(series % "well", f"{well}x80")
    check.given(series % "limit", f"{well}x3 {limit}x76")
    check.given(series % "short", f"{well}x3 {beyond}x{steps - 1} {well}x{75 - steps}")
    check.given(series % "beyond", f"{well}x3 {beyond}x{steps + 3} {well}x{71 - steps}")
    for second, hosts in ((45, []), (60, []), (45 + seconds(RULES[uid]["for"]), []),
                          (60 + seconds(RULES[uid]["for"]), ["beyond"]),
                          (60 + seconds(RULES[uid]["for"]) + 45, ["beyond"]),
                          (60 + seconds(RULES[uid]["for"]) + 60, []), (1200, [])):
        check.firing(f"{second}s", hosts)
    check.run()


@pytest.mark.parametrize("uid", [uid for uid in VALUES_OF if uid.endswith("-down")])
def test_what_is_down_with_its_host_or_has_just_booted_is_not_said(uid, trial):
    series = VALUES_OF[uid][0]
    check = trial(uid)
    for host, up, booted in (("up", 1, -3600), ("down", 0, -3600), ("booting", 1, 0)):
        check.given(series % host, "0x80")
        check.given(f'host:up{{instance="{host}"}}', f"{up}x80")
        check.given(f'node_boot_time_seconds{{{HOST % host}, job="node"}}', f"{booted}x80")
        check.given(f'node_time_seconds{{{HOST % host}, job="node"}}', "0+15x80")
    check.given('service:up{instance="other", service="other"}', "0x80")
    check.rules = check.rules[:1]       # the twin speaks of every service
    check.firing("2m", ["up"])
    check.firing("5m15s", ["up"])
    check.firing("5m30s", ["booting", "up"])
    check.run()


@pytest.mark.parametrize("values, times", [
    # Rules are evaluated all the time, and collected once a minute only.
    (" ".join(str(60 * (step // 4)) for step in range(80)), {60: 0, 600: 0, 1200: 0}),
    # For the last time after five minutes.
    ("0+15x20 300x60", {300: 0, 405: 0, 435: 1, 1000: 1}),
    # Back after ten minutes.
    ("0+15x20 300x20 615+15x39", {435: 1, 600: 1, 660: 0}),
    # Prometheus was told to forget its rules after five minutes.
    ("0+15x20 stale", {300: 0, 360: 0, 375: 1, 1000: 1}),
])
def test_prometheus_rules_stalled(values, times, trial):
    check = trial(STALLED)
    for group in ("one", "two"):
        check.given('prometheus_rule_group_last_evaluation_timestamp_seconds{instance="mon", service="prometheus", '
                    f'job="prometheus", rule_group="{group}"}}', values if group == "one" else "0x20 stale")
    for second, count in times.items():
        check.firing(f"{second}s", [""] * count)
    check.run()


def test_prometheus_rules_stalled_speaks_when_it_knows_nothing():
    assert (RULES[STALLED]["noDataState"], RULES[STALLED]["execErrState"]) == ("Alerting", "Alerting")
    others = {(rule["noDataState"], rule["execErrState"]) for uid, rule in RULES.items() if uid != STALLED}
    assert others == {("OK", "OK")}
