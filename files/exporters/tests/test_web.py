# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP server and its configuration file."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge

from ollama_exporter import web, web_config
from ollama_exporter.web import Page, WebServer, metrics_page, text
from ollama_exporter.web_config import ConfigError, Logins, WebConfig, load

# The password is "secret", the cost the lowest there is.
HASH = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"


@contextlib.contextmanager
def serving(
    pages: dict[str, Page] | None = None, config: WebConfig | None = None, host: str = "127.0.0.1"
) -> Iterator[int]:
    """A running server's port."""
    server = WebServer(host, 0, pages or {"/": lambda _request: text(200, "hello\n")}, config or WebConfig())
    server.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def get(port: int, path: str = "/", headers: dict[str, str] | None = None, method: str = "GET", tls: Any = None) -> Any:
    """The response, with its body in ``body``."""
    if tls:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection("127.0.0.1", port, context=tls, timeout=5)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers or {})
        response: Any = connection.getresponse()
        response.body = response.read()
        return response


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_pages() -> None:
    with serving() as port:
        assert (get(port).status, get(port).body) == (200, b"hello\n")
        assert get(port, "/?x=1").status == 200
        assert get(port, "/nothing").status == 404
        head = get(port, method="HEAD")
        assert (head.status, head.body, head.getheader("Content-Length")) == (200, b"", "6")
        assert get(port, method="POST").status == 501
        assert get(port).getheader("Server") == "exporter"


def test_connection_is_kept() -> None:
    with serving() as port, contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for _ in range(3):
            connection.request("GET", "/")
            sock = connection.sock
            assert connection.getresponse().read() == b"hello\n"
            assert connection.sock is sock


def test_body_is_not_the_next_request() -> None:
    with serving() as port, socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        body = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := sock.recv(4096):
                data += chunk
    assert data.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in data


def test_metrics_formats() -> None:
    registry = CollectorRegistry()
    Gauge("a", "A.", registry=registry).set(1)
    Gauge("b", "B.", registry=registry).set(2)
    with serving({"/metrics": metrics_page(registry)}) as port:
        plain = get(port, "/metrics")
        assert plain.getheader("Content-Type").startswith("text/plain; version=0.0.4")
        assert b"a 1.0\n" in plain.body
        accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.3"
        openmetrics = get(port, "/metrics", {"Accept": accept})
        assert openmetrics.getheader("Content-Type").startswith("application/openmetrics-text; version=1.0.0")
        assert openmetrics.body.endswith(b"# EOF\n")
        packed = get(port, "/metrics", {"Accept-Encoding": "gzip"})
        assert packed.getheader("Content-Encoding") == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert b"b 2.0" not in get(port, "/metrics?name[]=a").body
        assert get(port, "/metrics", {"Accept": "text/plain;version=nonsense"}).status in (200, 500)
        assert get(port, "/metrics").status == 200


def test_page_that_fails_is_a_500_and_no_end(caplog: pytest.LogCaptureFixture) -> None:
    with serving({"/": lambda _request: 1 / 0}) as port:  # type: ignore[dict-item,return-value]
        response = get(port)
        assert response.status == 500
        assert b"ZeroDivisionError" not in response.body
        assert get(port).status == 500
    assert "page failed" in caplog.text


def test_ipv6() -> None:
    with serving(host="::1") as port, socket.create_connection(("::1", port), timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
    for host in ("", "::"):
        with serving(host=host) as port:
            assert get(port).status == 200, "an IPv4 client reaches the dual-stack socket"


def test_taken_port() -> None:
    with serving() as port, pytest.raises(OSError, match="in use"):
        WebServer("127.0.0.1", port, {}, WebConfig())


def test_slow_page_holds_nobody() -> None:
    hold = threading.Event()

    def slow(_request: Any) -> web.Response:
        hold.wait(10)
        return text(200, "")

    with serving({"/slow": slow, "/": lambda _request: text(200, "")}) as port:
        thread = threading.Thread(target=get, args=(port, "/slow"))
        thread.start()
        began = time.monotonic()
        assert get(port).status == 200
        assert time.monotonic() - began < 1
        hold.set()
        thread.join()


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_CONNECTIONS", 2)
    with serving() as port:
        held = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(2)]
        for sock in held:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(4096)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as refused:
            assert refused.recv(1) == b""
        for sock in held:
            sock.close()
        time.sleep(0.2)
        assert get(port).status == 200


