# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries a Grafana and its configuration before they replace the running one.

Grafana has no checker: what is wrong with a provisioning file stops it, what is wrong with a dashboard it only logs,
and what is wrong with a log-in the first person finds out. So the new program is started here, on a copy of the
database and behind a socket in a folder of its own, with alerts, mails and whatever asks the outside switched off. Then
it is asked whether everything that its files declare is really there, and Keycloak whether it knows this client.

Runs as Grafana's own user, in its sandbox. Ends with 0, or with 1 and what is wrong and what to do, one problem a line.
"""
from __future__ import annotations

import argparse
import base64
import configparser
import contextlib
import glob
import hashlib
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

try:
    import sqlite3
except ImportError:
    sqlite3 = None  # type: ignore[assignment]

# The engine ends a checker after 240 s; with what else is asked here, it has something to say before that.
WITHIN = 150
# Grafana 13 goes on provisioning when it answers already.
SETTLE = 20
KEYCLOAK_TIMEOUT = 10
# Grafana's own rule for the uid of a dashboard.
UID = re.compile(r"^[a-zA-Z0-9\-_]{1,40}$")
FILE = re.compile(r"^\$__file\{(.*)\}$")


class Refused(Exception):
    """What is wrong, and what to do about it."""


# -- the files ---------------------------------------------------------------------------------------------------------

def read_settings(path: str) -> dict[str, dict[str, str]]:
    """grafana.ini as section -> key -> value, credentials read."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    with open(path, encoding="utf-8") as handle:
        parser.read_file(handle)
    return {section: {key: setting(value) for key, value in parser[section].items()} for section in parser.sections()}


def setting(value: str) -> str:
    if len(value) >= 6 and value.startswith('"""') and value.endswith('"""'):
        value = value[3:-3]
    found = FILE.match(value)
    if not found:
        return value
    try:
        with open(found.group(1), encoding="utf-8") as handle:
            return handle.read().strip()
    except OSError as error:
        raise Refused("grafana.ini names a file that can't be read: %s" % error) from error


def problems_of_dashboards(folder: str) -> tuple[dict[str, str], list[str]]:
    """uid -> file of the dashboards that may pass, and what is wrong with the others. Grafana would only log it."""
    uids: dict[str, str] = {}
    titles: dict[str, str] = {}
    problems = []
    found = glob.glob(os.path.join(folder, "**", "*.json"), recursive=True)
    # The user's own come last, so that it is they who are said to be in the way.
    for path in sorted(found, key=lambda path: (os.path.basename(path).startswith("extra-"), path)):
        name = os.path.basename(path)
        try:
            with open(path, encoding="utf-8") as handle:
                document = json.load(handle)
        except ValueError as error:
            problems.append("the dashboard %s is no JSON: %s. Export it from Grafana again, or mend it there"
                            % (name, error))
            continue
        if not isinstance(document, dict):
            problems.append("the dashboard %s holds a %s and no object: give the JSON model of a dashboard"
                            % (name, type(document).__name__))
            continue
        if "apiVersion" in document and "spec" in document:
            # The resource form that newer versions read as well: its name is the uid.
            document = dict(document["spec"], uid=(document.get("metadata") or {}).get("name"))
        elif "dashboard" in document and "title" not in document:
            problems.append("the dashboard %s is the answer of Grafana's API: keep only what is below \"dashboard\""
                            % name)
            continue
        problem = _problem_of_dashboard(document, uids, titles)
        if problem:
            problems.append("the dashboard %s %s" % (name, problem))
            continue
        uids[document["uid"]] = titles[document["title"]] = name
    return uids, problems


def _problem_of_dashboard(document: dict, uids: dict[str, str], titles: dict[str, str]) -> str:
    title, uid = document.get("title"), document.get("uid")
    if not title or not isinstance(title, str):
        return "has no title: give it one"
    if not uid or not isinstance(uid, str):
        proposal = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        return "has no uid: give it one that stays, such as \"%s\"" % proposal
    if not UID.match(uid):
        return "has the uid %r: at most 40 letters, digits, hyphens and underscores are allowed" % uid
    if uid in uids:
        return "has the uid %r, which is %s's already: Grafana would drop both. Give it another one" % (uid, uids[uid])
    if title in titles:
        return ("has the title %r, which is %s's already: in one folder Grafana shows only one of them. Give it "
                "another one" % (title, titles[title]))
    if document.get("__inputs"):
        return ("wants to be asked for its data sources (__inputs): it was exported for others. Export it without "
                "\"Export for sharing externally\"")
    return ""


