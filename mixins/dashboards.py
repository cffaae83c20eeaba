# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The builder of the dashboards: mixins/<name>/dashboard.py says what is on one, this file what all have in common.

    python mixins/dashboards.py            # writes mixins/<name>/dashboard.json
    python mixins/dashboards.py --check    # shows what is out of date, with exit status 1

For development only: Grafana gets the JSON, through plugins/plugin_utils/dashboards.py, which fills in thresholds and
leaves out what an installation has no data for. It is the classic model, which Grafana 10 to 13 read.
"""
from __future__ import annotations

import argparse
import difflib
import importlib.util
import json
import re
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from grafana_foundation_sdk.builders import bargauge, common, loki, prometheus, statetimeline
from grafana_foundation_sdk.builders import dashboard as sdk
from grafana_foundation_sdk.builders import gauge as gauges
from grafana_foundation_sdk.builders import logs as log_panels
from grafana_foundation_sdk.builders import stat as stats
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.builders import text as texts
from grafana_foundation_sdk.builders import timeseries as graphs
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER = Path(__file__).resolve().parent

# Grafana 10.0's own; later ones bring it up to theirs when they load it.
SCHEMA_VERSION = 38
GRID = 24
TAG = "aistack"
PROMETHEUS = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
LOKI = model.DataSourceRef(type_val="loki", uid="${logs}")
# Written by the foundation SDK for every panel and variable, though Grafana means the same without.
NOISE: dict[str, Any] = {"auto": False, "auto_count": 30, "auto_min": "10s", "options": None, "repeatDirection": "h",
                         "transformations": [], "transparent": False, "id": "00000000-0000-0000-0000-000000000000"}


class Fault(ValueError):
    """What is wrong with a dashboard, in one sentence."""


# -- levels: when a value is fine, and when it isn't -------------------------------------------------------------------

Level = str | float
Levels = tuple[tuple[Level | None, str], ...]

NO_LEVELS: Levels = ((None, "blue"),)     # no value is good or bad by itself
UP: Levels = ((None, "red"), (1, "green"))
ANY_IS_BAD: Levels = ((None, "green"), (1e-9, "red"))
JUST_STARTED: Levels = ((None, "orange"), (600, "green"))


def _level(value: Level) -> Level:
    """A number, or the name of a threshold that the installation sets."""
    return f"${{thresholds.{value}}}" if isinstance(value, str) else value


def above(warning: Level, critical: Level | None = None) -> Levels:
    """The more, the worse."""
    steps: Levels = ((None, "green"), (_level(warning), "orange"))
    return steps if critical is None else (*steps, (_level(critical), "red"))


def below(warning: Level, critical: Level | None = None) -> Levels:
    """The less, the worse."""
    if critical is None:
        return ((None, "orange"), (_level(warning), "green"))
    return ((None, "red"), (_level(critical), "orange"), (_level(warning), "green"))


# Three nines are 43 minutes a month, two are seven hours.
AVAILABILITY = below(99.9, 99)


# -- queries, links, mappings ------------------------------------------------------------------------------------------

# Real network cards: what lies on top of them would be counted twice.
NETWORK_CARDS = 'device!~"lo|veth.*|docker.*|br-.*|virbr.*|tap.*"'


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = ""
    needs: tuple[str, ...] = ()


class Logs(Query):
    """A question in LogQL. Its window is $__interval over time, and $__range where only the present value is asked
    for; its host is the label `host`, which is `instance` of metrics."""


COUNTED = re.compile(r"count_over_time\(\s*\{(.*?)\s*\[\d+[smhd]\]", re.DOTALL)


def lines_of(mixin: str, alert: str, part: int = 0, hosts: str = "$host") -> str:
    """The lines that an alert of a mixin's logs.yml counts, those of the chosen hosts: what alerts is what is shown.
    *part*: of which of its counts, if there are several."""
    document = yaml.safe_load((FOLDER / mixin / "logs.yml").read_text(encoding="utf-8"))
    found = [counted for group in document["groups"] for rule in group["rules"] if rule.get("alert") == alert
             for counted in COUNTED.findall(rule["expr"])]
    if part >= len(found):
        raise Fault(f"mixins/{mixin}/logs.yml has no alert {alert} that counts lines so often")
    return f'{{host=~"{hosts}", {found[part]}'


@dataclass(frozen=True)
class Link:
    """A way to another dashboard that keeps time range and data source; *variables* are set there, and those of *keeps*
    are there what they are here."""

    title: str
    uid: str
    variables: dict[str, str] = field(default_factory=dict)
    keeps: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        variables = "".join([*(f"&var-{name}={value}" for name, value in self.variables.items()),
                             *(f"&${{{name}:queryparam}}" for name in self.keeps)])
        return f"/d/{self.uid}?${{__url_time_range}}&${{datasource:queryparam}}{variables}"

    def as_json(self) -> dict[str, str]:
        return {"title": self.title, "url": self.url}


def to_host(label: str = "${__field.labels.instance}") -> Link:
    return Link("System Overview", "aistack-host", {"instance": label})


def to_services(label: str = "${__field.labels.instance}") -> Link:
    return Link("Services and Probes", "aistack-blackbox", {"instance": label})


def to_logs(host: str = "${__field.labels.instance}", service: str = "${__field.labels.service}",
            levels: Sequence[str] = (), keeps: tuple[str, ...] = ()) -> Link:
    """The lines of a host's service in the explorer: all, or of some levels."""
    chosen = {"level": "&var-level=".join(levels)} if levels else {}
    return Link("Logs", "aistack-log_explorer", {"host": host, "service": service, **chosen}, keeps)


