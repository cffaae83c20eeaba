# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor makes of Grafana's and Loki's answers."""

import time
from urllib.parse import unquote

import pytest
from ansible_collections.aistack.observability.plugins.modules import doctor

SOURCES = [{"name": "Prometheus", "uid": "prometheus", "type": "prometheus", "readOnly": True},
           {"name": "Loki", "uid": "loki", "type": "loki", "readOnly": True},
           {"name": "By hand", "uid": "hand", "type": "prometheus", "readOnly": False},
           {"name": "Alertmanager", "uid": "alertmanager", "type": "alertmanager", "readOnly": True}]


class Grafana:
    """Its answers by address; what isn't there is answered as a source that is down is, by 400."""

    def __init__(self, **more):
        self.answers = {"/api/datasources": SOURCES, "/api/prometheus/grafana/api/v1/rules": {"data": {"groups": [
            {"rules": [{"name": "High", "health": "ok"}, {"name": "Low", "health": more.get("rule", "ok")}]}]}}}
        if more.get("healthy", True):
            self.answers["/api/datasources/uid/prometheus/health"] = {"status": "OK"}
            self.answers["/api/datasources/proxy/uid/loki/loki/api/v1/query?query=vector(1)"] = {"status": "success"}
        self.silent = more.get("silent")

    def get(self, path):
        if self.silent or path not in self.answers:
            raise OSError(f"{path} answered {self.silent or 400}")
        return self.answers[path]


@pytest.mark.parametrize(("given", "failed", "words"), [
    ({}, set(), ""),
    ({"healthy": False}, {"Grafana: data sources"}, "Loki, Prometheus: no answer"),
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


@pytest.mark.parametrize(("interval", "age", "expected"), [
    (15, 5, ("Seldom: unknown", True)),
    (300, 100, ("", False)),
    (300, 900, ("Seldom: unknown", True)),
])
def test_a_rule_whose_turn_has_not_come_is_no_trouble(interval, age, expected):
    rules = [{"name": "Often", "interval": 15, "rules": [{"name": "Often", "health": "ok"}]},
             {"name": "Seldom", "interval": interval, "rules": [{"name": "Seldom", "health": "unknown"}]}]
    read = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age))
    answers = {"/api/v1/targets?state=active": {"activeTargets": []}, "/api/v1/rules": {"groups": rules},
               "/api/v1/status/runtimeinfo": {"lastConfigTime": read},
               "/api/v1/alertmanagers": {"activeAlertmanagers": [{}]}, "/api/v1/alerts": {"alerts": []}}

    class Prometheus:
        @staticmethod
        def get(path):
            return {"data": answers[path]}

        @staticmethod
        def query(_expression):
            return []

    found, young = doctor._prometheus(Prometheus)
    (trouble, detail), = [(trouble, detail) for check, trouble, _fix, detail in found if check == "Prometheus: rules"]
    assert (trouble, young) == expected
    assert trouble or detail == "1 rules evaluate, 1 when it is their turn"


def sentences(verdicts):
    return [(entry["check"], entry["verdict"], entry["detail"]) for entry in verdicts.entries]


def loki(*, rules=(("High", "ok"), ("Low", "unknown")), lines="7", silent=False):
    class Loki:
        @staticmethod
        def get(path):
            if silent:
                raise OSError("connection refused")
            if path.startswith("/loki/api/v1/query?"):
                return {"data": {"result": [{"metric": {}, "value": [0, lines]}] if lines else []}}
            return {"data": {"groups": [{"name": "host", "rules": [
                {"name": name, "health": health, "lastError": "parse error" if health == "err" else ""}
                for name, health in rules]}]}}
    return Loki


@pytest.mark.parametrize(("given", "groups", "expected"), [
    ({}, ["host"], [("Loki", "ok", "7 lines in the last 5 minutes"), ("Loki: rules", "ok", "2 rules evaluate")]),
    ({"lines": ""}, [], [("Loki", "ok", "0 lines in the last 5 minutes"), ("Loki: rules", "ok", "2 rules evaluate")]),
    ({}, ["host", "keycloak"], [("Loki", "ok", "7 lines in the last 5 minutes"),
                                ("Loki: rules", "failed", "keycloak is not loaded")]),
    ({"rules": [("High", "err")]}, ["host"], [("Loki", "ok", "7 lines in the last 5 minutes"),
                                              ("Loki: rules", "failed", "High: parse error")]),
    ({"silent": True}, ["host"], [("Loki", "failed", "does not answer: connection refused")]),
])
def test_loki(given, groups, expected):
    verdicts = doctor.Verdicts()
    doctor.loki(verdicts, loki(**given), groups)
    assert sentences(verdicts) == expected
    assert all(entry["fix"] for entry in verdicts.entries if entry["verdict"] == "failed")


@pytest.mark.parametrize(("journal", "found", "verdict", "words"), [
    (True, True, "ok", "a line of now arrived"),
    (True, False, "failed", "is not in Loki"),
    (True, None, "failed", "is not in Loki, which does not answer: connection refused"),
    (False, True, "ok", "lines arrive"),
    (False, False, "warning", "any line of the last hour is not in Loki"),
])
def test_a_line_of_now_is_looked_for_in_loki(monkeypatch, journal, found, verdict, words):
    written, asked = [], []

    class Api:
        def __init__(self, reach):
            self.url = reach["url"]

        def get(self, path):
            asked.append(self.url + unquote(path))
            if found is None:
                raise OSError("connection refused")
            return {"data": {"result": [{}] if found else []}}

    monkeypatch.setattr(doctor, "Api", Api)
    monkeypatch.setattr(doctor, "ARRIVES", 0)
    monkeypatch.setattr(doctor.syslog, "syslog", written.append)
    verdicts = doctor.Verdicts()
    doctor.log_lines(verdicts, "gpu1", "alloy", journal, [{"url": "http://10.0.0.1:3100/loki/api/v1/push"}])
    (entry,) = verdicts.entries
    assert entry["check"] == "Logs: alloy" and entry["verdict"] == verdict and words in entry["detail"]
    assert bool(entry["fix"]) == (verdict != "ok")
    assert len(written) == journal
    assert asked[0].startswith("http://10.0.0.1:3100/loki/api/v1/query_range") and '{host="gpu1"}' in asked[0]
    assert all(f"|= `{line}`" in asked[0] for line in written)
