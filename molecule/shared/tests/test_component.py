# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every component, asked in every scenario."""

import json
import os
import re

import pytest

PORTS = {"node_exporter": 9100, "ollama_exporter": 9877, "blackbox_exporter": 9115, "alertmanager": 9093,
         "prometheus": 9090, "loki": 3100, "grafana": 3000, "alloy": 12345, "promtail": 9080}
# Sockets beside it, on which a component's own parts reach each other.
MORE_PORTS = {"loki": [9095]}
SCENARIO = os.environ["MOLECULE_SCENARIO_NAME"]
COMPONENTS = [name for name in PORTS if name != "promtail"] if SCENARIO == "default" else [SCENARIO]
# node_exporter's costs 0.5 for the one question whether the clock is synchronised (see its own scenario).
CEILING = {"node_exporter": 1.8, "ollama_exporter": 1.4, "blackbox_exporter": 1.5, "alertmanager": 1.5,
           "prometheus": 1.5, "loki": 1.4, "grafana": 1.6, "alloy": 1.4, "promtail": 1.5}
DATA = {component: f"/var/lib/{component}" for component in ("node_exporter", "alertmanager", "prometheus", "loki",
                                                               "grafana", "alloy", "promtail")}


def test_the_unit_runs_now_and_after_a_boot(host, component):
    service = host.service(component)
    assert service.is_running
    assert service.is_enabled
    assert host.check_output("systemctl show -P NRestarts %s", component) == "0"


def test_the_sandbox_is_tight(host, component):
    text = host.check_output("systemd-analyze security --no-pager %s", component)
    assert float(re.search(r"Overall exposure level for \S+: ([\d.]+)", text).group(1)) <= CEILING[component], text


def test_only_this_machine_reaches_it(host, component, main_pid, ask):
    sockets = [line.split() for line in host.check_output("ss -Hltunp").splitlines()
               if f"pid={main_pid(component)}," in line]
    ports = [PORTS[component], *MORE_PORTS.get(component, [])]
    assert [f"127.0.0.1:{port}" for port in ports] == sorted(columns[4] for columns in sockets)
    outside = host.check_output("hostname -I").split()[0]
    assert not outside.startswith("127.")
    assert ask(f"http://{outside}:{PORTS[component]}/metrics").status == 0
    assert ask(f":{PORTS[component]}/metrics").status in (200, 401)


def test_a_finished_host_needs_nothing(site):
    outcome = site("--check")
    assert outcome.plans
    assert not outcome.changing
    assert not [result for result in outcome.results if result.get("changed")]


def test_everybody_may_read_only_what_holds_no_secret(host, site, web_login):
    """As nobody, read every file below the folders in which we place anything."""
    secrets = [web_login.split(":", 1)[1], "stack-test-password", "127.0.0.1:8099/watchdog"]
    search = ("import os,sys,json\n"
              "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
              "secrets = json.load(sys.stdin); found = []; seen = 0\n"
              "for top in ('/etc', '/opt/aistack', '/var/lib', '/run'):\n"
              "    for folder, _, names in os.walk(top):\n"
              "        for path in (os.path.join(folder, name) for name in names):\n"
              "            try:\n"
              "                if os.path.islink(path) or not os.path.isfile(path): continue\n"
              "                if os.path.getsize(path) > 5000000: continue\n"
              "                text = open(path, errors='replace').read()\n"
              "            except OSError: continue\n"
              "            seen += 1\n"
              "            found += [path for secret in secrets if secret in text]\n"
              "print(json.dumps([seen, found]))\n")
    host.check_output("printf %s %s > /run/search.py && printf %s %s > /run/search.json && chmod 600 /run/search.*",
                      "%s", search, "%s", json.dumps(secrets))
    seen, found = json.loads(host.check_output("python3 /run/search.py < /run/search.json"))
    assert seen > 100
    assert not found
    # The search would have found one.
    host.check_output("printf %s %s > /etc/planted", "%s", secrets[0])
    assert json.loads(host.check_output("python3 /run/search.py < /run/search.json"))[1] == ["/etc/planted"]
    host.check_output("rm /etc/planted /run/search.*")


def test_a_drop_in_of_the_user_is_respected(host, component, site):
    folder = f"/etc/systemd/system/{component}.service.d"
    host.check_output("mkdir -p %s && printf '[Service]\\nNice=7\\n' > %s/own.conf && systemctl daemon-reload && "
                      "systemctl restart %s", folder, folder, component)
    assert not site().changing
    assert host.file(f"{folder}/own.conf").content_string == "[Service]\nNice=7\n"
    assert host.check_output("systemctl show -P Nice %s", component) == "7"
    assert host.service(component).is_running


@pytest.mark.last
class TestRemoval:
    """Everything goes but the data and its owner; then these, too."""

    @pytest.fixture
    def traces(self, host):
        """Paths that carry a component's name or belong to nobody, but for the user's own drop-ins."""
        def find():
            names = " -o ".join(f"-name '*{component}*'" for component in COMPONENTS)
            found = host.check_output(
                f"find / -xdev \\( -path /proc -o -path /sys -o -path /opt/stack \\) -prune "
                f"-o \\( {names} -o -nouser -o -nogroup \\) -print").splitlines()
            return {path for path in found if not re.match(r"/etc/systemd/system/\w+\.service\.d(/|$)", path)}
        return find

    @staticmethod
    def declare(**options):
        return {f"{component}_{name}": value for component in COMPONENTS for name, value in options.items()}

    def test_absent_keeps_data_and_its_owner(self, host, site, ask, traces):
        assert {f"/etc/systemd/system/{component}.service" for component in COMPONENTS} <= traces()
        outcome = site(**self.declare(state="absent"))
        assert {name: plan["action"] for name, plan in outcome.changing.items()} == dict.fromkeys(COMPONENTS, "remove")
        kept = {DATA[component] for component in COMPONENTS if component in DATA}
        for component in COMPONENTS:
            assert not host.service(component).is_running
            assert ask(f":{PORTS[component]}/metrics").status == 0
            # An account that owns no data has nothing to keep.
            assert host.user(component).exists == (component in DATA)
        assert kept <= traces()
        assert not {path for path in traces() if not path.startswith((*kept, "/var/lib/aistack/"))}
        assert not site(**self.declare(state="absent")).changing

    def test_purge_leaves_nothing(self, host, site, traces):
        gone = self.declare(state="absent", purge_data=True)
        site(**gone)
        assert not [component for component in COMPONENTS if host.user(component).exists]
        assert not traces()
        assert not site(**gone).changing
