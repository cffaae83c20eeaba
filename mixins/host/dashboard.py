# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
import dashboards as d

NODE = 'job="node", instance=~"$instance"'
CARDS = d.NETWORK_CARDS
# Whole disks: what lies on top of them would be counted twice.
DISKS = 'device!~"dm-.*|md.*|loop.*|zram.*|sr.*"'
WORK = 'mode!="idle"'
PROCESSORS = f'count by (instance) (node_cpu_seconds_total{{{NODE}, mode="idle"}})'
FREE = 'instance_device:node_filesystem_avail_bytes:min{instance=~"$instance"}'


def each_second(metric: str, more: str = "") -> str:
    return f"rate({metric}{{{', '.join(filter(None, [NODE, more]))}}}[$__rate_interval])"


def pressure(resource: str, kind: str = "waiting") -> d.Query:
    return d.Query(f"100 * {each_second(f'node_pressure_{resource}_{kind}_seconds_total')}",
                   f"{{{{instance}}}} {resource} {kind}")


DASHBOARD = d.dashboard(
    "aistack-host", "System Overview",
    "How loaded are the hosts, and what will run out first?",
    d.line(4,
           d.stat("Uptime", "Time since the host was booted, by its own clock.",
                  [d.Query(f"node_time_seconds{{{NODE}}} - node_boot_time_seconds{{{NODE}}}", "{{instance}}")],
                  unit="s", decimals=1, levels=d.JUST_STARTED, links=[d.to_services()]),
           d.stat("Load per processor",
                  "Processes that run or wait for a processor or disk, on average over five minutes, "
                  "for each processor. More than 1 for long means that some wait.",
                  [d.Query(f"node_load5{{{NODE}}} / on (instance) {PROCESSORS}", "{{instance}}")],
                  unit="none", decimals=2, levels=d.above(1, 2)),
           d.stat("Memory available", "Memory that programs can have without swapping: free, or freed at once.",
                  [d.Query(f"node_memory_MemAvailable_bytes{{{NODE}}}", "{{instance}}")],
                  unit="bytes", decimals=1, levels=d.NO_LEVELS),
           d.gauge("Swap used", "Share of the swap space in use; a host without swap has no value.",
                   [d.Query(f"100 * (1 - node_memory_SwapFree_bytes{{{NODE}}} "
                            f"/ (node_memory_SwapTotal_bytes{{{NODE}}} > 0))", "{{instance}}")],
                   unit="percent", decimals=0, levels=d.above("swap_percent"), no_value="no swap"),
           d.stat("Processes killed for memory",
                  "Processes that the kernel killed in the last 24 hours because memory ran "
                  "out, the host's or a container's own.",
                  [d.Query(f"increase(node_vmstat_oom_kill{{{NODE}}}[24h])", "{{instance}}")],
                  unit="none", decimals=0, levels=((None, "green"), (0.5, "red")), links=[d.to_logs(service="kernel")]),
           d.stat("Clock difference", "How far the host's clock is from Prometheus's.",
                  [d.Query(f"abs(node_time_seconds{{{NODE}}} - timestamp(node_time_seconds{{{NODE}}}))",
                           "{{instance}}")],
                  unit="s", decimals=1, levels=d.above("clock_skew_seconds"))),

    "Processor and memory",
    d.line(8,
           d.timeseries("CPU", "Share of the processors' time in which they work; waiting for disks is not counted.",
                        [d.Query('100 * instance:node_cpu_busy:ratio_rate2m{instance=~"$instance"}', "{{instance}}")],
                        unit="percent", full=True, levels=d.above("cpu_percent", "cpu_critical_percent")),
           d.timeseries("Memory", "Share of the memory in use; what can be freed at once is not counted.",
                        [d.Query('100 * instance:node_memory_used:ratio{instance=~"$instance"}', "{{instance}}")],
                        unit="percent", full=True, levels=d.above("memory_percent", "memory_critical_percent"))),
    d.line(8,
           d.timeseries("CPU by kind of work", "What the processors do, all together: 100 % is all of them.",
                        [d.Query(f"100 * sum by (instance, mode) ({each_second('node_cpu_seconds_total', WORK)}) "
                                 f"/ on (instance) group_left {PROCESSORS}", "{{instance}} {{mode}}")],
                        unit="percent", full=True, levels=d.NO_LEVELS, stacked=True),
           d.timeseries("Load",
                        "Processes that run or wait, on average over one and 15 minutes, and how many processors "
                        "there are for them.",
                        [d.Query(f"node_load1{{{NODE}}}", "{{instance}} 1 min"),
                         d.Query(f"node_load15{{{NODE}}}", "{{instance}} 15 min"),
                         d.Query(PROCESSORS, "{{instance}} processors")],
                        unit="short", levels=d.NO_LEVELS),
           d.timeseries("Pressure",
                        "Share of the time in which work stood still because processor, memory or disk were "
                        "busy. Needs a kernel with pressure stall information.",
                        [pressure("cpu"), pressure("memory"), pressure("io"), pressure("memory", "stalled"),
                         pressure("io", "stalled")],
                        unit="percent", levels=d.NO_LEVELS)),

    "Disks",
    d.line(8,
           d.timeseries("Disk space free", "Share of each file system that is free for users.",
                        [d.Query('100 * instance_device:node_filesystem_avail:ratio{instance=~"$instance"}',
                                 "{{instance}} {{device}}")],
                        unit="percent", full=True, levels=d.below("disk_free_percent", "disk_free_critical_percent")),
           d.timeseries("Disk I/O", "What is read from and written to disks.",
                        [d.Query(f"sum by (instance) ({each_second(f'node_disk_{way}_bytes_total', DISKS)})",
                                 f"{{{{instance}}}} {way}") for way in ("read", "written")],
                        unit="Bps", levels=d.NO_LEVELS),
           d.timeseries("Requests waiting for disks", "Average number of requests that wait for each disk.",
                        [d.Query(each_second("node_disk_io_time_weighted_seconds_total", DISKS),
                                 "{{instance}} {{device}}")],
                        unit="short", levels=d.above("disk_queue"))),
    d.line(9,
           d.table("File systems",
                   "Every file system that is asked about, the fullest first. When it will be full goes on from the "
                   "last six hours, and ends at 90 days.",
                   [d.Query('100 * instance_device:node_filesystem_avail:ratio{instance=~"$instance"}'),
                    d.Query(FREE),
                    d.Query('100 * instance_device:node_filesystem_files_free:ratio{instance=~"$instance"}'),
                    d.Query(f"clamp_max({FREE} / -clamp_max(deriv({FREE}[6h]), -0.001), 90 * 86400)")],
                   {"instance": d.Column("Host", link=d.to_services("${__value.raw}")),
                    "device": d.Column("Device"),
                    "A": d.Column("Free", "percent", d.below("disk_free_percent", "disk_free_critical_percent"),
                                  bar=True),
                    "B": d.Column("Free space", "bytes"),
                    "C": d.Column("Free inodes", "percent",
                                  d.below("inodes_free_percent", "inodes_free_critical_percent"), bar=True),
                    "D": d.Column("Full in", "s", d.below(86400, 4 * 3600))},
                   sort="Free", unit="short", levels=d.NO_LEVELS)),

    "Network and heat",
    d.line(8,
           d.timeseries("Network", "What real network cards receive and send.",
                        [d.Query(f"8 * sum by (instance) ({each_second(f'node_network_{way}_bytes_total', CARDS)})",
                                 f"{{{{instance}}}} {name}")
                         for way, name in (("receive", "received"), ("transmit", "sent"))],
                        unit="bps", levels=d.NO_LEVELS),
           d.timeseries("Network faults", "Packets with errors and packets dropped, on real network cards.",
                        [d.Query(f"{each_second(f'node_network_receive_{fault}_total', CARDS)} "
                                 f"+ {each_second(f'node_network_transmit_{fault}_total', CARDS)}",
                                 f"{{{{instance}}}} {{{{device}}}} {name}")
                         for fault, name in (("errs", "errors"), ("drop", "dropped"))],
                        unit="pps", levels=d.ANY_IS_BAD),
           d.timeseries("Connections", "Share of the kernel's table of network connections that is in use.",
                        [d.Query(f"100 * node_nf_conntrack_entries{{{NODE}}} "
                                 f"/ (node_nf_conntrack_entries_limit{{{NODE}}} > 0)", "{{instance}}")],
                        unit="percent", full=True, levels=d.above("conntrack_percent")),
           d.timeseries("Temperatures",
                        "What the sensors of the mainboard, processor and disks tell. Virtual machines and "
                        "containers have none.",
                        [d.Query(f"node_hwmon_temp_celsius{{{NODE}}}", "{{instance}} {{chip}} {{sensor}}")],
                        unit="celsius", levels=d.above(80, 90))),

    tags=["host"],
    variables=[d.instances('node_uname_info{job="node"}')],
    annotations=[d.firing('instance=~"$instance"')],
)
