# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight: its pieces, the target's half against a made-up /proc, and the whole with real ansible-playbook."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.aistack.observability.plugins.action import preflight
from ansible_collections.aistack.observability.plugins.modules import preflight as target
from ansible_collections.aistack.observability.plugins.plugin_utils.inventory_model import Service

COLLECTIONS = Path(preflight.__file__).parents[5]


# -- tags --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("run", "skip", "selected"), [
    (["all"], [], True), ([], [], True), (["prometheus"], [], True), (["tagged"], [], True),
    (["grafana", "prometheus"], [], True), (["alertmanager"], [], False), (["untagged"], [], False),
    (["always"], [], False), (["all"], ["prometheus"], False), (["all"], ["alertmanager"], True),
    (["prometheus"], ["all"], False), (["all"], ["tagged"], False),
])
def test_selection(run, skip, selected):
    assert preflight.is_selected("prometheus", run, skip) is selected


# -- what the target's answer means ------------------------------------------------------------------------------


FOUND = {"root": True, "systemd": 252, "architecture": "x86_64", "python": "3.11.2", "ours": [], "units": {},
         "folders": {}, "packages": {}, "ports": {}}


@pytest.mark.parametrize(("change", "name", "words"), [
    ({"root": False}, "become", "set `become: true`"),
    ({"systemd": 0}, "systemd", "isn't systemd"),
    ({"systemd": 247}, "systemd", "version 247 is too old, 249 or newer"),
    ({"architecture": "riscv64"}, "architecture", "no programs for riscv64; the known architectures are aarch64"),
    ({"python": "3.8.10"}, "python", "version 3.8.10 is too old, 3.9"),
])
def test_systems_that_cannot_be_served(change, name, words):
    (problem,) = preflight.system_problems({**FOUND, **change})
    assert problem.name == name and words in problem.text


def test_a_supported_system():
    assert preflight.system_problems(FOUND) == []
    assert len(preflight.system_problems({**FOUND, "root": False, "systemd": 0, "architecture": "x"})) == 3


PROMETHEUS = Service("monitor.lan", "prometheus", "prometheus", "prometheus", "prometheus", "127.0.0.1:9090",
                     "prometheus_listen_address")
NODE = Service("monitor.lan", "host", "host", "node_exporter", "node_exporter", "127.0.0.1:9100",
               "node_exporter_listen_address")
UNIT = "/lib/systemd/system/prometheus.service"


def foreign(adopted=(), service=PROMETHEUS, **found):
    return [str(problem) for problem in preflight.foreign_problems({**FOUND, **found}, [service], adopted)]


def held(address="127.0.0.1", process="prometheus", unit="prometheus.service", container="", port="9090"):
    return {"ports": {port: [{"address": address, "process": process, "unit": unit, "container": container}]}}


def test_a_distributions_package_is_refused():
    found = {"units": {"prometheus": UNIT}, "folders": {"prometheus": "/etc/prometheus"},
             "packages": {UNIT: "prometheus"}}
    assert foreign(**found) == [
        f"{UNIT}: this unit belongs to the package prometheus: remove it (apt purge prometheus, or your distribution's "
        "command), or set prometheus_adopt to take it over",
        "/etc/prometheus: this folder isn't ours: move it away, or set prometheus_adopt to take it over"]
    assert foreign(adopted=["prometheus"], **found) == []
    assert foreign(ours=["prometheus"], **found) == []


def test_a_taken_port_is_refused():
    assert foreign(**held(process="nginx", unit="nginx.service")) == [
        "prometheus_listen_address: port 9090 is held by nginx (nginx.service): stop that, or choose another port"]
    assert foreign(**held(process="docker-proxy", unit="docker.service", container="prom")) == [
        "prometheus_listen_address: port 9090 is held by the container prom: stop that, or choose another port"]
    assert foreign(**held(process="", unit="")) == [
        "prometheus_listen_address: port 9090 is held by a process that can't be seen from here: stop that, or choose "
        "another port"]
    (line,) = foreign(service=NODE, **held(process="node_exporter", container="node", port="9100"))
    assert line.endswith("or keep it and have it scraped with monitored_services: {host: {exporter_url: "
                         "http://127.0.0.1:9100/metrics}}")


