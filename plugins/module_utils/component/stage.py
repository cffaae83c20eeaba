# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The staged tree: the new files at a side place, and the component's own checkers run over them as the service will.

The checkers run under the unit's user, sandbox and credentials with the staged tree bind-mounted at its final path.
Run directly they stumble over credential paths, or pass on globs that match nothing.
"""
from __future__ import annotations

import os
import shutil
import sys
import uuid

from . import files
from .command import run
from .declaration import Declaration
from .errors import ComponentError
from .generations import Generations

# A database may have to be brought to another version first.
CHECK_TIMEOUT = 240


class Stage:
    def __init__(self, declaration: Declaration, generations: Generations) -> None:
        self._declaration = declaration
        self._root = os.path.join(generations.root, "stage")

    def build(self, stale: list[str]) -> None:
        """Lay out every config directory as it will be, with what others put there, less what becomes stale."""
        files.remove(self._root)
        os.makedirs(self._root, mode=0o700)
        for directory in self._directories():
            target = self._at(directory.path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.isdir(directory.path) and not os.path.isdir(target):
                shutil.copytree(directory.path, target, symlinks=True)
                _copy_rights(directory.path, target)
            os.makedirs(target, exist_ok=True)
            files.set_rights(target, directory.mode, directory.owner, directory.group)
        for path in stale:
            if self._covers(path):
                files.remove(self._at(path))
        for item in self._declaration.files:
            if item.kind == "config" and self._covers(item.path):
                os.makedirs(os.path.dirname(self._at(item.path)), mode=0o755, exist_ok=True)
                files.write(self._at(item.path), item.content, item.mode, item.owner, item.group)
        self._stage_credentials()

    def _stage_credentials(self) -> None:
        credentials = [item for item in self._declaration.files if item.kind == "credential"]
        if not credentials:
            return
        account = self._declaration.account or {"user": "root", "group": "root"}
        folder = os.path.join(self._root, "credentials")
        os.makedirs(folder, mode=0o500)
        for item in credentials:
            files.write(os.path.join(folder, os.path.basename(item.path)), item.content, 0o400, account["user"],
                        account["group"])
        files.set_rights(folder, 0o500, account["user"], account["group"])

    def _directories(self) -> list:
        return sorted((item for item in self._declaration.directories if item.kind == "config"),
                      key=lambda item: len(item.path))

    def _covers(self, path: str) -> bool:
        return any(path.startswith(item.path + "/") for item in self._directories())

    def _at(self, path: str) -> str:
        return os.path.join(self._root, "tree" + path)

    def check(self, program: str) -> list[str]:
        """Run every checker; raises with the checker's own words at the first refusal. Returns their names."""
        passed = []
        for spec in self._declaration.validate:
            argv = [item.replace("{program}", program).replace("{python}", sys.executable) for item in spec["argv"]]
            name = spec.get("name") or " ".join(os.path.basename(item) for item in argv[:3])
            done = run(*self._command(argv), check=False, together=True, timeout=CHECK_TIMEOUT + 30,
                       stdin=spec.get("stdin") or "")
            if done.code:
                raise ComponentError("%s refuses the new configuration" % name,
                                     {"output": done.output.strip()[-8000:] or "exit status %d" % done.code})
            passed.append(name)
        return passed

    def _command(self, argv: list[str]) -> list[str]:
        unit = self._declaration.unit
        command = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect",
                   "--unit=aistack-check-%s" % uuid.uuid4().hex[:12], "-p", "RuntimeMaxSec=%d" % CHECK_TIMEOUT]
        command += unit.surroundings() if unit else []
        tops = [item for item in self._directories()
                if not any(item.path.startswith(other.path + "/") for other in self._directories())]
        for directory in tops:
            command += ["-p", "BindReadOnlyPaths=%s:%s" % (self._at(directory.path), directory.path)]
        credentials = os.path.join(self._root, "credentials")
        if unit and os.path.isdir(credentials):
            # A unit without credentials of its own can't look below /run/credentials at all, so it gets one too.
            command += ["-p", "LoadCredential=check:%s" % os.path.join(credentials, os.listdir(credentials)[0]),
                        "-p", "BindReadOnlyPaths=%s:/run/credentials/%s" % (credentials, unit.file)]
        return command + [item.replace("$", "$$") for item in argv]

    def remove(self) -> None:
        files.remove(self._root)


def _copy_rights(source: str, target: str) -> None:
    """copytree keeps modes and times, not owners."""
    for here, folders, names in os.walk(source):
        for name in folders + names + ["."]:
            path = os.path.normpath(os.path.join(here, name))
            info = os.lstat(path)
            os.lchown(os.path.join(target, os.path.relpath(path, source)), info.st_uid, info.st_gid)
