# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a daemon.json, and what Loki's driver is told: the parts that need no Docker."""

import json

import pytest
from ansible_collections.aistack.observability.plugins.filter.loki_driver_options import loki_driver_options
from ansible_collections.aistack.observability.plugins.module_utils.component.errors import Refused
from ansible_collections.aistack.observability.plugins.modules import docker_daemon as module

USERS = {"dns": ["192.0.2.1"], "log-opts": {"max-size": "9m"}, "labels": ["a=b"]}
OURS = {"log-driver": "local", "log-opts": {"max-size": "50m"}, "live-restore": True}
PUSH = "http://127.0.0.1:3100/loki/api/v1/push"


def state(before=None):
    return {"before": {"log-opts": USERS["log-opts"]} if before is None else before, "ours": OURS}


def test_only_three_keys_are_touched_and_each_keeps_its_place():
    wanted = module.wanted_data(USERS, None, "local", {"max-size": "50m"}, True)
    assert list(wanted) == ["dns", "log-opts", "labels", "log-driver", "live-restore"]
    assert wanted == USERS | OURS
    assert "live-restore" not in module.wanted_data(USERS, None, "local", {}, False)
    # What is no longer wanted goes back to what it was.
    assert "live-restore" not in module.wanted_data(wanted, state(), "local", {}, False)
    assert module.wanted_data(wanted, state({"live-restore": True}), "local", {}, False)["live-restore"] is True


def test_what_was_before_comes_back_but_not_over_what_somebody_changed():
    assert module.former_data(USERS | OURS, state()["before"], OURS) == USERS
    assert module.former_data(OURS, {}, OURS) == {}
    by_hand = USERS | OURS | {"log-driver": "syslog"}
    assert module.former_data(by_hand, state()["before"], OURS) == USERS | {"log-driver": "syslog"}


@pytest.mark.parametrize("text, indent", [('{"a": 1}', "  "), ('{\n    "a": 1\n}', "    "), ('{\n\t"a": 1\n}', "\t")])
def test_a_file_keeps_its_indent(text, indent):
    assert module.write_out({"a": "ü"}, text) == '{\n%s"a": "ü"\n}\n' % indent


@pytest.mark.parametrize("text, words", [('{\n "a": }', "line 2, column 7"), ("[]", "no JSON object")])
def test_what_cannot_be_merged_is_refused(text, words):
    with pytest.raises(Refused, match=words):
        module.parse(text, "daemon.json")


def test_an_empty_file_says_nothing():
    assert module.parse(" \n", "daemon.json") == {}


@pytest.mark.parametrize("driver, options, words", [
    ("local", {"tag": "x"}, "has no option tag; it has compress, max-buffer-size"),
    ("journald", {"max-size": "1m"}, "has no option max-size"),
    ("json-file", {"max-file": "0"}, "can't be '0'"),
    ("json-file", {"compress": "yes"}, "can't be 'yes'"),
    ("local", {"mode": "blocking", "max-buffer-size": "1m"}, "needs mode: non-blocking"),
    ("loki", {"loki-url": PUSH, "loki-timeout": "1"}, "loki-timeout .* can't be '1'"),
    ("loki", {"loki-url": ""}, "loki-url .* can't be ''"),
    ("loki", {}, "needs to know where Loki is"),
])
def test_options_that_no_container_would_start_with(driver, options, words):
    with pytest.raises(Refused, match=words):
        module.check_options(driver, options)


@pytest.mark.parametrize("driver, options", [
    ("local", {"max-size": "50m", "max-file": "5", "compress": "false"}),
    ("json-file", {"labels-regex": "^a", "mode": "non-blocking", "max-buffer-size": "4m"}),
    ("loki", loki_driver_options({"host": "gpu1"}, PUSH) | {"loki-retries": "2", "loki-max-backoff": "800ms"}),
])
def test_options_that_docker_knows(driver, options):
    module.check_options(driver, options)


def test_flags_name_where_they_stand():
    texts = {"/etc/default/docker": "DOCKER_OPTS='--log-opt max-size=1m --log-level=debug'",
             "docker.service": "ExecStart=/usr/bin/dockerd -H fd:// --live-restore"}
    assert module.flags(texts) == {"log-opts": "/etc/default/docker", "live-restore": "docker.service"}
    assert module.flags({"x": "dockerd --log-drivers --xlog-driver"}) == {}


def test_docker_gives_a_plugin_a_tag():
    assert module.in_force({"LoggingDriver": "loki:latest"}, "loki")
    assert module.in_force({"LoggingDriver": "a/b:1"}, "a/b:1")
    assert not module.in_force({}, "local")


# --- Loki's driver -----------------------------------------------------------------------------------------------


def test_every_option_is_a_string_and_only_the_sites_labels_stay():
    options = loki_driver_options({"host": "gpu$1", "redact": [{"expression": "(x)", "replace": "y"}]}, PUSH)
    assert all(isinstance(value, str) for value in options.values())
    rules = json.loads(options["loki-relabel-config"])
    assert rules[0] == {"target_label": "host", "replacement": "gpu$$1"}
    assert rules[-1] == {"action": "labelkeep", "regex": "host|service|container"}
    first, *_stages, last = json.loads(options["loki-pipeline-stages"])
    assert first == {"labels": {"stream": "source"}}
    assert "stream" in last["labelallow"] and "source" not in last["labelallow"]
    assert '"(x)"' in options["loki-pipeline-stages"]


@pytest.mark.parametrize("logs, services", [
    ({"host": "a", "containers": [{"name": "n8n.1", "service": "n8n"}]}, {"other": {"container": "x"}}),
    ({"host": "a"}, {"n8n": {"container": "n8n.1"}, "ollama": {}, "redis": None}),
])
def test_a_containers_service_is_what_the_inventory_says(logs, services):
    rules = json.loads(loki_driver_options(logs, PUSH, services)["loki-relabel-config"])
    assert [rule for rule in rules if rule.get("replacement") == "n8n"] == [
        {"source_labels": ["container"], "regex": r"n8n\.1", "target_label": "service", "replacement": "n8n"}]
    assert not [rule for rule in rules if rule.get("replacement") == "other"]
