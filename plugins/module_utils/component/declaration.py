# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user declared, checked and with every default filled in."""
from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

from . import files, release, unit
from .errors import ComponentError

NAME = re.compile(r"^[a-z][a-z0-9_]*(@[a-z0-9][a-z0-9_.-]*)?$")
CREDENTIAL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
UNIT = re.compile(r"^[A-Za-z0-9@:_.\\-]+\.[a-z]+$")
ACCOUNT = re.compile(r"^[a-z_][a-z0-9_-]{0,31}$")


class Directory:
    __slots__ = ("path", "kind", "mode", "owner", "group")

    def __init__(self, spec: dict, account: dict | None) -> None:
        self.path = _absolute(spec["path"], "directories.path")
        self.kind = spec.get("kind") or "config"
        service_group = account["group"] if account else "root"
        service_user = account["user"] if account else "root"
        self.mode = _mode(spec.get("mode") or "0750", self.path)
        self.owner = spec.get("owner") or (service_user if self.kind == "data" else "root")
        self.group = spec.get("group") or service_group

    def record(self) -> dict:
        return {name: getattr(self, name) for name in self.__slots__}


class Declaration:
    """A component as it is to be. ``files`` holds configuration, credentials and the unit alike."""

    def __init__(self, params: dict) -> None:
        self.name = params["name"]
        if not NAME.match(self.name):
            raise ComponentError("name %r is no component name: small letters, digits and _, then perhaps @instance"
                                 % self.name)
        self.family = params.get("family") or self.name.split("@")[0]
        self.absent = params.get("state") == "absent"
        self.purge_data = bool(params.get("purge_data"))
        self.adopt = bool(params.get("adopt"))
        self.account = self._account(params.get("account"))
        self.directories = [Directory(item, self.account) for item in params.get("directories") or []]
        self.program: Any = None if self.absent else release.program_of(self.name, params)
        self.program_path = self._program_path(params)
        self.apply = params.get("apply") or {}
        self.validate = params.get("validate") or []
        self.watches = list(params.get("watches") or [])
        self.snapshot = list(params.get("snapshot") or [])
        self.answers = _answers(params.get("answers") or {})
        self.silence = params.get("silence") or {}
        self.files = [self._file(item) for item in params.get("files") or []]
        self.unit = None
        if params.get("unit"):
            credentials = [os.path.basename(item.path) for item in self.files if item.kind == "credential"]
            data = [item.path for item in self.directories if item.kind == "data"]
            self.unit = unit.Unit(self.name, params["unit"], self.account, data, credentials, self.program_path,
                                  self.apply.get("reload"))
            self.files.append(files.Wanted(self.unit.path, self.unit.text().encode(), 0o644, "root", "root", False,
                                           "unit"))
        twice = [item.path for item in self.files if [other.path for other in self.files].count(item.path) > 1]
        if twice:
            raise ComponentError("the file %s is declared twice" % twice[0])

    @staticmethod
    def _account(spec: dict | None) -> dict | None:
        if not spec:
            return None
        user = spec["user"]
        account = {"user": user, "group": spec.get("group") or user, "groups": list(spec.get("groups") or [])}
        for name in (account["user"], account["group"]):
            if not ACCOUNT.match(name):
                raise ComponentError("account %r is no valid name of a system account" % name)
        return account

    def _program_path(self, params: dict) -> str:
        if params.get("package"):
            return "/usr/bin"
        return os.path.join(release.PROGRAM_ROOT, self.name, release.CURRENT)

    def _file(self, spec: dict) -> files.Wanted:
        content = (spec.get("content") or "").encode("utf-8")
        if spec.get("credential"):
            if not CREDENTIAL.match(spec["credential"]):
                raise ComponentError("credential %r is no valid name" % spec["credential"])
            return files.Wanted(unit.credential_path(self.name, spec["credential"]), content, 0o400, "root", "root",
                                True, "credential")
        if not spec.get("path"):
            raise ComponentError("an entry of files needs a path or a credential")
        group = spec.get("group") or (self.account["group"] if self.account else "root")
        path = _absolute(spec["path"], "files.path")
        return files.Wanted(path, content, _mode(spec.get("mode") or "0640", path), spec.get("owner") or "root", group,
                            bool(spec.get("secret")), "config", _unit(spec.get("read_by") or ""))

    @property
    def unit_file(self) -> str:
        return "%s.service" % self.name

    def wanted_paths(self) -> set[str]:
        return {item.path for item in self.files}


def _answers(spec: dict) -> dict:
    """Found here, a slip costs nothing; found by asking, it would take a good change back."""
    for question in spec.get("questions") or []:
        try:
            parts = urlsplit(question["url"])
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
                raise ValueError("it is no http or https address")
        except ValueError as error:
            raise ComponentError("answers.questions.url %r: %s" % (question["url"], error)) from None
        try:
            re.compile(question.get("matches") or "")
        except re.error as error:
            raise ComponentError("answers.questions.matches %r is no regular expression: %s"
                                 % (question["matches"], error)) from None
    return spec


def _absolute(path: str, option: str) -> str:
    if not path.startswith("/") or os.path.normpath(path) != path:
        raise ComponentError("%s %r must be an absolute path without . or .. or a trailing /" % (option, path))
    return path


def _unit(name: str) -> str:
    if name and not UNIT.match(name):
        raise ComponentError("files.read_by %r is no name of a unit, such as \"systemd-journald.service\"" % name)
    return name


def _mode(text: str, path: str) -> int:
    if not re.match(r"^0?[0-7]{3,4}$", str(text)):
        raise ComponentError("the mode %r of %s must be octal, such as \"0640\"" % (text, path))
    return int(str(text), 8)
