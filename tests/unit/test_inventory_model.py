# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The derivation of the site from groups, variables and mixins."""

import pytest
from ansible_collections.aistack.observability.plugins.plugin_utils.inventory_model import ModelError, Site
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import Mixins

MIXINS = {
    "host": {"job": "node", "role": "node_exporter", "placement": "every_host", "default_port": 9100,
             "path": "/metrics"},
    "prometheus": {"job": "prometheus", "role": "prometheus", "placement": "observability", "default_port": 9090,
                   "path": "/metrics"},
    "alertmanager": {"job": "alertmanager", "role": "alertmanager", "placement": "observability", "default_port": 9093,
                     "path": "/metrics"},
    "ollama": {"job": "ollama", "role": "ollama_exporter", "placement": "monitored_services", "default_port": 9877,
               "path": "/metrics", "options": {"url": {"type": "str", "default": "http://127.0.0.1:11434"}}},
    "gpu": {"job": "gpu", "role": "gpu_exporter", "placement": "monitored_services", "default_port": 9879,
            "path": "/metrics", "options": {"devices": {"type": "list", "elements": "str"}}},
    "n8n": {"job": "n8n", "role": "n8n_exporter", "placement": "monitored_services", "default_port": 9880,
            "path": "/metrics", "options": {"container": {"type": "str"}}},
}
BOX, GPU = "monitor.lan", "gpu1.lan"


def site(box=None, gpu=None, observability=(BOX,), monitored=()):
    """A site of one box, or of a box and a GPU host where variables for one are given."""
    variables = {BOX: box or {}, GPU: gpu or {}}
    return Site({"observability": list(observability), "monitored": [*monitored, *([GPU] if gpu is not None else [])]},
                lambda host: variables[host], MIXINS)


REACHABLE = {"node_exporter_listen_address": "192.0.2.21:9100", "ollama_exporter_listen_address": "0.0.0.0:9877"}


def targets(model, host=BOX):
    return {(config["job_name"], static["labels"]["instance"], static["labels"]["service"]): static["targets"]
            for config in model.scrape_configs(host) for static in config["static_configs"]}


def services(**entries):
    return {"monitored_services": {key.replace("__", "-"): value for key, value in entries.items()}}


def addresses(model, host=BOX):
    return {service.name: (service.component, service.listen_address) for service in model.services(host)}


# -- services and their ports ------------------------------------------------------------------------------------


def test_single_box():
    model = site(services(ollama={}))
    assert addresses(model) == {
        "alertmanager": ("alertmanager", "127.0.0.1:9093"), "host": ("node_exporter", "127.0.0.1:9100"),
        "ollama": ("ollama_exporter", "127.0.0.1:9877"), "prometheus": ("prometheus", "127.0.0.1:9090")}
    assert model.roles(BOX) == ["alertmanager", "node_exporter", "ollama_exporter", "prometheus"]
    assert targets(model) == {
        ("alertmanager", BOX, "alertmanager"): ["127.0.0.1:9093"], ("node", BOX, "host"): ["127.0.0.1:9100"],
        ("ollama", BOX, "ollama"): ["127.0.0.1:9877"], ("prometheus", BOX, "prometheus"): ["127.0.0.1:9090"]}
    assert model.problems(BOX) == []


def test_in_both_groups_is_the_same_as_in_one():
    model = Site({"observability": [BOX], "monitored": [BOX]}, lambda host: services(ollama={}), MIXINS)
    assert model.scrape_configs(BOX) == site(services(ollama={})).scrape_configs(BOX)


def test_an_empty_entry_takes_the_defaults():
    for given in ({}, None):
        (service,) = site(services(ollama=given)).services(BOX, "ollama")
        assert service.options == {"url": "http://127.0.0.1:11434"}


def test_options_win_over_defaults():
    (service,) = site(services(ollama={"url": "http://127.0.0.1:1"})).services(BOX, "ollama")
    assert service.options == {"url": "http://127.0.0.1:1"}


