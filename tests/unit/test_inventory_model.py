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
            "path": "/metrics", "options": {}},
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


# -- logs ---------------------------------------------------------------------------------------------------------

LOGGED = {**MIXINS,
          "loki": {"job": "loki", "role": "loki", "placement": "observability", "default_port": 3100,
                   "path": "/metrics"},
          "alloy": {"job": "alloy", "role": "alloy", "placement": "log_shipper", "default_port": 12345,
                    "path": "/metrics"},
          "promtail": {"job": "promtail", "role": "promtail", "placement": "log_shipper", "default_port": 9080,
                       "path": "/metrics"}}
LOGS = {"ollama": {"units": ["ollama.service"], "files": [], "parse": {"level": ["level=(?P<level>[A-Z]+)"]}},
        "n8n": {"units": [], "files": ["/var/log/n8n/*.log"], "parse": {}}}


def logged(box=None, gpu=None):
    variables = {BOX: box or {}, GPU: gpu or {}}
    return Site({"observability": [BOX], "monitored": [GPU] if gpu is not None else []}, lambda host: variables[host],
                LOGGED, lambda kind: LOGS.get(kind, {}))


def test_logs_of_a_single_box():
    model = logged(services(ollama={}, n8n={}))
    assert model.roles(BOX)[:2] == ["alertmanager", "alloy"] and "promtail" not in model.roles(BOX)
    found = model.logs(BOX)
    assert (found["shipper"], found["host"], found["journal"], found["docker"]) == ("alloy", BOX, True, False)
    assert found["push"] == [{"url": "http://127.0.0.1:3100/loki/api/v1/push"}]
    assert {"unit": "ollama.service", "service": "ollama"} in found["units"]
    assert {"unit": "alloy.service", "service": "alloy"} in found["units"]
    # An exporter's own lines are not those of what it measures.
    assert not [entry for entry in found["units"] if "exporter" in entry["unit"]]
    assert found["files"] == [{"paths": ["/var/log/n8n/*.log"], "service": "n8n"}]
    assert found["parse"] == {"ollama": LOGS["ollama"]["parse"]}
    assert targets(model)[("alloy", BOX, "alloy")] == ["127.0.0.1:12345"]


def test_whose_lines_are_whose_is_the_users_to_say():
    model = logged(services(chat={"type": "ollama", "container": "chat-1", "units": ["chat@*.service"],
                                  "log_files": ["/srv/chat.log"]}))
    found = model.logs(BOX)
    assert {"unit": "chat@*.service", "service": "chat"} in found["units"]
    assert found["containers"] == [{"name": "chat-1", "service": "chat"}]
    assert found["files"] == [{"paths": ["/srv/chat.log"], "service": "chat"}]


def test_the_defaults_of_a_type_go_to_one_service():
    only = logged(services(chat={"type": "ollama"})).logs(BOX)
    assert {"unit": "ollama.service", "service": "chat"} in only["units"]
    two = logged(services(chat={"type": "ollama"}, more={"type": "ollama"})).logs(BOX)
    assert not [entry for entry in two["units"] if entry["unit"] == "ollama.service"]


def test_the_users_own_sources():
    extra = {"paths": ["/srv/app.log"], "service": "app"}
    given = {"journal": False, "docker": "true", "files": [extra], "drop": ["x"], "max_age": "1h",
             "redact": [{"expression": "iban=(.+)"}]}
    found = logged({"log_sources": given}).logs(BOX)
    assert found["redact"] == [{"expression": "iban=(.+)", "replace": "<redacted>"}]
    assert (found["journal"], found["docker"], found["files"], found["drop"], found["max_age"]) == (
        False, True, [extra], ["x"], "1h")


@pytest.mark.parametrize("seen, expected", [({"aistack_docker": True}, True), ({"aistack_docker": False}, False),
                                            ({}, False)])
def test_docker_is_read_where_preflight_saw_it(seen, expected):
    assert logged({"ansible_facts": seen}).logs(BOX)["docker"] is expected
    assert logged({"ansible_facts": seen, "log_sources": {"docker": "false"}}).logs(BOX)["docker"] is False


def test_one_shipper_or_none():
    model = logged({"log_shipper": "promtail"})
    assert "promtail" in model.roles(BOX) and "alloy" not in model.roles(BOX)
    for nothing in ({"log_shipper": "none"}, {"loki_state": "absent"}, {"alloy_state": "absent"}):
        model = logged(nothing)
        assert model.logs(BOX) == {} and "alloy" not in model.roles(BOX) and model.problems(BOX) == []
    assert site().logs(BOX) == {}  # no Loki in sight


