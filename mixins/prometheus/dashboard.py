# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

SELF = 'job="prometheus", instance=~"$instance"'
ON = "{{instance}}"
STORED = {"prometheus_tsdb_storage_blocks_bytes": "blocks", "prometheus_tsdb_wal_storage_size_bytes": "write-ahead log",
          "prometheus_tsdb_head_chunks_storage_size_bytes": "head"}
FAILURES = ("reloads_failures", "compactions_failed", "checkpoint_creations_failed", "wal_writes_failed",
            "wal_truncations_failed", "wal_corruptions")


def each_second(metric: str) -> str:
    return f"rate({metric}{{{SELF}}}[$__rate_interval])"


def increase(metric: str) -> str:
    return f"increase({metric}{{{SELF}}}[$__rate_interval])"


def by_group(expression: str) -> list[d.Query]:
    """The label rule_group is the file's path and the group's name."""
    return [d.Query(f'label_replace({expression}, "group", "$1", "rule_group", ".*;(.*)")', "{{instance}} {{group}}")]


DASHBOARD = d.dashboard(
    "aistack-prometheus", "Prometheus",
    "Does Prometheus see everything it should, does it evaluate its rules in time, and do its alerts leave it?",
    d.line(4,
           d.status("Prometheus status", "Whether Prometheus answers itself.", "prometheus"),
           d.configuration(f"prometheus_config_last_reload_successful{{{SELF}}}"),
           d.stat("Targets down", "Targets that did not answer their last scrape, of all jobs.",
                  'count(up{instance=~"$instance"} == 0) or vector(0)', unit="none",
                  levels=((None, "green"), (1, "red"))),
           d.stat("Series", "Time series in memory.",
                  [d.Query(f"prometheus_tsdb_head_series{{{SELF}}}", ON)], unit="short", decimals=1,
                  levels=d.NO_LEVELS),
           d.stat("Size on disk", "Blocks, write-ahead log and the head's chunks.",
                  [d.Query(" + ".join(f"{part}{{{SELF}}}" for part in STORED), ON)],
                  unit="bytes", decimals=1, levels=d.NO_LEVELS),
           d.version("Version", f"prometheus_build_info{{{SELF}}}")),

    "Targets",
    d.line(9,
           d.table("Targets", "Every target, the dead ones first.",
                   [d.Query('up{instance=~"$instance"}'),
                    d.Query('scrape_duration_seconds{instance=~"$instance"}'),
                    d.Query('scrape_samples_scraped{instance=~"$instance"}')],
                   {"job": d.Column("Job"), "instance": d.Column("Host", link=d.to_host("${__value.raw}")),
                    "service": d.Column("Service"),
                    "A": d.Column("Status", levels=d.UP, mappings=d.UP_OR_DOWN),
                    "B": d.Column("Scrape takes", "s", d.above("scrape_seconds")),
                    "C": d.Column("Samples", "short")},
                   sort="Status", unit="none", levels=d.UP),
           d.timeseries("Scrape duration", "How long each scrape takes; it is given up after ten seconds.",
                        [d.Query('scrape_duration_seconds{instance=~"$instance"}', "{{instance}} {{job}} {{service}}")],
                        unit="s", levels=d.above("scrape_seconds"))),

    "Rules",
    d.line(8,
           d.timeseries("Rule evaluation",
                        "How long ago Prometheus last evaluated any rule. More than two minutes mean "
                        "that no alert of its own can come any more; Grafana itself then sends a mail.",
                        [d.Query(f"time() - max by (instance) "
                                 f"(prometheus_rule_group_last_evaluation_timestamp_seconds{{{SELF}}})", ON)],
                        unit="s", levels=((None, "green"), (120, "red"))),
           d.timeseries("Rule failures", "Evaluations that failed and evaluations that were missed, by group.",
                        [*by_group(increase("prometheus_rule_evaluation_failures_total")),
                         *by_group(increase("prometheus_rule_group_iterations_missed_total"))],
                        unit="short", levels=d.ANY_IS_BAD),
           d.timeseries("Time in a group's interval", "How much of its interval each group of rules needs: at 100 % "
                        "evaluations are missed.",
                        by_group(f"100 * prometheus_rule_group_last_duration_seconds{{{SELF}}} "
                                 f"/ prometheus_rule_group_interval_seconds{{{SELF}}}"),
                        unit="percent", levels=d.above(50, 90))),

    "Ingestion and storage",
    d.line(8,
           d.timeseries("Samples ingested", "Samples appended each second.",
                        [d.Query(f"sum by (instance) ({each_second('prometheus_tsdb_head_samples_appended_total')})",
                                 ON)],
                        unit="cps", levels=d.NO_LEVELS),
           d.timeseries("Samples rejected", "Samples of scrapes that came twice, out of order or out of bounds.",
                        [d.Query(increase(f"prometheus_target_scrapes_sample_{fault}_total"),
                                 f"{{{{instance}}}} {fault.replace('_', ' ')}")
                         for fault in ("duplicate_timestamp", "out_of_order", "out_of_bounds")],
                        unit="short", levels=d.ANY_IS_BAD),
           d.timeseries("Series in memory", "Time series in the head. A sudden rise is a target with too many labels.",
                        [d.Query(f"prometheus_tsdb_head_series{{{SELF}}}", ON)], unit="short", levels=d.NO_LEVELS)),
    d.line(8,
           d.timeseries("Storage", "What lies on the disk.",
                        [d.Query(f"{part}{{{SELF}}}", f"{{{{instance}}}} {name}") for part, name in STORED.items()],
                        unit="bytes", levels=d.NO_LEVELS, stacked=True),
           d.timeseries("Storage failures", "Operations on the database that failed.",
                        [d.Query(increase(f"prometheus_tsdb_{name}_total"),
                                 f"{{{{instance}}}} {name.replace('_', ' ')}") for name in FAILURES],
                        unit="short", levels=d.ANY_IS_BAD),
           d.process_memory("Memory of Prometheus", SELF)),

    "Notifications",
    d.line(8,
           d.timeseries("Alerts sent", "Alerts handed over to Alertmanager each second, repeated ones included.",
                        [d.Query(f"sum by (instance) ({each_second('prometheus_notifications_sent_total')})",
                                 "{{instance}} sent"),
                         d.Query(f"sum by (instance) ({each_second('prometheus_notifications_errors_total')})",
                                 "{{instance}} failed"),
                         d.Query(f"sum by (instance) ({each_second('prometheus_notifications_dropped_total')})",
                                 "{{instance}} dropped")],
                        unit="cps", levels=d.NO_LEVELS),
           d.timeseries("Queue of notifications", "Share of the queue that is in use; a full one drops alerts.",
                        [d.Query(f"100 * max by (instance) (prometheus_notifications_queue_length{{{SELF}}}) "
                                 f"/ max by (instance) (prometheus_notifications_queue_capacity{{{SELF}}})", ON)],
                        unit="percent", full=True, levels=d.above(50, 80)),
           d.timeseries("Alertmanagers", "Alertmanagers that Prometheus knows.",
                        [d.Query(f"prometheus_notifications_alertmanagers_discovered{{{SELF}}}", ON)],
                        unit="short", levels=d.UP)),

    tags=["monitoring"],
    variables=[d.instances("up")],
    annotations=[d.firing('instance=~"$instance", service="prometheus"')],
)
