#!/usr/bin/python
# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: doctor
short_description: Is the site really working? Asks every running part and says what to do
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - On every host, compares each component with what was placed (files, programs, unit) and asks it its own question.
  - On the observability host, asks Prometheus whether every target answers, its rules evaluate and its alerts find an
    Alertmanager, asks Alertmanager whether notifications leave the house, asks Loki for lines and for every rule that
    was placed, asks Grafana whether its data sources answer and its own alert rules evaluate, and looks whether people
    can log in with Keycloak.
  - On every host whose logs are shipped, writes a line into the journal and looks for it in Loki.
  - Changes nothing.
attributes:
  check_mode:
    support: full
    description: Nothing is changed in any case.
  diff_mode:
    support: none
    description: Nothing is changed.
  platform:
    platforms: posix
    support: full
    description: Linux with systemd 249 or newer.
options:
  prometheus:
    description: How to reach Prometheus; left out on hosts without it.
    type: dict
    suboptions: &reach
      url:
        description: Address on this host.
        type: str
        required: true
      login:
        description: Basic authentication, C(username) and C(password).
        type: dict
      tls:
        description: Certificates, as paths on the target.
        type: dict
  alertmanager:
    description: How to reach Alertmanager; left out on hosts without it.
    type: dict
    suboptions: *reach
  grafana:
    description: How to reach Grafana as its admin; left out on hosts without it.
    type: dict
    suboptions: *reach
  loki:
    description: How to reach Loki; left out on hosts without it.
    type: dict
    suboptions: *reach
  log_groups:
    description: Names of the rule groups that Loki's ruler was given.
    type: list
    elements: str
    default: []
  logs:
    description: What ships the log lines of this host, and where to; left out where nothing does.
    type: dict
    suboptions:
      host:
        description: The label C(host) of its lines.
        type: str
        required: true
      shipper:
        description: The component.
        type: str
        required: true
      journal:
        description: Does it read the journal?
        type: bool
        required: true
      push:
        description: Every Loki, each with C(url) and where needed C(tls).
        type: list
        elements: dict
        required: true
  single_sign_on:
    description: The Keycloak that people log in with, C(issuer) (address of the realm) and C(authority); none if empty.
    type: dict
    default: {}
  receivers:
    description: Names of the notification channels that are configured, none means that nobody is told.
    type: list
    elements: str
    default: []
  outside_watchdog:
    description: Is there a receiver outside of this house that notices when the watchdog falls silent?
    type: bool
    default: false
  wait:
    description: Seconds that what is down has to come up. What Prometheus has not looked at yet, such as right after an
      installation, has 40 in any case.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Is it really working?
  aistack.observability.doctor:
    prometheus: {url: "http://127.0.0.1:9090"}
    alertmanager: {url: "http://127.0.0.1:9093"}
    receivers: [email]
    outside_watchdog: true
"""

RETURN = r"""
verdicts:
  description: One entry a check.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: What was looked at.
      type: str
    verdict:
      description: C(ok), C(warning) or C(failed).
      type: str
    detail:
      description: What was found.
      type: str
    fix:
      description: What to do, empty where nothing is to be done.
      type: str
healthy:
  description: No check failed.
  returned: always
  type: bool
