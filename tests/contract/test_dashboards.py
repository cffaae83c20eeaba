# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every dashboard keeps: it is what its source says, and whatever it asks for is exposed by a program."""

import functools
import importlib.util
import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import promql_parser
import pytest
import yaml
from ansible_collections.aistack.observability.plugins.plugin_utils import dashboards as reader
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import PLACEHOLDER, Mixins

sys.path.insert(0, str(Path(__file__).parent))
from test_mixins import SYNTHETIC, TARGET_LABELS, catalogue

MIXINS = Mixins()
BUILDER = MIXINS.folder / "dashboards.py"
FEATURES = {"gpu", "containers", "energy", "loki"}
ENERGY = {"tariff_per_kwh": 0.35, "host_watts": 120, "currency": "EUR"}
RAW = {path.parent.name: json.loads(path.read_text(encoding="utf-8"))
       for path in sorted(MIXINS.folder.glob("*/dashboard.json"))}
FITTED = {file.removesuffix(".json"): document for file, document in reader.dashboards(
    MIXINS, MIXINS.values({"energy": ENERGY}), {*MIXINS.names(), *FEATURES}).items()}
PANELS = [(name, panel) for name, document in FITTED.items() for panel in document["panels"] if panel["type"] != "row"]
ASKING = [(name, panel) for name, panel in PANELS if panel["type"] != "text"]
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
LOKI = {"type": "loki", "uid": "${logs}"}
QUERIES, LOG_QUERIES = ([(name, panel, target["expr"]) for name, panel in ASKING for target in panel["targets"]
                         if target["datasource"] == source] for source in (PROMETHEUS, LOKI))

EACH = pytest.mark.parametrize("name", RAW)
EACH_PANEL = pytest.mark.parametrize("name, panel", PANELS, ids=[f"{name}: {panel['title']}" for name, panel in PANELS])
EACH_ASKING = pytest.mark.parametrize("name, panel", ASKING,
                                      ids=[f"{name}: {panel['title']}" for name, panel in ASKING])
EACH_QUERY = pytest.mark.parametrize("name, panel, expr", QUERIES,
                                     ids=[f"{name}: {panel['title']}" for name, panel, _expr in QUERIES])

EACH_LOG_QUERY = pytest.mark.parametrize("name, panel, expr", LOG_QUERIES,
                                         ids=[f"{name}: {panel['title']}" for name, panel, _expr in LOG_QUERIES])

# What every stream has, and nothing else.
STREAM_LABELS = {"host", "service", "container", "level", "stream", "service_name"}
METADATA = {"request_id", "trace_id", "unit"}
# What no catalogue holds, its labels, and why it is asked for all the same.
NOT_RECORDED = {
    "gpu_utilization_ratio": ({"uuid"}, "only where the site has a GPU exporter, which is to come"),
    "container_last_seen": ({"container"}, "only where the site has a container exporter, which is to come"),
    "node_hwmon_temp_celsius": ({"chip", "sensor"}, "the hosts that catalogues are recorded on have no sensors"),
}
# Windows of their own, which the title or the alert of the same threshold names.
FIXED_WINDOWS = {
    ("host", "Processes killed for memory"), ("alertmanager", "Failed in 24 hours"),
    ("alertmanager", "Share that fails"), ("keycloak", "Failed log-ins in 24 hours"),
    ("grafana", "Mails failed in 24 hours"),
    # deriv() of a gauge over the window of the alert HostDiskWillFill24h
    ("host", "File systems"),
    ("blackbox", "Availability"), ("postgresql", "Availability in 24 hours"), ("postgresql", "Availability in 30 days"),
    ("summary", "Estimated daily cost"),
    ("loki", "Stored in 30 days"), ("loki", "Thirty days like the last"), ("loki", "Requests that fail"),
    ("logs", "Lines by hour of day"), ("logs", "Silent services"),
    ("logs", "Stored by Loki"), ("logs", "Thirty days like the last one"),
    ("logs", "Errors in five minutes"), ("security", "Suspicious requests in ten minutes"),
    ("security", "Failed log-ins in five minutes"),
    ("loki", "Stored in 30 days"), ("loki", "Thirty days like the last"), ("loki", "Requests that fail"),
}
# The user's list.
TILES = ["System uptime", "CPU", "Memory", "Disk space free", "GPU utilisation", "Ollama status", "Ollama models",
         "Active containers", "24-hour trends", "Service status", "Estimated daily cost", "Network I/O"]
