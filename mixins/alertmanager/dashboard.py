# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

SELF = 'job="alertmanager", instance=~"$instance"'
ON = "{{instance}}"
WAYS = "{{instance}} {{integration}}"


def increase(metric: str, by: str = "service") -> str:
    return f"sum by (instance, {by}) (increase({metric}{{{SELF}}}[$__rate_interval]))"


def in_15_minutes(metric: str) -> str:
    return f"sum by (instance, integration) (rate({metric}{{{SELF}}}[15m]))"


DASHBOARD = d.dashboard(
    "aistack-alertmanager", "Alertmanager",
    "What is wrong at this moment, and does word of it reach a person?",
    d.line(4,
           d.status("Alertmanager status", "Whether Alertmanager answers.", "alertmanager"),
           d.configuration(f"alertmanager_config_last_reload_successful{{{SELF}}}"),
           d.stat("Alerts active", "Alerts that Alertmanager notifies of, the watchdog included.",
                  [d.Query(f'alertmanager_alerts{{{SELF}, state="active"}}', ON)], unit="none", levels=d.NO_LEVELS),
           d.stat("Alerts suppressed", "Alerts that are silenced, muted or inhibited.",
                  [d.Query(f'alertmanager_alerts{{{SELF}, state="suppressed"}}', ON)], unit="none", levels=d.NO_LEVELS),
           d.stat("Silences", "Silences in force.",
                  [d.Query(f'alertmanager_silences{{{SELF}, state="active"}}', ON)],
                  unit="none", levels=((None, "green"), (1, "orange"))),
           d.stat("Failed in 24 hours", "Notifications that could not be delivered in the last 24 hours.",
                  f"sum(increase(alertmanager_notifications_failed_total{{{SELF}}}[24h])) or vector(0)",
                  unit="none", decimals=0, levels=((None, "green"), (0.5, "red")))),

    "Alerts",
    d.line(10,
           d.table("Firing alerts",
                   "What the rules of Prometheus and Loki report now. Silences and the alerts that one alert mutes do "
                   "not show here.",
                   [d.Query('max by (alertname, severity, instance, service, problem) '
                            '(ALERTS{alertstate="firing", severity!="none"})')],
                   {"severity": d.Column("Severity", mappings=d.SEVERITIES), "alertname": d.Column("Alert"),
                    "instance": d.Column("Host", link=d.to_host("${__value.raw}")),
                    "service": d.Column("Service", link=d.to_logs(*d.ROW)),
                    "problem": d.Column("Problem")},
                   sort="Severity", unit="none", levels=d.NO_LEVELS, no_value="Nothing fires."),
           d.timeseries("Alerts over time", "Alerts that fire, by severity.",
                        [d.Query('count by (severity) (ALERTS{alertstate="firing", severity!="none"})',
                                 "{{severity}}")],
                        unit="short", levels=d.NO_LEVELS, stacked=True)),

    "Notifications",
    d.line(8,
           d.timeseries("Notifications", "Notifications by way of delivery.",
                        [d.Query(increase("alertmanager_notifications_total", "integration"), WAYS)],
                        unit="short", levels=d.NO_LEVELS),
           d.timeseries("Failed notifications", "Notifications that could not be delivered, by way and reason.",
                        [d.Query(increase("alertmanager_notifications_failed_total", "integration, reason"),
                                 f"{WAYS} {{{{reason}}}}")],
                        unit="short", levels=d.ANY_IS_BAD),
           d.timeseries("Share that fails", "Share of the notifications of the last 15 minutes that failed.",
                        [d.Query(f"100 * {in_15_minutes('alertmanager_notifications_failed_total')} / "
                                 f"({in_15_minutes('alertmanager_notifications_total')} > 0)", WAYS)],
                        unit="percent", levels=d.above("alertmanager_failed_percent")),
           d.timeseries("Delivery time", "How long the slowest twentieth of the deliveries takes, by way.",
                        [d.Query(f"histogram_quantile(0.95, sum by (instance, integration, le) (rate("
                                 f"alertmanager_notification_latency_seconds_bucket{{{SELF}}}[$__rate_interval])))",
                                 WAYS)],
                        unit="s", levels=d.NO_LEVELS)),

    "Alertmanager itself",
    d.line(8,
           d.timeseries("Alerts received", "Alerts taken from Prometheus, and those that could not be read.",
                        [d.Query(increase("alertmanager_alerts_received_total", "status"), "{{instance}} {{status}}"),
                         d.Query(increase("alertmanager_alerts_invalid_total", "version"), "{{instance}} invalid")],
                        unit="short", levels=d.NO_LEVELS),
           d.timeseries("State that could not be saved",
                        "Failed attempts to save silences and the log of notifications.",
                        [d.Query(increase("alertmanager_silences_maintenance_errors_total"),
                                 "{{instance}} silences"),
                         d.Query(increase("alertmanager_nflog_maintenance_errors_total"),
                                 "{{instance}} notifications")],
                        unit="short", levels=d.ANY_IS_BAD),
           d.process_memory("Memory of Alertmanager", SELF)),

    tags=["monitoring"],
    variables=[d.instances('up{job="alertmanager"}')],
    annotations=[d.firing('instance=~"$instance", service="alertmanager"')],
)
