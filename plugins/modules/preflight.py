#!/usr/bin/python
# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is already on a host, seen without changing it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check the variables and the hosts of a site before anything is changed
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Checks everything that can be checked before a run changes something, and reports all problems of a host at once,
    one a line, each with its fix.
  - On the controller it checks the shared variables, the variables of those roles that this run's tags select and the
    inventory needs on this host, misspelt names, and clashes of ports.
  - On the target it looks for a supported system, and for software in the places of this collection that is not
    ours. The role's C(_adopt) variable lets the role take over what is found.
  - When all is well it generates the secrets that the user does not give, in the controller's store.
  - It is the first task of the site and is tagged C(always).
options:
  components:
    description:
      - The components to look for on the target. The action plugin fills this in.
    type: list
    elements: str
    default: []
  ports:
    description:
      - The TCP ports to look for on the target. The action plugin fills this in.
    type: list
    elements: int
    default: []
attributes:
  check_mode:
    description: The check is the same; secrets are not generated in check mode.
    support: full
  diff_mode:
    description: Nothing on the target is changed, so there is nothing to show.
    support: none
notes:
  - The target needs Linux with systemd as its first process.
"""

EXAMPLES = r"""
- name: Check variables and hosts
  aistack.observability.preflight:
  tags: [always]
"""

RETURN = r"""
msg:
  description: What is wrong, one problem a line.
  returned: failure
  type: str
  sample: |-
    1 problem on monitor.lan, nothing was changed:
    prometheus_retention_tim: there is no such variable; did you mean prometheus_retention_time?
roles:
  description: The roles that were checked, which are those that this host needs and this run's tags select.
  returned: success
  type: list
  elements: str
secrets:
  description: Names of the secrets that were generated, or would be in check mode.
  returned: success
  type: list
  elements: str
target:
  description: What was found on the target.
  returned: success
  type: dict
  contains:
    systemd:
      description: Version of systemd; 0 if it is not the first process.
      type: int
    architecture:
      description: The machine's architecture in the kernel's words.
      type: str
    python:
      description: Version of the Python that ran the check.
      type: str
    root:
      description: Whether the check ran as root.
      type: bool
    docker:
      description: Whether a Docker engine serves its socket to a group of its own.
      type: bool
    ours:
      description: Components that this collection has placed.
      type: list
      elements: str
    units:
      description: Path of the unit file by component, where there is one.
      type: dict
    folders:
      description: Path of the configuration folder by component, where there is one that is not empty.
      type: dict
    packages:
      description: The distribution's package that owns a unit file or folder, by its path.
      type: dict
    ports:
      description: Who listens on a port (address, process, unit and container), by port.
      type: dict
"""

import grp
import json
import os
import platform
import re
import socket
import subprocess
import sys

from ansible.module_utils.basic import AnsibleModule

STATE_ROOT = "/var/lib/aistack"
DOCKER_SOCKET = "/run/docker.sock"
UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
                "/usr/lib/systemd/system", "/lib/systemd/system")
CONTAINER_ID = re.compile(r"([0-9a-f]{64})")
LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def systemd_version():
    """The version of the systemd that runs as the first process, or 0."""
    if read("/proc/1/comm").strip() != "systemd" or not os.path.isdir("/run/systemd/system"):
        return 0
    try:
        output = subprocess.run(["systemctl", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                check=False, text=True).stdout
    except OSError:
        return 0
    found = re.match(r"systemd (\d+)", output)
    return int(found.group(1)) if found else 0


def is_ours(component):
    """Whether the engine's record knows the component: it proved a generation, or was stopped while it switched."""
    folder = os.path.join(STATE_ROOT, component)
    return any(os.path.lexists(os.path.join(folder, name)) for name in ("proven", "intent.json"))


def all_ours():
    """Everything of ours on this host, also what the inventory no longer names: this very run may remove it."""
    try:
        return sorted(name for name in os.listdir(STATE_ROOT) if is_ours(name))
    except OSError:
        return []


def unit_file(component):
    for folder in UNIT_FOLDERS:
        path = os.path.join(folder, component + ".service")
        if os.path.lexists(path):
            return path
    return ""


def config_folder(component):
    path = os.path.join("/etc", component)
    try:
        return path if os.listdir(path) else ""
    except OSError:
        return ""


def owning_packages(paths, info="/var/lib/dpkg/info"):
    """The distribution's package of each path that has one."""
    owners = {}
    if not paths:
        return owners
    if os.path.isdir(info):
        # dpkg -S costs a process a path; a package's list holds one path a line. A path below /lib may be recorded
        # with or without the /usr before it.
        wanted = {}
        for path in paths:
            bare = path[4:] if path.startswith("/usr/lib/") else path
            wanted[path] = {bare, "/usr" + bare}
        for name in os.listdir(info):
            if name.endswith(".list"):
                lines = None
                for path, spellings in wanted.items():
                    if path in owners:
                        continue
                    lines = lines if lines is not None else set(read(os.path.join(info, name)).splitlines())
                    if spellings & lines:
                        owners[path] = name[:-len(".list")].split(":")[0]
        return owners
    for path in paths:
        try:
            done = subprocess.run(["rpm", "-qf", "--qf", "%{NAME}", path], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, check=False, text=True)
        except OSError:
            break
        if done.returncode == 0:
            owners[path] = done.stdout
    return owners


