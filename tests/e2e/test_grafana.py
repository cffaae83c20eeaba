# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does Grafana show what is measured, and tell what it alone can tell? Real programs, real faults, real mails.

The tests build on one another, in the order in which they stand here. The thresholds of processor, memory and disk are
passed from the start, and these alerts wait for five minutes: what comes first here goes on meanwhile.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import time
from urllib.error import HTTPError
from urllib.parse import quote

import pytest
from demo import MAIN
from keycloak_login import Person
from running_site import wait_for

FIRING = {"High processor use": ("aistack-host", "CPU", "HostHighCpu"),
          "High memory use": ("aistack-host", "Memory", "HostHighMemory"),
          "Low disk space": ("aistack-host", "Disk space free", "HostDiskSpaceLow")}
DEAD = {"Ollama down": ("aistack-ollama", "Ollama status", "ollama.service"),
        "Keycloak down": ("aistack-keycloak", "Keycloak status", "keycloak.service"),
        "PostgreSQL down": ("aistack-postgresql", "PostgreSQL status", "postgresql.service")}
STALLED = "PrometheusRulesStalled"
OUTSIDE = "http://127.0.0.1:8099"


class Grafana:
    """Grafana as its admin sees it, over the API."""

    def __init__(self, site):
        self.site = site
        self.address = site.demo.address("grafana")

    def ask(self, path, body=None, method=None, headers=()):
        return self.site.ask("grafana", path, "grafana_admin_password", body, method, headers)

    def dashboards(self):
        found = self.ask("/api/search?type=dash-db&limit=500")
        return {one["uid"]: self.ask(f"/api/dashboards/uid/{one['uid']}") for one in found}

    def panels(self, uid):
        def walk(panels):
            for panel in panels:
                yield panel
                yield from walk(panel.get("panels") or [])
        return list(walk(self.ask(f"/api/dashboards/uid/{uid}")["dashboard"]["panels"]))

    def alerts_of_panel(self, uid, title):
        """What the panel itself asks in order to show the alerts that are bound to it."""
        (panel,) = [one["id"] for one in self.panels(uid) if one["title"] == title]
        found = self.ask(f"/api/prometheus/grafana/api/v1/rules?dashboard_uid={uid}&panel_id={panel}")
        return {rule["name"]: rule for group in found["data"]["groups"] for rule in group["rules"]}

    def annotations_of_panel(self, uid, title):
        """The changes of state that are drawn into the panel."""
        (panel,) = [one["id"] for one in self.panels(uid) if one["title"] == title]
        found = self.ask(f"/api/annotations?type=alert&dashboardUID={uid}&panelId={panel}&limit=500")
        return {one["newState"] for one in found}

    def rule(self, name):
        found = self.ask("/api/prometheus/grafana/api/v1/rules")["data"]["groups"]
        (rule,) = [rule for group in found for rule in group["rules"] if rule["name"] == name]
        return rule

    def fires(self, name):
        return self.rule(name)["state"] == "firing"

    def asks_in_vain(self, name):
        """Whether the rule's query has no answer."""
        rule = self.rule(name)
        return rule["health"] != "ok" or any(re.search("Error|NoData", alert["state"]) for alert in rule["alerts"])


@pytest.fixture(scope="module")
def grafana(grafana_site):
    return Grafana(grafana_site)


# -- dashboards ------------------------------------------------------------------------------------------------------

