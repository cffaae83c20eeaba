# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters: pure functions, so every case is a line."""

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.aistack.observability.plugins.filter.component_files import (
    component_files,
    externalise_secrets,
)
from ansible_collections.aistack.observability.plugins.filter.local_url import local_url
from ansible_collections.aistack.observability.plugins.filter.web_config import web_config

RUN = "/run/credentials/prometheus.service"


def nested(path, value):
    """{"a": [{"b": value}]} from "a.0.b"."""
    for part in reversed(path.split(".")):
        value = [value] if part == "0" else {part: value}
    return value


@pytest.mark.parametrize("path", [
    "scrape_configs.0.basic_auth.password",
    "scrape_configs.0.authorization.credentials",
    "scrape_configs.0.bearer_token",
    "scrape_configs.0.tls_config.key",
    "remote_write.0.oauth2.client_secret",
    "remote_write.0.oauth2.tls_config.key",
    "alerting.alertmanagers.0.basic_auth.password",
    "global.smtp_auth_password",
    "global.telegram_bot_token",
    "receivers.0.email_configs.0.auth_password",
    "receivers.0.slack_configs.0.api_url",
    "receivers.0.slack_configs.0.http_config.authorization.credentials",
    "receivers.0.discord_configs.0.webhook_url",
    "receivers.0.webhook_configs.0.url",
    "receivers.0.webhook_configs.0.http_config.basic_auth.password",
    "receivers.0.pushover_configs.0.user_key",
    "receivers.0.pagerduty_configs.0.routing_key",
])
def test_a_secret_with_a_file_twin_leaves_the_file(path):
    done = externalise_secrets(nested(path, "hunter2"), "prometheus")
    assert [item["content"] for item in done["credentials"]] == ["hunter2"]
    name = done["credentials"][0]["credential"]
    assert done["config"] == nested(path + "_file", f"{RUN}/{name}")
    assert not done["secret"]


def test_a_password_of_digits_is_a_secret_too():
    done = externalise_secrets({"global": {"smtp_auth_password": 12345678}}, "alertmanager")
    assert [item["content"] for item in done["credentials"]] == ["12345678"]
    assert "smtp_auth_password" not in done["config"]["global"]
    assert externalise_secrets({"consul_sd_configs": [{"token": 12345678}]}, "prometheus")["secret"]


@pytest.mark.parametrize("path", [
    "scrape_configs.0.openstack_sd_configs.0.password",
    "scrape_configs.0.ec2_sd_configs.0.secret_key",
    "scrape_configs.0.consul_sd_configs.0.token",
    "remote_write.0.azuread.oauth.client_secret",
    "remote_write.0.sigv4.secret_key",
    "receivers.0.sns_configs.0.sigv4.secret_key",
    "basic_auth_users",
])
def test_a_secret_without_a_twin_stays_and_makes_the_file_secret(path):
    value = {"admin": "$2b$10$x"} if path == "basic_auth_users" else "hunter2"
    done = externalise_secrets(nested(path, value), "prometheus")
    assert done == {"config": nested(path, value), "credentials": [], "secret": True}


@pytest.mark.parametrize("config", [
    {"scrape_configs": [{"job_name": "node", "scheme": "https", "static_configs": [{"targets": ["127.0.0.1:9100"]}]}]},
    {"basic_auth": {"username": "site", "password_file": "/etc/x"}},
    {"remote_write": [{"url": "https://metrics.example.org/push", "queue_config": {"capacity": 10}, "send": True}]},
    {"telegram_configs": [{"api_url": "https://api.telegram.org", "chat_id": 5}]},
    {"global": {"smtp_require_tls": False, "smtp_auth_password": ""}},
    {"tls_config": {"key_file": "/etc/ssl/key.pem", "insecure_skip_verify": False}},
    {"http_headers": {"X-Scope-OrgID": {"values": ["site"]}}},
])
def test_what_is_no_secret_stays_as_it_is(config):
    assert externalise_secrets(config, "prometheus") == {"config": config, "credentials": [], "secret": False}


def test_a_login_in_an_address_makes_the_file_secret():
    assert externalise_secrets({"remote_write": [{"url": "https://site:hunter2@metrics.example.org"}]}, "x")["secret"]
    assert not externalise_secrets({"remote_write": [{"url": "https://metrics.example.org:443/a@b"}]}, "x")["secret"]


