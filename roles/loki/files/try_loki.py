# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a Loki read its rules before it replaces the running one.

Loki's own checker knows nothing of rules: a folder that it doesn't look into it passes, and one wrong file keeps the
ruler from all of them, which only its log tells. So the ruler of the new program is started here, with its own
configuration but behind a socket in a folder of its own, without data, and with nobody to tell of alerts. Then it is
asked for every group that is declared.

Runs as Loki's own user, in its sandbox. Ends with 0, or with 1 and what is wrong and what to do, one problem a line.
"""
from __future__ import annotations

import argparse
import copy
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

WITHIN = 60
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
# Loki counts retention in whole tables of its index.
SHORTEST = 86400


class Refused(Exception):
    """What is wrong, and what to do about it."""


class Local(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("loki", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def seconds(text: str) -> float:
    """A duration in Loki's words; 0 where it is none, which its own checker tells better."""
    parts = re.findall(r"([0-9.]+)(ms|[smhdwy])", str(text))
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def check_retention(config: dict) -> None:
    limits = config.get("limits_config") or {}
    periods = {"loki_retention": limits.get("retention_period", 0)}
    for stream in limits.get("retention_stream") or []:
        periods["loki_retention_streams for %s" % stream.get("selector")] = stream.get("period", 0)
    for name, period in periods.items():
        if 0 < seconds(period) < SHORTEST:
            raise Refused("%s is %s: Loki keeps lines for a day at least, so set 24h or more" % (name, period))


def trial_configuration(config: dict, folder: str) -> dict:
    """The configuration with its rules and its way to read them, and nothing that reaches outside of *folder*."""
    trial = copy.deepcopy(config)
    server = trial.setdefault("server", {})
    server.pop("http_tls_config", None)
    server.pop("grpc_tls_config", None)
    for kind in ("http", "grpc"):
        server.update({kind + "_listen_network": "unix", kind + "_listen_address": os.path.join(folder, kind),
                       kind + "_listen_port": 1})
    server["log_level"] = "error"
    common = trial.setdefault("common", {})
    common.update(path_prefix=folder, compactor_grpc_address="127.0.0.1:1")
    ruler = trial.setdefault("ruler", {})
    ruler.update(alertmanager_url="", rule_path=os.path.join(folder, "rules"), poll_interval="1s")
    ruler.pop("remote_write", None)
    ruler["wal"] = {"dir": os.path.join(folder, "wal")}
    # No data is read: every rule is evaluated over nothing, and what that says is not looked at.
    clients = (trial.pop("storage_config", None) or {}).get("use_thanos_objstore", False)
    trial["storage_config"] = {"use_thanos_objstore": clients,
                               "object_store": {"filesystem": {"dir": os.path.join(folder, "chunks")}}}
    filesystem = (common.get("storage") or {}).get("filesystem")
    if filesystem:
        filesystem["chunks_directory"] = os.path.join(folder, "chunks")
    else:
        common["storage"] = {"filesystem": {"chunks_directory": os.path.join(folder, "chunks"),
                                            "rules_directory": os.path.join(folder, "none")}}
    schema = trial.get("schema_config") or {}
    schema["configs"] = (schema.get("configs") or [])[-1:]
    for period in schema["configs"]:
        period["object_store"] = "filesystem"
    return trial


def ask(path: str, target: str) -> tuple[int, str]:
    connection = Local(path)
    try:
        connection.request("GET", target)
        reply = connection.getresponse()
        return reply.status, reply.read().decode("utf-8", "replace")
    finally:
        connection.close()


def check_rules(process: subprocess.Popen, path: str, wanted: list[str], directory: str, log: str) -> None:
    """Raise unless the ruler lists and has loaded every group: <file>/<name>."""
    deadline = time.monotonic() + WITHIN
    last = "it did not answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Refused("Loki ends at once with this configuration: %s" % last_lines(log))
        try:
            code, text = ask(path, "/loki/api/v1/rules")
            if code == 401:
                raise Refused("Loki wants a tenant with every request, and nobody here names one: leave auth_enabled "
                              "as it is")
            if code >= 400 and ("no rule groups found" in text or "unable to read rule dir" in text):
                raise Refused("Loki finds no rules at all: it looks for them in %s/fake, and they lie elsewhere. Leave "
                              "ruler.storage as it is" % directory)
            if code >= 400:
                raise Refused("Loki can't read its rules: %s. Correct that file; until then none of the rules is "
                              "loaded" % text.strip())
            code, text = ask(path, "/prometheus/api/v1/rules")
            groups = json.loads(text)["data"]["groups"] if code == 200 else []
            missing = sorted(set(wanted) - {"%s/%s" % (group["file"], group["name"]) for group in groups})
            if not missing:
                return
            last = "it does not load %s, though all files can be read" % ", ".join(missing)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            last = "%s: %s" % (type(error).__name__, error)
        time.sleep(0.2)
    raise Refused("Loki's ruler is not as declared after %d s: %s. %s" % (WITHIN, last, last_lines(log)))


def last_lines(log: str) -> str:
    with open(log, encoding="utf-8", errors="replace") as handle:
        lines = [line.strip() for line in handle if line.strip() and not line.startswith(("\t", "github.com/"))]
    return " | ".join(line[:400] for line in lines[-3:])


def try_loki(program: str, path: str, wanted: list[str]) -> None:
    with open(path, encoding="utf-8") as handle:
        config = json.load(handle)
    check_retention(config)
    storage = ((config.get("ruler") or {}).get("storage") or {}).get("local") or {}
    directory = storage.get("directory", "")
    with tempfile.TemporaryDirectory(prefix="loki-") as folder:
        trial, log = os.path.join(folder, "trial.json"), os.path.join(folder, "log")
        with open(trial, "w", encoding="utf-8") as handle:
            json.dump(trial_configuration(config, folder), handle)
        with open(log, "wb") as output:
            process = subprocess.Popen([program, "-target=ruler", "-config.file=" + trial], stdout=output,
                                       stderr=subprocess.STDOUT, cwd=folder)
            try:
                check_rules(process, os.path.join(folder, "http:1"), wanted, directory, log)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("group", nargs="*")
    given = parser.parse_args()
    try:
        try_loki(given.program, given.config, given.group)
    except Refused as refused:
        print(refused)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
