# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One JSON question to Ollama: bounded in time and size, whatever answers.

The standard library's time-outs are per read, so a server that sends one byte now and then would hold us for ever;
here a single deadline covers connecting, the TLS handshake, sending and every read.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

# Room for some 5000 models.
MAX_BODY_BYTES = 4 * 1024 * 1024

REASONS = ("connect", "timeout", "http_status", "unauthorized", "invalid", "too_large")
"""Why a question failed: no connection, or it broke · no whole answer in time · a status other than 200 · 401 or 403 ·
not what this endpoint answers · more than MAX_BODY_BYTES."""


class AskError(Exception):
    """A question failed. ``reason`` is one of REASONS; the text is for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Address:
    """Where Ollama answers; ``prefix`` is the path before /api, for one behind a reverse proxy."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS = {"http": 80, "https": 443}


def parse_address(text: str) -> Address:
    """Return the address in a URL; raise ValueError with a sentence that says what is wrong with it."""
    example = "write it like http://127.0.0.1:11434"
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"it contains a blank or a character that no web address has; {example}")
    try:
        parts = urlsplit(text)
        port = parts.port
        (parts.hostname or "").encode("idna")  # as the look-up does, which would fail at every poll
    except ValueError as error:
        raise ValueError(f"it is not a web address ({error}); {example}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"it is not an http:// or https:// address; {example}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it contains a login, which every user of the host could read; use --ollama.api-key-file")
    if parts.query or parts.fragment:
        raise ValueError(f"it must end with the path, without ? and #; {example}")
    return Address(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], parts.path.rstrip("/"))


class Client:
    """Asks Ollama. Safe to use from several threads at once."""

    def __init__(self, address: Address, timeout: float, api_key: str | None = None) -> None:
        """``timeout``: seconds for a whole question; ``api_key``: sent as a bearer token."""
        self._address = address
        self._timeout = timeout
        self._headers = (
            f"Host: {address.authority}\r\nUser-Agent: ollama-exporter\r\nAccept: application/json\r\n"
            "Accept-Encoding: identity\r\nConnection: close\r\n"
        )
        if api_key:
            self._headers += f"Authorization: Bearer {api_key}\r\n"
        self._tls = ssl.create_default_context() if address.scheme == "https" else None

    def get(self, path: str) -> Any:
        """Return the JSON document that Ollama answers at ``path``; raise AskError."""
        try:
            body = self._fetch(path, time.monotonic() + self._timeout)
        except (socket.timeout, TimeoutError):
            raise AskError("timeout", f"no whole answer within {self._timeout:g} s") from None
        except (http.client.IncompleteRead, http.client.RemoteDisconnected):
            raise AskError("connect", "the connection ended before the answer did") from None
        except OSError as error:
            raise AskError("connect", str(error)) from None
        except http.client.HTTPException as error:
            raise AskError("invalid", f"not an HTTP answer ({type(error).__name__})") from None
        try:
            return json.loads(body, parse_int=_bounded_int, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise AskError("invalid", f"not JSON: {body[:60]!r}") from None

    def _fetch(self, path: str, deadline: float) -> bytes:
        with self._connect(deadline) as sock:
            request = f"GET {self._address.prefix}{path} HTTP/1.1\r\n{self._headers}\r\n"
            sock.settimeout(_left(deadline))
            sock.sendall(request.encode("ascii"))
            # HTTPResponse only asks its socket for a file to read from.
            with http.client.HTTPResponse(cast(socket.socket, _DeadlineFile(sock, deadline)), method="GET") as response:
                response.begin()
                _check_status(response)
                if (response.length or 0) > MAX_BODY_BYTES:
                    raise AskError("too_large", f"an answer of {response.length} bytes")
                body = response.read(MAX_BODY_BYTES + 1)
                if len(body) > MAX_BODY_BYTES:
                    raise AskError("too_large", f"an answer of more than {MAX_BODY_BYTES} bytes")
                if response.length:  # what is still missing of the announced length
                    raise http.client.IncompleteRead(body, response.length)
                return body

    def _connect(self, deadline: float) -> socket.socket | ssl.SSLSocket:
        error: OSError | None = None
        found = socket.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _name, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(_left(deadline))
                sock.connect(address)
                if self._tls is None:
                    return sock
                sock.settimeout(_left(deadline))
                return self._tls.wrap_socket(sock, server_hostname=self._address.host)
            except OSError as caught:
                sock.close()
                error = caught
        raise error or OSError("the name has no address")


class _DeadlineFile(io.RawIOBase):
    """A socket to read from, with one deadline for all reads together."""

    def __init__(self, sock: socket.socket | ssl.SSLSocket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, 64 * 1024)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("deadline")
    return left


def _check_status(response: http.client.HTTPResponse) -> None:
    if response.status in (401, 403):
        raise AskError("unauthorized", f"status {response.status}: it wants a key, or another one")
    if response.status != 200:
        where = response.getheader("Location") if 300 <= response.status < 400 else None
        raise AskError("http_status", f"status {response.status}" + (f", redirect to {where[:200]!r}" if where else ""))


def _bounded_int(text: str) -> int:
    # Python 3.9 and 3.10 turn a number of a million digits into an int at any price.
    if len(text) > 20:
        raise ValueError("a number too long")
    return int(text)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