# (dashboard, panel, query) that has no data here: a query that has an answer only as long as the reason holds.
NO_TLS = "absent(probe_ssl_earliest_cert_expiry)"
NO_DATA = {
    ("aistack-blackbox", "Next certificate expires", "A"): NO_TLS,
    ("aistack-blackbox", "Certificates", "A"): NO_TLS,
    ("aistack-blackbox", "Certificates over time", "A"): NO_TLS,
}
# Loki writes its first chunk after half an hour.
NO_CHUNK = "absent(increase(loki_ingester_chunk_stored_bytes_total[1d]))"
# These depend on the machine that runs the tests, and on when: without data if and only if the reason holds.
BY_MACHINE = {
    **{(f"aistack-{name}", panel, query): NO_CHUNK for name, panel, query in (
        ("logs", "Stored by Loki", "A"), ("logs", "Stored by Loki", "B"),
        ("logs", "Thirty days like the last one", "A"), ("loki", "Stored in 30 days", "A"),
        ("loki", "Thirty days like the last", "A"), ("loki", "Written to the disk", "A"))},
    ("aistack-host", "Swap used", "A"): "absent(node_memory_SwapTotal_bytes > 0)",
    ("aistack-host", "Temperatures", "A"): "absent(node_hwmon_temp_celsius)",
}


# Nothing of the kind needs to be there: these are only answered.
AT_TIMES = {
    ("aistack-logs", "Silent services", "A"), ("aistack-ollama", "Newest lines of Ollama", "A"),
    ("aistack-security", "Alerts from logs", "A"), ("aistack-security", "Alerts from logs over time", "A"),
    ("aistack-loki", "Last compaction", "A"), ("aistack-loki", "Refused and cut", "A"),
    ("aistack-loki", "Refused and cut", "B"),
    # PostgreSQL, n8n and Open WebUI
    *(("aistack-security", "Failed log-ins in five minutes", query) for query in "EFG"),
}


def test_every_dashboard_is_there(grafana):
    there = grafana.dashboards()
    assert set(there) == {"aistack-" + name for name in (
        "alertmanager", "blackbox", "grafana", "host", "keycloak", "log_explorer", "logs", "loki", "ollama",
        "postgresql", "prometheus", "security", "summary")}
    assert {one["meta"]["folderTitle"] for one in there.values()} == {"aistack"}
    assert all(one["meta"]["provisioned"] for one in there.values())


class Variables:
    """Fills in a dashboard's variables as Grafana's pages do, with everything chosen."""

    def __init__(self, grafana, document):
        self.values = {}
        for one in document["templating"]["list"]:
            if one["type"] == "datasource":
                self.values[one["name"]] = one["current"]["value"]
            elif one["type"] == "query" and one["datasource"]["type"] == "loki":
                label, streams = one["query"]["label"], self.fill(one["query"]["stream"])
                found = grafana.ask(f"/api/datasources/uid/loki/resources/label/{label}/values?query={quote(streams)}")
                # There may be no container; otherwise lines without the label are none of anybody's.
                assert found.get("data") or one["allValue"] == ".*", f"{document['uid']}: {label} has no values"
                self.values[one["name"]] = one["allValue"]
            elif one["type"] == "query":
                query = one["query"]["query"] if isinstance(one["query"], dict) else one["query"]
                series, label = re.fullmatch(r"label_values\((.*), *(\w+)\)", self.fill(query)).groups()
                found = grafana.ask("/api/datasources/uid/prometheus/resources/api/v1/series?match[]=" + quote(series))
                values = sorted({labels[label] for labels in found["data"] if label in labels})
                assert values, f"{document['uid']}: the variable {one['name']} has no values ({query})"
                every = "(" + "|".join(map(re.escape, values)) + ")"
                self.values[one["name"]] = every if one.get("multi") else values[0]
            elif one["type"] in ("custom", "interval", "constant", "textbox"):
                self.values[one["name"]] = one["current"].get("value") or one["query"].split(",")[0]
            else:
                raise AssertionError(f"{document['uid']}: nobody fills in variables of type {one['type']}")

    def fill(self, node):
        if isinstance(node, dict):
            return {key: self.fill(value) for key, value in node.items()}
        if isinstance(node, list):
            return [self.fill(value) for value in node]
        if not isinstance(node, str):
            return node
        return re.sub(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)|\[\[(\w+)\]\]",
                      lambda found: self.values.get(found[1] or found[2] or found[3], found[0]), node)