def test_more_services_of_a_type():
    model = site(services(big={"type": "ollama"}, ollama={}, small={"type": "ollama"}))
    found = addresses(model)
    assert found["ollama"] == ("ollama_exporter", "127.0.0.1:9877")
    assert found["big"] == ("ollama_exporter@big", "127.0.0.1:9878")
    assert found["small"] == ("ollama_exporter@small", "127.0.0.1:9881")  # 9879 and 9880 are other types' own


def test_ports_do_not_depend_on_order_or_on_other_hosts():
    one = services(a={"type": "ollama"}, b={"type": "ollama"})
    other = {"monitored_services": dict(reversed(one["monitored_services"].items()))}
    assert addresses(site(one)) == addresses(site(other))
    assert addresses(site(one)) == addresses(site(one, {**REACHABLE, **services(c={"type": "ollama"})}))


def test_a_types_own_port_is_kept_for_it():
    before = addresses(site(services(mine={"type": "ollama"})))["mine"]
    after = addresses(site(services(mine={"type": "ollama"}, ollama={}, gpu={})))["mine"]
    assert before == after == ("ollama_exporter@mine", "127.0.0.1:9878")


def test_a_given_address_wins_and_is_avoided():
    model = site({**services(a={"type": "ollama"}, b={"type": "ollama", "exporter_listen_address": "10.0.0.1:9878"}),
                  "node_exporter_listen_address": "127.0.0.1:9881"})
    assert addresses(model)["b"] == ("ollama_exporter@b", "10.0.0.1:9878")
    assert addresses(model)["a"] == ("ollama_exporter@a", "127.0.0.1:9882")


def test_further_services_listen_where_the_role_does():
    model = site({**services(ollama={}, b={"type": "ollama"}), "ollama_exporter_listen_address": "[::]:8000"})
    assert addresses(model)["ollama"][1] == "[::]:8000"
    assert addresses(model)["b"][1] == "[::]:8001"


def test_an_exporter_that_already_runs_is_adopted():
    model = site(services(ollama={"exporter_url": "http://127.0.0.1:9999/custom?a=1&b=2&a=3"},
                          host={"exporter_url": "https://127.0.0.1/metrics"}))
    assert model.roles(BOX) == ["alertmanager", "prometheus"]
    assert [service.component for service in model.services(BOX, "ollama")] == [""]
    configs = {config["job_name"]: config for config in model.scrape_configs(BOX)}
    assert configs["ollama"] == {
        "job_name": "ollama", "metrics_path": "/custom", "params": {"a": ["1", "3"], "b": ["2"]},
        "static_configs": [{"targets": ["127.0.0.1:9999"], "labels": {"instance": BOX, "service": "ollama"}}]}
    assert configs["node"]["scheme"] == "https"
    assert configs["node"]["static_configs"][0]["targets"] == ["127.0.0.1:443"]


def test_what_is_absent_is_not_scraped():
    model = site({**services(ollama={}), "ollama_exporter_state": "absent"})
    assert not [key for key in targets(model) if key[0] == "ollama"]
    assert "ollama_exporter" in model.roles(BOX)  # the role is what removes it


# -- more hosts --------------------------------------------------------------------------------------------------


def test_targets_on_another_host():
    model = site({}, {**REACHABLE, **services(ollama={})})
    assert targets(model)[("node", GPU, "host")] == ["192.0.2.21:9100"]
    assert targets(model)[("ollama", GPU, "ollama")] == ["gpu1.lan:9877"]
    assert model.roles(GPU) == ["node_exporter", "ollama_exporter"]


@pytest.mark.parametrize(("variables", "address"), [
    ({}, "gpu1.lan:9877"), ({"ansible_host": "192.0.2.9"}, "192.0.2.9:9877"),
    ({"ansible_host": "192.0.2.9", "observability_address": "gpu1.vpn"}, "gpu1.vpn:9877"),
    ({"ansible_host": "2001:db8::1"}, "[2001:db8::1]:9877"),
])
def test_under_which_address_a_host_is_reached(variables, address):
    model = site({}, {**REACHABLE, **variables, **services(ollama={})})
    assert targets(model)[("ollama", GPU, "ollama")] == [address]