def test_a_port_that_is_ours_or_elsewhere_is_not_refused():
    assert foreign(ours=["prometheus"], **held()) == []
    assert foreign(**held(address="192.0.2.1")) == []
    assert foreign(ours=["prometheus"], **held(process="x", unit="x.service")) != []  # a stranger in our place


def test_adoption_takes_the_port_of_the_same_unit_only():
    assert "set prometheus_adopt" in foreign(**held())[0]
    assert foreign(adopted=["prometheus"], **held()) == []
    assert foreign(adopted=["prometheus"], **held(container="prom")) != []
    assert foreign(adopted=["prometheus"], **held(unit="nginx.service")) != []


@pytest.mark.parametrize(("listens", "held_on", "overlap"), [
    ("127.0.0.1:1", "127.0.0.1", True), ("localhost:1", "127.0.0.1", True), ("127.0.0.1:1", "0.0.0.0", True),
    ("127.0.0.1:1", "::", True), (":1", "192.0.2.1", True), ("127.0.0.1:1", "192.0.2.1", False),
])
def test_overlap(listens, held_on, overlap):
    assert preflight._overlap(listens, held_on) is overlap


def test_where_programs_come_from(tmp_path):
    file = tmp_path / "releases.yml"
    file.write_text("")
    for mirror in ("", None, "https://mirror.example.org/x", str(tmp_path)):
        assert preflight.source_problems(mirror, str(file)) == []
    assert [problem.name for problem in preflight.source_problems(str(file), str(tmp_path))] == [
        "observability_mirror", "observability_releases_overlay"]
    assert "got 'nowhere'" in str(preflight.source_problems("nowhere", "")[0])


def test_two_rule_files_of_one_name():
    assert preflight.placed_file_problems("x_extra_rule_files", ["a/own.yml", "a/other.yml"]) == []
    (problem,) = preflight.placed_file_problems("x_extra_rule_files", ["a/own.yml", "b/own.yml"])
    assert str(problem) == ("x_extra_rule_files: b/own.yml and a/own.yml have the same name, under which they are "
                            "placed: rename one of them")


# -- the target's half -------------------------------------------------------------------------------------------


def test_a_listening_socket_is_found_with_its_process():
    with socket.socket() as server, socket.socket() as idle:
        server.bind(("127.0.0.1", 0))
        server.listen()
        idle.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port, other = server.getsockname()[1], idle.getsockname()[1]
        found = target.port_holders([port, other], [])
    assert list(found) == [str(port)]
    (holder,) = found[str(port)]
    assert holder["address"] == "127.0.0.1"
    assert holder["process"] == Path("/proc/self/comm").read_text().strip()


def test_ipv6_addresses():
    assert target.address_of("0" * 32) == "::"
    one = "01000000" if sys.byteorder == "little" else "00000001"
    assert target.address_of("0" * 24 + one) == "::1"


def made_up_proc(root, inode, pids):
    """A /proc with one listener on port 9090 and processes that hold sockets: {pid: [inode]}."""
    (root / "net").mkdir(parents=True)
    header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    line = "   0: 0100007F:2382 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 %s 1\n" % inode
    other = line.replace(" 0A ", " 01 ").replace(inode, "999")
    (root / "net" / "tcp").write_text(header + line + other)
    for pid, inodes in pids.items():
        (root / pid / "fd").mkdir(parents=True)
        for number, held_inode in enumerate(inodes):
            os.symlink("socket:[%s]" % held_inode, root / pid / "fd" / str(number))
    return str(root)


def test_our_own_processes_are_asked_first(tmp_path):
    proc = made_up_proc(tmp_path, "77", {"10": ["1"], "20": ["77"], "30": ["77"]})
    assert target.listeners({9090, 9100}, proc) == {"77": (9090, "127.0.0.1")}
    assert target.listeners({9100}, proc) == {}
    assert target.owners(["77"], ["30"], proc) == {"77": "30"}
    assert target.owners(["77"], ["10"], proc)["77"] in ("20", "30")
    assert target.owners(["78"], [], proc) == {}