def test_loki_on_another_host():
    reachable = {"node_exporter_listen_address": ":9100", "alloy_listen_address": ":12345"}
    model = logged({}, reachable)
    (problem,) = model.problems(GPU)
    assert problem.name == "log_shipper" and "loki_listen_address" in problem.text
    with pytest.raises(ModelError):
        model.logs(GPU)
    assert logged({}, {**reachable, "log_shipper": "none"}).problems(GPU) == []
    tls = {"loki_listen_address": ":3100", "loki_web_tls": {"certificate": "/c", "key": "/k", "authority": "/a"}}
    assert logged(tls, reachable).logs(GPU)["push"] == [
        {"url": f"https://{BOX}:3100/loki/api/v1/push", "tls": {"server_name": BOX, "authority": "/a"}}]


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
    login = {"username": "a", "password": "b", "password_hash": "c"}
    assert model.servers(BOX, {"prometheus": login, "alertmanager": login}) == {
        "prometheus": {"url": "https://127.0.0.1:9090", "login": {"username": "a", "password": "b"},
                       "tls": {"server_name": BOX, "authority": "/ca.pem"}},
        "alertmanager": {"url": "http://127.0.0.1:9093", "login": {"username": "a", "password": "b"}}}
    both = {"prometheus": None, "alertmanager": None}
    assert model.servers(GPU, both) == {}
    assert site({"prometheus_state": "absent"}).servers(BOX, both) == {"alertmanager": {"url": "http://127.0.0.1:9093"}}


def test_a_name_has_one_type_in_the_whole_site():
    both = site(services(main={"type": "ollama"}), {**REACHABLE, **services(main={"type": "gpu"})})
    (problem,) = both._ambiguous(BOX)
    assert str(problem) == ("monitored_services.main: this name is that of a service of type gpu on "
                            f"{GPU}: give one of the two another name")
    assert problem in both.problems(BOX)
    assert site(services(ollama={}), {**REACHABLE, **services(ollama={})})._ambiguous(BOX) == []


def test_what_dashboards_can_show():
    assert site(services(ollama={})).available(BOX) >= {"host", "ollama", "prometheus"}
    assert "energy" not in site({"observability_energy_and_cost": {"tariff_per_kwh": 0.3}}).available(BOX)
    assert "energy" in site({"observability_energy_and_cost": {"tariff_per_kwh": 0.3, "host_watts": 90}}).available(BOX)


@pytest.mark.parametrize(("variables", "url"), [
    ({}, "http://127.0.0.1:9090"), ({"prometheus_listen_address": "0.0.0.0:80"}, "http://monitor.lan:80"),
    ({"prometheus_listen_address": "192.0.2.1:80"}, "http://192.0.2.1:80"),
    ({"prometheus_external_url": "https://p.example.org/x/"}, "https://p.example.org/x"),
    ({"prometheus_web_tls": {"certificate": "/c"}}, "https://127.0.0.1:9090"),
])
def test_web_url(variables, url):
    assert site(variables).web_url("prometheus") == url


def test_types_in_use():
    model = site({}, {**REACHABLE, **services(x={"type": "ollama"})})
    assert model.types() == ["alertmanager", "host", "ollama", "prometheus"]
    assert "ollama" not in site().types()


def test_names_by_type():
    model = site(services(b={"type": "ollama"}, ollama={}), {**REACHABLE, **services(ollama={}, a={"type": "ollama"})})
    assert model.services_by_type()["ollama"] == ["a", "b", "ollama"]
    assert model.services_by_type()["host"] == ["host"]


# -- services without a component of ours, and probes ------------------------------------------------------------


PROBED = {
    **MIXINS,
    "prometheus": {**MIXINS["prometheus"], "probes": {
        "health": {"module": "http_2xx", "target": "{url}/-/ready", "from": "host"}}},
    "ollama": {**MIXINS["ollama"], "probes": {
        "health": {"module": "http_2xx", "target": "{url}/api/version", "from": "host", "unless": "api_key"}},
        "options": {**MIXINS["ollama"]["options"], "api_key": {"type": "str"}}},
    "blackbox": {"job": "blackbox", "role": "blackbox_exporter", "placement": "probes", "default_port": 9115,
                 "path": "/metrics"},
    "keycloak": {"job": "keycloak", "placement": "monitored_services", "metrics_url": "{management_url}/metrics",
                 "probes": {"health": {"module": "http_2xx", "target": "{management_url}/health", "from": "host"},
                            "realm": {"module": "http_2xx", "target": "{url}/realms/{realm}", "from": "host"}},
                 "options": {"url": {"type": "str", "default": "http://127.0.0.1:8080"},
                             "management_url": {"type": "str", "default": "http://127.0.0.1:9000"},
                             "realm": {"type": "str", "default": "master"}}},
    "redis": {"placement": "monitored_services",
              "probes": {"health": {"module": "redis_ping", "target": "{address}", "from": "host"}},
              "options": {"address": {"type": "str", "default": "127.0.0.1:6379"}}},
}


