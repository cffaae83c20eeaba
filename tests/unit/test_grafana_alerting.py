# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana's alerting as provisioning files: who is told, what stays silent, and what Grafana makes of a dollar."""

import json
import re

import pytest
from ansible_collections.aistack.observability.plugins.plugin_utils import grafana_alerting
from ansible_collections.aistack.observability.plugins.plugin_utils.grafana_alerting import AlertingError
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import MixinError, Mixins

FOLDER = "/run/credentials/grafana.service"
EMAIL = {"email": {"to": ["a@example.org", "b@example.org"], "from": "x@example.org", "smarthost": "mail:25"}}
FILES = {
    "thresholds.yml": "cpu_percent: {default: 80, unit: percent, maximum: 100, description: Use., used_by: []}\n",
    "demo/scrape.yml": "{job: demo, role: demo_exporter, placement: observability, default_port: 9999, path: /metrics}",
    "demo/runbook.md": "## DemoBusy\n",
    "demo/dashboard.json": json.dumps({"uid": "aistack-demo", "panels": [
        {"id": 3, "title": "Use", "type": "timeseries"}, {"id": 4, "title": "Demo status", "type": "stat"}]}),
    "demo/panel_rules.yml": """
        - uid: aistack-demo-busy
          title: Busy
          dashboard: aistack-demo
          panel: Use
          expr: 100 * demo:busy{kind="$x"}
          above: ${thresholds.cpu_percent}
          unit: percent
          for: 5m
          severity: warning
          summary: "{{ .Labels.instance }}: {{ .Values.A.Value }}"
          description: More than ${thresholds.cpu_percent} %.
          twin: {alertname: DemoBusy}
        - uid: aistack-demo-down
          title: Demo down
          dashboard: aistack-demo
          panel: Demo status
          down: demo
          description: Demo is down.
        """,
    "prometheus/scrape.yml": "{job: prometheus, role: p, placement: observability, default_port: 9998, path: /m}",
    "prometheus/runbook.md": "# All\n\n## ServiceDown\n\n## Stalled\n",
    "prometheus/panel_rules.yml": """
        - uid: aistack-stalled
          title: Stalled
          dashboard: aistack-demo
          panel: Use
          expr: time() - seen
          above: 60
          unit: s
          for: 1m
          severity: critical
          without_data: fires
          summary: Stalled.
          description: Nothing moves.
        """,
}


def indented(text):
    """A text without the indentation of its first line."""
    margin = re.match(r"\n( *)", text)
    return text if not margin else text.replace("\n" + margin[1], "\n")