def container(root, identity, name, host_port):
    (root / identity).mkdir(parents=True)
    ports = {"9090/tcp": [{"HostIp": "127.0.0.1", "HostPort": host_port}], "9/tcp": None}
    record = {"Name": "/" + name, "NetworkSettings": {"Ports": ports}}
    (root / identity / "config.v2.json").write_text(json.dumps(record))


def test_containers_by_dockers_own_records(tmp_path):
    container(tmp_path, "a" * 64, "prom", "9090")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.v2.json").write_text("{")
    assert list(target.containers(str(tmp_path))) == [("a" * 64, "prom", {9090})]
    assert list(target.containers(str(tmp_path / "missing"))) == []


@pytest.mark.parametrize(("cgroup", "process", "expected"), [
    ("0::/system.slice/prometheus.service\n", "prometheus", ("prometheus.service", "")),
    ("0::/system.slice/docker-" + "a" * 64 + ".scope\n", "prometheus", ("docker-" + "a" * 64 + ".scope", "prom")),
    ("0::/system.slice/docker-" + "b" * 64 + ".scope\n", "x", ("docker-" + "b" * 64 + ".scope", "b" * 12)),
    ("0::/system.slice/docker.service\n", "docker-proxy", ("docker.service", "prom")),
    ("4:memory:/x\n1:name=systemd:/docker/" + "a" * 64 + "\n", "x", ("", "prom")),
    # A host that is a container itself, and one of its own containers
    ("0::/docker/" + "c" * 64 + "/system.slice/prometheus.service\n", "prometheus", ("prometheus.service", "")),
    ("0::/docker/" + "c" * 64 + "/docker/" + "a" * 64 + "\n", "x", ("", "prom")),
    ("0::/user.slice/user-0.slice/session-1.scope\n", "python3", ("session-1.scope", "")),
])
def test_who_holds_a_port(monkeypatch, cgroup, process, expected):
    root = "/docker/" + "c" * 64 if "c" * 64 in cgroup else ""
    files = {"/proc/1/cgroup": "0::%s/init.scope\n" % root, "/proc/10/cgroup": cgroup, "/proc/10/comm": process + "\n"}
    monkeypatch.setattr(target, "read", files.__getitem__)
    monkeypatch.setattr(target, "containers", lambda: [("a" * 64, "prom", {9090})])
    assert target.cgroup_root() == root
    found = target.holder("10", 9090, "127.0.0.1", target.cgroup_root())
    assert (found["unit"], found["container"]) == expected


def test_what_is_ours(monkeypatch, tmp_path):
    monkeypatch.setattr(target, "STATE_ROOT", str(tmp_path))
    (tmp_path / "prometheus").mkdir()
    assert not target.is_ours("prometheus")  # an empty folder is no record
    os.symlink("generations/1", tmp_path / "prometheus" / "proven")
    (tmp_path / "alertmanager").mkdir()
    (tmp_path / "alertmanager" / "intent.json").write_text("{}")
    assert [name for name in ("prometheus", "alertmanager", "node_exporter") if target.is_ours(name)] == [
        "prometheus", "alertmanager"]
    assert target.all_ours() == ["alertmanager", "prometheus"]
    monkeypatch.setattr(target, "STATE_ROOT", str(tmp_path / "nowhere"))
    assert target.all_ours() == []


def test_debian_packages(tmp_path):
    (tmp_path / "prometheus.list").write_text("/.\n/etc/prometheus\n/lib/systemd/system/prometheus.service\n")
    (tmp_path / "alertmanager:amd64.list").write_text("/usr/lib/systemd/system/alertmanager.service\n")
    (tmp_path / "prometheus.md5sums").write_text("/etc/other\n")
    paths = ["/etc/prometheus", "/usr/lib/systemd/system/prometheus.service",
             "/lib/systemd/system/alertmanager.service", "/etc/other"]
    assert target.owning_packages(paths, str(tmp_path)) == {
        paths[0]: "prometheus", paths[1]: "prometheus", paths[2]: "alertmanager"}


# -- the whole ---------------------------------------------------------------------------------------------------

PLAY = [{
    "hosts": "observability:monitored", "gather_facts": False, "any_errors_fatal": True, "tags": ["always"],
    "tasks": [
        {"ansible.builtin.import_role": {"name": "aistack.observability.observability", "rolespec_validate": False}},
        {"name": "Reached", "ansible.builtin.debug": {"msg": "the play went on"}},
    ],
}]
# A real answer of a target, so that the controller's half can be seen to its end on a machine without systemd.
ANSWER = """
from ansible_collections.aistack.observability.plugins.action import preflight
FOUND = {found!r}
class ActionModule(preflight.ActionModule):
    def _execute_module(self, *arguments, **keywords):
        return {{"target": FOUND}}
"""


class Project:
    """A folder with an inventory and a play, and real ansible-playbook runs in it."""

    def __init__(self, folder):
        self.folder = folder
        self.hosts = {"observability": {"hosts": {}}, "monitored": {"hosts": {}}}
        self.shared = {}
        self.host()

    def host(self, name="box", group="observability", **variables):
        self.hosts[group]["hosts"][name] = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable,
                                            **variables}

    def run(self, *arguments, found=FOUND, play=PLAY):
        inventory = self.folder / "inventory"
        (inventory / "group_vars").mkdir(parents=True, exist_ok=True)
        (inventory / "hosts.yml").write_text(yaml.safe_dump(self.hosts))
        (inventory / "group_vars" / "all.yml").write_text(yaml.safe_dump(self.shared))
        task = play
        if found is not None:
            (self.folder / "action_plugins").mkdir(exist_ok=True)
            (self.folder / "action_plugins" / "preflight_here.py").write_text(ANSWER.format(found=found))
            task = json.loads(json.dumps(play))
            task[0]["tasks"][0] = {"name": "Preflight", "preflight_here": {}}
        (self.folder / "play.yml").write_text(yaml.safe_dump(task))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment |= {"ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
                        "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
                        "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "500"}
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), "play.yml", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        self.output = done.stdout + done.stderr
        return done.returncode

    def problems(self, *arguments, **keywords):
        """The lines that a failed run reports, without those of the system that the tests run on."""
        code = self.run(*arguments, **keywords)
        assert (code != 0) == ("nothing was changed:" in self.output), self.output
        if code:
            assert "the play went on" not in self.output
        lines = self.output.split("nothing was changed:\n", 1)[-1].split("\nOrigin:")[0].split("\nfatal:")[0]
        return [line.strip() for line in lines.splitlines()] if code else []

    @property
    def store(self):
        return self.folder / "inventory" / "group_vars" / "observability-secrets.yml"


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_a_right_inventory_passes_and_generates_secrets_once(project):
    project.host(monitored_services={"ollama": {}})
    project.shared = {"observability_web_login": {"username": "admin"}, "my_own_variable": 1}
    assert project.problems("--check") == []
    assert not project.store.exists()
    assert project.problems() == []
    assert stat.S_IMODE(project.store.stat().st_mode) == 0o600
    content = project.store.read_bytes()
    assert "changed=1" in project.output and "the play went on" in project.output
    assert yaml.safe_load(content)["web_password"] not in project.output
    assert project.problems() == []
    assert "changed=0" in project.output and project.store.read_bytes() == content
    assert "WARNING" not in project.output  # the store is not taken for an inventory