# What Grafana is asked for, by the list in a provisioning file: (kind, key of its name, address of the list).
DECLARED = {
    "datasources": ("data source", "name", "/api/datasources"),
    "groups": ("alert rule", "uid", "/api/v1/provisioning/alert-rules"),
    "contactPoints": ("contact point", "uid", "/api/v1/provisioning/contact-points"),
    "muteTimes": ("mute timing", "name", "/api/v1/provisioning/mute-timings"),
    "templates": ("message template", "name", "/api/v1/provisioning/templates"),
}


def declared(folder: str) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Per list of DECLARED name -> file, and names that stand in two places. Only JSON can be read here; what somebody
    placed as YAML is Grafana's own to judge."""
    found: dict[str, dict[str, str]] = {key: {} for key in DECLARED}
    problems = []
    for path in sorted(glob.glob(os.path.join(folder, "*", "*.y*ml")) + glob.glob(os.path.join(folder, "*", "*.json"))):
        name = os.path.basename(path)
        try:
            with open(path, encoding="utf-8") as handle:
                document = json.load(handle)
        except (OSError, ValueError):
            continue
        for key in DECLARED:
            kind, label, _address = DECLARED[key]
            for number, item in enumerate(_items(document, key), 1):
                own = str(item.get(label) or "").replace("$$", "$")
                if not own:
                    problems.append("%s: the %s number %d has no %s: give it one" % (name, kind, number, label))
                elif own in found[key]:
                    problems.append("the %s %r is declared in %s and in %s: one of them must go"
                                    % (kind, own, found[key][own], name))
                else:
                    found[key][own] = name
    return found, problems


def _items(document: object, key: str) -> list[dict]:
    """The declared things below one key of a provisioning document."""
    given = document.get(key) if isinstance(document, dict) else None
    items = [item for item in given or [] if isinstance(item, dict)]
    inner = {"groups": "rules", "contactPoints": "receivers"}.get(key)
    if inner:
        return [item for outer in items for item in outer.get(inner) or [] if isinstance(item, dict)]
    return items


# -- what Grafana says -------------------------------------------------------------------------------------------------

SAYING = ("msg", "file", "error", "err", "reason")


def complaints(log: str) -> tuple[list[str], list[str]]:
    """What a Grafana's log says is wrong, oldest first, each once; and of it the last words of one that ended."""
    result: list[str] = []
    last: list[str] = []
    for line in log.splitlines():
        text = ""
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("level") in ("error", "eror", "crit", "critical"):
                    text = ": ".join(str(entry[key]) for key in SAYING if entry.get(key))
        elif re.match(r"^(Error:|panic:|fatal)", line):
            text = re.sub(r"^Error:\s*(\u2717\s*)?", "", line).strip()
            last.append(text)
        # What is cut off by the end is not its cause.
        if text and text not in result and "context canceled" not in text:
            result.append(text)
    return result, last


ADVICE = [
    # (what Grafana says, what it is, what to do)
    (r"[Mm]igration|migrat", "the database can't be brought to this version",
     "stay with the version that runs, and look for that message in Grafana's notes on upgrading"),
    (r"[Dd]atasource provisioning|provision data ?sources", "a data source is refused",
     "mend it in grafana_extra_data_sources, or in the file below /etc/grafana/provisioning/datasources"),
    (r"[Aa]lerting provisioning|failure to (map|parse) file|alert rules:|contact points:|notification policies:|"
     r"mute times:|text templates:",
     "an alert rule or contact point is refused",
     "mend it in observability_notifications or grafana_extra_…, or in /etc/grafana/provisioning/alerting"),
    (r"[Dd]ashboard provision|[Ff]ailed to provision dashboard|Failed to create provisioner",
     "a dashboard provider is refused", "mend the file below /etc/grafana/provisioning/dashboards"),
    (r"app provisioning", "a plugin's settings are refused",
     "mend the file below /etc/grafana/provisioning/plugins"),
    (r"cert|key pair|x509", "a certificate can't be used", "check the paths in grafana_web_tls and who may read them"),
    (r"database disk image is malformed|file is not a database", "the database is damaged",
     "restore /var/lib/grafana/grafana.db from a backup"),
    (r"grafana\.ini|\bsettings? |root_url|[Ff]ailed to parse|unsupported|expanding", "a setting is refused",
     "mend it in grafana_extra_settings"),
]


