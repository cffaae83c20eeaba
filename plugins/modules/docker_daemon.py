#!/usr/bin/python
# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon
short_description: Set how Docker logs, in a daemon.json that is somebody else's
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Merges C(log-driver), C(log-opts) and C(live-restore) into Docker's C(daemon.json), and touches nothing else there.
    The values of before are remembered, and come back with O(state=absent).
  - The new file is checked before it takes the old one's place. Docker is then made to keep containers running
    (C(live-restore)) by a reload, restarted where a logging key changed, and asked whether the driver is in force. If
    it isn't, the old file is put back, and Docker is started with it.
  - A run that was killed is taken back by the next one first.
  - The driver holds for containers that are made from then on; those that exist keep theirs.
attributes:
  check_mode:
    support: full
    description: The same plan and diff as the real run.
  diff_mode:
    support: full
    description: The file before and after.
  platform:
    platforms: posix
    support: full
    description: Docker Engine 20.10 and newer, under systemd.
options:
  state:
    description: V(absent) gives the keys the values that they had before.
    type: str
    choices: [present, absent]
    default: present
  driver:
    description: The logging driver of new containers. Needed with O(state=present).
    type: str
    choices: [local, json-file, journald, loki]
  options:
    description: The driver's options, all of C(log-opts). An empty one is left out.
    type: dict
    default: {}
  live_restore:
    description:
      - Have containers run on while Docker itself is restarted. Docker as a member of a swarm can't do that.
      - Where V(false), the key is left as it is, and a restart stops what runs.
    type: bool
    default: true
  plugin:
    description: Name of the plugin that is the driver V(loki).
    type: str
    default: loki
  plugin_source:
    description: Where that plugin is installed from if it is missing, as C(docker plugin install) takes it.
    type: str
  authority:
    description:
      - Certificate of the authority that signed Loki's, as a path on the target. It is copied into the plugin, which
        sees none of the host's files.
    type: path
  path:
    description: Docker's configuration file, where its C(--config-file) doesn't name another.
    type: path
    default: /etc/docker/daemon.json
"""

EXAMPLES = r"""
- name: Container logs that can't fill the disk
  aistack.observability.docker_daemon:
    driver: local
    options: {max-size: 50m, max-file: "5"}
"""

RETURN = r"""
plan:
  description: What changes, in the shape of the M(aistack.observability.component) module's; versions are drivers here.
  returned: always
  type: dict
steps:
  description: What was really done, in order; nothing in check mode.
  returned: always
  type: list
  elements: str
