# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of Loki's logging driver for Docker, from what the site knows of a host's logs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: loki_driver_options
short_description: Options of Loki's logging driver for Docker
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Makes the C(log-opts) with which Loki's driver gives each line the labels that a log shipper would give it, and
    parses it likewise. What the driver adds by itself (C(filename), C(source), C(compose_project), …) goes.
  - Labels and parsing are those of P(aistack.observability.alloy_config#filter).
positional: _input
options:
  _input:
    description:
      - What the question V(logs) of P(aistack.observability.site#lookup) says of the host. Of it C(host),
        C(containers), C(parse), C(redact) and C(drop) are read. All but C(host) may be missing.
    type: dict
    required: true
  url:
    description: Address of Loki's API for writing.
    type: str
    required: true
  services:
    description: The host's O(ignore:monitored_services), which say whose a container is where the logs don't.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what the driver would be told
  ansible.builtin.debug:
    msg: "{{ {'host': 'gpu1'} | aistack.observability.loki_driver_options('http://127.0.0.1:3100/loki/api/v1/push') }}"
"""

RETURN = r"""
_value:
  description: The options, all of them strings.
  type: dict
"""

import json
import re

from ansible_collections.aistack.observability.plugins.plugin_utils import log_pipeline


def loki_driver_options(logs: dict, url: str, services: dict | None = None) -> dict[str, str]:
    host = str(logs["host"])
    wanted = {"push": [], "host": host, "docker": True, "containers": [
        {"name": options["container"], "service": name} for name, options in (services or {}).items()
        if (options or {}).get("container")]}
    wanted |= {part: logs[part] for part in ("containers", "parse", "redact", "drop") if logs.get(part)}
    # Labels that hold for a container. Its stream is known line by line only.
    rules: list[dict] = [
        # The driver calls the machine by its own name.
        {"target_label": "host", "replacement": host.replace("$", "$$")},
        {"source_labels": ["container"], "target_label": "service"},
        {"source_labels": ["compose_service"], "regex": "(.+)", "target_label": "service"},
        *({"source_labels": ["container"], "regex": re.escape(entry["name"]), "target_label": "service",
           "replacement": entry["service"].replace("$", "$$")} for entry in wanted["containers"]),
        {"action": "labelkeep", "regex": "host|service|container"},
    ]
    stages = [{"labels": {"stream": "source"}}, *log_pipeline.pipeline(wanted)["docker"]["stages"]]
    return {
        "loki-url": url,
        "loki-external-labels": "container={{.Name}}",
        "loki-relabel-config": json.dumps(rules),
        "loki-pipeline-stages": json.dumps(stages),
    }


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict:
        return {"loki_driver_options": loki_driver_options}
