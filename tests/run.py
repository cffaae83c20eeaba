#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the whole test suite, stages side by side, and ends with one line that counts.

    tests/run.py [--only STAGE …] [--jobs N]

A stage is one command with a log of its own below tests/.logs/. Every stage has its own run id, so the throwaway hosts
of two stages, or of two suites, never meet; whatever hosts a stage leaves are removed by that id.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
LOGS = os.path.join(HERE, ".logs")
BIN = os.path.join(TOP, ".venv", "bin")
STAGE_LIMIT = 45 * 60
# Begun first, so that none of them is alone in the end.
LONG_SCENARIOS = ["promtail", "grafana", "keycloak_client", "default"]


@dataclass
class Stage:
    name: str
    command: list[str]
    # Runs before anything else; a failure ends the suite.
    first: bool = False
    environment: dict[str, str] = field(default_factory=dict)


def pytest(*arguments: str) -> list[str]:
    return [os.path.join(BIN, "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", *arguments]


def molecule(name: str, scenario: str, **environment: str) -> Stage:
    """A scenario with a folder of its own: the same one runs on two releases at a time."""
    return Stage(name, ["molecule", "test", "-s", scenario],
                 environment=dict(environment, MOLECULE_EPHEMERAL_DIRECTORY=os.path.join(LOGS, name)))


def stages() -> list[Stage]:
    """All stages, those that take longest first."""
    scenarios = sorted((name for name in os.listdir(os.path.join(TOP, "molecule"))
                        if os.path.isfile(os.path.join(TOP, "molecule", name, "molecule.yml"))),
                       key=lambda name: (name not in LONG_SCENARIOS, name))
    return [
        Stage("servers", ["make", "--no-print-directory", "servers", "host-image", "venv-2.19"], first=True),
        Stage("e2e-grafana", pytest("tests/e2e/test_grafana.py", "-k", "not stalled")),
        Stage("e2e-site", pytest("tests/e2e/test_site.py")),
        Stage("e2e-login", pytest("tests/e2e/test_login.py", "tests/e2e/test_grafana.py", "-k",
                                  "test_login or stalled")),
        Stage("e2e-logs", pytest("tests/e2e/test_logs.py")),
        Stage("e2e-secrets", pytest("tests/e2e/test_secrets.py")),
        Stage("engine", pytest("tests/engine", "-n", "2")),
        molecule("molecule-default-trixie", "default", AISTACK_RELEASE="trixie"),
        *(molecule("molecule-" + name, name) for name in scenarios),
        Stage("contract", pytest("tests/contract")),
        Stage("log-rules", pytest("tests/e2e/test_log_rules.py")),
        Stage("lint", ["make", "--no-print-directory", "lint"]),
        Stage("unit", pytest("tests/unit")),
        Stage("exporters", [os.path.join(BIN, "python"), "tests/servers/with_ollama.py",
                            *pytest("-c", "files/exporters/pyproject.toml", "files/exporters")]),
    ]


def run(stage: Stage, suite: str) -> tuple[Stage, int, float]:
    started = time.monotonic()
    run_id = suite + re.sub(r"[^a-z0-9]", "", stage.name.replace("molecule", "m"))
    environment = dict(os.environ, AISTACK_RUN=run_id, PATH=BIN + os.pathsep + os.environ["PATH"],
                       PYTHONDONTWRITEBYTECODE="1", NO_COLOR="1", ANSIBLE_NOCOLOR="1", **stage.environment)
    say(f"{stage.name}: started")
    with open(log_path(stage), "wb") as log:
        try:
            code = subprocess.run(stage.command, cwd=TOP, env=environment, stdout=log, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, timeout=STAGE_LIMIT, check=False).returncode
        except subprocess.TimeoutExpired:
            log.write(b"\nThe stage took too long.\n")
            code = 124
        finally:
            subprocess.run([sys.executable, "tests/servers/host.py", "down", "--label", f"aistack.run={run_id}"],
                           cwd=TOP, stdout=subprocess.DEVNULL, stderr=log, check=False)
    seconds = time.monotonic() - started
    say(f"{stage.name}: {'passed' if code == 0 else 'FAILED'} after {seconds:.0f} s{counts(stage)}")
    return stage, code, seconds


def log_path(stage: Stage) -> str:
    return os.path.join(LOGS, stage.name + ".log")


def log_text(stage: Stage) -> str:
    with open(log_path(stage), encoding="utf-8", errors="replace") as handle:
        return handle.read()


def counts(stage: Stage) -> str:
    """The closing words of the test runner, where there are some."""
    found = re.findall(r"(\d+ (?:passed|failed|skipped)[^\n=│]*)", log_text(stage))
    return f" ({found[-1].strip()})" if found else ""


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="STAGE", help="names, or their beginnings")
    # More than two cores can carry: stages with hosts wait much of the time.
    parser.add_argument("--jobs", type=int, default=max(3, os.cpu_count() or 3))
    arguments = parser.parse_args()
    shutil.rmtree(LOGS, ignore_errors=True)
    os.makedirs(LOGS)
    suite = secrets.token_hex(2)
    wanted = [stage for stage in stages()
              if not arguments.only or stage.first or any(stage.name.startswith(name) for name in arguments.only)]
    results = []
    for stage in [stage for stage in wanted if stage.first]:
        results.append(run(stage, suite))
        if results[-1][1]:
            print(log_text(stage)[-6000:])
            print("0 passed, 1 failed")
            return 1
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        results += list(pool.map(lambda stage: run(stage, suite), [stage for stage in wanted if not stage.first]))
    failed = [stage for stage, code, _seconds in results if code]
    for stage in failed:
        print(f"\n===== {stage.name}: the end of {os.path.relpath(log_path(stage), TOP)}\n{log_text(stage)[-8000:]}")
    print("\nSTAGE".ljust(30) + "SECONDS")
    for stage, code, seconds in results:
        print(f"{stage.name:<29}{seconds:>6.0f}  {'ok' if code == 0 else 'FAILED'}{counts(stage)}")
    print(f"\n{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