def explain(log: str, ended: str) -> str:
    """One sentence about a Grafana that did not start, with its own words."""
    said, last = complaints(log)
    said = last or said
    for pattern, what, todo in ADVICE:
        hits = [text for text in said if re.search(pattern, text)]
        if hits:
            return "%s: %s. What to do: %s" % (what, hits[-1], todo)
    return ("Grafana does not start with the new configuration (%s)%s. What to do: mend what it complains of, then run "
            "again" % (ended, ": " + said[-1] if said else ""))


# -- the scratch copy --------------------------------------------------------------------------------------------------

class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in a folder."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Scratch:
    """The new program, on a copy of the database."""

    def __init__(self, program: str, config: str, data: str, settings: dict[str, dict[str, str]]) -> None:
        self._program = program
        self._ini = os.path.join(config, "grafana.ini")
        self._data = data
        self.folder = tempfile.mkdtemp(prefix="grafana-")
        self._log = os.path.join(self.folder, "log")
        # A path of a socket may have 107 characters.
        self._socket = os.path.join(self.folder, "s")
        # Worth nothing outside of that folder, so it may stand on a command line.
        self._password = secrets.token_urlsafe(24)
        self._user = (settings.get("security") or {}).get("admin_user") or "admin"
        self._process: subprocess.Popen | None = None
        # Nothing leaves: requests go to a port where nobody is, those to the data sources are not asked for at all.
        self._environment = dict(os.environ, HTTP_PROXY="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9",
                                 NO_PROXY="", HOME=self.folder)

    def overrides(self) -> list[str]:
        """What differs from the real one. A setting that the version doesn't know is ignored by Grafana."""
        folder = self.folder
        values = {
            "paths.data": os.path.join(folder, "data"), "paths.logs": os.path.join(folder, "logs"),
            "server.protocol": "socket", "server.socket": self._socket,
            "database.type": "sqlite3", "database.url": "", "database.path": "grafana.db",
            "security.admin_password": self._password, "auth.basic.enabled": "true", "auth.disable_login": "false",
            "security.disable_initial_admin_creation": "false",
            "unified_alerting.execute_alerts": "false", "smtp.enabled": "false",
            "unified_alerting.ha_listen_address": "", "unified_alerting.ha_peers": "",
            "unified_alerting.ha_redis_address": "", "remote_cache.type": "database",
            "analytics.reporting_enabled": "false", "analytics.check_for_updates": "false",
            "analytics.check_for_plugin_updates": "false", "news.news_feed_enabled": "false",
            "plugins.preinstall_disabled": "true", "plugins.preinstall_auto_update": "false",
            "plugins.public_key_retrieval_disabled": "true", "metrics.graphite.address": "",
            "tracing.opentelemetry.otlp.address": "", "tracing.opentelemetry.jaeger.address": "",
            "log.mode": "console", "log.level": "info", "log.console.level": "", "log.console.format": "json",
        }
        return ["cfg:%s=%s" % pair for pair in values.items()]

    def copy_database(self) -> bool:
        """A consistent copy of the running database; False where there is none yet."""
        source = os.path.join(self._data, "grafana.db")
        target = os.path.join(self.folder, "data", "grafana.db")
        os.makedirs(os.path.dirname(target))
        if not os.path.exists(source):
            return False
        if sqlite3 is None:
            raise Refused("the Python of this host (%s) has no sqlite3, without which Grafana's database can't be "
                          "copied. What to do: install the distribution's full Python (python3), or set "
                          "ansible_python_interpreter to one that has it" % sys.executable)
        try:
            with contextlib.closing(sqlite3.connect("file:%s?mode=ro" % urllib.parse.quote(source), uri=True,
                                                    timeout=30)) as real, \
                    contextlib.closing(sqlite3.connect(target)) as copy:
                real.backup(copy)
                self._set_password(copy)
        except sqlite3.Error as error:
            raise Refused("the database %s can't be read: %s. What to do: see whether the disk is full, and restore it "
                          "from a backup if it is damaged" % (source, error)) from error
        return True

    def _set_password(self, database: sqlite3.Connection) -> None:
        """In the copy, the admin gets this run's password, as Grafana would keep it."""
        salt = secrets.token_hex(5)
        kept = hashlib.pbkdf2_hmac("sha256", self._password.encode(), salt.encode(), 10000, 50).hex()
        changed = database.execute("UPDATE user SET password = ?, salt = ?, is_disabled = 0 "
                                   "WHERE login = ? AND is_admin = 1", (kept, salt, self._user))
        if changed.rowcount == 0:
            raise Refused("Grafana has no server admin %r any more, as whom it is asked. What to do: in Grafana, give "
                          "that login back to a server admin" % self._user)
        database.execute("DELETE FROM login_attempt")
        database.commit()

    def start(self) -> None:
        binary = os.path.join(self._program, "bin", "grafana")
        command = [binary, "server", "--homepath", self._program, "--config", self._ini]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(command + self.overrides(), stdin=subprocess.DEVNULL, stdout=log,
                                             stderr=log, cwd=self.folder, env=self._environment,
                                             start_new_session=True)

    def wait(self) -> None:
        """Until it is healthy; raises with its own words when it ends or takes too long."""
        deadline = time.monotonic() + WITHIN
        while True:
            self.must_run()
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                status, answer = self.ask("/api/health")
                if status == 200 and answer.get("database") == "ok":
                    return
            if time.monotonic() > deadline:
                raise Refused(explain(self.log(), "it did not answer within %d s" % WITHIN))
            time.sleep(0.2)

    def must_run(self, patience: float = 0) -> None:
        """Raises with Grafana's own words when it has ended, or does so within some seconds."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            ended = "it ended with exit status %d" % self._process.wait(patience)
            raise Refused(explain(self.log(), ended))

    def ask(self, address: str) -> tuple[int, Any]:
        connection = UnixConnection(self._socket, 10)
        try:
            token = base64.b64encode(("%s:%s" % (self._user, self._password)).encode()).decode()
            connection.request("GET", address, headers={"Authorization": "Basic " + token})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            return answer.status, json.loads(text or "null")
        finally:
            connection.close()

    def names(self, address: str, label: str) -> set[str]:
        status, answer = self.ask(address)
        if status != 200 or not isinstance(answer, list):
            raise Refused("Grafana answers %s with %d: %s. What to do: report it, with Grafana's version"
                          % (address, status, str(answer)[:300]))
        return {str(item.get(label)) for item in answer if isinstance(item, dict)}

    def log(self) -> str:
        try:
            with open(self._log, encoding="utf-8", errors="replace") as handle:
                return handle.read()
        except OSError:
            return ""

    def end(self) -> None:
        """Whatever happened: nothing of it goes on, nothing of it stays."""
        if self._process is not None:
            for sign, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(seconds)
                    break
            # Plugins that outlived it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def missing(scratch: Scratch, wanted: dict[str, dict[str, str]], dashboards: dict[str, str]) -> list[str]:
    """What the files declare and Grafana doesn't have, with its own words where it has some."""
    gone = []
    for key, names in wanted.items():
        kind, label, address = DECLARED[key]
        if names:
            there = scratch.names(address, label)
            gone += [(kind, name, file) for name, file in names.items() if name not in there]
    for uid, file in dashboards.items():
        status, _answer = scratch.ask("/api/dashboards/uid/%s" % uid)
        if status != 200:
            gone.append(("dashboard", uid, file))
    said = complaints(scratch.log())[0] if gone else []
    result = []
    for kind, name, file in gone:
        why = [text for text in said if file in text or name in text]
        result.append("Grafana does not take the %s %r of %s%s. What to do: mend it there" % (
            kind, name, file, ", and says: " + why[-1] if why else ""))
    return result


