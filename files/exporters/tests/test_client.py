# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One question to Ollama, against every fault we know."""

from __future__ import annotations

import socket
import time
from typing import Any

import fault_server as fault
import pytest
from fault_server import FaultServer

from ollama_exporter.client import MAX_BODY_BYTES, AskError, Client, parse_address

TIMEOUT = 0.5
TAGS = "/api/tags"


def ask(ollama: FaultServer, behaviour: fault.Behaviour, **options: Any) -> Any:
    ollama.behaviours[TAGS] = behaviour
    return Client(parse_address(ollama.url), TIMEOUT, **options).get(TAGS)


def reason(ollama: FaultServer, behaviour: fault.Behaviour) -> str:
    began = time.monotonic()
    with pytest.raises(AskError) as error:
        ask(ollama, behaviour)
    assert time.monotonic() - began < TIMEOUT + 0.4
    assert str(error.value)
    return error.value.reason


def test_whole_answers(ollama: FaultServer) -> None:
    assert ask(ollama, fault.answer({"a": [1, 2.5, None]})) == {"a": [1, 2.5, None]}
    assert ask(ollama, fault.chunked(b'{"a"', b": 1}")) == {"a": 1}
    assert ask(ollama, fault.raw(b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}')) == {"a": 1}


def test_request(ollama: FaultServer) -> None:
    ollama.behaviours["/behind/api/tags"] = fault.answer({})
    Client(parse_address(ollama.url + "/behind/"), TIMEOUT, "the-key").get(TAGS)
    lines = ollama.requests[-1].decode().splitlines()
    assert lines[0] == "GET /behind/api/tags HTTP/1.1"
    assert f"Host: 127.0.0.1:{ollama.port}" in lines
    assert "Authorization: Bearer the-key" in lines
    ask(ollama, fault.answer({}))
    assert b"authorization" not in ollama.requests[-1].lower()


@pytest.mark.parametrize(
    ("expected", "behaviour"),
    [
        ("timeout", fault.silent),
        ("timeout", fault.drip),
        ("timeout", fault.stops_in_chunks),
        ("timeout", fault.never_final),
        ("connect", fault.raw(b"")),
        ("connect", fault.reset_in_body),
        ("connect", fault.raw(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"models": []}')),
        ("connect", fault.chunked(b'{"models": []}', end=False)),
        ("http_status", fault.answer({"error": "x"}, "500 Internal Server Error")),
        ("http_status", fault.answer({"error": "x"}, "404 Not Found")),
        ("http_status", fault.answer({"error": "busy"}, "503 Service Unavailable")),
        ("http_status", fault.answer({}, "302 Found", "Location: /login\r\n")),
        ("http_status", fault.raw(b"HTTP/1.1 204 No Content\r\n\r\n")),
        ("unauthorized", fault.answer({}, "401 Unauthorized", "WWW-Authenticate: Bearer\r\n")),
        ("unauthorized", fault.answer({}, "403 Forbidden")),
        ("invalid", fault.answer(b"<!DOCTYPE html><html><body>Welcome</body></html>")),
        ("invalid", fault.answer(b"")),
        ("invalid", fault.answer(b'{"models": [')),
        ("invalid", fault.answer(b"\xff\xfe\x00")),
        ("invalid", fault.answer(b'{"size": NaN}')),
        ("invalid", fault.answer(b'{"size": ' + b"9" * 1_000_000 + b"}")),
        ("invalid", fault.answer(b"[" * 200_000)),
        ("invalid", fault.raw(b"SSH-2.0-OpenSSH_9.2\r\n")),
        ("invalid", fault.raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")),
        ("too_large", fault.answer(b" " * (MAX_BODY_BYTES + 1))),
        ("too_large", fault.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")),
        ("too_large", fault.endless),
    ],
)
def test_faults(ollama: FaultServer, expected: str, behaviour: fault.Behaviour) -> None:
    assert reason(ollama, behaviour) == expected


def test_redirects_are_not_followed(ollama: FaultServer) -> None:
    ollama.behaviours["/login"] = fault.answer({"models": []})
    with pytest.raises(AskError, match="302.*redirect to '/login'"):
        ask(ollama, fault.answer({}, "302 Found", "Location: /login\r\n"))
    assert len(ollama.requests) == 1


def test_nobody_listens(ollama: FaultServer) -> None:
    ollama.close()
    assert reason(ollama, fault.silent) == "connect"


def test_name_that_does_not_exist() -> None:
    with pytest.raises(AskError) as error:
        Client(parse_address("http://no-such-host.invalid:1"), TIMEOUT).get(TAGS)
    assert error.value.reason == "connect"


def test_full_backlog_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        with pytest.raises(AskError) as error:
            Client(parse_address(f"http://127.0.0.1:{address[1]}"), TIMEOUT).get(TAGS)
        for filler in fillers:
            filler.close()
    assert error.value.reason == "timeout"


def test_plain_server_asked_over_tls(ollama: FaultServer) -> None:
    with pytest.raises(AskError) as error:
        Client(parse_address(f"https://127.0.0.1:{ollama.port}"), TIMEOUT).get(TAGS)
    assert error.value.reason in ("connect", "timeout")


def test_secret_is_in_no_message(ollama: FaultServer) -> None:
    with pytest.raises(AskError) as error:
        ask(ollama, fault.answer({}, "401 Unauthorized"), api_key="the-key")
    assert "the-key" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "authority", "port", "prefix"),
    [
        ("http://127.0.0.1:11434", "127.0.0.1:11434", 11434, ""),
        ("http://127.0.0.1:11434/", "127.0.0.1:11434", 11434, ""),
        ("http://[::1]:11434", "[::1]:11434", 11434, ""),
        ("http://gpu1.lan", "gpu1.lan", 80, ""),
        ("https://gpu1.lan/ollama/", "gpu1.lan", 443, "/ollama"),
        ("HTTPS://gpu1.lan:8443/a/b", "gpu1.lan:8443", 8443, "/a/b"),
    ],
)
def test_addresses(text: str, authority: str, port: int, prefix: str) -> None:
    address = parse_address(text)
    assert (address.authority, address.port, address.prefix) == (authority, port, prefix)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "http://"),
        ("127.0.0.1:11434", "http://"),
        ("localhost", "http://"),
        ("ftp://127.0.0.1", "http://"),
        ("http://", "http://"),
        ("http://host:port", "not a web address"),
        ("http://host:99999", "not a web address"),
        ("http://[::1", "not a web address"),
        ("http://a b", "blank"),
        ("http://höst", "no web address has"),
        ("http://host\r\nX: y", "no web address has"),
        ("http://user:secret@host", "--ollama.api-key-file"),
        ("http://host?key=1", "without"),
        ("http://host#x", "without"),
        ("http://" + "a" * 64 + ".lan", "not a web address"),
        ("http://a..b", "not a web address"),
    ],
)
def test_bad_addresses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_address(text)
    assert "secret" not in str(error.value)