@pytest.fixture
def mixins(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "mixins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(indented(text), encoding="utf-8")
    return Mixins(tmp_path / "mixins")


@pytest.fixture
def alerting(mixins):
    def make(notifications=None, delivery="stalled_only", types=("demo", "prometheus"), values=None, **more):
        return grafana_alerting.alerting(mixins, values or {}, types, notifications or {}, delivery, FOLDER, **more)
    return make


def rules(made):
    return {rule["uid"]: rule for group in made["files"]["rules.yml"]["groups"] for rule in group["rules"]}


def receivers(made):
    return {receiver["uid"]: receiver for point in made["files"]["contact_points.yml"]["contactPoints"]
            for receiver in point["receivers"]}


def policies(made):
    [tree] = made["files"]["policies.yml"]["policies"]
    return tree


def as_grafana_reads(text, credentials):
    """What Grafana makes of a setting: at every `$$` a dollar, files' contents in place of `$__file{…}`, and variables
    (of which it has none here) filled in, also in a file's content."""
    def expand(part):
        part = re.sub(r"\$__file\{([^}]*)\}", lambda match: credentials[match[1].rsplit("/", 1)[1]].strip(), part)
        return re.sub(r"\$\{\w*\}|\$\w+|\$.?", "", part)

    parts = text.split("$$")
    value = "$".join(expand(part) for part in parts)
    if len(parts) == 1 and value != text:
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                pass
        if value.lower() in ("t", "f", "true", "false"):
            return value.lower() in ("t", "true")
    return value


# -- rules -------------------------------------------------------------------------------------------------------------

def test_a_rule_is_complete(alerting):
    made = alerting(values={"thresholds": {"cpu_percent": 70.5}, "runbook_url": "https://books.example.org/"})
    rule = rules(made)["aistack-demo-busy"]
    query, condition = rule["data"]
    assert (query["datasourceUid"], query["model"]["instant"]) == ("prometheus", True)
    assert query["model"]["expr"] == '100 * demo:busy{kind="$x"}', "queries are not filled in by Grafana"
    assert condition["datasourceUid"] == "__expr__"
    assert condition["model"]["expression"] == "A"
    assert condition["model"]["conditions"][0]["evaluator"] == {"type": "gt", "params": [70.5]}
    assert (rule["condition"], rule["for"]) == ("B", "5m")
    assert (rule["noDataState"], rule["execErrState"]) == ("OK", "OK")
    assert rule["labels"] == {"aistack": "panel", "severity": "warning"}
    assert rule["annotations"] == {
        "summary": "{{ .Labels.instance }}: {{ .Values.A.Value }}", "description": "More than 70.5 %.",
        "runbook_url": "https://books.example.org/demo/runbook.md#demobusy",
        "__dashboardUid__": "aistack-demo", "__panelId__": "3"}
    assert made["files"]["rules.yml"]["apiVersion"] == 1


def test_what_is_down_is_said_in_one_way(alerting):
    rule = rules(alerting(values={"services": {"demo": ["web.a", "web.b"]}}))["aistack-demo-down"]
    expression = rule["data"][0]["model"]["expr"]
    assert expression.startswith('min by (instance, service) (service:up{service=~"web[.]a|web[.]b"}) unless ')
    assert rule["data"][1]["model"]["conditions"][0]["evaluator"] == {"type": "lt", "params": [1.0]}
    assert (rule["for"], rule["labels"]["severity"]) == ("30s", "critical")
    assert rule["annotations"]["runbook_url"].endswith("/prometheus/runbook.md#servicedown")


def test_the_stalled_rule_fires_without_data_too(alerting):
    rule = rules(alerting())["aistack-stalled"]
    assert (rule["noDataState"], rule["execErrState"]) == ("Alerting", "Alerting")
    assert rule["labels"] == {"aistack": "always", "severity": "critical"}


def test_only_rules_of_what_the_site_has(alerting):
    assert set(rules(alerting(types={"prometheus"}))) == {"aistack-stalled"}


@pytest.mark.parametrize("change, problem", [
    (("above: 60", "abov: 60"), r"prometheus/panel_rules.yml: aistack-stalled: unknown abov"),
    (("title: Stalled", "title: Other"), "no runbook has a section Other"),
    (("above: 60", "above: ${thresholds.cpu}"), "unknown placeholder"),
    (("Nothing moves.", "Nothing: moves."), "prometheus/panel_rules.yml: is not valid YAML"),
])
def test_a_fault_in_a_mixin_is_named(mixins, alerting, change, problem):
    file = mixins.folder / "prometheus/panel_rules.yml"
    file.write_text(file.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(MixinError, match=problem):
        alerting()


# -- who is told -------------------------------------------------------------------------------------------------------

def test_panels_are_muted_and_only_the_stalled_rule_is_delivered(alerting):
    made = alerting(EMAIL)
    tree = policies(made)
    assert tree["receiver"] == "notifications"
    always, panel = tree["routes"]
    assert (always["object_matchers"], always.get("mute_time_intervals")) == ([["aistack", "=", "always"]], None)
    assert always["group_wait"] == "10s"
    assert (panel["object_matchers"], panel["mute_time_intervals"]) == ([["aistack", "=", "panel"]], ["always"])
    assert made["files"]["mute_timings.yml"]["muteTimes"][0]["name"] == "always"
    assert made["twins"] == []


def test_contact_points_deliver_what_alertmanager_leaves_to_them(alerting):
    made = alerting(EMAIL, "contact_points", values={"services": {"demo": ["a", "b.c"]}})
    assert "always" not in json.dumps([route.get("mute_time_intervals") for route in policies(made)["routes"]])
    assert made["twins"] == [['alertname="DemoBusy"'], ['alertname="ServiceDown"', 'service=~"a|b[.]c"']]


@pytest.mark.parametrize("delivery", ["stalled_only", "contact_points"])
def test_without_notifications_nobody_is_told_and_nothing_is_left_to_grafana(alerting, delivery):
    made = alerting({"watchdog": {"url": "https://outside.example.org"}}, delivery)
    assert made["declared"]["contact_points"] == ["aistack-webhook-nobody"]
    assert policies(made)["receiver"] == "nobody"
    last = policies(made)["routes"][-1]
    assert (last["object_matchers"], last["mute_time_intervals"]) == ([["alertname", "=~", ".+"]], ["always"])
    assert made["twins"] == []


def test_every_channel_becomes_a_receiver_and_its_secrets_credentials(alerting):
    made = alerting({
        **EMAIL, "slack": {"webhook_url": "https://slack.example.org/T0/secret", "channel": "#ops"},
        "discord": {"webhook_url": "https://discord.example.org/secret"},
        "webhooks": [{"url": "https://hook.example.org/secret", "max_alerts": 5, "send_resolved": False},
                     {"url": "https://two.example.org", "http_config": {"bearer_token": "secret"}}]}, "contact_points")
    found = receivers(made)
    assert found["aistack-email"]["settings"]["addresses"] == "a@example.org;b@example.org"
    assert found["aistack-email"]["settings"]["singleEmail"] is True
    assert found["aistack-slack"]["settings"]["recipient"] == "#ops"
    assert (found["aistack-webhook-1"]["disableResolveMessage"], found["aistack-webhook-1"]["settings"]["maxAlerts"]) \
        == (True, 5)
    assert found["aistack-webhook-2"]["settings"]["authorization_scheme"] == "Bearer"
    assert "secret" not in json.dumps(made["files"])
    assert made["credentials"]["alerting_slack_url"] == "https://slack.example.org/T0/secret"
    assert found["aistack-slack"]["settings"]["url"] == "$__file{" + FOLDER + "/alerting_slack_url}"
    assert made["declared"]["contact_points"] == list(found)


@pytest.mark.parametrize("http_config, login", [
    ({"basic_auth": {"username": "u", "password": "pw"}}, {"username": "u", "password": "pw"}),
    ({"basic_auth": {"username": "u", "password": "123"}, "follow_redirects": True},
     {"authorization_scheme": "Basic", "authorization_credentials": "dToxMjM="}),
    ({"authorization": {"credentials": "tok"}}, {"authorization_scheme": "Bearer", "authorization_credentials": "tok"}),
    ({"authorization": {"type": "Token", "credentials": "x"}},
     {"authorization_scheme": "Token", "authorization_credentials": "x"}),
])
def test_webhooks_log_in_as_alertmanager_does(alerting, http_config, login):
    made = alerting({"webhooks": [{"url": "https://h.example.org", "http_config": http_config}]})
    settings = receivers(made)["aistack-webhook-1"]["settings"]
    assert {key: as_grafana_reads(settings[key], made["credentials"]) for key in login} == login
    assert made["notes"] == []


@pytest.mark.parametrize("http_config, missing", [
    ({"tls_config": {"ca_file": "/ca.pem"}}, "http_config.tls_config"),
    ({"basic_auth": {"username": "u", "password_file": "/p"}}, "http_config.basic_auth"),
    ({"proxy_url": "http://proxy"}, "http_config.proxy_url"),
])
def test_a_webhook_that_grafana_cannot_call_is_left_out_and_said(alerting, http_config, missing):
    webhook = {"name": "pager", "url": "https://h.example.org", "http_config": http_config}
    made = alerting({**EMAIL, "webhooks": [webhook]}, "contact_points")
    assert made["declared"]["contact_points"] == ["aistack-email"]
    [note] = made["notes"]
    assert "pager" in note and missing in note


# -- dollars -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("secret", ["plain", "pa$$word", "$HOME", "end$", "$", "a$1b$", "${x}", "12$34", "tr$ue"])
def test_a_secret_arrives_as_it_is(alerting, secret):
    made = alerting({"slack": {"webhook_url": secret}})
    settings = receivers(made)["aistack-slack"]["settings"]
    assert as_grafana_reads(settings["url"], made["credentials"]) == secret
    assert "" not in made["credentials"].values()


@pytest.mark.parametrize("secret", ["123456", "1e5", "true", "T", "inf", "-0x1p-2", " blank", "a $b"])
def test_a_secret_that_grafana_would_change_is_refused(alerting, secret):
    with pytest.raises(AlertingError, match="slack_url"):
        alerting({"slack": {"webhook_url": secret}})


def test_secrets_of_names_that_are_nearly_the_same_stay_apart(alerting):
    made = alerting(EMAIL, contact_points=[
        {"name": name, "receivers": [{"type": "webhook", "settings": {"url": f"https://{name}.example.org/x"}}]}
        for name in ("Ops", "ops")])
    urls = {as_grafana_reads(one["settings"]["url"], made["credentials"])
            for uid, one in receivers(made).items() if "ops" in uid.lower()}
    assert urls == {"https://Ops.example.org/x", "https://ops.example.org/x"}


def test_texts_are_escaped_only_where_grafana_fills_in(alerting):
    made = alerting(
        EMAIL,
        contact_points=[{"name": "$team", "receivers": [{"type": "telegram", "settings": {
            "chatid": "$7", "bottoken": "1:se$cret", "message": "$x"}}]}],
        groups=[{"name": "g$", "folder": "f", "interval": "1m", "rules": [{
            "uid": "mine", "title": "t$", "labels": {"a": "{{ $labels.b }}"}, "annotations": {"c": "{{ $labels.d }}"},
            "data": [{"model": {"expr": "a{b=~'x$'}"}}]}]}],
        mute_timings=[{"name": "$nights", "time_intervals": []}],
        templates=[{"name": "mine", "template": '{{ define "x" }}{{ $a := 1 }}{{ end }}'}],
        routes=[{"receiver": "$team", "object_matchers": [["a", "=~", "b$"]], "mute_time_intervals": ["$nights"]}])
    rule = rules(made)["mine"]
    assert (rule["title"], rule["labels"]["a"]) == ("t$$", "{{ $$labels.b }}")
    assert rule["annotations"] == {"c": "{{ $labels.d }}"}
    assert rule["data"][0]["model"]["expr"] == "a{b=~'x$'}"
    point = made["files"]["contact_points.yml"]["contactPoints"][1]
    assert point["name"] == "$$team"
    settings = point["receivers"][0]["settings"]
    assert (settings["chatid"], settings["message"]) == ("$$7", "$$x")
    assert as_grafana_reads(settings["bottoken"], made["credentials"]) == "1:se$cret"
    assert made["files"]["mute_timings.yml"]["muteTimes"][1]["name"] == "$nights"
    assert "$a := 1" in made["files"]["templates.yml"]["templates"][1]["template"]
    assert policies(made)["routes"][-1] == {
        "receiver": "$$team", "object_matchers": [["a", "=~", "b$$"]], "mute_time_intervals": ["$$nights"]}
    assert made["declared"]["mute_timings"] == ["always", "$nights"]
    assert made["declared"]["rules"][-1] == "mine"
    assert made["declared"]["contact_points"] == ["aistack-email", "aistack-own--team-1"]


def test_texts_of_ours_have_no_dollar(alerting):
    made = alerting(EMAIL)
    for rule in rules(made).values():
        assert "$" not in json.dumps({**rule, "data": []})
    assert "$" not in grafana_alerting.TEMPLATE
    assert "$" not in json.dumps(receivers(made))


# -- the user's own ----------------------------------------------------------------------------------------------------

def test_routes_of_the_user_come_after_what_is_muted(alerting):
    """Or one that takes all critical alerts would deliver the copies, too."""
    route = {"receiver": "mine", "matchers": ['severity="critical"']}
    for notifications, delivery, place in ((EMAIL, "stalled_only", 2), (EMAIL, "contact_points", 1),
                                           ({}, "stalled_only", 1), ({}, "contact_points", 0)):
        assert policies(alerting(notifications, delivery, routes=[route]))["routes"][place] == route


@pytest.mark.parametrize("more, problem", [
    ({"contact_points": [{"name": "notifications", "receivers": []}]}, "taken"),
    ({"contact_points": [{"name": "x", "receivers": []}]}, "no receivers"),
    ({"contact_points": [{"name": "x", "receivers": [{"type": "email"}]}]}, "type and settings"),
    ({"contact_points": [{"name": "x", "receivers": [{"uid": "aistack-email", "type": "a", "settings": {"b": "c"}}]}]},
     "contact points: aistack-email would be there twice"),
    ({"mute_timings": [{"name": "always"}]}, "mute timings: always"),
    ({"templates": [{"name": "aistack", "template": ""}]}, "templates: aistack"),
    ({"groups": [{"name": "g", "rules": [{"title": "mine"}]}]}, "'mine' of the group 'g' has no uid"),
    ({"groups": [{"name": "g", "rules": [{"uid": "aistack-stalled", "title": "x"}]}]}, "rules: aistack-stalled"),
    ({"delivery": "all"}, "not 'all'"),
])
def test_what_cannot_be_is_refused_in_clear_words(alerting, more, problem):
    with pytest.raises(AlertingError, match=problem):
        alerting(EMAIL, **more)
