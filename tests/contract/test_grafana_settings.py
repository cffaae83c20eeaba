# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each version of Grafana is given, compared with files of tests/golden/grafana, and with the settings that the
version documents. Only 10.0 can be run here; this is what stands for the others.

    GOLDEN=write .venv/bin/pytest tests/contract/test_grafana_settings.py      # writes them anew; then read the diff
"""

import configparser
import json
import os
import re
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible.utils.collection_loader import AnsibleCollectionConfig

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/grafana"
GOLDEN = ROOT / "tests/golden/grafana"
VERSIONS = ["10.0.0", "11.6.16", "12.4.0", "13.2.3"]
EACH_VERSION = pytest.mark.parametrize("version", VERSIONS)
HOST = "monitor.lan"
# Everything that makes a setting, a data source or a contact point.
GIVEN = {
    "grafana_external_url": "https://grafana.example.org",
    "grafana_admin_password": "secret-admin",
    "grafana_secret_key": "secret-key",
    "grafana_web_tls": {"certificate": "/etc/ssl/grafana.pem", "key": "/etc/ssl/grafana.key"},
    "grafana_extra_data_sources": [{"name": "Orders", "type": "postgres", "url": "db.example.org:5432",
                                    "secureJsonData": {"password": "secret-orders"}},
                                   {"name": "Other", "type": "loki", "url": "http://logs.example.org",
                                    "secureJsonData": {"httpHeaderValue1": "secret-with-$-inside"}}],
    "grafana_extra_settings": {"users": {"default_theme": "light"}, "auth.ldap": {"bind_password": "secret-ldap"},
                               "smtp": {"from_name": "Home; sweet # home"}},
    "prometheus_web_tls": {"certificate": "/etc/ssl/p.pem", "key": "/etc/ssl/p.key", "authority": "/etc/ssl/ca.pem"},
    "observability_web_login": {"username": "ad$min", "password": "secret-web"},
    "observability_notifications": {
        "email": {"to": ["me@example.org"], "from": "The site <site@example.org>", "smarthost": "mail.example.org:587",
                  "username": "site", "password": "secret-mail", "hello": "monitor.lan"},
        "slack": {"webhook_url": "https://hooks.slack.example.org/secret-slack"}},
    "observability_single_sign_on": {"url": "https://keycloak.example.org", "realm": "home",
                                     "client_secret": "secret-client", "authority": "/etc/ssl/keycloak.pem",
                                     "roles": {"viewer": "everybody's"}},
}


@pytest.fixture(scope="module")
def render(tmp_path_factory):
    """render("13.2.3", …): the role's files for a version, by path or by the name of the credential."""
    if not AnsibleCollectionConfig.collection_finder:
        init_plugin_loader([str(ROOT / ".collections")])
    loader = DataLoader()
    folder = str(tmp_path_factory.mktemp("inventory"))

    def files(version, **given):
        own = loader.load_from_file(str(ROLE / "defaults/main.yml"), trusted_as_template=True)
        own = own | {"inventory_hostname": HOST, "groups": {"observability": [HOST], "monitored": []},
                     "role_path": str(ROLE), "ansible_search_path": [str(ROLE)], "inventory_dir": folder,
                     "ansible_check_mode": False, "grafana_version": version} | GIVEN | given
        task = loader.load_from_file(str(ROLE / "tasks/main.yml"), trusted_as_template=True)[0]
        variables = own | {"hostvars": {HOST: own}} | task["vars"]
        found = Templar(loader=loader, variables=variables).template(
            task["aistack.observability.component"]["files"])
        return {item.get("path") or item["credential"]: item for item in found}
    return files


def settings(text):
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str
    parser.read_string(text)
    return {section: dict(parser[section]) for section in parser.sections()}


def documented():
    """version -> section -> names, for the versions that somebody read."""
    found = yaml.safe_load((GOLDEN / "settings.yml").read_text(encoding="utf-8"))
    return {version: {section: set(names.split()) for section, names in entry["settings"].items()}
            for version, entry in found.items()}


