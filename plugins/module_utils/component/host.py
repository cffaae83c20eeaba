# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System accounts and directories of a component."""
from __future__ import annotations

import grp
import json
import os
import pwd
import stat

from . import files
from .command import run
from .generations import STATE_ROOT

NOLOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")
# The comment of an account that we made: what isn't ours is never removed, whatever became of our records.
OURS = "aistack.observability"
OURS_WITH_GROUP = OURS + " user and group"


def missing_account(account: dict | None) -> dict:
    """Which of an account's ``user`` and ``group`` are not there yet."""
    missing = {}
    if account and files.gid_of(account["group"]) is None:
        missing["group"] = account["group"]
    if account and files.uid_of(account["user"]) is None:
        missing["user"] = account["user"]
    return missing


def create_account(account: dict, missing: dict) -> list[str]:
    """Make the *missing* parts of a system account; returns what was made."""
    if "group" in missing:
        run("groupadd", "--system", missing["group"])
    if "user" in missing:
        shell = next((path for path in NOLOGIN if os.path.exists(path)), NOLOGIN[0])
        run("useradd", "--system", "--gid", account["group"], "--no-create-home", "--home-dir", "/nonexistent",
            "--comment", OURS_WITH_GROUP if "group" in missing else OURS, "--shell", shell, missing["user"])
    return ["%s %s" % item for item in sorted(missing.items())]


def remove_account(account: dict, component: str, made: dict | None = None) -> bool:
    """Remove a system account that we made and no other component uses.

    *made* names what this very run made, where the run may have been killed before the account was complete.
    """
    made = made or {}
    if any(other.get("user") == account["user"] or other.get("group") == account["group"]
           for other in _accounts_of_others(component)):
        return False
    removed, group = False, made.get("group")
    try:
        user = pwd.getpwnam(account["user"])
    except KeyError:
        pass
    else:
        if not user.pw_gecos.startswith(OURS):
            return False
        if user.pw_gecos.startswith(OURS_WITH_GROUP):
            group = account["group"]
        run("userdel", account["user"])
        removed = True
    if group:
        removed = _remove_group(group) or removed
    return removed


def _remove_group(name: str) -> bool:
    """userdel takes a group of the user's own name along by itself."""
    try:
        group = grp.getgrnam(name)
    except KeyError:
        return False
    if group.gr_mem or any(user.pw_gid == group.gr_gid for user in pwd.getpwall()):
        return False
    run("groupdel", name)
    return True


def _accounts_of_others(component: str) -> list[dict]:
    found: list[dict] = []
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


def missing_directories(paths: list[str]) -> list[str]:
    """Those of *paths* and of their parents that are not there yet, outermost first."""
    missing = set()
    for path in paths:
        while not os.path.isdir(path):
            missing.add(path)
            path = os.path.dirname(path)
    return sorted(missing)


def create_directories(missing: list[str], wanted: list) -> None:
    """Make the *missing* directories, then give those of *wanted* their rights."""
    for path in missing:
        os.mkdir(path, 0o755)
    for item in wanted:
        files.set_rights(item.path, item.mode, item.owner, item.group)


def rights(path: str) -> list:
    """A directory's rights, for an intent; others may live in it, and get it back as it was."""
    info = os.stat(path)
    return [path, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid]


def restore_rights(recorded: list[list]) -> None:
    for path, mode, uid, gid in recorded:
        if os.path.isdir(path):
            os.chown(path, uid, gid)
            os.chmod(path, mode)


def remove_directories(paths: list[str]) -> None:
    """Remove those of *paths* that are empty, innermost first."""
    for path in sorted(paths, key=len, reverse=True):
        files.remove_empty(path)