# --- logins ---


@pytest.fixture(params=["package", "libcrypt"])
def verifier(request: pytest.FixtureRequest) -> web_config.Verify:
    if request.param == "package":
        pytest.importorskip("bcrypt", reason="the optional package bcrypt is not installed")
        return web_config._bcrypt_package()
    return web_config._libcrypt()


def test_logins(verifier: web_config.Verify) -> None:
    with serving(config=WebConfig(logins=Logins({"alice": HASH}, verifier))) as port:
        for _ in range(2):
            assert get(port, headers=basic("alice", "secret")).status == 200
        refused = get(port)
        assert (refused.status, refused.getheader("WWW-Authenticate")) == (401, "Basic")
        wrong = [
            basic("alice", "Secret"), basic("alice", ""), basic("bob", "secret"), basic("", "secret"),
            basic("alice", "secret\0"), basic("alice", "s" * 200), basic("é", "é"),
            {"Authorization": "Bearer secret"}, {"Authorization": "Basic ???"}, {"Authorization": "Basic YWxpY2U="},
        ]  # fmt: skip
        for headers in wrong:
            assert get(port, headers=headers).status == 401, headers
        assert get(port, "/nothing").status == 401, "pages are not told apart without a login"


def test_a_right_login_is_hashed_once() -> None:
    calls = []

    def verify(password: bytes, _value: bytes) -> bool:
        calls.append(password)
        return password == b"secret"

    logins = Logins({"alice": HASH}, verify)
    good, bad, unknown = (
        basic(*pair)["Authorization"] for pair in (("alice", "secret"), ("alice", "x"), ("bob", "secret"))
    )
    assert logins.allow(good)
    assert logins.allow(good)
    assert len(calls) == 1
    assert not logins.allow(bad)
    assert not logins.allow(bad)
    assert not logins.allow(unknown)
    assert len(calls) == 4, "an unknown user costs a hash too"


def test_no_bcrypt_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ImportError

    monkeypatch.setattr(web_config, "_bcrypt_package", missing)
    monkeypatch.setattr(web_config, "_libcrypt", missing)
    with pytest.raises(ConfigError, match="needs bcrypt.*install the Python package bcrypt"):
        web_config.bcrypt_verifier()


def test_libcrypt_without_bcrypt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # As glibc's own old libcrypt: it answers, but not with a bcrypt hash.
    monkeypatch.setattr(web_config, "_bcrypt_package", lambda: lambda _password, _value: False)
    monkeypatch.setattr(web_config, "_libcrypt", lambda: lambda _password, _value: False)
    with pytest.raises(ConfigError):
        web_config.bcrypt_verifier()


# --- TLS ---


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, a server and a client of it, a stranger, and an encrypted key."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for name in ("ca", "stranger"):
        openssl("req", "-x509", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    for name in ("server", "client"):
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                "-extfile", "extensions", "-out", f"{name}.crt")  # fmt: skip
    openssl("ec", "-in", "server.key", "-aes128", "-passout", "pass:x", "-out", "locked.key")
    return folder


