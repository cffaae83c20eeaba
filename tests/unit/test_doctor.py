# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor makes of Grafana's answers."""

import pytest
from ansible_collections.aistack.observability.plugins.modules import doctor

SOURCES = [{"name": "Prometheus", "uid": "prometheus", "type": "prometheus", "readOnly": True},
           {"name": "By hand", "uid": "hand", "type": "prometheus", "readOnly": False},
           {"name": "Alertmanager", "uid": "alertmanager", "type": "alertmanager", "readOnly": True}]


class Grafana:
    """Its answers by address; what isn't there is answered as a source that is down is, by 400."""

    def __init__(self, **more):
        self.answers = {"/api/datasources": SOURCES, "/api/prometheus/grafana/api/v1/rules": {"data": {"groups": [
            {"rules": [{"name": "High", "health": "ok"}, {"name": "Low", "health": more.get("rule", "ok")}]}]}}}
        if more.get("healthy", True):
            self.answers["/api/datasources/uid/prometheus/health"] = {"status": "OK"}
        self.silent = more.get("silent")

    def get(self, path):
        if self.silent or path not in self.answers:
            raise OSError(f"{path} answered {self.silent or 400}")
        return self.answers[path]


@pytest.mark.parametrize(("given", "failed", "words"), [
    ({}, set(), ""),
    ({"healthy": False}, {"Grafana: data sources"}, "Prometheus: no answer"),
    ({"rule": "error"}, {"Grafana: alert rules"}, "Low: error"),
    ({"silent": 401}, {"Grafana"}, "answered 401"),
])
def test_grafana(given, failed, words):
    verdicts = doctor.Verdicts()
    doctor.grafana(verdicts, Grafana(**given))
    wrong = {entry["check"]: entry for entry in verdicts.entries if entry["verdict"] == "failed"}
    assert set(wrong) == failed
    assert all(words in entry["detail"] and entry["fix"] for entry in wrong.values())


def test_a_service_that_is_down_names_what_does_not_answer():
    def sample(value, **labels):
        return {"metric": {"instance": "box", "service": "grafana", **labels}, "value": [0, value]}
    door = sample("0", probe="front_door", target="https://grafana.lan")
    _check, trouble, fix, _detail = doctor._services([], [sample("0")], [door])
    assert trouble == "grafana on box is down (no answer: front_door https://grafana.lan)" and "runbook" in fix
    assert doctor._services([], [sample("1")], [])[1] == ""
