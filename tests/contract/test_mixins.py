# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every mixin keeps: its rules are valid and tested, and name only metrics that a program really exposes."""

import functools
import re
import shutil
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml
from ansible_collections.aistack.observability.plugins.plugin_utils import inventory_model
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import MODULES, PLACEHOLDER, Mixins

HERE = Path(__file__).parent
MIXINS = Mixins()
NAMES = MIXINS.names()
# A mixin that has only probes needs nothing but its scrape.yml.
PROBED_ONLY = MIXINS.probed_only()
RULED = [name for name in NAMES if MIXINS.has_rules(name)]
VALUES = MIXINS.values()
RULES = {name: MIXINS.rules(name) for name in RULED}
ALERTS = [(name, rule) for name in RULED for group in RULES[name]["groups"] for rule in group["rules"]
          if "alert" in rule]
EACH_ALERT = pytest.mark.parametrize("name, alert", ALERTS, ids=[rule["alert"] for _name, rule in ALERTS])
EACH_MIXIN = pytest.mark.parametrize("name", RULED)

# What Prometheus makes itself, and its labels.
SYNTHETIC = {
    "up": (), "scrape_duration_seconds": (), "scrape_samples_scraped": (), "scrape_series_added": (),
    "scrape_samples_post_metric_relabeling": (),
    "ALERTS": ("alertname", "alertstate", "severity", "problem"),
}
TARGET_LABELS = {"instance", "service", "job"}
PROBE_LABELS = {"type", "probe", "target"}


# -- the rules by themselves -------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Every mixin's rules and tests with default values, and the tests of all of them together."""
    folder = tmp_path_factory.mktemp("mixins")
    MIXINS.render(folder)
    shutil.copy(HERE / "one_fault_one_alert.test.yml", folder)
    return folder


def run(*argv):
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@EACH_MIXIN
def test_promtool_accepts_the_rules(promtool, rendered, name):
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", rendered / name / "rules.yml")


@EACH_MIXIN
def test_the_unit_tests_pass(promtool, rendered, name):
    run(promtool, "test", "rules", rendered / name / "rules.test.yml")


def test_one_fault_makes_one_alert(promtool, rendered):
    run(promtool, "test", "rules", rendered / "one_fault_one_alert.test.yml")


def test_the_test_of_all_mixins_is_of_all_mixins():
    tests = yaml.safe_load((HERE / "one_fault_one_alert.test.yml").read_text(encoding="utf-8"))
    assert sorted(tests["rule_files"]) == [f"{name}/rules.yml" for name in RULED]
    assert sorted(tests["group_eval_order"]) == sorted(group["name"] for document in RULES.values()
                                                       for group in document["groups"])


# -- every alert -------------------------------------------------------------------------------------------------------

def test_alerts_are_unique():
    names = [rule["alert"] for _name, rule in ALERTS]
    assert len(names) == len(set(names))


@EACH_ALERT
def test_alert_is_complete(name, alert):
    labels, annotations = alert["labels"], alert["annotations"]
    assert labels["severity"] in ("critical", "warning", "info", "none")
    assert labels["problem"]
    assert re.search(r"\{\{[^}]*\$value", annotations["summary"]), "the summary has no value"
    assert "$labels.instance" in annotations["summary"] or alert["alert"] == "Watchdog", "the summary names no host"
    assert annotations["description"]
    anchor = f"{name}/runbook.md#{alert['alert'].lower()}"
    assert annotations["runbook_url"] == f"{VALUES['runbook_url']}/{anchor}"
    assert annotations["dashboard_url"].startswith(VALUES["prometheus_url"])


@EACH_ALERT
def test_alert_has_a_runbook(name, alert):
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", MIXINS.runbook(name), re.DOTALL | re.MULTILINE))
    steps = re.findall(r"^- \*\*(\w+)\*\*: \S", sections.get(alert["alert"], ""), re.MULTILINE)
    assert steps == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def own_of_grafana(name):
    """Alerts that Grafana alone raises: panel rules that double none of Prometheus's."""
    file = MIXINS.folder / name / "panel_rules.yml"
    rules = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else []
    return [rule["title"] for rule in rules if "twin" not in rule and "down" not in rule]


@EACH_MIXIN
def test_runbook_has_no_other_sections(name):
    sections = re.findall(r"^## (.*)$", MIXINS.runbook(name), re.MULTILINE)
    alerts = [alert["alert"] for its, alert in ALERTS if its == name] + own_of_grafana(name)
    alerts += [rule["alert"] for rule in rules_of(MIXINS.log_rules(name)) if "alert" in rule]
    assert sections == alerts, "not the alerts in their order"


@EACH_MIXIN
def test_runbook_links_lead_somewhere(name):
    for target, anchor in re.findall(r"\]\((\S*?)#(\S+?)\)", MIXINS.runbook(name)):
        its = (MIXINS.folder / name / target).resolve().parent.name if target else name
        assert anchor in re.sub(r"^## (\S+)$", lambda match: match[0].lower(), MIXINS.runbook(its), flags=re.M)


