# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of figures, and its place in docs/benchmarks.md."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "servers"))

import host  # noqa: E402
from demo import MAIN, Demo  # noqa: E402

CORES = {0, 1}
PAGE = os.path.join(TOP, "docs", "benchmarks.md")


class Table:
    def __init__(self, program: str, demo: Demo, headline: tuple[str, str, str]) -> None:
        self.begin, self.end = f"<!-- measured: tests/bench/{program} -->", "<!-- end -->"
        self.demo, self.headline = demo, headline
        self.rows: list[tuple[str, str, str]] = []
        self.load = os.getloadavg()[1]

    def add(self, what: str, figure: str, more: str = "") -> None:
        self.rows.append((what, figure, more))
        print("  {:<84}{:<24}{}".format(*self.rows[-1]), flush=True)

    def write(self) -> None:
        with open(PAGE, encoding="utf-8") as handle:
            before, begin, rest = handle.read().partition(self.begin)
        if not begin:
            raise host.Trouble(f"{PAGE} has no place {self.begin}")
        with open(PAGE, "w", encoding="utf-8") as handle:
            handle.write(before + self.text() + rest.partition(self.end)[2])

    def text(self) -> str:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            model = re.search(r"model name\s*: (.*)", handle.read())
        version = subprocess.run(["ansible-playbook", "--version"], capture_output=True, text=True, check=False,
                                 env=self.demo.environment()).stdout.splitlines()[0]
        lines = [
            self.begin, "",
            f"{time.strftime('%Y-%m-%d')}, {version}, Python {sys.version.split()[0]}, two cores"
            + (f" ({model[1].strip()})" if model else "")
            + " for controller and host together, Debian 12 in a container, docker connection. Load of the "
            + f"machine's {os.cpu_count()} cores before the run: {self.load:.1f}; a busy machine is slower.",
            "",
            "| {} | {} | {} |".format(*self.headline), "|---|---|---|",
            *("| {} | {} | {} |".format(*row) for row in self.rows), "", self.end,
        ]
        return "\n".join(lines)


def middle(values: list[float], unit: str) -> tuple[str, str]:
    """Median and range, as cells."""
    return f"{statistics.median(values):.2f} {unit}", f"{min(values):.2f} to {max(values):.2f}"


def make_hosts(demo: Demo) -> None:
    """The demo's host on two cores, with what a user has on it."""
    demo.make_hosts()
    host.run("docker", "update", "--cpuset-cpus", ",".join(map(str, sorted(CORES))), demo.state["containers"][MAIN])
    if not demo.prepare():
        raise host.Trouble(f"preparing the host failed, see {demo.log}")