# -- ports -------------------------------------------------------------------------------------------------------


def address_of(hexadecimal):
    """An address of /proc/net/tcp or tcp6: 32-bit words in the machine's own byte order."""
    raw = bytes.fromhex(hexadecimal)
    if sys.byteorder == "little":
        raw = b"".join(raw[i:i + 4][::-1] for i in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def listeners(ports, proc="/proc"):
    """{inode: (port, address)} of the sockets that listen on one of the ports."""
    found = {}
    for table in ("tcp", "tcp6"):
        for line in read(os.path.join(proc, "net", table)).splitlines()[1:]:
            columns = line.split()
            address, port = columns[1].rsplit(":", 1)
            if columns[3] == LISTEN and int(port, 16) in ports:
                found[columns[9]] = (int(port, 16), address_of(address))
    return found


def socket_inodes(pid, proc="/proc"):
    folder = os.path.join(proc, str(pid), "fd")
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            target = os.readlink(os.path.join(folder, name))
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[len("socket:["):-1]


def owners(inodes, first, proc="/proc"):
    """{inode: pid}, asking the processes ``first`` before all others: a finished site costs no look at the rest."""
    missing, found = set(inodes), {}
    seen = set()
    for pids in (first, (name for name in os.listdir(proc) if name.isdigit())):
        for pid in pids:
            if not missing:
                return found
            if pid not in seen:
                seen.add(pid)
                for inode in missing.intersection(socket_inodes(pid, proc)):
                    found[inode] = pid
                    missing.discard(inode)
    return found


def cgroup_of(pid):
    """The path of a process's control group, in systemd's own hierarchy."""
    for line in read("/proc/%s/cgroup" % pid).splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or controllers == "name=systemd":
            return path
    return ""


def cgroup_root():
    """Where this system's control groups begin: a host that is itself a container may see those around it."""
    path = cgroup_of(1)
    return path[:-len("/init.scope")] if path.endswith("/init.scope") else ""


def unit_pids(component, root):
    """The processes of one of our units."""
    hierarchies = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd")
    return [pid for hierarchy in hierarchies
            for pid in read("%s%s/system.slice/%s.service/cgroup.procs" % (hierarchy, root, component)).split()]


def has_group(name):
    try:
        return bool(grp.getgrnam(name))
    except KeyError:
        return False


def containers(root="/var/lib/docker/containers"):
    """Docker's own records: (id, name, published TCP ports)."""
    try:
        names = os.listdir(root)
    except OSError:
        return
    for name in names:
        try:
            record = json.loads(read(os.path.join(root, name, "config.v2.json")))
            published = (record.get("NetworkSettings") or {}).get("Ports") or {}
        except (ValueError, AttributeError):
            continue
        ports = {int(binding["HostPort"]) for bindings in published.values() for binding in bindings or ()
                 if str(binding.get("HostPort", "")).isdigit()}
        yield name, record.get("Name", "").lstrip("/"), ports


def holder(pid, port, address, root):
    """Who has a port: the process, its unit, and its container if it is in one or forwards to one."""
    cgroup = cgroup_of(pid)
    cgroup = cgroup[len(root):] if cgroup.startswith(root) else cgroup
    process = read("/proc/%s/comm" % pid).strip()
    units = re.findall(r"/([^/]+\.(?:service|scope))", cgroup)
    found = {"address": address, "process": process, "unit": units[-1] if units else "", "container": ""}
    inside = CONTAINER_ID.search(cgroup)
    if inside or process == "docker-proxy":
        for identity, name, ports in containers():
            if (inside and identity == inside.group(1)) or (not inside and port in ports):
                found["container"] = name or identity[:12]
        if inside and not found["container"]:
            found["container"] = inside.group(1)[:12]
    return found


def port_holders(ports, components):
    if not ports:
        return {}
    sockets = listeners(set(ports))
    root = cgroup_root()
    first = [pid for component in components for pid in unit_pids(component, root)] if sockets else []
    pids = owners(sockets, first) if sockets else {}
    result = {}
    for inode, (port, address) in sorted(sockets.items(), key=lambda item: item[1]):
        entry = holder(pids[inode], port, address, root) if inode in pids else \
            {"address": address, "process": "", "unit": "", "container": ""}
        if entry not in result.setdefault(str(port), []):
            result[str(port)].append(entry)
    return result


def main():
    module = AnsibleModule(
        argument_spec={
            "components": {"type": "list", "elements": "str", "default": []},
            "ports": {"type": "list", "elements": "int", "default": []},
        },
        supports_check_mode=True,
    )
    components = module.params["components"]
    units = {component: unit_file(component) for component in components}
    folders = {component: config_folder(component) for component in components}
    ours = all_ours()
    strange = [path for found in (units, folders) for component, path in found.items()
               if path and component not in ours]
    module.exit_json(changed=False, target={
        "systemd": systemd_version(),
        "architecture": platform.machine(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "root": os.geteuid() == 0,
        "docker": os.path.exists(DOCKER_SOCKET) and has_group("docker"),
        "ours": ours,
        "units": {component: path for component, path in units.items() if path},
        "folders": {component: path for component, path in folders.items() if path},
        "packages": owning_packages(strange),
        "ports": port_holders(module.params["ports"], components),
    })


if __name__ == "__main__":
    main()