def seconds(duration):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", str(duration)))


@functools.cache
def unit_tests(name):
    return yaml.safe_load((MIXINS.folder / name / "rules.test.yml").read_text(encoding="utf-8"))["tests"]


def lifecycle(tests, alert):
    """Whether a mixin's tests see an alert silent, pending, firing and, at a later time of that test, resolved."""
    seen = set()
    for test in tests:
        times = {True: [], False: []}
        for case in test.get("alert_rule_test", ()):
            if case["alertname"] == alert:
                times[bool(case["exp_alerts"])].append(seconds(case["eval_time"]))
        if times[True]:
            seen.add("firing")
            seen.update(["silent"] if min(times[False], default=1e9) < min(times[True]) else [])
            seen.update(["resolved"] if max(times[False], default=-1) > max(times[True]) else [])
        for case in test.get("promql_expr_test", ()):
            states = [sample["labels"] for sample in case["exp_samples"]]
            if f'alertname="{alert}"' in case["expr"] and any('alertstate="pending"' in state for state in states):
                seen.add("pending")
    return seen


@EACH_ALERT
def test_alert_is_tested(name, alert):
    wanted = {"silent", "firing", "resolved"} | ({"pending"} if "for" in alert else set())
    if alert["alert"] == "Watchdog":
        wanted = {"firing"}
    assert wanted <= lifecycle(unit_tests(name), alert["alert"])


def test_every_recorded_series_is_tested():
    for name in RULED:
        expressions = [case["expr"] for test in unit_tests(name) for case in test.get("promql_expr_test", ())]
        for rule in rules_of(RULES[name]):
            assert "alert" in rule or any(rule["record"] in expression for expression in expressions), rule["record"]


# -- every metric ------------------------------------------------------------------------------------------------------

def rules_of(document):
    return [rule for group in document["groups"] for rule in group["rules"]]


def expressions_of(rule):
    """A rule's expression, and the queries in its texts."""
    yield rule["expr"]
    for text in rule.get("annotations", {}).values():
        for query in re.findall(r'"((?:[^"\\]|\\.)*)"[^"{}]*\| *query', text):
            yield query.replace("%q", '"x"')
        assert len(re.findall(r"\| *query", text)) == len(re.findall(r'"(?:[^"\\]|\\.)*"[^"{}]*\| *query', text))


def selectors(expression):
    """Every selector of an expression as (metric name, the labels that it matches on)."""
    found = []

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            found.append((node.name, {matcher.name for matcher in node.matchers.matchers}))

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


@functools.cache
def catalogue():
    """{metric: its labels} of everything that there is to be asked for."""
    known = {metric: set(labels) for metric, labels in SYNTHETIC.items()}
    for name in RULED:
        for metric in MIXINS.metrics(name)["metrics"]:
            for part in {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}.get(
                    metric["type"], ("",)):
                known.setdefault(metric["name"] + part, set()).update(
                    metric["labels"], ["le"] * (part == "_bucket"),
                    PROBE_LABELS if metric["name"].startswith("probe_") else ())
        for rule in rules_of(RULES[name]):
            if "record" in rule:
                # Of what a rule records, only the labels of the target are ever matched on.
                known.setdefault(rule["record"], set())
    return known


def unknown(rule, known):
    """What a rule asks for and nobody exposes."""
    faults = []
    for expression in expressions_of(rule):
        for metric, labels in selectors(expression):
            if metric not in known:
                faults.append(f"no program exposes {metric}")
            elif strange := labels - known[metric] - TARGET_LABELS:
                faults.append(f"{metric} has no label {', '.join(sorted(strange))}")
    return faults


