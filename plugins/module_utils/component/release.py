# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs on the target: a released archive, a Python environment from pinned wheels, a distribution package.

The first two live in immutable folders ``/opt/aistack/<component>/<version>-<digest>/``; ``current`` is one link.
Nothing is unpacked before its sha256 agrees with the pinned one.
"""
from __future__ import annotations

import errno
import hashlib
import lzma
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib

from . import files
from .command import run
from .errors import ComponentError

PROGRAM_ROOT = "/opt/aistack"
CURRENT = "current"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armv7", "riscv64": "riscv64"}
FETCH_TRIES = 3
FETCH_TIMEOUT = 30


def architecture() -> str:
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


class Artefact:
    """One download: ``name`` for messages, ``file`` its file name, where from, and the sha256 it must have."""

    def __init__(self, name: str, spec: dict) -> None:
        self.name = name
        self.url = spec.get("url") or ""
        self.file = spec.get("file") or os.path.basename(self.url) or "archive"
        self.sha256 = spec["sha256"].lower()
        self.from_controller = bool(spec.get("from_controller"))

    def need(self) -> dict:
        return {"name": self.name, "file": self.file, "sha256": self.sha256, "url": self.url,
                "from_controller": self.from_controller}

    def obtain(self, handed_over: dict, folder: str) -> str:
        """The verified file in *folder*; raises before anything else sees a file that isn't the pinned one."""
        target = os.path.join(folder, self.file)
        source = handed_over.get(self.sha256)
        if source:
            shutil.copyfile(source, target)
        elif self.from_controller:
            raise ComponentError("%s was not handed over by the controller" % self.name)
        else:
            self._fetch(target)
        found = files.sha256_file(target)
        if found != self.sha256:
            size = os.path.getsize(target)
            os.unlink(target)
            raise ComponentError(
                "%s: the sha256 of %s is %s, pinned is %s (%d bytes came). Nothing was unpacked. Either the download "
                "is broken or the address serves something else: check it against upstream's published checksum; for "
                "a version of your own set the role's _release variable (version, url, sha256)"
                % (self.name, self.url or self.file, found, self.sha256, size))
        return target

    def _fetch(self, target: str) -> None:
        from ansible.module_utils.urls import open_url
        trouble = ""
        for attempt in range(FETCH_TRIES):
            if attempt:
                time.sleep(2 ** attempt)
            try:
                reply = open_url(self.url, timeout=FETCH_TIMEOUT, http_agent="aistack.observability")
                with open(target, "wb") as handle:
                    shutil.copyfileobj(reply, handle, 1 << 20)
                expected = reply.headers.get("Content-Length")
                if expected and int(expected) != os.path.getsize(target):
                    raise OSError("only %d of %s bytes came" % (os.path.getsize(target), expected))
                return
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise OSError(error.errno, error.strerror, target) from None
                trouble = str(error)
                if 400 <= getattr(error, "code", 0) < 500:
                    break
            except Exception as error:  # open_url raises its own classes for proxies, TLS and bad addresses
                trouble = str(error)
        raise ComponentError(
            "%s can't be fetched from %s: %s. Check the address and this host's way out; observability_mirror can "
            "name a mirror or a folder on the controller" % (self.name, self.url, trouble))


class Program:
    """A kind of program. ``digest`` tells two declarations apart, ``version`` is for people."""

    kind = ""
    version = ""
    digest = ""

    def needs(self) -> list[dict]:
        """Artefacts that must be fetched before this program can be placed."""
        return []

    def record(self) -> dict:
        return {"kind": self.kind, "version": self.version, "digest": self.digest}

    def same_as(self, record: dict | None) -> bool:
        return record is not None and record.get("kind") == self.kind and record.get("digest") == self.digest

    def placed_before(self, manifests: list[dict]) -> dict | None:
        """The record of this very program where a kept generation still has it, undamaged."""
        for manifest in reversed(manifests):
            record = manifest.get("program")
            if self.same_as(record) and "folder" in record and intact(record):
                return record
        return None


