#!/usr/bin/python
# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: grafana_leftovers
short_description: Remove what was provisioned in Grafana from files that no longer name it
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Grafana keeps data sources, alert rules, contact points, mute timings and message templates that it once read from
    its provisioning files, also when they are no longer there. This asks the running Grafana for what came from files,
    and removes what is not declared.
  - What somebody made by hand, or through Grafana's API, is never touched. Nor is what another file of the provisioning
    folder still names.
  - A short-lived file in the provisioning folder tells Grafana what to delete. It goes also when the run is killed; one
    that a power failure left behind is removed by the next run.
  - Afterwards Grafana is asked again, and the module fails if something stayed.
attributes:
  check_mode:
    support: full
    description: Says what would be removed.
  diff_mode:
    support: none
    description: What is removed is in the result.
  platform:
    platforms: posix
    support: full
    description: Grafana 10 and newer.
options:
  url:
    description: Address of Grafana on this host.
    type: str
    required: true
  login:
    description: Grafana's administrator, C(username) and C(password).
    type: dict
    required: true
  tls:
    description: Certificates, as paths on the target.
    type: dict
  provisioning:
    description: Grafana's provisioning folder.
    type: path
    default: /etc/grafana/provisioning
  own_files:
    description:
      - The files in that folder that are the declaration. What they name counts only if it is in O(declared) as well,
        so that check mode is right before they are written.
    type: list
    elements: str
    default:
      - alerting/rules.yml
      - alerting/contact_points.yml
      - alerting/policies.yml
      - alerting/mute_timings.yml
      - alerting/templates.yml
      - datasources/aistack.yml
  declared:
    description: What shall be there. A kind that is left out is not looked at.
    type: dict
    required: true
    suboptions:
      data_sources:
        description: Names of data sources.
        type: list
        elements: str
      rules:
        description: Unique ids of alert rules.
        type: list
        elements: str
      contact_points:
        description: Unique ids of the receivers of contact points.
        type: list
        elements: str
      mute_timings:
        description: Names of mute timings.
        type: list
        elements: str
      templates:
        description: Names of groups of message templates.
        type: list
        elements: str
"""

EXAMPLES = r"""
- name: Only these data sources and rules stay of those that came from files
  aistack.observability.grafana_leftovers:
    url: http://127.0.0.1:3000
    login: {username: admin, password: "{{ grafana_admin_password }}"}
    declared:
      data_sources: [Prometheus]
      rules: [aistack-host-cpu]
"""

RETURN = r"""
removed:
  description: What was removed, or in check mode would be, by kind.
  returned: always
  type: dict
  sample: {rules: [aistack-host-cpu]}
left:
  description: What Grafana kept although it should go, by kind.
  returned: when something stayed
  type: dict
  sample: {rules: [aistack-host-cpu]}
"""

import contextlib
import http.client
import json
import os
import re
import subprocess
from urllib.parse import quote

from ansible_collections.aistack.observability.plugins.module_utils.component import health
from ansible_collections.aistack.observability.plugins.module_utils.quiet import QuietModule

FILE = "aistack-leftovers.yml"
DRAFT = ".aistack-leftovers"
ORGANISATION = 1
# Grafana stores what a reload says before it answers.
RELOAD_TIMEOUT = 60
# How Grafana names the origin of what it read from files, from version 13 on in new words.
FROM_FILES = ("file", "classic-file-provisioning")
SUFFIXES = (".yml", ".yaml", ".json")

# kind: (folder, list of a provisioning file that deletes, key of its entries)
KINDS = {
    "rules": ("alerting", "deleteRules", "uid"),
    "contact_points": ("alerting", "deleteContactPoints", "uid"),
    "mute_timings": ("alerting", "deleteMuteTimes", "name"),
    "templates": ("alerting", "deleteTemplates", "name"),
    "data_sources": ("datasources", "deleteDatasources", "name"),
}
FOLDERS = ("alerting", "datasources")


class Trouble(Exception):
    """Why it can't be done, and what to do."""


