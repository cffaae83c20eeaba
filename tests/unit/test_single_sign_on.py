# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Grafana and its client in Keycloak agree on."""

import pytest
from ansible_collections.aistack.observability.plugins.plugin_utils.single_sign_on import single_sign_on

LEAST = {"url": "https://id.example.org/", "realm": "home"}


def agreed(**given):
    return single_sign_on({"observability_single_sign_on": given}, lambda: "secret", "https://grafana.example.org/")


def test_without_it_there_is_nothing_to_agree_on():
    def never():
        raise AssertionError("nobody wants a secret")
    assert single_sign_on({}, never, "x") == {}


def test_defaults():
    found = agreed(**LEAST)
    assert found["issuer"] == "https://id.example.org/realms/home" and found["client_id"] == "grafana"
    assert found["roles"] == {"admin": "grafana-admin", "editor": "grafana-editor", "viewer": "grafana-viewer"}
    assert found["admin"] == {} and found["groups"] == {"admin": [], "editor": [], "viewer": []}
    assert found["grafana_url"] == "https://grafana.example.org" and found["client_secret"] == "secret"


def test_what_is_given_wins():
    found = agreed(**LEAST, roles={"viewer": "everybody", "editor": ""}, groups={"viewer": ["/all"]},
                   admin={"username": "ada", "password": "x"})
    assert found["roles"] == {"admin": "grafana-admin", "editor": "grafana-editor", "viewer": "everybody"}
    assert found["groups"]["viewer"] == ["/all"]
    assert found["admin"]["url"] == "https://id.example.org" and found["admin"]["client_id"] == "admin-cli"


@pytest.mark.parametrize(("given", "made"), [(True, True), ("yes", True), ("no", False), (False, False), (None, False)])
def test_a_realm_is_made_for_those_who_say_so(given, made):
    """An inventory in INI gives texts."""
    assert agreed(**LEAST, create_realm=given)["create_realm"] is made