def probed(box=None, gpu=None):
    variables = {BOX: box or {}, GPU: gpu or {}}
    return Site({"observability": [BOX], "monitored": [GPU] if gpu is not None else []}, variables.__getitem__, PROBED)


def probes(model):
    """{(instance, service, probe): (who asks, module, target)} as Prometheus is told."""
    found = {}
    for config in model.scrape_configs(BOX):
        for static in config["static_configs"] if config["job_name"].startswith("probe") else ():
            labels = static["labels"]
            assert config["metrics_path"] == "/probe" and labels["__param_target"] == labels["target"]
            found[labels["instance"], labels["service"], labels["probe"]] = (
                static["targets"][0], labels["__param_module"], labels["target"])
    return found


HERE = "127.0.0.1:9115"
READY = (HERE, "http_2xx", "http://127.0.0.1:9090/-/ready")


def test_who_is_probed_is_asked_from_its_own_host():
    model = probed(services(cache={"type": "redis", "address": "127.0.0.1:7000"}))
    assert probes(model) == {(BOX, "prometheus", "health"): READY,
                             (BOX, "cache", "health"): (HERE, "redis_ping", "127.0.0.1:7000")}
    (static,) = [static for config in model.scrape_configs(BOX) for static in config["static_configs"]
                 if static["labels"]["service"] == "cache"]
    assert static["labels"]["type"] == "redis"  # and no other job has it
    assert model.roles(BOX) == ["alertmanager", "blackbox_exporter", "node_exporter", "prometheus"]
    assert model.problems(BOX) == []


def test_the_blackbox_exporter_is_where_something_is_probed_from():
    there = {"node_exporter_listen_address": ":9100", "blackbox_exporter_listen_address": ":9116", **services(redis={})}
    model = probed({}, there)
    assert "blackbox_exporter" in model.roles(GPU)
    assert probes(model)[GPU, "redis", "health"] == ("gpu1.lan:9116", "redis_ping", "127.0.0.1:6379")
    assert targets(model)[("blackbox", GPU, "blackbox")] == ["gpu1.lan:9116"]
    assert model.silence(BOX, "blackbox")["matchers"] == {"instance": BOX, "service": "blackbox"}
    assert "blackbox_exporter" not in probed({}, {"node_exporter_listen_address": ":9100"}).roles(GPU)
    without = Site({"observability": [BOX]}, lambda host: services(ollama={}), MIXINS)
    assert without.probes() == [] and without.blackbox(BOX) == {}


def test_metrics_of_its_own_are_scraped_as_they_are():
    model = probed(services(keycloak={"management_url": "http://127.0.0.1:9000/"}))
    assert targets(model)[("keycloak", BOX, "keycloak")] == ["127.0.0.1:9000"]
    assert [service.component for service in model.services(BOX, "keycloak")] == [""]
    assert {key[2]: probe[2] for key, probe in probes(model).items() if key[1] == "keycloak"} == {
        "health": "http://127.0.0.1:9000/health", "realm": "http://127.0.0.1:8080/realms/master"}
    adopted = probed(services(keycloak={"exporter_url": "http://127.0.0.1:1/m"}))
    assert targets(adopted)[("keycloak", BOX, "keycloak")] == ["127.0.0.1:1"]


def test_an_empty_option_does_without():
    model = probed(services(keycloak={"management_url": ""}))
    assert not [key for key in targets(model) if key[0] == "keycloak"]
    assert [key[2] for key in probes(model) if key[1] == "keycloak"] == ["realm"]


def test_a_probe_that_would_need_a_key_is_left_out():
    assert (BOX, "ollama", "health") in probes(probed(services(ollama={})))
    assert (BOX, "ollama", "health") not in probes(probed(services(ollama={"api_key": "x"})))


def test_adding_probes_asks_nothing_new_of_a_host_that_has_metrics():
    gpu = {**REACHABLE, **services(ollama={})}
    model = probed({}, gpu)
    assert model.problems(GPU) == [] and model.roles(GPU) == ["node_exporter", "ollama_exporter"]
    assert not [key for key in probes(model) if key[0] == GPU]
    # With an address of its own there, the exporter comes and asks.
    model = probed({}, {**gpu, "blackbox_exporter_listen_address": "192.0.2.21:9115"})
    assert probes(model)[GPU, "ollama", "health"] == (
        "192.0.2.21:9115", "http_2xx", "http://127.0.0.1:11434/api/version")