def test_misspelt_mistyped_and_clashing_at_once(project):
    project.host(monitored_services={"ollama": {"urll": "http://a:1"}, "llm": {"type": "olama"}})
    project.shared = {
        "prometheus_retention_tim": "3d", "promethues_listen_address": "127.0.0.1:1", "node_exporter_version": 1.10,
        "observability_thresholds": {"cpu_percent": 180}, "observability_threshold": {}, "monitered_services": {},
        "alertmanager_listen_address": "127.0.0.1:9090", "observability_web_login": {"password": ["hunter2"]},
        "prometheus_remote_write": "{{ no_such_variable }}",
    }
    assert sorted(project.problems()) == sorted([
        "monitored_services.llm.type: 'olama' is not a type of service; did you mean ollama?",
        "monitored_services.ollama.urll: there is no such option; did you mean url?",
        "observability_web_login: missing parameter(s) required by 'password': username",
        "observability_web_login.password: expected a string, got a list",
        "node_exporter_version: expected a string, got 1.1; put it in quotes",
        "prometheus_remote_write: can't be evaluated for box: 'no_such_variable' is undefined",
        "monitered_services: there is no such variable; did you mean monitored_services?",
        "observability_threshold: there is no such variable; did you mean observability_thresholds?",
        "prometheus_retention_tim: there is no such variable; did you mean prometheus_retention_time?",
        "promethues_listen_address: there is no such variable; did you mean prometheus_listen_address?",
        "observability_thresholds.cpu_percent: must be a number from 0 to 100 (percent), not 180",
        "prometheus_listen_address: port 9090 is also that of alertmanager_listen_address on box: give one of the two "
        "another port",
    ])
    assert "hunter2" not in project.output
    assert not project.store.exists()