@pytest.mark.parametrize("rule", [rule for name in RULED for rule in rules_of(RULES[name])],
                         ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_exists(rule):
    assert unknown(rule, catalogue()) == []


@pytest.mark.parametrize("rule, fault", [
    ({"expr": "rate(node_cpu_second_total[5m]) > 1"}, "no program exposes node_cpu_second_total"),
    ({"expr": "sum(max_over_time(nowhere[1h:5m])) or up"}, "no program exposes nowhere"),
    ({"expr": "topk(scalar(nowhere), up)"}, "no program exposes nowhere"),
    ({"expr": "-(up unless on (instance) (nowhere == 0))"}, "no program exposes nowhere"),
    ({"expr": 'histogram_quantile(0.9, nowhere_bucket{le="1"})'}, "no program exposes nowhere_bucket"),
    ({"expr": 'node_cpu_seconds_total{modus="idle"}'}, "node_cpu_seconds_total has no label modus"),
    ({"expr": "up", "annotations": {"summary": '{{ range printf "nowhere{a=%q}" $x | query }}{{ end }}'}},
     "no program exposes nowhere"),
])
def test_an_unknown_metric_is_found(rule, fault):
    assert unknown(rule, catalogue()) == [fault]


def test_availability_has_one_definition_of_up():
    """What tells that something is down reads service:up alone: no second opinion, no second mail."""
    for _name, alert in ALERTS:
        if alert["alert"] in ("HostDown", "ServiceDown", "ServiceUnstable"):
            read = {metric for metric, _labels in selectors(alert["expr"])}
            assert read <= {"service:up", "host:up", "node_time_seconds", "node_boot_time_seconds", "ALERTS"}
            assert "service" in alert["labels"] or "service:up" in read
    recorded = {name: [rule["record"] for rule in rules_of(RULES[name]) if "record" in rule] for name in RULED}
    # Nobody records what another one does: the blackbox mixin does it for those that have only probes.
    assert {name for name, records in recorded.items() if "service:up" in records} == set(NAMES) - set(PROBED_ONLY)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_probed_counts(name):
    """A failed probe of a service is part of its one definition of up."""
    recorder = "blackbox" if name in PROBED_ONLY else name
    (recorded,) = [rule["expr"] for rule in rules_of(RULES[recorder]) if rule.get("record") == "service:up"]
    matchers = [str(matcher) for matcher in re.findall(r'probe_success\{[^}]*\btype=~?"([^"]*)"', recorded)]
    probed = MIXINS.scrape(name)["probes"] or MIXINS.scrape(name)["placement"] == "monitored_services"
    assert bool(probed) == any(re.fullmatch(matcher, name) for matcher in matchers)


@pytest.mark.parametrize("name", PROBED_ONLY)
def test_what_has_only_probes_has_no_metrics_of_its_own(name):
    """With metrics it would have a job, and its rules would say themselves whether it is up."""
    assert not (MIXINS.folder / name / "metrics.yml").exists()
    assert not any("service:up" in rule.get("record", "") for rule in rules_of(RULES.get(name, {"groups": []})))


def test_a_dead_service_reaches_a_person_within_two_minutes():
    """Poll 15 s, its timeout 5 s, scrape 15 s, two stages of rules, Alertmanager's wait and 5 s for the mail.

    Alertmanager waits longest for a service where another one of its host is down already: that group's next turn.
    """
    route = re.search(r'severity="critical".*\n.*\n +group_wait: (\w+)\n +group_interval: (\w+)\n',
                      (HERE.parents[1] / "roles/alertmanager/templates/alertmanager.yml.j2").read_text("utf-8"))
    waits = {"HostDown": seconds(route[1]), "ServiceDown": max(seconds(route[1]), seconds(route[2]))}
    groups = {group["name"]: group for document in RULES.values() for group in document["groups"]}
    for alert in [alert for _name, alert in ALERTS if alert["alert"] in waits]:
        stages = max(seconds(groups[f"{name}.up"]["interval"]) for name in set(NAMES) - set(PROBED_ONLY))
        stages += 2 * seconds(groups["availability"]["interval"])
        assert 15 + 5 + 15 + stages + seconds(alert["for"]) + waits[alert["alert"]] + 5 < 120


# -- thresholds and scrapes --------------------------------------------------------------------------------------------

def test_thresholds_name_their_users():
    used = {}
    of_lines = [rule for name in NAMES for group in MIXINS.logs(name).get("groups") or () for rule in group["rules"]
                if "alert" in rule]
    for alert in [alert for name in RULED for alert in MIXINS.alerts(name)] + of_lines:
        for placeholder in PLACEHOLDER.findall(str(alert)):
            if placeholder.startswith("thresholds."):
                used.setdefault(placeholder.removeprefix("thresholds."), set()).add(alert["alert"])
    assert {key: sorted(users) for key, users in used.items()} == {
        key: spec["used_by"] for key, spec in MIXINS.thresholds().items()}


def test_thresholds_are_documented():
    for key, spec in MIXINS.thresholds().items():
        assert set(spec) <= {"default", "unit", "minimum", "maximum", "description", "used_by"}, key
        assert spec["unit"] and spec["description"].endswith(".")
        assert MIXINS.values({"thresholds": {key: spec["default"]}})


def test_jobs_and_ports_differ():
    for key in ("job", "default_port"):
        given = [MIXINS.scrape(name)[key] for name in NAMES if key in MIXINS.scrape(name)]
        assert len(given) == len(set(given)) > 3
        assert "probe" not in given


def test_one_type_is_what_probes():
    assert [name for name in NAMES if MIXINS.scrape(name)["placement"] == "probes"] == ["blackbox"]


def test_the_modules_that_mixins_name_are_the_roles():
    text = (HERE.parents[1] / "roles/blackbox_exporter/templates/blackbox.yml.j2").read_text(encoding="utf-8")
    assert MODULES == set(re.findall(r"^  ([a-z_0-9]+):$", text, re.MULTILINE)) - {"icmp"}
    used = {probe["module"] for name in NAMES for probe in MIXINS.scrape(name)["probes"].values()} | {
        inventory_model.FRONT_DOOR["module"]}
    assert used == MODULES
