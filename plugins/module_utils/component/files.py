# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on the target: read, compare, write so that a kill or a full disk never leaves half a file."""
from __future__ import annotations

import errno
import grp
import hashlib
import os
import pwd
import shutil
import stat
import tempfile

from .errors import ComponentError

DIFF_LIMIT = 256 * 1024
TEMPORARY = ".aistack-"


def sha256_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def uid_of(user: str) -> int | None:
    """The numeric id of *user*, None where no such account exists yet."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def gid_of(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


class Wanted:
    """A file as the declaration wants it.

    ``kind`` is ``config``, ``credential`` (handed over by systemd, read by root alone) or ``unit``; the content of a
    ``secret`` file never appears in a diff, a result or a message. ``read_by`` is the unit of another program that has
    to be restarted to read it.
    """

    __slots__ = ("path", "content", "mode", "owner", "group", "secret", "kind", "read_by")

    def __init__(self, path: str, content: bytes, mode: int, owner: str, group: str, secret: bool, kind: str,
                 read_by: str = "") -> None:
        self.path = path
        self.content = content
        self.mode = mode
        self.owner = owner
        self.group = group
        self.secret = secret
        self.kind = kind
        self.read_by = read_by

    def record(self) -> dict:
        """What the manifest remembers of the file."""
        return {"path": self.path, "sha256": sha256_bytes(self.content), "mode": self.mode, "owner": self.owner,
                "group": self.group, "secret": self.secret, "kind": self.kind, "read_by": self.read_by}

    @classmethod
    def from_record(cls, record: dict, content: bytes) -> Wanted:
        return cls(record["path"], content, record["mode"], record["owner"], record["group"], record["secret"],
                   record["kind"], record.get("read_by") or "")


class Found:
    """What lies at a path now: ``type`` is ``missing``, ``file``, ``link``, ``directory`` or ``other``."""

    __slots__ = ("path", "type", "content", "mode", "uid", "gid")

    def __init__(self, path: str) -> None:
        self.path = path
        self.type = "missing"
        self.content = b""
        self.mode = -1
        self.uid: int | None = -1
        self.gid: int | None = -1
        try:
            info = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        self.mode, self.uid, self.gid = stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
        if stat.S_ISREG(info.st_mode):
            self.type = "file"
            with open(path, "rb") as handle:
                self.content = handle.read()
        elif stat.S_ISLNK(info.st_mode):
            self.type = "link"
        elif stat.S_ISDIR(info.st_mode):
            self.type = "directory"
        else:
            self.type = "other"

    @classmethod
    def imagined(cls, path: str, content: bytes | None = None, mode: int = -1, uid: int | None = -1,
                 gid: int | None = -1) -> Found:
        """What will lie there once something is put back; without *content* nothing."""
        found = cls.__new__(cls)
        found.path, found.type = path, "missing" if content is None else "file"
        found.content, found.mode, found.uid, found.gid = content or b"", mode, uid, gid
        return found

    @property
    def sha256(self) -> str:
        return sha256_bytes(self.content) if self.type == "file" else ""

    def same_rights(self, mode: int, owner: str, group: str) -> bool:
        return (self.mode, self.uid, self.gid) == (mode, uid_of(owner), gid_of(group))


def fsync_directory(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def prepare(path: str, content: bytes, mode: int, owner: str = "root", group: str = "root", component: str = "") -> str:
    """Write the new content beside *path*, complete and on disk; :func:`commit` then needs no room any more."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=_temporary_prefix(component), dir=os.path.dirname(path))
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                set_rights(stream.fileno(), mode, owner, group)
                os.fsync(stream.fileno())
        except BaseException:
            _unlink_quietly(temporary)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    return temporary


def commit(temporary: str, path: str) -> None:
    """Put a prepared file in its place in one step; after a kill there is the old file or the new one."""
    os.rename(temporary, path)
    fsync_directory(os.path.dirname(path))


def write(path: str, content: bytes, mode: int, owner: str = "root", group: str = "root", component: str = "") -> None:
    commit(prepare(path, content, mode, owner, group, component), path)


def set_rights(target, mode: int, owner: str, group: str) -> None:
    """Owner first: chown clears set-id bits, and a secret must not be readable by the wrong group in between."""
    uid, gid = uid_of(owner), gid_of(group)
    if uid is None or gid is None:
        raise ComponentError("there is no account %r on this host: create it, or name another owner"
                             % (owner if uid is None else group))
    os.chown(target, uid, gid)
    os.chmod(target, mode)


def link(target: str, path: str) -> None:
    """Point the symbolic link *path* at *target* in one step."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, "%s%s" % (_temporary_prefix(), name))
    _unlink_quietly(temporary)
    os.symlink(target, temporary)
    commit(temporary, path)


def unlink(path: str) -> bool:
    """Remove a file or link; a folder that somebody put in its place stays. True where there was one."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    fsync_directory(os.path.dirname(path))
    return True


def remove(path: str) -> bool:
    """Remove a file, link or folder; True where there was one."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISDIR(info.st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)
    return True


def remove_empty(path: str) -> bool:
    """Remove a folder if nothing is in it; True where it is gone afterwards."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOTDIR):
            return False
        raise
    return True


def sweep_temporaries(folder: str, component: str = "") -> None:
    """Remove what a killed run left of :func:`prepare` and :func:`link` in *folder*; those of one component only,
    for another run may be at work there on another one."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if name.startswith(_temporary_prefix(component)):
            _unlink_quietly(os.path.join(folder, name))


def _temporary_prefix(component: str = "") -> str:
    # No component's name holds a tilde, so none is the beginning of another's.
    return "%s%s~" % (TEMPORARY, component)


def _unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def difference(path: str, before: bytes | None, after: bytes | None, secret: bool) -> dict:
    """One entry of Ansible's diff; None stands for a file that isn't there, a secret's content is never in it."""
    def text(content: bytes | None, which: str) -> str:
        if content is None:
            return ""
        if secret:
            return "(secret content, %s)\n" % which
        if len(content) > DIFF_LIMIT:
            return "(%d bytes, sha256 %s)\n" % (len(content), sha256_bytes(content))
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return "(binary, %d bytes, sha256 %s)\n" % (len(content), sha256_bytes(content))

    return {"before_header": path if before is not None else "/dev/null",
            "after_header": path if after is not None else "/dev/null",
            "before": text(before, "before"), "after": text(after, "after")}
