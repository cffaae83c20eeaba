# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of variables: what is refused, in which words, and what is let pass."""

import re

import pytest
import yaml
from ansible_collections.aistack.observability.plugins.plugin_utils import spec
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import Mixins

OPTIONS = {
    "demo_version": {"type": "str"},
    "demo_port": {"type": "int"},
    "demo_ratio": {"type": "float"},
    "demo_adopt": {"type": "bool"},
    "demo_state": {"type": "str", "choices": ["present", "absent"]},
    "demo_peers": {"type": "list", "elements": "str"},
    "demo_listen_address": {"type": "str"},
    "demo_scrape_interval": {"type": "str"},
    "demo_retention_size": {"type": "str"},
    "demo_external_url": {"type": "str"},
    "demo_memory_max": {"type": "str"},
    "demo_labels": {"type": "dict"},
    "demo_free": {"type": "raw"},
    "demo_release": {"type": "dict", "options": {"version": {"type": "str"}, "sha256": {"type": "str"}}},
    "demo_targets": {"type": "list", "elements": "dict", "options": {"url": {"type": "str", "required": True}}},
    "demo_login": {"type": "dict", "required_together": [["username", "password"]],
                   "options": {"username": {"type": "str"}, "password": {"type": "str"}, "token": {"type": "int"}}},
}


def problems(**values):
    return [str(problem) for problem in spec.check_options(OPTIONS, values)]


@pytest.mark.parametrize(("name", "value"), [
    ("demo_version", "3.15.0"), ("demo_version", 3), ("demo_version", ""),
    ("demo_port", 9090), ("demo_port", "9090"), ("demo_ratio", 0.5), ("demo_ratio", "0.5"), ("demo_ratio", 1),
    ("demo_adopt", True), ("demo_adopt", "true"), ("demo_adopt", "no"),
    ("demo_state", "absent"), ("demo_peers", []), ("demo_peers", ["a", "b"]),
    ("demo_listen_address", "127.0.0.1:9090"), ("demo_listen_address", ":9090"), ("demo_listen_address", "[::1]:9090"),
    ("demo_listen_address", "gpu-1.lan:9090"), ("demo_listen_address", ""),
    ("demo_scrape_interval", "15s"), ("demo_scrape_interval", "1h30m"), ("demo_scrape_interval", "1y2w3d4h5m6s7ms"),
    ("demo_scrape_interval", "0"),
    ("demo_retention_size", "50GB"), ("demo_retention_size", "512MiB"), ("demo_retention_size", "1.5TB"),
    ("demo_external_url", "https://example.org/prometheus"), ("demo_external_url", "http://[::1]:9090"),
    ("demo_memory_max", "512M"), ("demo_memory_max", "25%"), ("demo_memory_max", "infinity"),
    ("demo_labels", {"anything": ["goes"]}), ("demo_free", None), ("demo_free", [1]),
    ("demo_release", {}), ("demo_release", {"version": "1.0.0", "sha256": "a" * 64}),
    ("demo_targets", [{"url": "http://a:1"}]), ("demo_login", {"username": "a", "password": "b"}),
])
def test_valid_values_pass(name, value):
    assert problems(**{name: value}) == []


