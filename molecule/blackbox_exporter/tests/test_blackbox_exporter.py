# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes tell what answers from what does not, and what is wrong with a module is refused before it is used."""

import base64
import re
import time

import pytest

DAY = 86400
# Web servers of Python's own library, one of them with TLS, and on 9090 one that wants the web log-in as Prometheus
# does.
# The ports 63xx are a STAND-IN for Redis, which knows nothing but how to answer PING.
SERVERS = '''
import http.server, socketserver, ssl, sys, threading

class Page(http.server.BaseHTTPRequestHandler):
    STATUS = {"/": 200, "/login": 401, "/broken": 503, "/moved": 302, "/-/ready": 200}
    def do_GET(self):
        wanted = sys.argv[1] if self.server.server_port == 9090 else None
        status = 401 if wanted and self.headers["Authorization"] != "Basic " + wanted else self.STATUS[self.path]
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/")
        self.end_headers()

class Redis(socketserver.StreamRequestHandler):
    SAYS = {6379: b"+PONG", 6380: b"-NOAUTH Authentication required.", 6381: b"-LOADING Redis is loading the dataset"}
    def handle(self):
        if self.rfile.readline().strip() == b"PING":
            self.wfile.write(self.SAYS[self.server.server_address[1]] + b"\\r\\n")

socketserver.ThreadingTCPServer.allow_reuse_address = True
servers = [http.server.ThreadingHTTPServer(("127.0.0.1", port), Page) for port in (8001, 8443, 9090)]
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/etc/front_door.pem")
servers[1].socket = tls.wrap_socket(servers[1].socket, server_side=True)
servers += [socketserver.ThreadingTCPServer(("127.0.0.1", port), Redis) for port in Redis.SAYS]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
'''


@pytest.fixture(scope="module", autouse=True)
def servers(host, web_login, eventually):
    """What is probed; the certificate ends in ten days."""
    host.check_output(
        "cd /etc && openssl req -x509 -newkey rsa:2048 -nodes -keyout front_door.key -out front_door.crt -days 10 "
        "-subj /CN=front.test -addext subjectAltName=DNS:front.test,IP:127.0.0.1 && "
        "cat front_door.crt front_door.key > front_door.pem && chmod 600 front_door.key front_door.pem")
    # By standard input: the log-in is nobody else's to read.
    host.check_output("umask 077 && printf %s %s > /run/servers.py && printf %s %s > /run/servers.login", "%s", SERVERS,
                      "%s", base64.b64encode(web_login.encode()).decode())
    host.check_output("systemd-run --unit=servers sh -c 'exec python3 /run/servers.py \"$(cat /run/servers.login)\"'")
    eventually(lambda: host.socket("tcp://127.0.0.1:6381").is_listening)
    yield
    host.check_output("systemctl stop servers && rm -f /etc/front_door.* /run/servers.*")


@pytest.fixture(scope="module")
def probe(ask):
    """probe("http_2xx", "http://…"): what the exporter found out, its metrics without labels."""
    def question(module, target):
        answer = ask(":9115/probe", module=module, target=target)
        assert answer.status == 200, answer.text
        return {name: float(value) for name, value in re.findall(r"^(probe_\w+) (\S+)$", answer.text, re.MULTILINE)}
    return question


@pytest.mark.parametrize(("module", "target", "success"), [
    ("http_2xx", "http://127.0.0.1:8001/", 1),
    ("http_2xx", "http://127.0.0.1:8001/broken", 0),
    ("http_2xx", "http://127.0.0.1:8001/login", 0),
    ("http_2xx", "http://127.0.0.1:8002/", 0),
    ("http_2xx", "https://127.0.0.1:8443/", 1),
    ("front_door", "http://127.0.0.1:8001/", 1),
    ("front_door", "http://127.0.0.1:8001/moved", 1),
    ("front_door", "http://127.0.0.1:8001/login", 1),
    ("front_door", "http://127.0.0.1:8001/broken", 0),
    ("front_door", "https://127.0.0.1:8443/", 0),
    ("tcp_connect", "127.0.0.1:6379", 1),
    ("tcp_connect", "127.0.0.1:6378", 0),
    ("redis_ping", "127.0.0.1:6379", 1),
    ("redis_ping", "127.0.0.1:6380", 1),
    ("redis_ping", "127.0.0.1:6381", 0),
    ("redis_ping", "127.0.0.1:8001", 0),
])
def test_it_tells_what_answers_from_what_does_not(probe, module, target, success):
    assert probe(module, target)["probe_success"] == success


