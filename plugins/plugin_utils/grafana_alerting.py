# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana's own alerting as files of its provisioning: the rules that are bound to panels, and who is told.

Prometheus raises the alerts and Alertmanager delivers them; Grafana's copies are there to be seen on their panels, and
are muted unless Grafana is asked to deliver them (then `twins` says what Alertmanager leaves to it). One rule is always
Grafana's to deliver: PrometheusRulesStalled.

The documents hold for Grafana 10 to 13. What Grafana does with a `$` in them differs from place to place: it fills in
variables in the settings of contact points, in policies and in a rule's names and labels, where `$$` is a `$`; queries,
annotations, message templates and mute timings it takes as they are. So texts of ours use none. Knows nothing of
Ansible.
"""
from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.aistack.observability.plugins.plugin_utils import dashboards
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import LOADER, MixinError, fill, flat

STALLED_ONLY = "stalled_only"
CONTACT_POINTS = "contact_points"

PROMETHEUS = "prometheus"       # uid of the data source
FOLDER = GROUP = "aistack"
NOTIFICATIONS = "notifications"
NOBODY = "nobody"
ALWAYS = "always"
# Names the kinds of our rules to the policies: `panel` for what has a twin in Prometheus, `always` for what has none.
KIND = "aistack"

# Ten seconds is the shortest that Grafana takes; with it a dead service is told within two minutes.
INTERVAL = "10s"
# As Alertmanager's own routes (roles/alertmanager): a person is needed now, and everything else.
URGENT = {"group_wait": "10s", "group_interval": "30s", "repeat_interval": "4h"}
ORDINARY = {"group_wait": "30s", "group_interval": "5m", "repeat_interval": "12h"}

RULE_KEYS = {"uid", "title", "dashboard", "panel", "expr", "above", "below", "unit", "for", "severity", "summary",
             "description", "twin", "without_data", "down"}
# What the rules that tell that a service is down have in common. They are silent where the twin is: while the whole
# host is down, and in its first five minutes.
DOWN = {
    "expr": """min by (instance, service) (service:up{service=~"${services.%(type)s}"})"""
            " unless on (instance) host:up == 0"
            """ unless on (instance) node_time_seconds{job="node"} - node_boot_time_seconds{job="node"} < 300""",
    "below": 1, "unit": "none", "for": "30s", "severity": "critical",
    "summary": "{{ .Labels.service }} on {{ .Labels.instance }} is down (service:up {{ .Values.A.Value }})",
    "twin": {"alertname": "ServiceDown", "service": "${services.%(type)s}"},
}

# No variables in it: see above.
TEMPLATE = """\
{{ define "aistack.subject" -}}
[{{ .Status | toUpper }}] {{ with .CommonLabels.alertname }}{{ . }}{{ else }}{{ len .Alerts }} alerts{{ end -}}
{{ with .CommonLabels.service }}{{ if ne . "host" }} {{ . }}{{ end }}{{ end -}}
{{ with .CommonLabels.instance }} on {{ . }}{{ end -}}
{{ if and .Alerts.Firing .Alerts.Resolved }} ({{ len .Alerts.Resolved }} resolved){{ end -}}
{{ end }}

{{ define "aistack.chat" -}}
{{ range .Alerts }}{{ if eq .Status "resolved" }}Resolved. Was: {{ end -}}
{{ with .Annotations.summary }}{{ . }}{{ else }}{{ .Labels.alertname }}{{ end }}
{{ with .Annotations.description }}{{ . }}
{{ end }}Since {{ .StartsAt.UTC.Format "Mon 2 Jan 2006, 15:04:05" }} UTC{{ if eq .Status "resolved" -}}
{{ "" }} to {{ .EndsAt.UTC.Format "Mon 2 Jan 2006, 15:04:05" }} UTC{{ end }}
{{ with .Annotations.runbook_url }}Runbook: {{ . }}
{{ end }}{{ with .PanelURL }}Panel: {{ . }}
{{ end }}
{{ end }}{{ end }}
"""
TEMPLATES = {"aistack": TEMPLATE}
SUBJECT = '{{ template "aistack.subject" . }}'
CHAT = '{{ template "aistack.chat" . }}'

# Settings of Grafana's contact points that are secret, or an address that is.
SECRET_SETTING = re.compile(r"(password|token|secret|credentials|(api|integration|user|client|routing)_?key|url)$",
                            re.IGNORECASE)
# Alertmanager's ways to log in to a webhook that Grafana has, too.
WEBHOOK_KEYS = {"name", "url", "send_resolved", "max_alerts", "http_config"}
# Grafana makes a number, or true or false, of what looks like one when it comes out of a file.
NO_TEXT = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|0x[0-9a-f_.]+(p[-+]?\d+)?|inf(inity)?|nan)"
                     r"|t|f|true|false", re.IGNORECASE)


class AlertingError(ValueError):
    """What was given can't be said to Grafana: names it, and what to do."""


