# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

CHOSEN = 'host=~"$host", service=~"$service"'
BAD = f'{{{CHOSEN}, level=~"error|critical"}}'
EVERY = f"{{{CHOSEN}}}"
# What Loki's rules record for Prometheus.
MEASURED = 'instance=~"$host", service=~"$service"'
SERVICES = "sum by (host, service)"


def lines(streams: str, window: str = "$__range") -> str:
    return f"count_over_time({streams}[{window}])"


def of_level(level: str) -> str:
    """Zero where a service has lines, but none of this level: a table joins only what has values."""
    chosen = f'{{{CHOSEN}, level="{level}"}}'
    return f"{SERVICES} ({lines(chosen)}) or 0 * {SERVICES} ({lines(EVERY)})"


def stored(window: str) -> str:
    return f'sum(increase(loki_ingester_chunk_stored_bytes_total{{job="loki"}}[{window}])) / 1e9'


DASHBOARD = d.dashboard(
    "aistack-logs", "Logs Overview",
    "Which services log errors, who writes how much, who has fallen silent, and when is there work?",
    d.line(4,
           d.stat("Lines", "Lines in the chosen time.", [d.Logs(f"sum({lines(EVERY)}) or vector(0)")],
                  unit="short", levels=d.NO_LEVELS),
           d.stat("Volume", "What these lines take before Loki compresses them.",
                  [d.Logs(f"sum(bytes_over_time({EVERY}[$__range])) or vector(0)")],
                  unit="bytes", levels=d.NO_LEVELS),
           d.stat("Errors", "Lines of the levels error and critical in the chosen time.",
                  [d.Logs(f"sum({lines(BAD)}) or vector(0)")], unit="short", levels=d.NO_LEVELS),
           d.stat("Services with errors", "Services that logged an error in the chosen time.",
                  [d.Logs(f"count({SERVICES} ({lines(BAD)})) or vector(0)")], unit="none", levels=d.NO_LEVELS),
           d.stat("Services that log", "Services on any host that wrote a line in the chosen time.",
                  [d.Logs(f"count({SERVICES} ({lines(EVERY)})) or vector(0)")], unit="none", levels=d.NO_LEVELS,
                  width=4)),

    "Errors",
    d.line(9,
           d.timeseries("Errors in five minutes", "Lines of the levels error and critical, by service.",
                        [d.Logs(f"{SERVICES} ({lines(BAD, '5m')})", "{{host}} {{service}}")],
                        unit="short", levels=d.above("log_errors"),
                        links=[d.to_logs("${__field.labels.host}", levels=["error", "critical"])], width=12),
           d.table("Levels by service", "Lines of each service in the chosen time; a click on a number shows them.",
                   [d.Logs(of_level("critical")), d.Logs(of_level("error")), d.Logs(of_level("warning")),
                    d.Logs(f"{SERVICES} ({lines(EVERY)})")],
                   {"host": d.Column("Host", link=d.to_host("${__value.raw}")),
                    "service": d.Column("Service", link=d.to_logs(*d.ROW)),
                    **{letter: d.Column(level.capitalize(), "short", ((None, "text"), (1, d.LEVEL_COLOURS[level])),
                                        link=d.to_logs(*d.ROW, levels=[level]))
                       for letter, level in zip("ABC", ("critical", "error", "warning"))},
                    "D": d.Column("Lines", "short")},
                   sort="Error", descending=True, unit="short", levels=d.NO_LEVELS, width=12)),
    d.line(11,
           d.logs("Newest errors", "The newest lines of the levels error and critical.", BAD, labels=True, limit=200)),

    "Lines",
    d.line(8,
           d.timeseries("Levels", "Lines in each interval, by level.",
                        [d.Logs(f"sum by (level) ({lines(EVERY, '$__interval')})", "{{level}}")],
                        unit="short", levels=d.NO_LEVELS, stacked=True, bars=True, colours=d.LEVEL_COLOURS),
           d.timeseries("Lines by service", "Lines a second.",
                        [d.Query(f"sum by (service) (log_lines:rate5m{{{MEASURED}}})", "{{service}}")],
                        unit="suffix:/s", levels=d.NO_LEVELS),
           d.timeseries("Bytes by service", "Bytes a second, before Loki compresses them.",
                        [d.Query(f"sum by (service) (log_bytes:rate5m{{{MEASURED}}})", "{{service}}")],
                        unit="Bps", levels=d.NO_LEVELS)),
    d.line(8,
           d.sums("Lines by hour of day", "Lines of the last seven days, whatever time range is chosen, by the hour of "
                  "the day in UTC: when services have work.",
                  [d.Logs(f"sum by (hour) (count_over_time({EVERY} | label_format "
                          "hour=`{{__timestamp__ | date \"15\"}}` | keep hour [1h]))", "{{hour}}")],
                  unit="short", levels=d.NO_LEVELS, since="7d", step="1h", width=16),
           d.table("Silent services", "Services that wrote lines within the last six hours, but none within the last "
                   "quarter of an hour.",
                   [d.Logs(f"{SERVICES} ({lines(EVERY, '6h')}) unless {SERVICES} ({lines(EVERY, '15m')})")],
                   {"host": d.Column("Host"), "service": d.Column("Service", link=d.to_logs(*d.ROW)),
                    "A": d.Column("Lines in 6 hours", "short")},
                   sort="Service", unit="short", levels=d.NO_LEVELS, width=8)),

    "Disk",
    d.line(8,
           d.stat("Stored by Loki", "What Loki stored in the last 30 days, and what it will store in 30 days that are "
                  "like the last one: compressed, the lines of all hosts. More than ${thresholds.log_disk_gb} GB is "
                  "reported.",
                  [d.Query(stored("30d"), "as it was"), d.Query(f"30 * {stored('1d')}", "like the last day")],
                  unit="decgbytes", decimals=1, levels=d.above("log_disk_gb"), width=6),
           d.timeseries("Thirty days like the last one", "What Loki would store in 30 days, if each were like the 24 "
                        "hours before: a step upwards is a service that began to write more.",
                        [d.Query(f"30 * {stored('1d')}", "stored")],
                        unit="decgbytes", levels=d.above("log_disk_gb"), width=10),
           d.table("Volume by service", "Who takes how much of it: bytes in the chosen time, before Loki compresses "
                   "them.",
                   [d.Logs(f"{SERVICES} (bytes_over_time({EVERY}[$__range]))")],
                   {"host": d.Column("Host"), "service": d.Column("Service", link=d.to_logs(*d.ROW)),
                    "A": d.Column("Bytes", "bytes")},
                   sort="Bytes", descending=True, unit="bytes", levels=d.NO_LEVELS, width=8)),

    tags=["logs"], needs=["loki"], since="now-6h", refresh="5m",
    variables=[d.log_label("host", "Host"), d.log_label("service", "Service", '{host=~"$host"}')],
    annotations=[d.firing('instance=~"$host"')],
)