"""

import json
import os
import re
import shutil
import time
import uuid

from ansible_collections.aistack.observability.plugins.module_utils.component import files, unit
from ansible_collections.aistack.observability.plugins.module_utils.component.command import run
from ansible_collections.aistack.observability.plugins.module_utils.component.errors import ComponentError, Refused
from ansible_collections.aistack.observability.plugins.module_utils.component.generations import Generations
from ansible_collections.aistack.observability.plugins.module_utils.quiet import QuietModule

NAME = "docker_logging"
UNIT = "docker.service"
KEYS = ("log-driver", "log-opts", "live-restore")
FLAGS = {"log-driver": "log-driver", "log-opt": "log-opts", "live-restore": "live-restore"}
FLAG_FILES = ("/etc/default/docker", "/etc/sysconfig/docker")
ANSWER_SECONDS = 60
VALIDATES_FROM = 23
PASSWORD = re.compile(r"(://[^/\s:@\"]*:)[^@\s/\"]+@")
AUTHORITY = "/etc/ssl/aistack-loki.pem"

# Any other option would be taken by the daemon, and then no container could be made.
_COMMON = {"mode": r"blocking|non-blocking", "max-buffer-size": r"\d+(\.\d+)?\s?([kmg]i?)?b?"}
_FILES = {"max-size": r"\d+(\.\d+)?\s?([kmg]i?)?b?", "max-file": r"[1-9]\d*"}
_ATTRIBUTES = {"labels": "", "labels-regex": "", "env": "", "env-regex": "", "tag": ""}
_DURATION = r"(\d+(\.\d+)?(ns|us|ms|s|m|h))+"
_LOKI = {"url": r"https?://\S+", "external-labels": "", "timeout": _DURATION, "batch-wait": _DURATION,
         "batch-size": r"\d+", "min-backoff": _DURATION, "max-backoff": _DURATION, "retries": r"\d+",
         "pipeline-stages": "", "pipeline-stage-file": "", "tenant-id": "", "relabel-config": "", "proxy-url": "",
         "tls-ca-file": "", "tls-cert-file": "", "tls-key-file": "", "tls-server-name": "",
         "tls-insecure-skip-verify": "true|false"}
OPTIONS = {
    "json-file": {**_COMMON, **_FILES, **_ATTRIBUTES, "compress": "true|false"},
    "local": {**_COMMON, **_FILES, "compress": "true|false"},
    "journald": {**_COMMON, **_ATTRIBUTES},
    "loki": {**_COMMON, **_FILES, "labels": "", "env": "", "env-regex": "", "no-file": "true|false",
             "keep-file": "true|false", **{"loki-" + name: pattern for name, pattern in _LOKI.items()}},
}


def parse(text, path):
    """The keys of a daemon.json, in their order."""
    if not text.strip():
        return {}
    try:
        data = json.loads(text)
    except ValueError as error:
        where = "line %d, column %d: %s" % (error.lineno, error.colno, error.msg) if isinstance(
            error, json.JSONDecodeError) else error
        raise Refused("%s is not JSON (%s): mend it, then run again" % (path, where)) from None
    if not isinstance(data, dict):
        raise Refused("%s is no JSON object: mend it, then run again" % path)
    return data


def write_out(data, like):
    """As text, indented as the old one was."""
    indent = re.search(r"\n([ \t]+)\"", like)
    return json.dumps(data, indent=indent.group(1) if indent else 2, ensure_ascii=False) + "\n"


def check_options(driver, options):
    """What is wrong with a driver's options, which Docker itself finds only when it makes a container."""
    known = OPTIONS[driver]
    for name, value in options.items():
        if name not in known:
            raise Refused("Docker's logging driver %s has no option %s; it has %s"
                          % (driver, name, ", ".join(sorted(known))))
        if known[name] and not re.fullmatch(known[name], value, re.IGNORECASE):
            raise Refused("the option %s of Docker's logging driver %s can't be %r" % (name, driver, value))
    if "max-buffer-size" in options and options.get("mode") != "non-blocking":
        raise Refused("the option max-buffer-size of Docker's logging drivers needs mode: non-blocking")
    if driver == "loki" and "loki-url" not in options:
        raise Refused("Docker's logging driver loki needs to know where Loki is (loki-url)")


def wanted_data(data, state, driver, options, live_restore):
    """The keys of the file as they are to be; what was there keeps its place."""
    wanted = {"log-driver": driver, "log-opts": options}
    if live_restore:
        wanted["live-restore"] = True
    left = {key: value for key, value in state["ours"].items() if key not in wanted} if state else {}
    return {**former_data(data, state["before"] if state else {}, left), **wanted}


def former_data(data, before, ours):
    """The keys with the values that they had before ours; what somebody changed since is theirs."""
    result = dict(data)
    for key, value in ours.items():
        if result.get(key) != value:
            continue
        if key in before:
            result[key] = before[key]
        else:
            del result[key]
    return result


def flags(texts):
    """{key: where} of the keys that are set by dockerd's command line, too."""
    found = {}
    for where, text in texts.items():
        for flag, key in FLAGS.items():
            if re.search(r"(?<![\w-])--%s(?![\w-])" % flag, text):
                found.setdefault(key, where)
    return found


def in_force(info, driver):
    """Is it the driver of new containers? Docker gives a plugin a tag."""
    return info.get("LoggingDriver") in (driver, driver + ":latest")