# In a table with the columns Host and Service: those of the row.
ROW = ("${__data.fields.Host}", "${__data.fields.Service}")


def words(**meanings: tuple[str, str]) -> list[model.ValueMap]:
    """Numbers shown as words: words(_1=("up", "green"), _0=("down", "red"))."""
    return [model.ValueMap({value.lstrip("_"): model.ValueMappingResult(text=text, color=color, index=index)
                            for index, (value, (text, color)) in enumerate(meanings.items())})]


UP_OR_DOWN = words(_1=("up", "green"), _0=("down", "red"))
OK_OR_FAILED = words(_1=("ok", "green"), _0=("failed", "red"))
SEVERITIES = words(critical=("critical", "red"), warning=("warning", "orange"), info=("info", "blue"))


# -- panels ------------------------------------------------------------------------------------------------------------

@dataclass
class Panel:
    title: str
    body: dict[str, Any]
    width: int = 0


def _encoded(builder: Any) -> dict[str, Any]:
    """What the SDK makes of a builder, less its noise."""
    found = json.loads(json.dumps(builder.build(), cls=JSONEncoder))
    return {key: value for key, value in found.items() if key not in NOISE or value != NOISE[key]}


def _queries(queries: Sequence[Query] | str) -> list[Query]:
    return [Query(queries)] if isinstance(queries, str) else list(queries)