def alerting(mixins: Any, values: Mapping[str, Any], available_types: Iterable[str], notifications: Mapping[str, Any],
             delivery: str, credentials_folder: str, *, contact_points: Sequence[Mapping[str, Any]] = (),
             groups: Sequence[Mapping[str, Any]] = (), mute_timings: Sequence[Mapping[str, Any]] = (),
             templates: Sequence[Mapping[str, Any]] = (), routes: Sequence[Mapping[str, Any]] = ()) -> dict:
    """Return {files, credentials, declared, twins, notes}.

    *values* is what is given for the mixins' placeholders. The last five arguments are the user's own, in the shapes of
    Grafana's provisioning, but with every text as it is meant: what Grafana would fill in is escaped here.
    """
    if delivery not in (STALLED_ONLY, CONTACT_POINTS):
        raise AlertingError(f"the delivery must be {STALLED_ONLY} or {CONTACT_POINTS}, not {delivery!r}")
    own = panel_rules(mixins, values, available_types)
    receivers, notes = _receivers(notifications or {})
    vault = _Vault(credentials_folder)
    points = [vault.contact_point(_our_point(receivers))]
    points += [vault.contact_point(_identified(point)) for point in contact_points]
    timings = [_always(), *mute_timings]
    texts = [{"orgId": 1, "name": name, "template": text} for name, text in TEMPLATES.items()]
    texts += [{"orgId": 1, **template} for template in templates]
    everything = [_our_group(mixins, own), *(_their_group(group) for group in groups)]
    documents = {
        "rules.yml": {"groups": everything},
        "contact_points.yml": {"contactPoints": points},
        "policies.yml": {"policies": [_escaped(_policies(bool(receivers), delivery, routes))]},
        "mute_timings.yml": {"muteTimes": [{"orgId": 1, **timing} for timing in timings]},
        "templates.yml": {"templates": texts},
    }
    declared = {
        "rules": [rule["uid"] for rule in own] + [str(rule.get("uid", "")) for group in groups
                                                  for rule in group.get("rules") or ()],
        "contact_points": [receiver["uid"] for point in points for receiver in point["receivers"]],
        "mute_timings": [timing["name"] for timing in timings],
        "templates": [text["name"] for text in texts],
    }
    _all_different(declared)
    return {
        "files": {name: {"apiVersion": 1, **document} for name, document in documents.items()},
        "credentials": vault.credentials,
        "declared": declared,
        # What nobody is told by Grafana must not be left to it.
        "twins": [_matchers(rule["twin"]) for rule in own if rule.get("twin")]
        if receivers and delivery == CONTACT_POINTS else [],
        "notes": notes,
    }


# -- rules -------------------------------------------------------------------------------------------------------------

def panel_rules(mixins: Any, values: Mapping[str, Any], available_types: Iterable[str]) -> list[dict]:
    """The panel-bound rules of these mixins, complete and with their placeholders filled in; `limit` is
    (evaluator, number)."""
    complete = mixins.values(values)
    texts = flat(complete)
    found = []
    for name in sorted(available_types):
        file = mixins.folder / name / "panel_rules.yml"
        if not file.is_file():
            continue
        for given in _load(file):
            written = dict(given)
            if "down" in written:
                common = json.dumps(DOWN).replace("%(type)s", written["down"])
                written = {**json.loads(common), **written}
            if unknown := sorted(set(written) - RULE_KEYS):
                raise MixinError(f"mixins/{name}/panel_rules.yml", written.get("uid", ""),
                                 f"unknown {', '.join(unknown)}")
            rule = fill(written, texts, file)
            rule["mixin"] = name
            rule["limit"] = ("gt", float(rule["above"])) if "above" in rule else ("lt", float(rule["below"]))
            rule["runbook_url"] = f"{complete['runbook_url']}/{_runbook(rule, mixins)}"
            found.append(rule)
    return found


