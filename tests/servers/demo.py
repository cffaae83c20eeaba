#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a throwaway host with a real Ollama on it, and the whole site installed over that.

    demo.py up        everything from nothing; prints addresses and log-ins, and a first verdict
    demo.py down      removes the host and what was generated for it
    demo.py run -- CMD ARGS…   runs a command (ansible-playbook, …) with the demo's environment

A demo is known by its run id ($AISTACK_RUN, `demo` by default); what is generated for it lies in the cache folder.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time

import host
import servers

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
# On the host's loopback -> forwarded inside the container -> published on this machine's loopback, here if it is free.
PAGES = {"prometheus": 9090, "alertmanager": 9093, "mailpit": 8025, "ollama": 11434}


class Demo:
    def __init__(self) -> None:
        self.run_id = os.environ.setdefault("AISTACK_RUN", "demo")
        self.folder = os.path.join(host.cache_folder(), "demo-" + self.run_id)
        self.state_file = os.path.join(self.folder, "demo.json")

    @property
    def state(self) -> dict:
        with open(self.state_file, encoding="utf-8") as handle:
            return json.load(handle)

    def environment(self) -> dict[str, str]:
        state = self.state
        return dict(
            os.environ,
            AISTACK_DEMO_CONTAINER=state["container"],
            AISTACK_DEMO_FOLDER=self.folder,
            AISTACK_DEMO_MIRROR=state["mirror"],
            AISTACK_DEMO_ADDRESSES=json.dumps(state["addresses"]),
            ANSIBLE_CONFIG=os.path.join(TOP, "ansible.cfg"),
            PATH=os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
        )

    def playbook(self, *arguments: str) -> int:
        command = ["ansible-playbook", "-i", "inventories/demo", *arguments]
        return subprocess.run(command, cwd=TOP, env=self.environment(), check=False).returncode

    def up(self) -> int:
        self.down()
        mirror = servers.mirror_folder()
        os.makedirs(self.folder, mode=0o700)
        ports = {name: free_port(port) for name, port in PAGES.items()}
        self._write("smtp-password", secrets.token_urlsafe(18))
        made = host.up("gpubox", host.RELEASES[0], [f"{ports[name]}:{10000 + port}" for name, port in PAGES.items()],
                       [])
        addresses = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self._write("demo.json", json.dumps({"container": made["name"], "id": made["id"], "mirror": mirror,
                                             "addresses": addresses}))
        forwards = {name: {"from": 10000 + port, "to": port} for name, port in PAGES.items()}
        for arguments in (
            ["tests/servers/outside.yml", "-e", json.dumps({"outside_forwards": forwards})],
            ["tests/servers/stack.yml"],
            ["site.yml"],
            ["playbooks/doctor.yml", "-e", "observability_doctor_wait=60"],
        ):
            code = self.playbook(*arguments)
            if code:
                print(f"\nThe demo stopped at {arguments[0]}. The host {made['name']} is still there to look at; "
                      "`make demo-down` removes it.", file=sys.stderr)
                return code
        self.show()
        return 0

    def _write(self, name: str, text: str) -> None:
        path = os.path.join(self.folder, name)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
            handle.write(text)

    def password(self) -> str:
        with open(os.path.join(self.folder, "secrets.yml"), encoding="utf-8") as handle:
            import yaml

            return yaml.safe_load(handle)["web_password"]

    def show(self) -> None:
        state, login = self.state, f"admin / {self.password()}"
        rows = [
            ("Prometheus", state["addresses"]["prometheus"], login),
            ("Alertmanager", state["addresses"]["alertmanager"], login),
            ("Mails (Mailpit, its API)", state["addresses"]["mailpit"] + "/api/v1/messages", "none"),
            ("Ollama", state["addresses"]["ollama"], "none"),
        ]
        print("\nThe demo runs on the throwaway host %s.\n" % state["container"])
        for name, address, who in rows:
            print(f"  {name:<26}{address:<46}{who}")
        print(f"""
Stop Ollama, and read the mail about it within two minutes:
  docker exec {state["container"]} systemctl stop ollama
  curl -s {state["addresses"]["mailpit"]}/api/v1/messages

What would a run change now?        python3 tests/servers/demo.py run -- ansible-playbook -i inventories/demo site.yml --check
Tear it down:                       make demo-down""")

    def down(self) -> None:
        host.down(None, [f"{host.LABEL_RUN}={self.run_id}"])
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port(wanted: int) -> int:
    """The wanted port of this machine's loopback, or another one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return probe.getsockname()[1]
            except OSError:
                continue
    raise host.Trouble("no free port on 127.0.0.1")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "down", "show"):
        commands.add_parser(name)
    commands.add_parser("run").add_argument("argv", nargs="+")
    arguments = parser.parse_args()
    demo = Demo()
    started = time.monotonic()
    try:
        if arguments.command == "up":
            code = demo.up()
            print(f"\n{time.monotonic() - started:.0f} s.")
            return code
        if arguments.command == "run":
            return subprocess.run(arguments.argv, cwd=TOP, env=demo.environment(), check=False).returncode
        demo.down() if arguments.command == "down" else demo.show()
    except host.Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
