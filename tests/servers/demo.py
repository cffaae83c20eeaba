#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a throwaway host with a real Ollama, Keycloak and PostgreSQL on it, and the whole site over that.

    demo.py up                  everything from nothing; ends with a verdict, addresses and log-ins
    demo.py show                the addresses and log-ins again
    demo.py run -- CMD ARGS…    runs a command (ansible-playbook, …) with the demo's environment
    demo.py down                removes the host and what was generated for it

A demo is known by its run id ($AISTACK_RUN, `demo` by default), so that several can stand side by side; what is
generated for it lies in the cache folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time

import host

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
MAIN = "gpubox"
# Where they listen in the container. A forwarder there, and the engine here, serve each under one and the same address:
# a log-in leads a browser from one page to the other, and the site probes what people open.
PAGES = {"grafana": 3000, "keycloak": 8080, "prometheus": 9090, "alertmanager": 9093, "loki": 3100, "mailpit": 8025,
         "ollama": 11434}
USERS = {"ada": "grafana-admin", "edith": "grafana-editor", "victor": "grafana-viewer", "nobody": ""}


class Demo:
    """One demo. The tests use it too: with hosts that are watched beside the main one, and variables of their own."""

    def __init__(self, run_id: str = "") -> None:
        self.run_id = run_id or os.environ.get("AISTACK_RUN") or "demo"
        self.folder = os.path.join(host.cache_folder(), "demo-" + self.run_id)
        self.log = os.path.join(self.folder, "prepare.log")
        self.own: dict[str, dict] = {}  # variables of one host

    # -- what is known of it -------------------------------------------------------------------------------------

    @property
    def state(self) -> dict:
        try:
            with open(os.path.join(self.folder, "demo.json"), encoding="utf-8") as handle:
                return json.load(handle)
        except FileNotFoundError:
            raise host.Trouble(f"There is no demo with the run id {self.run_id}: `demo.py up` makes it.") from None

    def address(self, page: str) -> str:
        return self.state["addresses"][page]

    def login(self, name: str = "web_password") -> tuple[str, str]:
        """The generated log-in of Prometheus and Alertmanager; with `grafana_admin_password` that of Grafana."""
        try:
            with open(self._path("secrets.yml"), encoding="utf-8") as handle:
                return "admin", re.search(rf"(?m)^{name}: ['\"]?([^'\"\n]+)", handle.read())[1]
        except FileNotFoundError:
            raise host.Trouble("The site is not installed yet, so it has no log-in.") from None

    def password(self, of: str) -> str:
        """A password that was generated for what a user has: `smtp`, `keycloak` (its admin) or `people`."""
        with open(self._path(of + "-password"), encoding="utf-8") as handle:
            return handle.read()

    def environment(self) -> dict[str, str]:
        state = self.state
        return dict(
            os.environ,
            AISTACK_RUN=self.run_id,
            AISTACK_DEMO_CONTAINER=state["containers"][MAIN],
            AISTACK_DEMO_FOLDER=self.folder,
            AISTACK_DEMO_MIRROR=state["mirror"],
            AISTACK_DEMO_ADDRESSES=json.dumps(state["addresses"]),
            ANSIBLE_CONFIG=os.path.join(TOP, "ansible.cfg"),
            PATH=os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
        )

    def playbook(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        inventories = ["-i", "inventories/demo"]
        if os.path.exists(self._path("more.yml")):
            inventories += ["-i", self._path("more.yml")]
        options["env"] = dict(self.environment(), **options.pop("env", {}))
        return subprocess.run(["ansible-playbook", *inventories, *arguments], cwd=TOP, check=False, text=True,
                              **options)

    def on(self, name: str, *argv: str, check: bool = True) -> str:
        """Runs a command on one of the hosts."""
        return host.run("docker", "exec", self.state["containers"][name], *argv, check=check).stdout

    # -- up and down ---------------------------------------------------------------------------------------------

    def make_hosts(self, watched: tuple[str, ...] = (), flavour: str = "") -> None:
        """The main host, and others that are only watched, each with ports that Prometheus reaches."""
        import servers

        mirror = servers.mirror_folder()
        if not os.path.exists(os.path.join(mirror, "releases.yml")):
            raise host.Trouble(f"There are no programs in {mirror}: `make servers` gets them.")
        self.down()
        os.makedirs(self.folder, mode=0o700)
        for of in ("smtp", "keycloak", "people"):
            self._write(of + "-password", secrets.token_urlsafe(12))
        # Ports that are easy to remember are for the demo; tests make several hosts at the same moment.
        ports = dict(zip(PAGES, free_ports([10000 + port if self.run_id == "demo" else 0 for port in PAGES.values()])))
        os.environ["AISTACK_RUN"] = self.run_id
        published = [f"{port}:{port}" for port in ports.values()]
        made = {MAIN: host.up(MAIN, host.RELEASES[0], published, [], flavour="stack")}
        made.update((name, host.up(name, host.RELEASES[0], [], [], flavour=flavour)) for name in watched)
        self._write("demo.json", json.dumps({
            "containers": {name: one["name"] for name, one in made.items()},
            "mirror": mirror,
            "addresses": {name: f"http://127.0.0.1:{port}" for name, port in ports.items()},
            "forwards": [f"{ports[name]}:{port}" for name, port in PAGES.items()],
        }))
        self.main, self.watched = made[MAIN], {name: made[name] for name in watched}
        self.set()

    def set(self, **variables) -> None:
        """Describes the other hosts, and variables that hold for all, in an inventory beside the demo's own."""
        hosts = {name: {
            "ansible_connection": "community.docker.docker", "ansible_host": one["name"],
            "ansible_python_interpreter": "/usr/bin/python3", "observability_address": one["address"],
            "node_exporter_listen_address": ":9100", "ollama_exporter_listen_address": ":9877",
            "alloy_listen_address": ":12345", "promtail_listen_address": ":9080",
            "monitored_services": {"ollama": {}}, **self.own.get(name, {}),
        } for name, one in self.watched.items()}
        # They send their lines to the main host, which has to be in reach.
        main = {"observability_address": self.main["address"], "loki_listen_address": ":3100"} if hosts else {}
        main |= self.own.get(MAIN, {})
        if hosts or main or variables:
            self._write("more.yml", json.dumps({"all": {"vars": variables}, "monitored": {"hosts": hosts},
                                                "observability": {"hosts": {MAIN: main}}}))

    def prepare(self) -> bool:
        """The user's own stack, and what stands outside of the site. Quiet; the log says more."""
        forwards = self.state["forwards"]
        with open(self.log, "w", encoding="utf-8") as log:
            return not any(self.playbook(*arguments, stdout=log, stderr=subprocess.STDOUT).returncode for arguments in (
                ["tests/servers/outside.yml", "--limit", MAIN, "-e", json.dumps({"outside_forwards": forwards})],
                ["tests/servers/stack.yml", "--limit", MAIN, "-e", '{"stack_parts": ["ollama", "mailpit", "keycloak", '
                 '"postgresql"]}'],
                *([["tests/servers/stack.yml", "--limit", ",".join(self.watched), "--tags", "ollama"]]
                  if self.watched else []),
            ))

    def let_in(self) -> None:
        """What the user does in Keycloak: who may log in to Grafana, and as what."""
        for name, role in USERS.items():
            if role:
                self.on(MAIN, "python3", "/opt/stack/realm.py", "grant", name, role)

    def up(self) -> int:
        print("A throwaway host with a real Ollama, Keycloak and PostgreSQL, and the site that watches them. This\n"
              "takes about two minutes.\n")
        said = time.monotonic()

        def done(what: str) -> None:
            nonlocal said
            print(f"  {what:<60}{time.monotonic() - said:>4.0f} s", flush=True)
            said = time.monotonic()

        self.make_hosts()
        done(f"The host {self.state['containers'][MAIN]}")
        if not self.prepare():
            with open(self.log, encoding="utf-8") as log:
                print(log.read()[-3000:], file=sys.stderr)
            return self._stopped("preparing its host")
        done("What a user has: Ollama with a tiny model, Keycloak, PostgreSQL, mail")
        print("\n$ ansible-playbook -i inventories/demo site.yml", flush=True)
        if self.playbook("site.yml").returncode:
            return self._stopped("site.yml")
        self.let_in()
        print("\n$ ansible-playbook -i inventories/demo playbooks/doctor.yml", flush=True)
        quiet = {"ANSIBLE_DISPLAY_OK_HOSTS": "no"}
        if self.playbook("playbooks/doctor.yml", "-e", "observability_doctor_wait=60", env=quiet).returncode:
            return self._stopped("playbooks/doctor.yml")
        self.show()
        return 0

    def _stopped(self, where: str) -> int:
        print(f"\nThe demo stopped at {where}. The host {self.state['containers'][MAIN]} is still there to look at; "
              f"`{self._command('make demo-down')}` removes it.", file=sys.stderr)
        return 1

    def show(self) -> None:
        container = self.state["containers"][MAIN]
        login = " / ".join(self.login())
        people = ", ".join(f"{name} ({role.removeprefix('grafana-')})" for name, role in USERS.items() if role)
        mails = self.address("mailpit")
        demo = self._command(".venv/bin/python tests/servers/demo.py")
        print(f"""
The demo is up, on this machine only:

  Grafana        {self.address("grafana"):<26}"Sign in with Keycloak": {people}, password {self.password("people")}
                 {"":<26}or without Keycloak: {" / ".join(self.login("grafana_admin_password"))}
  Keycloak       {self.address("keycloak") + "/admin":<32}log-in admin / {self.password("keycloak")}
  Prometheus     {self.address("prometheus"):<26}log-in {login}
  Alertmanager   {self.address("alertmanager"):<26}the same log-in
  Loki           {self.address("loki"):<26}no log-in; to look at log lines, Grafana's dashboard "Log explorer":
                 {self.address("grafana")}/d/aistack-log_explorer
  Mails          {mails + "/view/latest.html"}   the newest one; all: {mails}/api/v1/messages
  Ollama         {self.address("ollama"):<26}no log-in

Stop Ollama; within two minutes there is a mail about it. Start it again; a mail says that it is over:
  docker exec {container} systemctl stop ollama
  curl -s {mails}/view/latest.txt
What Keycloak wrote in the last hour, and everything that says "error":
  curl -sG {self.address("loki")}/loki/api/v1/query_range --data-urlencode 'query={{service="keycloak"}}'
  curl -sG {self.address("loki")}/loki/api/v1/query_range --data-urlencode 'query={{host="{MAIN}"}} |~ "(?i)error"'
What a run would change now:
  {demo} run -- ansible-playbook -i inventories/demo site.yml --check
Remove all of it:
  {self._command("make demo-down")}""")

    def down(self) -> None:
        host.down(None, [f"{host.LABEL_RUN}={self.run_id}"])
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- inside --------------------------------------------------------------------------------------------------

    def _command(self, words: str) -> str:
        return words if self.run_id == "demo" else f"AISTACK_RUN={self.run_id} {words}"

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def _write(self, name: str, text: str) -> None:
        with os.fdopen(os.open(self._path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w",
                       encoding="utf-8") as handle:
            handle.write(text)


def free_ports(wanted: list[int]) -> list[int]:
    """The wanted ports of this machine's loopback, another one where one is taken or none is wanted."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _port in wanted]
        for probe, port in zip(probes, wanted):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "show", "down"):
        commands.add_parser(name)
    commands.add_parser("run").add_argument("argv", nargs="+")
    arguments = parser.parse_args()
    demo = Demo()
    try:
        if arguments.command == "up":
            return demo.up()
        if arguments.command == "run":
            return subprocess.run(arguments.argv, cwd=TOP, env=demo.environment(), check=False).returncode
        demo.down() if arguments.command == "down" else demo.show()
    except host.Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. `demo.py down` removes what is there.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