def test_loopback_on_another_host_is_refused():
    model = site({}, services(ollama={}, other={"type": "ollama", "exporter_url": "http://localhost:1/metrics"}))
    names = [problem.name for problem in model.problems(GPU)]
    assert names == ["node_exporter_listen_address", "ollama_exporter_listen_address",
                     "monitored_services.other.exporter_url"]
    text = str(model.problems(GPU)[0])
    assert "127.0.0.1:9100" in text and "monitor.lan can't reach" in text and "192.0.2.10:9100" in text
    with pytest.raises(ModelError):
        model.scrape_configs(BOX)
    # With --limit monitor.lan nobody but that host can say it, and it names the host that it is about.
    assert model.problems(BOX) == []
    assert [problem.name for problem in model.problems(BOX, others=[GPU])] == [f"{name} (of {GPU})" for name in names]


def test_the_order_of_the_inventory_changes_nothing():
    gpu = {**REACHABLE, **services(ollama={})}
    variables = {BOX: {}, GPU: gpu, "a.lan": REACHABLE}
    one = Site({"observability": [BOX], "monitored": [GPU, "a.lan"]}, variables.__getitem__, MIXINS)
    other = Site({"monitored": ["a.lan", GPU], "observability": [BOX]}, variables.__getitem__, MIXINS)
    assert one.scrape_configs(BOX) == other.scrape_configs(BOX)


@pytest.mark.parametrize(("observability", "host", "words"), [
    ((), BOX, "has no host"), ((BOX, GPU), BOX, "has 2 hosts (gpu1.lan, monitor.lan); this version serves one"),
    ((BOX,), "stranger", "stranger is in neither"),
])
def test_groups_that_cannot_be(observability, host, words):
    assert words in str(site(observability=observability).problems(host)[0])


# -- how Prometheus connects -------------------------------------------------------------------------------------


LOGIN = {"observability_web_login": {"username": "admin"}}
BASIC_AUTH = {"username": "admin", "password_file": "/run/credentials/prometheus.service/web_password"}


def test_the_web_login_is_used_where_it_is_asked_for():
    model = site({**LOGIN, **services(ollama={})})
    login = {config["job_name"]: config.get("basic_auth") for config in model.scrape_configs(BOX)}
    assert login == {"prometheus": BASIC_AUTH, "alertmanager": BASIC_AUTH, "node": None, "ollama": None}
    assert model.alertmanagers(BOX) == [{"address": "127.0.0.1:9093", "scheme": "http", "basic_auth": BASIC_AUTH}]


def test_tls():
    tls = {"certificate": "/c.pem", "key": "/k.pem", "authority": "/ca.pem"}
    model = site({"alertmanager_web_tls": tls, "node_exporter_web_tls": {**tls, "server_name": "x.lan"}},
                 {**REACHABLE, "node_exporter_web_tls": {"certificate": "/c.pem", "key": "/k.pem"}})
    configs = {config["job_name"]: config for config in model.scrape_configs(BOX)}
    assert configs["alertmanager"]["scheme"] == "https"
    assert configs["alertmanager"]["tls_config"] == {"ca_file": "/ca.pem", "server_name": BOX}
    assert model.alertmanagers(BOX)[0]["tls_config"] == {"ca_file": "/ca.pem", "server_name": BOX}
    assert model.silence(BOX, "host")["urls"] == ["https://127.0.0.1:9093"]
    assert model.silence(BOX, "host")["tls"] == {"authority": "/ca.pem", "server_name": BOX}
    # Two ways to connect are two scrape configs, but still one job.
    assert configs["node"]["tls_config"] == {"server_name": GPU}
    assert configs["node-2"]["tls_config"] == {"ca_file": "/ca.pem", "server_name": "x.lan"}
    assert configs["node-2"]["static_configs"][0]["labels"] == {"job": "node", "instance": BOX, "service": "host"}


def test_alertmanagers_from_elsewhere():
    assert site({}, REACHABLE).alertmanagers(GPU) == []
    assert site({"alertmanager_listen_address": ":9093"}, REACHABLE).alertmanagers(GPU) == [
        {"address": "monitor.lan:9093", "scheme": "http"}]
    assert site({"alertmanager_state": "absent"}).alertmanagers(BOX) == []


