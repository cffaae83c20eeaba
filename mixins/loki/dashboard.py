# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

SELF = 'job="loki", instance=~"$instance"'
ON = "{{instance}}"
COMPACTED = "loki_boltdb_shipper_compact_tables_operation_last_successful_run_timestamp_seconds"
FAILED_RULES = "loki_prometheus_rule_evaluation_failures_total"
LINES = "loki_distributor_lines_received_total"
REQUESTS = "loki_request_duration_seconds"
# What people and shippers ask; the rest are the parts of Loki among themselves.
OUTSIDE = f'{SELF}, route=~"loki_api_v1_.+|otlp_v1_logs"'


def rate(metric: str, by: str = "service", chosen: str = SELF) -> str:
    return f"sum by (instance, {by}) (rate({metric}{{{chosen}}}[$__rate_interval]))"


def increase(metric: str, by: str = "service") -> str:
    return f"sum by (instance, {by}) (increase({metric}{{{SELF}}}[$__rate_interval]))"


def failing(window: str) -> str:
    errors = OUTSIDE.replace("job=", 'status_code=~"5..", job=')
    every = f"sum by (instance, route) (rate({REQUESTS}_count{{{OUTSIDE}}}[{window}]))"
    # Where nothing ever failed there is no series of what failed.
    return f"100 * (sum by (instance, route) (rate({REQUESTS}_count{{{errors}}}[{window}])) or 0 * {every}) / {every}"


def stored(window: str, times: int = 1) -> str:
    return f"{times} * sum by (instance) (increase(loki_ingester_chunk_stored_bytes_total{{{SELF}}}[{window}]))"


DASHBOARD = d.dashboard(
    "aistack-loki", "Loki",
    "Do log lines arrive, are they found, and does their volume stay within what the disk has for them?",
    d.line(4,
           d.status("Loki status", "Whether Loki answers.", "loki"),
           d.stat("Lines a second", "Lines that arrive.",
                  [d.Query(rate(LINES), ON)],
                  unit="short", decimals=1, levels=d.NO_LEVELS),
           d.stat("Stored in 30 days", "Compressed, as it lies on the disk, of the last thirty days.",
                  [d.Query(f"{stored('30d')} / 1e9", ON)], unit="decgbytes", decimals=2, levels=d.above("log_disk_gb")),
           d.stat("Thirty days like the last", "What the last day would come to in thirty.",
                  [d.Query(f"{stored('1d', 30)} / 1e9", ON)], unit="decgbytes", decimals=2,
                  levels=d.above("log_disk_gb")),
           d.stat("Last compaction", "Time since the compactor finished a round, which also deletes what is too old.",
                  [d.Query(f"time() - ({COMPACTED}{{{SELF}}} > 0)", ON)],
                  unit="s", levels=d.above(3600, 3 * 3600)),
           d.version("Version", f"loki_build_info{{{SELF}}}")),

    "Arriving",
    d.line(8,
           d.timeseries("Volume by service", "Bytes of log lines a second, from the services of these hosts.",
                        [d.Query('sum by (service) (log_bytes:rate5m{instance=~"$instance"})', "{{service}}")],
                        unit="Bps", levels=d.NO_LEVELS, stacked=True),
           d.timeseries("Lines", "Lines that arrive each second.",
                        [d.Query(rate(LINES), ON)], unit="short",
                        levels=d.NO_LEVELS),
           d.timeseries("Refused and cut", "Lines that Loki refused, by reason, and those that it cut.",
                        [d.Query(increase("loki_discarded_samples_total", "reason"), "{{instance}} {{reason}}"),
                         d.Query(increase("loki_mutated_samples_total", "reason"), "{{instance}} cut: {{reason}}")],
                        unit="short", levels=d.ANY_IS_BAD)),

    "Asked",
    d.line(8,
           d.timeseries("Requests", "Requests each second, by address.",
                        [d.Query(rate(f"{REQUESTS}_count", "route", OUTSIDE), "{{instance}} {{route}}")],
                        unit="reqps", levels=d.NO_LEVELS),
           d.timeseries("Requests that fail", "Share of the requests that Loki answers with an error of its own.",
                        [d.Query(failing("15m"), "{{instance}} {{route}}")],
                        unit="percent", levels=d.above("loki_errors_percent")),
           d.timeseries("Time to answer", "How long the slowest twentieth of the requests takes, by address.",
                        [d.Query(f"histogram_quantile(0.95, sum by (instance, route, le) (rate({REQUESTS}_bucket"
                                 f"{{{OUTSIDE}}}[$__rate_interval])))", "{{instance}} {{route}}")],
                        unit="s", levels=d.NO_LEVELS)),

    "Rules about lines",
    d.line(8,
           d.timeseries("Rules that fail", "Evaluations that failed, by file and group.",
                        [d.Query(f'label_replace({increase(FAILED_RULES, "rule_group")}'
                                 ', "group", "$1", "rule_group", ".*/(.*)")', "{{instance}} {{group}}")],
                        unit="short", levels=d.ANY_IS_BAD),
           d.timeseries("Time of a group", "How long the rules of each group took the last time.",
                        [d.Query(f'label_replace(loki_prometheus_rule_group_last_duration_seconds{{{SELF}}}, '
                                 '"group", "$1", "rule_group", ".*/(.*)")', "{{instance}} {{group}}")],
                        unit="s", levels=d.NO_LEVELS),
           d.timeseries("Samples to Prometheus", "What recording rules counted: sent, and not taken.",
                        [d.Query(rate("loki_ruler_wal_prometheus_remote_storage_samples_total"), "{{instance}} sent"),
                         d.Query(rate("loki_ruler_wal_prometheus_remote_storage_samples_failed_total"),
                                 "{{instance}} not taken")],
                        unit="short", levels=d.NO_LEVELS)),

    "Loki itself",
    d.line(8,
           d.timeseries("Written to the disk", "Compressed chunks each second.",
                        [d.Query(rate("loki_ingester_chunk_stored_bytes_total"), ON)], unit="Bps", levels=d.NO_LEVELS),
           d.timeseries("Streams and chunks in memory", "What is not on the disk yet, but for the write-ahead log.",
                        [d.Query(f"loki_ingester_memory_streams{{{SELF}}}", "{{instance}} streams"),
                         d.Query(f"loki_ingester_memory_chunks{{{SELF}}}", "{{instance}} chunks")],
                        unit="short", levels=d.NO_LEVELS),
           d.process_memory("Memory of Loki", SELF)),

    tags=["monitoring"],
    variables=[d.instances('up{job="loki"}')],
    annotations=[d.firing('instance=~"$instance", service="loki"')],
)