def settled(scratch: Scratch, wanted: dict[str, dict[str, str]], dashboards: dict[str, str]) -> list[str]:
    """What is still missing when it has had its time."""
    deadline = time.monotonic() + SETTLE
    while True:
        try:
            gone = missing(scratch, wanted, dashboards)
        except (OSError, http.client.HTTPException, ValueError) as error:
            scratch.must_run(1)  # a connection breaks a moment before the program is gone
            gone = ["Grafana stopped answering: %s. What to do: report it, with Grafana's version" % error]
        # One that says what is wrong won't take it later.
        if not gone or time.monotonic() > deadline or all(", and says: " in text for text in gone):
            return gone
        time.sleep(0.5)


# -- Keycloak ----------------------------------------------------------------------------------------------------------

class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments):
        return None


def problems_of_single_sign_on(settings: dict[str, dict[str, str]]) -> list[str]:
    """Whether Keycloak answers, knows this client with this secret, and would send people back to Grafana."""
    client = settings.get("auth.generic_oauth") or {}
    if client.get("enabled") != "true":
        return []
    openid = client["auth_url"].rsplit("/", 1)[0]
    issuer = openid.rsplit("/protocol/", 1)[0]
    realm = urllib.parse.unquote(issuer.rsplit("/", 1)[-1])
    try:
        context = ssl.create_default_context(cafile=client.get("tls_client_ca") or None)
    except OSError as error:
        return ["observability_single_sign_on.authority: %s can't be used: %s. What to do: give the PEM file of the "
                "authority on the target, readable by Grafana" % (client.get("tls_client_ca"), error)]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(), _NoRedirect,
                                         urllib.request.HTTPSHandler(context=context))

    def ask(url: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        body = urllib.parse.urlencode(form).encode() if form else None
        try:
            with opener.open(url, body, KEYCLOAK_TIMEOUT) as answer:
                return answer.status, answer.read(1 << 20).decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read(1 << 20).decode("utf-8", "replace")

    try:
        status, text = ask(issuer + "/.well-known/openid-configuration")
    except (OSError, http.client.HTTPException) as error:
        return [unreachable(issuer, getattr(error, "reason", None) or error)]
    if status == 404:
        return ["Keycloak has no realm %r: %s answers 404. What to do: check observability_single_sign_on.realm and "
                "url, or let keycloak_client make the realm (create_realm)" % (realm, issuer)]
    if status != 200 or '"token_endpoint"' not in text:
        return ["%s answers %d and is no Keycloak realm that is ready. What to do: check "
                "observability_single_sign_on.url, and Keycloak's log" % (issuer, status)]
    back = (settings.get("server") or {}).get("root_url", "").rstrip("/") + "/login/generic_oauth"
    try:
        problem = problem_of_secret(*ask(client["token_url"], {
            "grant_type": "authorization_code", "code": "tried-by-aistack", "redirect_uri": back,
            "client_id": client["client_id"], "client_secret": client.get("client_secret") or ""}),
            client["client_id"], realm)
        if problem:
            return [problem]
        status, text = ask(client["auth_url"] + "?" + urllib.parse.urlencode({
            "response_type": "code", "client_id": client["client_id"], "redirect_uri": back, "scope": "openid",
            "state": "tried", "code_challenge_method": "S256",
            "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(b"tried").digest()).rstrip(b"=").decode()}))
    except (OSError, http.client.HTTPException) as error:
        return [unreachable(issuer, getattr(error, "reason", None) or error)]
    if status == 400 and "redirect_uri" in text:
        return ["Keycloak would not send people back to %s. What to do: run with --tags keycloak_client, or add that "
                "address to the valid redirect URIs of the client %r" % (back, client["client_id"])]
    return []


def unreachable(issuer: str, error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ("Keycloak's certificate can't be verified: %s (%s). What to do: set "
                "observability_single_sign_on.authority to the authority that signed it, a PEM file on the target, or "
                "check the host name in url" % (error.verify_message, issuer))
    return ("Keycloak can't be reached at %s: %s. What to do: start it, or check observability_single_sign_on.url as "
            "seen from this host" % (issuer, error))


def problem_of_secret(status: int, text: str, client_id: str, realm: str) -> str:
    """What the token endpoint says to a code that never was: empty when it minds the code alone."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    error = answer.get("error") if isinstance(answer, dict) else None
    if error == "invalid_grant":
        return ""
    if error in ("unauthorized_client", "invalid_client"):
        return ("Keycloak does not accept the client %r with this secret in the realm %r (%s). What to do: run with "
                "--tags keycloak_client, or set observability_single_sign_on.client_secret to the secret on the "
                "client's page Credentials" % (client_id, realm, answer.get("error_description") or error))
    return ("Keycloak's token endpoint answers %d: %s. What to do: see Keycloak's log"
            % (status, (str(answer.get("error_description") or error) if error else text.strip()[:300])))


# -- all of it ---------------------------------------------------------------------------------------------------------

def attempt(program: str, config: str, data: str) -> list[str]:
    settings = read_settings(os.path.join(config, "grafana.ini"))
    dashboards, problems = problems_of_dashboards(os.path.join(config, "dashboards"))
    wanted, doubles = declared(os.path.join(config, "provisioning"))
    problems += doubles + problems_of_single_sign_on(settings)
    if problems:
        return problems
    scratch = Scratch(program, config, data, settings)
    try:
        scratch.copy_database()
        scratch.start()
        scratch.wait()
        return settled(scratch, wanted, dashboards)
    finally:
        scratch.end()


def main() -> int:
    parser = argparse.ArgumentParser(description="Tries a Grafana before it replaces the running one.")
    parser.add_argument("--program", required=True, help="folder of the program")
    parser.add_argument("--config", required=True, help="folder of grafana.ini, provisioning and dashboards")
    parser.add_argument("--data", required=True, help="folder of the running Grafana's database")
    arguments = parser.parse_args()
    # A signal ends the scratch copy as well.
    signal.signal(signal.SIGTERM, lambda *_ignored: sys.exit(1))
    try:
        problems = attempt(arguments.program, arguments.config, arguments.data)
    except Refused as error:
        problems = [str(error)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