def test_silence():
    model = site(services(big={"type": "ollama"}), REACHABLE)
    assert model.silence(BOX, "big", {"username": "a", "password": "b"}) == {
        "urls": ["http://127.0.0.1:9093"], "matchers": {"instance": BOX, "service": "big"},
        "login": {"username": "a", "password": "b"}}
    assert model.silence(GPU, "host") == {}
    with pytest.raises(ModelError, match="did you mean big"):
        model.silence(BOX, "bigg")


def test_servers():
    model = site({"prometheus_web_tls": {"certificate": "/c", "authority": "/ca.pem"}}, REACHABLE)
    assert model.servers(BOX, {"username": "a", "password": "b", "password_hash": "c"}) == {
        "prometheus": {"url": "https://127.0.0.1:9090", "login": {"username": "a", "password": "b"},
                       "tls": {"server_name": BOX, "authority": "/ca.pem"}},
        "alertmanager": {"url": "http://127.0.0.1:9093", "login": {"username": "a", "password": "b"}}}
    assert model.servers(GPU) == {}
    assert set(site({"prometheus_state": "absent"}).servers(BOX)) == {"alertmanager"}


@pytest.mark.parametrize(("variables", "url"), [
    ({}, "http://127.0.0.1:9090"), ({"prometheus_listen_address": "0.0.0.0:80"}, "http://monitor.lan:80"),
    ({"prometheus_listen_address": "192.0.2.1:80"}, "http://192.0.2.1:80"),
    ({"prometheus_external_url": "https://p.example.org/x/"}, "https://p.example.org/x"),
    ({"prometheus_web_tls": {"certificate": "/c"}}, "https://127.0.0.1:9090"),
])
def test_web_url(variables, url):
    assert site(variables).web_url("prometheus") == url


def test_types_in_use():
    assert site({}, {**REACHABLE, **services(x={"type": "ollama"})}).types() == [
        "alertmanager", "host", "ollama", "prometheus"]
    assert "ollama" not in site().types()


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entries", "name", "words"), [
    ({"olama": {}}, "olama", "'olama' is not a type of service; did you mean ollama?; an entry with a name of its own"),
    ({"zzz": {}}, "zzz", "the types are gpu, n8n, ollama; an entry with a name of its own needs `type:`"),
    ({"x": {"type": "olama"}}, "x.type", "did you mean ollama?"),
    ({"ollama": "yes"}, "ollama", "expected a mapping of options"),
    ({"ollama": []}, "ollama", "expected a mapping of options"),
    ({"Ollama": {"type": "ollama"}}, "Ollama", "small letters"),
    ({"a/b": {"type": "ollama"}}, "a/b", "small letters"),
    ({"ollama": {"urll": "http://a:1"}}, "ollama.urll", "did you mean url?"),
    ({"ollama": {"url": "11434"}}, "ollama.url", "expected an http or https address"),
    ({"ollama": {"url": 11434}}, "ollama.url", "got 11434"),
    ({"gpu": {"devices": "0"}}, "gpu.devices", "expected a list of strings"),
    ({"ollama": {"exporter_listen_address": "9877"}}, "ollama.exporter_listen_address", "expected host:port"),
    ({"ollama": {"exporter_url": "127.0.0.1:1"}}, "ollama.exporter_url", "expected an http or https address"),
    ({"ollama": {"exporter_url": "http://a:1", "exporter_listen_address": "a:1"}}, "ollama", "keep one of the two"),
    ({"ollama": {"container": "ollama"}}, "ollama.container", "can't be resolved for services of type ollama"),
    ({"prometheus": {}}, "prometheus", "is watched without an entry"),
    ({"web": {"type": "host"}}, "web", "is watched without an entry"),
    ({"host": {"type": "ollama"}}, "host", "belongs to the service host"),
    ({"alertmanager": {"type": "ollama"}}, "alertmanager", "belongs to the service alertmanager"),
])
def test_entries_that_cannot_be(entries, name, words):
    model = site({"monitored_services": entries})
    problems = model.problems(BOX)
    assert [problem.name for problem in problems][:1] == [f"monitored_services.{name}"]
    assert words in problems[0].text
    with pytest.raises(ModelError):
        model.services(BOX)
    assert {service.name for service in model.derive(BOX)[0]} >= {"prometheus", "alertmanager"}  # the rest is known


