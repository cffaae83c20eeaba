#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Loki and the shippers do: on a throwaway host with the whole site and two cores for everything, client included.

    logs.py            measures, prints a table, and puts it into docs/benchmarks.md
    logs.py --print    leaves that file alone

Ratios come from one run: a push, Alloy and Promtail bring lines of the same kind to the same Loki.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request

from page import CORES, MAIN, TOP, Demo, Table, host, make_hosts

# 10 GB in 30 days are so much in a day, and in two hours: what is older is on disk.
DAY_MIB, OPEN_MIB = 318, 27
HOUR_MIB = 100  # an hour seven times as busy
PUSH_MIB = 256
FILE_MIB = 50
UNLIMITED = {"loki_ingestion_rate_mb": 400, "loki_ingestion_burst_mb": 800}
MEMORY = 500  # MB of Loki's that must not be exceeded
LOKI = "http://127.0.0.1:3100"


class Bench:
    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.table = Table("logs.py", demo, ("What", "Figure", "Beside it"))
        self.missed: list[str] = []

    # -- the host ------------------------------------------------------------------------------------------------

    def on(self, command: str) -> str:
        return self.demo.on(MAIN, "sh", "-c", command).strip()

    def play(self, **variables) -> None:
        self.demo.own[MAIN] = variables
        self.demo.set()
        done = self.demo.playbook("site.yml", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise host.Trouble(f"site.yml failed:\n{done.stdout[-3000:]}")

    def client(self, *arguments: str) -> dict:
        return json.loads(self.on("python3 /opt/push_logs.py " + " ".join(arguments)))

    def memory(self, unit: str, what: str = "VmRSS") -> float:
        """MB of a unit's program: VmRSS now, VmHWM at most since `forget`."""
        text = self.on(f"cat /proc/$(systemctl show --property=MainPID --value {unit})/status")
        return int(re.search(rf"{what}:\s+(\d+) kB", text)[1]) / 1000

    def forget(self, unit: str) -> None:
        self.on(f"echo 5 > /proc/$(systemctl show --property=MainPID --value {unit})/clear_refs")

    # -- Loki ----------------------------------------------------------------------------------------------------

    def query(self, kind: str, **parameters) -> tuple[float, list]:
        """Seconds, and the result. Through the demo's forwarder, which is in the time."""
        address = f"{self.demo.address('loki')}/loki/api/v1/{kind}?{urllib.parse.urlencode(parameters)}"
        began = time.monotonic()
        with urllib.request.urlopen(address, timeout=120) as answer:
            found = json.load(answer)["data"]["result"]
        return time.monotonic() - began, found

    def count(self, selector: str, span: str = "1h") -> int:
        _seconds, found = self.query("query", query=f"sum(count_over_time({selector}[{span}]))")
        return int(found[0]["value"][1]) if found else 0

    # -- what is measured ----------------------------------------------------------------------------------------

    def run(self) -> None:
        make_hosts(self.demo)
        host.run("docker", "cp", os.path.join(TOP, "tests", "bench", "push_logs.py"),
                 self.demo.state["containers"][MAIN] + ":/opt/")
        self.play()
        self.kept()
        self.asked()
        self.pushed()
        self.shipped()

    def kept(self) -> None:
        """As it is installed, with its limit of what it takes in a second."""
        self.forget("loki")
        disk = self.on_disk()
        told = self.client("push", LOKI + "/loki/api/v1/push", f"--mib {DAY_MIB} --seconds 86400 --host day")
        flood = self.memory("loki", "VmHWM")
        self.on(f"curl -sf -X POST {LOKI}/flush")
        self.settle()
        used = self.on_disk() - disk
        self.table.add("On disk, chunks and index, for each byte of log", f"{used / told['bytes']:.3f} bytes",
                       f"{told['bytes'] / 1e6:.0f} MB became {used / 1e6:.0f} MB; 10 GB of disk hold "
                       f"{10 * told['bytes'] / used:.0f} GB of lines")
        self.table.add(f"Loki's resident memory, at most, while {DAY_MIB} MiB come in as fast as it takes them",
                       f"{flood:.0f} MB", f"at {told['bytes'] / told['seconds'] / 1e6:.1f} MB/s, which is "
                       f"{told['bytes'] / told['seconds'] / 3858:,.0f} times 10 GB in 30 days")
        self.on("systemctl restart loki")
        self.awake()
        self.client("push", LOKI + "/loki/api/v1/push", f"--mib {OPEN_MIB} --seconds 7000 --host open")
        for _time in range(3):
            self.query("query_range", query='{host="open"} |= "needle-1-needle"', since="2h", limit=100)
            self.query("query_range", query='{host="day"} |= "needle-9-needle"', since="25h", limit=100)
        most = self.memory("loki", "VmHWM")
        if most >= MEMORY:
            self.missed.append(f"Loki had {most:.0f} MB of memory, the limit is {MEMORY} MB")
        self.table.add("The same at 10 GB in 30 days, with two hours of it in memory, a day searched",
                       f"{most:.0f} MB (limit {MEMORY} MB)", f"{self.memory('loki'):.0f} MB afterwards")

    def awake(self) -> None:
        deadline = time.monotonic() + 60
        while self.demo.on(MAIN, "curl", "-sf", LOKI + "/ready", check=False).strip() != "ready":
            if time.monotonic() > deadline:
                raise host.Trouble("Loki did not come back within a minute")
            time.sleep(0.5)

    def pushed(self) -> None:
        self.play(**UNLIMITED)
        told = self.client("push", LOKI + "/loki/api/v1/push", f"--mib {PUSH_MIB} --seconds 3000 --host fast")
        self.rate = told["lines"] / told["seconds"]
        self.table.add(f"Pushed by a small client, {PUSH_MIB} MiB, with Loki's limit raised",
                       f"{self.rate:,.0f} lines/s",
                       f"{told['bytes'] / told['seconds'] / 1e6:.1f} MB/s, {told['bytes'] / told['lines']:.0f} bytes a "
                       f"line; {told['refused']} answers said: later")

    def on_disk(self) -> int:
        """Bytes of chunks and index; the log of what is still in memory is not among them."""
        return sum(int(line.split()[0]) for line in self.on(
            "cd /var/lib/loki && du -sb --exclude='*wal*' .").splitlines())

    def settle(self) -> None:
        """Until nothing is written to disk any more."""
        before, same, deadline = -1, 0, time.monotonic() + 90
        while same < 3 and time.monotonic() < deadline:
            time.sleep(2)
            now = self.on_disk()
            same = same + 1 if now == before else 0
            before = now

    def asked(self) -> None:
        told = self.client("push", LOKI + "/loki/api/v1/push", f"--mib {HOUR_MIB} --seconds 3300 --host hour")
        hour = f"of the last hour with {told['lines']:,} lines ({HOUR_MIB} MiB)"

        def measured(what: str, kind: str, query: str, lines: int, **more) -> float:
            seconds = []
            for number in range(5):
                taken, found = self.query(kind, query=query.replace("NUMBER", str(number)), **more)
                got = sum(len(one["values"]) for one in found) if kind == "query_range" else len(found)
                if got != lines:
                    raise host.Trouble(f"{query} found {got} lines instead of {lines}")
                seconds.append(taken)
            middle = statistics.median(seconds)
            self.table.add(what, f"{middle:.3f} s", f"{min(seconds):.3f} to {max(seconds):.3f}" + (
                f"; {middle / label:.1f} times by label" if label else ""))
            return middle

        label = 0.0
        label = measured(f"By label: the newest 1000 lines {hour}", "query_range",
                         '{host="hour",service="keycloak"}', 1000, limit=1000, since="1h")
        measured("By label and text: one line in a service", "query_range",
                 '{host="hour",service=~".+"} |= "needle-NUMBER-needle"', 1, limit=1000, since="1h")
        measured("By a regular expression in all lines", "query_range",
                 '{host="hour"} |~ "(?i)NEEDLE-NUMBER-n[aeiou]+dle"', 1, limit=1000, since="1h")
        measured("Counted: lines by service", "query", 'sum by (service) (count_over_time({host="hour"}[1h]))', 8)
        self.forget("loki")
        measured(f"By text in a whole day with {DAY_MIB} MiB", "query_range",
                 '{host="day"} |= "needle-NUMBER-needle"', 1, limit=1000, since="25h")
        self.table.add("Loki's resident memory during that, at most", f"{self.memory('loki', 'VmHWM'):.0f} MB")

    def shipped(self) -> None:
        rates = {}
        for shipper in ("alloy", "promtail"):
            folder = f"/var/log/bench/{shipper}"
            self.on(f"mkdir -p {folder}")
            self.play(log_shipper=shipper, **UNLIMITED,
                      log_sources={"files": [{"paths": [folder + "/*.log"], "service": "bench-" + shipper}]})
            told = self.client("write", folder + "/new", f"--mib {FILE_MIB}")
            self.forget(shipper)
            began = time.monotonic()
            self.on(f"mv {folder}/new {folder}/bench.log")
            while (found := self.count(f'{{service="bench-{shipper}"}}')) < told["lines"]:
                if time.monotonic() - began > 300:
                    raise host.Trouble(f"{shipper} brought {found} of {told['lines']} lines in five minutes")
                time.sleep(0.5)
            seconds = time.monotonic() - began
            rates[shipper] = told["lines"] / seconds
            self.table.add(f"Through {shipper.capitalize()}: a file of {FILE_MIB} MiB, from its appearance to its last "
                           "line in Loki", f"{rates[shipper]:,.0f} lines/s",
                           f"{told['bytes'] / seconds / 1e6:.1f} MB/s; the push is {self.rate / rates[shipper]:.1f} "
                           f"times as fast; {found - told['lines']} double; at most "
                           f"{self.memory(shipper, 'VmHWM'):.0f} MB of memory")
        self.table.add("Alloy's speed over Promtail's", f"{rates['alloy'] / rates['promtail']:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--print", action="store_true", help="don't write docs/benchmarks.md")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, CORES)
    demo = Demo(os.environ.get("AISTACK_RUN") or "bench" + secrets.token_hex(3))
    bench = Bench(demo)
    try:
        bench.run()
        if not arguments.print:
            bench.table.write()
    except (host.Trouble, OSError) as trouble:
        print(trouble, file=sys.stderr)
        return 1
    finally:
        demo.down()
    print("\n".join(bench.missed))
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
