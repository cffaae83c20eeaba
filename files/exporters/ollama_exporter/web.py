# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small HTTP/1.1 server for a few pages, with TLS and logins. Knows nothing of Ollama."""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Iterable, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import Any, Callable, NamedTuple
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, make_wsgi_app

from .web_config import WebConfig

_log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
# Longer than between two scrapes, so that Prometheus keeps its connection.
_IDLE_SECONDS = 90.0
_HANDSHAKE_SECONDS = 10.0


class Request(NamedTuple):
    """A GET request."""

    path: str
    query: str
    headers: Message


class Response(NamedTuple):
    """An answer; Content-Length is added."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Page = Callable[[Request], Response]


def text(status: int, body: str) -> Response:
    """Return a plain-text answer."""
    return Response(status, [("Content-Type", "text/plain; charset=utf-8")], body.encode())


def metrics_page(registry: CollectorRegistry) -> Page:
    """Return the page of a registry: prometheus_client chooses the format, compresses, and knows ``name[]``."""
    application = make_wsgi_app(registry)

    def page(request: Request) -> Response:
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query,
            "HTTP_ACCEPT": request.headers.get("Accept", ""),
            "HTTP_ACCEPT_ENCODING": request.headers.get("Accept-Encoding", ""),
        }
        started: list[tuple[str, list[tuple[str, str]]]] = []
        body: Iterable[bytes] = application(environ, lambda status, headers: started.append((status, headers)))
        status, headers = started[0]
        return Response(int(status.split()[0]), [*headers, ("Vary", "Accept, Accept-Encoding")], b"".join(body))

    return page


class WebServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves ``pages`` by path. Listens once constructed; answers after ``start``."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, pages: Mapping[str, Page], config: WebConfig) -> None:
        """Listen on ``host`` (a name or an address; empty: all of them) and ``port`` (0: a free one); raise OSError."""
        self.pages = pages
        self.config = config
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        family, address = _resolve(host, port)
        self.address_family = family
        super().__init__(address, _Handler, bind_and_activate=False)
        try:
            if family == socket.AF_INET6 and address[0] == "::":
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            self.server_bind()
            self.server_activate()
        except OSError:
            self.server_close()
            raise

    @property
    def address(self) -> str:
        """Where it listens, as host:port."""
        host, port = self.server_address[:2]
        return f"[{host!s}]:{port}" if self.address_family == socket.AF_INET6 else f"{host!s}:{port}"

    def start(self) -> None:
        """Answer in a thread of its own."""
        threading.Thread(target=self.serve_forever, name="web", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            _log.warning("too many connections, one refused", extra={"fields": {"limit": MAX_CONNECTIONS}})
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.config.tls is None:
            super().finish_request(request, client_address)
            return
        # Here, in the connection's own thread: a slow handshake must not keep others waiting.
        request.settimeout(_HANDSHAKE_SECONDS)
        with self.config.tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("connection failed", exc_info=True, extra={"fields": {"client": client_address[0]}})


class _Handler(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    # One packet an answer; without it the kernel may hold the second one back.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # an unread body would be taken for the next request
        response = self._response()
        self.send_response(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_HEAD = do_GET

    def _response(self) -> Response:
        logins = self.server.config.logins
        if logins is not None and not logins.allow(self.headers.get("Authorization", "")):
            refusal = text(401, "Unauthorized\n")
            refusal.headers.append(("WWW-Authenticate", "Basic"))
            return refusal
        try:
            target = urlsplit(self.path)
            page = self.server.pages.get(target.path)
            if page is None:
                return text(404, "Not found\n")
            return page(Request(target.path, target.query, self.headers))
        except Exception:
            _log.exception("page failed", extra={"fields": {"path": self.path}})
            return text(500, "Internal error; the exporter's log says more\n")

    def version_string(self) -> str:
        return "exporter"

    def log_message(self, format: str, *args: Any) -> None:
        fields = {"client": self.client_address[0], "request": format % args}
        _log.debug("request", extra={"fields": fields})


def _resolve(host: str, port: int) -> tuple[int, tuple[Any, ...]]:
    if not host:
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return int(found[0][0]), found[0][4]