def _load(file: Path) -> list[dict]:
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=LOADER)
    except yaml.YAMLError as error:
        raise MixinError(f"mixins/{file.parent.name}/{file.name}", "",
                         f"is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, list):
        raise MixinError(f"mixins/{file.parent.name}/{file.name}", "", "must hold a list")
    return document


def _runbook(rule: Mapping[str, Any], mixins: Any) -> str:
    """The section on the alert of Prometheus that a rule doubles, or on the rule itself."""
    alert = rule["twin"]["alertname"] if rule.get("twin") else rule["title"]
    heading = re.compile(rf"^## {re.escape(alert)}$", re.MULTILINE)
    for name in (rule["mixin"], *mixins.names()):
        file = mixins.folder / name / "runbook.md"
        if file.is_file() and heading.search(file.read_text(encoding="utf-8")):
            return f"{name}/runbook.md#{alert.lower()}"
    raise MixinError(f"mixins/{rule['mixin']}/panel_rules.yml", rule["uid"], f"no runbook has a section {alert}")


def _our_group(mixins: Any, rules: Iterable[Mapping[str, Any]]) -> dict:
    return {"orgId": 1, "name": GROUP, "folder": FOLDER, "interval": INTERVAL,
            "rules": [_rule(rule, _panel_id(mixins, rule)) for rule in rules]}


def _panel_id(mixins: Any, rule: Mapping[str, Any]) -> int:
    return dashboards.panel_id(dashboards.load(mixins, rule["dashboard"].removeprefix("aistack-")), rule["panel"])


def _rule(rule: Mapping[str, Any], panel: int) -> dict:
    evaluator, limit = rule["limit"]
    fires = rule.get("without_data") == "fires"
    span = {"from": 600, "to": 0}
    return {
        "uid": rule["uid"], "title": rule["title"], "condition": "B", "for": rule["for"],
        "noDataState": "Alerting" if fires else "OK", "execErrState": "Alerting" if fires else "OK",
        "data": [
            {"refId": "A", "datasourceUid": PROMETHEUS, "relativeTimeRange": span, "model": {
                "refId": "A", "datasource": {"type": "prometheus", "uid": PROMETHEUS}, "expr": rule["expr"],
                "editorMode": "code", "instant": True, "range": False, "intervalMs": 1000, "maxDataPoints": 43200}},
            {"refId": "B", "datasourceUid": "__expr__", "relativeTimeRange": span, "model": {
                "refId": "B", "datasource": {"type": "__expr__", "uid": "__expr__"}, "type": "threshold",
                "expression": "A", "conditions": [{
                    "type": "query", "evaluator": {"type": evaluator, "params": [limit]},
                    "operator": {"type": "and"}, "query": {"params": ["A"]},
                    "reducer": {"type": "last", "params": []}}]}},
        ],
        "labels": {KIND: "panel" if rule.get("twin") else "always", "severity": rule["severity"]},
        "annotations": {"summary": rule["summary"], "description": rule["description"],
                        "runbook_url": rule["runbook_url"],
                        "__dashboardUid__": rule["dashboard"], "__panelId__": str(panel)},
    }


def _their_group(group: Mapping[str, Any]) -> dict:
    """A group of the user's own, escaped where Grafana would fill in: everywhere but in queries and annotations."""
    for rule in group.get("rules") or ():
        if not rule.get("uid"):
            raise AlertingError(f"the rule {rule.get('title', '')!r} of the group {group.get('name', '')!r} has no "
                                "uid; give it one, by which Grafana knows it again")
    return {"orgId": 1, **_but(group, "rules"),
            "rules": [_but(rule, "data", "annotations") for rule in group.get("rules") or ()]}


def _matchers(twin: Mapping[str, str]) -> list[str]:
    """Alertmanager's matchers of the alert that a rule doubles; but for the alert's name they are expressions."""
    return [f"{label}{'=' if label == 'alertname' else '=~'}{json.dumps(value)}" for label, value in twin.items()]


# -- who is told -------------------------------------------------------------------------------------------------------

def _receivers(notifications: Mapping[str, Any]) -> tuple[list[dict], list[str]]:
    """Our contact point's ways, from what Alertmanager gets; and what Grafana can't do of it."""
    found, notes = [], []
    if email := notifications.get("email"):
        found.append(_receiver("email", {"addresses": ";".join(email["to"]), "singleEmail": True,
                                         "subject": SUBJECT, "message": CHAT}))
    if slack := notifications.get("slack"):
        channel = {"recipient": slack["channel"]} if slack.get("channel") else {}
        found.append(_receiver("slack", {"url": slack["webhook_url"], **channel, "title": SUBJECT, "text": CHAT}))
    if discord := notifications.get("discord"):
        found.append(_receiver("discord", {"url": discord["webhook_url"], "title": SUBJECT, "message": CHAT,
                                           "use_discord_username": True}))
    for number, webhook in enumerate(notifications.get("webhooks") or (), 1):
        login, trouble = _webhook_login(webhook)
        if trouble:
            name = webhook.get("name") or f"number {number}"
            notes.append(f"The webhook {name} is not among Grafana's contact points, Alertmanager alone uses it: "
                         f"Grafana has nothing like {trouble}.")
            continue
        most = {"maxAlerts": webhook["max_alerts"]} if webhook.get("max_alerts") else {}
        settings = {"url": webhook["url"], "httpMethod": "POST", **most, **login, "title": SUBJECT, "message": CHAT}
        found.append(_receiver("webhook", settings, f"-{number}", webhook.get("send_resolved", True)))
    return found, notes


def _receiver(kind: str, settings: Mapping[str, Any], suffix: str = "", send_resolved: bool = True) -> dict:
    return {"uid": f"aistack-{kind}{suffix}", "type": kind, "disableResolveMessage": not send_resolved,
            "settings": dict(settings)}


def _webhook_login(webhook: Mapping[str, Any]) -> tuple[dict, str]:
    """How Grafana logs in to a webhook; or the options of Alertmanager for which it has nothing."""
    http = {key: value for key, value in (webhook.get("http_config") or {}).items() if value not in (None, "", {})}
    strange = sorted(set(webhook) - WEBHOOK_KEYS) + sorted(f"http_config.{key}" for key in http)
    basic, header = http.get("basic_auth"), http.get("authorization")
    known = {"http_config.follow_redirects", "http_config.enable_http2"}
    login: dict[str, Any] = {}
    if basic and set(basic) <= {"username", "password"}:
        known.add("http_config.basic_auth")
        login = {"username": basic.get("username", ""), "password": basic.get("password", "")}
        if NO_TEXT.fullmatch(str(login["password"])):
            # The same on the wire.
            token = base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
            login = {"authorization_scheme": "Basic", "authorization_credentials": token}
    elif header and set(header) <= {"type", "credentials"}:
        known.add("http_config.authorization")
        login = {"authorization_scheme": header.get("type") or "Bearer",
                 "authorization_credentials": header.get("credentials", "")}
    elif http.get("bearer_token"):
        known.add("http_config.bearer_token")
        login = {"authorization_scheme": "Bearer", "authorization_credentials": http["bearer_token"]}
    return login, ", ".join(key for key in strange if key not in known)


def _our_point(receivers: list[dict]) -> dict:
    # Grafana knows no contact point without a way; the policies never let anything come to this one.
    nobody = _receiver("webhook", {"url": "http://127.0.0.1:9/nobody-is-told", "httpMethod": "POST"}, "-" + NOBODY)
    return {"name": NOTIFICATIONS, "receivers": receivers} if receivers else {"name": NOBODY, "receivers": [nobody]}


def _identified(point: Mapping[str, Any]) -> dict:
    """A contact point of the user's own, with a uid for every way that has none."""
    name = str(point.get("name") or "")
    if not name or name in (NOTIFICATIONS, NOBODY):
        raise AlertingError(f"a contact point of your own is called {name!r}: give it a name other than "
                            f"{NOTIFICATIONS} and {NOBODY}, which are taken")
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:24]
    receivers = []
    for number, receiver in enumerate(point.get("receivers") or (), 1):
        if not receiver.get("type") or not receiver.get("settings"):
            raise AlertingError(f"the contact point {name!r}: receiver {number} needs a type and settings")
        receivers.append({"uid": f"aistack-own-{slug}-{number}", **receiver})
    if not receivers:
        raise AlertingError(f"the contact point {name!r} has no receivers")
    return {**point, "receivers": receivers}


