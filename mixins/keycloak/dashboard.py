# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

SERVICE = 'service=~"${services.keycloak}", instance=~"$instance"'
PROBES = f'job="probe", type="keycloak", {SERVICE}'
NATIVE = 'job="keycloak", instance=~"$instance"'
REFUSED = 'event="login", error!=""'
# Not what only monitoring asks for.
PEOPLES = 'uri!~"/health.*|/metrics"'
FAILED = f'{PEOPLES}, outcome="SERVER_ERROR"'
LOGIN = 'uri=~".*/login-actions/authenticate|.*/token"'
ON = "{{instance}} {{service}}"
LINES = '{service=~"${services.keycloak}", host=~"$instance"}'
# In a line of JSON each quotation mark is written \".
REFUSALS = r'|~ `type=\\?"LOGIN_ERROR` | regexp `error=\\?"(?P<error>[^"\\]+)`'


def increase(metric: str, by: str, more: str = "") -> str:
    chosen = ", ".join(filter(None, [NATIVE, more]))
    return f"sum by (instance, {by}) (increase({metric}{{{chosen}}}[$__rate_interval]))"


def requests(part: str, which: str = PEOPLES, by: str = "instance, service") -> str:
    return f"sum by ({by}) (rate(http_server_requests_seconds_{part}{{{NATIVE}, {which}}}[$__rate_interval]))"


def heap(metric: str) -> str:
    # A part without a limit says -1.
    return f'sum by (instance, service) ({metric}{{{NATIVE}, area="heap"}} > 0)'