@EACH_VERSION
def test_a_version_is_given_what_it_was_given(version, render):
    """A changed setting is seen in a diff, for every version that it concerns."""
    files = render(version)
    for name, path in {"grafana.ini": "grafana.ini", "datasources.json": "provisioning/datasources/aistack.yml",
                       "dashboards.json": "provisioning/dashboards/aistack.yml"}.items():
        golden = GOLDEN / version / name
        content = files[f"/etc/grafana/{path}"]["content"]
        if os.environ.get("GOLDEN") == "write":
            golden.parent.mkdir(parents=True, exist_ok=True)
            golden.write_text(content, encoding="utf-8")
        assert content == golden.read_text(encoding="utf-8"), golden


@EACH_VERSION
def test_a_version_is_given_only_what_it_documents(version, render):
    known = documented()[".".join(version.split(".")[:2])]
    ours = settings(render(version, grafana_extra_settings={})["/etc/grafana/grafana.ini"]["content"])
    unknown = [f"{section}.{key}" for section, keys in ours.items() for key in keys
               if key not in known.get(section, set())]
    assert not unknown


def test_every_setting_of_the_table_reaches_some_version(render):
    """One whose versions are mistyped would be missing everywhere."""
    text = (ROLE / "templates/settings.yml.j2").read_text(encoding="utf-8")
    table = set(re.findall(r"^- \[([\w.]+), (\w+),", text, re.MULTILINE))
    given = {(section, key) for version in VERSIONS
             for section, keys in settings(render(version)["/etc/grafana/grafana.ini"]["content"]).items()
             for key in keys}
    assert len(table) > 40
    assert not table - given


@EACH_VERSION
def test_what_a_log_in_needs_is_there_in_every_version(version, render):
    ours = settings(render(version)["/etc/grafana/grafana.ini"]["content"])
    client = ours["auth.generic_oauth"]
    assert (client["use_pkce"], client["role_attribute_strict"]) == ("true", "true")
    assert "offline_access" not in client["scopes"]
    # Refreshed by a setting, or by the feature that was there before it.
    assert (client.get("use_refresh_token") == "true") != (
        ours.get("feature_toggles", {}).get("accessTokenExpirationCheck") == "true")
    # Logged out by the provider's setting, or by everybody's.
    logout = client.get("signout_redirect_url") or ours["auth"]["signout_redirect_url"]
    assert logout == ("https://keycloak.example.org/realms/home/protocol/openid-connect/logout?client_id=grafana"
                      "&post_logout_redirect_uri=https%3A%2F%2Fgrafana.example.org%2Flogin")
    assert ("jwk_set_url" in client) == ("validate_id_token" in client) == (version in ("12.4.0", "13.2.3"))
    assert ours["auth.anonymous"]["enabled"] == "false"
    assert ours["security"]["cookie_secure"] == "true"


@EACH_VERSION
def test_no_secret_stands_in_an_open_file(version, render):
    files = render(version)
    for path, item in files.items():
        if "credential" not in item and not item.get("secret"):
            assert "secret-" not in item["content"], path
    kept = {item["content"] for item in files.values() if "credential" in item}
    assert {"secret-admin", "secret-key", "secret-client", "secret-mail", "secret-web", "secret-orders",
            "secret-ldap"} <= kept
    # Grafana would expand the dollar in a credential too: this one stays, written twice, in a file that is a secret.
    sources = files["/etc/grafana/provisioning/datasources/aistack.yml"]
    assert sources["secret"] is True
    assert json.loads(sources["content"])["datasources"][-1]["secureJsonData"] == {
        "httpHeaderValue1": "secret-with-$$-inside"}


def test_special_characters_survive_the_ini_file(render):
    ours = settings(render("13.2.3")["/etc/grafana/grafana.ini"]["content"])
    assert ours["smtp"]["from_name"] == '"""Home; sweet # home"""'
    assert ours["smtp"]["from_address"] == "site@example.org"
    # JMESPath's own quotes.
    assert r"contains(roles[*], 'everybody\'s') && 'Viewer'" in ours["auth.generic_oauth"]["role_attribute_path"]
