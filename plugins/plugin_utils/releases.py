# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pins: which archive of which version, from where, with which sha256.

``files/releases.yml`` is the committed truth; an overlay of the same shape may replace whole entries (programs built
for tests, or one's own), and a mirror changes where archives come from but never what they must be.
"""
from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import yaml

PINS = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "files", "releases.yml"))
SHA256 = re.compile(r"^[0-9a-fA-F]{64}$")


class ReleaseError(Exception):
    """A program can't be resolved; the message names the variable and the fix."""


@functools.lru_cache(maxsize=8)
def _load(path: str, _changed: int) -> dict[str, Any]:
    with open(path, encoding="utf-8") as handle:
        return yaml.load(handle, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


def load(path: str) -> dict[str, Any]:
    """The entries of a pins file, read once while it doesn't change."""
    try:
        return _load(path, os.stat(path).st_mtime_ns)
    except (OSError, yaml.YAMLError) as error:
        raise ReleaseError("%s can't be read as a list of releases: %s" % (path, error)) from None


class Releases:
    """Pins, overlay and mirror of one run.

    ``overlay`` is a file on the controller, ``mirror`` a web address or a folder on the controller.
    """

    def __init__(self, overlay: str = "", mirror: str = "", pins: str = PINS) -> None:
        self._entries = dict(load(pins))
        if overlay:
            self._entries.update(load(os.path.expanduser(overlay)))
        self._mirror = mirror.rstrip("/")
        self._folder = ""
        if self._mirror and not re.match(r"^https?://", self._mirror):
            self._folder = os.path.expanduser(self._mirror)
            if not os.path.isdir(self._folder):
                raise ReleaseError("observability_mirror %r is neither a web address nor a folder on this controller"
                                   % mirror)

    def entry(self, name: str) -> dict[str, Any]:
        try:
            return self._entries[name]
        except KeyError:
            raise ReleaseError("%s is not in files/releases.yml (known: %s)"
                               % (name, ", ".join(sorted(self._entries)))) from None

    def has(self, name: str) -> bool:
        return name in self._entries

    def pinned(self, name: str) -> str:
        """The version that is installed where the user names none."""
        return str(self.entry(name)["pinned"])

    def release(self, spec: dict[str, Any]) -> dict[str, Any]:
        """What the module needs to place a released archive: one artefact an architecture."""
        name = spec["name"]
        entry = self.entry(name)
        version = str(spec.get("version") or entry["pinned"])
        resolved = {"version": version, "format": entry.get("format", "tar.gz"), "strip": int(entry.get("strip", 0)),
                    "programs": list(entry.get("programs") or []), "named": entry.get("named", "")}
        if spec.get("url") or spec.get("sha256"):
            if not (spec.get("version") and spec.get("url") and SHA256.match(spec.get("sha256") or "")):
                raise ReleaseError("%s_release needs all of version, url and sha256 (64 hexadecimal digits)" % name)
            return dict(resolved, artefacts={"any": self._artefact(spec["url"], spec["sha256"])})
        sums = {str(key): value for key, value in (entry.get("sha256") or {}).items()}.get(version)
        if not entry.get("sha256"):
            raise ReleaseError(
                "no sha256 of %s is known to this collection: set %s_release with version, url and sha256, which "
                "upstream publishes beside its archives (%s)" % (name, name, entry["url"].rsplit("/", 1)[0].format(
                    version=version)))
        if not sums:
            raise ReleaseError(
                "%s %s is not pinned in files/releases.yml (pinned: %s): choose one of these as %s_version, or set "
                "%s_release with version, url and sha256"
                % (name, version, ", ".join(sorted(str(key) for key in entry.get("sha256") or {})), name, name))
        artefacts = {}
        for arch, pin in sums.items():
            template = pin.get("url") or entry["url"]
            url = template.format(version=version, arch=arch, **{key: str(value) for key, value in pin.items()
                                                                if key not in ("value", "attested", "url")})
            artefacts[arch] = self._artefact(url, pin["value"])
        return dict(resolved, artefacts=artefacts)

    def wheel(self, name: str) -> dict[str, Any]:
        """A pinned wheel. Without a mirror the controller's own pip fetches it, and it is handed over."""
        entry = self.entry(name)
        version = str(entry["pinned"])
        pin = {str(key): value for key, value in entry["sha256"].items()}[version]["any"]
        file = entry["file"].format(version=version)
        if self._mirror and not self._folder:
            return {"url": "%s/%s" % (self._mirror, file), "file": file, "sha256": pin["value"]}
        return {"url": "", "file": file, "sha256": pin["value"], "from_controller": True}

    def _artefact(self, url: str, sha256: str) -> dict[str, Any]:
        file = os.path.basename(url)
        if self._folder:
            return {"url": url, "file": file, "sha256": sha256, "from_controller": True}
        if self._mirror:
            url = "%s/%s" % (self._mirror, file)
        return {"url": url, "file": file, "sha256": sha256}

    def obtain(self, need: dict[str, Any]) -> str:
        """A path on the controller with the needed file, from the folder mirror or, for wheels, by pip."""
        if self._folder:
            path = os.path.join(self._folder, need["file"])
            if os.path.isfile(path):
                return path
            if not need["file"].endswith(".whl"):
                raise ReleaseError("%s is not in the mirror folder %s" % (need["file"], self._folder))
        return _download_wheel(need["file"], need["sha256"])


def _download_wheel(file: str, sha256: str) -> str:
    """Fetch a wheel with pip as this controller has it set up; kept in the user's cache."""
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "aistack", "wheels")
    target = os.path.join(cache, sha256, file)
    if os.path.isfile(target) and _sha256(target) == sha256:
        return target
    name, version = file.split("-")[:2]
    with tempfile.TemporaryDirectory() as scratch:
        requirement = os.path.join(scratch, "requirement.txt")
        with open(requirement, "w", encoding="utf-8") as handle:
            handle.write("%s==%s --hash=sha256:%s\n" % (name, version, sha256))
        done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
                               "--only-binary=:all:", "--dest", scratch, "--requirement", requirement],
                              capture_output=True, text=True, check=False)
        path = os.path.join(scratch, file)
        if done.returncode or not os.path.isfile(path):
            raise ReleaseError("pip on the controller can't fetch %s (%s): name a mirror that holds it with "
                               "observability_mirror" % (file, done.stderr.strip()[-500:]))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.move(path, target)
    return target


def _sha256(path: str) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
