# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a component's configuration into the files of its declaration, with every secret in a credential."""

from __future__ import annotations

DOCUMENTATION = r"""
name: component_files
short_description: Turn configuration documents into the files of a component declaration
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Makes the list for O(ignore:files) of M(aistack.observability.component) from the documents of one component.
  - A structure is written as JSON, which is valid YAML. Text is written as it is. A document without content is left
    out.
  - Secrets in a structure that Prometheus or Alertmanager can read from a file (for example C(password) of
    C(basic_auth), which has the twin C(password_file)) are moved to credentials, root-only files that systemd hands
    over.
  - A secret that has no such twin stays in the file, and the file is marked C(secret), so that its diff is not shown.
positional: _input, component
options:
  _input:
    description: Documents by their name in O(folder). Each is a structure or a text.
    type: dict
    required: true
  component:
    description: Name of the component whose service reads the credentials.
    type: str
    required: true
  folder:
    description: Absolute path of the folder that holds the files.
    type: str
    required: true
  group:
    description: Group that may read the files. The owner is root.
    type: str
    default: root
"""

EXAMPLES = r"""
- name: Show the files of a component
  ansible.builtin.debug:
    msg: >-
      {{ {'prometheus.yml': {'remote_write': [{'url': 'https://metrics.example.org/push',
          'basic_auth': {'username': 'site', 'password': secret_password}}]}}
         | aistack.observability.component_files('prometheus', folder='/etc/prometheus', group='prometheus') }}
"""

RETURN = r"""
_value:
  description: Files, then credentials, in the shape of the component's O(ignore:files).
  type: list
  elements: dict
"""

import json
import re
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleFilterError

# Keys whose value Prometheus or Alertmanager also read from `<key>_file`, by the key that holds the mapping.
# Source: the configuration types of both programs. The holder matters: `password` has a twin in basic_auth
# and none in openstack_sd_configs.
FILE_TWINS = {
    "authorization": {"credentials"},
    "basic_auth": {"password"},
    "oauth2": {"client_secret", "client_certificate_key"},
    "tls_config": {"key"},
    "global": {
        "smtp_auth_password", "smtp_auth_secret", "slack_api_url", "slack_app_token", "opsgenie_api_key",
        "wechat_api_secret", "victorops_api_key", "telegram_bot_token", "rocketchat_token", "rocketchat_token_id",
        "mattermost_webhook_url",
    },
    "discord_configs": {"webhook_url"},
    "email_configs": {"auth_password", "auth_secret"},
    "incidentio_configs": {"url", "alert_source_token"},
    "mattermost_configs": {"webhook_url"},
    "msteams_configs": {"webhook_url"},
    "msteamsv2_configs": {"webhook_url"},
    "opsgenie_configs": {"api_key"},
    "pagerduty_configs": {"service_key", "routing_key"},
    "pushover_configs": {"user_key", "token"},
    "rocketchat_configs": {"token", "token_id"},
    "slack_configs": {"api_url", "app_token"},
    "telegram_configs": {"bot_token"},
    "victorops_configs": {"api_key"},
    "webhook_configs": {"url"},
    "wechat_configs": {"api_secret"},
}
# `bearer_token` is accepted beside the other keys of a scrape config, a remote write, …: its holder has many names.
TWIN_ANYWHERE = {"bearer_token"}

SECRET_KEY = re.compile(r"(^|_)(password|passphrase|secrets?|token|credentials|private_key|secret_key|api_key"
                        r"|account_key|consumer_key|basic_auth_users)$")
LOGIN_IN_URL = re.compile(r"://[^/?#\s]*:[^/?#\s]+@")


class _Externaliser:
    """One walk through one document; collects the credentials it moves and notices secrets it can't move."""

    def __init__(self, component: str, taken: set[str]) -> None:
        self.folder = f"/run/credentials/{component}.service"
        self.taken = taken
        self.credentials: list[dict] = []
        self.secret = False

    def _move(self, path: tuple[str, ...], value) -> str:
        """Remember the value as a credential and return the path at which the service reads it."""
        wanted = re.sub(r"[^a-z0-9]+", "_", "_".join(path).lower()).strip("_")
        name, number = wanted, 2
        while name in self.taken:
            name, number = f"{wanted}_{number}", number + 1
        self.taken.add(name)
        self.credentials.append({"credential": name, "content": str(value)})
        return f"{self.folder}/{name}"

    def walk(self, node, holder: str = "", path: tuple[str, ...] = ()):
        if isinstance(node, Mapping):
            return self._walk_mapping(node, holder, path)
        if isinstance(node, str):
            self.secret = self.secret or bool(LOGIN_IN_URL.search(node))
            return node
        if isinstance(node, Sequence):
            # A name is a better part of a credential's name than a position, which moves when the list grows.
            return [self.walk(item, holder, path + (_label(item, position),)) for position, item in enumerate(node)]
        return node

    def _walk_mapping(self, node: Mapping, holder: str, path: tuple[str, ...]) -> dict:
        result = {}
        headers = holder in ("http_headers", "proxy_connect_header")
        for key, value in node.items():
            key = str(key)
            here = path + (key,)
            if headers and isinstance(value, Mapping) and value.get("secrets"):
                # `files` is the twin of a header's `secrets`.
                header = self.walk({name: item for name, item in value.items() if name != "secrets"}, key, here)
                moved = [self._move(here + (str(number),), item) for number, item in enumerate(value["secrets"])]
                result[key] = header | {"files": header.get("files", []) + moved}
            elif value is None or value == "" or isinstance(value, bool):
                result[key] = value
            elif not isinstance(value, (Mapping, list, tuple)) and (
                key in TWIN_ANYWHERE or key in FILE_TWINS.get(holder, ())
            ):
                result[f"{key}_file"] = self._move(here, value)
            else:
                self.secret = self.secret or bool(SECRET_KEY.search(key))
                result[key] = self.walk(value, key, here)
        return result


def _label(item, position: int) -> str:
    if isinstance(item, Mapping):
        for key in ("name", "job_name"):
            if item.get(key):
                return str(item[key])
    return str(position)


def externalise_secrets(config, component: str, taken: set[str] | None = None) -> dict:
    """Return {config, credentials, secret}: the structure without its movable secrets, those secrets as
    credentials of the component, and whether a secret had to stay."""
    externaliser = _Externaliser(component, set() if taken is None else taken)
    clean = externaliser.walk(config)
    return {"config": clean, "credentials": externaliser.credentials, "secret": externaliser.secret}


def component_files(documents, component: str, folder: str, group: str = "root") -> list[dict]:
    if not isinstance(documents, Mapping):
        raise AnsibleFilterError("component_files: expects a dictionary of documents by name")
    files: list[dict] = []
    credentials: list[dict] = []
    taken: set[str] = set()
    for name, document in documents.items():
        if not document:
            continue
        entry = {"path": f"{folder}/{name}", "mode": "0640", "owner": "root", "group": group, "secret": False}
        if isinstance(document, str):
            entry["content"] = document
        else:
            done = externalise_secrets(document, component, taken)
            entry["content"] = json.dumps(done["config"], indent=2, ensure_ascii=False) + "\n"
            entry["secret"] = done["secret"]
            credentials += done["credentials"]
        files.append(entry)
    return files + credentials


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict:
        return {"component_files": component_files}