"""

import calendar
import http.client
import json
import os
import syslog
import time
from urllib.parse import quote

from ansible_collections.aistack.observability.plugins.module_utils.component import files, health, release, unit
from ansible_collections.aistack.observability.plugins.module_utils.component.errors import ComponentError
from ansible_collections.aistack.observability.plugins.module_utils.component.generations import STATE_ROOT, Generations
from ansible_collections.aistack.observability.plugins.module_utils.quiet import QuietModule

# Right after an installation nothing has been scraped or evaluated yet; two rounds of the usual 15 s and a little more.
SETTLE = 40
NO_ANSWER = (OSError, http.client.HTTPException, ValueError, KeyError)


# Seconds within which Prometheus repeats an alert: its resend delay of a minute, and an evaluation.
RESEND = 90
# Recent failures by channel: one of last week is no reason to worry today.
UNDELIVERED = "sum by (integration) (increase(alertmanager_notifications_failed_total[10m])) > 0"
# Seconds that a line has to get from the journal into Loki.
ARRIVES = 15


class Verdicts:
    def __init__(self):
        self.entries = []

    def add(self, check, problem, fix="", detail="", warning=False):
        """*problem* is empty where all is well."""
        self.entries.append({"check": check, "verdict": "ok" if not problem else "warning" if warning else "failed",
                             "detail": problem or detail, "fix": fix if problem else ""})


class Api:
    """One of the servers, asked for JSON."""

    def __init__(self, reach):
        self.url = reach["url"].rstrip("/")
        self._client = health.Http(reach.get("login"), reach.get("tls"))

    def get(self, path):
        code, text = self._client.ask(self.url + path)
        if code != 200:
            raise OSError("%s%s answered %d" % (self.url, path, code))
        return json.loads(text)

    def query(self, expression):
        return self.get("/api/v1/query?query=%s" % quote(expression))["data"]["result"]


def components(verdicts):
    """Every component of ours on this host: as it was placed, running, and answering."""
    try:
        names = sorted(name for name in os.listdir(STATE_ROOT)
                       if os.path.islink(os.path.join(STATE_ROOT, name, "proven")))
    except OSError:
        names = []
    for name in names:
        generations = Generations(name)
        try:
            manifest = generations.proven().manifest
        except ComponentError as error:
            verdicts.add("component %s" % name, error.message, "restore %s/%s from a backup" % (STATE_ROOT, name))
            continue
        program = manifest.get("program") or {}
        verdicts.add("component %s" % name, _trouble(generations, manifest),
                     "run the playbook with --tags %s; --check --diff shows what it would mend" % manifest["family"],
                     "%s, generation %d" % (program.get("version") or "no program", manifest["generation"]))


def _trouble(generations, manifest):
    if generations.intent():
        return "a run was interrupted and has not been made good yet"
    for record in manifest["files"]:
        if files.Found(record["path"]).sha256 != record["sha256"]:
            return "%s is not as it was placed" % record["path"]
    program = manifest.get("program") or {}
    if program.get("folder"):
        damaged = release.damaged(program)
        if damaged:
            return "the program's file %s is not as it was placed" % damaged
    if manifest.get("unit"):
        status = unit.Status(manifest["unit"])
        if not status.running:
            return "%s is %s (%s)" % (manifest["unit"], status.active, status.sub)
        try:
            health.ask(manifest["unit"], dict(manifest.get("answers") or {}, within=10))
        except health.Unhealthy as error:
            return error.message
    return ""


def prometheus(verdicts, api, wait):
    start = time.monotonic()
    while True:
        try:
            found, young = _prometheus(api)
        except NO_ANSWER as error:
            found, young = [("Prometheus", "does not answer: %s" % error, "see journalctl -u prometheus", "")], False
        patience = max(wait, SETTLE if young else 0)
        if not any(problem for _check, problem, _fix, _detail in found) or time.monotonic() - start > patience:
            break
        time.sleep(1)
    for check, problem, fix, detail in found:
        verdicts.add(check, problem, fix, detail)
    _alerts(verdicts, api)


def _alerts(verdicts, api):
    """Alerts that fire are no fault of the observability, but whoever asks wants to know."""
    try:
        alerts = api.get("/api/v1/alerts")["data"]["alerts"]
    except NO_ANSWER:
        return
    firing = sorted({"%s on %s" % (alert["labels"]["alertname"], alert["labels"].get("instance", "the site"))
                     for alert in alerts if alert["state"] == "firing"
                     and alert["labels"].get("severity") not in ("info", "none")})
    verdicts.add("Alerts", "firing: %s" % ", ".join(firing) if firing else "",
                 "see their runbooks in mixins/*/runbook.md", "none fires", warning=True)


def _prometheus(api):
    """(what was found, whether there is something that Prometheus hasn't looked at yet)"""
    found = []
    targets = api.get("/api/v1/targets?state=active")["data"]["activeTargets"]
    down = ["%s %s (%s)" % (item["labels"].get("service"), item["labels"].get("instance"),
                            item.get("lastError") or item["health"]) for item in targets if item["health"] != "up"]
    found.append(("Prometheus: targets", "; ".join(down), "see the service and its exporter on that host",
                  "%d of %d up" % (len(targets) - len(down), len(targets))))
    groups = api.get("/api/v1/rules")["data"]["groups"]
    read = api.get("/api/v1/status/runtimeinfo")["data"]["lastConfigTime"][:19]
    age = time.time() - calendar.timegm(time.strptime(read, "%Y-%m-%dT%H:%M:%S"))
    # A group that is asked seldom has its turn within its interval, which nobody shall wait for.
    rules, later = [], 0
    for group in groups:
        seldom = SETTLE < group["interval"] and age < group["interval"] + SETTLE
        waiting = [rule for rule in group["rules"] if rule["health"] == "unknown" and seldom]
        later += len(waiting)
        rules += [rule for rule in group["rules"] if rule not in waiting]
    broken = ["%s: %s" % (rule["name"], rule.get("lastError") or rule["health"]) for rule in rules
              if rule["health"] != "ok"]
    found.append(("Prometheus: rules", "; ".join(broken[:5]), "see the runbook of the mixin, or your extra rules",
                  "%d rules evaluate" % len(rules) + (", %d when it is their turn" % later if later else "")))
    active = api.get("/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
    found.append(("Prometheus: Alertmanager", "" if active else "no Alertmanager is connected",
                  "see journalctl -u alertmanager", "%d connected" % len(active)))
    watchdog = [alert for alert in api.get("/api/v1/alerts")["data"]["alerts"]
                if alert["labels"].get("alertname") == "Watchdog" and alert["state"] == "firing"]
    found.append(("Prometheus: watchdog", "" if watchdog else "the Watchdog alert does not fire",
                  "rules are not evaluated: see the Prometheus log", "fires"))
    failing = sorted(item["metric"].get("integration", "unknown") for item in api.query(UNDELIVERED))
    found.append(("Notifications: delivery", "failed in the last 10 minutes by %s" % ", ".join(failing)
                  if failing else "", "see journalctl -u alertmanager for the reason",
                  "none failed in the last 10 minutes"))
    found.append(_services(targets, api.query("service:up"), api.query("probe_success == 0")))
    young = any(item["health"] == "unknown" for item in targets + rules) or "not judged yet" in found[-1][1]
    return found, young


def _services(targets, samples, failing):
    """What the alerts see. A service that is scraped but has no verdict of its own would die in silence."""
    seen = {(item["metric"].get("instance"), item["metric"].get("service")): float(item["value"][1])
            for item in samples}
    scraped = {(item["labels"].get("instance"), item["labels"].get("service")) for item in targets}
    silent = {}
    for item in failing:
        labels = item["metric"]
        silent.setdefault((labels.get("instance"), labels.get("service")), []).append(
            "%s %s" % (labels.get("probe"), labels.get("target")))
    trouble = ["%s on %s is down%s" % (service, instance, " (no answer: %s)" % ", ".join(sorted(
        silent[instance, service])) if (instance, service) in silent else "")
        for (instance, service), up in sorted(seen.items()) if up != 1]
    trouble += ["%s on %s is not judged yet" % (service, instance)
                for instance, service in sorted(scraped - set(seen), key=str) if service]
    fix = "start it; if only its front door is named, see ServiceDown in mixins/prometheus/runbook.md"
    return "Services", "; ".join(trouble), fix, "%d up" % len(seen)


def alertmanager(verdicts, api, wait):
    deadline = time.monotonic() + wait
    while True:
        try:
            alerts = api.get("/api/v2/alerts?filter=alertname%3D%22Watchdog%22")
            started = api.get("/api/v2/status")["uptime"][:19]
        except NO_ANSWER as error:
            verdicts.add("Alertmanager", "does not answer: %s" % error, "see journalctl -u alertmanager")
            return
        # Prometheus tells a fresh Alertmanager of an alert that goes on when it is the alert's turn again.
        age = time.time() - calendar.timegm(time.strptime(started, "%Y-%m-%dT%H:%M:%S"))
        if alerts or (age > RESEND and time.monotonic() > deadline):
            break
        time.sleep(1)
    verdicts.add("Alertmanager: alerts arrive", "" if alerts else "the Watchdog alert did not arrive",
                 "see the Prometheus log for failed notifications", "the Watchdog is there")


def loki(verdicts, api, groups):
    """A query goes the way of every query: its /ready answered while queries hung."""
    try:
        found = api.get("/loki/api/v1/query?query=%s" % quote('sum(count_over_time({host=~".+"}[5m]))'))
        lines = sum(int(item["value"][1]) for item in found["data"]["result"])
        loaded = {group["name"]: group["rules"] for group in api.get("/prometheus/api/v1/rules")["data"]["groups"]}
    except NO_ANSWER as error:
        verdicts.add("Loki", "does not answer: %s" % error, "see journalctl -u loki")
        return
    verdicts.add("Loki", "", detail="%d lines in the last 5 minutes" % lines)
    trouble = ["%s is not loaded" % name for name in sorted(set(groups) - set(loaded))]
    rules = [rule for group in loaded.values() for rule in group]
    trouble += ["%s: %s" % (rule["name"], rule.get("lastError") or rule["health"]) for rule in rules
                if rule["health"] == "err"]
    verdicts.add("Loki: rules", "; ".join(trouble[:5]), "run the playbook with --tags loki; for a rule that does not "
                 "evaluate, see the runbook of its mixin, or your extra rules", "%d rules evaluate" % len(rules))


def log_lines(verdicts, host, shipper, journal, push):
    """A line of now arrives in every Loki; where the journal isn't shipped, others have within the hour."""
    mark = "a line of now, %d" % (time.time() * 1000)
    selector = "{host=%s}" % json.dumps(host)
    if journal:
        syslog.openlog("aistack-doctor")
        syslog.syslog(mark)
        selector += " |= `%s`" % mark
    for reach in push:
        api = Api(dict(reach, url=reach["url"].rpartition("/loki/")[0]))
        path = "/loki/api/v1/query_range?limit=1&since=1h&query=%s" % quote(selector)
        began, trouble = time.monotonic(), ""
        while True:
            try:
                trouble = "" if api.get(path)["data"]["result"] else "is not in Loki"
            except NO_ANSWER as error:
                trouble = "is not in Loki, which does not answer: %s" % error
            seconds = time.monotonic() - began
            if not trouble or not journal or seconds > ARRIVES:
                break
            time.sleep(0.5)
        check = "Logs: %s" % shipper + (" to %s" % api.url if len(push) > 1 else "")
        if journal:
            verdicts.add(check, trouble and "a line of %d seconds ago %s" % (seconds, trouble),
                         "see journalctl -u %s; lines wait at their source until Loki takes them" % shipper,
                         "a line of now arrived in %.1f s" % seconds)
        else:
            verdicts.add(check, trouble and "any line of the last hour %s" % trouble,
                         "see log_sources.files, and journalctl -u %s" % shipper, "lines arrive", warning=True)


def grafana(verdicts, api):
    """Every data source answers through Grafana, and its own alert rules evaluate."""
    try:
        # Those of files; what people made by hand is theirs to look after.
        sources = [item for item in api.get("/api/datasources") if item.get("readOnly")]
        groups = api.get("/api/prometheus/grafana/api/v1/rules")["data"]["groups"]
    except NO_ANSWER as error:
        verdicts.add("Grafana", "does not answer: %s" % error, "see journalctl -u grafana; if it answers 401, restart "
                     "it, which sets the password of the secrets file again")
        return
    silent = sorted(item["name"] for item in sources if not _answers(api, item))
    verdicts.add("Grafana: data sources", "%s: no answer" % ", ".join(silent) if silent else "",
                 "see the component behind it, or run the playbook with --tags grafana", "%d there" % len(sources))
    rules = [rule for group in groups for rule in group["rules"]]
    broken = sorted("%s: %s" % (rule["name"], rule.get("lastError") or rule["health"]) for rule in rules
                    if rule["health"] == "error")
    verdicts.add("Grafana: alert rules", "; ".join(broken[:5]), "see the rule in Grafana", "%d evaluate" % len(rules))


def _answers(api, source):
    """Grafana answers 400 for a data source that doesn't. Older ones can't ask Loki for its health, so a query goes."""
    ways = {"prometheus": "/api/datasources/uid/%s/health",
            "loki": "/api/datasources/proxy/uid/%s/loki/api/v1/query?query=vector(1)"}
    if source["type"] not in ways:
        return True
    try:
        return api.get(ways[source["type"]] % source["uid"]).get("status") in ("OK", "success")
    except NO_ANSWER:
        return False


def single_sign_on(verdicts, issuer, authority):
    """Asked as Grafana asks it; whether the client's secret is right was tried when Grafana was configured."""
    api = Api({"url": issuer, "tls": {"authority": authority} if authority else {}})
    try:
        trouble = "" if api.get("/.well-known/openid-configuration")["issuer"] == issuer else (
            "Keycloak calls itself otherwise than observability_single_sign_on.url")
    except NO_ANSWER as error:
        trouble = "nobody can log in with Keycloak: %s" % error
    verdicts.add("Single sign-on", trouble, "start Keycloak, or see observability_single_sign_on", issuer)


def channels(verdicts, receivers, outside_watchdog):
    """What is configured, whether Alertmanager answers or not."""
    verdicts.add("Notifications", "" if receivers else "no channel is configured: nobody is told of an alert",
                 "set observability_notifications (email, slack, discord or webhooks)", ", ".join(receivers))
    verdicts.add("Outside watchdog", "" if outside_watchdog else "if this host dies, nobody notices",
                 "set observability_notifications.watchdog.url to a service outside of this house that alarms when "
                 "its calls stop", "its calls leave the house")


def main():
    reach = {"type": "dict", "options": {"url": {"type": "str", "required": True}, "login": {"type": "dict"},
                                         "tls": {"type": "dict"}}}
    module = QuietModule(
        argument_spec={"prometheus": reach, "alertmanager": reach, "grafana": reach, "loki": reach,
                       "log_groups": {"type": "list", "elements": "str", "default": []},
                       "logs": {"type": "dict", "options": {
                           "host": {"type": "str", "required": True}, "shipper": {"type": "str", "required": True},
                           "journal": {"type": "bool", "required": True},
                           "push": {"type": "list", "elements": "dict", "required": True}}},
                       "single_sign_on": {"type": "dict", "default": {}},
                       "receivers": {"type": "list", "elements": "str", "default": []},
                       "outside_watchdog": {"type": "bool", "default": False},
                       "wait": {"type": "int", "default": 0}},
        supports_check_mode=True)
    verdicts = Verdicts()
    components(verdicts)
    if module.params["prometheus"]:
        prometheus(verdicts, Api(module.params["prometheus"]), module.params["wait"])
    if module.params["alertmanager"]:
        alertmanager(verdicts, Api(module.params["alertmanager"]), module.params["wait"])
        channels(verdicts, module.params["receivers"], module.params["outside_watchdog"])
    if module.params["loki"]:
        loki(verdicts, Api(module.params["loki"]), module.params["log_groups"])
    if module.params["logs"]:
        log_lines(verdicts, **module.params["logs"])
    if module.params["grafana"]:
        grafana(verdicts, Api(module.params["grafana"]))
        if module.params["single_sign_on"]:
            single_sign_on(verdicts, module.params["single_sign_on"]["issuer"],
                           module.params["single_sign_on"].get("authority"))
    failed = [entry for entry in verdicts.entries if entry["verdict"] == "failed"]
    module.exit_json(changed=False, verdicts=verdicts.entries, healthy=not failed)


if __name__ == "__main__":
    main()
