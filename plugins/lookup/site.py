# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role asks of the inventory model, of the mixins and of the secrets store."""

from __future__ import annotations

DOCUMENTATION = r"""
name: site
short_description: Ask what the inventory says about the site
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Answers a role's question about the site. The answers follow from the groups C(observability) and C(monitored), from
    variables and from the mixins, never from facts of other hosts, so a run with C(--limit) or C(--tags) gets the same.
options:
  _terms:
    description:
      - The question.
      - V(services), the services of this host that a component of ours watches, each with RV(ignore:name),
        RV(ignore:type), RV(ignore:role), RV(ignore:component), RV(ignore:listen_address) and RV(ignore:options).
      - V(roles), the roles that this host needs.
      - V(scrape_configs), the scrape configs for the Prometheus on this host.
      - V(blackbox), what the blackbox exporter of this host is told of components of ours behind TLS or a log-in.
      - V(rules), the rule files of every mixin that the site uses, with thresholds and addresses filled in.
      - V(alertmanagers), every Alertmanager in reach, with RV(ignore:address), RV(ignore:scheme) and, where needed,
        RV(ignore:basic_auth) and RV(ignore:tls_config) in Prometheus's words.
      - V(silence), what the engine needs to silence a service while it restarts it. Empty if it can't.
      - V(reach), how a task on this host asks V(prometheus), V(alertmanager), V(loki) and, as its admin, V(grafana),
        each with RV(ignore:url) and, where needed, RV(ignore:login) and RV(ignore:tls).
      - V(logs), what the log shipper of this host reads, whose each line is, and where it goes. Empty if it has none.
      - V(log_rules), the rule files of Loki's ruler of every mixin that the site uses, filled in like V(rules).
      - V(version), the version of O(name) that is installed where the user names none, or the one that the user names.
      - V(single_sign_on), what Grafana and its client in Keycloak must agree on, with every default filled in. Empty if
        O(ignore:observability_single_sign_on) is not set.
      - V(dashboards), Grafana's dashboards for what this site has, as RV(ignore:files) (texts by name) and
        RV(ignore:uids).
      - V(grafana_alerting), what Grafana's alerting is provisioned with, as RV(ignore:files), RV(ignore:credentials),
        RV(ignore:declared) and RV(ignore:notes).
      - V(delivered_by_grafana), matchers of the alerts that Grafana tells of, and Alertmanager therefore doesn't.
      - V(secret), a secret as the user gives it or as it was generated.
      - V(web_login), the login of the web pages as RV(ignore:username), RV(ignore:password) and
        RV(ignore:password_hash), which is bcrypt's and the same from run to run. Empty if
        O(ignore:observability_web_login) is not set.
    type: list
    elements: str
    required: true
    choices: [services, roles, scrape_configs, blackbox, rules, alertmanagers, silence, reach, version,
              single_sign_on, dashboards, grafana_alerting, delivered_by_grafana, secret, web_login, logs,
              log_rules]
  type:
    description: With V(services), the type of service that is meant. All types by default.
    type: str
  service:
    description: With V(silence), the name of the service.
    type: str
  name:
    description:
      - With V(secret), the name of the secret. With V(version), the name of the role. With V(reach), that of the only
        server that is asked for.
    type: str
"""

EXAMPLES = r"""
- name: Show the exporters that this host runs for its Ollama servers
  ansible.builtin.debug:
    msg: "{{ lookup('aistack.observability.site', 'services', type='ollama') }}"
"""

RETURN = r"""
_raw:
  description: One answer a question.
  type: list
  elements: raw
"""

import json

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.aistack.observability.plugins.plugin_utils import (
    dashboards,
    grafana_alerting,
    inventory_model,
    releases,
    secrets,
)
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import MixinError, Mixins
from ansible_collections.aistack.observability.plugins.plugin_utils.single_sign_on import single_sign_on


def _document(structure):
    """As text: Ansible walks every structure that a template touches, and a dashboard has thousands of nodes."""
    return json.dumps(structure, indent=2, ensure_ascii=False) + "\n"


