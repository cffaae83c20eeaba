# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

SELF = 'job="grafana", instance=~"$instance"'
ON = "{{instance}}"


def increase(metric: str) -> str:
    return f"increase({metric}{{{SELF}}}[$__rate_interval])"


# Only what Grafana 10.0 tells and 13 still does.
DASHBOARD = d.dashboard(
    "aistack-grafana", "Grafana",
    "Do people get their pages, do data sources answer, and does Grafana evaluate its own alerts?",
    d.line(4,
           d.status("Grafana status", "Whether Grafana answers.", "grafana"),
           d.version("Version of Grafana", f"grafana_build_info{{{SELF}}}"),
           d.stat("Users active", "Users seen within the last 30 days.",
                  [d.Query(f"grafana_stat_active_users{{{SELF}}}", ON)], unit="none", levels=d.NO_LEVELS),
           d.stat("Dashboards", "Dashboards that there are.",
                  [d.Query(f"grafana_stat_totals_dashboard{{{SELF}}}", ON)], unit="none", levels=d.NO_LEVELS),
           d.stat("Alert rules behind", "How late Grafana's scheduler of alert rules is.",
                  [d.Query(f"grafana_alerting_scheduler_behind_seconds{{{SELF}}}", ON)],
                  unit="s", decimals=1, levels=d.above(10, 60)),
           d.stat("Mails failed in 24 hours", "Mails that Grafana could not hand over in the last 24 hours.",
                  f"sum(increase(grafana_emails_sent_failed{{{SELF}}}[24h])) or vector(0)",
                  unit="none", decimals=0, levels=((None, "green"), (0.5, "red")))),

    "Pages and log-ins",
    d.line(8,
           d.timeseries("Requests to Grafana", "Requests each second, by status.",
                        [d.Query(f"sum by (instance, status_code) "
                                 f"(rate(grafana_http_request_duration_seconds_count{{{SELF}}}[$__rate_interval]))",
                                 "{{instance}} {{status_code}}")],
                        unit="reqps", levels=d.NO_LEVELS),
           d.timeseries("Response time of Grafana",
                        "Time that a request takes: half of them, and the slowest twentieth. "
                        "Live connections, which stay open, are not counted.",
                        [d.Query(f"histogram_quantile({share}, sum by (instance, le) (rate("
                                 f'grafana_http_request_duration_seconds_bucket{{{SELF}, handler!~"/api/live/.*"}}'
                                 f"[$__rate_interval])))", f"{{{{instance}}}} {name}")
                         for share, name in ((0.5, "half"), (0.95, "slowest twentieth"))],
                        unit="s", levels=d.NO_LEVELS),
           d.timeseries("Log-ins to Grafana", "Log-ins through Keycloak and with Grafana's own form.",
                        [d.Query(increase("grafana_api_login_oauth_total"), "{{instance}} Keycloak"),
                         d.Query(increase("grafana_api_login_post_total"), "{{instance}} form")],
                        unit="short", levels=d.NO_LEVELS)),

    "Data sources and alerts",
    d.line(8,
           d.timeseries("Queries to data sources", "Questions to data sources each second, by answer.",
                        [d.Query(f"sum by (datasource, code) "
                                 f"(rate(grafana_datasource_request_total{{{SELF}}}[$__rate_interval]))",
                                 "{{datasource}} {{code}}")],
                        unit="reqps", levels=d.NO_LEVELS),
           d.timeseries("Alert rule evaluations", "Evaluations of Grafana's own alert rules.",
                        [d.Query(f"sum by (instance) ({increase('grafana_alerting_rule_evaluations_total')})",
                                 "{{instance}} evaluated"),
                         d.Query(f"sum by (instance) ({increase('grafana_alerting_rule_evaluation_failures_total')})",
                                 "{{instance}} failed")],
                        unit="short", levels=d.NO_LEVELS),
           d.timeseries("Mails", "Mails handed over, and those that could not be.",
                        [d.Query(increase("grafana_emails_sent_total"), "{{instance}} sent"),
                         d.Query(increase("grafana_emails_sent_failed"), "{{instance}} failed")],
                        unit="short", levels=d.NO_LEVELS)),

    "Grafana itself",
    d.line(8,
           d.process_memory("Memory of Grafana", SELF),
           d.timeseries("CPU of Grafana", "Processors that the process uses.",
                        [d.Query(f"rate(process_cpu_seconds_total{{{SELF}}}[$__rate_interval])", ON)],
                        unit="none", levels=d.NO_LEVELS),
           d.timeseries("Waiting for Grafana's database", "Time that requests waited for a connection to the database.",
                        [d.Query(increase("grafana_database_conn_wait_duration_seconds"), ON)],
                        unit="s", levels=d.ANY_IS_BAD)),

    tags=["monitoring"],
    variables=[d.instances('up{job="grafana"}')],
    annotations=[d.firing('instance=~"$instance", service="grafana"')],
)