class Grafana:
    """The running Grafana, asked as its administrator."""

    def __init__(self, url, login, tls):
        self.url = url.rstrip("/")
        self._client = health.Http(login, tls)

    def get(self, path, missing=None):
        """The answer; *missing* where Grafana doesn't know the address."""
        code, text = self._ask(path, "GET", health.TRY_TIMEOUT)
        if code == 404 and missing is not None:
            return missing
        if code != 200:
            raise self._refusal(path, code, text)
        try:
            return json.loads(text) or []
        except ValueError:
            raise Trouble("%s%s does not answer in JSON: is it Grafana that is there?" % (self.url, path)) from None

    def reload(self, folder):
        """Have Grafana read a folder of its provisioning; its complaint, empty if it has none."""
        path = "/api/admin/provisioning/%s/reload" % folder
        code, text = self._ask(path, "POST", RELOAD_TIMEOUT)
        if code in (401, 403):
            raise self._refusal(path, code, text)
        return "" if code == 200 else _message(text)

    def _ask(self, path, method, timeout):
        try:
            return self._client.ask(self.url + path, method, timeout=timeout)
        except (OSError, http.client.HTTPException) as error:
            raise Trouble("Grafana does not answer at %s (%s): see journalctl -u grafana" % (self.url, error)) from None

    def _refusal(self, path, code, text):
        if code in (401, 403):
            return Trouble("Grafana refuses the administrator's log-in (%s%s answered %d), whose password was changed "
                           "by hand: restart it (systemctl restart grafana), which sets grafana_admin_password again, "
                           "and run again" % (self.url, path, code))
        return Trouble("%s%s answered %d: %s" % (self.url, path, code, _message(text)))

    # -- what came from files -------------------------------------------------------------------------------------

    def rules(self, known):
        for rule in self.get("/api/v1/provisioning/alert-rules"):
            if rule["uid"] in known:
                continue
            if "provenance" not in rule:
                # The list of Grafana 10 does not say it.
                rule = self.get("/api/v1/provisioning/alert-rules/" + quote(rule["uid"], safe=""), missing={})
            if rule.get("provenance") in FROM_FILES:
                yield rule["uid"]

    def contact_points(self, known):
        for receiver in self.get("/api/v1/provisioning/contact-points"):
            if receiver.get("provenance") in FROM_FILES and receiver["uid"] not in known:
                yield receiver["uid"]

    def mute_timings(self, known):
        return self._named("mute-timings", known, lambda config: (config.get("alertmanager_config") or {}).get(
            "muteTimeProvenances"))

    def templates(self, known):
        return self._named("templates", known, lambda config: config.get("template_file_provenances"))

    def _named(self, path, known, provenances):
        """Grafana 10 says only in Alertmanager's configuration where mute timings and templates come from."""
        entries = [entry for entry in self.get("/api/v1/provisioning/" + path, missing=[])
                   if entry["name"] not in known]
        silent = any("provenance" not in entry for entry in entries)
        origin = (provenances(self.get("/api/alertmanager/grafana/config/api/v1/alerts", missing={})) if silent
                  else None) or {}
        for entry in entries:
            if (entry.get("provenance") or origin.get(entry["name"])) in FROM_FILES:
                yield entry["name"]

    def data_sources(self, known):
        for source in self.get("/api/datasources"):
            if source.get("readOnly") and source["name"] not in known:
                yield source["name"]


def _message(text):
    """Grafana's own words."""
    try:
        answer = json.loads(text)
        return str(answer.get("message") or answer.get("error") or answer)[:1000]
    except (ValueError, AttributeError):
        return " ".join(text.split())[:300] or "without a word"