class _Foldered(Program):
    """A program in an immutable folder of its own."""

    def __init__(self, component: str) -> None:
        self.component = component

    def build(self, folder: str, handed_over: dict, scratch: str) -> None:
        raise NotImplementedError

    def place(self, handed_over: dict) -> dict:
        """Make the folder complete and return its record; an unfinished one is never seen under its name."""
        home = os.path.join(PROGRAM_ROOT, self.component)
        os.makedirs(home, mode=0o755, exist_ok=True)
        incoming = os.path.join(home, ".incoming")
        files.remove(incoming)
        os.makedirs(os.path.join(incoming, "program"), mode=0o755)
        os.makedirs(os.path.join(incoming, "scratch"), mode=0o700)
        try:
            program = os.path.join(incoming, "program")
            self.build(program, handed_over, os.path.join(incoming, "scratch"))
            run("sync", "-f", program)
            base = "%s-%s" % (re.sub(r"[^A-Za-z0-9._+-]", "_", self.version), self.digest[:12])
            folder, turn = os.path.join(home, base), 1
            while os.path.lexists(folder):
                turn += 1
                folder = os.path.join(home, "%s.%d" % (base, turn))
            os.rename(program, folder)
            files.fsync_directory(home)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return dict(self.record(), folder=folder, entries=inventory(folder))


def inventory(folder: str) -> list[list]:
    """Each file of a program folder with size, inode, time and sha256.

    The first three are enough to see a change without reading 200 MB at every run; the doctor reads them all.
    """
    result = []
    for here, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(here, name)
            info = os.lstat(path)
            result.append([os.path.relpath(path, folder), info.st_size, info.st_ino, info.st_mtime_ns, _sum(path)])
    return result


def _sum(path: str) -> str:
    return os.readlink(path) if os.path.islink(path) else files.sha256_file(path)


def damaged(record: dict) -> str:
    """The first file of a placed program whose content isn't the placed one, read in full; empty where all are."""
    for name, _size, _inode, _mtime, sha256 in record.get("entries", []):
        try:
            if _sum(os.path.join(record["folder"], name)) != sha256:
                return name
        except OSError:
            return name
    return ""


def intact(record: dict) -> bool:
    """Is the placed program still the one that was placed?"""
    for name, size, inode, mtime, _sha256 in record.get("entries", []):
        try:
            info = os.lstat(os.path.join(record["folder"], name))
        except OSError:
            return False
        if (info.st_size, info.st_ino, info.st_mtime_ns) != (size, inode, mtime):
            return False
    return True


class Release(_Foldered):
    """A released archive of upstream's."""

    kind = "release"

    def __init__(self, component: str, spec: dict) -> None:
        super().__init__(component)
        resolved = spec["resolved"]
        self.name = spec["name"]
        self.version = resolved["version"]
        self.format = resolved["format"]
        self.strip = resolved["strip"]
        self.programs = resolved["programs"]
        self.named = (resolved.get("named") or "").format(arch=architecture())
        by_architecture = resolved["artefacts"]
        chosen = by_architecture.get(architecture()) or by_architecture.get("any")
        if not chosen:
            raise ComponentError(
                "%s %s is not pinned for the architecture %s (only for %s): set %s_release with version, url and "
                "sha256 of an archive that upstream publishes for it"
                % (self.name, self.version, architecture(), ", ".join(sorted(by_architecture)), self.name))
        self.artefact = Artefact("%s %s" % (self.name, self.version), chosen)
        self.digest = self.artefact.sha256

    def needs(self) -> list[dict]:
        return [self.artefact.need()]

    def build(self, folder: str, handed_over: dict, scratch: str) -> None:
        archive = self.artefact.obtain(handed_over, scratch)
        unpack(archive, folder, self.format, self.strip, self.programs)
        if self.named and os.path.isfile(os.path.join(folder, self.named)):
            os.rename(os.path.join(folder, self.named), os.path.join(folder, self.programs[0]))
        for program in self.programs:
            path = os.path.join(folder, program)
            if not os.path.isfile(path) or os.path.islink(path):
                raise ComponentError("%s: the archive %s holds no program %s"
                                     % (self.artefact.name, self.artefact.file, program))
            os.chmod(path, 0o755)


def unpack(archive: str, folder: str, form: str, strip: int, programs: list[str]) -> None:
    """Unpack into *folder*; an entry that would climb out of it, a link or a device refuses the whole archive."""
    try:
        if form == "binary":
            shutil.copyfile(archive, os.path.join(folder, programs[0]))
        elif form == "zip":
            _unpack_zip(archive, folder, strip)
        elif form == "tar.zst":
            _unpack_zst(archive, folder, strip)
        else:
            with tarfile.open(archive, "r:*") as tar:
                _unpack_tar(tar, folder, strip)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError,
            RuntimeError, FileExistsError) as error:
        raise ComponentError("%s can't be unpacked: %s" % (os.path.basename(archive), error)) from None
    except OSError as error:
        # Writing tells no path: say at least which disk it was.
        raise OSError(error.errno, error.strerror or str(error), error.filename or folder) from None


