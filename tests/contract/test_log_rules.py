# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every mixin's logs.yml keeps: its rules are valid, and each alert has lines that fire it and lines that don't.

Whether they do is seen by a running Loki: tests/e2e/test_log_rules.py. Here only what text alone tells.
"""

import json
import re
import subprocess

import pytest
import yaml
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import LEVELS, Mixins

MIXINS = Mixins()
NAMES = [name for name in MIXINS.names() if MIXINS.logs(name)]
RULED = [name for name in NAMES if MIXINS.logs(name).get("groups")]
VALUES = MIXINS.values()
RULES = {name: MIXINS.log_rules(name) for name in RULED}
EACH_RULED = pytest.mark.parametrize("name", RULED)


def rules_of(name):
    return [rule for group in RULES[name]["groups"] for rule in group["rules"]]


ALERTS = [(name, rule) for name in RULED for rule in rules_of(name) if "alert" in rule]
RECORDS = [(name, rule) for name in RULED for rule in rules_of(name) if "record" in rule]
EACH_ALERT = pytest.mark.parametrize("name, alert", ALERTS, ids=[f"{name}: {rule['alert']}" for name, rule in ALERTS])
EACH_RECORD = pytest.mark.parametrize("name, rule", RECORDS, ids=[rule["record"] for _name, rule in RECORDS])


def corpus(name):
    return yaml.safe_load((MIXINS.folder / name / "logs.corpus.yml").read_text(encoding="utf-8"))


def lines_of(case):
    """A case is one line, or several that belong together."""
    return case if isinstance(case, list) else [case]


def every_line(name):
    texts = corpus(name)
    for alert in texts.get("alerts", {}).values():
        for case in (*alert["fires"], *alert["quiet"]):
            yield from lines_of(case)
    yield from texts.get("recordings", {}).get("lines", ())
    yield from texts.get("parse", ())


# -- the rules by themselves -------------------------------------------------------------------------------------------

@EACH_RULED
def test_lokitool_accepts_the_rules(lokitool, tmp_path, name):
    file = tmp_path / f"{name}.yml"
    file.write_text(json.dumps(RULES[name]), encoding="utf-8")
    for command in (["check"], ["lint", "--dry-run"]):
        done = subprocess.run([lokitool, "rules", *command, str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_lokitool_refuses_a_fault(lokitool, tmp_path):
    """The check above is worth something."""
    file = tmp_path / "faulty.yml"
    rule = {"alert": "Faulty", "expr": 'sum by (host) (count_over_time({level="error" |= `a` [5m])) > 0'}
    file.write_text(json.dumps({"groups": [{"name": "faulty", "rules": [rule]}]}), encoding="utf-8")
    assert subprocess.run([lokitool, "rules", "check", str(file)], capture_output=True, check=False).returncode != 0


def test_groups_are_unique():
    names = [group["name"] for name in RULED for group in RULES[name]["groups"]]
    assert len(names) == len(set(names))


# -- every alert -------------------------------------------------------------------------------------------------------

def test_names_are_of_one_kind():
    """Failed log-ins are one alert, whatever service they are at; else every alert has a name of its own."""
    names = [alert["alert"] for _name, alert in ALERTS]
    assert {one for one in names if names.count(one) > 1} == {"AuthenticationFailures"}
    at = {name for name, alert in ALERTS if alert["alert"] == "AuthenticationFailures"}
    assert at == {"grafana", "host", "keycloak", "n8n", "open_webui", "postgresql"}
    ours = {alert["alert"] for name in MIXINS.names() if (MIXINS.folder / name / "rules.yml").is_file()
            for alert in MIXINS.alerts(name)}
    assert not ours & set(names)


@EACH_ALERT
def test_alert_is_complete(name, alert):
    labels, annotations = alert["labels"], alert["annotations"]
    assert labels["instance"] == "{{ $labels.host }}"
    assert labels["severity"] in ("critical", "warning", "info")
    assert labels["problem"]
    assert re.search(r"\{\{[^}]*\$value", annotations["summary"]), "the summary has no value"
    assert "$labels.host" in annotations["summary"], "the summary names no host"
    assert annotations["description"]
    assert annotations["runbook_url"] == f"{VALUES['runbook_url']}/{name}/runbook.md#{alert['alert'].lower()}"
    assert annotations["dashboard_url"]


@EACH_ALERT
def test_alert_tells_host_and_service(name, alert):
    """By these, a host that is down and a run of the playbook silence it; other labels are few and known."""
    by = {tuple(found.split(", ")) for found in re.findall(r"sum by \(([^)]*)\)", alert["expr"])} - {("host",)}
    assert len(by) == 1
    assert set(*by) - {"host", "service"} <= {"user", "process", "device"}
    assert {"host", "service"} <= set(*by)


@EACH_ALERT
def test_alert_has_a_runbook(name, alert):
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", MIXINS.runbook(name), re.DOTALL | re.MULTILINE))
    steps = re.findall(r"^- \*\*(\w+)\*\*: \S", sections.get(alert["alert"], ""), re.MULTILINE)
    assert steps == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


@EACH_ALERT
def test_alert_has_lines_that_fire_it_and_lines_that_do_not(name, alert):
    lines = corpus(name)["alerts"][alert["alert"]]
    assert lines["fires"] and lines["quiet"]


@EACH_RULED
def test_every_line_is_of_an_alert(name):
    assert set(corpus(name)["alerts"]) == {rule["alert"] for rule in rules_of(name) if "alert" in rule}


# What quotes queries, rules and alerts in lines of its own.
TELLERS = ("loki", "alloy", "promtail", "grafana", "prometheus", "alertmanager")


@EACH_ALERT
def test_alert_does_not_see_its_own_text(name, alert):
    """A rule that looks for text asks one type of service, or leaves out those that tell of rules and alerts."""
    for selector, filters in re.findall(r"\{([^{}]*)\}((?:(?!count_over_time|bytes_over_time).)*)", alert["expr"]):
        if not re.search(r"\|[~=] *`", filters):
            continue
        chosen = re.findall(r'service(=~|=|!~)"([^"]*)"', selector)
        assert chosen, f"{selector} asks for text everywhere"
        seen = [teller for teller in TELLERS if all(
            bool(re.fullmatch(pattern, teller)) == (sign != "!~") for sign, pattern in chosen)]
        assert seen == (["grafana"] if name == "grafana" else [])
        if name == "grafana":
            # Grafana's own line about the query, and Alertmanager's answer in it.
            pattern = re.search(r"\|~ `([^`]*)`", filters)[1]
            for text in (alert["expr"], json.dumps(alert), *alert["annotations"].values()):
                for quoted in (text, json.dumps(text)):
                    assert not re.search(pattern, f'logger=tsdb.loki level=info msg="Prepared" query={quoted}')


# -- what is recorded --------------------------------------------------------------------------------------------------

@EACH_RECORD
def test_what_is_recorded_has_the_labels_of_metrics(name, rule):
    labels = set(re.findall(r"\w+", re.search(r"by \(([^)]*instance[^)]*)\)", rule["expr"])[1]))
    assert {"instance", "service"} <= labels <= {"instance", "service", "level", "route", "method", "status"}


@EACH_RECORD
def test_what_is_recorded_is_tested(name, rule):
    assert corpus(name)["recordings"]["series"][rule["record"]]


# -- every corpus ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_every_line_says_where_it_comes_from(name):
    recorded = corpus(name).get("recorded", {})
    for entry in every_line(name):
        assert set(entry) <= {"line", "level", "service", "times", "ago", "kilobytes", "documented", "stage",
                              "metadata", "dropped", "time", "priority"}
        assert entry.get("documented") or recorded.get(entry.get("service", name)) or not entry.get("stage"), entry
        assert entry.get("dropped") or entry["level"] in LEVELS, entry


@pytest.mark.parametrize("name", [name for name in NAMES if MIXINS.logs(name)["parse"]])
def test_what_is_parsed_has_lines(name):
    parse, lines = MIXINS.logs(name)["parse"], corpus(name)["parse"]
    assert {entry["stage"] for entry in lines} <= {"journal", "docker", "file"}
    for expression in parse.get("level", ()):
        assert any(re.search(expression, entry["line"]) for entry in lines), expression
    for drop in parse.get("drop", ()):
        assert any(re.search(drop["line"], entry["line"]) for entry in lines if entry.get("dropped")), drop
        assert not any(re.search(drop["line"], entry["line"]) for entry in lines if not entry.get("dropped")), drop
    if "first_line" in parse:
        for entry in lines:
            first, *others = entry["line"].splitlines()
            assert re.search(parse["first_line"], first) and not any(
                re.search(parse["first_line"], other) for other in others), entry
    if "time" in parse:
        assert all(re.search(parse["time"]["expression"], entry["line"]) for entry in lines if entry["stage"] == "file")
