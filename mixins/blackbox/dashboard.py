# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

SERVICES = '{instance=~"$instance"}'
PROBES = 'job="probe", instance=~"$instance"'
CERTIFICATE = d.below("certificate_days", "certificate_critical_days")
DAYS_LEFT = f"(probe_ssl_earliest_cert_expiry{{{PROBES}}} - time()) / 86400"

DASHBOARD = d.dashboard(
    "aistack-blackbox", "Services and Probes",
    "Which services answer, how fast, and how much of the time?",
    d.line(4,
           d.stat("Services up", "Services that answer, by the one definition that alerts use too.",
                  f"sum(service:up{SERVICES})", unit="none", levels=d.NO_LEVELS),
           d.stat("Services down", "Services that do not answer.",
                  f"count(service:up{SERVICES} == 0) or vector(0)", unit="none", levels=((None, "green"), (1, "red")),
                  traffic_light=True),
           d.stat("Slowest probe", "The longest time that a probe takes now.",
                  f"max(probe_duration_seconds{{{PROBES}}})", unit="s", decimals=2, levels=d.above("probe_seconds")),
           d.stat("Next certificate expires", "Days until the first certificate at a front door expires.",
                  f"min({DAYS_LEFT})", unit="suffix:days", decimals=0, levels=CERTIFICATE, no_value="no TLS")),
    d.line(9,
           d.timeline("Service status", "Whether each service answered, over time.",
                      [d.Query(f"service:up{SERVICES}", "{{instance}} {{service}}")],
                      unit="none", levels=d.UP, mappings=d.UP_OR_DOWN, links=[d.to_host()], width=14),
           d.table("Availability",
                   "Share of the measured time in which each service answered. Times when Prometheus itself "
                   "was away do not count.",
                   [d.Query(f"service:up{SERVICES}"),
                    d.Query(f"100 * avg_over_time(service:up{SERVICES}[24h])"),
                    d.Query(f"100 * avg_over_time(service:up{SERVICES}[30d])")],
                   {"instance": d.Column("Host", link=d.to_host("${__value.raw}")),
                    "service": d.Column("Service", link=d.to_logs(*d.ROW)),
                    "A": d.Column("Now", levels=d.UP, mappings=d.UP_OR_DOWN),
                    "B": d.Column("24 hours", "percent", d.AVAILABILITY),
                    "C": d.Column("30 days", "percent", d.AVAILABILITY)},
                   sort="24 hours", unit="none", levels=d.AVAILABILITY, width=10)),

    "Probes",
    d.line(9,
           d.timeline("Probe success", "Whether each probe succeeded, over time: `health` asks the service itself, "
                      "`front_door` its public address with TLS.",
                      [d.Query(f"probe_success{{{PROBES}}}", "{{instance}} {{service}} {{probe}}")],
                      unit="none", levels=d.UP, mappings=d.OK_OR_FAILED),
           d.timeseries("Probe duration", "How long each probe takes.",
                        [d.Query(f"probe_duration_seconds{{{PROBES}}}", "{{instance}} {{service}} {{probe}}")],
                        unit="s", levels=d.above("probe_seconds"))),
    d.line(9,
           d.table("Last answers", "What each probe asks, and what it was answered the last time. Only an "
                   "answer by HTTP has a status.",
                   [d.Query(f"probe_success{{{PROBES}}}"),
                    d.Query(f"max by (instance, service, type, probe, target) (probe_http_status_code{{{PROBES}}}) "
                            f"or 0 * max by (instance, service, type, probe, target) (probe_success{{{PROBES}}})"),
                    d.Query(f"max by (instance, service, type, probe, target) (probe_duration_seconds{{{PROBES}}})")],
                   {"instance": d.Column("Host", link=d.to_host("${__value.raw}")),
                    "service": d.Column("Service"), "type": d.Column("Type"), "probe": d.Column("Probe"),
                    "target": d.Column("Address"),
                    "A": d.Column("Result", levels=d.UP, mappings=d.OK_OR_FAILED),
                    "B": d.Column("HTTP status", mappings=d.words(_0=("none", "text"))),
                    "C": d.Column("Duration", "s", d.above("probe_seconds"))},
                   sort="Result", unit="none", levels=d.UP, width=14),
           d.table("Certificates", "When the certificate at each address expires: the first of its chain to do so.",
                   [d.Query(f"sort({DAYS_LEFT})")],
                   {"service": d.Column("Service"), "target": d.Column("Address"),
                    "A": d.Column("Expires in", "suffix:days", CERTIFICATE)},
                   sort="Expires in", unit="suffix:days", levels=CERTIFICATE, width=10)),
    d.line(8,
           d.timeseries("Phases of HTTP probes", "Where the time of HTTP probes goes, summed over all of them.",
                        [d.Query(f"sum by (phase) (probe_http_duration_seconds{{{PROBES}}})", "{{phase}}")],
                        unit="s", levels=d.NO_LEVELS, stacked=True),
           d.timeseries("Certificates over time",
                        "Days until each certificate expires: it should jump up in good time.",
                        [d.Query(DAYS_LEFT, "{{service}} {{target}}")], unit="suffix:days", levels=CERTIFICATE)),

    tags=["services"],
    variables=[d.instances("service:up")],
    annotations=[d.firing('instance=~"$instance"')],
)