def answers(grafana, panel):
    """{query: whether it has data}; a query that Grafana can't ask is an error."""
    queries = [{"intervalMs": 15000, "maxDataPoints": 500, **target,
                "datasource": target.get("datasource") or panel["datasource"]} for target in panel["targets"]]
    found = grafana.ask("/api/ds/query", {"queries": queries, "from": "now-15m", "to": "now"})["results"]
    said = {}
    for query in queries:
        answer = found[query["refId"]]
        assert "error" not in answer, (panel["title"], query["refId"], answer["error"])
        columns = [column for frame in answer.get("frames") or [] for column in frame["data"]["values"][1:]]
        said[query["refId"]] = any(value is not None for column in columns for value in column)
    return said


def test_second_run_changes_nothing_with_keycloak_included(grafana_site):
    run = grafana_site.play("site.yml")
    assert run.changed == {MAIN: 0}, run.text[-4000:]


# -- alerts, and what is shown meanwhile -----------------------------------------------------------------------------


def told(site, since=0.0):
    """Every notification since then as (way, sender, subject), whoever took it."""
    found = [("mail", mail.sender, mail.subject) for mail in list(site.mails) if mail.arrived >= since]
    for one in json.loads(site.on(MAIN, f"curl -sf {OUTSIDE}/received")):
        if one["at"] >= since:
            assert not one["refused"], one
            found.append((one["service"], one["sender"], subject(one["service"], one["payload"])))
    return [(way, "Grafana" if "grafana" in sender.lower() else "Alertmanager", about) for way, sender, about in found]


def subject(service, payload):
    if service == "webhook":
        labels = payload["commonLabels"]
        return f"[{payload['status'].upper()}] {labels.get('alertname')} on {labels.get('instance')}"
    return payload["attachments" if service == "slack" else "embeds"][0]["title"]


def told_about(notifications, *names):
    """Those that say that one of these alerts fires."""
    about = re.compile(r"^\[FIRING\S*\] (?:" + "|".join(map(re.escape, names)) + r")\b")
    return [one for one in notifications if about.search(one[2])]


def seen_on_its_panel(grafana, name, uid, panel):
    wait_for(f"{name} on its panel", lambda: name in grafana.alerts_of_panel(uid, panel)
             and grafana.alerts_of_panel(uid, panel)[name]["state"] == "firing", 420, every=2)
    wait_for(f"the mark of {name} in its panel", lambda: any(
        state.startswith("Alerting") for state in grafana.annotations_of_panel(uid, panel)), 60, every=2)


@pytest.fixture(scope="module")
def dead(grafana, grafana_site):
    """A dead PostgreSQL, and since when."""
    uid, panel, unit = DEAD["PostgreSQL down"]
    assert grafana.alerts_of_panel(uid, panel)["PostgreSQL down"]["state"] == "inactive"
    stopped = time.time()
    grafana_site.on(MAIN, f"systemctl stop {unit}")
    return stopped


def test_a_dead_service_is_seen_on_its_panel_and_makes_a_mail(grafana, grafana_site, dead):
    seen_on_its_panel(grafana, "PostgreSQL down", *DEAD["PostgreSQL down"][:2])
    wait_for("its mail", lambda: told_about(told(grafana_site, dead), "ServiceDown"), 180)


