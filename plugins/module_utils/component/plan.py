# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would change: the declaration compared with the host, before anything is touched."""
from __future__ import annotations

import fnmatch
import grp
import os
import pwd
import re

from . import files, host, release, unit
from .declaration import Declaration
from .errors import Refused
from .generations import Generation, Generations


class Host:
    """The host as it is; or, after an interrupted run, as it will be once that run is taken back.

    So a check on an interrupted host promises what the next run really does.
    """

    def __init__(self, generations: Generations) -> None:
        self.before: Generation | None = generations.proven()
        intent = generations.intent()
        self.interrupted = intent is not None
        self._finished = self.before is not None and intent is not None and self.before.number == intent["to"]
        self._files: dict[str, files.Found] = {}
        self._made: dict = {}
        self._folders: set[str] = set()
        self._rights: dict[str, list] = {}
        if intent is None or self._finished:
            return
        undo = intent["undo"]
        if intent["phase"] != "staging":
            abandoned = generations.abandoned(intent)
            foreign = abandoned.foreign()
            for path in abandoned.records():
                self._files[path] = foreign.get(path) or files.Found.imagined(path)
            for item in self.before.wanted() if self.before else []:
                uid, gid = files.uid_of(item.owner), files.gid_of(item.group)
                self._files[item.path] = files.Found.imagined(item.path, item.content, item.mode, uid, gid)
        self._rights = {path: rights for path, *rights in undo["rights"]}
        self._folders = {path for path in undo["directories"] if self._empties(path, undo["directories"])}
        if not any(os.path.lexists(path) and path not in self._folders for path in undo["data"]):
            self._made = undo["account"]

    @property
    def to_be_restored(self) -> bool:
        return self.interrupted and not self._finished

    def _empties(self, path: str, made: list[str]) -> bool:
        """Will nothing be left in this directory?"""
        for here, folders, names in os.walk(path):
            for name in names:
                found = self._files.get(os.path.join(here, name))
                if found is None and not name.startswith(files.TEMPORARY) or found and found.type != "missing":
                    return False
            if any(os.path.join(here, name) not in made for name in folders):
                return False
        return True

    def found(self, path: str) -> files.Found:
        if path in self._files:
            return self._files[path]
        found = files.Found.imagined(path) if path in self._folders else files.Found(path)
        if path in self._rights:
            found.mode, found.uid, found.gid = self._rights[path]
        return found

    def missing_account(self, account: dict | None) -> dict:
        missing = host.missing_account(account)
        for part, name in self._made.items():
            if account and account[part] == name:
                missing[part] = name
        return missing

    def current(self, program_path: str) -> str:
        """The program folder in use."""
        if self.to_be_restored and self.before:
            return (self.before.manifest.get("program") or {}).get("folder", "")
        try:
            return os.path.join(os.path.dirname(program_path), os.readlink(program_path))
        except OSError:
            return ""

    def status(self, file: str) -> unit.Status:
        status = unit.Status(file)
        if self.to_be_restored and (self.before is None or self.before.manifest.get("unit")):
            status.imagine(running=self.before is not None)
        return status


