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
        probes:
          health: {module: http_2xx, target: "{url}/health"}
        options:
          url: {type: str, default: "http://127.0.0.1", description: Where it answers.}
        """,
    # Services of these kinds have no component of ours: metrics of their own, and nothing but probes.
    "native/scrape.yml": """
        job: native
        placement: monitored_services
        metrics_url: "{url}/metrics"
        options:
          url: {type: str, description: Where it answers.}
        """,
    "native/rules.yml": "groups: []\n",
    "native/rules.test.yml": "tests: []\n",
    "probed/scrape.yml": """
        placement: monitored_services
        probes:
          health: {module: tcp_connect, target: "{address}", from: observability, unless: key}
        options:
          address: {type: str, description: Where it listens.}
          key: {type: str, description: Its key.}
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
    "demo/logs.yml": """
        units: [demo.service]
        parse:
          first_line: '^\\d{4}-'
          level: ['^\\S+ (?P<level>[A-Z]+) ']
          levels: {NOTE: info}
          time: {expression: '^(?P<time>\\S+)', formats: ["2006-01-02T15:04:05Z"]}
          metadata: ['request=(?P<request_id>\\w+)']
          drop: [{line: healthz, why: asked every second}]
        groups:
          - name: demo
            rules:
              - record: demo:lines
                expr: sum by (host, service) (rate({service=~"${services.demo}"} [5m]))
              - alert: DemoFailed
                expr: sum by (host, service) (count_over_time({service=~"${services.demo}"} |= "failed" [5m])) > 5
                labels: {severity: warning}
                annotations: {summary: "{{ $value }} failures"}
        """,
}


@pytest.fixture
def folder(tmp_path):
    """A folder with a mixin of each kind; lay(file, text) changes a file of it."""
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
    assert its.names() == ["demo", "native", "probed"]
    assert its.scrape("demo") == {
        "job": "demo", "role": "demo_exporter", "placement": "monitored_services", "default_port": 9999,
        "path": "/metrics", "probes": {"health": {"module": "http_2xx", "target": "{url}/health", "from": "host"}},
        "options": {"url": {"type": "str", "default": "http://127.0.0.1", "description": "Where it answers."}}}
    assert its.options("demo") == its.scrape("demo")["options"]
    assert its.metrics("demo")["metrics"] == [{"name": "busy", "type": "gauge", "labels": ["b"], "help": "Busy."}]
    assert its.runbook("demo") == FILES["demo/runbook.md"]
    assert [alert["alert"] for alert in its.alerts("demo")] == ["BusyDemo", "OldDemo"]


def test_a_folder_without_scrape_is_no_mixin(folder):
    (folder / "notes").mkdir()
    assert "notes" not in Mixins(folder).names()


def test_what_a_mixin_without_a_component_is(folder):
    its = Mixins(folder)
    assert its.scrape("native")["metrics_url"] == "{url}/metrics"
    assert its.scrape("native")["probes"] == {}
    assert its.scrape("probed")["probes"]["health"] == {
        "module": "tcp_connect", "target": "{address}", "from": "observability", "unless": "key"}
    assert its.probed_only() == ["probed"]
    assert [its.has_rules(name) for name in its.names()] == [True, True, False]
    with pytest.raises(MixinError, match="mixins/probed/rules.yml: is missing: a mixin that has only probes may do"):
        its.rules("probed")
    (folder / "demo" / "rules.yml").unlink()
    assert its.has_rules("demo"), "a missing file would not be noticed"


def test_rule_files_are_those_of_the_mixins_that_have_rules(folder):
    files = Mixins(folder).rule_files(["demo", "probed"], {"thresholds": {"cpu_percent": 55}})
    assert list(files) == ["demo.yml"]
    assert alerts(files["demo.yml"])["BusyDemo"]["expr"] == "demo:busy > 55 / 100"


