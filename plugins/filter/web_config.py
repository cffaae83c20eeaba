# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web configuration file that all programs of the Prometheus project read: TLS and login."""

from __future__ import annotations

DOCUMENTATION = r"""
name: web_config
short_description: Web configuration (TLS and login) of a program of the Prometheus project
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Makes the document for C(--web.config.file). It is empty when neither TLS nor a login is wanted.
positional: _input
options:
  _input:
    description: Paths of C(certificate) and C(key) on the target. Empty for none.
    type: dict
    required: true
  login:
    description: C(username) and C(password_hash) (bcrypt). Empty for none.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show a web configuration
  ansible.builtin.debug:
    msg: >-
      {{ {'certificate': '/etc/ssl/monitor.pem', 'key': '/etc/ssl/monitor.key'}
         | aistack.observability.web_config(login=lookup('aistack.observability.site', 'web_login')) }}
"""

RETURN = r"""
_value:
  description: Web configuration.
  type: dict
"""


def web_config(tls: dict, login: dict | None = None) -> dict:
    config = {}
    if tls:
        config["tls_server_config"] = {"cert_file": tls["certificate"], "key_file": tls["key"]}
    if login:
        config["basic_auth_users"] = {login["username"]: login["password_hash"]}
    return config


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict:
        return {"web_config": web_config}
