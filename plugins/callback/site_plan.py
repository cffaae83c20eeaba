# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""At the end of a run: one line a component says what would change or what did, one line a check how it stands."""
from __future__ import annotations

DOCUMENTATION = r"""
name: site_plan
type: aggregate
short_description: What a run says at its end, the site plan and the doctor's verdict
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Collects the plans that the M(aistack.observability.component) module returns and shows them in one table when the
    run ends. In check mode the table is the site plan, after a real run it says what was done.
  - Shows the verdicts of the M(aistack.observability.doctor) module.
requirements:
  - enable with C(callbacks_enabled = aistack.observability.site_plan) in C(ansible.cfg)
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ansible.plugins.callback import CallbackBase

HEAD = ("HOST", "COMPONENT", "CHANGE", "VERSION", "FILES", "SERVICE", "DATA")
NOTHING = "-"


def version(plan: dict[str, Any]) -> str:
    """``a -> b``; only ``b`` where nothing moves."""
    old, new = plan["from"], plan["to"]
    if old == new:
        return new or NOTHING
    return "%s -> %s" % (old or "none", new or "none")


def changed_files(plan: dict[str, Any]) -> str:
    """Counts: new, changed, other rights, removed."""
    kinds = (("create", "new"), ("change", "changed"), ("rights", "other rights"), ("remove", "removed"))
    parts = ["%d %s" % (len(plan["files"][kind]), word) for kind, word in kinds if plan["files"][kind]]
    return ", ".join(parts) or NOTHING


def row(host: str, plan: dict[str, Any]) -> tuple[str, ...]:
    """One component as the cells of the table."""
    if plan["action"] == "none":
        return host, plan["component"], "as declared", version(plan), NOTHING, NOTHING, NOTHING
    service = plan["service"] if plan["service"] != "none" else ("enable" if plan["enable"] else NOTHING)
    data = NOTHING if plan["data"] in ("kept", "none") else plan["data"]
    return host, plan["component"], plan["action"], version(plan), changed_files(plan), service, data


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Cells padded to columns; the last one runs free."""
    lines = [HEAD, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD) - 1)]
    return ["  ".join([cell.ljust(width) for cell, width in zip(line, widths)] + [line[-1]]).rstrip()
            for line in lines]


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "aistack.observability.site_plan"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._plans: list[tuple[str, dict[str, Any]]] = []
        self._failed: list[tuple[str, str]] = []
        self._verdicts: list[tuple[str, dict[str, str]]] = []
        self._check = False

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._check = bool(play.check_mode)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._collect(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        self._collect(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._fail(result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        self._fail(result)

    def _collect(self, result: Any) -> None:
        answer = result._result
        for plan in [answer.get("plan"), *(answer.get("plans") or [])]:
            # What isn't there and isn't wanted needs no line.
            if isinstance(plan, dict) and "component" in plan and (plan["action"] != "none" or plan["to"]):
                self._plans.append((result._host.get_name(), plan))
        self._verdicts += [(result._host.get_name(), verdict) for verdict in answer.get("verdicts") or []]

    def _fail(self, result: Any) -> None:
        if result._task.action.endswith(("component", "docker_daemon")):
            self._failed.append((result._host.get_name(), result._task.get_name().strip()))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        if self._plans or self._failed:
            self._show_plans()
        if self._verdicts:
            self._show_verdicts()

    def _show_verdicts(self) -> None:
        self._display.banner("DOCTOR")
        width = max(len(verdict["check"]) for _host, verdict in self._verdicts)
        for host, verdict in self._verdicts:
            color = {"ok": "green", "warning": "purple", "failed": "red"}[verdict["verdict"]]
            self._display.display("%-8s %s  %s  %s" % (verdict["verdict"], host, verdict["check"].ljust(width),
                                                       verdict["detail"]), color=color)
            if verdict["fix"]:
                self._display.display("%s-> %s" % (" " * 9, verdict["fix"]), color=color)
        counts = Counter(verdict["verdict"] for _host, verdict in self._verdicts)
        checks = "%d checks" % len(self._verdicts)
        if counts["failed"]:
            self._display.display("%d of %s failed." % (counts["failed"], checks))
        elif counts["warning"]:
            self._display.display("Nothing failed, %d of %s warn." % (counts["warning"], checks))
        else:
            self._display.display("Everything works: %s." % checks)

    def _show_plans(self) -> None:
        self._display.banner("SITE PLAN: what would change" if self._check else "SITE: what was done")
        if self._plans:
            for line in table(row(host, plan) for host, plan in self._plans):
                self._display.display(line)
        for host, plan in self._plans:
            for note in plan["notes"]:
                self._display.display("%s %s: %s" % (host, plan["component"], note), color="purple")
        for host, task in self._failed:
            self._display.display("%s: %s FAILED, its message is above" % (host, task), color="red")
        if not self._plans:
            return
        changing = sum(plan["action"] != "none" for _host, plan in self._plans)
        text = "%d of %d components %s" % (changing, len(self._plans), "would change" if self._check else "changed")
        if changing < len(self._plans):
            text += ", the others are as declared" if changing else ", all are as declared"
        self._display.display(text + (". Nothing was touched; --diff shows the files." if self._check else "."))