def _policies(anybody: bool, delivery: str, routes: Sequence[Mapping[str, Any]]) -> dict:
    receiver = NOTIFICATIONS if anybody else NOBODY
    of_panels = [KIND, "=", "panel"]
    always = {"receiver": receiver, "object_matchers": [[KIND, "=", "always"]], **URGENT}
    muted = {"receiver": receiver, "object_matchers": [of_panels], "mute_time_intervals": [ALWAYS]}
    urgent = {"receiver": receiver, "object_matchers": [of_panels, ["severity", "=", "critical"]], **URGENT}
    silent = {"receiver": receiver, "object_matchers": [["alertname", "=~", ".+"]], "mute_time_intervals": [ALWAYS]}
    ours = [always] if anybody else []
    ours += [muted] if delivery == STALLED_ONLY else []
    last = ([urgent] if delivery == CONTACT_POINTS else []) if anybody else [silent]
    return {"orgId": 1, "receiver": receiver, "group_by": ["alertname", "instance"], **ORDINARY,
            "routes": [*ours, *routes, *last]}


def _always() -> dict:
    return {"name": ALWAYS, "time_intervals": [{"times": [{"start_time": "00:00", "end_time": "24:00"}]}]}


def _all_different(declared: Mapping[str, Sequence[str]]) -> None:
    for kind, names in declared.items():
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise AlertingError(f"{kind.replace('_', ' ')}: {', '.join(twice)} would be there twice; give yours "
                                "another name or uid")


