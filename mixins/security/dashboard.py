# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from typing import Any

import dashboards as d

KEYCLOAK = d.lines_of("keycloak", "AuthenticationFailures")
GRAFANA = d.lines_of("grafana", "AuthenticationFailures")
# Of lines of text and of JSON, where each quotation mark is written \".
REASON = r'| regexp `error=\\?"(?P<error>[^"\\]+)`'
TOLD = r'| regexp `clientId=\\?"(?P<client>[^"\\]*)` | regexp `ipAddress=\\?"(?P<address>[^"\\]*)`'
SSHD = '{host=~"$host", service=~"sshd|sshd-session|ssh"}'
WRONG_PASSWORD, LEFT = (d.lines_of("host", "AuthenticationFailures", part) for part in (0, 1))
SUDO_RUN = '{host=~"$host", service="sudo"} |= `COMMAND=` !~ `NOT (in|authorized)|not allowed|incorrect password`'
SUDO_REFUSED = d.lines_of("host", "SudoAbuse")
# (lines, what must be there)
FAILED = [(WRONG_PASSWORD, ()), (LEFT, ()), (GRAFANA, ()),
          *((d.lines_of(name, "AuthenticationFailures"), (name,))
            for name in ("keycloak", "postgresql", "n8n", "open_webui"))]
SUSPICIOUS = d.lines_of("loki", "SuspiciousRequests")
# Only alerts from logs have a host beside their instance.
ALERTS = 'ALERTS{alertstate="firing", host!="", instance=~"$host"'
EVENTS = 'keycloak_user_events_total{job="keycloak", instance=~"$host", event="login"'
LOG_INS = 'job="grafana", instance=~"$host"'


def lines(found: str, by: str = "", window: str = "$__range") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(count_over_time({found} [{window}]))"


def number(title: str, description: str, found: str, **rest: Any) -> d.Panel:
    return d.stat(title, description, [d.Logs(f"{lines(found)} or vector(0)")],
                  unit="short", levels=d.NO_LEVELS, **rest)


def different(title: str, description: str, name: str) -> d.Panel:
    """How many values something has in Keycloak's refusals. Nobody's name becomes a label that is kept, or is shown."""
    named = rf'{KEYCLOAK} | regexp `{name}=\\?"(?P<one>[^"\\]+)` | one != "" | keep one'
    return d.stat(title, description, [d.Logs(f"count({lines(named, 'one')}) or vector(0)")],
                  unit="none", levels=d.NO_LEVELS, needs=["keycloak"], width=4)