@pytest.mark.parametrize(("name", "value", "message"), [
    ("demo_version", 3.1, "demo_version: expected a string, got 3.1; put it in quotes"),
    ("demo_version", True, "demo_version: expected a string, got true; put it in quotes"),
    ("demo_version", ["3.1"], "demo_version: expected a string, got a list"),
    ("demo_version", None, "demo_version: expected a string, got nothing (write the value, or remove the line)"),
    ("demo_port", "ninety", "demo_port: expected a whole number, got 'ninety'"),
    ("demo_port", True, "demo_port: expected a whole number, got true"),
    ("demo_ratio", {}, "demo_ratio: expected a number, got a mapping"),
    ("demo_adopt", "perhaps", "demo_adopt: expected true or false, got 'perhaps'"),
    ("demo_state", "abset", "demo_state: expected one of present, absent, got 'abset'; did you mean absent?"),
    ("demo_peers", "a", "demo_peers: expected a list of strings, got 'a'; write each item on a line of its own, "
                        "after a dash"),
    ("demo_peers", ["a", {}], "demo_peers[1]: expected a string, got a mapping"),
    ("demo_listen_address", "9090", "demo_listen_address: expected host:port, for example 127.0.0.1:9090, got '9090'"),
    ("demo_listen_address", 9090, "demo_listen_address: expected host:port, for example 127.0.0.1:9090, got 9090"),
    ("demo_listen_address", "a:70000", "demo_listen_address: expected host:port, for example 127.0.0.1:9090, "
                                       "got 'a:70000'"),
    ("demo_listen_address", "::1:9090", "demo_listen_address: expected host:port, for example 127.0.0.1:9090, "
                                        "got '::1:9090'"),
    ("demo_listen_address", "http://a:1", "demo_listen_address: expected host:port, for example 127.0.0.1:9090, "
                                          "got 'http://a:1'"),
    ("demo_scrape_interval", "15", "demo_scrape_interval: expected a duration such as 30s, 1h30m or 15d, got '15'"),
    ("demo_scrape_interval", 15, "demo_scrape_interval: expected a duration such as 30s, 1h30m or 15d, got 15"),
    ("demo_scrape_interval", "5m1h", "demo_scrape_interval: expected a duration such as 30s, 1h30m or 15d, got '5m1h'"),
    ("demo_retention_size", "50", "demo_retention_size: expected a size such as 512MB or 50GB, got '50'"),
    ("demo_external_url", "example.org", "demo_external_url: expected an http or https address, for example "
                                         "http://127.0.0.1:11434, got 'example.org'"),
    ("demo_memory_max", "2 gigs", "demo_memory_max: expected a size such as 512M or 4G, or a percentage of the memory, "
                                  "got '2 gigs'"),
    ("demo_labels", "a=b", "demo_labels: expected a mapping, got 'a=b'"),
    ("demo_release", {"sha256": "abc"}, "demo_release.sha256: expected 64 hexadecimal digits, got 'abc'"),
    ("demo_release", {"versoin": "1"}, "demo_release.versoin: there is no such option; did you mean version?"),
    ("demo_release", {"zzz": "1"}, "demo_release.zzz: there is no such option; the options are sha256, version"),
    ("demo_targets", [{"url": "http://a:1"}, {}], None),
    ("demo_targets", [{"url": "http://a:1"}, {"uri": "x"}],
     "demo_targets[1].uri: there is no such option; did you mean url?"),
    ("demo_login", {"username": "a"}, "demo_login: parameters are required together: username, password"),
    ("demo_nothing_like_it", 1, "demo_nothing_like_it: there is no such option; the options are "
                                + ", ".join(sorted(OPTIONS))),
])
def test_invalid_values_are_named(name, value, message):
    found = problems(**{name: value})
    assert found[:1] == ([message] if message else [])


def test_a_needed_option_is_missed():
    assert "demo_targets[0].url: is needed: a string, and it isn't set" in problems(demo_targets=[{"x": 1}])
    assert [str(problem) for problem in spec.check_options({"a": {"type": "path", "required": True}}, {})] == [
        "a: is needed: a path, and it isn't set"]


@pytest.mark.parametrize(("name", "value"), [
    ("demo_password", "hunter2"), ("smtp_password", "hunter2"), ("demo_api_key", "hunter2"), ("demo_token", "hunter2"),
    ("a.credentials", "hunter2"), ("a.tokens[3]", "hunter2"), ("a.client_secret", "hunter2"),
    ("slack.webhook_url", "hunter2"), ("observability_notifications.webhooks[0].url", "hunter2"),
    ("observability_notifications.watchdog.url", "hunter2"), ("demo_external_url", "ftp://me:hunter2@example.org"),
])
def test_secrets_are_not_shown(name, value):
    for option in ({"type": "int"}, {"type": "str", "choices": ["x"]}, {"type": "str"}, {"type": "list"}):
        for problem in spec.check_value(name, option, value):
            assert "hunter2" not in str(problem)
    assert spec.shown(name, value) == "a value that isn't shown"


def test_ordinary_values_are_shown_and_cut():
    assert spec.shown("demo_keyboard", "abc") == "'abc'"
    assert spec.shown("demo_monkey", "abc") == "'abc'"
    assert len(spec.shown("demo_name", "x" * 500)) <= 60


@pytest.mark.parametrize(("address", "expected"), [
    ("127.0.0.1:1", ("127.0.0.1", 1)), (":9090", ("", 9090)), ("[::]:9090", ("::", 9090)),
    ("a.b-c:65535", ("a.b-c", 65535)),
])
def test_split_address(address, expected):
    assert spec.split_address(address) == expected
    assert spec.split_address(spec.join_address(*expected)) == expected


