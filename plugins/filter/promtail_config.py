# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Promtail's configuration, from what the site knows of a host's logs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: promtail_config
short_description: Configuration of Promtail
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Makes the document that says what is read from a host, what becomes of each line and where it is sent. Labels and
    parsing are those of P(aistack.observability.alloy_config#filter).
positional: _input
options:
  _input:
    description: What the question V(logs) of P(aistack.observability.site#lookup) says of the host.
    type: dict
    required: true
  listen_address:
    description: Address and port on which it serves, as host:port.
    type: str
    required: true
  positions:
    description: Path of the file in which it keeps how far it has read.
    type: str
    required: true
  server:
    description: More keys of the section C(server).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what Promtail would be told
  ansible.builtin.debug:
    msg: >-
      {{ lookup('aistack.observability.site', 'logs')
         | aistack.observability.promtail_config(listen_address='127.0.0.1:9080',
                                                 positions='/var/lib/promtail/positions.yaml') }}
"""

RETURN = r"""
_value:
  description: The configuration.
  type: dict
"""

from ansible_collections.aistack.observability.plugins.plugin_utils import log_pipeline


def promtail_config(logs: dict, **options) -> dict:
    return log_pipeline.promtail(log_pipeline.pipeline(logs), options)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict:
        return {"promtail_config": promtail_config}