DASHBOARD = d.dashboard(
    "aistack-security", "Security Events",
    "Who tries to get in, from how many places, and who works as root?",
    d.line(4,
           number("Refused by Keycloak", "Log-ins that Keycloak refused in the chosen time.", KEYCLOAK,
                  needs=["keycloak"], width=4),
           different("Accounts tried", "Different user names in these refusals: many are someone who guesses names, "
                     "one is someone who guesses a password or forgot it.", "username"),
           different("Addresses that tried", "Different addresses that these refusals came from.", "ipAddress"),
           number("Refused by Grafana", "Log-ins that Grafana's own form or API refused in the chosen time.", GRAFANA),
           number("Refused by sshd", "Wrong passwords at sshd in the chosen time.", WRONG_PASSWORD),
           number("Refused by sudo", "Commands that sudo refused in the chosen time.", SUDO_REFUSED),
           d.stat("Services that log secrets", "Services with a password, a token or a key in their lines within the "
                  "last hour, or with what the log shipper put in its place.",
                  [d.Query(f'count({ALERTS}, alertname="SecretInLogs"}}) or vector(0)')],
                  unit="none", levels=d.ANY_IS_BAD)),
    d.line(7,
           d.table("Alerts from logs", "What Loki's rules say is wrong now.",
                   [d.Query(f"max by (alertname, severity, instance, service) ({ALERTS}}})")],
                   {"severity": d.Column("Severity", mappings=d.SEVERITIES), "alertname": d.Column("Alert"),
                    "instance": d.Column("Host"),
                    "service": d.Column("Service", link=d.to_logs(*d.ROW))},
                   sort="Severity", unit="none", levels=d.NO_LEVELS, width=10),
           d.timeline("Alerts from logs over time", "From when to when each alert of Loki's rules fired.",
                      [d.Query(f"max by (alertname, instance, service) ({ALERTS}}})",
                               "{{alertname}} {{instance}} {{service}}")],
                      unit="none", levels=((None, "green"), (1, "red")), mappings=d.words(_1=("firing", "red")),
                      width=14)),

    "Log-ins",
    d.line(8,
           d.timeseries("Failed log-ins in five minutes", "Wrong passwords and unknown names, as the lines of each "
                        "service tell; at sshd also those who left without a password.",
                        [d.Logs(lines(found, "host, service", "5m"), "{{host}} {{service}}", needs)
                         for found, needs in FAILED],
                        unit="short", levels=d.above("authentication_failures"), width=12,
                        links=[d.to_logs("${__field.labels.host}")]),
           d.timeseries("Log-ins by Keycloak", "Log-ins that Keycloak let through and refused, as it counts them.",
                        [d.Query(f'sum(increase({EVENTS}, error=""}}[$__rate_interval]))', "let in"),
                         d.Query(f'sum(increase({EVENTS}, error!=""}}[$__rate_interval]))', "refused")],
                        unit="short", levels=d.NO_LEVELS, colours={"let in": "green", "refused": "red"},
                        needs=["keycloak"]),
           d.timeseries("Log-ins by Grafana", "Log-ins to Grafana, through Keycloak and with its own form.",
                        [d.Query(f"sum(increase(grafana_api_login_oauth_total{{{LOG_INS}}}[$__rate_interval]))",
                                 "through Keycloak"),
                         d.Query(f"sum(increase(grafana_api_login_post_total{{{LOG_INS}}}[$__rate_interval]))",
                                 "by form")],
                        unit="short", levels=d.NO_LEVELS)),
    d.line(8,
           d.timeseries("Refusals of Keycloak", "Why it refused log-ins, as its lines say.",
                        [d.Logs(lines(f"{KEYCLOAK} {REASON}", "error", "$__interval"), "{{error}}")],
                        unit="short", levels=d.NO_LEVELS, stacked=True, bars=True, needs=["keycloak"], width=9),
           d.logs("Newest refusals of Keycloak", "The newest log-ins that it refused, without anybody's name: whole "
                  "lines are in the explorer.",
                  f"{KEYCLOAK} {REASON} {TOLD} | line_format `{{{{.error}}}}: {{{{.client}}}} from {{{{.address}}}}`",
                  limit=100, needs=["keycloak"], width=15)),

    "Hosts",
    d.line(8,
           d.timeseries("Log-ins by sshd", "Log-ins over SSH that were let through.",
                        [d.Logs(lines(f"{SSHD} |= `Accepted `", "host", "$__interval"), "{{host}}")],
                        unit="short", levels=d.NO_LEVELS, stacked=True, bars=True),
           d.timeseries("Commands as root", "Commands that sudo ran for someone, and refused.",
                        [d.Logs(lines(SUDO_RUN, "host", "$__interval"), "{{host}} run"),
                         d.Logs(lines(SUDO_REFUSED, "host", "$__interval"), "{{host}} refused")],
                        unit="short", levels=d.NO_LEVELS, bars=True)),
    d.line(9,
           d.logs("Newest lines of sshd and sudo", "What sshd and sudo wrote.",
                  '{host=~"$host", service=~"sshd|sshd-session|ssh|sudo"}', labels=True, limit=100)),

    "Suspicious requests",
    d.line(9,
           d.timeseries("Suspicious requests in ten minutes", "Requests for what scanners look for: paths that climb "
                        "out, files with secrets, pages of well-known programs, SQL and shell commands.",
                        [d.Logs(lines(SUSPICIOUS, "host, service", "10m"), "{{host}} {{service}}")],
                        unit="short", levels=d.above("suspicious_requests"), width=9,
                        links=[d.to_logs("${__field.labels.host}")]),
           d.logs("Newest suspicious requests", "The newest of these lines.", SUSPICIOUS, labels=True, limit=100,
                  width=15)),

    tags=["logs", "security"], needs=["loki"], since="now-6h", refresh="5m",
    variables=[d.log_label("host", "Host")],
    annotations=[d.firing('instance=~"$host"')],
)