def make_events(site):
    """What panels of log lines show: log-ins and commands, let through and refused, an error, what a scanner asks."""
    for tag, line in (("sshd", "Accepted publickey for ada from 192.0.2.7 port 40022 ssh2: ED25519 SHA256:made"),
                      ("sshd", "Failed password for invalid user oracle from 192.0.2.8 port 40023 ssh2"),
                      ("sshd", "Connection closed by invalid user oracle 192.0.2.8 port 40024 [preauth]"),
                      ("sudo", "     ada : TTY=pts/0 ; PWD=/home/ada ; USER=root ; COMMAND=/usr/bin/true"),
                      ("sudo", "  victor : user NOT in sudoers ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh")):
        site.on(MAIN, f"logger -t {tag} {shlex.quote(line)}")
    site.on(MAIN, "logger -p user.err 'This error was made for a panel'")
    site.on(MAIN, "curl -s http://127.0.0.1:11434/.env", check=False)
    nobody = {"Authorization": "Basic " + base64.b64encode(b"nobody:mistyped").decode()}
    with pytest.raises(HTTPError, match="401"):
        site.ask("grafana", "/api/org", login="", headers=nobody)


def test_every_query_of_every_panel_answers_with_data(grafana, grafana_site, dead):
    """Some panels show alerts that fire, what is loaded right now, or log-ins that were refused."""
    one = {"model": "tiny", "prompt": "x", "stream": False, "keep_alive": "1h"}
    grafana_site.ask("ollama", "/api/generate", login="", body=one)
    make_events(grafana_site)
    panels = []
    for uid, one in grafana.dashboards().items():
        fill = Variables(grafana, one["dashboard"]).fill
        panels += [(uid, fill(panel)) for panel in grafana.panels(uid) if panel.get("targets")]
    assert len(panels) > 60

    def unexplained():
        assert not Person(grafana_site.demo.address("grafana")).log_in("victor", "mistyped")
        without = {(uid, panel["title"], query) for uid, panel in panels
                   for query, data in answers(grafana, panel).items() if not data} - AT_TIMES
        due = {place for place, proof in (NO_DATA | BY_MACHINE).items() if grafana_site.value(proof) is not None}
        print(f"without data: {sorted(without - due)}; with data in spite of the reason: {sorted(due - without)}")
        return without ^ due

    wait_for("data in every panel, and none only for a reason that holds", lambda: not unexplained(), 180, every=5)
    assert all(grafana_site.value(proof) is not None for proof in NO_DATA.values()), "these reasons don't hold"
    print(f"{sum(len(panel['targets']) for _uid, panel in panels)} queries of {len(panels)} panels")


def test_a_dead_service_makes_no_more_than_that_mail(grafana, grafana_site, dead):
    # Whoever would tell it a second time waits for no more than half a minute.
    time.sleep(max(0.0, grafana_site.mails_about("FIRING", "ServiceDown", MAIN)[-1].arrived + 40 - time.time()))
    assert [one[:2] for one in told_about(told(grafana_site, dead), "ServiceDown", "PostgreSQL down")] == [
        ("mail", "Alertmanager")]
    grafana_site.on(MAIN, f"systemctl start {DEAD['PostgreSQL down'][2]}")
    wait_for("the end of the alert", lambda: not grafana.fires("PostgreSQL down"), 120, every=2)


# -- what can go wrong -----------------------------------------------------------------------------------------------


def start_keycloak(site):
    site.on(MAIN, "systemctl start keycloak.service")
    wait_for("Keycloak", lambda: site.on(MAIN, "curl -sf http://127.0.0.1:9000/health/ready", check=False), 120)


def state_of(site, unit="grafana.service"):
    """Changes with every start, and with every file of Grafana's."""
    return site.on(MAIN, f"systemctl show --property=InvocationID,ActiveState {unit}; "
                         "find /etc/grafana /etc/systemd/system/grafana.service -type f -exec sha256sum {} + | sort")


def refused(site, *arguments, says):
    """A run that fails with these words, and changes nothing about Grafana: it goes on to serve."""
    before = state_of(site)
    run = site.play("site.yml", "--tags", "grafana", *arguments, succeeds=False)
    for word in says:
        assert re.search(word, run.text, re.IGNORECASE), (word, run.text[-4000:])
    assert state_of(site) == before
    assert site.ask("grafana", "/api/health", login="")["database"] == "ok"


