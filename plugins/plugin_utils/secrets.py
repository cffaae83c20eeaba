# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's store of the secrets that the user leaves to us: one YAML file, mode 0600, generated once.

Every role and every host takes a secret from here, so that a password that two programs share is one value. What the
user gives as a variable wins and is never written here. The file may be encrypted with ansible-vault at any time; a
secret that comes later is added with the vault password that opened it.
"""
from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.vault import is_encrypted
from ansible_collections.aistack.observability.plugins.plugin_utils import spec

# The folder group_vars is the only one beside an inventory that Ansible never reads as an inventory itself, and no
# group can have this name, because of the hyphen.
DEFAULT_FILE = "group_vars/observability-secrets.yml"

# What a run in check mode uses in place of a secret that is not generated yet.
PLACEHOLDER = "would-be-generated"

BCRYPT_COST = 10
BCRYPT_LIMIT = 72  # bytes; bcrypt ignores what comes after

HEADER = """\
# Secrets that aistack.observability generated. Keep this file with your inventory and back it up;
# `ansible-vault encrypt` may be used on it at any time. A secret that you give as a variable wins.
"""


class SecretError(Exception):
    """A secret can't be read, made or kept. The message says what to do; it never holds a secret."""


@dataclass(frozen=True)
class Secret:
    """A secret that can be generated: where the user may give it, and what switches it on."""

    generate: Any       # makes a value
    given: str = ""     # where the user may give it: a variable, or one of its options after a dot
    variable: str = ""  # the variable that wants it, if it isn't empty
    role: str = ""      # the role that wants it, where it is installed


def _bcrypt() -> Any:
    try:
        import bcrypt
    except ImportError as error:
        raise SecretError("a web login needs the Python library bcrypt on the controller, which isn't there: install "
                          "it into the Python environment that Ansible runs in (python3 -m pip install bcrypt)"
                          ) from error
    return bcrypt


def _password() -> str:
    return secrets.token_urlsafe(24)


def _salt() -> str:
    return _bcrypt().gensalt(BCRYPT_COST).decode()


SECRETS = {
    "web_password": Secret(_password, "observability_web_login.password", "observability_web_login"),
    # Kept, so that the hash of an unchanged password stays the same and no run restarts a program for it.
    "web_password_salt": Secret(_salt, variable="observability_web_login"),
    "grafana_admin_password": Secret(_password, "grafana_admin_password", role="grafana"),
    # Grafana encrypts with it what it keeps of others' secrets in its database.
    "grafana_secret_key": Secret(_password, "grafana_secret_key", role="grafana"),
    "grafana_client_secret": Secret(_password, "observability_single_sign_on.client_secret",
                                    "observability_single_sign_on"),
}