def test_secret_headers_become_files():
    config = {"http_headers": {"X-Key": {"secrets": ["one", "two"], "files": ["/etc/key"], "values": ["open"]}}}
    done = externalise_secrets(config, "prometheus")
    assert done["config"] == {"http_headers": {"X-Key": {
        "files": ["/etc/key", f"{RUN}/http_headers_x_key_0", f"{RUN}/http_headers_x_key_1"], "values": ["open"]}}}
    assert [item["content"] for item in done["credentials"]] == ["one", "two"]


def test_credentials_are_named_by_what_they_are_and_never_twice():
    def job(name):
        return {"job_name": name, "basic_auth": {"password": f"of {name}"}}

    done = externalise_secrets({"scrape_configs": [job("a b"), job("a-b"), job("Ü")]}, "prometheus")
    assert {item["credential"]: item["content"] for item in done["credentials"]} == {
        "scrape_configs_a_b_basic_auth_password": "of a b",
        "scrape_configs_a_b_basic_auth_password_2": "of a-b",
        "scrape_configs_basic_auth_password": "of Ü",
    }
    # One that is put in front moves no other: its service would restart for nothing.
    more = externalise_secrets({"scrape_configs": [job("new"), job("Ü")]}, "prometheus")
    assert {"credential": "scrape_configs_basic_auth_password", "content": "of Ü"} in more["credentials"]


def test_the_given_structure_is_not_changed():
    config = {"basic_auth": {"password": "hunter2"}}
    externalise_secrets(config, "prometheus")
    assert config == {"basic_auth": {"password": "hunter2"}}


def test_files_are_json_for_structures_and_text_for_text():
    files = component_files(
        {"a.yml": {"global": {"umlaut": "ü"}}, "b.tmpl": "{{ .Status }}", "empty.yml": {}, "web.yml": {
            "basic_auth_users": {"admin": "$2b$"}}},
        "prometheus", folder="/etc/prometheus", group="prometheus")
    assert [item["path"] for item in files] == [f"/etc/prometheus/{name}" for name in ("a.yml", "b.tmpl", "web.yml")]
    assert json.loads(files[0]["content"]) == {"global": {"umlaut": "ü"}}
    assert "ü" in files[0]["content"]
    assert files[1]["content"] == "{{ .Status }}"
    assert [item["secret"] for item in files] == [False, False, True]
    assert {(item["mode"], item["owner"], item["group"]) for item in files} == {("0640", "root", "prometheus")}


def test_two_documents_share_no_credential():
    document = {"basic_auth": {"password": "x"}}
    files = component_files({"a.yml": document, "b.yml": document}, "prometheus", folder="/etc")
    names = [item["credential"] for item in files if "credential" in item]
    assert len(names) == len(set(names)) == 2


def test_files_refuses_what_is_no_dictionary():
    with pytest.raises(AnsibleFilterError, match="dictionary"):
        component_files(["a.yml"], "prometheus", folder="/etc")


@pytest.mark.parametrize(("listen", "url"), [
    ("127.0.0.1:9090", "http://127.0.0.1:9090"),
    ("0.0.0.0:9090", "http://127.0.0.1:9090"),
    (":9090", "http://127.0.0.1:9090"),
    ("[::]:9090", "http://[::1]:9090"),
    ("[::1]:9090", "http://[::1]:9090"),
    ("192.0.2.7:9090", "http://192.0.2.7:9090"),
    ("localhost:80", "http://localhost:80"),
])
def test_local_url(listen, url):
    assert local_url(listen) == url
    assert local_url(listen, tls=True) == url.replace("http:", "https:")


@pytest.mark.parametrize("listen", ["9090", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "::1:9090", "127.0.0.1:70000"])
def test_local_url_refuses(listen):
    with pytest.raises(AnsibleFilterError, match="host:port"):
        local_url(listen)


def test_web_config():
    tls = {"certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/a.key", "authority": "/etc/ssl/ca.pem"}
    login = {"username": "admin", "password": "never written", "password_hash": "$2b$10$abc"}
    assert web_config({}) == web_config({}, login={}) == {}
    assert web_config(tls) == {"tls_server_config": {"cert_file": "/etc/ssl/a.pem", "key_file": "/etc/ssl/a.key"}}
    assert web_config({}, login=login) == {"basic_auth_users": {"admin": "$2b$10$abc"}}
    assert set(web_config(tls, login=login)) == {"tls_server_config", "basic_auth_users"}
