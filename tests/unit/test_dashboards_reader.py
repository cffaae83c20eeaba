# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of the dashboards: what it leaves out, how the rest closes up, and what it fills in."""

import json

import pytest
from ansible_collections.aistack.observability.plugins.plugin_utils.dashboards import dashboards, panel_id
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import MixinError, Mixins

VALUES = {"thresholds": {"cpu_percent": 80, "age_seconds": 1.5}, "services": {"demo": "demo|other"},
          "energy": {"tariff_per_kwh": 0.35, "currency": "EUR"}, "grafana_url": "https://grafana.example.org"}


def panel(title, left, top, width, height=4, **more):
    return {"title": title, "type": "stat", "id": len(title), "targets": [{"expr": "up"}], **more,
            "gridPos": {"x": left, "y": top, "w": width, "h": height}}


def heading(title, top):
    return {"title": title, "type": "row", "id": len(title), "panels": [],
            "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}}


@pytest.fixture
def fitted(tmp_path):
    """Fits a summary with these panels, with a dashboard of `demo` beside it, to what there is."""
    def fit(*panels, available=(), values=VALUES, **more):
        for name, content in (("summary", {**more, "panels": list(panels)}), ("demo", {"panels": []})):
            (tmp_path / name).mkdir(exist_ok=True)
            document = {"uid": f"aistack-{name}", **content}
            (tmp_path / name / "dashboard.json").write_text(json.dumps(document), encoding="utf-8")
        (tmp_path / "demo/scrape.yml").touch()
        return dashboards(Mixins(tmp_path), values, set(available))

    return fit


def places(document):
    return {panel["title"]: tuple(panel["gridPos"][key] for key in "xywh") for panel in document["panels"]}


def test_dashboards_of_what_there_is(fitted):
    assert set(fitted()) == {"summary.json"}
    assert set(fitted(available=["demo", "gpu", "energy"])) == {"summary.json", "demo.json"}


def test_a_dashboard_without_a_service_comes_with_what_it_needs(fitted, tmp_path):
    (tmp_path / "logs").mkdir()
    document = {"uid": "aistack-logs", "needs": ["loki"], "panels": []}
    (tmp_path / "logs/dashboard.json").write_text(json.dumps(document), encoding="utf-8")
    assert set(fitted(available=["demo"])) == {"summary.json", "demo.json"}
    found = fitted(available=["demo", "loki"])
    assert set(found) == {"summary.json", "demo.json", "logs.json"}
    assert "needs" not in found["logs.json"]


def test_a_broken_file_is_named(fitted, tmp_path):
    fitted()
    (tmp_path / "summary/dashboard.json").write_text('{"uid": ')
    with pytest.raises(MixinError, match=r"mixins/summary/dashboard.json: cannot be read: Expecting value"):
        dashboards(Mixins(tmp_path), VALUES, set())


# -- what is left out --------------------------------------------------------------------------------------------------

TWO_LINES = (panel("one", 0, 0, 4), panel("gpu", 4, 0, 10, needs=["gpu"]),
             panel("both", 14, 0, 10, needs=["gpu", "demo"]), panel("below", 0, 4, 24, 8))


def test_all_needs_met(fitted):
    document = fitted(*TWO_LINES, available=["gpu", "demo"])["summary.json"]
    assert places(document) == {"one": (0, 0, 4, 4), "gpu": (4, 0, 10, 4), "both": (14, 0, 10, 4),
                                "below": (0, 4, 24, 8)}
    assert not any("needs" in panel for panel in document["panels"])


def test_a_line_with_gaps_closes_up(fitted):
    assert places(fitted(*TWO_LINES, available=["gpu"])["summary.json"]) == {
        "one": (0, 0, 7, 4), "gpu": (7, 0, 17, 4), "below": (0, 4, 24, 8)}
    assert places(fitted(*TWO_LINES)["summary.json"]) == {"one": (0, 0, 24, 4), "below": (0, 4, 24, 8)}


def test_an_empty_line_goes(fitted):
    document = fitted(panel("first", 0, 0, 24), panel("gpu", 0, 4, 24, 9, needs=["gpu"]), panel("last", 0, 13, 24))
    assert places(document["summary.json"]) == {"first": (0, 0, 24, 4), "last": (0, 4, 24, 4)}


def test_a_heading_goes_with_its_panels(fitted):
    panels = [heading("GPU", 0), panel("gpu", 0, 1, 24, needs=["gpu"]), heading("Rest", 5), panel("rest", 0, 6, 24),
              heading("Demo", 10), panel("demo", 0, 11, 24, needs=["demo"])]
    assert places(fitted(*panels)["summary.json"]) == {"Rest": (0, 0, 24, 1), "rest": (0, 1, 24, 4)}
    assert list(places(fitted(*panels, available=["demo"])["summary.json"])) == ["Rest", "rest", "Demo", "demo"]


def test_a_query_goes_by_itself(fitted):
    queries = [{"expr": "up"}, {"expr": "gpu", "needs": ["gpu"]}]
    for available, left in (((), ["up"]), (["gpu"], ["up", "gpu"])):
        document = fitted(panel("trend", 0, 0, 24, targets=queries), available=available)["summary.json"]
        assert document["panels"][0]["targets"] == [{"expr": expr} for expr in left]
    # A panel that has nothing more to ask goes too.
    assert fitted(panel("gpu", 0, 0, 24, targets=queries[1:]))["summary.json"]["panels"] == []


def test_a_variable_goes_with_what_it_asks(fitted):
    variables = [{"name": "datasource"}, {"name": "logs", "needs": ["loki"]}]
    for available, left in (((), ["datasource"]), (["loki"], ["datasource", "logs"])):
        document = fitted(templating={"list": variables}, available=available)["summary.json"]
        assert document["templating"]["list"] == [{"name": name} for name in left]


def test_a_panel_keeps_its_number(fitted):
    documents = [fitted(*TWO_LINES, available=available)["summary.json"] for available in ((), ["gpu", "demo"])]
    assert {panel_id(document, "below") for document in documents} == {len("below")}
    with pytest.raises(MixinError, match="dashboard aistack-summary: panels: there is none with the title 'gpu'"):
        panel_id(documents[0], "gpu")


def test_a_heading_is_no_panel(fitted):
    document = fitted(heading("Disk", 0), panel("Disk", 0, 1, 24, id=99))["summary.json"]
    assert panel_id(document, "Disk") == 99


# -- what is filled in -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("written, filled", [
    ("${thresholds.cpu_percent}", 80),
    ("${thresholds.age_seconds}", 1.5),
    ("more than ${thresholds.cpu_percent} %", "more than 80 %"),
    ("up * ${energy.tariff_per_kwh}", "up * 0.35"),
    ("${energy.currency}", "EUR"),
    ("suffix:${energy.currency}", "suffix:EUR"),
    ('up{service=~"${services.demo}"}', 'up{service=~"demo|other"}'),
    # Grafana's own
    ("${datasource}", "${datasource}"),
    ("${grafana_url}", "${grafana_url}"),
    ("/x?${__url_time_range}&var-instance=${__field.labels.instance}",
     "/x?${__url_time_range}&var-instance=${__field.labels.instance}"),
    ('label_replace(up, "a", "$1", "b", "$instance")', 'label_replace(up, "a", "$1", "b", "$instance")'),
])
def test_our_placeholders_become_values(fitted, written, filled):
    document = fitted(panel("one", 0, 0, 24, deep={"list": [written]}), title=written)["summary.json"]
    assert document["title"] == filled
    assert document["panels"][0]["deep"] == {"list": [filled]}
    assert type(document["title"]) is type(filled)


