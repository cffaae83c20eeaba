# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of the mixins: what it fills in, and how it speaks of faults."""

import json
import subprocess
import sys

import pytest
from ansible_collections.aistack.observability.plugins.plugin_utils import mixins
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import MixinError, Mixins

FILES = {
    "thresholds.yml": """
        cpu_percent: {default: 80, unit: percent, maximum: 100, description: Use., used_by: [BusyDemo]}
        age_seconds: {default: 1.5, unit: seconds, minimum: 1, description: Age., used_by: []}
        """,
    "demo/scrape.yml": """
        job: demo
        role: demo_exporter
        placement: monitored_services
        default_port: 9999
        path: /metrics
        options:
          url: {type: str, default: "http://127.0.0.1", description: Where it answers.}
        """,
    "demo/rules.yml": """
        groups:
          - name: demo
            rules:
              - record: demo:busy
                expr: label_replace(busy, "a", "$1", "b", "(.*)")
              - alert: BusyDemo
                expr: demo:busy > ${thresholds.cpu_percent} / 100
                labels: {severity: warning}
                annotations: {summary: "more than ${thresholds.cpu_percent} %: {{ $value }}"}
              - alert: OldDemo
                expr: time() - seen > ${thresholds.age_seconds}
                annotations: {dashboard_url: "http://elsewhere/${thresholds.age_seconds}"}
        """,
    "demo/rules.test.yml": """
        rule_files: [rules.yml]
        tests: [{alert_rule_test: [{exp: "${runbook_url}/demo ${prometheus_url} ${thresholds.cpu_percent}"}]}]
        """,
    "demo/metrics.yml": """
        recorded_from: {program: demo, version: 1.0.0, date: 2026-01-01}
        metrics: [{name: busy, type: gauge, labels: [b], help: Busy.}]
        """,
    "demo/runbook.md": "## BusyDemo\n",
}


@pytest.fixture
def folder(tmp_path):
    """A folder with one mixin; lay(file, text) changes a file of it."""
    for file, text in FILES.items():
        lay(tmp_path, file, text)
    return tmp_path / "mixins"


def lay(tmp_path, file, text):
    path = tmp_path / "mixins" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("\n        ", "\n"), encoding="utf-8")


def alerts(document):
    return {rule["alert"]: rule for group in document["groups"] for rule in group["rules"] if "alert" in rule}


def test_reads_a_mixin(folder):
    its = Mixins(folder)
    assert its.names() == ["demo"]
    assert its.scrape("demo") == {
        "job": "demo", "role": "demo_exporter", "placement": "monitored_services", "default_port": 9999,
        "path": "/metrics",
        "options": {"url": {"type": "str", "default": "http://127.0.0.1", "description": "Where it answers."}}}
    assert its.options("demo") == its.scrape("demo")["options"]
    assert its.metrics("demo")["metrics"] == [{"name": "busy", "type": "gauge", "labels": ["b"], "help": "Busy."}]
    assert its.runbook("demo") == FILES["demo/runbook.md"]
    assert [alert["alert"] for alert in its.alerts("demo")] == ["BusyDemo", "OldDemo"]


def test_a_folder_without_scrape_is_no_mixin(folder):
    (folder / "notes").mkdir()
    assert Mixins(folder).names() == ["demo"]


def test_fills_in_defaults(folder):
    document = Mixins(folder).rules("demo")
    busy = alerts(document)["BusyDemo"]
    assert busy["expr"] == "demo:busy > 80 / 100"
    assert busy["annotations"] == {
        "summary": "more than 80 %: {{ $value }}",
        "runbook_url": f"{mixins.RUNBOOKS}/demo/runbook.md#busydemo",
        "dashboard_url": f"{mixins.PROMETHEUS}/alerts?search=BusyDemo"}
    # A regular expression's group is no placeholder.
    assert document["groups"][0]["rules"][0]["expr"] == 'label_replace(busy, "a", "$1", "b", "(.*)")'


def test_fills_in_what_is_given(folder):
    document = Mixins(folder).rules("demo", {
        "thresholds": {"cpu_percent": 55.0, "age_seconds": 2.25}, "runbook_url": "https://wiki.lan/run/",
        "prometheus_url": "https://monitor.lan"})
    assert alerts(document)["BusyDemo"]["expr"] == "demo:busy > 55 / 100"
    assert alerts(document)["BusyDemo"]["annotations"]["runbook_url"] == "https://wiki.lan/run/demo/runbook.md#busydemo"
    assert alerts(document)["OldDemo"]["expr"] == "time() - seen > 2.25"
    assert alerts(document)["OldDemo"]["annotations"]["dashboard_url"] == "http://elsewhere/2.25"


