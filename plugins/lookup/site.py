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
      - V(rules), the rule files of every mixin that the site uses, with thresholds and addresses filled in.
      - V(alertmanagers), every Alertmanager in reach, with RV(ignore:address), RV(ignore:scheme) and, where needed,
        RV(ignore:basic_auth) and RV(ignore:tls_config) in Prometheus's words.
      - V(silence), what the engine needs to silence a service while it restarts it. Empty if it can't.
      - V(reach), how a task on this host asks V(prometheus) and V(alertmanager), each with RV(ignore:url) and, where
        needed, RV(ignore:login) and RV(ignore:tls).
      - V(secret), a secret as the user gives it or as it was generated.
      - V(web_login), the login of the web pages as RV(ignore:username), RV(ignore:password) and
        RV(ignore:password_hash), which is bcrypt's and the same from run to run. Empty if
        O(ignore:observability_web_login) is not set.
    type: list
    elements: str
    required: true
    choices: [services, roles, scrape_configs, rules, alertmanagers, silence, reach, secret, web_login]
  type:
    description: With V(services), the type of service that is meant. All types by default.
    type: str
  service:
    description: With V(silence), the name of the service.
    type: str
  name:
    description: With V(secret), the name of the secret.
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

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.aistack.observability.plugins.plugin_utils import inventory_model, secrets
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import MixinError, Mixins


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
            except (inventory_model.ModelError, MixinError, secrets.SecretError) as error:
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

    def _rules(self):
        values = {"thresholds": self._own.get("observability_thresholds") or {}}
        for name, value in (("runbook_url", self._own.get("observability_runbook_url")),
                            ("prometheus_url", self._site.web_url("prometheus"))):
            if value:
                values[name] = value
        return {f"{name}.yml": self._mixins.rules(name, values) for name in self._site.types()}

    def _alertmanagers(self):
        return self._site.alertmanagers(self._host)

    def _silence(self):
        return self._site.silence(self._host, self.get_option("service"), self._login())

    def _reach(self):
        return self._site.servers(self._host, self._login())

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