def test_tags_select_what_is_checked(project):
    project.shared = {"prometheus_retention_tim": "3d", "prometheus_listen_address": "here",
                      "observability_scrape_interval": "often"}
    shared = "observability_scrape_interval: expected a duration such as 30s, 1h30m or 15d, got 'often'"
    assert project.problems("--tags", "alertmanager") == [shared]
    assert project.problems("--skip-tags", "prometheus") == [shared]
    assert len(project.problems("--tags", "prometheus")) == 3


def test_variables_may_refer_to_defaults_and_be_encrypted(project):
    """Neither is an error, what comes out is what is checked, and what was encrypted isn't shown."""
    project.shared = {"prometheus_evaluation_interval": "{{ [prometheus_scrape_interval] | first }}",
                      "prometheus_scrape_timeout": "{{ 'of' ~ 'ten' }}"}
    assert project.problems() == [
        "prometheus_scrape_timeout: expected a duration such as 30s, 1h30m or 15d, got 'often'"]
    password = project.folder / "password"
    password.write_text("open sesame\n")
    lines = VaultLib().encrypt(b"hunter2", VaultSecret(b"open sesame")).decode().splitlines()
    encrypted = "!vault |\n" + "".join(f"        {line}\n" for line in lines)
    (project.folder / "inventory" / "group_vars" / "observability.yml").write_text(
        f"observability_web_login:\n  username: admin\n  password: {encrypted}prometheus_scrape_interval: {encrypted}"
        f"monitored_services:\n  ollama:\n    url: {encrypted}")
    expected = "expected a duration such as 30s, 1h30m or 15d, got a value that isn't shown"
    assert [line for line in project.problems("--vault-password-file", str(password)) if "often" not in line] == [
        "monitored_services.ollama.url: expected an http or https address without a log-in, for example "
        "http://127.0.0.1:11434, got a value that isn't shown",
        f"prometheus_scrape_interval: {expected}", f"prometheus_evaluation_interval: {expected}"]
    assert "hunter2" not in project.output


def test_names_of_the_users_own(project):
    project.shared = {"observability_team": "me", "observability_ignored_variables": ["observability_team"]}
    assert project.problems() == []
    project.shared = {"observability_team": "me"}
    assert [line.split(":")[0] for line in project.problems()] == ["observability_team"]


def test_a_limited_run_speaks_for_the_hosts_that_it_leaves_out(project):
    project.host("gpu1", "monitored")
    lines = project.problems("--limit", "box")
    assert [line.split(":")[0] for line in lines] == ["alloy_listen_address (of gpu1)",
                                                      "node_exporter_listen_address (of gpu1)", "log_shipper (of gpu1)"]
    lines = project.problems("--limit", "box", "--tags", "loki")
    assert [line.split(":")[0] for line in lines] == ["log_shipper (of gpu1)"]
    assert project.problems("--limit", "box", "--tags", "alertmanager") == []
    project.host("gpu1", "monitored", node_exporter_listen_address="192.0.2.21:9100", log_shipper="none")
    assert project.problems("--limit", "box") == []


def test_one_hosts_problem_stops_all(project):
    project.host("gpu1", "monitored", node_exporter_listen_address="192.0.2.21:9100", node_exporter_state="gone",
                 log_shipper="none")
    assert project.run() != 0
    assert "node_exporter_state: expected one of present, absent, got 'gone'" in project.output
    assert "the play went on" not in project.output


