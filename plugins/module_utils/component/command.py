# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other programs, run with an end in time, in one language, and with no input but what they are given."""
from __future__ import annotations

import os
import subprocess

from .errors import ComponentError

TIMEOUT = 900
# Open files that children keep: a run that is killed leaves its lock to the child that still works for it.
kept_open: set[int] = set()


class Done:
    __slots__ = ("code", "output", "errors")

    def __init__(self, code: int, output: bytes, errors: bytes) -> None:
        self.code = code
        self.output = output.decode("utf-8", "replace")
        self.errors = errors.decode("utf-8", "replace")


def run(*command: str, check: bool = True, timeout: float = TIMEOUT, together: bool = False,
        environment: dict | None = None, keep_open: bool = True, stdin: str = "") -> Done:
    """Run *command*. With *check* anything but success raises, the program's own words in its details.

    *together* puts its errors into its output. Without *keep_open* it may start programs that outlive it.
    """
    try:
        done = subprocess.run(command, input=stdin.encode(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT if together else subprocess.PIPE, check=False, timeout=timeout,
                              env=dict(os.environ, LC_ALL="C.UTF-8", **(environment or {})),
                              pass_fds=tuple(kept_open) if keep_open else ())
    except FileNotFoundError:
        raise ComponentError("the program %s is missing on this host" % command[0]) from None
    except subprocess.TimeoutExpired:
        raise ComponentError("%s did not end within %d s" % (" ".join(command[:4]), timeout)) from None
    result = Done(done.returncode, done.stdout, done.stderr or b"")
    if check and result.code:
        words = (result.errors or result.output).strip()
        last = words.splitlines()[-1] if words else "exit status %d" % result.code
        raise ComponentError("%s failed: %s" % (" ".join(command[:4]), last),
                             {"output": words[-4000:]} if last != words else {})
    return result
