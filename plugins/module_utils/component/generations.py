# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the target remembers of a component: proven generations, an intent while one replaces another, a lock.

Below ``/var/lib/aistack/<component>/`` (root alone):

    generations/<n>/manifest.json   what generation n placed, and how it is asked
    generations/<n>/files/<i>       the contents, by their index in the manifest
    generations/<n>/foreign/<i>     what lay in our places before, files that weren't ours
    proven -> generations/<n>       the last generation that answered its question
    intent.json                     there while a run changes things: how far it is, and what it makes on the way
    snapshots/<n>/                  data as it was before generation n was started
    saved/<time>/                   files of ours that were changed by hand, before they were mended

A numbered folder is always complete: it comes and goes by a rename.
"""
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time

from . import command, files
from .errors import ComponentError

STATE_ROOT = "/var/lib/aistack"
# Not /run/lock: everyone may write there, and so could keep us out.
LOCK_ROOT = "/run/aistack"
LOCK_WAIT_SECONDS = 900
KEEP = 3


class Generation:
    """A proven or staged state: its manifest and the contents of its files."""

    def __init__(self, folder: str, manifest: dict) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def number(self) -> int:
        return self.manifest["generation"]

    def wanted(self) -> list[files.Wanted]:
        """The generation's files with their contents."""
        result = []
        for index, record in enumerate(self.manifest["files"]):
            with open(os.path.join(self.folder, "files", str(index)), "rb") as handle:
                result.append(files.Wanted.from_record(record, handle.read()))
        return result

    def records(self) -> dict[str, dict]:
        return {record["path"]: record for record in self.manifest["files"]}

    def foreign(self) -> dict[str, files.Found]:
        """Files that weren't ours and lay in the places of this generation's."""
        result = {}
        for index, record in enumerate(self.manifest.get("foreign") or []):
            with open(os.path.join(self.folder, "foreign", str(index)), "rb") as handle:
                result[record["path"]] = files.Found.imagined(record["path"], handle.read(), record["mode"],
                                                              record["uid"], record["gid"])
        return result


