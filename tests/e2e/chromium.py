# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium, driven over its debugging pipe: needs the program and nothing else."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

import host

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# The browser reads its commands from descriptor 3 and answers on descriptor 4.
WIRE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def program():
    """The browser of this machine; Debian's is installed where there is none and that is possible."""
    if not any(map(shutil.which, PROGRAMS)):
        host.need(PROGRAMS[0], PROGRAMS[0])
    return next(filter(None, map(shutil.which, PROGRAMS)))


class Chromium:
    """One page. Every command waits for its answer."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="aistack-chromium-", ignore_cleanup_errors=True)
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        arguments = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self._folder.name}",
                     "--no-proxy-server", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--disable-component-update",
                     *(["--no-sandbox"] if os.geteuid() == 0 else []), "about:blank"]
        with open(os.path.join(self._folder.name, "log"), "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", WIRE, str(commands), str(answers), program(), *arguments],
                pass_fds=(commands, answers), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(commands)
        os.close(answers)
        self._number, self._rest, self._session = 0, b"", None
        pages = [one for one in self._call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        target = pages[0]["targetId"] if pages else self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        try:
            self._session = None
            self._call("Browser.close")
            self._process.wait(timeout=20)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._to)
            os.close(self._from)
            self._folder.cleanup()

    def _call(self, method, within=60, **parameters):
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._to, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + within
        while True:
            while b"\0" in self._rest:
                line, self._rest = self._rest.split(b"\0", 1)
                answer = json.loads(line)
                if answer.get("id") == self._number:
                    assert "error" not in answer, (method, answer["error"])
                    return answer["result"]
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._from, 1 << 16) if ready else b""
            if not data:
                raise AssertionError(f"Chromium {'ended' if ready else 'did not answer'}: {method}\n{self._log()}")
            self._rest += data

    def _log(self):
        with open(os.path.join(self._folder.name, "log"), encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:]

    # -- what a person does --------------------------------------------------------------------------------------

    def go(self, url):
        assert not self._call("Page.navigate", url=url).get("errorText"), url

    def evaluate(self, script):
        """The value of an expression in the page; a promise is waited for. None while the page is being replaced."""
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return None if "exceptionDetails" in answer else answer["result"].get("value")

    @property
    def address(self):
        return self.evaluate("location.href") or ""

    def type(self, selector, text):
        assert self.evaluate(f"document.querySelector({json.dumps(selector)}).focus() ?? true"), selector
        self._call("Input.insertText", text=text)

    def press_enter(self):
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
                       windowsVirtualKeyCode=13)
