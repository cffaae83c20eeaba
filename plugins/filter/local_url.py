# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address under which a program is reached from its own host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: local_url
short_description: Address of a listening program as seen from its own host
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Turns a listen address such as V(127.0.0.1:9090), V(0.0.0.0:9090), V(:9090) or V([::]:9090) into the base address
    of a web request from the same host. An address that means "every interface" becomes the loopback address.
positional: _input
options:
  _input:
    description: Listen address, host and port.
    type: str
    required: true
  tls:
    description: Whether the program serves TLS.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the address of Prometheus
  ansible.builtin.debug:
    msg: "{{ '0.0.0.0:9090' | aistack.observability.local_url }}/-/ready"   # http://127.0.0.1:9090/-/ready
"""

RETURN = r"""
_value:
  description: Base address without a trailing slash.
  type: str
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.aistack.observability.plugins.plugin_utils import spec


def local_url(listen_address: str, tls: bool = False) -> str:
    try:
        host, port = spec.split_address(listen_address)
    except ValueError as error:
        raise AnsibleFilterError(f"local_url: {error}, for example 127.0.0.1:9090") from error
    if spec.is_wildcard(host):
        host = "::1" if host == "::" else "127.0.0.1"
    return f"{'https' if tls else 'http'}://{spec.join_address(host, port)}"


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict:
        return {"local_url": local_url}
