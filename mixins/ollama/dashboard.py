# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

OLLAMA = 'job="ollama", instance=~"$instance"'
ON = "{{instance}} {{service}}"
WHAT = "{{method}} {{route}}"
# From Ollama's own access lines, by Loki's rules.
ASKED = 'service=~"${services.ollama}", instance=~"$instance"'
LINES = '{service=~"${services.ollama}", host=~"$instance"}'


def each(metric: str) -> str:
    return f"sum by (instance, service, model) ({metric}{{{OLLAMA}}})"


def requests(more: str = "", by: str = "instance, service") -> str:
    return f"sum by ({by}) (ollama_access:requests:rate5m{{{', '.join(filter(None, [ASKED, more]))}}})"


def failed(status: str) -> str:
    chosen = requests(f'status=~"{status}"')
    return f"100 * ({chosen} or 0 * {requests()}) / ({requests()} > 0)"


DASHBOARD = d.dashboard(
    "aistack-ollama", "Ollama AI Models",
    "Which models are there, which are loaded where, and does Ollama answer?",
    d.line(4,
           d.status("Ollama status", "Whether Ollama answers; no answer of its exporter counts as none of Ollama's.",
                    "ollama"),
           d.stat("Models installed", "Models that Ollama lists, remote ones included.",
                  [d.Query(f"ollama_models_total{{{OLLAMA}}}", ON)],
                  unit="none", levels=((None, "red"), (1, "green"))),
           d.stat("Models loaded", "Models that are in memory now.",
                  [d.Query(f"ollama_models_loaded{{{OLLAMA}}}", ON)], unit="none", levels=d.NO_LEVELS),
           d.stat("Store size",
                  "Disk space of the installed models. Layers that different models share are counted for "
                  "each of them.",
                  [d.Query(f"ollama_total_size_bytes{{{OLLAMA}}}", ON)], unit="bytes", decimals=1, levels=d.NO_LEVELS),
           d.stat("GPU memory of models", "GPU memory that the loaded models hold.",
                  [d.Query(f"ollama_vram_bytes{{{OLLAMA}}}", ON)], unit="bytes", decimals=1, levels=d.NO_LEVELS),
           d.version("Ollama version", f"ollama_version_info{{{OLLAMA}}}")),

    "Requests",
    d.line(8,
           d.timeseries("Requests to Ollama", "Requests a second by route, as Ollama's own access lines tell: "
                        "averages over five minutes.",
                        [d.Query(requests(by="instance, service, method, route"), f"{ON} {WHAT}")],
                        unit="reqps", levels=d.NO_LEVELS, links=[d.to_logs()], needs=["loki"]),
           d.timeseries("Failed requests to Ollama", "Share of the requests that were answered with an error: the "
                        "caller's (4xx), such as a model that isn't there, or Ollama's own (5xx).",
                        [d.Query(failed("4.."), f"{ON} 4xx"), d.Query(failed("5.."), f"{ON} 5xx")],
                        unit="percent", levels=d.NO_LEVELS, links=[d.to_logs()], needs=["loki"]),
           d.timeseries("Response time of Ollama", "Time until a request is answered in full, by route: half of them, "
                        "and the slowest twentieth. An answer of a model takes as long as it writes.",
                        [d.Query(f'ollama_access:latency_seconds:quantile5m{{{ASKED}, quantile="{share}"}}',
                                 f"{ON} {{{{route}}}} {name}")
                         for share, name in ((0.5, "half"), (0.95, "slowest twentieth"))],
                        unit="s", levels=d.NO_LEVELS, links=[d.to_logs()], needs=["loki"])),

    "Models",
    d.line(10,
           d.table("Installed models",
                   "Every installed model, the largest first. A model that another host runs takes "
                   "nothing here.",
                   [d.Query(f"ollama_model_info{{{OLLAMA}}}"),
                    d.Query(f"{each('ollama_model_size_bytes')} or 0 * {each('ollama_model_info')}"),
                    d.Query(f"ollama_model_loaded{{{OLLAMA}}}"),
                    d.Query(f"1000 * ollama_model_modified_timestamp_seconds{{{OLLAMA}}}")],
                   {"model": d.Column("Model"), "instance": d.Column("Host"), "service": d.Column("Service"),
                    "family": d.Column("Family"), "parameter_size": d.Column("Parameters"),
                    "quantization": d.Column("Quantisation"), "format": d.Column("Format"),
                    "remote_host": d.Column("Run by"),
                    "B": d.Column("Size", "bytes"),
                    "C": d.Column("Loaded", mappings=d.words(_1=("loaded", "green"), _0=("no", "text"))),
                    "D": d.Column("Changed", "dateTimeFromNow")},
                   sort="Size", descending=True, unit="short", levels=d.NO_LEVELS)),
    d.line(8,
           d.table("Loaded models",
                   "Every model in memory: where it lies, and when it leaves unless it is used.",
                   [d.Query(f"ollama_model_vram_bytes{{{OLLAMA}}}"),
                    d.Query(f"ollama_model_ram_bytes{{{OLLAMA}}}"),
                    d.Query(f"100 * ollama_model_gpu_offload_ratio{{{OLLAMA}}}"),
                    d.Query(f"ollama_model_context_length{{{OLLAMA}}}"),
                    d.Query(f"1000 * {each('ollama_model_expires_timestamp_seconds')} "
                            f"or 0 * {each('ollama_model_keep_alive_forever')}")],
                   {"model": d.Column("Model"), "instance": d.Column("Host"), "service": d.Column("Service"),
                    "A": d.Column("GPU memory", "bytes"), "B": d.Column("Main memory", "bytes"),
                    "C": d.Column("On the GPU", "percent", ((None, "blue"),), bar=True),
                    "D": d.Column("Context length"),
                    "E": d.Column("Leaves", "dateTimeFromNow", mappings=d.words(_0=("never", "text")))},
                   sort="GPU memory", descending=True, unit="short", levels=d.NO_LEVELS, width=14),
           d.timeseries("Memory of loaded models", "GPU memory and main memory of each loaded model, together.",
                        [d.Query(f"ollama_model_vram_bytes{{{OLLAMA}}}", "{{model}} GPU"),
                         d.Query(f"ollama_model_ram_bytes{{{OLLAMA}}}", "{{model}} main memory")],
                        unit="bytes", levels=d.NO_LEVELS, stacked=True, width=10)),
    d.line(7,
           d.timeline("Loaded over time", "When each model was in memory.",
                      [d.Query(f"ollama_model_loaded{{{OLLAMA}}}", "{{instance}} {{model}}")],
                      unit="none", levels=((None, "text"), (1, "blue")),
                      mappings=d.words(_1=("loaded", "blue"), _0=("not loaded", "text")), width=14),
           d.timeseries("Store size over time", "Disk space of the installed models.",
                        [d.Query(f"ollama_total_size_bytes{{{OLLAMA}}}", ON)], unit="bytes", levels=d.NO_LEVELS,
                        width=10)),

    "Ollama and its exporter",
    d.line(7,
           d.timeline("Endpoints", "Whether each endpoint of Ollama answered the exporter's last poll properly.",
                      [d.Query(f"ollama_exporter_endpoint_up{{{OLLAMA}}}", "{{instance}} /api/{{endpoint}}")],
                      unit="none", levels=d.UP, mappings=d.OK_OR_FAILED),
           d.timeseries("Poll duration", "How long each endpoint of Ollama took to answer the exporter, which gives "
                        "up after five seconds.",
                        [d.Query(f"ollama_exporter_poll_duration_seconds{{{OLLAMA}}}",
                                 "{{instance}} /api/{{endpoint}}")],
                        unit="s", levels=d.NO_LEVELS),
           d.timeseries("Poll failures", "Questions of the exporter that failed, by reason.",
                        [d.Query(f"sum by (instance, endpoint, reason) "
                                 f"(increase(ollama_exporter_poll_errors_total{{{OLLAMA}}}[$__rate_interval]))",
                                 "{{instance}} /api/{{endpoint}} {{reason}}")],
                        unit="short", levels=d.ANY_IS_BAD),
           d.stat("Exporter last polled", "How long ago the exporter's last poll ended; it polls every 15 seconds.",
                  [d.Query(f"time() - ollama_exporter_last_poll_timestamp_seconds{{{OLLAMA}}}", ON)],
                  unit="s", decimals=0, levels=((None, "green"), (60, "orange"), (300, "red")))),

    "Lines",
    d.line(10,
           d.timeseries("Levels of Ollama's lines", "Lines in each interval, by level.",
                        [d.Logs(f"sum by (level) (count_over_time({LINES}[$__interval]))", "{{level}}")],
                        unit="short", levels=d.NO_LEVELS, stacked=True, bars=True, colours=d.LEVEL_COLOURS, width=8),
           d.logs("Newest lines of Ollama", "What Ollama wrote, without its access lines.", f"{LINES} != `[GIN]`",
                  limit=200, width=16)),

    tags=["ollama"],
    variables=[d.instances('ollama_up{job="ollama"}')],
    annotations=[d.firing('instance=~"$instance", service!="host"')],
)