def test_an_unreachable_keycloak_ends_with_the_old_grafana_serving(grafana_site):
    grafana_site.on(MAIN, "systemctl stop keycloak.service")
    try:
        refused(grafana_site, "-e", "grafana_memory_max=900M",
                says=("Keycloak", re.escape(grafana_site.demo.address("keycloak")), "refused|unreachable|answer"))
    finally:
        start_keycloak(grafana_site)


def test_a_wrong_client_secret_ends_with_the_old_grafana_serving(grafana_site):
    settings = {"url": grafana_site.demo.address("keycloak"), "realm": "aistack", "client_secret": "not-the-secret"}
    refused(grafana_site, "-e", json.dumps({"observability_single_sign_on": settings}),
            says=("Keycloak does not accept the client .grafana.", "--tags keycloak_client"))
    person = Person(grafana_site.demo.address("grafana"))
    assert person.log_in("ada", grafana_site.demo.password("people")) and person.role == "Admin", person.reason


# -- alerts that waited for five minutes ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIRING)
def test_an_alert_of_a_host_is_seen_on_its_panel_and_makes_one_mail(grafana, grafana_site, name):
    uid, panel, twin = FIRING[name]
    seen_on_its_panel(grafana, name, uid, panel)
    wait_for(f"the mail of {twin}", lambda: told_about(told(grafana_site), twin), 120)
    assert [one[:2] for one in told_about(told(grafana_site), twin, name)] == [("mail", "Alertmanager")]


def test_grafana_itself_has_told_nobody_anything(grafana_site):
    assert [one for one in told(grafana_site) if one[1] == "Grafana"] == []


# -- Grafana delivers ------------------------------------------------------------------------------------------------

WAYS = ("discord", "mail", "slack", "webhook")


def every_way(site, folder):
    """Variables by which Grafana delivers its panels' alerts, by every way there is; and one more of each kind."""
    (folder / "leaving.json").write_text(json.dumps({"uid": "leaving", "title": "Leaving", "panels": []}))
    return {
        "grafana_alert_delivery": "contact_points",
        "observability_notifications": {
            "email": {"to": ["you@demo.test"], "from": "alerts@demo.test", "smarthost": "127.0.0.1:1025",
                      "username": "alerts", "password": site.demo.password("smtp"), "tls": "starttls",
                      "authority": "/etc/stack/mail.crt"},
            "slack": {"webhook_url": f"{OUTSIDE}/slack/T0/B0/token", "channel": "#alerts"},
            "discord": {"webhook_url": f"{OUTSIDE}/discord/api/webhooks/1/token"},
            "webhooks": [{"name": "pager", "url": f"{OUTSIDE}/webhook/pager"}],
            "watchdog": {"url": f"{OUTSIDE}/watchdog"},
        },
        "grafana_extra_data_sources": [{"name": "Leaving", "uid": "leaving", "type": "prometheus", "access": "proxy",
                                        "url": "http://127.0.0.1:9"}],
        "grafana_extra_dashboards": [str(folder / "leaving.json")],
        "grafana_extra_contact_points": [{"name": "leaving", "receivers": [
            {"uid": "leaving", "type": "webhook", "settings": {"url": "http://127.0.0.1:9/leaving"}}]}],
        "grafana_extra_mute_timings": [{"name": "leaving", "time_intervals": [{"weekdays": ["sunday"]}]}],
        "grafana_extra_templates": [{
            "name": "leaving", "template": '{% raw %}{{ define "leaving" }}x{{ end }}{% endraw %}'}],
        "grafana_extra_rule_groups": [{"name": "leaving", "folder": "aistack", "interval": "1m", "rules": [
            own_rule("leaving", "leaving")]}],
    }


def own_rule(uid, title):
    """A rule that never fires."""
    return {"uid": uid, "title": title, "condition": "A", "for": "1m", "noDataState": "OK", "execErrState": "OK",
            "data": [{"refId": "A", "datasourceUid": "__expr__", "relativeTimeRange": {"from": 60, "to": 0},
                      "model": {"refId": "A", "type": "math", "expression": "0",
                                "datasource": {"type": "__expr__", "uid": "__expr__"}}}]}


