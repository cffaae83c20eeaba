# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the component answer its real question, and is it our unit that answers?"""
from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
import time
from urllib.parse import urlsplit

from .errors import ComponentError
from .unit import Status, journal, systemctl

BODY_LIMIT = 16 * 1024 * 1024
TRY_TIMEOUT = 5
# A component answers a request to load its files when it has loaded them.
RELOAD_TIMEOUT = 60
# A unit of which nothing is asked must at least stay up for so long.
STAY_UP = 1.0


class Http:
    """Asks one service, with the log-in and the certificates that the declaration names."""

    def __init__(self, login: dict | None = None, tls: dict | None = None) -> None:
        self._headers = {"User-Agent": "aistack.observability"}
        if login and login.get("username"):
            token = "%s:%s" % (login["username"], login.get("password") or "")
            self._headers["Authorization"] = "Basic " + base64.b64encode(token.encode()).decode()
        self._tls = tls or {}

    def ask(self, url: str, method: str = "GET", body: dict | None = None, timeout: float = TRY_TIMEOUT):
        """Status and text of the answer; OSError or HTTPException where there is none."""
        parts = urlsplit(url)
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=timeout, context=self._context())
        else:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        try:
            headers = dict(self._headers)
            if body is not None:
                headers["Content-Type"] = "application/json"
            target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
            connection.request(method, target, json.dumps(body) if body is not None else None, headers)
            reply = connection.getresponse()
            return reply.status, reply.read(BODY_LIMIT).decode("utf-8", "replace")
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._tls.get("authority") or None)
        if self._tls.get("certificate"):
            context.load_cert_chain(self._tls["certificate"], self._tls.get("key") or None)
        # The question goes to loopback while the certificate names the host.
        context.check_hostname = False
        return context


def listeners(port: int) -> dict[str, int]:
    """The sockets that listen on a TCP port: their inodes and the user ids that opened them."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as handle:
                next(handle)
                for line in handle:
                    columns = line.split()
                    if columns[3] == "0A" and int(columns[1].rsplit(":", 1)[1], 16) == port:
                        inodes[columns[9]] = int(columns[7])
        except (OSError, StopIteration):
            continue
    return inodes


def holders(port: int) -> list[tuple[int, str, str]]:
    """Who listens on a TCP port: process id, program name and control groups.

    In a container without CAP_SYS_PTRACE even root can't see whose a socket is: then processes of the user that
    opened it stand for its holder.
    """
    sockets = listeners(port)
    wanted = {"socket:[%s]" % inode for inode in sockets}
    found: list[tuple[int, str, str]] = []
    hidden = []
    if not wanted:
        return found
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            handles = os.listdir("/proc/%s/fd" % entry)
        except OSError:
            continue
        for handle in handles:
            try:
                target = os.readlink("/proc/%s/fd/%s" % (entry, handle))
            except PermissionError:
                hidden.append(entry)
                break
            except OSError:
                continue
            if target in wanted:
                found.append(_process(entry))
                break
    if not found:
        found = [_process(entry) for entry in hidden if _user(entry) in sockets.values()]
    return found


def _process(entry: str) -> tuple[int, str, str]:
    return int(entry), _text("/proc/%s/comm" % entry).strip(), _text("/proc/%s/cgroup" % entry)


def _user(entry: str) -> int:
    try:
        return os.stat("/proc/%s" % entry).st_uid
    except OSError:
        return -1


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def belongs_to(cgroups: str, file: str) -> bool:
    """Is a process with these control groups part of the unit *file*?"""
    return any(file in line.rsplit(":", 1)[-1].split("/") for line in cgroups.splitlines())


def metric(text: str, name: str) -> float | None:
    """The value of an unlabelled sample in the Prometheus text format."""
    match = re.search(r"^%s(?:\{\})?\s+([-+.0-9eE]+)" % re.escape(name), text, re.MULTILINE)
    try:
        return float(match.group(1)) if match else None
    except ValueError:
        return None


class Unhealthy(ComponentError):
    """The component did not start or did not answer; the message says how."""


def start(file: str) -> None:
    """Start the unit, or start it again."""
    systemctl("reset-failed", file, check=False)
    _change(file, "restart")


def reload(file: str, requests: list[str], answers: dict) -> float:
    """Have the unit load its files again, by requests to it or else by its signal; the time from which on it may say
    that it did."""
    before = time.time()
    if not requests:
        _change(file, "reload")
    client = Http(answers.get("login"), answers.get("tls"))
    for url in requests:
        trouble, body = _not_ours(file, url), ""
        if not trouble:
            try:
                code, body = client.ask(url, "POST", timeout=RELOAD_TIMEOUT)
                trouble = "" if code == 200 else "%s answered %d: %s" % (url, code, body.strip()[:1000])
            except (OSError, http.client.HTTPException) as error:
                trouble = "%s: %s" % (url, error)
        if trouble:
            raise Unhealthy("%s does not load its new files: %s" % (file, trouble),
                            {"journal": journal(file, Status(file).invocation)})
    return before


def _change(file: str, verb: str) -> None:
    try:
        systemctl(verb, file)
    except ComponentError as error:
        raise Unhealthy(error.message, {"journal": journal(file, Status(file).invocation)}) from None


def ask(file: str, answers: dict, reloaded_at: float | None = None, reload_metric: dict | None = None) -> float:
    """Wait until every question is answered by our unit; the seconds it took.

    Fails early when the unit ends or restarts. *reloaded_at* is the time before a reload was asked for: the
    component's own word that it loaded the new configuration must be newer.
    """
    started = time.monotonic()
    within = float(answers.get("within") or 60)
    questions = answers.get("questions") or []
    client = Http(answers.get("login"), answers.get("tls"))
    first = status = Status(file)
    last, body = "it did not answer yet", ""
    pause = 0.05
    while True:
        ended = _ended(first, status)
        if ended:
            raise Unhealthy("%s %s" % (file, ended), {"journal": journal(file, first.invocation), "last answer": last})
        last, body = _try(file, client, questions, status)
        if not last and reloaded_at is not None and reload_metric:
            last, body = _reloaded(client, reload_metric, reloaded_at)
        took = time.monotonic() - started
        status = Status(file)
        if not last and not _ended(first, status) and (questions or took >= STAY_UP):
            return took
        if last and took > within:
            raise Unhealthy("%s did not answer within %d s: %s" % (file, within, last),
                            {"journal": journal(file, status.invocation), "last answer": body})
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)


def _ended(first: Status, now: Status) -> str:
    if now.active in ("failed", "inactive"):
        return "ended (%s)" % (now.result or now.active)
    if now.restarts > first.restarts or (first.invocation and now.invocation != first.invocation):
        return "ended and was started again by systemd"
    if now.sub.startswith("auto-restart"):
        return "ended (%s) and waits for its restart" % (now.result or "unknown reason")
    return ""


def _try(file: str, client: Http, questions: list[dict], status: Status) -> tuple[str, str]:
    """Empty where every question has its answer, else what came instead, and its body."""
    if not status.running:
        return "the unit is %s (%s)" % (status.active, status.sub), ""
    for question in questions:
        url = question["url"]
        trouble = _not_ours(file, url)
        if trouble:
            return trouble, ""
        try:
            code, body = client.ask(url)
        except (OSError, http.client.HTTPException) as error:
            return "%s: %s" % (url, error), ""
        if code != int(question.get("status") or 200):
            return "%s answered %d" % (url, code), body.strip()[:300]
        if question.get("matches") and not re.search(question["matches"], body, re.MULTILINE):
            return "%s answered without %r" % (url, question["matches"]), body.strip()[:300]
    return "", ""


def _not_ours(file: str, url: str) -> str:
    """Why it isn't our unit that answers at an address; empty if it is."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    owners = holders(port)
    if not owners:
        return "nothing listens on port %d" % port
    strangers = [item for item in owners if not belongs_to(item[2], file)]
    if len(strangers) == len(owners):
        return "port %d is held by another process: %s (pid %d)" % (port, strangers[0][1], strangers[0][0])
    return ""