class Folder:
    """Grafana's provisioning folder."""

    def __init__(self, path, own_files):
        self.path = path
        self._own = set(own_files)

    def others(self, folder):
        """The texts of the files that somebody else placed there."""
        found = []
        where = os.path.join(self.path, folder)
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(where)):
                if name.endswith(SUFFIXES) and name != FILE and "%s/%s" % (folder, name) not in self._own:
                    with open(os.path.join(where, name), encoding="utf-8", errors="replace") as handle:
                        found.append(handle.read())
        return found

    def forgotten(self):
        """The folders in which a run left its file behind, by a power failure."""
        return [folder for folder in FOLDERS if os.path.lexists(os.path.join(self.path, folder, FILE))]

    def forget(self, folder):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, folder, FILE))

    @contextlib.contextmanager
    def deleting(self, folder, document):
        """For a while, Grafana finds there what it shall delete. It never sees a half-written file."""
        where = os.path.join(self.path, folder)
        draft, file = os.path.join(self.path, DRAFT), os.path.join(where, FILE)
        # If this run is killed, the shell sees the end of its input and removes them all the same.
        with subprocess.Popen(["/bin/sh", "-c", 'read -r _; rm -f -- "$@"', "sh", draft, file], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                json.dump(document, stream)
            os.chown(draft, -1, os.stat(where).st_gid)
            os.chmod(draft, 0o640)
            os.rename(draft, file)
            yield
        self.forget(folder)


def named(text, key, name):
    """Whether a provisioning file, in YAML or JSON, has an entry of that name."""
    return re.search(r"""(?m)(^|[\s{,"'-])%s["']?\s*:\s*(["']?)%s\2\s*([,}#]|$)""" % (key, re.escape(name)), text)


def leftovers(grafana, folder, declared):
    """{kind: [name]} of what came from files and is named by none any more."""
    found = {}
    for kind, (place, _list, key) in KINDS.items():
        if declared.get(kind) is None:
            continue
        known = set(declared[kind])
        candidates = sorted(set(getattr(grafana, kind)(known)))
        texts = folder.others(place) if candidates else []
        names = [name for name in candidates if not any(named(text, key, name) for text in texts)]
        if names:
            found[kind] = names
    return found


def remove(grafana, folder, found):
    """Have Grafana delete what was found; its complaints."""
    complaints = []
    for place in FOLDERS:
        document = {}
        for kind, names in found.items():
            its_place, entries, key = KINDS[kind]
            if its_place == place:
                # Grafana fills in variables here.
                document[entries] = [{"orgId": ORGANISATION, key: name.replace("$", "$$")} for name in names]
        if document:
            with folder.deleting(place, dict(document, apiVersion=1)):
                complaint = grafana.reload(place)
            if complaint:
                complaints.append(complaint)
    return complaints


def stayed(left, complaints, version):
    """What to tell where something is still there."""
    names = "; ".join("%s: %s" % (kind.replace("_", " "), ", ".join(names)) for kind, names in sorted(left.items()))
    if complaints:
        # Version 10 keeps the reason to itself.
        advice = ("Grafana says: %s. A notification policy or an alert rule may still use it: journalctl -u grafana "
                  "-g 'currently used' tells which; change that, then run again" % "; ".join(complaints))
    elif "rules" in left and version.startswith("13.2."):
        advice = ("Grafana %s does not delete rules that came from files (grafana/grafana issue 131777): install "
                  "another version with grafana_version, then run again" % version)
    else:
        advice = "Grafana %s gives no reason: see journalctl -u grafana" % version
    return "Grafana keeps what is no longer declared (%s). %s." % (names, advice)


def main():
    module = QuietModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "login": {"type": "dict", "required": True},
            "tls": {"type": "dict"},
            "provisioning": {"type": "path", "default": "/etc/grafana/provisioning"},
            "own_files": {"type": "list", "elements": "str", "default": [
                "alerting/rules.yml", "alerting/contact_points.yml", "alerting/policies.yml",
                "alerting/mute_timings.yml", "alerting/templates.yml", "datasources/aistack.yml"]},
            "declared": {"type": "dict", "required": True,
                         "options": {kind: {"type": "list", "elements": "str"} for kind in KINDS}},
        },
        supports_check_mode=True)
    options = module.params
    grafana = Grafana(options["url"], options["login"], options["tls"])
    folder = Folder(options["provisioning"], options["own_files"])
    try:
        forgotten = folder.forgotten()
        if not module.check_mode:
            for place in forgotten:
                folder.forget(place)
                # It may have taken away what is declared again since.
                complaint = grafana.reload(place)
                if complaint:
                    raise Trouble("Grafana does not load %s/%s: %s" % (folder.path, place, complaint))
        found = leftovers(grafana, folder, options["declared"])
        if found and not module.check_mode:
            complaints = remove(grafana, folder, found)
            left = leftovers(grafana, folder, options["declared"])
            if left:
                version = str(grafana.get("/api/health", missing={}).get("version") or "")
                gone = {kind: sorted(set(names) - set(left.get(kind, ()))) for kind, names in found.items()}
                module.fail_json(msg=stayed(left, complaints, version), left=left,
                                 removed={kind: names for kind, names in gone.items() if names})
            if complaints:
                module.warn("Grafana complained, but all is gone: %s" % "; ".join(complaints))
    except Trouble as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(found or forgotten), removed=found)


if __name__ == "__main__":
    main()