def test_foreign_software_is_refused_unless_adopted(project):
    found = {**FOUND, "folders": {"prometheus": "/etc/prometheus"}, **held(process="nginx", unit="nginx.service")}
    assert project.problems(found=found) == [
        "/etc/prometheus: this folder isn't ours: move it away, or set prometheus_adopt to take it over",
        "prometheus_listen_address: port 9090 is held by nginx (nginx.service): stop that, or choose another port"]
    project.shared = {"prometheus_adopt": True}
    assert len(project.problems(found=found)) == 1
    project.shared = {"prometheus_state": "absent"}
    assert project.problems(found=found) == []


def test_an_encrypted_store_needs_its_password(project):
    project.shared = {"observability_web_login": {"username": "admin"}}
    password = project.folder / "password"
    password.write_text("open sesame\n")
    assert project.problems() == []
    subprocess.run([sys.executable, "-m", "ansible", "vault", "encrypt", "--vault-password-file", str(password),
                    str(project.store)], check=True, capture_output=True)
    assert "is encrypted: give its vault password" in project.problems()[0]
    assert project.problems("--vault-password-file", str(password)) == []
    assert project.store.read_bytes().startswith(b"$ANSIBLE_VAULT")


def test_the_lookup_answers_for_a_limited_and_tagged_run(project):
    project.host(monitored_services={"ollama": {}})
    project.host("gpu1", "monitored", node_exporter_listen_address="{{ here }}:9100", here="192.0.2.21",
                 log_shipper="none", ansible_connection="ssh", ansible_host="unreachable.invalid")
    project.shared = {"observability_web_login": {"username": "admin", "password": "of my own"}}
    questions = ["services", "roles", "scrape_configs", "rules", "alertmanagers", "silence", "secret"]
    answers = project.folder / "answers.json"
    play = [{"hosts": "observability", "gather_facts": False, "tasks": [{
        "ansible.builtin.copy": {
            "dest": str(answers), "mode": "0600",
            "content": "{{ query('aistack.observability.site', *%r, type='ollama', service='ollama', "
                       "name='web_password') | to_json }}" % questions}}]}]
    assert project.run("--limit", "box", "--tags", "all", found=None, play=play) == 0, project.output
    found = dict(zip(questions, json.loads(answers.read_text()), strict=True))
    assert [service["component"] for service in found["services"]] == ["ollama_exporter"]
    assert found["roles"] == ["alertmanager", "alloy", "blackbox_exporter", "grafana", "keycloak_client", "loki",
                              "node_exporter", "ollama_exporter", "prometheus"]
    nodes = next(config for config in found["scrape_configs"] if config["job_name"] == "node")
    assert [static["targets"] for static in nodes["static_configs"]] == [["127.0.0.1:9100"], ["192.0.2.21:9100"]]
    assert set(found["rules"]) == {"host.yml", "ollama.yml", "prometheus.yml", "alertmanager.yml", "blackbox.yml",
                                   "grafana.yml", "loki.yml", "alloy.yml"}
    assert "${" not in json.dumps(found["rules"]) and "{{ " in json.dumps(found["rules"])
    assert found["silence"]["login"] == {"username": "admin", "password": "of my own"}
    assert found["secret"] == "of my own"


