# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web configuration file, as Prometheus's exporter-toolkit has it: TLS, client certificates, logins.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. Read once, at the start.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib
import json
import os
import re
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_MIN_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_TLS_KEYS = ("cert_file", "key_file", "client_ca_file", "client_auth_type", "min_version")
_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}", re.ASCII)
# bcrypt looks at 72 bytes; one of its implementations refuses more, the other cuts.
_BCRYPT_BYTES = 72
# The password "x" at the lowest cost: shows that an implementation works, and stands in for users that don't exist.
_SAMPLE_HASH = b"$2b$04$......................8QPuF36SqwZ1d9QO3taNcRXHOtLxpvS"

Verify = Callable[[bytes, bytes], bool]


class ConfigError(ValueError):
    """The file cannot be used; the text is a sentence that says why and what to do."""


class Logins:
    """Users and their bcrypt hashes."""

    def __init__(self, users: Mapping[str, str], verify: Verify) -> None:
        self._users = {name: value.encode() for name, value in users.items()}
        self._verify = verify
        # A hash is slow on purpose: one at a time, and passwords that were right are remembered as a digest.
        self._lock = threading.Lock()
        self._known: set[bytes] = set()

    def allow(self, authorization: str) -> bool:
        """Whether the value of an Authorization header is a right login."""
        scheme, _, encoded = authorization.strip().partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True)
            user, colon, password = decoded.partition(b":")
            expected = self._users.get(user.decode("utf-8"))
        except (binascii.Error, UnicodeDecodeError):
            return False
        if not colon or b"\0" in password:
            return False
        digest = hashlib.sha256(decoded).digest()
        with self._lock:
            if digest in self._known:
                return True
            # An unknown user takes as long as a known one, or the time would tell who exists.
            right = self._verify(password[:_BCRYPT_BYTES], expected or next(iter(self._users.values())))
            if right and expected is not None:
                self._known.add(digest)
                return True
        return False


@dataclass(frozen=True)
class WebConfig:
    """How pages are served: over TLS or not, to whom."""

    tls: ssl.SSLContext | None = None
    logins: Logins | None = None


def load(path: str) -> WebConfig:
    """Read the file and all that it names; raise ConfigError."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({_why(error)}); give a file that the exporter's user can read"
        ) from None
    document = _table(_parse(text, path), "the file", ("tls_server_config", "basic_auth_users"))
    tls = document.get("tls_server_config")
    users = document.get("basic_auth_users")
    return WebConfig(
        tls=_tls(_table(tls, "tls_server_config", _TLS_KEYS), os.path.dirname(os.path.abspath(path))) if tls else None,
        logins=_logins(_table(users, "basic_auth_users")) if users else None,
    )


def _parse(text: str, path: str) -> Any:
    if not text.strip():
        return {}
    try:
        return json.loads(text)
    except ValueError as error:
        where = str(error)
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise ConfigError(
            f"{path} is not JSON ({where}); write it as JSON, which is valid YAML, or install PyYAML for other YAML"
        ) from None
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is neither JSON nor YAML ({' '.join(str(error).split())})") from None


def _table(value: Any, what: str, known: Sequence[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{what} must be a mapping")
    for key in value:
        if known is not None and key not in known:
            raise ConfigError(
                f"{what} has the key {key!r}, which this exporter does not know; it knows {', '.join(known)}"
            )
    return value


def _tls(table: Mapping[str, Any], folder: str) -> ssl.SSLContext:
    def file(key: str) -> str | None:
        value = table.get(key)
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"tls_server_config.{key} must be a path")
        return os.path.join(folder, value) if value else None

    certificate, key, authority = file("cert_file"), file("key_file"), file("client_ca_file")
    if not certificate or not key:
        raise ConfigError("tls_server_config needs both cert_file and key_file")
    default = "RequireAndVerifyClientCert" if authority else "NoClientCert"
    client_auth = _choice(table, "client_auth_type", default, _CLIENT_AUTH)
    if client_auth != ssl.CERT_NONE and not authority:
        raise ConfigError(
            "tls_server_config.client_auth_type needs client_ca_file, to know whose certificates to trust"
        )
    if client_auth == ssl.CERT_NONE and authority:
        raise ConfigError(
            "tls_server_config.client_ca_file is of no use with client_auth_type NoClientCert; remove one"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _choice(table, "min_version", "TLS12", _MIN_VERSIONS)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # The password keeps OpenSSL from asking for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cert_file {certificate} and key_file {key} cannot be used together ({_why(error)})"
        ) from None
    if authority:
        try:
            context.load_verify_locations(authority)
        except OSError as error:
            raise ConfigError(f"client_ca_file {authority} cannot be used ({_why(error)})") from None
        context.verify_mode = client_auth
    return context


def _choice(table: Mapping[str, Any], key: str, default: str, choices: Mapping[str, Any]) -> Any:
    value = table.get(key) or default
    if value not in choices:
        raise ConfigError(f"tls_server_config.{key} is {value!r}; this exporter can do {', '.join(choices)}")
    return choices[value]


def _logins(users: Mapping[str, Any]) -> Logins:
    for user, value in users.items():
        if not isinstance(user, str) or not user or ":" in user:
            raise ConfigError(f"basic_auth_users has the user name {user!r}; it must be a text without a colon")
        if not isinstance(value, str) or not _BCRYPT.fullmatch(value):
            raise ConfigError(
                f"basic_auth_users.{user} is not a bcrypt hash; make one with: htpasswd -nBC 10 '' | tr -d ':\\n'"
            )
    return Logins(users, bcrypt_verifier())


def bcrypt_verifier() -> Verify:
    """Return a check of (password, hash) by the bcrypt package, or by the system's libcrypt; raise ConfigError.

    Debian, Ubuntu, Fedora and Red Hat have a libcrypt with bcrypt (libxcrypt) as part of the base system.
    """
    for find in (_bcrypt_package, _libcrypt):
        try:
            verify = find()
            if verify(b"x", _SAMPLE_HASH) and not verify(b"y", _SAMPLE_HASH):
                return verify
        except (ImportError, OSError, AttributeError, MemoryError):
            continue
    raise ConfigError(
        "basic_auth_users needs bcrypt, which neither a Python package nor the system's libcrypt offers; "
        "install the Python package bcrypt, or use client certificates"
    )


def _bcrypt_package() -> Verify:
    package = importlib.import_module("bcrypt")
    return lambda password, value: bool(package.checkpw(password, value))


def _libcrypt() -> Verify:
    import ctypes  # here, because few need it and it costs memory
    import hmac

    for name in ("libcrypt.so.2", "libcrypt.so.1"):
        try:
            crypt = ctypes.CDLL(name).crypt
            break
        except OSError:
            continue
    else:
        raise OSError("no libcrypt")
    crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    crypt.restype = ctypes.c_char_p
    # crypt() is not safe in threads: Logins calls it under its lock.
    return lambda password, value: hmac.compare_digest(crypt(password, value) or b"", value)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