def test_a_service_that_has_only_probes_needs_them():
    model = probed({}, {**REACHABLE, **services(redis={}, ollama={}, cache={"type": "redis"})})
    (problem,) = model.problems(GPU)
    assert problem.name == "blackbox_exporter_listen_address"
    for words in ("127.0.0.1:9115", "monitor.lan can't reach", "probes of cache, redis", "192.0.2.10:9115"):
        assert words in problem.text
    with pytest.raises(ModelError, match="blackbox_exporter_listen_address"):
        model.scrape_configs(BOX)
    # Keycloak without metrics is one of them.
    model = probed({}, {**REACHABLE, **services(keycloak={"management_url": ""})})
    assert [problem.name for problem in model.problems(GPU)] == ["blackbox_exporter_listen_address"]


def test_metrics_that_only_their_own_host_reaches_are_refused():
    (problem,) = probed({}, {**REACHABLE, **services(kc={"type": "keycloak"})}).problems(GPU)
    assert problem.name == "monitored_services.kc.management_url"
    assert "loopback address of gpu1.lan" in problem.text and 'write ""' in problem.text
    there = {**REACHABLE, **services(keycloak={"management_url": "http://192.0.2.21:9000"})}
    assert targets(probed({}, there))[("keycloak", GPU, "keycloak")] == ["192.0.2.21:9000"]


def test_front_doors_are_asked_from_the_observability_host():
    model = probed({"prometheus_external_url": "https://p.example.org/x"},
                   {**REACHABLE, **services(ollama={"front_door": "https://chat.example.org"})})
    assert probes(model) == {
        (BOX, "prometheus", "health"): READY,
        (BOX, "prometheus", "front_door"): (HERE, "front_door", "https://p.example.org/x"),
        (GPU, "ollama", "front_door"): (HERE, "front_door", "https://chat.example.org")}
    off = probed({"prometheus_external_url": "https://p.example.org", "blackbox_exporter_front_doors": "false"})
    assert list(probes(off)) == [(BOX, "prometheus", "health")]


def test_a_front_door_that_nobody_else_can_open_is_refused():
    (problem,) = probed({}, {**REACHABLE, **services(ollama={"front_door": "http://localhost:3000"})}).problems(GPU)
    assert problem.name == "monitored_services.ollama.front_door"
    assert "loopback address of gpu1.lan" in problem.text and "monitor.lan probes it" in problem.text


def test_what_is_absent_is_not_probed():
    assert probes(probed({"prometheus_state": "absent"})) == {}
    model = probed({**services(ollama={}), "blackbox_exporter_state": "absent"})
    assert probes(model) == {} and not [key for key in targets(model) if key[0] == "blackbox"]
    assert "blackbox_exporter" in model.roles(BOX)  # the role is what removes it
    assert probed({}, {**services(redis={}), "blackbox_exporter_state": "absent",
                       "node_exporter_listen_address": ":9100"}).problems(GPU) == []


def test_a_probe_logs_in_where_it_must():
    assert probed().blackbox(BOX) == {"modules": {}, "login": False, "authority": ""}
    own = {"prometheus_external_url": "https://monitor.lan:9090",
           "prometheus_web_tls": {"certificate": "/c", "key": "/k", "authority": "/ca.pem"}}
    assert probed(own).blackbox(BOX)["authority"] == "/ca.pem"
    assert probed({}, REACHABLE).blackbox(GPU) == {}
    tls = {"certificate": "/c.pem", "key": "/k.pem", "authority": "/ca.pem"}
    model = probed({**LOGIN, "prometheus_web_tls": tls, "blackbox_exporter_web_tls": tls})
    assert probes(model) == {(BOX, "prometheus", "health"): (
        HERE, "prometheus", "https://127.0.0.1:9090/-/ready")}
    assert model.blackbox(BOX) == {"login": True, "authority": "", "modules": {"prometheus": {
        "tls_config": {"ca_file": "/ca.pem", "server_name": BOX}, "basic_auth": {
            "username": "admin", "password_file": "/run/credentials/blackbox_exporter.service/web_password"}}}}
    # And Prometheus speaks TLS to the exporter, for its metrics and for every probe.
    for config in model.scrape_configs(BOX):
        if config["job_name"] in ("blackbox", "probe"):
            assert config["scheme"] == "https"
            assert config["tls_config"] == {"ca_file": "/ca.pem", "server_name": BOX}
            assert "basic_auth" not in config


