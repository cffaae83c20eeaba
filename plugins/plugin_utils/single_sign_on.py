# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the two sides of a log-in must agree on: the client in Keycloak, and Grafana, which is that client."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.common.validation import check_type_bool

VARIABLE = "observability_single_sign_on"
ROLES = {"admin": "grafana-admin", "editor": "grafana-editor", "viewer": "grafana-viewer"}


def single_sign_on(variables: Mapping[str, Any], client_secret: Callable[[], str], grafana_url: str) -> dict[str, Any]:
    """The user's settings with every default filled in; empty when people log in with Grafana alone.

    ``admin`` stays empty where the user gives no way to Keycloak's administration.
    """
    given = variables.get(VARIABLE)
    if not given:
        return {}
    url = str(given["url"]).rstrip("/")
    realm = str(given["realm"])
    admin = dict(given.get("admin") or {})
    if admin:
        admin = {"url": str(admin.get("url") or url).rstrip("/"), "realm": str(admin.get("realm") or "master"),
                 "username": str(admin.get("username") or ""), "password": str(admin.get("password") or ""),
                 "client_id": str(admin.get("client_id") or "admin-cli"),
                 "client_secret": str(admin.get("client_secret") or "")}
    return {
        "url": url, "realm": realm, "issuer": f"{url}/realms/{realm}",
        "client_id": str(given.get("client_id") or "grafana"), "client_secret": client_secret(),
        "authority": str(given.get("authority") or ""),
        "roles": ROLES | {level: str(name) for level, name in (given.get("roles") or {}).items() if name},
        "groups": {level: list((given.get("groups") or {}).get(level) or []) for level in ROLES},
        "admin": admin, "create_realm": check_type_bool(given.get("create_realm") or False),
        "grafana_url": grafana_url.rstrip("/"),
    }