@pytest.fixture(scope="module")
def delivered(grafana_site, tmp_path_factory):
    """Grafana delivers; two services die, and all that its panels know of is told by every way."""
    since = time.time()
    variables = every_way(grafana_site, tmp_path_factory.mktemp("dashboards"))
    grafana_site.play("site.yml", "--tags", "alertmanager,grafana", "-e", json.dumps(variables))
    for name in ("Ollama down", "Keycloak down"):
        grafana_site.on(MAIN, f"systemctl stop {DEAD[name][2]}")
    expected = {(way, name) for way in WAYS for name in (*FIRING, "Ollama down", "Keycloak down")}

    def all_told():
        got = told(grafana_site, since)
        return expected <= {(one[0], name) for name in (*FIRING, *DEAD) for one in told_about(got, name)}

    wait_for("every alert of a panel by every way", all_told, 240, every=2)
    time.sleep(45)  # whoever would tell it a second time waits for no more than half a minute
    notifications = told(grafana_site, since)
    grafana_site.on(MAIN, f"systemctl start {DEAD['Ollama down'][2]}")
    start_keycloak(grafana_site)
    return notifications


@pytest.mark.parametrize("name", [*FIRING, "Ollama down", "Keycloak down"])
def test_grafana_delivers_an_alert_of_a_panel_once_by_every_way(grafana, delivered, name):
    twin = FIRING[name][2] if name in FIRING else "ServiceDown"
    assert sorted(one[:2] for one in told_about(delivered, name)) == [(way, "Grafana") for way in WAYS]
    assert told_about(delivered, twin) == [], "Alertmanager tells it, too"


def test_what_arrives_is_what_the_services_take(grafana_site, delivered):
    """And it says what it is about: the value, where to look, and what to do."""
    everything = json.loads(grafana_site.on(MAIN, f"curl -sf {OUTSIDE}/received"))
    assert [one for one in everything if one["refused"]] == []
    mine = {one["service"]: one["payload"] for one in everything
            if "Grafana" in one["sender"] and "High processor use" in json.dumps(one["payload"])}
    address = grafana_site.demo.address("grafana")
    (attachment,) = mine["slack"]["attachments"]
    texts = {"slack": attachment["text"], "discord": mine["discord"]["content"], "webhook": mine["webhook"]["message"]}
    for way, text in texts.items():
        assert re.search(rf"{MAIN}: processor [\d.]+ % busy", text), (way, text)
        assert f"{address}/d/aistack-host" in text and "runbook.md#hosthighcpu" in text, (way, text)
    assert mine["slack"]["channel"] == "#alerts"
    (alert,) = mine["webhook"]["alerts"]
    assert alert["labels"]["instance"] == MAIN and alert["panelURL"].startswith(address)


# -- what leaves the declaration -------------------------------------------------------------------------------------


def in_grafana(grafana):
    """Everything that can be declared, by kind."""
    return {
        "data source": {one["uid"] for one in grafana.ask("/api/datasources")},
        "dashboard": set(grafana.dashboards()),
        "contact point": {one["uid"] for one in grafana.ask("/api/v1/provisioning/contact-points")},
        "mute timing": {one["name"] for one in grafana.ask("/api/v1/provisioning/mute-timings")},
        "template": {one["name"] for one in grafana.ask("/api/v1/provisioning/templates")},
        "rule": {one["uid"] for one in grafana.ask("/api/v1/provisioning/alert-rules")},
    }