def test_values_for_rules_and_dashboards():
    model = probed({"observability_thresholds": {"cpu_percent": 1}, "observability_runbook_url": "https://wiki",
                    "observability_energy_and_cost": {"host_watts": 3},
                    **services(b={"type": "redis"}, a={"type": "redis"})})
    assert model.values(BOX) == {
        "thresholds": {"cpu_percent": 1}, "runbook_url": "https://wiki", "energy": {"host_watts": 3},
        "prometheus_url": "http://127.0.0.1:9090", "services": model.services_by_type()}
    assert model.values(BOX)["services"]["redis"] == ["a", "b"]
    with_grafana = Site({"observability": [BOX]}, lambda host: {"grafana_external_url": "https://g.example.org/"}, {
        **PROBED, "grafana": {"job": "grafana", "role": "grafana", "placement": "observability", "default_port": 3000,
                              "path": "/metrics"}})
    assert with_grafana.values(BOX)["grafana_url"] == "https://g.example.org"
    assert probed({"prometheus_state": "absent"}).web_url("prometheus") == ""


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entries", "name", "words"), [
    ({"olama": {}}, "olama", "'olama' is not a type of service; did you mean ollama?; an entry with a name of its own"),
    ({"zzz": {}}, "zzz", "the types are gpu, keycloak, n8n, ollama, redis; an entry with a name of its own"),
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
    ({"ollama": {"container": ["ollama"]}}, "ollama.container", "expected a string"),
    ({"ollama": {"units": "ollama.service"}}, "ollama.units", "expected a list of strings"),
    ({"ollama": {"log_files": ["ollama.log"]}}, "ollama.log_files[0]", "an absolute path"),
    ({"ollama": {"log_files": ["/home/me/ollama.log"]}}, "ollama.log_files[0]", "closed to the shipper"),
    ({"prometheus": {}}, "prometheus", "is watched without an entry"),
    ({"web": {"type": "host"}}, "web", "is watched without an entry"),
    ({"host": {"type": "ollama"}}, "host", "belongs to the service host"),
    ({"alertmanager": {"type": "ollama"}}, "alertmanager", "belongs to the service alertmanager"),
    ({"blackbox": {}}, "blackbox", "is watched without an entry"),
    ({"blackbox": {"type": "ollama"}}, "blackbox", "belongs to the service blackbox"),
    ({"redis": {"exporter_url": "http://a:1"}}, "redis.exporter_url", "no such option; the options are address,"),
    ({"keycloak": {"exporter_listen_address": "a:1"}}, "keycloak.exporter_listen_address", "there is no such option"),
    ({"redis": {"address": "6379"}}, "redis.address", "expected host:port, for example 127.0.0.1:5432"),
    ({"redis": {"address": ""}}, "redis", "nothing would tell of this service"),
    ({"redis": {"front_door": "chat.example.org"}}, "redis.front_door", "expected an http or https address"),
    ({"redis": {"front_door": "https://me:pw@a.example.org"}}, "redis.front_door", "without a log-in"),
    ({"host": {"front_door": "https://a.example.org"}}, "host.front_door", "there is no such option"),
])
def test_entries_that_cannot_be(entries, name, words):
    model = probed({"monitored_services": entries})
    problems = model.problems(BOX)
    assert [problem.name for problem in problems][:1] == [f"monitored_services.{name}"]
    assert words in problems[0].text
    with pytest.raises(ModelError):
        model.scrape_configs(BOX)
    assert {service.name for service in model.derive(BOX)[0]} >= {"prometheus", "alertmanager"}  # the rest is known


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
    assert {"node", "prometheus", "alertmanager", "ollama", "blackbox", "probe"} <= jobs


@pytest.mark.parametrize("kind", sorted(set(Mixins().names())))
def test_every_real_type_of_service_is_watched_as_it_is(kind):
    """With the defaults, or with the one option that a type needs."""
    mixins = Mixins()
    scrapes = {name: mixins.scrape(name) for name in mixins.names()}
    given = {"website": {"url": "https://www.example.org"}}.get(kind, {})
    entries = {"monitored_services": services(**{kind: given}), "log_shipper": {"log_shipper": kind}}
    model = Site({"observability": [BOX]}, lambda host: entries.get(scrapes[kind]["placement"], {}), scrapes)
    assert model.problems(BOX) == []
    assert [static for config in model.scrape_configs(BOX) for static in config["static_configs"]
            if static["labels"]["service"] == kind]
