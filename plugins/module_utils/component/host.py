# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System accounts and directories of a component."""
from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess

from . import files
from .errors import ComponentError
from .generations import STATE_ROOT

NOLOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          check=False)
    if done.returncode:
        raise ComponentError("%s failed: %s" % (" ".join(command), done.stdout.decode("utf-8", "replace").strip()))


def create_account(account: dict) -> list[str]:
    """Make the system group and user where they are missing; returns the names made."""
    made = []
    if files.gid_of(account["group"]) is None:
        _run("groupadd", "--system", account["group"])
        made.append("group %s" % account["group"])
    if files.uid_of(account["user"]) is None:
        shell = next((path for path in NOLOGIN if os.path.exists(path)), NOLOGIN[0])
        _run("useradd", "--system", "--gid", account["group"], "--no-create-home", "--home-dir", "/nonexistent",
             "--shell", shell, account["user"])
        made.append("user %s" % account["user"])
    return made


def remove_account(account: dict, component: str) -> bool:
    """Remove a system account that no other component uses; never an ordinary user's."""
    try:
        if pwd.getpwnam(account["user"]).pw_uid >= 1000:
            return False
    except KeyError:
        pass
    if any(other.get("user") == account["user"] or other.get("group") == account["group"]
           for other in _accounts_of_others(component)):
        return False
    if files.uid_of(account["user"]) is not None:
        _run("userdel", account["user"])
    try:
        members = grp.getgrnam(account["group"])
    except KeyError:
        return True
    primary = [user.pw_name for user in pwd.getpwall() if user.pw_gid == members.gr_gid]
    if not primary and not members.gr_mem:
        _run("groupdel", account["group"])
    return True


def _accounts_of_others(component: str) -> list[dict]:
    found = []
    try:
        names = os.listdir(STATE_ROOT)
    except FileNotFoundError:
        return found
    for name in names:
        if name == component:
            continue
        try:
            with open(os.path.join(STATE_ROOT, name, "proven", "manifest.json"), encoding="utf-8") as handle:
                found.append(json.load(handle).get("account") or {})
        except (OSError, ValueError):
            continue
    return found


def create_directories(directories: list) -> list[str]:
    """Make the missing directories; returns those made, parents included, outermost first."""
    made = []
    for item in directories:
        missing = []
        path = item.path
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            os.mkdir(path, 0o755)
            made.append(path)
        files.set_rights(item.path, item.mode, item.owner, item.group)
    return made


def remove_directories(paths: list[str]) -> None:
    """Remove those of *paths* that are empty, innermost first."""
    for path in sorted(paths, key=len, reverse=True):
        files.remove_empty(path)