class Docker:
    """The engine of this host."""

    def __init__(self):
        status = unit.Status(UNIT)
        self.there = bool(status.fragment) and shutil.which("dockerd") is not None
        self.running = self.there and status.running

    def info(self):
        """What the engine says of itself, None where it doesn't answer."""
        done = run("docker", "info", "--format", "{{json .}}", check=False, timeout=30)
        try:
            answer = json.loads(done.output)
        except ValueError:
            return None
        return answer if done.code == 0 and answer.get("ServerVersion") else None

    def flag_texts(self):
        """Where somebody may have put flags, as texts by the name of the place."""
        texts = {}
        for path in FLAG_FILES:
            try:
                with open(path, encoding="utf-8", errors="replace") as handle:
                    texts[path] = re.sub(r"(?m)^\s*#.*$", "", handle.read())
            except OSError:
                continue
        described = run("systemctl", "cat", UNIT, check=False).output
        texts[UNIT] = "\n".join(re.findall(r"(?m)^\s*ExecStart=(?:.*\\\n)*.*$", described))
        pid = run("systemctl", "show", "-P", "MainPID", UNIT, check=False).output.strip()
        try:
            with open("/proc/%s/cmdline" % pid, encoding="utf-8", errors="replace") as handle:
                texts["the command line of the running dockerd"] = handle.read().replace("\0", " ")
        except OSError:
            pass
        return texts

    def validate(self, path):
        """Let the engine itself judge a file; older ones can't."""
        version = re.search(r"version (\d+)", run("dockerd", "--version").output)
        if not version or int(version.group(1)) < VALIDATES_FROM:
            return False
        done = run("dockerd", "--validate", "--config-file", path, check=False, together=True)
        if done.code:
            raise Refused("dockerd --validate refuses the new daemon.json. Nothing was touched",
                          {"output": done.output.strip()[-4000:].replace(path, "daemon.json")})
        return True

    def plugin(self, name):
        """(id, is it enabled) of a plugin, None where there is none."""
        done = run("docker", "plugin", "inspect", "--format", "{{.Id}} {{.Enabled}}", name, check=False)
        identity, _space, enabled = done.output.strip().partition(" ")
        return None if done.code else (identity, enabled == "true")

    def containers(self):
        """{id: since when it runs}"""
        identities = run("docker", "ps", "--quiet", "--no-trunc", check=False, timeout=60).output.split()
        if not identities:
            return {}
        text = run("docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", *identities, check=False,
                   timeout=60).output
        return dict(line.split(" ", 1) for line in text.splitlines())

    def wait(self, fits, trouble):
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            info = self.info()
            if info and fits(info):
                return info
            if time.monotonic() > deadline:
                raise ComponentError(trouble % ("Docker does not answer" if info is None else
                                                "its driver is %s, live-restore %s" % (
                                                    info.get("LoggingDriver"), info.get("LiveRestoreEnabled"))),
                                     {"journal": unit.journal(UNIT)})
            time.sleep(0.3)

    def reload(self, live):
        unit.systemctl("reload", UNIT)
        self.wait(lambda info: bool(info.get("LiveRestoreEnabled")) == live,
                  "Docker was told to reload, but did not change live-restore: %s")

    def restart(self):
        unit.systemctl("reset-failed", UNIT, check=False)
        started = run("systemctl", "restart", UNIT, check=False, together=True)
        if started.code:
            raise ComponentError("Docker does not start", {"journal": unit.journal(UNIT, unit.Status(UNIT).invocation)})
        self.running = True
        self.wait(lambda info: True, "Docker was restarted: %s")