DASHBOARD = d.dashboard(
    "aistack-keycloak", "Keycloak",
    "Can people log in, how many fail and why, and has Keycloak room to serve more?",
    d.line(4,
           d.status("Keycloak status", "Whether Keycloak answers: its health, its realm and its metrics.", "keycloak"),
           d.stat("Uptime of Keycloak", "Time since Keycloak was started.",
                  [d.Query(f"process_uptime_seconds{{{NATIVE}}}", ON)],
                  unit="s", decimals=1, levels=d.JUST_STARTED),
           d.stat("Failed log-ins in 24 hours", "Log-ins that were refused in the last 24 hours: mistyped passwords, "
                  "unknown users, wrong addresses.",
                  f"sum(increase(keycloak_user_events_total{{{NATIVE}, {REFUSED}}}[24h]))",
                  unit="none", decimals=0, levels=d.NO_LEVELS, no_value="not counted"),
           d.gauge("Heap in use", "Share of the Java heap that is in use after garbage collection.",
                   [d.Query(f'100 * max by (instance, service) (jvm_memory_usage_after_gc{{{NATIVE}, area="heap"}})',
                            ON)],
                   unit="percent", decimals=0, levels=d.above("heap_percent")),
           d.stat("Waiting for the database", "Requests that wait for a connection to the database.",
                  [d.Query(f"agroal_awaiting_count{{{NATIVE}}}", ON)], unit="none", levels=d.above(1)),
           d.stat("Slowest probe of Keycloak", "How long the slowest probe of Keycloak takes now.",
                  f"max(probe_duration_seconds{{{PROBES}}})", unit="s", decimals=2, levels=d.above("probe_seconds"))),
    d.line(7,
           d.timeline("Keycloak over time", "Whether each probe of Keycloak succeeded.",
                      [d.Query(f"probe_success{{{PROBES}}}", "{{instance}} {{service}} {{probe}}")],
                      unit="none", levels=d.UP, mappings=d.UP_OR_DOWN),
           d.timeseries("Probe duration of Keycloak", "How long each probe of Keycloak takes.",
                        [d.Query(f"probe_duration_seconds{{{PROBES}}}", "{{instance}} {{service}} {{probe}}")],
                        unit="s", levels=d.above("probe_seconds"))),

    "Log-ins",
    d.line(8,
           d.timeseries("Events", "What users did, by kind: log-ins, tokens, log-outs.",
                        [d.Query(increase("keycloak_user_events_total", "realm, event", 'error=""'),
                                 "{{realm}} {{event}}")],
                        unit="short", levels=d.NO_LEVELS),
           d.timeseries("Failed log-ins", "Log-ins a minute that were refused, by realm. Many are someone who guesses "
                        "passwords, or a program with a wrong one.",
                        [d.Query(f"60 * sum by (instance, service, realm) (rate("
                                 f"keycloak_user_events_total{{{NATIVE}, {REFUSED}}}[$__rate_interval]))",
                                 f"{ON} {{{{realm}}}}")],
                        unit="short", levels=d.above("login_failures_per_minute")),
           d.timeseries("Errors by event", "What was refused, and why.",
                        [d.Query(increase("keycloak_user_events_total", "realm, event, error", 'error!=""'),
                                 "{{realm}} {{event}}: {{error}}")],
                        unit="short", levels=d.ANY_IS_BAD),
           d.text("About events",
                  "Keycloak counts events when it runs with `--event-metrics-user-enabled=true`, and tells realms "
                  "apart with `--event-metrics-user-tags=realm`; metrics need `--metrics-enabled=true`.\n\n"
                  "Nobody is named here: events are counted by kind only.")),

    d.line(8,
           d.timeseries("Refused log-ins by reason", "Why log-ins were refused, as Keycloak's lines say: they do so "
                        "whether it counts events or not.",
                        [d.Logs(f"sum by (host, service, error) (count_over_time({LINES} {REFUSALS} [$__interval]))",
                                "{{host}} {{service}} {{error}}")],
                        unit="short", levels=d.NO_LEVELS, stacked=True, bars=True,
                        links=[d.to_logs("${__field.labels.host}")]),
           d.timeseries("Levels of Keycloak's lines", "Lines in each interval, by level.",
                        [d.Logs(f"sum by (level) (count_over_time({LINES}[$__interval]))", "{{level}}")],
                        unit="short", levels=d.NO_LEVELS, stacked=True, bars=True, colours=d.LEVEL_COLOURS)),

    "Requests",
    d.line(8,
           d.timeseries("Requests", "Requests that Keycloak answers each second, by result.",
                        [d.Query(requests("count", by="instance, outcome"), "{{instance}} {{outcome}}")],
                        unit="reqps", levels=d.NO_LEVELS),
           d.timeseries("Server errors", "Share of the requests that failed through Keycloak's own fault.",
                        [d.Query(f"100 * ({requests('count', FAILED)} or 0 * {requests('count')}) "
                                 f"/ ({requests('count')} > 0)", ON)],
                        unit="percent", levels=d.above("keycloak_errors_percent")),
           d.timeseries("Log-in time", "Time that checks of passwords and requests for tokens take, on average.",
                        [d.Query(f"{requests('sum', LOGIN)} / ({requests('count', LOGIN)} > 0)", ON)],
                        unit="s", levels=d.above("login_seconds")),
           d.timeseries("Longest request", "The longest request of the last minutes.",
                        [d.Query(f"max by (instance, service) (http_server_requests_seconds_max{{{NATIVE}}})", ON)],
                        unit="s", levels=d.NO_LEVELS)),

    "Java and the database",
    d.line(8,
           d.timeseries("Java heap", "Heap in use, and how far it may grow.",
                        [d.Query(heap("jvm_memory_used_bytes"), f"{ON} used"),
                         d.Query(heap("jvm_memory_max_bytes"), f"{ON} limit")],
                        unit="bytes", levels=d.NO_LEVELS),
           d.timeseries("Garbage collection", "Share of the time in which Java stands still to tidy its memory.",
                        [d.Query(f"100 * sum by (instance, service) "
                                 f"(rate(jvm_gc_pause_seconds_sum{{{NATIVE}}}[$__rate_interval]))", ON)],
                        unit="percent", levels=d.above(5, 20)),
           d.timeseries("Database connections",
                        "Connections of the pool: in use, free, and requests that wait for one.",
                        [d.Query(f"sum by (instance) (agroal_active_count{{{NATIVE}}})", "{{instance}} in use"),
                         d.Query(f"sum by (instance) (agroal_available_count{{{NATIVE}}})", "{{instance}} free"),
                         d.Query(f"sum by (instance) (agroal_awaiting_count{{{NATIVE}}})", "{{instance}} waiting")],
                        unit="short", levels=d.NO_LEVELS),
           d.timeseries("CPU of Keycloak", "Share of all processors of its host that Keycloak uses.",
                        [d.Query(f"100 * process_cpu_usage{{{NATIVE}}}", ON)], unit="percent", levels=d.NO_LEVELS)),

    tags=["keycloak"],
    variables=[d.instances('service:up{service=~"${services.keycloak}"}')],
    annotations=[d.firing(SERVICE)],
)