# Alert rules and links that people saved remember these numbers: a change breaks them.
NUMBERS = {
    ("host", "CPU"): 758181, ("host", "Memory"): 861188, ("host", "Disk space free"): 565090,
    ("ollama", "Ollama status"): 481554, ("keycloak", "Keycloak status"): 770144,
    ("postgresql", "PostgreSQL status"): 367531, ("prometheus", "Rule evaluation"): 615174,
}


# -- the builder -------------------------------------------------------------------------------------------------------

def test_checked_in_is_what_the_sources_say():
    done = subprocess.run([sys.executable, BUILDER, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("the_builder", BUILDER)
    sys.modules["the_builder"] = module = importlib.util.module_from_spec(spec)
    yield (spec.loader.exec_module(module), module)[1]
    del sys.modules["the_builder"]


@pytest.mark.parametrize("missing", ["title", "description", "unit", "levels"])
def test_a_panel_lacks_nothing(builder, missing):
    given = {"title": "Demo", "description": "Whether it works.", "unit": "none", "levels": builder.UP, missing: ""}
    with pytest.raises(builder.Fault, match=f"has no {missing}"):
        builder.stat(given["title"], given["description"], "up", unit=given["unit"], levels=given["levels"])
    with pytest.raises(TypeError, match="unit"):
        builder.timeseries("Demo", "Whether it works.", "up", levels=builder.UP)


def test_a_panel_asks_one_data_source(builder):
    how = {"unit": "none", "levels": builder.NO_LEVELS}
    with pytest.raises(builder.Fault, match="'Demo' asks both Prometheus and Loki"):
        builder.timeseries("Demo", "Both.", [builder.Query("up"), builder.Logs("vector(1)")], **how)
    with pytest.raises(builder.Fault, match="'Demo' has no description"):
        builder.logs("Demo", "", '{host=~".+"}')
    lines = builder.line(4, builder.stat("Lines", "How many.", [builder.Logs("vector(1)")], needs=["demo"], **how))
    document = builder.dashboard("aistack-demo", "Demo", "Why?", lines)
    assert document["panels"][0]["needs"] == ["demo", "loki"]
    assert [(variable["name"], variable.get("needs")) for variable in document["templating"]["list"]] == [
        ("datasource", None), ("logs", ["loki"])]


def test_panels_fill_their_line_and_differ(builder):
    panel, other = (builder.text(title, "Words.", width=9) for title in ("One", "Another"))
    with pytest.raises(builder.Fault, match="beside 'One' do not fill 24 columns"):
        builder.line(4, panel, other).widths()
    panel.width = 15
    assert builder.line(4, panel, other).widths() == [15, 9]
    with pytest.raises(builder.Fault, match="'One' and 'One' have one id"):
        builder.dashboard("aistack-demo", "Demo", "Why?", builder.line(4, builder.text("One", "Words.")),
                          builder.line(4, builder.text("One", "Words.")))


def test_the_command_says_what_is_old_and_writes_it(builder, monkeypatch, capsys, tmp_path):
    (tmp_path / "mixins/demo").mkdir(parents=True)
    source = tmp_path / "mixins/demo/dashboard.py"
    source.write_text("import the_builder as d\nDASHBOARD = d.dashboard('aistack-demo', 'Demo', 'Why?', "
                      "d.line(4, d.text('Say', 'Words.')))\n")
    monkeypatch.setattr(builder, "FOLDER", tmp_path / "mixins")
    for argv, status, says in ((["--check"], 1, "+++ mixins/demo/dashboard.json"), ([], 0, "demo/dashboard.json"),
                               (["--check"], 0, "")):
        monkeypatch.setattr(sys, "argv", [str(BUILDER), *argv])
        assert (builder.main(), says in capsys.readouterr().out) == (status, True)
    source.write_text(source.read_text().replace("Words.", "See /d/aistack-nowhere"))
    assert builder.main() == 1
    assert "demo/dashboard.json leads to aistack-nowhere, which isn't there" in capsys.readouterr().err


# -- every dashboard ---------------------------------------------------------------------------------------------------

def test_every_dashboard_is_fitted():
    assert set(FITTED) == set(RAW)
    assert {name: document["uid"] for name, document in RAW.items()} == {name: f"aistack-{name}" for name in RAW}
    assert len({document["title"] for document in RAW.values()}) == len(RAW)


@EACH
def test_dashboard_is_complete(name):
    document, fitted = RAW[name], FITTED[name]
    assert document["description"].endswith("?"), "a dashboard says which question it answers"
    assert document["schemaVersion"] == 38
    assert document["tags"][0] == "aistack"
    assert (document["timezone"], document["style"], document["editable"]) == ("browser", "dark", False)
    assert not {"id", "version", "__inputs", "__requires", "gnetId"} & set(document)
    assert '"needs"' not in json.dumps(fitted)
    assert not [left for left in PLACEHOLDER.findall(json.dumps(fitted)) if left.startswith(reader.OURS)]


@EACH
def test_variables(name):
    asks_loki = any(panel.get("datasource") == LOKI for panel in RAW[name]["panels"])
    source, *others = RAW[name]["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert source["current"]["value"] == "prometheus"
    if asks_loki:
        logs = others.pop(0)
        assert (logs["name"], logs["type"], logs["query"], logs["current"]["value"]) == (
            "logs", "datasource", "loki", "loki")
    chosen = [variable["name"] for variable in others if variable["type"] == "query"]
    if RAW[name].get("needs") == ["loki"]:
        assert chosen[0] == "host"
    else:
        assert chosen == [variable["name"] for variable in others] == ([] if name == "summary" else ["instance"])
    for variable in others:
        if variable["type"] == "query":
            # Asked again with every time range, or a host that is new or gone stays unseen.
            assert (variable["refresh"], variable["multi"], variable["includeAll"]) == (2, True, True)
            # A line without a container is of no container that could be chosen.
            assert variable["allValue"] == (".*" if variable["name"] == "container" else ".+")
        else:
            assert variable["type"] in ("textbox", "custom")
    for variable in FITTED[name]["templating"]["list"]:
        if variable.get("datasource") == LOKI:
            asked = variable["query"]
            assert (variable["name"], asked["type"]) == (asked["label"], 1)
            assert asked["label"] in STREAM_LABELS
            assert asked["label"] == "host" or log_faults(asked["stream"]) == []
        elif variable["type"] == "query":
            assert variable["datasource"] == PROMETHEUS
            assert faults(re.fullmatch(r"label_values\((.*), instance\)", variable["query"]["query"])[1]) == []


@EACH
def test_without_loki_nothing_asks_it(name):
    available = {*MIXINS.names(), *FEATURES} - {"loki"}
    without = reader.dashboards(MIXINS, MIXINS.values({"energy": ENERGY}), available)
    if RAW[name].get("needs") == ["loki"] or name == "loki":
        assert f"{name}.json" not in without
    else:
        assert not re.search(r"\$\{?logs\b|aistack-log|ollama_access", json.dumps(without[f"{name}.json"]))


@EACH
def test_annotations_are_alerts(name):
    for annotation in FITTED[name]["annotations"]["list"]:
        assert faults(annotation["expr"]) == []
        assert annotation["datasource"] == PROMETHEUS


def places(document):
    return [(panel["title"], panel["gridPos"]) for panel in document["panels"]]


def unfilled(document):
    """What is wrong with the places of a dashboard's panels: overlaps and holes."""
    found = []
    for (title, one), (another, other) in combinations(places(document), 2):
        if (one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
                and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]):
            found.append(f"{title} and {another} overlap")
    bottom = max(place["y"] + place["h"] for _title, place in places(document))
    if sum(place["w"] * place["h"] for _title, place in places(document)) != 24 * bottom:
        found.append("there are holes")
    return found


@pytest.mark.parametrize("present", [set(), {"ollama"}, {"gpu"}, {"energy", "containers"}, {"loki"},
                                     {"ollama", *FEATURES}])
def test_panels_lie_side_by_side(present):
    available = {*MIXINS.names(), *present} - ({"ollama", "keycloak", "loki"} - present)
    values = MIXINS.values({"energy": ENERGY})
    for document in [*reader.dashboards(MIXINS, values, available).values(), *RAW.values()]:
        assert unfilled(document) == []


@EACH
def test_panel_numbers_are_unique(name):
    numbers = [panel["id"] for panel in RAW[name]["panels"]]
    assert len(numbers) == len(set(numbers))


def test_panel_numbers_are_stable():
    assert {key: reader.panel_id(RAW[key[0]], key[1]) for key in NUMBERS} == NUMBERS


def test_panel_rules_find_their_panels():
    rules = [rule for path in MIXINS.folder.glob("*/panel_rules.yml")
             for rule in yaml.safe_load(path.read_text(encoding="utf-8"))]
    assert rules
    for rule in rules:
        document = RAW[rule["dashboard"].removeprefix("aistack-")]
        assert reader.panel_id(document, rule["panel"]) == reader.panel_id(FITTED[document["uid"][8:]], rule["panel"])


@EACH
def test_links_lead_to_dashboards(name):
    found = re.findall(r'"(/d/[^"]*)"', json.dumps(RAW[name]))
    assert found or name == "postgresql"
    for url in found:
        assert re.match(r"/d/([\w-]+)", url)[1].removeprefix("aistack-") in RAW
        assert "${__url_time_range}" in url
        assert "${datasource:queryparam}" in url
    assert [(link["type"], link["tags"], link["keepTime"], link["includeVars"]) for link in RAW[name]["links"]] == [
        ("dashboards", ["aistack"], True, True)]


# -- every panel -------------------------------------------------------------------------------------------------------

@EACH_PANEL
def test_panel_is_complete(name, panel):
    assert panel["title"]
    if panel["type"] == "text":
        assert panel["options"]["content"]
        return
    assert panel["description"].endswith(".")
    assert panel["targets"]
    for asked in (panel, *panel["targets"]):
        assert asked["datasource"] == panel["datasource"]
    assert panel["datasource"] in (PROMETHEUS, LOKI)
    if panel["type"] == "logs":
        assert panel["options"]["enableLogDetails"], "structured metadata is seen nowhere else"
        return
    assert panel["fieldConfig"]["defaults"]["unit"]
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps[0]["value"] is None
    limits = [step["value"] for step in steps[1:]]
    assert all(isinstance(limit, (int, float)) and not isinstance(limit, bool) for limit in limits)
    assert limits == sorted(limits), "a level can never be reached"


@EACH_ASKING
def test_percentages_are_of_a_hundred(name, panel):
    """Thresholds are percentages, and so are the values that they are compared with."""
    defaults = panel["fieldConfig"]["defaults"]
    assert "percentunit" not in json.dumps(panel)
    if defaults.get("unit") == "percent":
        assert all(re.search(r"\b100 [*-] ", target["expr"]) for target in panel["targets"])
        assert (defaults["min"], defaults.get("max", 100)) == (0, 100)


def test_every_threshold_is_seen_on_a_panel():
    """Where a rule compares with a threshold, people see how far it is."""
    assert set(re.findall(r"\$\{thresholds\.(\w+)\}", json.dumps(RAW))) == set(MIXINS.thresholds())


@pytest.mark.parametrize("name, title, thresholds", [
    ("host", "CPU", ["cpu_percent", "cpu_critical_percent"]),
    ("host", "Memory", ["memory_percent", "memory_critical_percent"]),
    ("host", "Disk space free", ["disk_free_critical_percent", "disk_free_percent"]),
    ("summary", "CPU", ["cpu_percent", "cpu_critical_percent"]),
    ("summary", "Memory", ["memory_percent", "memory_critical_percent"]),
    ("summary", "Disk space free", ["disk_free_critical_percent", "disk_free_percent"]),
])
def test_levels_are_the_alerts_own(name, title, thresholds):
    panel = next(panel for panel in RAW[name]["panels"] if panel["title"] == title)
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in steps] == [None, *(f"${{thresholds.{key}}}" for key in thresholds)]


# -- every query -------------------------------------------------------------------------------------------------------

def parsed(expr):
    return promql_parser.parse(expr.replace("$__rate_interval", "5m"))


def read(expr):
    """Every selector of a query as (metric, its matchers, whether its values count as they are)."""
    selectors, elsewhere = [], []

    def visit(node):
        # What these hold is visited by itself, too.
        if isinstance(node, promql_parser.MatrixSelector):
            elsewhere.append(str(node.vector_selector))
        elif isinstance(node, promql_parser.AggregateExpr) and str(node.op) == "count":
            elsewhere.append(str(node.expr))
        elif isinstance(node, promql_parser.VectorSelector):
            selectors.append(node)

    promql_parser.walk(parsed(expr), visit)
    written = [str(selector) for selector in selectors]
    return [(selector.name, {item.name: item.value for item in selector.matchers.matchers},
             written.count(str(selector)) > elsewhere.count(str(selector))) for selector in selectors]


@functools.cache
def recorded_from_logs():
    """{series: its labels} of what Loki's rules hand over to Prometheus; the alerts among it keep their labels."""
    known = {}
    for name in MIXINS.names():
        for rule in (rule for group in MIXINS.log_rules(name)["groups"] for rule in group["rules"]):
            labels = {"instance", *rule.get("labels", ())}.union(
                *(re.findall(r"\w+", by) for by in re.findall(r"\bby *\(([^)]*)\)", rule["expr"])))
            known.setdefault(rule.get("record", "ALERTS"), set()).update(labels)
    return known


def faults(expr):
    """What a query asks for and nobody exposes."""
    known = {**catalogue(), **{metric: labels for metric, (labels, _reason) in NOT_RECORDED.items()}}
    for metric, labels in recorded_from_logs().items():
        known[metric] = {*known.get(metric, ()), *labels}
    found = []
    for metric, matchers, _plain in read(expr):
        if metric not in known:
            found.append(f"no program exposes {metric}")
        elif strange := set(matchers) - set(known[metric]) - TARGET_LABELS:
            found.append(f"{metric} has no label {', '.join(sorted(strange))}")
    return found


def counters():
    return {metric["name"] + part for name in MIXINS.names() if (MIXINS.folder / name / "metrics.yml").is_file()
            for metric in MIXINS.metrics(name)["metrics"]
            for part in {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count"),
                         "counter": ("",)}.get(metric["type"], ())}


@EACH_QUERY
def test_every_metric_exists(name, panel, expr):
    assert faults(expr) == []


@pytest.mark.parametrize("expr, fault", [
    ("sum(rate(nowhere[$__rate_interval]))", "no program exposes nowhere"),
    ('100 * up / on (instance) group_left nowhere{a="b"}', "no program exposes nowhere"),
    ('rate(node_cpu_seconds_total{modus="idle"}[$__rate_interval])', "node_cpu_seconds_total has no label modus"),
])
def test_an_unknown_metric_is_found(expr, fault):
    assert faults(expr) == [fault]


def test_exceptions_are_still_needed():
    assert not set(NOT_RECORDED) & set(catalogue()), "it is recorded by now"
    for metric, need in (("gpu_utilization_ratio", "gpu"), ("container_last_seen", "containers")):
        asking = [(panel, target) for document in RAW.values() for panel in document["panels"]
                  for target in panel.get("targets", ()) if metric in target["expr"]]
        assert asking
        assert all(need in [*panel.get("needs", ()), *target.get("needs", ())] for panel, target in asking)
    fixed = {(name, panel["title"]) for name, panel, expr in QUERIES + LOG_QUERIES
             if re.search(r"\[(?!\$__(rate_interval|interval|range)\])", STRING.sub('""', expr))}
    assert fixed == FIXED_WINDOWS


@EACH_QUERY
def test_windows_follow_the_time_range(name, panel, expr):
    if (name, panel["title"]) not in FIXED_WINDOWS:
        assert set(re.findall(r"\[(.*?)\]", re.sub(r'"[^"]*"', "", expr))) <= {"$__rate_interval"}


@EACH_QUERY
def test_selectors_are_narrow(name, panel, expr):
    """A scraped series is asked for with its job, and on a dashboard with hosts to choose from with these."""
    recorded = {metric for metric in {**catalogue(), **recorded_from_logs()} if ":" in metric}
    hosts = [f"${variable['name']}" for variable in RAW[name]["templating"]["list"]
             if variable["name"] in ("instance", "host")]
    for metric, matchers, _plain in read(expr):
        if metric not in recorded and metric not in SYNTHETIC and metric not in NOT_RECORDED:
            assert "job" in matchers, metric
        # An alert of any host shows where Alertmanager is asked; and who stores lines is not whose lines they are.
        stores = name == "loki" and metric.startswith("log_") or name == "logs" and matchers.get("job") == "loki"
        if name != "summary" and metric != "ALERTS" and not stores:
            assert [matchers.get("instance")] == hosts, metric


@EACH_QUERY
def test_counters_are_not_read_as_they_are(name, panel, expr):
    known = counters()
    assert [metric for metric, _matchers, plain in read(expr) if metric in known and plain] == []


# -- every query for lines ---------------------------------------------------------------------------------------------

STRING = re.compile(r'`[^`]*`|"(?:[^"\\]|\\.)*"')


def log_faults(expr):
    """What a query for lines asks for and no line has."""
    named = {*re.findall(r"\(\?P<(\w+)>", expr), *re.findall(r"label_format (\w+)=", expr)}
    bare = STRING.sub(lambda found: '"$host"' if found[0] in ('"$host"', '"$instance"') else '""', expr)
    found = []
    for selector in re.findall(r"\{(.*?)\}", bare):
        matchers = re.findall(r"(\w+) *(=~|!~|!=|=)", selector)
        found += [f"no stream has {label}" for label, _operator in matchers if label not in STREAM_LABELS]
        if not re.search(r'\bhost=~"\$host"', selector):
            found.append("no host is chosen")
    for label in re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|on|keep)\b *\(?([\w, ]+)", bare))):
        if label not in {*STREAM_LABELS, *METADATA, *named}:
            found.append(f"no line has {label}")
    for label in re.findall(r"(?:\||\bor|\band) (\w+) *(?:=~|!~|!=|==|=|>|<)", bare):
        if label not in {*STREAM_LABELS, *METADATA, *named}:
            found.append(f"no line has {label}")
    return found


def without_variables(expr):
    """A query as Grafana asks it, with every variable filled in."""
    for variable, value in {"$__interval": "1m", "$__range": "1h", "$instance": ".+", "$host": ".+", "$service": ".+",
                            "$container": ".*", "$level": ".+", "${how:raw}": "(?i)"}.items():
        expr = expr.replace(variable, value)
    return re.sub(r"\$\{\w+:raw\}", "words", expr)


@EACH_LOG_QUERY
def test_a_query_for_lines_names_only_what_lines_have(name, panel, expr):
    assert log_faults(expr) == []
    for regex in re.findall(r"(?:[|!]~|\| regexp) `([^`]*)`", without_variables(expr)):
        assert re.compile(regex)


@pytest.mark.parametrize("expr, fault", [
    ('{host=~"$host", filename="x"}', "no stream has filename"),
    ('{service="x"}', "no host is chosen"),
    ('sum by (user) (count_over_time({host=~"$host"} [$__range]))', "no line has user"),
    ('sum by (host) (rate({host=~"$host"} | regexp `(?P<who>x)` | name="x" [$__interval]))', "no line has name"),
])
def test_what_no_line_has_is_found(expr, fault):
    assert log_faults(expr) == [fault]


@EACH_LOG_QUERY
def test_windows_of_lines_follow_the_time_range(name, panel, expr):
    windows = set(re.findall(r"\[(.*?)\]", STRING.sub('""', expr)))
    if (name, panel["title"]) in FIXED_WINDOWS:
        assert windows and not windows & {"$__interval", "$__range"}
        return
    (target,) = [target for target in panel["targets"] if target["expr"] == expr]
    assert target["queryType"] == ("instant" if "$__range" in windows else "range")
    assert windows == ({"$__range"} if target["queryType"] == "instant" else
                       set() if panel["type"] == "logs" else {"$__interval"})


@pytest.fixture(scope="module")
def linted(lokitool, tmp_path_factory):
    """What the real lokitool says of every query, each as a rule of its own that is named like its number."""
    rules = [{"record": f"panel:{number}", "expr": without_variables(
        f"count_over_time({expr} [5m])" if panel["type"] == "logs" else expr)}
        for number, (_name, panel, expr) in enumerate(LOG_QUERIES)]
    file = tmp_path_factory.mktemp("queries") / "queries.yml"
    file.write_text(json.dumps({"namespace": "panels", "groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([lokitool, "rules", "lint", "--dry-run", file], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, len(rules)


def test_lokitool_reads_every_query_for_lines(linted):
    status, says, number = linted
    assert status == 0, says
    assert f"{number} rules found" in says


# -- the summary -------------------------------------------------------------------------------------------------------

def test_the_summary_has_its_twelve_tiles():
    assert sorted(panel["title"] for panel in FITTED["summary"]["panels"]) == sorted(TILES)


def test_the_summary_fits_a_large_screen():
    """A unit is 38 pixels high; a screen of 1080 holds Grafana's own header, and 24 of them."""
    assert max(place["y"] + place["h"] for _title, place in places(FITTED["summary"])) <= 24
    assert FITTED["summary"]["refresh"] == "30s"


def test_the_cost_is_called_an_estimate():
    panel = next(panel for panel in FITTED["summary"]["panels"] if panel["title"] == "Estimated daily cost")
    assert panel["description"].startswith("An estimate")
    assert "120 W" in panel["description"]
    assert "0.35 EUR" in panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"] == "suffix:EUR"
    assert panel["targets"][0]["expr"] == "sum(avg_over_time(host:up[24h])) * 120 * 24 / 1000 * 0.35"