@pytest.mark.parametrize("template, options, text", [
    ("{url}/health", {"url": "http://a:1"}, "http://a:1/health"),
    ("{url}/health", {"url": "http://a:1/"}, "http://a:1/health"),
    ("{url}", {"url": "http://a:1/page/"}, "http://a:1/page/"),
    ("{url}/r/{realm}/x", {"url": "http://a", "realm": "home"}, "http://a/r/home/x"),
    ("{url}/health", {"url": ""}, ""), ("{url}/health", {}, ""), ("{url}/r/{realm}", {"url": "http://a"}, ""),
    ("{address}", {"address": "a:1"}, "a:1"),
])
def test_a_template_is_filled_in_or_empty(template, options, text):
    assert mixins.fill_options(template, options) == text


def test_alerts_lead_to_their_dashboard_where_there_is_one(folder):
    def link(**values):
        return alerts(Mixins(folder).rules("demo", values))["BusyDemo"]["annotations"]["dashboard_url"]
    grafana = {"grafana_url": "https://grafana.lan/"}
    assert link(**grafana) == f"{mixins.PROMETHEUS}/alerts?search=BusyDemo"
    (folder / "demo" / "dashboard.json").write_text("{}")
    assert link(**grafana) == "https://grafana.lan/d/aistack-demo"
    assert link() == link(grafana_url="") == f"{mixins.PROMETHEUS}/alerts?search=BusyDemo"
    own = alerts(Mixins(folder).rules("demo", grafana))["OldDemo"]["annotations"]["dashboard_url"]
    assert own == "http://elsewhere/1.5"


