# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run says at its end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.aistack.observability.plugins.callback import site_plan

FILES = {"create": [], "change": [], "rights": [], "remove": []}
NOTHING = {"component": "x", "action": "none", "from": "1", "to": "1", "files": FILES, "service": "none",
           "enable": False, "data": "kept", "notes": []}
UPGRADE = dict(NOTHING, component="y", action="upgrade", to="2", files=dict(FILES, change=["/a", "/b"], create=["/c"]),
               service="restart", data="snapshot of /d first", notes=["look at this"])


@pytest.fixture
def said(monkeypatch):
    """A callback, and the lines that it shows."""
    lines = []
    callback = site_plan.CallbackModule()
    monkeypatch.setattr(callback, "_display", SimpleNamespace(
        banner=lines.append, display=lambda text, color=None: lines.append(text)))
    return callback, lines


def result(**answer):
    return SimpleNamespace(_result=answer, _host=SimpleNamespace(get_name=lambda: "box"),
                           _task=SimpleNamespace(action="aistack.observability.component", get_name=lambda: " Y"))


@pytest.mark.parametrize(("change", "cells"), [
    ({}, ("box", "x", "as declared", "1", "-", "-", "-")),
    ({"action": "install", "from": "", "service": "start"}, ("box", "x", "install", "none -> 1", "-", "start", "-")),
    ({"action": "remove", "to": "", "data": "kept: /d"}, ("box", "x", "remove", "1 -> none", "-", "-", "kept: /d")),
    ({"action": "change", "enable": True}, ("box", "x", "change", "1", "-", "enable", "-")),
])
def test_row(change, cells):
    assert site_plan.row("box", dict(NOTHING, **change)) == cells


def test_plan(said):
    callback, lines = said
    callback.v2_playbook_on_play_start(SimpleNamespace(check_mode=True))
    callback.v2_runner_on_ok(result(plan=NOTHING))
    callback.v2_runner_on_ok(result(plan=dict(NOTHING, component="neither there nor wanted", **{"from": "", "to": ""})))
    callback.v2_runner_on_ok(result(plan=None, plans=[UPGRADE]))
    callback.v2_playbook_on_stats(None)
    assert lines == [
        "SITE PLAN: what would change",
        "HOST  COMPONENT  CHANGE       VERSION  FILES             SERVICE  DATA",
        "box   x          as declared  1        -                 -        -",
        "box   y          upgrade      1 -> 2   1 new, 2 changed  restart  snapshot of /d first",
        "box y: look at this",
        "1 of 2 components would change, the others are as declared. Nothing was touched; --diff shows the files.",
    ]


def test_failure_without_a_plan(said):
    callback, lines = said
    callback.v2_runner_on_failed(result(msg="no"))
    callback.v2_playbook_on_stats(None)
    assert lines == ["SITE: what was done", "box: Y FAILED, its message is above"]


@pytest.mark.parametrize(("worst", "last"), [
    ("ok", "Everything works: 2 checks."), ("warning", "Nothing failed, 1 of 2 checks warn."),
    ("failed", "1 of 2 checks failed."),
])
def test_doctor(said, worst, last):
    callback, lines = said
    callback.v2_runner_on_ok(result(verdicts=[
        {"check": "a", "verdict": "ok", "detail": "fine", "fix": ""},
        {"check": "bb", "verdict": worst, "detail": "so", "fix": "" if worst == "ok" else "do this"}]))
    callback.v2_playbook_on_stats(None)
    assert lines[:2] == ["DOCTOR", "ok       box  a   fine"]
    assert lines[-1] == last
    assert ("         -> do this" in lines) == (worst != "ok")


def test_other_modules_are_none_of_its_business(said):
    callback, lines = said
    callback.v2_runner_on_ok(result(plan="a plan of somebody else", changed=True))
    callback.v2_playbook_on_stats(None)
    assert lines == []
