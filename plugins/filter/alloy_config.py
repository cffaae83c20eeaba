# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alloy's configuration, from what the site knows of a host's logs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: alloy_config
short_description: Configuration of Alloy as a log shipper
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Writes, in Alloy's own language and as C(alloy fmt) formats it, what is read from a host, what becomes of each line
    and where it is sent. Labels and parsing are those of P(aistack.observability.promtail_config#filter).
positional: _input
options:
  _input:
    description: What the question V(logs) of P(aistack.observability.site#lookup) says of the host.
    type: dict
    required: true
  log_level:
    description: How much Alloy says in its own log.
    type: str
    default: info
  handed_over:
    description: Path of a copy of Promtail's positions, which counts where a file has none yet.
    type: str
  web_tls:
    description: Paths of C(certificate) and C(key) with which it serves. Empty for none.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what Alloy would be told
  ansible.builtin.debug:
    msg: "{{ lookup('aistack.observability.site', 'logs') | aistack.observability.alloy_config }}"
"""

RETURN = r"""
_value:
  description: The configuration.
  type: str
"""

from ansible_collections.aistack.observability.plugins.plugin_utils import log_pipeline


def alloy_config(logs: dict, **options) -> str:
    return log_pipeline.alloy(log_pipeline.pipeline(logs), options)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict:
        return {"alloy_config": alloy_config}
