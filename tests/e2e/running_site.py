# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running site, as the tests look at it: its hosts, its playbooks, its servers and the mails that it sends."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest
from demo import MAIN

# Three hosts, so that three faults of Ollama can be tried at the same time and no mail of one belongs to another.
HANGS, CRASHES = "gpu2", "gpu3"
# The other host of the site whose logs are looked at.
WATCHED = "gpu2"
LOG_SOURCES = {"log_sources": {"files": [{"paths": ["/var/log/app/*.log"], "service": "app"},
                                         {"paths": ["/var/log/numbers/*.log"], "service": "numbers"}]}}
# The containers see the load of the machine that runs the tests, and whatever else it does is no fault of the site.
QUIET = {"cpu_percent": 100, "cpu_critical_percent": 100, "memory_percent": 100, "memory_critical_percent": 100,
         "swap_percent": 100, "disk_free_percent": 0, "disk_free_critical_percent": 0, "inodes_free_percent": 0,
         "inodes_free_critical_percent": 0, "disk_queue": 10000, "conntrack_percent": 100, "clock_skew_seconds": 1000,
         "probe_seconds": 1000}
# The three alerts that Grafana has of a host: whatever the machine does, they fire.
ALARMED = QUIET | {"cpu_percent": 0, "memory_percent": 0, "disk_free_percent": 100}


def wait_for(what, question, within, every=1.0):
    """The first true answer to a question; a failure says what was waited for, and the last answer."""
    deadline = time.monotonic() + within
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {within:.0f} s, the last answer is {answer!r}", pytrace=False)
        time.sleep(every)


@dataclass
class Mail:
    arrived: float
    subject: str
    text: str
    html: str
    sender: str = ""

    @property
    def about(self):
        """(firing or resolved, alert, host): what the subject says."""
        found = re.match(r"\[(\w+)\] (\S+)(?: .*?)? on (\S+)$", self.subject)
        return (found[1], found[2], found[3]) if found else (self.subject, "", "")


@dataclass
class Run:
    """A finished playbook."""

    code: int
    text: str
    changed: dict[str, int] = field(init=False)

    def __post_init__(self):
        self.changed = {host: int(count) for host, count in
                        re.findall(r"(?m)^(\S+) +: ok=\d+ +changed=(\d+)", self.text)}

    def section(self, title):
        """The lines below one of our headlines."""
        return self.text.split(f"\n{title}", 1)[-1].split("\n", 1)[-1].rstrip() if title in self.text else ""


class Site:
    def __init__(self, demo):
        self.demo = demo
        self.variables: dict = {}  # those that hold for all
        self.mails: list[Mail] = []
        self._known: set[str] = set()
        self._end = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    # -- hosts and playbooks -------------------------------------------------------------------------------------

    def on(self, name, command, check=True):
        return self.demo.on(name, "sh", "-c", command, check=check)

    def play(self, *arguments, succeeds=True):
        done = self.demo.playbook(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env={"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"})
        if succeeds is not None:
            assert (done.returncode == 0) == succeeds, done.stdout[-6000:]
        return Run(done.returncode, done.stdout)

    def doctor(self, *arguments, healthy=True):
        """The doctor's table, as {check: (verdict, detail, fix)} of the main host, and its last line."""
        run = self.play("playbooks/doctor.yml", "--limit", MAIN, *arguments, succeeds=healthy)
        verdicts = {}
        for verdict, check, detail, fix in re.findall(
                rf"(?m)^(ok|warning|failed) +{MAIN}  (.*?) {{2,}}(.*)(?:\n +-> (.*))?", run.section("DOCTOR")):
            verdicts[check.strip()] = (verdict, detail, fix)
        assert verdicts, run.text[-4000:]
        return verdicts, run.text.rstrip().splitlines()[-1]

    # -- servers -------------------------------------------------------------------------------------------------

    def ask(self, page, path, login="web_password", body=None, method=None, headers=()):
        """The JSON of an answer; the log-in is named after its secret."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.demo.address(page) + path, data, dict(headers), method=method)
        request.add_header("Content-Type", "application/json")
        if login:
            user = base64.b64encode(":".join(self.demo.login(login)).encode()).decode()
            request.add_header("Authorization", "Basic " + user)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def value(self, expression):
        """The one value of a query, or None."""
        result = self.ask("prometheus", "/api/v1/query?query=" + quote(expression))["data"]["result"]
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def watchdog(self):
        return json.loads(self.on(MAIN, "curl -sf http://127.0.0.1:8099/"))

    # -- mails ---------------------------------------------------------------------------------------------------

    def watch(self):
        self._watcher.start()

    def stop(self):
        self._end.set()
        self._watcher.join(timeout=10)

    def _watch(self):
        while not self._end.wait(0.5):
            try:
                for short in reversed(self.ask("mailpit", "/api/v1/messages?limit=500", login=False)["messages"]):
                    if short["ID"] not in self._known:
                        whole = self.ask("mailpit", "/api/v1/message/" + short["ID"], login=False)
                        self._known.add(short["ID"])
                        self.mails.append(Mail(time.time(), whole["Subject"], whole["Text"], whole["HTML"],
                                               whole["From"]["Name"]))
            except OSError:
                continue

    def mails_about(self, *about):
        return [mail for mail in list(self.mails) if mail.about == about]

    def wait_for_mail(self, *about, since, within):
        """The first such mail, and how many seconds after *since* it came."""
        mail = wait_for(f"a mail {about}", lambda: self.mails_about(*about),
                        max(1.0, since + within - time.time()), every=0.5)[0]
        return mail, mail.arrived - since
