# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

STREAMS = '{host=~"$host", service=~"$service", container=~"$container", level=~"$level"}'
FOUND = f"{STREAMS} |~ `${{how:raw}}${{search:raw}}` | request_id=~`${{id:raw}}.*` or trace_id=~`${{id:raw}}.*`"
# What is typed is text up to its end, with \Q before it.
HOW = {"text": r"(?i)\Q", "text with its case": r"\Q", "regular expression": "(?i)"}

DASHBOARD = d.dashboard(
    "aistack-log_explorer", "Log Explorer",
    "Which lines say this, whose are they, and when were they written?",
    d.line(7,
           d.timeseries("Lines found", "How many lines were found in each interval, by level.",
                        [d.Logs(f"sum by (level) (count_over_time({FOUND} [$__interval]))", "{{level}}")],
                        unit="short", levels=d.NO_LEVELS, stacked=True, bars=True, colours=d.LEVEL_COLOURS, width=14),
           d.table("Where they are", "Whose the lines are that were found; a click on a service leaves only its lines.",
                   [d.Logs(f"sum by (host, service, container) (count_over_time({FOUND} [$__range]))")],
                   {"host": d.Column("Host"),
                    "service": d.Column("Service", link=d.to_logs(
                        *d.ROW, keeps=("level", "how", "search", "id"))),
                    "container": d.Column("Container"), "A": d.Column("Lines", "short")},
                   sort="Lines", descending=True, unit="short", levels=d.NO_LEVELS, width=10)),
    d.line(24,
           d.logs("Lines", "The lines that were found, the newest first. A click on one shows its labels and its "
                  "structured metadata: unit, request and trace.",
                  FOUND, labels=True)),
    tags=["logs"], needs=["loki"], refresh="", since="now-1h",
    variables=[
        d.log_label("host", "Host"),
        d.log_label("service", "Service", '{host=~"$host"}'),
        d.log_label("container", "Container", '{host=~"$host", service=~"$service"}', optional=True),
        d.log_label("level", "Level", '{host=~"$host", service=~"$service"}'),
        d.choice("how", "Search as", HOW),
        d.textbox("search", "Search"),
        d.textbox("id", "Request or trace"),
    ],
    annotations=[d.firing('instance=~"$host"')],
)