def test_it_says_when_a_certificate_ends(probe):
    left = probe("http_2xx", "https://127.0.0.1:8443/")["probe_ssl_earliest_cert_expiry"] - time.time()
    assert 9.9 * DAY < left <= 10 * DAY


def test_it_logs_in_where_the_web_log_in_is_wanted(host, probe, web_login):
    assert probe("http_2xx", "http://127.0.0.1:9090/-/ready")["probe_http_status_code"] == 401
    assert probe("prometheus", "http://127.0.0.1:9090/-/ready")["probe_success"] == 1
    assert not host.check_output("grep -rlF %s /etc/blackbox_exporter /etc/systemd || true", web_login.split(":", 1)[1])


def test_it_has_no_capability(host, main_pid):
    text = host.file(f"/proc/{main_pid('blackbox_exporter')}/status").content_string
    assert set(re.findall(r"^Cap(?:Prm|Eff|Bnd|Amb):\s+([0-9a-f]+)$", text, re.MULTILINE)) == {"0" * 16}


class TestReload:
    """A module comes and goes without a restart, and what is wrong is refused while the old ones serve on."""

    CHANGES = {"blackbox_exporter_authority": "/etc/front_door.crt",
               "blackbox_exporter_extra_modules": {"own": {"prober": "http", "http": {
                   "valid_status_codes": [503], "basic_auth": {"username": "me", "password": "own-7c1d"}}}}}

    @pytest.fixture(scope="class")
    def changed(self, host, site):
        """The outcome of a run with changes; they are taken back afterwards, and all is as it was."""
        def state():
            return host.check_output("cd /etc/blackbox_exporter && find . -type f | sort | xargs sha256sum")
        before = state()
        yield site("--diff", **self.CHANGES)
        assert "/etc/blackbox_exporter/blackbox.yml" in site().changing["blackbox_exporter"]["files"]["change"]
        assert state() == before

    def test_a_module_of_the_users_own(self, probe, changed):
        assert probe("own", "http://127.0.0.1:8001/broken")["probe_success"] == 1
        assert "own-7c1d" not in changed.text

    def test_an_authority_of_the_users_own(self, probe, changed):
        assert probe("front_door", "https://127.0.0.1:8443/")["probe_success"] == 1

    def test_a_timeout_is_reloaded(self, site, main_pid, changed):
        pid = main_pid("blackbox_exporter")
        outcome = site(**self.CHANGES, blackbox_exporter_timeout="3s")
        assert outcome.changing["blackbox_exporter"]["service"] == "reload"
        assert main_pid("blackbox_exporter") == pid
        assert site(**self.CHANGES).changing["blackbox_exporter"]["service"] == "reload"

    @pytest.mark.parametrize(("module", "words"), [
        ({"prober": "http", "http": {"valid_status": [200]}}, "valid_status not found"),
        ({"prober": "tcp", "tcp": {"query_response": [{"expect": "(("}]}}, "Could not compile regular expression"),
    ])
    def test_a_broken_module_is_refused(self, host, probe, site, main_pid, changed, module, words):
        pid = main_pid("blackbox_exporter")
        file = host.file("/etc/blackbox_exporter/blackbox.yml").content_string
        modules = self.CHANGES["blackbox_exporter_extra_modules"] | {"bad": module}
        outcome = site(refused=True, **self.CHANGES | {"blackbox_exporter_extra_modules": modules})
        assert "--config.check" in outcome.message and words in outcome.message
        assert main_pid("blackbox_exporter") == pid
        assert host.file("/etc/blackbox_exporter/blackbox.yml").content_string == file
        assert probe("http_2xx", "http://127.0.0.1:8001/")["probe_success"] == 1


def test_pings_cost_one_capability(ask, host, main_pid, probe, site):
    assert ask(":9115/probe", module="icmp", target="127.0.0.1").status == 400
    assert site(blackbox_exporter_icmp=True).changing["blackbox_exporter"]["service"] == "restart"
    assert probe("icmp", "127.0.0.1")["probe_success"] == 1
    text = host.file(f"/proc/{main_pid('blackbox_exporter')}/status").content_string
    assert re.search(r"^CapEff:\s+0000000000002000$", text, re.MULTILINE), "not CAP_NET_RAW alone"
    assert site().changing["blackbox_exporter"]["service"] == "restart"