def test_what_the_placeholders_stand_for(folder):
    texts = mixins.flat(Mixins(folder).values({
        "services": {"demo": ["b", "a.b", "b"]},
        "energy": {"tariff_per_kwh": 0.35, "host_watts": 120, "currency": "EUR"}}))
    assert texts["services.demo"] == "a[.]b|b"
    assert texts["services.native"] == "native"  # none of these is in the site
    assert texts["probed_only"] == "probed"
    assert [texts[f"energy.{name}"] for name in ("tariff_per_kwh", "host_watts", "currency")] == ["0.35", "120", "EUR"]
    assert texts["grafana_url"] == "" and texts["thresholds.cpu_percent"] == "80"
    assert not [name for name in mixins.flat(Mixins(folder).values()) if name.startswith("energy.")]


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
    ({"probed_only": "x"}, "values: probed_only: is unknown"),
    ({"services": {"dmeo": ["a"]}}, "services: dmeo: is unknown; did you mean demo?"),
    ({"energy": {"host_wats": 1}}, "energy: host_wats: is unknown; did you mean host_watts?"),
    ({"energy": {"host_watts": "120"}}, "energy: host_watts: must be a number of at least 0, not '120'"),
    ({"energy": {"tariff_per_kwh": float("nan")}}, "energy: tariff_per_kwh: must be a number of at least 0, not nan"),
    ({"energy": {"currency": 3}}, "energy: currency: must be a text such as EUR, not 3"),
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
     "mixins/demo/scrape.yml: placement: must be one of every_host, log_shipper, monitored_services, observability, "),
    ("demo/scrape.yml", "path: /metrics", "path: /metrics\n        metrics_url: http://a",
     "mixins/demo/scrape.yml: metrics_url: has no use in a mixin with a role"),
    ("demo/scrape.yml", "role: demo_exporter", "probes: {}",
     "mixins/demo/scrape.yml: job: has no use in a mixin with neither a role nor metrics_url"),
    ("demo/scrape.yml", "module: http_2xx", "module: http",
     "mixins/demo/scrape.yml: probes.health.module: must be one of front_door, http_2xx, redis_ping, tcp_connect"),
    ("demo/scrape.yml", 'target: "{url}/health"', 'target: "{ulr}/health"',
     "mixins/demo/scrape.yml: probes.health.target: {ulr} names no option; did you mean url?"),
    ("demo/scrape.yml", ', target: "{url}/health"', "",
     "mixins/demo/scrape.yml: probes.health.target: is needed and must be of type str"),
    ("demo/scrape.yml", "http_2xx,", "http_2xx, form: host,",
     "mixins/demo/scrape.yml: probes.health.form: is unknown; did you mean from?"),
    ("demo/scrape.yml", "http_2xx,", "http_2xx, from: here,",
     "mixins/demo/scrape.yml: probes.health.from: must be one of host, observability"),
    ("demo/scrape.yml", '{module: http_2xx, target: "{url}/health"}', "http_2xx",
     "mixins/demo/scrape.yml: probes.health: must be a mapping of module, target and from"),
    ("native/scrape.yml", "job: native", "path: /metrics",
     "mixins/native/scrape.yml: job: is needed and must be of type str"),
    ("native/scrape.yml", "job: native", "job: native\n        default_port: 1",
     "mixins/native/scrape.yml: default_port: has no use in a mixin with metrics_url"),
    ("native/scrape.yml", "placement: monitored_services", "placement: every_host",
     "mixins/native/scrape.yml: placement: must be monitored_services where no role of ours is installed"),
    ("native/scrape.yml", '"{url}/metrics"', '"{uri}/metrics"',
     "mixins/native/scrape.yml: metrics_url: {uri} names no option; did you mean url?"),
    ("probed/scrape.yml", "unless: key", "unless: kye",
     "mixins/probed/scrape.yml: probes.health.unless: names no option; did you mean key?"),
    ("probed/scrape.yml", "probes:", "problems:",
     "mixins/probed/scrape.yml: problems: is unknown; did you mean probes?"),
    ("probed/scrape.yml", FILES["probed/scrape.yml"], "placement: monitored_services",
     "mixins/probed/scrape.yml: probes: are needed in a mixin that has neither a role nor metrics_url"),
    ("demo/scrape.yml", "placement: monitored_services", "placement: every_host",
     "mixins/demo/scrape.yml: options: only a mixin with `placement: monitored_services` takes options"),
    ("demo/scrape.yml", "type: str", "type: string",
     "mixins/demo/scrape.yml: options.url: needs a description and a type out of bool, dict, float, "),
    ("demo/metrics.yml", "version: 1.0.0, ", "",
     "mixins/demo/metrics.yml: recorded_from: needs program, version and date"),
    ("demo/logs.yml", "units: [demo.service]", "unit: demo.service",
     "mixins/demo/logs.yml: unit: is unknown; did you mean units?"),
    ("demo/logs.yml", "[demo.service]", "demo.service", "mixins/demo/logs.yml: units: must be a list of texts"),
    ("demo/logs.yml", "first_line:", "firstline:",
     "mixins/demo/logs.yml: parse.firstline: is unknown; did you mean first_line?"),
    ("demo/logs.yml", "NOTE: info", "NOTE: note", "mixins/demo/logs.yml: parse.levels.NOTE: must be one of critical, "),
    ("demo/logs.yml", "(?P<level>", "(?P<severity>",
     "mixins/demo/logs.yml: parse.level[0]: needs named groups out of level"),
    ("demo/logs.yml", "'^\\d{4}-'", "'('", "mixins/demo/logs.yml: parse.first_line: is not a regular expression"),
    ("demo/logs.yml", "(?P<time>", "(", "mixins/demo/logs.yml: parse.time: needs an expression with the group"),
    ("demo/logs.yml", ", why: asked every second", "",
     "mixins/demo/logs.yml: parse.drop[0]: must be a mapping of line and why"),
    ("demo/metrics.yml", "type: gauge", "type: gage", "mixins/demo/metrics.yml: metrics[0]: needs name, labels, help"),
])
def test_names_file_key_and_fix(folder, file, old, new, message):
    assert old in FILES[file]
    lay(folder.parent, file, FILES[file].replace(old, new))
    its = Mixins(folder)
    with pytest.raises(MixinError) as error:
        its.scrape(file.split("/")[0]), its.metrics("demo"), its.rules("demo"), its.logs("demo")  # pylint: disable=expression-not-assigned
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
    monkeypatch.setattr(Mixins, "__init__", lambda self: self.__dict__.update(folder=folder, _scrapes={}))
    assert mixins.main(["render", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("mixins/demo/rules.yml: is not valid YAML")


def test_a_currency_is_known_where_a_price_is():
    mixins = Mixins()
    assert mixins.values({"energy": {"tariff_per_kwh": 0.3, "host_watts": 100}})["energy"]["currency"] == "EUR"
    assert mixins.values({"energy": {"tariff_per_kwh": 0.3, "currency": "CHF"}})["energy"]["currency"] == "CHF"
    assert mixins.values({"energy": {}})["energy"] == {}