def _inside(name: str, folder: str, strip: int, archive: str) -> str | None:
    """Where the entry goes, None for one that *strip* drops."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise ComponentError("%s is refused: its entry %r climbs out of the folder it is unpacked in"
                             % (os.path.basename(archive), name))
    parts = parts[strip:]
    return os.path.join(folder, *parts) if parts else None


def _unpack_tar(tar: tarfile.TarFile, folder: str, strip: int) -> None:
    archive = str(tar.name or "archive")
    for entry in tar:
        target = _inside(entry.name, folder, strip, archive)
        if target:
            _make_parents(target, folder, archive)
        if entry.issym() or entry.islnk():
            # A link inside its own folder is harmless, and released archives with libraries have them.
            if target and entry.issym() and not _stays_inside(target, entry.linkname, folder):
                raise ComponentError("%s is refused: its link %r points out of the folder it is unpacked in (%r)"
                                     % (os.path.basename(archive), entry.name, entry.linkname))
            if target and entry.issym():
                os.symlink(entry.linkname, target)
            elif target:
                original = _inside(entry.linkname, folder, strip, archive)
                if not original or os.path.islink(original) or not os.path.isfile(original):
                    raise ComponentError("%s is refused: its link %r points at nothing before it"
                                         % (os.path.basename(archive), entry.name))
                os.link(original, target)
        elif entry.isdir():
            if target:
                os.makedirs(target, mode=0o755, exist_ok=True)
        elif entry.isreg():
            if target:
                source = tar.extractfile(entry)
                assert source is not None
                with open(target, "xb") as handle:
                    shutil.copyfileobj(source, handle, 1 << 20)
                os.chmod(target, 0o755 if entry.mode & 0o100 else 0o644)
        else:
            raise ComponentError("%s is refused: its entry %r is neither a file nor a folder"
                                 % (os.path.basename(archive), entry.name))


def _stays_inside(link: str, points_at: str, folder: str) -> bool:
    """May the symbolic *link* be placed? Upward steps only at the beginning, where no other link can bend them."""
    parts = points_at.split("/")
    while parts and parts[0] in ("..", "."):
        parts.pop(0)
    end = os.path.normpath(os.path.join(os.path.dirname(link), points_at))
    return not points_at.startswith("/") and ".." not in parts and (end + "/").startswith(folder + "/")


def _make_parents(target: str, folder: str, archive: str) -> None:
    """Make the folders above *target*; none of them may be a link that an earlier entry placed."""
    here = folder
    for part in os.path.relpath(os.path.dirname(target), folder).split(os.sep):
        here = os.path.join(here, part)
        if os.path.islink(here):
            raise ComponentError("%s is refused: %r would be written through a link"
                                 % (os.path.basename(archive), os.path.relpath(target, folder)))
        if not os.path.isdir(here):
            os.mkdir(here, 0o755)


def _unpack_zip(archive: str, folder: str, strip: int) -> None:
    with zipfile.ZipFile(archive) as bundle:
        for entry in bundle.infolist():
            target = _inside(entry.filename, folder, strip, archive)
            mode = entry.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise ComponentError("%s is refused: its entry %r is a link"
                                     % (os.path.basename(archive), entry.filename))
            if target is None:
                continue
            _make_parents(target, folder, archive)
            if entry.is_dir():
                os.makedirs(target, mode=0o755, exist_ok=True)
                continue
            with bundle.open(entry) as source, open(target, "xb") as handle:
                shutil.copyfileobj(source, handle, 1 << 20)
            os.chmod(target, 0o755 if mode & 0o100 else 0o644)


def _unpack_zst(archive: str, folder: str, strip: int) -> None:
    try:
        process = subprocess.Popen(["zstd", "-dc", "--", archive], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise ComponentError("unpacking %s needs the program zstd on this host: install the package zstd"
                             % os.path.basename(archive)) from None
    with process:
        assert process.stdout and process.stderr
        with tarfile.open(name=archive, fileobj=process.stdout, mode="r|") as tar:
            _unpack_tar(tar, folder, strip)
        while process.stdout.read(1 << 20):
            pass
        words = process.stderr.read().decode("utf-8", "replace").strip()
        if process.wait():
            raise ValueError(words)


class PythonEnvironment(_Foldered):
    """A virtual environment made from pinned wheels and the collection's own packages.

    The minimal Debian image has no ensurepip, so the environment is made without pip and a pinned pip wheel installs
    into it, from files alone.
    """

    kind = "python"

    def __init__(self, component: str, spec: dict) -> None:
        super().__init__(component)
        resolved = spec["resolved"]
        self.version = resolved["version"]
        self.pip = Artefact("the wheel pip", resolved["pip"])
        self.wheels = [Artefact("the wheel %s" % name, wheel) for name, wheel in sorted(resolved["wheels"].items())]
        self.modules = resolved["modules"]
        digest = hashlib.sha256()
        for wheel in self.wheels:
            digest.update(wheel.sha256.encode())
        for name in sorted(self.modules):
            digest.update(b"\0%s\0%s" % (name.encode(), self.modules[name].encode()))
        # A new Python on the host (a distribution upgrade) makes the old environment useless.
        digest.update(("python%d.%d" % sys.version_info[:2]).encode())
        self.digest = digest.hexdigest()

    def needs(self) -> list[dict]:
        return [self.pip.need()] + [wheel.need() for wheel in self.wheels]

    def build(self, folder: str, handed_over: dict, scratch: str) -> None:
        pip = self.pip.obtain(handed_over, scratch)
        wheels = [wheel.obtain(handed_over, scratch) for wheel in self.wheels]
        python = os.path.join(folder, "bin", "python")
        self._run([sys.executable, "-m", "venv", "--without-pip", folder])
        if wheels:
            self._run([python, os.path.join(pip, "pip"), "install", "--quiet", "--no-index", "--no-deps",
                       "--no-compile", "--no-cache-dir", "--disable-pip-version-check", "--root-user-action=ignore"]
                      + wheels)
        site = self._run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
        for name, text in self.modules.items():
            target = _inside(name, site, 0, "the collection's package") or site
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            with open(target, "x", encoding="utf-8") as handle:
                handle.write(text)
        # Compiled once here: the service can't write into its own program folder.
        self._run([python, "-m", "compileall", "-q", site])

    @staticmethod
    def _run(command: list[str]) -> str:
        # Nothing of the caller's Python or pip settings has a say in what the environment becomes.
        return run(*command, environment={"PYTHONPATH": "", "PYTHONHOME": "", "PIP_CONFIG_FILE": os.devnull}).output


class Package(Program):
    """A distribution package; the distribution's own signatures vouch for it."""

    kind = "package"

    def __init__(self, component: str, spec: dict) -> None:
        self.component = component
        self.name = spec["name"]
        self.wanted_version = spec.get("version") or ""
        self.installed = self._installed()
        self.version = self.wanted_version or self.installed or "the distribution's"
        self.digest = "%s=%s" % (self.name, self.wanted_version)

    def _installed(self) -> str:
        done = run("dpkg-query", "-W", "-f=${db:Status-Abbrev}${Version}", self.name, check=False)
        return done.output[3:].strip() if done.code == 0 and done.output[1:2] == "i" else ""

    def fits(self) -> bool:
        return bool(self.installed) and self.wanted_version in ("", self.installed)

    def record(self, before: dict | None = None) -> dict:
        """``ours`` tells a package that we installed from one that was there, and stays when we are gone."""
        ours = before["ours"] if before and before.get("kind") == self.kind and before["name"] == self.name \
            else not self.installed
        return dict(super().record(), name=self.name, installed=self.installed, ours=ours)

    def install(self, version: str) -> None:
        wanted = ["install", "--allow-downgrades", "%s=%s" % (self.name, version) if version else self.name]
        try:
            self._apt(*wanted)
        except ComponentError:
            # Minimal images come without package lists, and old lists name files that are gone.
            self._apt("update")
            self._apt(*wanted)
        self.installed = self.version = self._installed()

    def remove(self) -> None:
        self._apt("remove", self.name)
        self.installed = ""

    @staticmethod
    def _apt(*arguments: str) -> None:
        run("apt-get", "-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300",
            "-o", "Dpkg::Options::=--force-confold", *arguments, keep_open=False, together=True,
            environment={"DEBIAN_FRONTEND": "noninteractive"})


def program_of(component: str, params: dict) -> Program | None:
    """The declaration's program, None for a component that has none."""
    kinds = {"release": Release, "python": PythonEnvironment, "package": Package}
    for option, kind in kinds.items():
        if params.get(option):
            return kind(component, params[option])
    return None