def _panel(builder: Any, title: str, description: str, queries: Sequence[Query] | str, *, unit: str, levels: Levels,
           now: bool = False, table: bool = False, links: Iterable[Link] = (), needs: Sequence[str] = (),
           width: int = 0, decimals: int | None = None, mappings: list[model.ValueMap] | None = None,
           no_value: str = "", since: str = "", full: bool = False, step: str = "",
           colours: dict[str, str] | None = None) -> Panel:
    """What every panel with queries has. *now*: only the present value is asked for; *full*: the axis shows 100 % even
    where values are small; *step*: the shortest interval between two values; *colours*: by series."""
    for name, value in (("title", title), ("description", description), ("unit", unit), ("levels", levels)):
        if not value:
            raise Fault(f"the panel {title!r} has no {name}")
    asked = _queries(queries)
    source = _source(title, asked)
    builder.title(title).description(description).datasource(source).unit(unit)
    builder.thresholds(sdk.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(
        # A placeholder becomes its number when the reader fills it in.
        [model.Threshold(value=cast("float | None", value), color=color) for value, color in levels]))
    if unit == "percent":
        builder.min(0)
    if unit == "percent" and (now or full):
        builder.max(100)
    if decimals is not None:
        builder.decimals(decimals)
    if mappings:
        builder.mappings(mappings)
    if no_value:
        builder.no_value(no_value)
    if since:
        builder.time_from(since)
    if step:
        builder.interval(step)
    for name, colour in (colours or {}).items():
        builder.override_by_name(name, [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
    for index, query in enumerate(asked):
        builder.with_target(_target(query, chr(ord("A") + index), now, table))
    body = _encoded(builder)
    for position, query in enumerate(asked):
        if query.needs:
            body["targets"][position]["needs"] = list(query.needs)
    if found := [link.as_json() for link in links]:
        body["fieldConfig"]["defaults"]["links"] = found
    if needs := [*needs, *(["loki"] if source is LOKI else [])]:
        body["needs"] = needs
    return Panel(title, body, width)


def _source(title: str, queries: Sequence[Query]) -> model.DataSourceRef:
    kinds = {isinstance(query, Logs) for query in queries}
    if len(kinds) > 1:
        raise Fault(f"the panel {title!r} asks both Prometheus and Loki")
    return LOKI if kinds == {True} else PROMETHEUS


def _target(query: Query, letter: str, now: bool, table: bool) -> Any:
    if isinstance(query, Logs):
        target = loki.Dataquery().expr(query.expr).ref_id(letter).datasource(LOKI)
        target.query_type("instant" if now else "range")
        return target.legend_format(query.legend) if query.legend else target
    asked = prometheus.Dataquery().expr(query.expr).ref_id(letter).datasource(PROMETHEUS)
    asked.legend_format(query.legend or "__auto")
    asked.format(PromQueryFormat.TABLE if table else PromQueryFormat.TIME_SERIES)
    return asked.instant() if now else asked.range()


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)


def stat(title: str, description: str, queries: Sequence[Query] | str, *, traffic_light: bool = False,
         name: bool = False, **rest: Any) -> Panel:
    """The present value in large letters; *traffic_light* colours the whole tile, *name* shows the legend too."""
    builder = stats.Panel().reduce_options(_last()).justify_mode(look.BigValueJustifyMode.AUTO)
    builder.graph_mode(look.BigValueGraphMode.NONE).orientation(look.VizOrientation.AUTO)
    builder.color_mode(look.BigValueColorMode.BACKGROUND if traffic_light else look.BigValueColorMode.VALUE)
    builder.text_mode(look.BigValueTextMode.NAME if name else look.BigValueTextMode.AUTO)
    return _panel(builder, title, description, queries, now=True, **rest)


def status(title: str, description: str, kind: str, hosts: str = "$instance", links: Sequence[Link] = (),
           **rest: Any) -> Panel:
    """Up or down of every service of one kind, as alerts see it."""
    return stat(title, description, [Query(f'service:up{{service=~"${{services.{kind}}}", instance=~"{hosts}"}}',
                                           "{{instance}} {{service}}")],
                unit="none", levels=UP, mappings=UP_OR_DOWN, traffic_light=True,
                links=[*(links or [to_host()]), to_logs()], **rest)


def configuration(series: str) -> Panel:
    """What a program's own series on its last reload says."""
    return stat("Configuration", "Whether the last reload of the configuration succeeded.",
                [Query(series, "{{instance}}")], unit="none", levels=UP, mappings=OK_OR_FAILED, traffic_light=True)


def version(title: str, series: str) -> Panel:
    """What a program's own series with a label `version` says."""
    return stat(title, "The version that runs.", [Query(series, "{{version}}")], unit="none", levels=NO_LEVELS,
                name=True)


def gauge(title: str, description: str, queries: Sequence[Query] | str, **rest: Any) -> Panel:
    """The present value between its limits."""
    builder = gauges.Panel().reduce_options(_last()).show_threshold_markers(True).show_threshold_labels(False)
    return _panel(builder, title, description, queries, now=True, **rest)


def timeseries(title: str, description: str, queries: Sequence[Query] | str, *, stacked: bool = False,
               bars: bool = False, levels: Levels, **rest: Any) -> Panel:
    """Values over time; levels are drawn as lines. *bars*: a bar for each interval, as numbers of lines want it."""
    builder = graphs.Panel().line_width(1).fill_opacity(50 if stacked else 10).show_points(look.VisibilityMode.NEVER)
    if bars:
        builder.draw_style(look.GraphDrawStyle.BARS).fill_opacity(80).line_width(0)
    builder.legend(common.VizLegendOptions().show_legend(True).display_mode(look.LegendDisplayMode.LIST)
                   .placement(look.LegendPlacement.BOTTOM).calcs([]))
    builder.tooltip(common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING))
    if stacked:
        builder.stacking(common.StackingConfig().mode(look.StackingMode.NORMAL).group("A"))
    if levels not in (NO_LEVELS, ANY_IS_BAD):
        builder.thresholds_style(common.GraphThresholdsStyleConfig().mode(look.GraphTresholdsStyleMode.DASHED))
    return _panel(builder, title, description, queries, levels=levels, **rest)