# -- secrets and dollars -----------------------------------------------------------------------------------------------

def _escaped(node: Any) -> Any:
    return _each_text(node, lambda _path, text: text.replace("$", "$$"))


def _but(mapping: Mapping[str, Any], *plain: str) -> dict:
    """A mapping, escaped but for these keys."""
    return {key: value if key in plain else _escaped(value) for key, value in mapping.items()}


def _each_text(node: Any, change: Callable[[tuple[str, ...], str], Any], path: tuple[str, ...] = ()) -> Any:
    """A copy of a structure with every text in it changed."""
    if isinstance(node, Mapping):
        return {key: _each_text(value, change, (*path, str(key))) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_each_text(value, change, path) for value in node]
    return change(path, str(node)) if isinstance(node, str) else node


class _Vault:
    """Moves the secrets of contact points to credentials."""

    def __init__(self, folder: str) -> None:
        self._folder = folder.rstrip("/")
        self.credentials: dict[str, str] = {}

    def contact_point(self, point: Mapping[str, Any]) -> dict:
        return {"orgId": 1, **_but(point, "receivers"),
                "receivers": [self._receiver(receiver) for receiver in point["receivers"]]}

    def _receiver(self, receiver: Mapping[str, Any]) -> dict:
        def text(path: tuple[str, ...], value: str) -> str:
            if value.startswith(("$__file{", "$__env{")):
                return value
            if value and SECRET_SETTING.search(path[-1]):
                return self._reference("_".join((receiver["uid"], *path)), value)
            return value.replace("$", "$$")

        return {**_but(receiver, "settings"), "settings": _each_text(receiver["settings"], text)}

    def _reference(self, name: str, secret: str) -> str:
        """What Grafana reads a secret back from. It fills in variables in a file's content, too: so a secret is cut at
        every dollar."""
        name = re.sub(r"[^A-Za-z0-9_]+", "_", name.removeprefix("aistack-")).lower()
        pieces = secret.split("$")
        # With a dollar in it, it is a text in any case.
        if any(piece != piece.strip() for piece in pieces) or (len(pieces) == 1 and NO_TEXT.fullmatch(secret)):
            raise AlertingError(f"the secret for {name} can't be given to Grafana, which changes what it reads from a "
                                "file where it looks like a number or has blanks at an edge: use another one")
        written = []
        for number, piece in enumerate(pieces):
            if piece:
                credential = f"alerting_{name}" + (f"_{number}" if number else "")
                # Two names may differ only in what a credential's name can't hold.
                while self.credentials.get(credential, piece) != piece:
                    credential += "_x"
                self.credentials[credential] = piece
                written.append(f"$__file{{{self._folder}/{credential}}}")
            else:
                written.append("")
        return "$$".join(written)
