# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

SERVICE = 'service=~"${services.postgresql}", instance=~"$instance"'
PROBES = f'job="probe", type="postgresql", {SERVICE}'
ON = "{{instance}} {{service}}"

DASHBOARD = d.dashboard(
    "aistack-postgresql", "PostgreSQL",
    "Does PostgreSQL take connections, how fast, and how much of the time?",
    d.line(5,
           d.status("PostgreSQL status", "Whether PostgreSQL takes connections.", "postgresql"),
           d.stat("Time to connect", "How long the last probe took to connect.",
                  [d.Query(f"probe_duration_seconds{{{PROBES}}}", ON)], unit="s", decimals=1,
                  levels=d.above("probe_seconds")),
           d.stat("Availability in 24 hours", "Share of the last 24 hours in which PostgreSQL took connections.",
                  [d.Query(f"100 * avg_over_time(service:up{{{SERVICE}}}[24h])", ON)],
                  unit="percent", decimals=2, levels=d.AVAILABILITY),
           d.stat("Availability in 30 days", "Share of the last 30 days in which PostgreSQL took connections.",
                  [d.Query(f"100 * avg_over_time(service:up{{{SERVICE}}}[30d])", ON)],
                  unit="percent", decimals=2, levels=d.AVAILABILITY)),
    d.line(8,
           d.timeline("PostgreSQL over time", "Whether PostgreSQL took connections, over time.",
                      [d.Query(f"service:up{{{SERVICE}}}", ON)], unit="none", levels=d.UP, mappings=d.UP_OR_DOWN),
           d.timeseries("Probe duration of PostgreSQL", "How long each connection took.",
                        [d.Query(f"probe_duration_seconds{{{PROBES}}}", ON)], unit="s",
                        levels=d.above("probe_seconds"))),
    tags=["postgresql"],
    variables=[d.instances('service:up{service=~"${services.postgresql}"}')],
    annotations=[d.firing(SERVICE)],
)
