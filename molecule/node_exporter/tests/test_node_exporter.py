# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_exporter tells the truth about its machine, out of its sandbox."""

import re


def test_memory_is_the_machines(host, metrics):
    total = re.search(r"MemTotal:\s+(\d+) kB", host.file("/proc/meminfo").content_string).group(1)
    assert metrics(":9100").value("node_memory_MemTotal_bytes") == int(total) * 1024


def test_boot_time_and_processors_are_the_machines(host, metrics):
    stat = host.file("/proc/stat").content_string
    served = metrics(":9100")
    assert served.value("node_boot_time_seconds") == int(re.search(r"btime (\d+)", stat).group(1))
    assert len(served.series("node_cpu_seconds_total", mode="idle")) == len(re.findall(r"^cpu\d+ ", stat, re.MULTILINE))


def test_file_systems_are_seen_as_the_host_sees_them(host, metrics):
    """Their size, and whether they may be written: in the sandbox of the unit itself everything is read-only."""
    mounts = [line.split()[:4] for line in host.file("/proc/1/mounts").content_string.splitlines()]
    disks = {point: options.split(",") for device, point, _kind, options in mounts if device.startswith("/dev/")}
    served = metrics(":9100")
    assert disks
    assert {labels["mountpoint"] for labels, _value in served.series("node_filesystem_size_bytes")} >= disks.keys()
    for point, options in disks.items():
        size = host.check_output("stat -f -c '%%b %%S' %s", point).split()
        assert served.value("node_filesystem_size_bytes", mountpoint=point) == int(size[0]) * int(size[1])
        assert served.value("node_filesystem_readonly", mountpoint=point) == ("ro" in options)


def test_the_network_is_the_machines(host, metrics):
    names = {line.split(":")[0].strip() for line in host.file("/proc/net/dev").content_string.splitlines()[2:]}
    served = {labels["device"] for labels, _value in metrics(":9100").series("node_network_receive_bytes_total")}
    assert "eth0" in served <= names


def test_every_collector_works(metrics):
    collectors = {labels["collector"]: value for labels, value in metrics(":9100").series(
        "node_scrape_collector_success")}
    # What this machine doesn't have says 0 on any host: no disk of its own kind, no pressure information, …
    assert {"cpu", "filesystem", "loadavg", "meminfo", "netdev", "stat", "textfile", "time", "timex", "uname"} <= {
        name for name, value in collectors.items() if value}


def test_a_metric_dropped_into_the_textfile_folder_appears(host, metrics):
    name = "/var/lib/node_exporter/textfile/backup.prom"
    host.check_output("umask 022; echo 'backup_last_success_timestamp_seconds 42' > %s", name)
    assert metrics(":9100").value("backup_last_success_timestamp_seconds") == 42
    host.check_output("rm %s", name)
    assert not metrics(":9100").series("backup_last_success_timestamp_seconds")


def test_without_the_clocks_state_the_sandbox_is_an_exporters(host, metrics, site):
    """Only adjtimex says whether the clock is synchronised, and allowing it counts like allowing to set the clock."""
    assert metrics(":9100").series("node_timex_sync_status")
    assert site(node_exporter_collectors_disabled=["timex"]).changing["node_exporter"]["service"] == "restart"
    assert not metrics(":9100").series("node_timex_sync_status")
    assert metrics(":9100").series("node_filesystem_size_bytes")
    text = host.check_output("systemd-analyze security --no-pager node_exporter")
    assert float(re.search(r"exposure level for \S+: ([\d.]+)", text).group(1)) < 1.5
    assert site().changing
    assert metrics(":9100").series("node_timex_sync_status")


def test_a_collector_that_does_not_exist_is_no_outage(host, main_pid, metrics, site):
    before, unit = main_pid("node_exporter"), host.file("/etc/systemd/system/node_exporter.service").content_string
    outcome = site(refused=True, node_exporter_collectors_enabled=["no-such-thing"])
    assert "no-such-thing" in outcome.message
    assert host.file("/etc/systemd/system/node_exporter.service").content_string == unit
    assert metrics(":9100").value("node_boot_time_seconds")
    assert main_pid("node_exporter") != before
    assert not site().changing