@pytest.mark.parametrize("written", ["${thresholds.cpu}", "at ${energy.host_watts} W", "${services.nothing}"])
def test_a_placeholder_without_a_value_is_a_fault(fitted, written):
    with pytest.raises(MixinError, match="dashboard aistack-summary: unknown placeholder "):
        fitted(panel("one", 0, 0, 24, description=written))
    # but not where the panel is left out for want of it
    assert fitted(panel("one", 0, 0, 24, description=written, needs=["energy"]))["summary.json"]["panels"] == []


# -- links -------------------------------------------------------------------------------------------------------------

def test_links_to_missing_dashboards_are_taken_out(fitted):
    here, away = ({"title": uid, "url": f"/d/{uid}?${{__url_time_range}}"} for uid in ("aistack-demo", "aistack-gone"))
    outside = {"title": "Docs", "url": "https://example.org/d/aistack-gone"}
    override = {"matcher": {"id": "byName", "options": "Host"}, "properties": [{"id": "links", "value": [away, here]}]}
    given = panel("one", 0, 0, 24, links=[away, outside],
                  fieldConfig={"defaults": {"links": [here, away]}, "overrides": [override]})
    document = fitted(given, available=["demo"], links=[away, here])["summary.json"]
    one = document["panels"][0]
    assert document["links"] == [here]
    assert one["links"] == [outside]
    assert one["fieldConfig"]["defaults"]["links"] == [here]
    assert one["fieldConfig"]["overrides"][0]["properties"] == [{"id": "links", "value": [here]}]
    assert fitted(given, links=[here])["summary.json"]["links"] == []
