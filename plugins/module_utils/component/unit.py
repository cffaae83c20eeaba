# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit: a hardened baseline, written as a regular file; and what systemd says of it."""
from __future__ import annotations

import os
import re

from .command import run
from .errors import ComponentError

UNIT_ROOT = "/etc/systemd/system"
CREDENTIAL_ROOT = "/etc/aistack/credentials"

# Measured with `systemd-analyze security`: 1.1 without PrivateUsers, which containers without user namespaces refuse.
SANDBOX = {
    "AmbientCapabilities": "",
    "CapabilityBoundingSet": "",
    "DevicePolicy": "closed",
    "KeyringMode": "private",
    "LockPersonality": True,
    "MemoryDenyWriteExecute": True,
    "NoNewPrivileges": True,
    "PrivateDevices": True,
    "PrivateTmp": True,
    "ProcSubset": "pid",
    "ProtectClock": True,
    "ProtectControlGroups": True,
    "ProtectHome": True,
    "ProtectHostname": True,
    "ProtectKernelLogs": True,
    "ProtectKernelModules": True,
    "ProtectKernelTunables": True,
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RemoveIPC": True,
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": True,
    "RestrictRealtime": True,
    "RestrictSUIDSGID": True,
    "SystemCallArchitectures": "native",
    # EPERM instead of a kill: Go raises its own file limit at start, which @resources forbids, and lives without.
    "SystemCallErrorNumber": "EPERM",
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
    "UMask": "0027",
}
SERVICE = {
    "Type": "exec",
    "Restart": "always",
    "RestartSec": "5s",
    "TimeoutStopSec": "60s",
    "LimitNOFILE": "65536",
}
# These say how a service lives; everything else says what surrounds it and holds for its checkers as well.
LIFE = {"Type", "Restart", "RestartSec", "RestartSteps", "RestartMaxDelaySec", "RestartPreventExitStatus",
        "RestartForceExitStatus", "SuccessExitStatus", "RemainAfterExit", "TimeoutSec", "TimeoutStopSec",
        "TimeoutStartSec", "TimeoutAbortSec", "RuntimeMaxSec", "ExecCondition", "ExecStartPre", "ExecStartPost",
        "ExecStop", "ExecStopPost", "ExecReload", "WatchdogSec", "NotifyAccess", "PIDFile", "BusName", "KillMode",
        "KillSignal", "RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve", "MemoryMax",
        "MemoryHigh", "OOMPolicy", "StandardInput", "StandardOutput", "StandardError"}


def quote(argument: str) -> str:
    """One argument of a command line in a unit."""
    text = argument.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    text = text.replace("\n", "\\n").replace("\t", "\\t")
    return '"%s"' % text if text == "" or re.search(r"[\s'\";]", argument) else text


def quote_environment(key: str, value: str) -> str:
    text = value.replace("\\", "\\\\").replace("%", "%%").replace('"', '\\"').replace("\n", "\\n")
    return '"%s=%s"' % (key, text)


class Unit:
    """The declaration's service."""

    def __init__(self, name: str, spec: dict, account: dict | None, data: list[str], credentials: list[str],
                 program: str, reload_signal: str | None) -> None:
        self.name = name
        self.file = "%s.service" % name
        self.path = os.path.join(UNIT_ROOT, self.file)
        self._spec = spec
        self._program = program
        self._reload_signal = reload_signal
        self.credentials = credentials
        self._directives = self._merge(spec.get("service") or {}, account, data)

    def _merge(self, overrides: dict, account: dict | None, data: list[str]) -> dict:
        merged: dict = dict(SERVICE)
        if account:
            merged["User"] = account["user"]
            merged["Group"] = account["group"]
            if account.get("groups"):
                merged["SupplementaryGroups"] = " ".join(account["groups"])
        merged.update(SANDBOX)
        if data:
            merged["ReadWritePaths"] = list(data)
        for key, value in overrides.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = value
        return merged

    def properties(self) -> list[tuple[str, str]]:
        """Every directive of the service section as systemd writes it, in a stable order."""
        result = []
        for key, value in self._directives.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, bool):
                    item = "yes" if item else "no"
                result.append((key, str(item).replace("{program}", self._program)))
        return result

    def text(self) -> str:
        spec = self._spec
        after = ["network-online.target"] + list(spec.get("after") or [])
        lines = ["# Placed by aistack.observability. Overrides of your own belong into",
                 "# %s.d/*.conf, which stays untouched." % self.path,
                 "[Unit]", "Description=%s" % spec["description"].replace("%", "%%")]
        if spec.get("documentation"):
            lines.append("Documentation=%s" % spec["documentation"])
        lines += ["After=%s" % " ".join(after), "Wants=network-online.target", "StartLimitIntervalSec=0", "",
                  "[Service]",
                  "ExecStart=%s" % " ".join(quote(item.replace("{program}", self._program)) for item in spec["exec"])]
        if self._reload_signal:
            lines.append("ExecReload=/bin/kill -%s $MAINPID" % self._reload_signal.replace("SIG", ""))
        for key, value in sorted((spec.get("environment") or {}).items()):
            lines.append("Environment=%s" % quote_environment(key, str(value)))
        for name in sorted(self.credentials):
            lines.append("LoadCredential=%s:%s" % (name, credential_path(self.name, name)))
        lines += ["%s=%s" % pair for pair in self.properties()]
        lines += ["", "[Install]", "WantedBy=multi-user.target", ""]
        broken = [line for line in lines if "\n" in line]
        if broken:
            raise ComponentError("the unit %s: %r goes over more than one line" % (self.file, broken[0]))
        return "\n".join(lines)

    def surroundings(self) -> list[str]:
        """What a checker needs to run as the service will: account, sandbox and environment, as ``-p`` options."""
        result = []
        for key, value in self.properties():
            if key not in LIFE:
                result += ["-p", "%s=%s" % (key, value)]
        for key, value in sorted((self._spec.get("environment") or {}).items()):
            result += ["--setenv", "%s=%s" % (key, value)]
        return result


def credential_path(component: str, name: str) -> str:
    return os.path.join(CREDENTIAL_ROOT, component, name)


def systemctl(*arguments: str, check: bool = True) -> str:
    return run("systemctl", *arguments, check=check).output


class Status:
    """What systemd says of a unit now."""

    PROPERTIES = ("ActiveState", "SubState", "UnitFileState", "FragmentPath", "NRestarts", "InvocationID", "Result")

    def __init__(self, file: str) -> None:
        text = systemctl("show", file, "--property=%s" % ",".join(self.PROPERTIES))
        values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        self.active = values.get("ActiveState", "")
        self.sub = values.get("SubState", "")
        self.enabled = values.get("UnitFileState", "") == "enabled"
        self.fragment = values.get("FragmentPath", "")
        self.restarts = int(values.get("NRestarts") or 0)
        self.invocation = values.get("InvocationID", "")
        self.result = values.get("Result", "")

    def imagine(self, running: bool) -> None:
        """As it will be once an interrupted run is taken back."""
        self.active, self.enabled = "active" if running else "inactive", running
        if not running:
            self.fragment = ""

    @property
    def running(self) -> bool:
        return self.active in ("active", "reloading")


def journal(file: str, invocation: str = "", lines: int = 25) -> str:
    """The last lines of a unit's journal, of one start only where its id is known."""
    chosen = ["_SYSTEMD_INVOCATION_ID=%s" % invocation] if invocation else ["-u", file]
    text = run("journalctl", "--no-pager", "--quiet", "-o", "cat", "-n", str(lines), *chosen, check=False,
               timeout=30).output.strip()
    return journal(file, "", lines) if invocation and not text else text