class Daemon:
    """One run over Docker's logging."""

    def __init__(self, params):
        self.absent = params["state"] == "absent"
        self.driver = params["driver"]
        # Docker's words are strings, whatever YAML made of them.
        self.options = {str(name): (str(value).lower() if isinstance(value, bool) else str(value))
                        for name, value in params["options"].items() if value not in (None, "")}
        self.live_restore = params["live_restore"]
        self.plugin, self.plugin_source = params["plugin"], params["plugin_source"]
        # In Docker's words.
        self.name = self.plugin if self.driver == "loki" else self.driver
        self.authority = params["authority"]
        self.path = params["path"]
        self.records = Generations(NAME)
        self.docker = Docker()
        self.steps = []
        self._recovered = False

    # -- records -------------------------------------------------------------------------------------------------

    def _record(self, name):
        try:
            with open(os.path.join(self.records.root, name), encoding="utf-8") as handle:
                return json.load(handle)
        except FileNotFoundError:
            return None

    def _keep(self, name, data):
        files.write(os.path.join(self.records.root, name), json.dumps(data, indent=1).encode(), 0o600)

    def _forget(self, *names):
        for name in names:
            files.remove(os.path.join(self.records.root, name))

    # -- entry points ----------------------------------------------------------------------------------------------

    def preview(self):
        with self.records.lock(reading=True):
            return self._result(*self._plan())

    def carry_out(self):
        with self.records.lock():
            self._recover()
            plan, before, after = self._plan()
            result = self._result(plan, before, after)
            if plan["action"] != "none":
                self._apply(plan, before, after)
            return dict(result, changed=result["changed"] or self._recovered, steps=self.steps)

    def _result(self, plan, before, after):
        changed = plan["action"] != "none"
        diff = []
        if before != after:
            texts = [None if text is None else PASSWORD.sub(r"\1********@", text).encode() for text in (before, after)]
            diff.append(files.difference(self.path, *texts, False))
        return {"changed": changed, "plan": plan, "diff": diff, "steps": []}

    # -- plan ------------------------------------------------------------------------------------------------------

    def _plan(self):
        """(the plan, the file's text, the text that it is to have); None stands for no file."""
        state, intent = self._record("state.json"), self._record("intent.json")
        notes = ["an earlier run was interrupted: the daemon.json of before is put back first"] if (
            intent or self._recovered) else []
        if self.absent and state is None and intent is None:
            return self._shape("none", None, None, "none", []), None, None
        self._look()
        found = files.Found(self.path)
        if found.type not in ("missing", "file"):
            raise Refused("%s is no regular file (%s): move it away" % (self.path, found.type))
        try:
            before = intent["old"] if intent else found.content.decode("utf-8") if found.type == "file" else None
        except UnicodeDecodeError as error:
            raise Refused("%s is not JSON (%s): mend it, then run again" % (self.path, error)) from None
        data = parse(before or "", self.path)
        info = (self.docker.info() if self.docker.running else None) or {}
        if self.absent:
            wanted = former_data(data, state["before"], state["ours"]) if state else data
        else:
            self._check(data, info)
            wanted = wanted_data(data, state, self.name, self.options, self.live_restore)
        after = before if wanted == data else self._text(wanted, before, state)
        plan = self._compared(state, data, wanted, before, after, info)
        plan["notes"] = notes + plan["notes"]
        if plan["action"] == "none" and (intent or self._recovered):
            plan["action"] = "mend"
        return plan, before, after

    def _text(self, wanted, before, state):
        original = (state or {}).get("original")
        if self.absent and state and wanted == parse(original or "", self.path):
            return original
        return write_out(wanted, before or "")

    def _look(self):
        """Where Docker is, and where its file."""
        if not self.docker.there:
            if self.absent:
                return
            raise Refused("Docker is not installed on this host (there is no %s with a dockerd): install it, or leave "
                          "docker_logging_driver empty here" % UNIT)
        texts = self.docker.flag_texts()
        for text in texts.values():
            other = re.search(r"--config-file[ =](\S+)", text)
            if other:
                self.path = other.group(1).strip("\"'")
        if not self.absent:
            for key, where in flags(texts).items():
                if key != "live-restore" or self.live_restore:
                    raise Refused("%s is set by a flag in %s as well, and Docker takes no key from two places: remove "
                                  "the flag there, restart Docker, then run again" % (key, where))

    def _check(self, data, info):
        check_options(self.driver, self.options)
        if self.live_restore and (info.get("Swarm") or {}).get("LocalNodeState") not in (None, "", "inactive"):
            raise Refused("this host's Docker is a member of a swarm, and can't keep containers running while it is "
                          "restarted: set docker_logging_live_restore: false")
        if self.driver == "loki" and info and not self.plugin_source and self.docker.plugin(self.plugin) is None:
            raise Refused("this host's Docker has no plugin %s, which is the driver loki. Install it: docker plugin "
                          "install grafana/loki-docker-driver:<version> --alias %s --grant-all-permissions; or set "
                          "docker_logging_loki_plugin_source" % (self.plugin, self.plugin))

    def _compared(self, state, data, wanted, before, after, info):
        notes = []
        logging = {key: wanted.get(key) for key in KEYS[:2]} != {key: data.get(key) for key in KEYS[:2]}
        # A file that nobody made Docker read since.
        stale = bool(info) and not in_force(info, wanted.get("log-driver", "json-file"))
        live = bool(wanted.get("live-restore"))
        service = "none"
        if self.docker.running and (logging or stale):
            service = "restart"
            running = len(self.docker.containers())
            if running and not self._bridged(info):
                notes.append("the restart of Docker stops what runs there: %d containers" % running)
        elif info and self._live_differs(info, live):
            service = "reload"
        elif not self.docker.running and before != after:
            notes.append("Docker does not run: the change is in force when it starts")
        if state and not self.absent:
            by_hand = [key for key, value in state["ours"].items() if data.get(key) != value]
            if by_hand:
                notes.append("%s of %s was changed by hand: the file is saved below %s/saved first"
                             % (", ".join(by_hand), self.path, self.records.root))
        elif not self.absent and data.get("log-opts"):
            lost = sorted(set(data["log-opts"]) - set(self.options))
            if lost:
                notes.append("log-opts of before hold no more, and come back with docker_logging_state: absent: %s"
                             % ", ".join(lost))
        missing = self._missing_of_plugin(info)
        notes += missing
        if logging and not self.absent:
            notes.append("containers that are there keep their driver until they are made anew")
        touched = before != after or service != "none" or missing or (state is None and not self.absent)
        action = ("none" if not touched and not (self.absent and state) else "remove" if self.absent
                  else "change" if state else "install")
        plan = self._shape(action, data.get("log-driver", "json-file"), None if self.absent else self.driver, service,
                           notes)
        kind = None if before == after else "create" if before is None else "remove" if after is None else "change"
        if kind:
            plan["files"][kind] = [self.path]
        return plan

    def _missing_of_plugin(self, info):
        if self.driver != "loki" or self.absent or not info:
            return []
        plugin = self.docker.plugin(self.plugin)
        if plugin is None:
            return ["the plugin %s is installed from %s" % (self.plugin, self.plugin_source)]
        if not plugin[1]:
            return ["the plugin %s is enabled" % self.plugin]
        if self._authority_missing(info, plugin[0]):
            return ["%s is copied into the plugin %s" % (self.authority, self.plugin)]
        return []

    def _live_differs(self, info, live):
        return bool(info.get("LiveRestoreEnabled")) != live and (self.live_restore or self.absent)

    @staticmethod
    def _shape(action, before, after, service, notes):
        return {"component": NAME, "action": action, "from": before, "to": after,
                "files": {"create": [], "change": [], "rights": [], "remove": []}, "directories": [], "account": None,
                "service": service, "enable": False, "data": "none", "notes": notes}

    # -- apply -----------------------------------------------------------------------------------------------------

    def _apply(self, plan, before, after):
        for folder in (os.path.dirname(self.records.root), self.records.root):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        state = self._record("state.json")
        data, run_id = parse(before or "", self.path), uuid.uuid4().hex
        if state is None:
            state = {"original": before, "before": {key: data[key] for key in KEYS if key in data}}
        if before != after and after is not None and self.docker.there:
            self._validate(after)
        if self.driver == "loki" and not self.absent and self.docker.running:
            self._plugin()
        if before is not None and before != after:
            self.steps.append("saved %s as %s" % (self.path, self.records.save_changed(files.Found(self.path))))
        ours = {} if self.absent else {key: value for key, value in parse(after or "", self.path).items()
                                       if key in KEYS and (key != "live-restore" or self.live_restore)}
        intent = {"run": run_id, "old": before, "restarted": False,
                  "folder": not os.path.isdir(os.path.dirname(self.path))}
        self._keep("intent.json", intent)
        try:
            self._switch(after, plan["service"] == "restart", intent)
            if self.docker.running and not self.absent:
                self.docker.wait(lambda info: in_force(info, self.name),
                                 "Docker was restarted with the driver " + self.name + ", but %s")
        except Exception as error:
            raise self._go_back(intent, error) from error
        if self.absent:
            # In this order: what is left of a killed run must not be taken for the users' own.
            self._forget("intent.json", "state.json")
            files.remove_empty(self.records.root)
            files.remove_empty(os.path.dirname(self.records.root))
        else:
            self._keep("state.json", dict(state, ours=ours, run=run_id))
            self._forget("intent.json")

    def _validate(self, text):
        """The engine's own word, before anything is touched."""
        staged = os.path.join(self.records.root, "daemon.json")
        files.write(staged, text.encode(), 0o600)
        try:
            if self.docker.validate(staged):
                self.steps.append("dockerd --validate agrees")
        finally:
            self._forget("daemon.json")

    def _plugin(self):
        plugin = self.docker.plugin(self.plugin)
        if plugin is None:
            run("docker", "plugin", "install", "--alias", self.plugin, "--grant-all-permissions", self.plugin_source)
            self.steps.append("installed the plugin %s from %s" % (self.plugin, self.plugin_source))
            plugin = self.docker.plugin(self.plugin)
        if plugin and not plugin[1]:
            run("docker", "plugin", "enable", self.plugin)
            self.steps.append("enabled the plugin %s" % self.plugin)
        info = self.docker.info() or {}
        if plugin and self._authority_missing(info, plugin[0]):
            with open(self.authority, "rb") as handle:
                content = handle.read()
            target = self._inside(info, plugin[0])
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            files.write(target, content, 0o644)
            self.steps.append("copied %s into the plugin %s" % (self.authority, self.plugin))

    @staticmethod
    def _inside(info, identity):
        return os.path.join(info.get("DockerRootDir") or "/var/lib/docker", "plugins", identity, "rootfs",
                            AUTHORITY.lstrip("/"))

    def _authority_missing(self, info, identity):
        if not self.authority:
            return False
        ours, theirs = files.Found(os.path.realpath(self.authority)), files.Found(self._inside(info, identity))
        if ours.type != "file":
            raise Refused("%s, the certificate of Loki's authority, is missing on this host" % self.authority)
        return ours.content != theirs.content

    def _bridged(self, info):
        """Can containers run on while Docker is restarted?"""
        member = (info or {}).get("Swarm") or {}
        return self.live_restore and member.get("LocalNodeState") in (None, "", "inactive")

    def _switch(self, text, restart, intent):
        """Make Docker's file *text*, and its word in force.

        Around a restart live-restore is on, whatever the file is to say of it in the end: an engine that starts without
        it ends the containers that it finds. A reload doesn't notice that the key went, so it is told V(false).
        """
        restart = restart and self.docker.there
        info = self.docker.info() if self.docker.running else None
        target = parse(text or "", self.path)
        before = self.docker.containers() if info and restart else {}
        live = bool(target.get("live-restore"))
        if restart and self._bridged(info):
            self._write(write_out({**target, "live-restore": True}, text or ""))
            if info and not info.get("LiveRestoreEnabled"):
                self.docker.reload(True)
                self.steps.append("reloaded Docker, which keeps containers running from now on")
        else:
            self._write(text)
        if restart:
            intent["restarted"] = True
            self._keep("intent.json", intent)
            self.docker.restart()
            info, after = self.docker.info(), self.docker.containers()
            kept = sum(after.get(identity) == since for identity, since in before.items())
            self.steps.append("restarted Docker; %d of %d containers ran on" % (kept, len(before)))
        if info and self._live_differs(info, live):
            self._write(write_out({**target, "live-restore": live}, text or ""))
            self.docker.reload(live)
            self.steps.append("reloaded Docker, live-restore is %s" % ("on" if live else "off"))
        self._write(text)

    def _write(self, text):
        found = files.Found(self.path)
        if text is None:
            if files.unlink(self.path):
                self.steps.append("removed %s" % self.path)
            return
        if found.type == "file" and found.content == text.encode():
            return
        folder = os.path.dirname(self.path)
        os.makedirs(folder, mode=0o755, exist_ok=True)
        if found.type == "file":
            files.write(self.path, text.encode(), 0o600, component=NAME)
            os.chown(self.path, found.uid, found.gid)
            os.chmod(self.path, found.mode)
        else:
            files.write(self.path, text.encode(), 0o644, component=NAME)
        self.steps.append("wrote %s" % self.path)

    # -- back ------------------------------------------------------------------------------------------------------

    def _go_back(self, intent, cause):
        cause = cause if isinstance(cause, ComponentError) else ComponentError("%s: %s" % (type(cause).__name__, cause))
        details = {"after the change: %s" % key: value for key, value in cause.details.items()}
        try:
            self._undo(intent)
        except Exception as error:
            more = error.details if isinstance(error, ComponentError) else {}
            details.update({"on the way back: %s" % key: value for key, value in more.items()})
            return ComponentError("%s. Going back failed too: %s. The next run tries that again first"
                                  % (cause.message, error), details)
        return ComponentError("%s. The old daemon.json was put back, and Docker answers with it" % cause.message,
                              details)

    def _undo(self, intent):
        self._switch(intent["old"], intent["restarted"], intent)
        if intent["folder"]:
            files.remove_empty(os.path.dirname(self.path))
        self._forget("intent.json")
        if self._record("state.json") is None:
            files.remove_empty(self.records.root)

    def _recover(self):
        intent, state = self._record("intent.json"), self._record("state.json")
        files.sweep_temporaries(self.records.root)
        if intent is None:
            return
        if self.docker.there:
            self._look()
        files.sweep_temporaries(os.path.dirname(self.path), NAME)
        self._recovered = True
        if state and state.get("run") == intent["run"]:
            self._forget("intent.json")
            self.steps.append("an earlier run was interrupted when Docker had answered")
            return
        self._undo(intent)
        self.steps.append("an earlier run was interrupted: the daemon.json of before was put back")


def main():
    module = QuietModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "driver": {"type": "str", "choices": sorted(OPTIONS)},
            "options": {"type": "dict", "default": {}},
            "live_restore": {"type": "bool", "default": True},
            "plugin": {"type": "str", "default": "loki"},
            "plugin_source": {"type": "str"},
            "authority": {"type": "path"},
            "path": {"type": "path", "default": "/etc/docker/daemon.json"},
        },
        required_if=[("state", "present", ["driver"])], supports_check_mode=True)
    os.umask(0o022)
    try:
        daemon = Daemon(module.params)
        result = daemon.preview() if module.check_mode else daemon.carry_out()
    except ComponentError as error:
        lines = [error.message]
        for title, text in error.details.items():
            lines += ["--- %s" % title, text]
        module.fail_json(msg="\n".join(lines), details=error.details)
    if not module._diff:
        result.pop("diff")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
