# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

CPU = d.above("cpu_percent", "cpu_critical_percent")
MEMORY = d.above("memory_percent", "memory_critical_percent")
DISK = d.below("disk_free_percent", "disk_free_critical_percent")
CARDS = f'job="node", {d.NETWORK_CARDS}'
TO_OLLAMA = d.Link("Ollama AI Models", "aistack-ollama", {"instance": "${__field.labels.instance}"})

# Twenty-four units high: what a screen of 1920x1080 shows without scrolling.
DASHBOARD = d.dashboard(
    "aistack-summary", "Executive Summary",
    "Is everything all right, how much of it is used, and what does it cost?",
    d.line(5,
           d.stat("System uptime", "Time since each host was booted.",
                  [d.Query('node_time_seconds{job="node"} - node_boot_time_seconds{job="node"}', "{{instance}}")],
                  unit="s", decimals=1, levels=d.JUST_STARTED, links=[d.to_host()]),
           d.stat("CPU", "Share of the processors' time in which they work.",
                  [d.Query("100 * instance:node_cpu_busy:ratio_rate2m", "{{instance}}")],
                  unit="percent", decimals=0, levels=CPU, traffic_light=True, links=[d.to_host()]),
           d.stat("Memory", "Share of the memory in use.",
                  [d.Query("100 * instance:node_memory_used:ratio", "{{instance}}")],
                  unit="percent", decimals=0, levels=MEMORY, traffic_light=True, links=[d.to_host()]),
           d.stat("Disk space free", "Free share of the fullest file system of each host.",
                  [d.Query("100 * min by (instance) (instance_device:node_filesystem_avail:ratio)", "{{instance}}")],
                  unit="percent", decimals=0, levels=DISK, traffic_light=True, links=[d.to_host()])),
    d.line(5,
           d.status("Ollama status", "Whether Ollama answers.", "ollama", hosts=".+", links=[TO_OLLAMA],
                    needs=["ollama"], width=5),
           d.stat("Ollama models", "Models that are installed.",
                  [d.Query('ollama_models_total{job="ollama"}', "{{instance}} {{service}}")],
                  unit="none", levels=((None, "red"), (1, "green")), links=[TO_OLLAMA], needs=["ollama"],
                  width=5),
           d.stat("GPU utilisation", "Share of the time in which the busiest GPU of each host works.",
                  [d.Query("100 * max by (instance) (gpu_utilization_ratio)", "{{instance}}")],
                  unit="percent", decimals=0, levels=d.NO_LEVELS, needs=["gpu"], width=5),
           d.stat("Active containers", "Containers that run, on all hosts.",
                  'count(count by (instance, container) (container_last_seen{container!=""})) or vector(0)',
                  unit="none", levels=d.NO_LEVELS, needs=["containers"], width=4),
           d.stat("Estimated daily cost", "An estimate: the hosts' hours of the last 24 hours, as if each drew "
                  "${energy.host_watts} W all the time, at ${energy.tariff_per_kwh} ${energy.currency} per kWh. "
                  "Neither the real power nor the price of the machines is in it.",
                  "sum(avg_over_time(host:up[24h])) * ${energy.host_watts} * 24 / 1000 * ${energy.tariff_per_kwh}",
                  unit="suffix:${energy.currency}", decimals=2, levels=d.NO_LEVELS, needs=["energy"],
                  width=5)),
    d.line(14,
           d.timeseries("24-hour trends",
                        "The last 24 hours, whatever time range is chosen: the busiest host's processor "
                        "and memory, the fullest file system of all.",
                        [d.Query("100 * max(instance:node_cpu_busy:ratio_rate2m)", "CPU"),
                         d.Query("100 * max(instance:node_memory_used:ratio)", "Memory"),
                         d.Query("100 - 100 * min(instance_device:node_filesystem_avail:ratio)", "Disk"),
                         d.Query("100 * max(gpu_utilization_ratio)", "GPU", needs=("gpu",))],
                        unit="percent", full=True, levels=d.NO_LEVELS, since="24h", width=10),
           d.table("Service status", "Every service, the dead ones first.",
                   "service:up",
                   {"instance": d.Column("Host", link=d.to_services("${__value.raw}")),
                    "service": d.Column("Service", link=d.to_logs(*d.ROW)),
                    "A": d.Column("Status", levels=d.UP, mappings=d.UP_OR_DOWN)},
                   sort="Status", unit="none", levels=d.UP, width=7),
           d.timeseries("Network I/O", "What the real network cards of all hosts receive and send.",
                        [d.Query(f"8 * sum(rate(node_network_{way}_bytes_total{{{CARDS}}}[$__rate_interval]))", name)
                         for way, name in (("receive", "received"), ("transmit", "sent"))],
                        unit="bps", levels=d.NO_LEVELS, links=[d.to_host("$__all")], width=7)),
    tags=["summary"], refresh="30s", since="now-24h",
)
