# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole site on one host: its parts know each other, and a run does what its plan said."""

import pytest

SERVICES = {"host", "ollama", "alertmanager", "prometheus", "grafana", "blackbox", "loki", "alloy"}
COMPONENTS = {"node_exporter", "ollama_exporter", "blackbox_exporter", "alertmanager", "prometheus", "loki", "grafana",
              "alloy"}


def fits_a_screen(text):
    """The plan, which a run says last, is on the smallest screen that people have; no line is broken on a usual one."""
    assert len(text[text.index("SITE PLAN: what would change"):].splitlines()) <= 24, text
    assert max(map(len, text.splitlines())) <= 160, text


@pytest.fixture
def query(ask):
    def question(expression):
        answer = ask(":9090/api/v1/query", login=True, query=expression)
        assert answer.status == 200, answer.text
        return {one["metric"].get("service"): float(one["value"][1]) for one in answer.json["data"]["result"]}
    return question


def test_every_target_is_up(ask, eventually):
    def targets():
        active = ask(":9090/api/v1/targets", login=True, state="active").json["data"]["activeTargets"]
        return {one["labels"]["service"]: one["health"] for one in active}
    eventually(lambda: set(targets().values()) == {"up"})
    assert targets().keys() == SERVICES


def test_every_service_is_up(query, eventually):
    eventually(lambda: query("service:up") == dict.fromkeys(SERVICES, 1))
    assert query("count by (service) (service:up{instance='monitor'})") == dict.fromkeys(SERVICES, 1)


def test_the_figures_of_the_parts_arrive(host, query, eventually):
    eventually(lambda: query("ollama_models_total") == {"ollama": 1})
    memory = int(host.check_output("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    assert query("node_memory_MemTotal_bytes") == {"host": memory}


def test_the_watchdog_is_delivered(ask, eventually):
    eventually(lambda: ask("http://127.0.0.1:8099/").json["calls"] > 0, within=60)
    assert ask("http://127.0.0.1:8099/").json["alertnames"] == ["Watchdog"]


def test_no_other_alert_fires(ask, eventually):
    def firing():
        alerts = ask(":9090/api/v1/alerts", login=True).json["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}
    eventually(lambda: "Watchdog" in firing())
    assert firing() == {"Watchdog"}


def test_the_doctor_finds_it_healthy(playbook):
    doctor = playbook("playbooks/doctor.yml", structured=False, observability_doctor_wait=30)
    assert doctor.code == 0, doctor.text
    assert "Everything works" in doctor.text


def test_the_plan_fits_on_one_screen(playbook):
    text = playbook("site.yml", "--check", structured=False).text
    fits_a_screen(text)


@pytest.mark.last
class TestFromNothing:
    """After everything was purged, the host is blank again."""

    def test_the_run_does_what_the_plan_said(self, host, playbook, site):
        assert host.run("ls -A /opt/aistack/node_exporter /etc/prometheus /etc/alertmanager").stdout == ""
        said = site("--check")
        text = playbook("site.yml", "--check", structured=False).text
        assert "8 of 8 components would change" in text
        fits_a_screen(text)
        done = site()
        assert said.changing.keys() == COMPONENTS
        assert said.plans == done.plans
        assert not site("--check").changing

    def test_it_works_again(self, query, eventually):
        eventually(lambda: query("service:up") == dict.fromkeys(SERVICES, 1), within=60)
