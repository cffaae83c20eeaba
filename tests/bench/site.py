#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long runs take: on a throwaway host, with two cores for everything, controller and host alike.

    site.py            measures, prints a table, and puts it into docs/benchmarks.md
    site.py --print    leaves that file alone

Ratios come from one run: a module that does nothing (ping) and the components stand side by side in it.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import statistics
import subprocess
import sys
import time

from page import CORES, MAIN, TOP, Demo, Table, host, make_hosts

ROLES = ["node_exporter", "ollama_exporter", "blackbox_exporter", "alertmanager", "prometheus", "loki", "alloy",
         "keycloak_client", "grafana"]
FIRST, SECOND, ROLE = 90.0, 9.0, 3.0  # what must not be exceeded
PLAYBOOK = """
- name: A module that does nothing, in the way that the components go
  hosts: gpubox
  gather_facts: false
  become: true
  tags: [always]
  tasks:
    - {name: ping, ansible.builtin.ping: {}}
    - {name: ping, ansible.builtin.ping: {}}
    - {name: ping, ansible.builtin.ping: {}}
- name: The site
  ansible.builtin.import_playbook: %s
"""


class Bench:
    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.table = Table("site.py", demo, ("What", "Median", "From, to (s)"))
        self.missed: list[str] = []

    def play(self, *arguments: str, **environment: str) -> tuple[float, str]:
        began = time.monotonic()
        done = self.demo.playbook(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        if done.returncode:
            raise host.Trouble(f"{' '.join(arguments)} failed:\n{done.stdout[-3000:]}")
        return time.monotonic() - began, done.stdout

    def row(self, what: str, seconds: list[float], limit: float = 0.0) -> None:
        middle = statistics.median(seconds)
        spread = f"{min(seconds):.1f} to {max(seconds):.1f}" if len(seconds) > 1 else "once"
        if limit and middle >= limit:
            self.missed.append(f"{what} takes {middle:.1f} s, the limit is {limit:.0f} s")
        self.table.add(what, f"{middle:.2f} s" + (f" (limit {limit:.0f} s)" if limit else ""), spread)

    def run(self) -> None:
        make_hosts(self.demo)
        self.row("First run of the whole site, archives at hand", [self.play("site.yml")[0]], FIRST)
        self.row("Second run, nothing to do", self._again(5, "site.yml"), SECOND)
        self.row("The same with --check", self._again(3, "site.yml", "--check"))
        for role in ROLES:
            self.row(f"Nothing to do, --tags {role}", self._again(3, "site.yml", "--tags", role), ROLE)
        self._tasks()

    def _again(self, times: int, *arguments: str) -> list[float]:
        seconds = []
        for _time in range(times):
            taken, text = self.play(*arguments)
            if not re.search(rf"(?m)^{MAIN} .*changed=0 ", text):
                raise host.Trouble(f"there was something to do:\n{text[-3000:]}")
            seconds.append(taken)
        return seconds

    def _tasks(self) -> None:
        """Each task over a module that does nothing, from the same runs."""
        path = os.path.join(self.demo.folder, "bench.yml")
        with open(path, "w", encoding="utf-8") as handle:
            handle.write(PLAYBOOK % os.path.join(TOP, "site.yml"))
        tasks: dict[str, list[float]] = {}
        for _time in range(5):
            _taken, text = self.play(path, ANSIBLE_CALLBACKS_ENABLED="ansible.posix.profile_tasks",
                                     ANSIBLE_NOCOLOR="1", PROFILE_TASKS_TASK_OUTPUT_LIMIT="all")
            for name, seconds in re.findall(r"(?m)^(?:aistack\.observability\.\w+ : )?(.+?) -+ (\d+\.\d+)s$", text):
                tasks.setdefault(name, []).append(float(seconds))
        nothing = statistics.median(tasks.pop("ping"))
        self.row("Task: a module that does nothing (ping)", [nothing])
        for name, seconds in tasks.items():
            if statistics.median(seconds) > nothing:
                self.row(f"Task beyond ping: {name}", [taken - nothing for taken in seconds])


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
    except host.Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    finally:
        demo.down()
    print("\n".join(bench.missed))
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