class Plan:
    """The difference, ready to be shown and to be carried out.

    ``service`` is ``none``, ``start``, ``reload``, ``restart`` or ``stop``.
    """

    def __init__(self, declaration: Declaration, generations: Generations, recovered: bool = False) -> None:
        self.declaration = declaration
        self.generations = generations
        self.host = Host(generations)
        self.before = self.host.before
        self.interrupted = self.host.interrupted or recovered
        self.create: list[files.Wanted] = []
        self.change: list[tuple[files.Found, files.Wanted]] = []
        self.rights: list[tuple[files.Found, files.Wanted]] = []
        self.remove: list[files.Found] = []
        self.changed_by_hand: list[files.Found] = []
        self.foreign: list[files.Found] = []    # in our places, but not placed by us
        self.new_directories: list = []
        self.directory_rights: list = []
        self.missing_account: dict = {}
        self.program_action = "keep"        # keep, place (new or another), mend (same, but damaged)
        self.placed_before: dict | None = None
        self.watched: dict[str, str] = {}
        self.watched_changed: list[str] = []
        self.service = "none"
        self.readers: list[str] = []        # units of other programs that read one of the files
        self.enable = False
        self.notes: list[str] = []
        self.data = "kept"
        self.status = self.host.status(declaration.unit_file) if declaration.unit or self._had_unit() else None
        if declaration.absent:
            self._plan_removal()
        else:
            self._plan_presence()

    # -- present ---------------------------------------------------------------------------------------------------

    def _had_unit(self) -> bool:
        return bool(self.before and self.before.manifest.get("unit"))

    def _plan_presence(self) -> None:
        declaration = self.declaration
        ours = self.before.records() if self.before else {}
        self._refuse_foreign_unit(ours)
        self.missing_account = self.host.missing_account(declaration.account)
        self._plan_program()
        self._plan_directories()
        for item in declaration.files:
            self._plan_file(item, ours)
        for path in sorted(set(ours) - declaration.wanted_paths()):
            self._plan_stale(path, ours[path])
        touched = self.create + [item for _found, item in self.change]
        readers = {item.read_by for item in touched} | {self._read_by(found) for found in self.remove}
        self.readers = sorted(readers - {""})
        self._plan_watches()
        self._plan_service()
        self._plan_data()

    def _refuse_foreign_unit(self, ours: dict) -> None:
        declaration = self.declaration
        if not declaration.unit or declaration.unit.path in ours or declaration.adopt:
            return
        fragment = self.status.fragment if self.status else ""
        if fragment and fragment != declaration.unit.path:
            raise Refused(
                "%s exists and isn't ours: another %s is installed on this host. Remove it, or set %s_adopt: "
                "true to put ours in its place" % (fragment, declaration.family, declaration.family))

    def _plan_program(self) -> None:
        wanted = self.declaration.program
        record = self.before.manifest.get("program") if self.before else None
        if wanted is None:
            return
        if isinstance(wanted, release.Package):
            self.program_action = "keep" if wanted.fits() and wanted.same_as(record) else "place"
        elif record is None or not wanted.same_as(record):
            self.program_action = "place"
        elif not release.intact(record):
            self.program_action = "mend"
            self.notes.append("the program's files were changed since they were placed: it is placed anew")
        elif self.host.current(self.declaration.program_path) != record["folder"]:
            self.program_action = "mend"
            self.notes.append("%s points elsewhere: it is set right" % self.declaration.program_path)
        if self.program_action != "keep":
            self.placed_before = wanted.placed_before(self.generations.manifests())

    def _plan_directories(self) -> None:
        for item in self.declaration.directories:
            found = self.host.found(item.path)
            if found.type == "link" and item.kind == "data" and os.path.isdir(item.path):
                # Data may have been moved to another disk.
                found = files.Found(os.path.realpath(item.path))
            if found.type == "missing":
                self.new_directories.append(item)
            elif found.type != "directory":
                raise Refused("%s exists and is no directory: move it away" % item.path)
            elif not found.same_rights(item.mode, item.owner, item.group):
                self.directory_rights.append(item)

    def _plan_file(self, item: files.Wanted, ours: dict) -> None:
        found = self.host.found(item.path)
        record = ours.get(item.path)
        if found.type == "missing":
            self.create.append(item)
            return
        if found.type != "file":
            raise Refused("%s exists and is no regular file (%s): move it away" % (item.path, found.type))
        if record is None:
            self.foreign.append(found)
        if found.content != item.content:
            if record is None and not self.declaration.adopt:
                raise Refused("%s exists and isn't ours: move it away, or set %s_adopt: true; then it is saved below "
                              "%s and replaced" % (item.path, self.declaration.family, self.generations.root))
            if record is None or found.sha256 != record["sha256"]:
                self.changed_by_hand.append(found)
            self.change.append((found, item))
        elif not found.same_rights(item.mode, item.owner, item.group):
            self.rights.append((found, item))

    def _plan_stale(self, path: str, record: dict) -> None:
        """A file that an earlier declaration placed."""
        found = self.host.found(path)
        if found.type == "missing":
            return
        if found.type != "file":
            self.notes.append("%s is no longer a file (%s): it is left alone" % (path, found.type))
            return
        if found.sha256 != record["sha256"]:
            self.changed_by_hand.append(found)
        self.remove.append(found)

    def _read_by(self, found: files.Found) -> str:
        """The unit that reads a file which an earlier declaration placed."""
        record = self.before.records().get(found.path) if self.before else None
        return (record or {}).get("read_by") or ""

    def _plan_watches(self) -> None:
        known = (self.before.manifest.get("watches") if self.before else None) or {}
        for path in self.declaration.watches:
            found = files.Found(os.path.realpath(path))
            self.watched[path] = found.sha256 or found.type
            if self.before and known.get(path) != self.watched[path]:
                self.watched_changed.append(path)

    def _plan_service(self) -> None:
        declaration, status = self.declaration, self.status
        if not declaration.unit:
            if self._had_unit() and status and (status.running or status.enabled):
                self.service = "stop"
            return
        assert status is not None
        self.enable = not status.enabled
        if not status.running:
            self.service = "start"
            return
        touched = [item for item in self.create] + [item for _found, item in self.change]
        paths = [item.path for item in touched if not item.read_by]
        paths += [found.path for found in self.remove if not self._read_by(found)]
        patterns = declaration.apply.get("reload_paths") or []
        can_reload = any(declaration.apply.get(way) for way in ("reload", "reload_requests", "rereads"))
        served_by_reload = [path for path in paths if can_reload
                            and any(fnmatch.fnmatch(path, pattern) for pattern in patterns)
                            and not path.startswith(unit.CREDENTIAL_ROOT)]
        restart = (self.program_action != "keep" or self.watched_changed or not self.before
                   or set(paths) - set(served_by_reload))
        self.service = "restart" if restart else "reload" if paths else "none"

    def _plan_data(self) -> None:
        if self.program_action == "keep" or not self.before or not self.declaration.snapshot:
            return
        self.data = "snapshot of %s first" % ", ".join(self.declaration.snapshot)

    # -- absent ----------------------------------------------------------------------------------------------------

    def _plan_removal(self) -> None:
        if self.before:
            for path, record in sorted(self.before.records().items()):
                self._plan_stale(path, record)
            # Also where an interrupted removal took the file away.
            self.readers = sorted({record.get("read_by") or "" for record in self.before.records().values()} - {""})
            if self.status and (self.status.running or self.status.enabled):
                self.service = "stop"
        data = [path for path in self.data_paths() if os.path.lexists(path)]
        if self.declaration.purge_data and (self.before or data):
            self.data = "purged: %s" % ", ".join(data) if data else "none"
        else:
            self.data = "kept: %s" % ", ".join(data) if data else "none"

    def data_paths(self) -> list[str]:
        recorded = (self.before.manifest["directories"] if self.before else [])
        paths = [item["path"] for item in recorded if item["kind"] == "data"]
        return sorted(set(paths + [item.path for item in self.declaration.directories if item.kind == "data"]))

    @property
    def to_remove(self) -> bool:
        """Is there anything that a removal would take away?"""
        purge = self.declaration.purge_data and self.data.startswith("purged")
        return bool(self.before or self.generations.recorded or self.interrupted or purge)

    # -- for people ------------------------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        if self.interrupted:
            return False
        if self.declaration.absent:
            return not self.to_remove
        return not (self.create or self.change or self.rights or self.remove or self.new_directories
                    or self.directory_rights or self.missing_account or self.program_action != "keep"
                    or self.service != "none" or self.enable or self.watched_changed
                    or (self.before is None))

    @property
    def action(self) -> str:
        if self.empty:
            return "none"
        if self.declaration.absent:
            return "remove"
        if self.before is None:
            return "install"
        if self.program_action == "place":
            old, new = self.before.manifest.get("program") or {}, self.declaration.program
            if old.get("version") == new.version:
                return "rebuild"
            return "upgrade" if _version_key(new.version) > _version_key(old.get("version", "")) else "downgrade"
        if self.changed_by_hand or self.program_action == "mend":
            return "mend"
        if self.service == "start" and not (self.create or self.change):
            return "start"
        return "change"

    def show(self) -> dict:
        """The plan as data: the same from a check and from the run that follows it."""
        program = self.declaration.program
        before = (self.before.manifest.get("program") or {}).get("version") if self.before else None
        notes = list(self.notes)
        if self.interrupted:
            notes.insert(0, "an earlier run was interrupted: the last proven generation is restored first")
        notes += ["%s was changed by hand: it is saved below %s/saved first" % (item.path, self.generations.root)
                  for item in self.changed_by_hand]
        notes += ["%s changed" % path for path in self.watched_changed]
        notes += ["%s reads what changes: it is restarted" % name for name in self.readers]
        return {
            "component": self.declaration.name,
            "action": self.action,
            "from": before,
            "to": None if self.declaration.absent else (program.version if program else None),
            "files": {
                "create": sorted(item.path for item in self.create),
                "change": sorted(item.path for _found, item in self.change),
                "rights": sorted(item.path for _found, item in self.rights),
                "remove": sorted(found.path for found in self.remove),
            },
            "directories": sorted(item.path for item in self.new_directories + self.directory_rights),
            "account": self.missing_account.get("user") or self.missing_account.get("group"),
            "service": self.service,
            "enable": self.enable,
            "data": self.data,
            "notes": notes,
        }

    def diff(self) -> list[dict]:
        entries = [files.difference(item.path, None, item.content, item.secret) for item in self.create]
        secret = {path for path, record in (self.before.records() if self.before else {}).items() if record["secret"]}
        for found, item in self.change:
            entries.append(files.difference(item.path, found.content, item.content,
                                            item.secret or found.path in secret))
        for found, item in self.rights:
            entries.append({"before_header": item.path, "after_header": item.path,
                            "before": "%s\n" % _rights(found.mode, found.uid, found.gid),
                            "after": "%s %s:%s\n" % (oct(item.mode)[2:].zfill(4), item.owner, item.group)})
        for found in self.remove:
            entries.append(files.difference(found.path, found.content, None, found.path in secret))
        summary = self._summary()
        if summary:
            entries.append(summary)
        return sorted(entries, key=lambda entry: (entry["after_header"], entry["before_header"]))

    def _summary(self) -> dict | None:
        """Program and service state as a pseudo file, so that a diff shows them too."""
        before, after = [], []
        old = (self.before.manifest.get("program") or {}) if self.before else {}
        if self.program_action != "keep" or (self.declaration.absent and old):
            before += ["program %s" % old["version"]] if old else []
            after += [] if self.declaration.absent else ["program %s" % self.declaration.program.version]
        if self.service != "none":
            before.append("service %s" % ("running" if self.status and self.status.running else "not running"))
            after.append("service %s" % {"start": "started", "stop": "stopped"}.get(self.service, self.service + "ed"))
        if self.data.startswith("purged"):
            after.append("data %s" % self.data)
        if not before and not after:
            return None
        name = "component %s" % self.declaration.name
        return {"before_header": name, "after_header": name, "before": "".join(line + "\n" for line in before),
                "after": "".join(line + "\n" for line in after)}


def _rights(mode: int, uid: int | None, gid: int | None) -> str:
    if uid is None or gid is None:
        return oct(mode)[2:].zfill(4)
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = str(uid)
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return "%s %s:%s" % (oct(mode)[2:].zfill(4), owner, group)


def _version_key(text: str) -> list:
    return [(1, int(part), "") if part.isdigit() else (0, 0, part)
            for part in re.split(r"[.\-+_~]", text.lstrip("v"))]