def test_container_on_another_host():
    model = site(services(n8n={"container": "n8n"}), {**REACHABLE, "n8n_exporter_listen_address": ":9880",
                                                      **services(n8n={"container": "n8n"})})
    assert model.problems(BOX) == []
    (problem,) = model.problems(GPU)
    assert problem.name == "monitored_services.n8n.container" and "Prometheus's own host only" in problem.text


@pytest.mark.parametrize("value", ["ollama", ["ollama"], 3])
def test_monitored_services_must_be_a_mapping(value):
    (problem,) = site({"monitored_services": value}).problems(BOX)
    assert str(problem).startswith("monitored_services: expected a mapping of services by name, got")


def test_all_problems_at_once():
    model = site({"monitored_services": {"a": {}, "b": 1, "ollama": {"x": 1, "url": "y"}},
                  "prometheus_listen_address": "here"})
    assert [problem.name for problem in model.problems(BOX)] == [
        "monitored_services.a", "monitored_services.b", "monitored_services.ollama.x", "monitored_services.ollama.url",
        "prometheus_listen_address"]


def test_one_roles_address_does_not_fail_another_one():
    model = site({**services(ollama={}), "prometheus_listen_address": "here"})
    assert [service.name for service in model.services(BOX, "ollama")] == ["ollama"]
    assert model.silence(BOX, "ollama")["urls"] == ["http://127.0.0.1:9093"]
    assert site({"alertmanager_listen_address": 9093}).silence(BOX, "host")["urls"] == ["http://127.0.0.1:9093"]
    with pytest.raises(ModelError, match="prometheus_listen_address"):
        model.services(BOX, "prometheus")


@pytest.mark.parametrize(("variables", "clash"), [
    ({"alertmanager_listen_address": "127.0.0.1:9090"}, ("prometheus_listen_address", "alertmanager_listen_address")),
    ({"alertmanager_listen_address": "0.0.0.0:9090"}, ("prometheus_listen_address", "alertmanager_listen_address")),
    ({"alertmanager_listen_address": "192.0.2.1:9090"}, None),
    ({"ollama_exporter_listen_address": "127.0.0.1:9100", **services(ollama={})},
     ("ollama_exporter_listen_address", "node_exporter_listen_address")),
    ({"ollama_exporter_listen_address": "127.0.0.1:9100"}, None),  # it isn't on this host
    (services(a={"type": "ollama", "exporter_listen_address": ":9090"}),
     ("prometheus_listen_address", "monitored_services.a.exporter_listen_address")),
])
def test_clashes(variables, clash):
    model = site(variables)
    problems = model.clashes(BOX, model.roles(BOX))
    if clash is None:
        assert problems == []
    else:
        (problem,) = problems
        assert problem.name == clash[0] and clash[1] in problem.text and "port 9" in problem.text


def test_clashes_of_other_addresses_and_other_roles():
    model = site({"alertmanager_listen_address": "127.0.0.1:9090"})
    assert model.clashes(BOX, ["node_exporter"]) == []
    more = {"alertmanager_cluster_listen_address": ("alertmanager", "0.0.0.0:9100")}
    assert [problem.name for problem in model.clashes(BOX, ["node_exporter"], more)] == ["node_exporter_listen_address"]


def test_the_real_mixins_make_a_site():
    mixins = Mixins()
    model = Site({"observability": [BOX]}, lambda host: services(ollama={}),
                 {name: mixins.scrape(name) for name in mixins.names()})
    assert model.problems(BOX) == []
    jobs = {config["job_name"] for config in model.scrape_configs(BOX)}
    assert {"node", "prometheus", "alertmanager", "ollama"} <= jobs