def process_memory(title: str, chosen: str) -> Panel:
    """What a program's process holds, of the series that matchers choose."""
    return timeseries(title, "Main memory that the process holds.",
                      [Query(f"process_resident_memory_bytes{{{chosen}}}", "{{instance}}")],
                      unit="bytes", levels=NO_LEVELS)


def timeline(title: str, description: str, queries: Sequence[Query] | str, **rest: Any) -> Panel:
    """States over time, a line for each series."""
    builder = statetimeline.Panel().show_value(look.VisibilityMode.NEVER).merge_values(True).row_height(0.8)
    builder.fill_opacity(80).line_width(0).color_scheme(sdk.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    builder.legend(common.VizLegendOptions().show_legend(False).display_mode(look.LegendDisplayMode.LIST)
                   .placement(look.LegendPlacement.BOTTOM).calcs([]))
    return _panel(builder, title, description, queries, **rest)


@dataclass(frozen=True)
class Column:
    """A column of a table: a label of the series, or the value of a query by its letter."""

    title: str
    unit: str = ""
    levels: Levels = ()
    mappings: Sequence[model.ValueMap] = ()
    link: Link | None = None
    bar: bool = False

    def properties(self) -> list[model.DynamicConfigValue]:
        found: list[tuple[str, Any]] = []
        if self.unit:
            found.append(("unit", self.unit))
        if self.levels:
            found.append(("thresholds", {"mode": "absolute",
                                         "steps": [{"value": value, "color": color} for value, color in self.levels]}))
        if self.mappings:
            found.append(("mappings", list(self.mappings)))
        if self.bar:
            found += [("min", 0), ("max", 100), ("custom.cellOptions", {"type": "gauge", "mode": "basic"})]
        elif self.levels or self.mappings:
            found.append(("custom.cellOptions", {"type": "color-text"}))
        if self.link:
            found.append(("links", [self.link.as_json()]))
        return [model.DynamicConfigValue(id_val=name, value=value) for name, value in found]


def table(title: str, description: str, queries: Sequence[Query] | str, columns: dict[str, Column], *,
          sort: str = "", descending: bool = False, **rest: Any) -> Panel:
    """The present values of several queries, joined by their labels. *columns*, in their order: by label, or "A", "B"…
    for a query's value; what isn't named isn't shown.

    Grafana doesn't join them as long as one of them is empty: one that can be while the others aren't needs an `or`.
    """
    asked = _queries(queries)
    one = len(asked) == 1 and not isinstance(asked[0], Logs)
    names = {("Value" if one else f"Value #{key}") if len(key) == 1 and key.isupper() else key: column
             for key, column in columns.items()}
    builder = tables.Panel().show_header(True).cell_height(look.TableCellHeight.SM)
    builder.with_transformation(model.DataTransformerConfig(id_val="filterFieldsByName",
                                                            options={"include": {"names": list(names)}}))
    if len(asked) > 1:
        builder.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    builder.with_transformation(model.DataTransformerConfig(id_val="organize", options={
        "excludeByName": {}, "indexByName": {name: index for index, name in enumerate(names)},
        "renameByName": {name: column.title for name, column in names.items()}}))
    for column in names.values():
        if properties := column.properties():
            builder.override_by_name(column.title, properties)
    if sort:
        builder.sort_by([common.TableSortByFieldState().display_name(sort).desc(descending)])
    return _panel(builder, title, description, asked, now=True, table=True, **rest)


def text(title: str, content: str, *, needs: Sequence[str] = (), width: int = 0) -> Panel:
    """A few sentences in Markdown."""
    body = _encoded(texts.Panel().title(title).content(content))
    return Panel(title, {**body, **({"needs": list(needs)} if needs else {})}, width)


def sums(title: str, description: str, queries: Sequence[Query] | str, **rest: Any) -> Panel:
    """The sum of each series over the time range, as bars beside each other."""
    builder = bargauge.Panel().reduce_options(common.ReduceDataOptions().calcs(["sum"]).fields("").values(False))
    builder.orientation(look.VizOrientation.VERTICAL).display_mode(look.BarGaugeDisplayMode.BASIC).show_unfilled(False)
    return _panel(builder, title, description, queries, **rest)


# As people know them from Grafana's own pages.
LEVEL_COLOURS = {"critical": "purple", "error": "red", "warning": "orange", "info": "green", "debug": "blue",
                 "unknown": "gray"}


def logs(title: str, description: str, query: str, *, labels: bool = False, limit: int = 0,
         needs: Sequence[str] = (), width: int = 0) -> Panel:
    """Lines, the newest first; a click on one shows its labels and structured metadata. *labels*: those in which the
    lines differ stand before each; *limit*: lines, where the data source's own number is too many."""
    builder = log_panels.Panel().show_time(True).show_labels(labels).show_common_labels(False).wrap_log_message(True)
    builder.prettify_log_message(False).enable_log_details(True).dedup_strategy(look.LogsDedupStrategy.NONE)
    builder.sort_order(look.LogsSortOrder.DESCENDING)
    if not description:
        raise Fault(f"the panel {title!r} has no description")
    target = _target(Logs(query), "A", False, False)
    builder.title(title).description(description).datasource(LOKI)
    builder.with_target(target.max_lines(limit) if limit else target)
    return Panel(title, {**_encoded(builder), "needs": [*needs, "loki"]}, width)


# -- the dashboard -----------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Line:
    """Panels side by side, over the whole width; those without a width of their own share what is left."""

    height: int
    panels: tuple[Panel, ...]

    def widths(self) -> list[int]:
        sharing = sum(not panel.width for panel in self.panels)
        left = GRID - sum(panel.width for panel in self.panels)
        if (left % sharing if sharing else left) or left < sharing:
            raise Fault(f"the panels beside {self.panels[0].title!r} do not fill {GRID} columns")
        return [panel.width or left // sharing for panel in self.panels]


def line(height: int, *panels: Panel) -> Line:
    return Line(height, panels)


ALL = model.VariableOption(selected=True, text=["All"], value=["$__all"])


def instances(series: str) -> Any:
    """The variable `instance`: hosts that have a series, one, some or all of them."""
    return (sdk.QueryVariable("instance").label("Host").datasource(PROMETHEUS)
            .query({"query": f"label_values({series}, instance)", "refId": "instance"})
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
            .multi(True).include_all(True).all_value(".+").current(ALL))


def log_label(label: str, title: str, stream: str = "", *, optional: bool = False) -> Any:
    """A variable with a label's values on the streams that a selector chooses; *optional*: not all of them have it,
    and All means those too."""
    query = {"label": label, "stream": stream, "type": 1, "refId": label}
    return (sdk.QueryVariable(label).label(title).datasource(LOKI).query(query)
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
            .multi(True).include_all(True).all_value(".*" if optional else ".+").current(ALL))


def textbox(name: str, title: str) -> Any:
    """A variable that people type; a query takes it as it is typed with ${name:raw}."""
    return (sdk.TextBoxVariable(name).label(title).default_value("")
            .current(model.VariableOption(selected=True, text="", value="")))


def choice(name: str, title: str, options: dict[str, str]) -> Any:
    """A variable with values by what people read; the first one is chosen."""
    text, value = next(iter(options.items()))
    return (sdk.CustomVariable(name).label(title).values(", ".join(f"{key} : {item}" for key, item in options.items()))
            .current(model.VariableOption(selected=True, text=text, value=value))
            .options([model.VariableOption(selected=key == text, text=key, value=item)
                      for key, item in options.items()]))


def firing(matchers: str = "") -> dict[str, Any]:
    """Marks in every graph: from when to when an alert of Prometheus fired."""
    chosen = ", ".join(filter(None, ['alertstate="firing"', 'severity=~"critical|warning"', matchers]))
    return {"name": "Alerts", "datasource": json.loads(json.dumps(PROMETHEUS, cls=JSONEncoder)), "enable": True,
            "iconColor": "red", "expr": f"ALERTS{{{chosen}}}", "step": "60s", "titleFormat": "{{alertname}}",
            "textFormat": "{{service}} on {{instance}}", "tagKeys": "severity"}


def dashboard(uid: str, title: str, question: str, *content: str | Line, tags: Sequence[str] = (),
              variables: Sequence[Any] = (), annotations: Sequence[dict[str, Any]] = (), refresh: str = "1m",
              since: str = "now-3h", needs: Sequence[str] = ()) -> dict[str, Any]:
    """A dashboard as JSON. *content*: lines of panels, and texts that become headings; *needs*: without these the whole
    dashboard is left out."""
    panels = list(_placed(content))
    board = sdk.Dashboard(title).uid(uid).description(question).tags([TAG, *tags]).readonly().timezone("browser")
    board.style("dark").tooltip(model.DashboardCursorSync.CROSSHAIR).refresh(refresh).time(since, "now")
    board.with_variable(sdk.DatasourceVariable("datasource").label("Data source").type("prometheus")
                        .current(model.VariableOption(selected=True, text="Prometheus", value="prometheus")))
    if any(panel.get("datasource", {}).get("uid") == LOKI.uid for panel in panels):
        board.with_variable(sdk.DatasourceVariable("logs").label("Logs").type("loki")
                            .current(model.VariableOption(selected=True, text="Loki", value="loki")))
    for variable in variables:
        board.with_variable(variable)
    # By the tag, so that the list is always of the dashboards that are there.
    board.link(sdk.DashboardLink("Dashboards").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True)
               .include_vars(True).keep_time(True).icon("external link"))
    found = _encoded(board)
    found["templating"]["list"] = [{key: value for key, value in variable.items()
                                    if key not in NOISE or value != NOISE[key]}
                                   for variable in found["templating"]["list"]]
    for variable in found["templating"]["list"]:
        if variable["name"] == "logs" or variable.get("datasource", {}).get("uid") == LOKI.uid:
            variable["needs"] = ["loki"]
    if needs:
        found["needs"] = list(needs)
    found["schemaVersion"] = SCHEMA_VERSION
    found["annotations"] = {"list": list(annotations)}
    found["panels"] = panels
    seen: dict[int, str] = {}
    for panel in found["panels"]:
        if panel["id"] in seen:
            raise Fault(f"{uid}: the panels {seen[panel['id']]!r} and {panel['title']!r} have one id: rename one")
        seen[panel["id"]] = panel["title"]
    return found


def _placed(content: Iterable[str | Line]) -> Iterable[dict[str, Any]]:
    top = 0
    for item in content:
        if isinstance(item, str):
            yield {"type": "row", "title": item, "id": _id(f"row {item}"), "collapsed": False, "panels": [],
                   "gridPos": {"x": 0, "y": top, "w": GRID, "h": 1}}
            top += 1
            continue
        left = 0
        for panel, width in zip(item.panels, item.widths()):
            yield {**panel.body, "id": _id(panel.title),
                   "gridPos": {"x": left, "y": top, "w": width, "h": item.height}}
            left += width
        top += item.height


def _id(title: str) -> int:
    """A panel's number, which links and alert rules remember: it hangs on the title alone, not on the place."""
    return zlib.crc32(title.encode()) % 1_000_000 + 1


# -- the files ---------------------------------------------------------------------------------------------------------

def built() -> dict[Path, str]:
    """{dashboard.json: what belongs in it}."""
    documents = {}
    for source in sorted(FOLDER.glob("*/dashboard.py")):
        spec = importlib.util.spec_from_file_location(f"dashboard_of_{source.parent.name}", source)
        if spec is None or spec.loader is None:
            raise Fault(f"{source} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Fault as error:
            raise Fault(f"{source.parent.name}/{source.name}: {error}") from None
        documents[source.with_suffix(".json")] = module.DASHBOARD
    known = {document["uid"] for document in documents.values()}
    found = {path: json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
             for path, document in documents.items()}
    for path, document in found.items():
        if strange := set(re.findall(r"/d/([\w-]+)", document)) - known:
            raise Fault(f"{path.parent.name}/{path.name} leads to {', '.join(sorted(strange))}, which isn't there")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only show what is out of date")
    check = parser.parse_args().check
    try:
        documents = built()
    except Fault as error:
        print(error, file=sys.stderr)
        return 1
    old = {path: path.read_text(encoding="utf-8") if path.exists() else "" for path in documents}
    changed = [path for path in documents if old[path] != documents[path]]
    for path in changed:
        name = str(path.relative_to(FOLDER.parent))
        if check:
            sys.stdout.writelines(difflib.unified_diff(old[path].splitlines(True), documents[path].splitlines(True),
                                                       name, name))
        else:
            path.write_text(documents[path], encoding="utf-8")
            print(name)
    if check and changed:
        print("Dashboards are out of date: python mixins/dashboards.py", file=sys.stderr)
    return 1 if check and changed else 0


if __name__ == "__main__":
    # The dashboards import this file under its own name.
    sys.modules["dashboards"] = sys.modules[__name__]
    sys.exit(main())