class Store:
    """The file. ``vault`` is Ansible's VaultLib with the secrets of this run, if there are any."""

    def __init__(self, path: str | os.PathLike, vault: Any = None) -> None:
        self.path = Path(path)
        self.vault = vault

    # -- asking ---------------------------------------------------------------------------------------------------

    def value(self, name: str, variables: Mapping[str, Any], check_mode: bool = False) -> str:
        """A secret: as the user gives it, or as it was generated."""
        secret = self._secret(name)
        given = self._given(secret, variables)
        if given:
            return given
        kept = self._read()[0]
        if kept.get(name):
            return kept[name]
        if check_mode:
            return PLACEHOLDER
        raise SecretError(f"the secret {name} isn't in {self.path}: run the playbook without `--skip-tags always`, "
                          "so that it is generated")

    def web_login(self, variables: Mapping[str, Any], check_mode: bool = False) -> dict[str, str]:
        """username, password and password_hash (bcrypt) of the web pages' login; empty when none is wanted."""
        login = variables.get("observability_web_login")
        if not login:
            return {}
        password = self.value("web_password", variables, check_mode)
        salt = self.value("web_password_salt", variables, check_mode)
        return {"username": str(login.get("username") or ""), "password": password,
                "password_hash": PLACEHOLDER if salt == PLACEHOLDER else bcrypt_hash(password, salt)}

    @classmethod
    def wanted(cls, variables: Mapping[str, Any], roles: Iterable[str] = ()) -> list[str]:
        """The secrets that these variables and roles want and that the user doesn't give."""
        return [name for name, secret in SECRETS.items()
                if (variables.get(secret.variable) or secret.role in roles) and not cls._given(secret, variables)]

    def missing(self, variables: Mapping[str, Any], roles: Iterable[str] = ()) -> list[str]:
        """Those of the wanted secrets that aren't generated yet."""
        wanted = self.wanted(variables, roles)
        kept = self._read()[0] if wanted else {}
        return [name for name in wanted if not kept.get(name)]

    # -- generating -----------------------------------------------------------------------------------------------

    def generate(self, variables: Mapping[str, Any], roles: Iterable[str] = ()) -> list[str]:
        """Make what is missing, once however many hosts ask at the same time. Returns the names."""
        roles = list(roles)
        if not self.missing(variables, roles):
            return []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock():
                names = self.missing(variables, roles)
                kept, vault = self._read()
                for name in names:
                    kept[name] = SECRETS[name].generate()
                if names:
                    self._write(kept, vault)
        except OSError as error:
            raise SecretError(f"can't write the secrets file {self.path} ({error.strerror}): make its folder writable, "
                              "or name another place with observability_secrets_file") from error
        return names

    # -- inside ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _secret(name: str) -> Secret:
        if name not in SECRETS:
            raise SecretError(f"there is no secret {name!r}{spec.nearest(name, SECRETS)}")
        return SECRETS[name]

    @staticmethod
    def _given(secret: Secret, variables: Mapping[str, Any]) -> str:
        variable, _dot, option = secret.given.partition(".")
        value = variables.get(variable)
        if option:
            value = value.get(option) if isinstance(value, Mapping) else ""
        return str(value or "")

    @contextlib.contextmanager
    def _lock(self):
        """One writer at a time. The folder is locked, so that no lock file lies about beside the inventory."""
        handle = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _read(self) -> tuple[dict[str, str], tuple[Any, Any] | None]:
        """(the secrets, what encrypted them: the vault's id and secret)."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}, None
        except OSError as error:
            raise SecretError(f"can't read the secrets file {self.path} ({error.strerror}): run as the user who owns "
                              "it") from error
        opened_with = None
        if is_encrypted(content):
            try:
                if self.vault is None or not self.vault.secrets:
                    raise SecretError(f"the secrets file {self.path} is encrypted: give its vault password, for "
                                      "example with --ask-vault-pass or --vault-password-file")
                content, vault_id, secret = self.vault.decrypt_and_get_vault_id(content)
                opened_with = (vault_id, secret)
            except AnsibleError as error:
                raise SecretError(f"none of the vault passwords of this run opens the secrets file {self.path}: give "
                                  "the one that it was encrypted with") from error
        try:
            document = yaml.safe_load(content) or {}
        except yaml.YAMLError:
            document = None  # the parser's message quotes the file, and so a secret
        if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
            raise SecretError(f"the secrets file {self.path} must be a YAML mapping of names to strings: mend it, or "
                              "restore it from a backup")
        return {str(name): str(value) for name, value in document.items()}, opened_with

    def _write(self, kept: Mapping[str, str], opened_with: tuple[Any, Any] | None) -> None:
        """Replace the file as a whole, encrypted as it was; a run that is killed leaves the old one."""
        content = (HEADER + yaml.safe_dump(dict(kept), default_flow_style=False)).encode()
        if opened_with:
            vault_id, secret = opened_with
            content = self.vault.encrypt(content, secret, vault_id=vault_id)
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise


@functools.cache  # slow on purpose, and a role's task asks several times
def bcrypt_hash(password: str, salt: str) -> str:
    if len(password.encode()) > BCRYPT_LIMIT:
        raise SecretError(f"observability_web_login.password is longer than the {BCRYPT_LIMIT} bytes that bcrypt "
                          "looks at: choose a shorter one")
    return _bcrypt().hashpw(password.encode(), salt.encode()).decode()


def store_path(variables: Mapping[str, Any]) -> str:
    """Where the store is: observability_secrets_file, or beside the inventory."""
    given = variables.get("observability_secrets_file")
    if given:
        return os.path.expanduser(str(given))
    folder = variables.get("inventory_dir")
    if not folder:
        raise SecretError("the inventory is not a file, so there is no place beside it for the generated secrets: set "
                          "observability_secrets_file to a path on the controller")
    return os.path.join(str(folder), DEFAULT_FILE)
