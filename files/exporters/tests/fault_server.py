# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""TEST DOUBLE of faults: a real TCP server on loopback that answers as a broken or absent Ollama would.

It stands in for faults only. What a working Ollama answers is in fixtures/, and test_real.py asks a real one.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any, Callable

FIXTURES = Path(__file__).parent / "fixtures"

RECORDED = "ollama-0.24.0"

Behaviour = Callable[[socket.socket], None]


def fixture(name: str) -> Any:
    """A recorded answer as a document."""
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


def answer(document: Any, status: str = "200 OK", headers: str = "") -> Behaviour:
    """A whole answer."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    def behave(conn: socket.socket) -> None:
        conn.sendall(f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    return behave


def chunked(*chunks: bytes, end: bool = True) -> Behaviour:
    """A chunked answer, as Go sends what is long."""

    def behave(conn: socket.socket) -> None:
        conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in chunks:
            conn.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if end:
            conn.sendall(b"0\r\n\r\n")

    return behave


def raw(data: bytes) -> Behaviour:
    """These bytes, then the end of the connection."""
    return lambda conn: conn.sendall(data)


def silent(conn: socket.socket) -> None:
    """Accept and never answer."""
    with contextlib.suppress(OSError):
        conn.settimeout(30)
        conn.recv(1)


def stops_in_chunks(conn: socket.socket) -> None:
    """Begin a chunked answer and fall silent."""
    chunked(b"[", end=False)(conn)
    silent(conn)


def drip(conn: socket.socket) -> None:
    """A byte now and then: every read is in time, the whole never."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000:
        conn.sendall(bytes([byte]))
        time.sleep(0.05)


def never_final(conn: socket.socket) -> None:
    """Interim answers without end."""
    while True:
        conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.01)


def endless(conn: socket.socket) -> None:
    """A body without end."""
    conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n[")
    while True:
        conn.sendall(b"0," * 65536)


def reset_in_body(conn: socket.socket) -> None:
    """Half an answer, then a reset."""
    conn.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"models":')
    time.sleep(0.05)
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class FaultServer:
    """Plays one behaviour a path; other paths get 404."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def healthy(self, ps: str = "ps-loaded") -> None:
        """Answer with what a real Ollama answered."""
        self._answers(f"{RECORDED}-version", f"{RECORDED}-tags", f"{RECORDED}-{ps}")

    def documented(self) -> None:
        """Answer as the documentation says that an Ollama with a GPU and a cloud model does."""
        self._answers("documented-version", "documented-tags", "documented-ps")

    def _answers(self, version: str, tags: str, ps: str) -> None:
        self.behaviours = {
            "/api/version": answer(fixture(f"{version}.json")),
            "/api/tags": answer(fixture(f"{tags}.json")),
            "/api/ps": answer(fixture(f"{ps}.json")),
        }

    def all(self, behaviour: Behaviour) -> None:
        """One behaviour for every endpoint."""
        self.behaviours = dict.fromkeys(("/api/version", "/api/tags", "/api/ps"), behaviour)

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        with conn, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                data = conn.recv(4096)
                if not data:
                    return
                request += data
            self.requests.append(request)
            path = request.split(b" ")[1].decode()
            self.behaviours.get(path, answer(b"404 page not found", "404 Not Found"))(conn)