class Generations:
    def __init__(self, name: str) -> None:
        self.name = name
        self.root = os.path.join(STATE_ROOT, name)
        self._proven_link = os.path.join(self.root, "proven")
        self._intent_path = os.path.join(self.root, "intent.json")

    @contextlib.contextmanager
    def lock(self, reading: bool = False):
        """One run at a time a component; a second one waits for the first to end.

        A reader (check mode) places nothing: without a lock file nobody can be writing.
        """
        path = os.path.join(LOCK_ROOT, "%s.lock" % self.name)
        try:
            if not reading:
                os.makedirs(LOCK_ROOT, mode=0o700, exist_ok=True)
            handle = os.open(path, os.O_RDWR if reading else os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            yield
            return
        try:
            deadline = time.monotonic() + LOCK_WAIT_SECONDS
            while True:
                try:
                    fcntl.flock(handle, (fcntl.LOCK_SH if reading else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise ComponentError(
                            "another run has been working on %s for %d minutes: see what holds %s (fuser -v), end "
                            "it, then run again" % (self.name, LOCK_WAIT_SECONDS // 60, path)) from None
                    time.sleep(0.2)
            command.kept_open.add(handle)
            yield
        finally:
            command.kept_open.discard(handle)
            os.close(handle)

    # -- generations -----------------------------------------------------------------------------------------------

    def _folder(self, number: int) -> str:
        return os.path.join(self.root, "generations", str(number))

    def numbers(self) -> list[int]:
        return sorted(int(name) for name in _names(os.path.join(self.root, "generations")) if name.isdigit())

    @property
    def recorded(self) -> bool:
        """Does anything here tell of a component that is, or was about to be, on this host?"""
        try:
            return set(os.listdir(self.root)) != {"saved"}
        except FileNotFoundError:
            return False

    def load(self, number: int) -> Generation:
        folder = self._folder(number)
        try:
            with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as handle:
                return Generation(folder, json.load(handle))
        except (OSError, ValueError) as error:
            raise ComponentError("the record of generation %d in %s can't be read (%s): restore it from a backup, or "
                                 "remove the folder and run with the role's _adopt variable" % (number, folder, error)
                                 ) from None

    def proven(self) -> Generation | None:
        try:
            return self.load(int(os.path.basename(os.readlink(self._proven_link))))
        except FileNotFoundError:
            return None

    def prepare(self) -> None:
        for folder in (STATE_ROOT, self.root, os.path.join(self.root, "generations")):
            os.makedirs(folder, mode=0o700, exist_ok=True)

    def next_number(self) -> int:
        return max(self.numbers() or [0]) + 1

    def store(self, number: int, manifest: dict, wanted: list[files.Wanted], foreign: list[files.Found]) -> Generation:
        """Write generation *number*, complete and on disk before anything is switched."""
        manifest = dict(manifest, generation=number, files=[item.record() for item in wanted],
                        foreign=[{"path": item.path, "mode": item.mode, "uid": item.uid, "gid": item.gid}
                                 for item in foreign])
        folder = self._folder(number)
        partial = folder + ".partial"
        files.remove(partial)
        contents = {"files": [item.content for item in wanted], "foreign": [item.content for item in foreign]}
        for part, items in contents.items():
            os.makedirs(os.path.join(partial, part), mode=0o700)
            for index, content in enumerate(items):
                files.write(os.path.join(partial, part, str(index)), content, 0o600)
        generation = Generation(partial, manifest)
        self.amend(generation)
        os.rename(partial, folder)
        files.fsync_directory(os.path.dirname(folder))
        generation.folder = folder
        return generation

    @staticmethod
    def amend(generation: Generation) -> None:
        files.write(os.path.join(generation.folder, "manifest.json"),
                    json.dumps(generation.manifest, sort_keys=True, indent=1).encode(), 0o600)

    def abandoned(self, intent: dict) -> Generation:
        """The generation that an interrupted run was about to prove; an empty one if it didn't get that far."""
        if intent["to"] in self.numbers():
            return self.load(intent["to"])
        return Generation("", {"generation": intent["to"], "files": []})

    def prove(self, generation: Generation) -> None:
        files.link(os.path.join("generations", str(generation.number)), self._proven_link)

    def discard(self, number: int) -> None:
        for folder in (self.snapshot_folder(number), self._folder(number)):
            leaving = folder + ".leaving"
            files.remove(leaving)
            try:
                os.rename(folder, leaving)
            except FileNotFoundError:
                continue
            files.remove(leaving)

    def collect(self) -> list[dict]:
        """Drop all but the newest proven generations and what a killed run left; returns the manifests that stay."""
        proven = self.proven()
        kept = [number for number in self.numbers() if proven and number <= proven.number][-KEEP:]
        for number in self.numbers():
            if number not in kept:
                self.discard(number)
        for folder in ("generations", "snapshots"):
            for name in _names(os.path.join(self.root, folder)):
                if not name.isdigit() or int(name) not in kept:
                    files.remove(os.path.join(self.root, folder, name))
        return self.manifests()

    def manifests(self) -> list[dict]:
        return [self.load(number).manifest for number in self.numbers()]

    # -- intent ----------------------------------------------------------------------------------------------------

    def intent(self) -> dict | None:
        try:
            with open(self._intent_path, encoding="utf-8") as handle:
                return json.load(handle)
        except FileNotFoundError:
            return None

    def intend(self, intent: dict) -> None:
        files.write(self._intent_path, json.dumps(intent, sort_keys=True).encode(), 0o600)

    def fulfil(self) -> None:
        files.remove(self._intent_path)
        files.fsync_directory(self.root)

    # -- copies ----------------------------------------------------------------------------------------------------

    def snapshot_folder(self, number: int) -> str:
        return os.path.join(self.root, "snapshots", str(number))

    def take_snapshot(self, number: int, paths: list[str]) -> None:
        """Copy data that can't go back by itself; the component stands still while this runs."""
        folder = self.snapshot_folder(number)
        files.remove(folder)
        os.makedirs(folder, mode=0o700)
        present = [path for path in paths if os.path.lexists(path)]
        need = sum(_size(path) for path in present)
        free = shutil.disk_usage(folder).free
        if need > free * 0.95:
            raise ComponentError("no room for the snapshot of %s: %d MB are needed and %d MB are free below %s"
                                 % (", ".join(present), need >> 20, free >> 20, STATE_ROOT))
        for index, path in enumerate(present):
            _copy(path, os.path.join(folder, str(index)))
        command.run("sync", "-f", folder)
        # Written last: without this list there is no snapshot.
        files.write(os.path.join(folder, "paths.json"),
                    json.dumps({"present": present, "all": paths}).encode(), 0o600)

    def restore_snapshot(self, number: int) -> list[str]:
        """Put the data back as it was; returns the paths, none where no complete snapshot was taken.

        What is there now is given up first: it may take the room, and a kill in between only means once more.
        """
        folder = self.snapshot_folder(number)
        try:
            with open(os.path.join(folder, "paths.json"), encoding="utf-8") as handle:
                listing = json.load(handle)
        except FileNotFoundError:
            return []
        for path in listing["all"]:
            # A folder itself stays: it may be a mount point.
            for name in _names(path) if path in listing["present"] else []:
                files.remove(os.path.join(path, name))
            if not os.path.isdir(path) or path not in listing["present"]:
                files.remove(path)
        for index, path in enumerate(listing["present"]):
            _copy(os.path.join(folder, str(index)), path)
        return listing["all"]

    def save_changed(self, found: files.Found) -> str:
        """Keep a file that was changed by hand, before ours replaces it; returns where."""
        folder = os.path.join(self.root, "saved", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
        target = folder + found.path
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        files.write(target, found.content, 0o600)
        return target

    def forget(self) -> None:
        """Remove all records; copies of hand-changed files stay."""
        files.remove(self._proven_link)
        for number in self.numbers():
            self.discard(number)
        for name in _names(self.root):
            if name not in ("saved", "intent.json"):
                files.remove(os.path.join(self.root, name))
        files.remove(self._intent_path)
        files.remove_empty(self.root)
        files.remove_empty(STATE_ROOT)


def family(name: str) -> list[str]:
    """The components of a family that have records on this host."""
    return [item for item in _names(STATE_ROOT) if item == name or item.startswith(name + "@")]


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: str) -> int:
    if os.path.islink(path) or not os.path.isdir(path):
        return os.lstat(path).st_size
    return sum(os.lstat(os.path.join(folder, item)).st_size
               for folder, _dirs, items in os.walk(path) for item in items)


def _copy(source: str, target: str) -> None:
    """A copy with owners, modes and times, into *target* if that is a folder; shares blocks where it can."""
    command.run("cp", "-aT", "--reflink=auto", "--", source, target)