class FakeSpecs:
    valid = {"prometheus": ["prometheus_version", "prometheus_listen_address", "prometheus_retention_time"],
             "node": ["node_version"], "node_exporter": ["node_exporter_version", "node_exporter_listen_address"],
             "observability": ["observability_thresholds", "monitored_services"]}

    def roles(self):
        return sorted(self.valid)

    def options(self, role):
        return dict.fromkeys(self.valid[role], {})


@pytest.mark.parametrize(("name", "role", "meant"), [
    ("prometheus_versoin", "prometheus", "prometheus_version"),
    ("node_exporter_versin", "node_exporter", "node_exporter_version"),  # the longest prefix owns it
    ("node_verson", "node", "node_version"),
    ("promethues_listen_address", "prometheus", "prometheus_listen_address"),
    ("node_exprter_version", "node", None),
    ("observabilty_thresholds", "observability", "observability_thresholds"),
    ("monitered_services", "observability", "monitored_services"),
    ("monitored_service", "observability", "monitored_services"),
])
def test_misspelt_names(name, role, meant):
    ((owner, problem),) = spec.Names(FakeSpecs()).unknown([name])
    assert owner == role and problem.name == name
    if meant:
        assert problem.text == f"there is no such variable; did you mean {meant}?"


@pytest.mark.parametrize("name", [
    "prometheus_version", "redis_exporter_version", "postgres_exporter_listen_address", "my_prometheus_version",
    "prometheus", "ansible_host", "version", "exporter_version", "observability", "monitoring_password",
])
def test_other_names_are_nobodys_business(name):
    assert spec.Names(FakeSpecs()).unknown([name]) == []


# -- the specs that this collection ships ------------------------------------------------------------------------


SPECS = spec.Specs()


@pytest.mark.parametrize("role", SPECS.roles())
def test_defaults_are_valid_and_complete(role):
    """Every public variable is typed and described, every default is of its type, and a role owns its prefix."""
    options, defaults = SPECS.options(role), SPECS.defaults(role)
    assert set(defaults) <= set(options)
    templated = {name for name, value in defaults.items() if "{{" in str(value)}
    assert spec.check_options({name: option for name, option in options.items() if name not in templated},
                              {name: value for name, value in defaults.items() if name not in templated}) == []
    for name, option in options.items():
        assert name.startswith(f"{role}_") or name in spec.WORDS
        assert option.get("description"), name
        assert option.get("required") or name in defaults or name in spec.WORDS, f"{name} has no default"


def test_every_threshold_is_an_option():
    known = Mixins().thresholds()
    options = SPECS.options("observability")["observability_thresholds"]["options"]
    assert set(options) == set(known)
    for name, option in options.items():
        assert f"V({known[name]['default']})" in " ".join(option["description"]), name


def test_notifications_have_one_form():
    """alertmanager_notifications takes its default from observability_notifications, so both take the same options."""
    shared = SPECS.options("observability")["observability_notifications"]["options"]
    assert shared == SPECS.options("alertmanager")["alertmanager_notifications"]["options"]


def test_the_example_inventory_is_valid():
    folder = spec.ROLES.parent / "inventories" / "example"
    shared = yaml.safe_load((folder / "group_vars" / "all.yml").read_text())
    assert spec.check_options(SPECS.options("observability"), shared) == []
    # What is commented out is there to be uncommented.
    text = (folder / "group_vars" / "all.yml").read_text() + (folder / "hosts.yml").read_text()
    names = set(re.findall(rf"^\s*#? *((?:{'|'.join(SPECS.roles())})_\w+):", text, re.MULTILINE))
    assert {"prometheus_external_url", "node_exporter_listen_address", "observability_retention"} <= names
    assert names <= {name for role in SPECS.roles() for name in SPECS.options(role)}


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("monitored_services.ollama.url", "http://site:hunter2@gpu1.lan:11434", "without a log-in"),
    ("monitored_services.ollama.exporter_url", "https://site@gpu1.lan/metrics", "without a log-in"),
    ("monitored_services.ollama.url", "http://gpu1.lan:11434/a@b", ""),
    ("observability_notifications.webhooks[0].url", "https://site:hunter2@pager.example.org/", ""),
    ("observability_web_login.username", "site:admin", "without a colon"),
    ("observability_web_login.username", "admin", ""),
])
def test_a_login_where_it_would_be_seen_or_not_work(name, value, expected):
    text = "".join(str(problem) for problem in spec.check_value(name, {"type": "str"}, value))
    assert expected in text and bool(text) == bool(expected)
    assert "hunter2" not in text