def make_by_hand(grafana):
    """One of each kind, without the mark of provisioning: as the pages make it."""
    ui = {"X-Disable-Provenance": "true"}
    grafana.ask("/api/datasources", {"name": "By hand", "uid": "by-hand", "type": "prometheus", "access": "proxy",
                                     "url": "http://127.0.0.1:9"})
    (folder,) = [one["uid"] for one in grafana.ask("/api/folders") if one["title"] == "aistack"]
    grafana.ask("/api/dashboards/db", {"dashboard": {"uid": "by-hand", "title": "By hand", "panels": []}})
    grafana.ask("/api/v1/provisioning/contact-points", {
        "uid": "by-hand", "name": "by-hand", "type": "webhook", "settings": {"url": "http://127.0.0.1:9/by-hand"}},
        headers=ui)
    grafana.ask("/api/v1/provisioning/mute-timings", {
        "name": "by-hand", "time_intervals": [{"weekdays": ["sunday"]}]}, headers=ui)
    grafana.ask("/api/v1/provisioning/templates/by-hand", {"template": '{{ define "by-hand" }}x{{ end }}'}, "PUT", ui)
    grafana.ask("/api/v1/provisioning/alert-rules", dict(
        own_rule("by-hand", "by-hand"), orgID=1, folderUID=folder, ruleGroup="by hand"), headers=ui)


def test_what_leaves_the_declaration_leaves_grafana(grafana, grafana_site, delivered):
    make_by_hand(grafana)
    before = in_grafana(grafana)
    assert all({"leaving", "by-hand"} <= there for there in before.values()), before
    run = grafana_site.play("site.yml", "--tags", "alertmanager,grafana")
    assert run.changed[MAIN] > 0
    after = in_grafana(grafana)
    gone = {kind: before[kind] - after[kind] for kind in before}
    ways = {"aistack-slack", "aistack-discord", "aistack-webhook-1"}
    assert gone == {kind: {"leaving"} | (ways if kind == "contact point" else set()) for kind in before}
    assert {kind: after[kind] - before[kind] for kind in before} == {kind: set() for kind in before}
    again = grafana_site.play("site.yml", "--tags", "alertmanager,grafana")
    assert again.changed == {MAIN: 0}, again.text[-4000:]


# -- who watches has stopped watching --------------------------------------------------------------------------------


def test_stalled_rules_make_a_mail_that_grafana_sends_itself(grafana, grafana_site):
    """A Prometheus that answers but evaluates no more, and then one that doesn't answer either: one incident."""
    wait_for("the old alerts' end", lambda: not grafana.fires(STALLED), 60)
    began = time.time()
    # Every group's next turn is in a year; the metrics are collected as before.
    grafana_site.on(MAIN, r"""sed -i -E 's/(["[:space:]{,](evaluation_)?interval"?: *"?)[0-9]+[smh]/\1365d/' """
                          "/etc/prometheus/prometheus.yml /etc/prometheus/rules/*.yml && "
                          "systemctl kill --signal=HUP --kill-who=main prometheus.service")
    (mail,) = wait_for(f"a mail about {STALLED}", lambda: [
        mail for mail in grafana_site.mails if mail.arrived > began and STALLED in mail.subject], 240)
    assert mail.subject.startswith("[FIRING") and "grafana" in mail.sender.lower()
    assert "evaluated its rules" in mail.text and "runbook.md" in mail.text
    assert grafana_site.value("vector(1)") == 1, "Prometheus itself answers"

    grafana_site.on(MAIN, "systemctl stop prometheus.service")
    wait_for("Grafana to ask in vain", lambda: grafana.asks_in_vain(STALLED), 60)
    time.sleep(45)
    assert grafana.fires(STALLED)
    about = [one for one in told(grafana_site, began) if STALLED in one[2]]
    assert [one[:2] for one in about] == [("mail", "Grafana")], about

    mended = time.time()
    grafana_site.play("site.yml", "--tags", "prometheus")
    (mail,) = wait_for("a mail that it is over", lambda: [
        mail for mail in grafana_site.mails if mail.arrived > mended and STALLED in mail.subject], 180)
    assert mail.subject.startswith("[RESOLVED")