def _reloaded(client: Http, names: dict, asked_at: float) -> tuple[str, str]:
    try:
        code, body = client.ask(names["url"])
    except (OSError, http.client.HTTPException) as error:
        return "%s: %s" % (names["url"], error), ""
    loaded_at, success = metric(body, names["time"]), metric(body, names["success"])
    if loaded_at is not None and loaded_at == int(loaded_at):
        asked_at = int(asked_at)
    if code == 200 and success == 1 and loaded_at is not None and loaded_at >= asked_at:
        return "", ""
    return "the new configuration has not been loaded (%s is %s)" % (names["success"], success), ""


class Silence:
    """Quiets the alerts about a component while the run itself restarts it; the watchdog is never touched.

    A courtesy, not a condition: on a first install there is no Alertmanager yet.
    """

    MINUTES = 10
    # An alert that has fired holds on for two minutes, and none fires for less than half a minute: see ServiceDown.
    SHORT, AFTERWARDS = 25, 3

    def __init__(self, spec: dict | None, component: str) -> None:
        self._spec = spec or {}
        self._component = component
        self._placed: list[tuple[str, str]] = []
        self._begun = 0.0

    def begin(self, minutes: int = MINUTES) -> str:
        """Why a silence could not be placed; empty if all is well, or one is there already."""
        if not self._spec.get("urls") or self._placed:
            return ""
        client = Http(self._spec.get("login"), self._spec.get("tls"))
        now = time.time()
        self._begun = self._begun or now
        body = {"matchers": [{"name": key, "value": value, "isRegex": False, "isEqual": True}
                             for key, value in sorted(self._spec["matchers"].items())],
                "startsAt": _rfc3339(now), "endsAt": _rfc3339(now + minutes * 60),
                "createdBy": "aistack.observability", "comment": "planned restart of %s" % self._component}
        trouble = []
        for url in self._spec["urls"]:
            try:
                code, text = client.ask(url + "/api/v2/silences", "POST", body)
                if code == 200:
                    self._placed.append((url, json.loads(text)["silenceID"]))
                else:
                    trouble.append("%s answered %d" % (url, code))
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                trouble.append("%s: %s" % (url, error))
        return "; ".join(trouble)

    @property
    def placed(self) -> list[tuple[str, str]]:
        return list(self._placed)

    def end(self, placed: list | None = None) -> None:
        """Expire what was placed; an Alertmanager that is just restarting gets a few seconds.

        After a long outage a short silence takes its place: the alert fires on for a while though all is well.
        """
        client = Http(self._spec.get("login"), self._spec.get("tls"))
        ending = list(self._placed) if placed is None else placed
        self._placed = []
        if placed is None and ending and time.time() - self._begun > self.SHORT:
            self.begin(self.AFTERWARDS)
            self._placed = []
        for url, identity in ending:
            for _attempt in range(10):
                try:
                    code, _text_ = client.ask("%s/api/v2/silence/%s" % (url, identity), "DELETE")
                    if code in (200, 404, 500):
                        break
                except (OSError, http.client.HTTPException):
                    pass
                time.sleep(0.5)


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