def written(folder: Path, document: Any) -> str:
    path = folder / "web.yml"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def client_context(folder: Path, certificate: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if certificate:
        context.load_cert_chain(folder / f"{certificate}.crt", folder / f"{certificate}.key")
    return context


TLS = {"cert_file": "server.crt", "key_file": "server.key"}
MUTUAL = {**TLS, "client_ca_file": "ca.crt"}


@pytest.mark.parametrize(
    ("table", "none", "good", "stranger"),
    [
        (TLS, True, True, True),
        (MUTUAL, False, True, False),
        ({**MUTUAL, "client_auth_type": "RequireAndVerifyClientCert"}, False, True, False),
        ({**MUTUAL, "client_auth_type": "VerifyClientCertIfGiven", "min_version": "TLS13"}, True, True, False),
    ],
)
def test_client_certificates(certificates: Path, table: Any, none: bool, good: bool, stranger: bool) -> None:
    config = load(written(certificates, {"tls_server_config": table}))
    with serving(config=config) as port:
        for certificate, allowed in (("", none), ("client", good), ("stranger", stranger)):
            context = client_context(certificates, certificate)
            if allowed:
                assert get(port, tls=context).body == b"hello\n"
            else:
                with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                    get(port, tls=context)
        old = client_context(certificates, "client")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        if "min_version" in table:
            with pytest.raises(ssl.SSLError):
                get(port, tls=old)
        else:
            assert get(port, tls=old).status == 200


def test_half_a_handshake_holds_nobody(certificates: Path) -> None:
    config = load(written(certificates, {"tls_server_config": TLS}))
    with serving(config=config) as port, socket.create_connection(("127.0.0.1", port)):
        began = time.monotonic()
        assert get(port, tls=client_context(certificates)).status == 200
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            get(port)  # without TLS
        assert get(port, tls=client_context(certificates)).status == 200
        assert time.monotonic() - began < 2


def test_login_over_tls(certificates: Path) -> None:
    config = load(written(certificates, {"tls_server_config": TLS, "basic_auth_users": {"alice": HASH}}))
    with serving(config=config) as port:
        assert get(port, tls=client_context(certificates)).status == 401
        assert get(port, headers=basic("alice", "secret"), tls=client_context(certificates)).status == 200


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("tls_server_config:\n  cert_file: [", "not JSON|neither JSON nor YAML"),
        ([], "the file must be a mapping"),
        ({"tls_config": {}}, "'tls_config', which this exporter does not know"),
        ({"http_server_config": {"http2": True}}, "does not know"),
        ({"tls_server_config": []}, ""),
        ({"tls_server_config": "yes"}, "tls_server_config must be a mapping"),
        ({"tls_server_config": {"cert_file": "server.crt"}}, "both cert_file and key_file"),
        ({"tls_server_config": {**TLS, "cert_file": 1}}, "cert_file must be a path"),
        ({"tls_server_config": {**TLS, "cert_file": "none.crt"}}, "none.crt.*No such file"),
        ({"tls_server_config": {**TLS, "key_file": "client.key"}}, "cannot be used together"),
        ({"tls_server_config": {**TLS, "key_file": "locked.key"}}, "cannot be used together"),
        ({"tls_server_config": {**TLS, "client_ca_file": "none.crt"}}, "none.crt.*No such file"),
        ({"tls_server_config": {**TLS, "client_ca_file": "ca.key"}}, "ca.key cannot be used"),
        ({"tls_server_config": {**TLS, "client_auth_type": "RequireAndVerifyClientCert"}}, "needs client_ca_file"),
        ({"tls_server_config": {**MUTUAL, "client_auth_type": "NoClientCert"}}, "remove one"),
        ({"tls_server_config": {**MUTUAL, "client_auth_type": "RequireAnyClientCert"}}, "can do NoClientCert"),
        ({"tls_server_config": {**TLS, "min_version": "TLS10"}}, "can do TLS12, TLS13"),
        ({"tls_server_config": {**TLS, "client_allowed_sans": ["x"]}}, "does not know"),
        ({"basic_auth_users": ["alice"]}, "basic_auth_users must be a mapping"),
        ({"basic_auth_users": {"alice": "plain-password"}}, "basic_auth_users.alice is not a bcrypt hash"),
        ({"basic_auth_users": {"a:b": HASH}}, "without a colon"),
    ],
)
def test_bad_configuration(certificates: Path, document: Any, message: str) -> None:
    path = written(certificates, document)
    if not message:  # an empty section is no section
        assert load(path) == WebConfig()
        return
    with pytest.raises(ConfigError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value)
    assert "plain-password" not in str(error.value)


def test_configuration_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(written(tmp_path, "")) == load(written(tmp_path, "{}")) == WebConfig()
    with pytest.raises(ConfigError, match="No such file"):
        load(str(tmp_path / "none.yml"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(tmp_path / "binary"))
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConfigError, match="write it as JSON, which is valid YAML, or install PyYAML"):
        load(written(tmp_path, "basic_auth_users:\n  alice: x\n"))


def test_yaml_where_it_can_be_read(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="the optional package PyYAML is not installed")
    logins = load(written(tmp_path, f"basic_auth_users:\n  alice: {HASH}\n")).logins
    assert logins is not None
    assert logins.allow(basic("alice", "secret")["Authorization"])
    with pytest.raises(ConfigError, match="neither JSON nor YAML"):
        load(written(tmp_path, "a: [\n"))