def test_the_result_is_plain_json(folder):
    document = Mixins(folder).rules("demo")
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize("values, message", [
    ({"thresholds": {"cpu_precent": 5}}, "thresholds: cpu_precent: is unknown; did you mean cpu_percent?"),
    ({"thresholds": {"cpu_percent": 101}}, "cpu_percent: must be a number from 0 to 100 (percent), not 101"),
    ({"thresholds": {"cpu_percent": -1}}, "thresholds: cpu_percent: must be a number from 0 to 100 (percent), not -1"),
    ({"thresholds": {"cpu_percent": "80"}}, "must be a number from 0 to 100 (percent), not '80'"),
    ({"thresholds": {"cpu_percent": True}}, "must be a number from 0 to 100 (percent), not True"),
    ({"thresholds": {"cpu_percent": float("nan")}}, "must be a number from 0 to 100 (percent), not nan"),
    ({"thresholds": {"age_seconds": 0.5}}, "age_seconds: must be a number of at least 1 (seconds), not 0.5"),
    ({"runbook": "https://wiki.lan"}, "values: runbook: is unknown; did you mean runbook_url?"),
    ({"prometheus_url": ""}, "values: prometheus_url: must be an address"),
])
def test_refuses_values(folder, values, message):
    with pytest.raises(MixinError) as error:
        Mixins(folder).rules("demo", values)
    assert str(error.value).endswith(message)


@pytest.mark.parametrize("file, old, new, message", [
    ("demo/rules.yml", "${thresholds.age_seconds}\n", "${thresholds.age_second}\n",
     "mixins/demo/rules.yml: groups[0].rules[2].expr: unknown placeholder ${thresholds.age_second}; "
     "did you mean thresholds.age_seconds?"),
    ("demo/rules.yml", '"$1"', '"${1}"',
     "mixins/demo/rules.yml: groups[0].rules[0].expr: unknown placeholder ${1} (a reference to a regular expression's "
     "group is written $1)"),
    ("demo/rules.yml", "groups:", "groups: [", "mixins/demo/rules.yml: is not valid YAML: "),
    ("demo/rules.yml", FILES["demo/rules.yml"], "- rule", "mixins/demo/rules.yml: must hold a dict"),
    ("demo/scrape.yml", "job: demo", "jobs: demo", "mixins/demo/scrape.yml: jobs: is unknown; did you mean job?"),
    ("demo/scrape.yml", "default_port: 9999", "default_port: '9999'",
     "mixins/demo/scrape.yml: default_port: is needed and must be of type int"),
    ("demo/scrape.yml", "placement: monitored_services", "placement: monitored",
     "mixins/demo/scrape.yml: placement: must be one of every_host, monitored_services, observability"),
    ("demo/scrape.yml", "placement: monitored_services", "placement: every_host",
     "mixins/demo/scrape.yml: options: only a mixin with `placement: monitored_services` takes options"),
    ("demo/scrape.yml", "type: str", "type: string",
     "mixins/demo/scrape.yml: options.url: needs a description and a type out of bool, dict, float, "),
    ("demo/metrics.yml", "version: 1.0.0, ", "",
     "mixins/demo/metrics.yml: recorded_from: needs program, version and date"),
    ("demo/metrics.yml", "type: gauge", "type: gage", "mixins/demo/metrics.yml: metrics[0]: needs name, labels, help"),
])
def test_names_file_key_and_fix(folder, file, old, new, message):
    assert old in FILES[file]
    lay(folder.parent, file, FILES[file].replace(old, new))
    its = Mixins(folder)
    with pytest.raises(MixinError) as error:
        its.scrape("demo"), its.metrics("demo"), its.rules("demo")  # pylint: disable=expression-not-assigned
    assert str(error.value).startswith(message)


def test_an_unknown_mixin_is_told_with_the_nearest(folder):
    with pytest.raises(MixinError, match="mixins/dmeo: there is no such mixin; did you mean demo?"):
        Mixins(folder).rules("dmeo")


def test_a_missing_file_is_named(folder):
    (folder / "demo" / "metrics.yml").unlink()
    with pytest.raises(MixinError, match="mixins/demo/metrics.yml: is missing: every mixin has one"):
        Mixins(folder).metrics("demo")


def test_renders_rules_and_tests_alike(folder, tmp_path):
    Mixins(folder).render(tmp_path / "out", {"thresholds": {"cpu_percent": 70}, "runbook_url": "https://wiki.lan"})
    written = {path.name: json.loads(path.read_text()) for path in (tmp_path / "out" / "demo").iterdir()}
    assert set(written) == {"rules.yml", "rules.test.yml"}
    assert alerts(written["rules.yml"])["BusyDemo"]["expr"] == "demo:busy > 70 / 100"
    assert written["rules.test.yml"]["tests"][0]["alert_rule_test"][0]["exp"] == (
        f"https://wiki.lan/demo {mixins.PROMETHEUS} 70")


@pytest.mark.parametrize("argv, code", [(["render"], 2), (["show", "OUT"], 2), (["render", "OUT"], 0)])
def test_command_line(tmp_path, argv, code):
    done = subprocess.run([sys.executable, mixins.__file__, *argv], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == code
    assert (tmp_path / "OUT" / "host" / "rules.yml").exists() == (code == 0)
    assert (b"render DIR" in done.stderr) == (code != 0)


def test_the_command_line_names_a_fault(folder, tmp_path, monkeypatch, capsys):
    lay(tmp_path, "demo/rules.yml", "groups: [")
    monkeypatch.setattr(Mixins, "__init__", lambda self: setattr(self, "folder", folder))
    assert mixins.main(["render", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("mixins/demo/rules.yml: is not valid YAML")
