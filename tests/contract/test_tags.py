# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`--tags <role>` is that role and the preflight, nothing else; and what preflight refuses has changed nothing."""

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.parent.parent.name for path in (ROOT / "roles").glob("*/tasks/main.yml"))
TAGS = [role for role in ROLES if role != "observability"]
COMPONENTS = [role for role in TAGS if role != "keycloak_client"]
# Everything that a run could place on a host, and its accounts.
PLACES = ["/opt/aistack", "/etc/aistack", "/var/lib/aistack", "/run/aistack",
          *(f"{folder}/{role}" for folder in ("/etc", "/var/lib") for role in COMPONENTS),
          *(f"/etc/systemd/system/{role}.service" for role in COMPONENTS)]


def play(folder, *arguments, **variables):
    """A run of site.yml over the inventory in this folder: its exit code and all that it said."""
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", folder / "hosts.yml", "-e", json.dumps(variables),
         *arguments, "site.yml"], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=dict(os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0", COLUMNS="1000"), check=False)
    return done.returncode, done.stdout


def inventory(folder, container):
    cache = Path(os.environ.get("AISTACK_CACHE") or Path.home() / ".cache/aistack-observability")
    (folder / "hosts.yml").write_text(json.dumps({
        "observability": {"hosts": {"monitor": {
            "ansible_connection": "community.docker.docker", "ansible_host": container,
            "ansible_python_interpreter": "/usr/bin/python3", "monitored_services": {"ollama": {}}}}},
        "monitored": {"hosts": {}},
        "all": {"vars": {"observability_mirror": f"{cache}/mirror",
                         "observability_releases_overlay": f"{cache}/mirror/releases.yml"}},
    }), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """(container, folder of its inventory) of a blank throwaway host."""
    server = [sys.executable, str(ROOT / "tests/servers/host.py")]
    environment = dict(os.environ, AISTACK_RUN=os.environ.get("AISTACK_RUN") or secrets.token_hex(3))
    done = subprocess.run([*server, "up", "tags"], env=environment, text=True, stdout=subprocess.PIPE, check=True)
    container = json.loads(done.stdout)["name"]
    yield container, inventory(tmp_path_factory.mktemp("inventory"), container)
    subprocess.run([*server, "down", container], env=environment, stdout=subprocess.DEVNULL, check=True)


def placed(container):
    """What of ours is on the host."""
    script = ("for path in \"$@\"; do [ -e \"$path\" ] && echo \"$path\"; done; "
              f"getent passwd {' '.join(COMPONENTS)} | cut -d: -f1; true")
    return subprocess.run(["docker", "exec", container, "sh", "-c", script, "sh", *PLACES], text=True,
                          stdout=subprocess.PIPE, check=True).stdout.split()


# -- which tasks a tag selects -----------------------------------------------------------------------------------------

def selected(text):
    """The roles' tasks of `--list-tasks`: {(role, task)}; other tasks have no role."""
    lines = re.findall(r"^ {6}(.+?)\tTAGS: \[.*\]$", text, re.MULTILINE)
    return {tuple(line.removeprefix("aistack.observability.").rpartition(" : ")[::2]) for line in lines}


@pytest.mark.parametrize("role", TAGS)
def test_a_tag_selects_its_role_and_the_preflight(role, tmp_path):
    code, text = play(inventory(tmp_path, "none"), "--list-tasks", "--tags", role)
    assert code == 0, text
    tasks = yaml.safe_load((ROOT / "roles" / role / "tasks/main.yml").read_text(encoding="utf-8"))
    declared = [task["name"] for entry in tasks for task in entry.get("block", [entry])]
    assert selected(text) == {("observability", "Check variables and hosts"), *((role, name) for name in declared)}


def test_without_tags_every_role_runs(tmp_path):
    code, text = play(inventory(tmp_path, "none"), "--list-tasks")
    assert code == 0, text
    assert {role for role, _task in selected(text) if role} == set(ROLES)


# -- what preflight refuses --------------------------------------------------------------------------------------------

# variables, and for each problem the words that its line must hold: the name, what was expected, the nearest valid name
REFUSED = {
    "misspelt in alertmanager": (
        {"alertmanager_listen_adress": "127.0.0.1:9093"},
        [["alertmanager_listen_adress", "there is no such variable", "did you mean alertmanager_listen_address?"]]),
    "mistyped in alertmanager": (
        {"alertmanager_extra_routes": "all"}, [["alertmanager_extra_routes", "expected a list of mappings", "'all'"]]),
    "misspelt in node_exporter": (
        {"node_exporter_colectors_enabled": []},
        [["node_exporter_colectors_enabled", "did you mean node_exporter_collectors_enabled?"]]),
    "mistyped in node_exporter": (
        {"node_exporter_adopt": "perhaps"}, [["node_exporter_adopt", "expected true or false", "'perhaps'"]]),
    "misspelt in ollama_exporter": (
        {"ollama_exporter_timeouts": "5s"}, [["ollama_exporter_timeouts", "did you mean ollama_exporter_timeout?"]]),
    "mistyped in ollama_exporter": (
        {"ollama_exporter_timeout": "soon"}, [["ollama_exporter_timeout", "expected a duration such as", "'soon'"]]),
    "misspelt in grafana": (
        {"grafana_admin_pasword": "x"}, [["grafana_admin_pasword", "did you mean grafana_admin_password?"]]),
    "mistyped in grafana": (
        {"grafana_alert_delivery": "both"},
        [["grafana_alert_delivery", "expected one of stalled_only, contact_points", "'both'"]]),
    "misspelt in keycloak_client": (
        {"keycloak_client_stat": "absent"}, [["keycloak_client_stat", "did you mean keycloak_client_state?"]]),
    "mistyped in keycloak_client": (
        {"keycloak_client_token_lifespan": "a minute"},
        [["keycloak_client_token_lifespan", "expected a whole number", "'a minute'"]]),
    "misspelt in blackbox_exporter": (
        {"blackbox_exporter_frontdoors": False},
        [["blackbox_exporter_frontdoors", "did you mean blackbox_exporter_front_doors?"]]),
    "mistyped in blackbox_exporter": (
        {"blackbox_exporter_timeout": "long"},
        [["blackbox_exporter_timeout", "expected a duration such as", "'long'"]]),
    "misspelt in loki": ({"loki_retension": "30d"}, [["loki_retension", "did you mean loki_retention?"]]),
    "mistyped in loki": ({"loki_max_streams": "many"}, [["loki_max_streams", "expected a whole number", "'many'"]]),
    "misspelt in alloy": ({"alloy_memory_limit": "1G"}, [["alloy_memory_limit", "there is no such variable"]]),
    "mistyped in alloy": ({"alloy_memory_max": "much"}, [["alloy_memory_max", "expected a size", "'much'"]]),
    "misspelt in promtail": (
        {"log_shipper": "promtail", "promtail_loglevel": "info"},
        [["promtail_loglevel", "did you mean promtail_log_level?"]]),
    "mistyped in promtail": (
        {"log_shipper": "promtail", "promtail_log_level": "loud"},
        [["promtail_log_level", "expected one of error, warn, info, debug", "'loud'"]]),
    "misspelt in docker_logging": (
        {"docker_logging_driver": "local", "docker_logging_max_files": 3},
        [["docker_logging_max_files", "did you mean docker_logging_max_file?"]]),
    "mistyped in docker_logging": (
        {"docker_logging_driver": "syslog"}, [["docker_logging_driver", "local, json-file", "'syslog'"]]),
    "misspelt shipper": ({"log_shiper": "alloy"}, [["log_shiper", "did you mean log_shipper?"]]),
    "no such shipper": ({"log_shipper": "vector"}, [["log_shipper", "expected one of alloy, promtail, none"]]),
    "half a single sign-on": (
        {"observability_single_sign_on": {"url": "keycloak.example.org", "admin": {"username": "admin"}}},
        [["observability_single_sign_on", "realm"], ["observability_single_sign_on.url", "an http or https address"],
         ["observability_single_sign_on.admin", "password"]]),
    "a front door that is no address": (
        {"monitored_services": {"open_webui": {"front_door": "chat.example.org"}}},
        [["monitored_services.open_webui.front_door", "an http or https address", "'chat.example.org'"]]),
    "misspelt in prometheus": (
        {"promethues_retention_time": "30d"},
        [["promethues_retention_time", "did you mean prometheus_retention_time?"]]),
    "mistyped in prometheus": (
        {"prometheus_scrape_interval": "nonsense"},
        [["prometheus_scrape_interval", "expected a duration such as", "'nonsense'"]]),
    "not one of the choices": (
        {"prometheus_state": "gone"}, [["prometheus_state", "expected one of present, absent", "'gone'"]]),
    "misspelt in a shared mapping": (
        {"observability_notifications": {"emial": {}}},
        [["observability_notifications.emial", "there is no such option", "did you mean email?"]]),
    "mistyped deep in a shared mapping": (
        {"observability_notifications": {"email": {"to": ["a@example.org"], "from": "b@example.org",
                                                   "smarthost": "mail.example.org"}}},
        [["observability_notifications.email.smarthost", "expected host:port", "'mail.example.org'"]]),
    "misspelt threshold": (
        {"observability_thresholds": {"cpu_precent": 90}},
        [["observability_thresholds.cpu_precent", "did you mean cpu_percent?"]]),
    "threshold out of its limits": (
        {"observability_thresholds": {"cpu_percent": 900}}, [["observability_thresholds.cpu_percent", "100"]]),
    "mistyped shared mapping": (
        {"observability_retention": "30d"}, [["observability_retention", "expected a mapping", "'30d'"]]),
    "unknown type of service": (
        {"monitored_services": {"olama": {}}}, [["monitored_services.olama", "ollama"]]),
    "clash of two ports": (
        {"alertmanager_listen_address": "127.0.0.1:9090"},
        [["alertmanager_listen_address", "9090", "prometheus_listen_address", "another port"]]),
    "several at once": (
        {"prometheus_scrape_interval": "nonsense", "node_exporter_adopt": "perhaps", "alertmanager_retantion": "1h"},
        [["prometheus_scrape_interval", "a duration"], ["node_exporter_adopt", "true or false"],
         ["alertmanager_retantion", "did you mean alertmanager_retention?"]]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_before_anything_changes(host, case):
    container, folder = host
    variables, problems = REFUSED[case]
    code, text = play(folder, **variables)
    assert code != 0
    for words in problems:
        assert any(all(word in line for word in words) for line in text.splitlines()), text
    assert "nothing was changed" in text
    assert placed(container) == []


def test_a_clash_with_a_stranger_is_refused_by_its_name(host):
    container, folder = host
    subprocess.run(["docker", "exec", container, "systemd-run", "--unit=stranger", "python3", "-m", "http.server",
                    "9100", "--bind", "127.0.0.1"], check=True, capture_output=True)
    try:
        code, text = play(folder)
    finally:
        subprocess.run(["docker", "exec", container, "systemctl", "stop", "stranger"], check=True)
    assert code != 0
    assert re.search(r"node_exporter_listen_address: port 9100 is held by python3 \(stranger\.service\)", text), text
    assert placed(container) == []


def test_a_tag_does_not_ask_about_other_roles(host):
    """Runs last: it places something, on the host that was blank until now."""
    container, folder = host
    assert placed(container) == []
    code, text = play(folder, "--tags", "alertmanager", prometheus_scrape_interval="nonsense")
    assert code == 0, text
    assert {"/opt/aistack", "/etc/alertmanager", "alertmanager"} <= set(placed(container))
    assert not [path for path in placed(container) if "prometheus" in path or "node_exporter" in path]