def test_the_lookup_names_a_wrong_question(project):
    play = [{"hosts": "box", "gather_facts": False, "tasks": [
        {"ansible.builtin.debug": {"msg": "{{ lookup('aistack.observability.site', 'targets') }}"}}]}]
    assert project.run(found=None, play=play) != 0
    assert "there is no question 'targets'; the questions are services, roles" in project.output


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the target's half reads Linux's /proc")
def test_the_target_is_really_looked_at(project):
    """This machine as the target: the port that this test holds is found, with the process that holds it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        project.shared = {"prometheus_listen_address": "127.0.0.1:%d" % port}
        lines = project.problems(found=None)
    process = Path("/proc/self/comm").read_text().strip()
    assert any(line.startswith(f"prometheus_listen_address: port {port} is held by {process}") for line in lines), lines


@pytest.mark.parametrize(("variables", "name", "words"), [
    ({"prometheus_version": "v3.15.0"}, "prometheus_version", "is not pinned in files/releases.yml"),
    ({"prometheus_release": {"version": "9.9.9"}}, "prometheus_release", "9.9.9 is not pinned"),
    ({"prometheus_release": {"version": "9.9.9", "url": "https://example.org/x.tar.gz", "sha256": "abc"}},
     "prometheus_release", "64 hexadecimal digits"),
])
def test_a_version_that_nobody_pinned(variables, name, words):
    (problem,) = preflight.release_problems(["prometheus", "ollama_exporter"], variables)
    assert problem.name == name and words in problem.text


@pytest.mark.parametrize("variables", [
    {}, {"prometheus_version": ""}, {"prometheus_version": "3.13.4"}, {"prometheus_release": "mistyped"},
    {"prometheus_version": "9.9.9", "prometheus_state": "absent"},
    {"prometheus_release": {"version": "9.9.9", "url": "https://example.org/x.tar.gz", "sha256": "a" * 64}},
])
def test_a_version_that_can_be_had(variables):
    assert preflight.release_problems(["prometheus", "ollama_exporter"], variables) == []


def test_a_grafana_is_taken_over_with_the_key_to_its_database():
    ours, theirs = {"ours": ["grafana"]}, {"ours": []}
    assert preflight.adoption_problems(theirs, [], {}) == []
    assert preflight.adoption_problems(ours, ["grafana"], {}) == []
    assert preflight.adoption_problems(theirs, ["grafana"], {"grafana_secret_key": "k"}) == []
    (problem,) = preflight.adoption_problems(theirs, ["grafana"], {})
    assert problem.name == "grafana_secret_key" and "secret_key of its grafana.ini" in problem.text


def test_files_that_are_not_there_are_named(tmp_path):
    (tmp_path / "mine.json").write_text("{}")
    assert preflight.placed_file_problems("x", [str(tmp_path / "mine.json")]) == []
    (problem,) = preflight.placed_file_problems("grafana_extra_dashboards", ["/no/where.json", "files/elsewhere.json"])
    assert str(problem) == "grafana_extra_dashboards: there is no file /no/where.json on the controller"


@pytest.mark.parametrize(("given", "name", "words"), [
    ({"server": {"http_port": 3999}}, "server.http_port", "is said by grafana_listen_address"),
    ({"users": "light"}, "users", "expected a mapping of settings"),
    ({"auth": {"disable_login": [1]}}, "auth.disable_login", "expected a text, a number"),
])
def test_settings_that_are_none_or_belong_to_a_variable(given, name, words):
    assert preflight.setting_problems("s", {"users": {"default_theme": "light"}}) == []
    (problem,) = preflight.setting_problems("s", given)
    assert problem.name == f"s.{name}" and words in problem.text


@pytest.mark.parametrize("sources, words", [
    ({"drop": ["a(b"]}, "log_sources.drop[0]: is not a regular expression"),
    ({"drop": ["ok", "a(?!b)"]}, "log_sources.drop[1]: looks around"),
    ({"redact": [{"expression": "no group"}]}, "log_sources.redact[0]: needs exactly one group"),
    ({"redact": [{"expression": r"(a)\1"}]}, "log_sources.redact[0]: looks around or refers back"),
])
def test_what_the_shippers_cannot_do_is_refused(sources, words):
    (problem,) = preflight.log_problems(sources)
    assert str(problem).startswith(words)


def test_no_line_twice_in_loki():
    (problem,) = preflight.log_problems({}, "loki", "alloy", docker=True)
    assert problem.name == "docker_logging_driver" and "alloy reads them as well" in problem.text
    for fine in (("loki", "alloy", False), ("loki", "", True), ("local", "alloy", True)):
        assert preflight.log_problems({}, *fine) == []
    assert preflight.log_problems({"redact": [{"expression": "pin=(\\d+)"}], "drop": ["^DEBUG"]}) == []


def test_one_shipper_goes_before_the_other_comes():
    (problem,) = preflight.shipper_problems(["alloy"], ["alloy"], ["loki", "promtail"])
    assert problem.name == "log_shipper" and "--tags promtail,alloy" in problem.text
    for roles, selected, ours in ((["alloy"], ["alloy", "promtail"], ["promtail"]), (["alloy"], ["alloy"], ["alloy"]),
                                  (["alloy"], ["alloy"], []), (["loki"], ["loki"], ["promtail"])):
        assert preflight.shipper_problems(roles, selected, ours) == []