class LookupModule(LookupBase):

    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        self._host = variables["inventory_hostname"]
        self._check_mode = bool(variables.get("ansible_check_mode"))
        self._mixins = Mixins()
        self._site = inventory_model.from_ansible(variables, self._templar.template, self._mixins)
        self._own = self._site.variables(self._host)
        answers = []
        for question in terms:
            answer = getattr(self, f"_{question}", None) if question in inventory_model.QUESTIONS else None
            if answer is None:
                raise AnsibleLookupError(f"site: there is no question {question!r}; the questions are "
                                         f"{', '.join(inventory_model.QUESTIONS)}")
            try:
                answers.append(answer())
            except (inventory_model.ModelError, MixinError, secrets.SecretError, releases.ReleaseError,
                    grafana_alerting.AlertingError) as error:
                raise AnsibleLookupError(f"site: {question}: {error}") from error
        return answers

    def _services(self):
        return [{"name": service.name, "type": service.type, "role": service.role, "component": service.component,
                 "listen_address": service.listen_address, "options": service.options}
                for service in self._site.services(self._host, self.get_option("type")) if service.component]

    def _roles(self):
        return self._site.roles(self._host)

    def _scrape_configs(self):
        return self._site.scrape_configs(self._host)

    def _blackbox(self):
        return self._site.blackbox(self._host)

    def _rules(self):
        return self._mixins.rule_files(self._site.types(), self._site.values(self._host))

    def _logs(self):
        return self._site.logs(self._host)

    def _log_rules(self):
        return self._mixins.log_rule_files(self._site.types(), self._site.values(self._host))

    def _alertmanagers(self):
        return self._site.alertmanagers(self._host)

    def _silence(self):
        return self._site.silence(self._host, self.get_option("service"), self._login())

    def _reach(self):
        logins = dict.fromkeys(inventory_model.WEB_LOGIN_ROLES, self._login())
        if self._site.web_url("loki"):
            logins["loki"] = None
        # Whoever asks for another needs no password of Grafana's.
        if self._site.web_url("grafana") and self.get_option("name") in (None, "", "grafana"):
            logins["grafana"] = {"username": "admin", "password": self._secret("grafana_admin_password")}
        return self._site.servers(self._host, logins)

    def _version(self):
        """Of a role's program: as the user names it, or as it is pinned."""
        role = self.get_option("name") or ""
        given = (self._own.get(f"{role}_release") or {}).get("version") or self._own.get(f"{role}_version")
        overlay = self._own.get("observability_releases_overlay") or ""
        return str(given or releases.Releases(overlay).pinned(role))

    def _single_sign_on(self):
        return single_sign_on(self._own, lambda: self._secret("grafana_client_secret"), self._site.web_url("grafana"))

    def _dashboards(self):
        found = dashboards.dashboards(self._mixins, self._mixins.values(self._site.values(self._host)),
                                      self._site.available(self._host))
        return {"files": {name: _document(document) for name, document in found.items()},
                "uids": [document["uid"] for document in found.values()]}

    def _grafana_alerting(self):
        own = self._own
        found = grafana_alerting.alerting(
            self._mixins, self._site.values(self._host), self._site.types(),
            own.get("grafana_notifications") or own.get("observability_notifications") or {},
            own.get("grafana_alert_delivery") or grafana_alerting.STALLED_ONLY, "/run/credentials/grafana.service",
            contact_points=own.get("grafana_extra_contact_points") or (),
            groups=own.get("grafana_extra_rule_groups") or (), mute_timings=own.get("grafana_extra_mute_timings") or (),
            templates=own.get("grafana_extra_templates") or (), routes=own.get("grafana_extra_policies") or ())
        return found | {"files": {name: _document(document) for name, document in found["files"].items()}}

    def _delivered_by_grafana(self):
        """Nothing in the ordinary case, which is found out without working out Grafana's alerting."""
        delivers = (self._own.get("grafana_alert_delivery") == grafana_alerting.CONTACT_POINTS
                    and self._site.web_url("grafana"))
        return self._grafana_alerting()["twins"] if delivers else []

    def _login(self):
        """Requests log in with the password itself, so its hash isn't worked out."""
        login = self._own.get("observability_web_login")
        return {"username": login["username"], "password": self._secret("web_password")} if login else None

    def _secret(self, name=None):
        return self._store().value(name or self.get_option("name") or "", self._own, self._check_mode)

    def _web_login(self):
        return self._store().web_login(self._own, self._check_mode)

    def _store(self):
        return secrets.Store(secrets.store_path(self._own), self._loader._vault)
