# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every role keeps: its shape, a spec in step with its defaults, and a declaration that the component's own
checkers accept. No host is needed: a role's one task is templated as Ansible would."""

import json
import os
import re
import subprocess
import sys
import tarfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible.utils.collection_loader import AnsibleCollectionConfig

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".collections"
ROLES = sorted(path.parent.parent.name for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
# The shared variables, Grafana's client in Keycloak and what is said to Docker are no components.
COMPONENTS = [role for role in ROLES if role not in ("observability", "keycloak_client", "docker_logging")]
EACH_ROLE = pytest.mark.parametrize("role", ROLES)
EACH_COMPONENT = pytest.mark.parametrize("role", COMPONENTS)

COMMON = {"version", "release", "listen_address", "extra_args", "extra_files", "state", "purge_data", "adopt"}
MODULE = "aistack.observability.component"
HOST = "monitor.lan"
EMAIL = {"to": ["me@example.org", "you@example.org"], "from": "site@example.org", "smarthost": "mail.example.org:587"}
EVERY_RECEIVER = {
    "email": EMAIL | {"username": "site", "password": "secret-mail", "tls": "implicit", "hello": "monitor.lan"},
    "slack": {"webhook_url": "https://hooks.slack.example.org/secret-slack", "channel": "#alerts"},
    "discord": {"webhook_url": "https://discord.example.org/api/webhooks/1/secret-discord"},
    "webhooks": [{"name": "pager", "url": "https://pager.example.org/secret-pager", "send_resolved": False}],
    "watchdog": {"url": "https://watch.example.org/secret-watchdog"},
}


def load(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def options(role):
    return load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]


@pytest.fixture(scope="module")
def loader():
    if not AnsibleCollectionConfig.collection_finder:
        init_plugin_loader([str(COLLECTIONS)])
    return DataLoader()


@pytest.fixture
def variables(loader, tmp_path):
    """variables(role, …): what a role sees on a host, with its defaults, before its task is templated."""
    def of(role, **given):
        folder = ROOT / "roles" / role
        own = loader.load_from_file(str(folder / "defaults/main.yml"), trusted_as_template=True)
        own = own | {"inventory_hostname": HOST, "groups": {"observability": [HOST], "monitored": []},
                     "role_path": str(folder), "ansible_search_path": [str(folder)], "inventory_dir": str(tmp_path),
                     "ansible_check_mode": False} | given
        return own | {"hostvars": {HOST: own}}
    return of


@pytest.fixture
def declared(loader, variables):
    """declared(role, …): the arguments of the role's component task; one for each item of its loop."""
    def of(role, **given):
        tasks = loader.load_from_file(str(ROOT / "roles" / role / "tasks/main.yml"), trusted_as_template=True)
        task = next(task for task in tasks if "name" in task.get(MODULE, {}))
        own = variables(role, **given)
        items = Templar(loader=loader, variables=own).template(task.get("loop", [None]))
        return [Templar(loader=loader, variables=own | task["vars"] | {
            task.get("loop_control", {}).get("loop_var", "item"): item}).template(task[MODULE]) for item in items]
    return of


@pytest.fixture(scope="session")
def tool(tmp_path_factory):
    """tool("alertmanager", "amtool"): a program out of the test servers' archives, or the one that $AMTOOL names."""
    def find(archive, program):
        if named := os.environ.get(program.upper()):
            return named
        cache = Path(os.environ.get("AISTACK_CACHE") or Path.home() / ".cache/aistack-observability")
        archives = sorted((cache / "mirror").glob(f"{archive}-*.tar.gz"))
        if not archives:
            pytest.fail(f"there is no {program}: run `make servers`, or name one with {program.upper()}=/path")
        with tarfile.open(archives[-1]) as tar:
            member = next(member for member in tar if member.name.endswith(f"/{program}"))
            target = tmp_path_factory.mktemp(program) / program
            target.write_bytes(tar.extractfile(member).read())
        target.chmod(0o755)
        return str(target)
    return find


def place(files, folder):
    """Write a declaration's files below *folder*; what they say of each other's paths follows."""
    def moved(text):
        return re.sub(r"(?<![\w/])/(etc|run/credentials)/", rf"{folder}/\1/", text)
    for item in files:
        path = folder / (item.get("path") or f"run/credentials/x/{item['credential']}").lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(moved(item["content"]), encoding="utf-8")
    # Credentials lie below the name of the component, which their files don't say.
    for item in files:
        for wanted in re.findall(r"/run/credentials/[\w@.-]+/\w+", item["content"]):
            path = folder / wanted.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("secret", encoding="utf-8")
    return moved


def judge(tool, declaration, archive, folder):
    """Run the declaration's own checkers over its files. Returns what they said, by their names."""
    moved = place(declaration["files"], folder)
    said = {}
    for check in declaration["validate"]:
        program, *arguments = check["argv"]
        argv = [tool(archive, program.removeprefix("{program}/"))] + [moved(item) for item in arguments]
        argv = [re.sub(r"=/etc/", f"={folder}/etc/", item) for item in argv]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{check['name']}: {done.stdout}{done.stderr}"
        said[check["name"]] = done.stdout
    return said


def content(declaration, path):
    return next(item["content"] for item in declaration["files"] if item.get("path") == path)


# -- shape -------------------------------------------------------------------------------------------------------------

@EACH_COMPONENT
def test_a_role_is_a_declaration(role):
    folder = ROOT / "roles" / role
    assert {path.name for path in folder.iterdir()} <= {"README.md", "defaults", "files", "meta", "tasks", "templates"}
    assert [path.name for path in (folder / "tasks").iterdir()] == ["main.yml"]
    tasks = load(f"roles/{role}/tasks/main.yml")
    assert MODULE in tasks[0]
    assert not [task for task in tasks if {"include_tasks", "import_tasks", "notify", "block"} & set(task)]


@EACH_COMPONENT
def test_every_role_takes_the_common_variables(role):
    assert COMMON <= {name.removeprefix(f"{role}_") for name in options(role)}
    assert not [name for name in options(role) if not name.startswith(f"{role}_")]


@EACH_ROLE
def test_the_spec_and_the_defaults_name_the_same_variables(role):
    # The inventory's own words are described by a role and belong to none.
    words = {"monitored_services", "log_shipper", "log_sources"}
    assert set(options(role)) - words == set(load(f"roles/{role}/defaults/main.yml"))


@EACH_ROLE
def test_a_default_is_the_same_in_both_places(role):
    for name, value in load(f"roles/{role}/defaults/main.yml").items():
        if "default" in options(role)[name]:
            assert options(role)[name]["default"] == value, name


@EACH_ROLE
def test_the_defaults_have_the_types_of_the_spec(role, loader, variables):
    own = variables(role)
    names = {name: option for name, option in options(role).items() if name in own}
    values = {name: Templar(loader=loader, variables=own).template(own[name]) for name in names}
    # An empty mapping means "not set", and lacks what a set one needs.
    result = ArgumentSpecValidator(_types_only(names)).validate(
        {name: value for name, value in values.items() if value != {}})
    assert result.error_messages == []
    # The validator converts where it can; a default needs no conversion.
    kinds = {"str": str, "bool": bool, "int": int, "list": list, "dict": dict, "path": str}
    for name, value in values.items():
        assert isinstance(value, kinds[names[name].get("type", "str")]), name


def _types_only(names):
    known = ("type", "elements", "choices", "required")
    return {name: {key: value for key, value in option.items() if key in known} |
            ({"options": _types_only(option["options"])} if "options" in option else {})
            for name, option in names.items()}


@EACH_ROLE
def test_every_option_is_described_and_typed(role):
    def check(names, where):
        for name, option in names.items():
            assert option.get("type"), f"{where}{name} has no type"
            text = " ".join(option["description"])
            assert len(text) > 5 and text.rstrip().endswith("."), f"{where}{name}: {text!r}"
            if option["type"] == "list":
                assert option.get("elements"), f"{where}{name} doesn't say of what it is a list"
            check(option.get("options", {}), f"{where}{name}.")
    check(options(role), "")


@pytest.mark.parametrize("role", [role for role in ROLES if role != "observability"])
def test_a_tag_selects_one_role_and_preflight(role, tmp_path):
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"observability": {"hosts": {HOST: {}}}, "monitored": {}}), encoding="utf-8")
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, ROOT / "site.yml", "--list-tasks", "--tags",
         role], cwd=ROOT, capture_output=True, text=True, check=True)
    tasks = re.findall(r"^      (.*?)\s+TAGS: ", done.stdout, re.MULTILINE)
    own = [task["name"] for entry in load(f"roles/{role}/tasks/main.yml") for task in entry.get("block", [entry])]
    preflight = [task["name"] for task in load("roles/observability/tasks/main.yml")]
    assert tasks == ([f"aistack.observability.observability : {name}" for name in preflight]
                     + [f"aistack.observability.{role} : {name}" for name in own])


# -- declarations ------------------------------------------------------------------------------------------------------

CASES = {
    "prometheus": [{}, {
        "prometheus_remote_write": [{"url": "https://metrics.example.org/push",
                                     "basic_auth": {"username": "site", "password": "secret-push"}}],
        "prometheus_extra_scrape_configs": [{"job_name": "other", "authorization": {"credentials": "secret-token"},
                                             "static_configs": [{"targets": ["192.0.2.1:80"]}]}],
        "prometheus_extra_rule_groups": [{"name": "own", "rules": [{"record": "one", "expr": "vector(1)"}]}],
        "prometheus_external_labels": {"site": "home"}, "prometheus_retention_size": "50GB",
        "prometheus_scrape_timeout": "5s", "prometheus_memory_max": "4G",
        "prometheus_external_url": "https://monitor.example.org/prometheus",
    }],
    "alertmanager": [{}, {
        "observability_notifications": EVERY_RECEIVER,
        "alertmanager_extra_receivers": [{"name": "night", "pushover_configs": [
            {"user_key": "secret-user", "token": "secret-app"}]}],
        "alertmanager_extra_routes": [{"matchers": ['service="ollama"'], "receiver": "night",
                                       "active_time_intervals": ["night"]}],
        "alertmanager_extra_inhibit_rules": [{
            "source_matchers": ['alertname="A"'], "target_matchers": ['alertname="B"'], "equal": ["instance"]}],
        "alertmanager_time_intervals": [{"name": "night", "time_intervals": [
            {"times": [{"start_time": "22:00", "end_time": "24:00"}]}]}],
    }],
    "node_exporter": [{}, {"node_exporter_collectors_enabled": ["systemd"],
                           "node_exporter_collectors_disabled": ["wifi", "timex"]}],
    "ollama_exporter": [{"monitored_services": {"ollama": {}, "second": {"type": "ollama"}}}],
    "blackbox_exporter": [{}, {"blackbox_exporter_extra_modules": {"other": {
        "prober": "http", "http": {"basic_auth": {"username": "site", "password": "secret-probe"}}}}}],
    "loki": [{}, {
        "observability_web_login": {"username": "admin", "password": "secret-login"},
        "loki_s3": {"endpoint": "https://s3.example.org", "bucket": "logs", "access_key": "AKEXAMPLE",
                    "secret_key": "secret-s3"}}],
    "alloy": [{}, {"alloy_extra_config": "// nothing\n", "alloy_memory_max": "1G"}],
    "promtail": [{"log_shipper": "promtail"}, {
        "log_shipper": "promtail", "promtail_memory_max": "1G", "promtail_extra_config": {"clients": [{
            "url": "https://logs.example.org/push", "basic_auth": {"username": "a", "password": "secret-push"}}]}}],
    "grafana": [{"grafana_admin_password": "secret-admin", "grafana_secret_key": "secret-key"}, {
        "grafana_admin_password": "secret-admin", "grafana_secret_key": "secret-key",
        "observability_notifications": EVERY_RECEIVER, "grafana_alert_delivery": "contact_points",
        "observability_single_sign_on": {"url": "https://id.example.org", "realm": "home",
                                         "client_secret": "secret-client"},
        "grafana_extra_data_sources": [{"name": "Other", "type": "loki", "uid": "other", "url": "http://192.0.2.1:3100",
                                        "secureJsonData": {"basicAuthPassword": "secret-source"}}],
    }],
}
EACH_CASE = pytest.mark.parametrize(
    ("role", "given"), [(role, given) for role, cases in CASES.items() for given in cases],
    ids=[f"{role}-{number}" for role, cases in CASES.items() for number, _given in enumerate(cases)])


def test_every_component_role_has_a_case():
    assert sorted(CASES) == COMPONENTS


@EACH_CASE
def test_the_module_knows_every_word_of_the_declaration(role, given, declared):
    text = (ROOT / "plugins/modules/component.py").read_text(encoding="utf-8")
    known = yaml.safe_load(re.search(r'DOCUMENTATION = r"""(.*?)"""', text, re.DOTALL).group(1))["options"]

    def check(value, names, where):
        assert set(value) <= set(names), f"{where}: {set(value) - set(names)}"
        for name, item in value.items():
            for part in item if isinstance(item, list) else [item]:
                if "suboptions" in names[name] and isinstance(part, dict):
                    check(part, names[name]["suboptions"], f"{where}.{name}")
    for declaration in declared(role, **given):
        check(declaration, known, role)


@EACH_CASE
def test_no_secret_stands_outside_of_secret_files(role, given, declared):
    for declaration in declared(role, **given):
        secrets = {item["credential"] for item in declaration.get("files", []) if "credential" in item}
        open_part = dict(declaration, files=[item for item in declaration.get("files", [])
                                             if not item.get("secret") and "credential" not in item])
        open_part.pop("answers"), open_part.pop("silence")
        assert "secret-" not in json.dumps(open_part)
        assert bool(secrets) == ("secret-" in json.dumps(given)), "the case lost its secrets"


@EACH_CASE
def test_a_healthy_component_answers_a_real_question(role, given, declared):
    for declaration in declared(role, **given):
        assert any(question.get("matches") for question in declaration["answers"]["questions"])


@pytest.mark.parametrize("given", CASES["prometheus"])
def test_promtool_accepts_prometheus(given, declared, tool, tmp_path):
    (declaration,) = declared("prometheus", **given)
    said = judge(tool, declaration, "prometheus", tmp_path)["promtool check config"]
    assert "rules found" in said  # it has looked into the rule files
    assert not re.search(r"\b0 rules found", said)


@pytest.mark.parametrize("given", [{}, {"blackbox_exporter_icmp": True, "observability_web_login": {
    "username": "admin", "password": "secret-web"}}])
def test_the_blackbox_exporter_accepts_its_modules(given, declared, tool, tmp_path):
    (declaration,) = declared("blackbox_exporter", **given)
    judge(tool, declaration, "blackbox_exporter", tmp_path)
    modules = json.loads(content(declaration, "/etc/blackbox_exporter/blackbox.yml"))["modules"]
    assert {"http_2xx", "front_door", "tcp_connect", "redis_ping"} <= set(modules)
    assert "insecure_skip_verify" not in json.dumps(modules["front_door"]), "certificates are not looked at"
    capability = declaration["unit"]["service"]["AmbientCapabilities"]
    assert ("icmp" in modules) == (capability == "CAP_NET_RAW") == bool(given)
    # Behind the web log-in it is asked with the password, which is a credential.
    assert ("prometheus" in modules) == any(item.get("credential") == "web_password" for item in declaration["files"])
    assert ("prometheus" in modules) == bool(given)


def test_where_nothing_is_probed_the_blackbox_exporter_goes(declared):
    (declaration,) = declared("blackbox_exporter", groups={"observability": [], "monitored": [HOST]})
    assert declaration["state"] == "absent"


def test_retention_is_in_the_file_or_in_flags(declared):
    given = {"observability_retention": {"metrics": "90d", "metrics_size": "50GB"}}
    (new,) = declared("prometheus", **given)
    (old,) = declared("prometheus", prometheus_version="3.5.4", **given)
    flags = ["--storage.tsdb.retention.time=90d", "--storage.tsdb.retention.size=50GB"]
    in_file = {"tsdb": {"retention": {"time": "90d", "size": "50GB"}}}
    path = "/etc/prometheus/prometheus.yml"
    assert json.loads(content(new, path))["storage"] == in_file and not set(flags) & set(new["unit"]["exec"])
    assert "storage" not in json.loads(content(old, path)) and set(flags) <= set(old["unit"]["exec"])


def test_tls_is_asked_for_by_everybody(declared):
    tls = {"certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/a.key", "authority": "/etc/ssl/ca.pem"}
    for role in ("prometheus", "alertmanager", "node_exporter", "blackbox_exporter"):
        (declaration,) = declared(role, **{f"{role}_web_tls": tls})
        assert f"--web.config.file=/etc/{role}/web.yml" in declaration["unit"]["exec"]
        assert json.loads(content(declaration, f"/etc/{role}/web.yml")) == {
            "tls_server_config": {"cert_file": "/etc/ssl/a.pem", "key_file": "/etc/ssl/a.key"}}
        assert all(question["url"].startswith("https://") for question in declaration["answers"]["questions"])
        assert declaration["answers"]["tls"] == {"authority": "/etc/ssl/ca.pem", "server_name": HOST}
        # A listener doesn't learn TLS by a reload.
        assert not any(fnmatch(f"/etc/{role}/web.yml", pattern)
                       for pattern in declaration.get("apply", {}).get("reload_paths", []))
        assert declaration["watches"] == ["/etc/ssl/a.pem", "/etc/ssl/a.key"]


def test_the_exporters_that_left_are_removed(loader, variables):
    tasks = loader.load_from_file(str(ROOT / "roles/ollama_exporter/tasks/main.yml"), trusted_as_template=True)

    def stay(**given):
        own = variables("ollama_exporter", monitored_services={"ollama": {}, "big": {"type": "ollama"}}, **given)
        return Templar(loader=loader, variables=own).template(tasks[0][MODULE])["except_names"]
    assert stay() == ["ollama_exporter@big", "ollama_exporter"]
    assert stay(ollama_exporter_state="absent") == []
    # A renamed server's exporter takes the port of the old one, which must be free by then.
    assert "name" in tasks[1][MODULE]


# -- alerts find their way ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("given", CASES["alertmanager"])
def test_amtool_accepts_alertmanager_and_its_messages(given, declared, tool, tmp_path):
    (declaration,) = declared("alertmanager", **given)
    said = judge(tool, declaration, "alertmanager", tmp_path)
    assert said["text of a firing alert"].startswith("[FIRING] ServiceDown ollama, open-webui on gpu1.example.org")
    resolved = said["text of a resolved alert"]
    assert resolved.startswith("[RESOLVED] ServiceDown ollama, open-webui on gpu1.example.org")
    assert "Lasted:    1h 44m 58s" in resolved
    assert "Since:     Sat 31 Jan 2026, 22:15:00 UTC to Sat 31 Jan 2026, 23:59:58 UTC" in resolved
    for name in ("mail of a firing alert", "mail of a resolved alert"):
        assert 'href="https://runbooks.example.org/prometheus.md#servicedown"' in said[name]
        assert "&lt;People&gt; &amp; programs" in said[name]
        assert "ZgotmplZ" not in said[name]  # what Go writes in place of a value that it finds unsafe
    assert "#cf222e" not in said["mail of a resolved alert"]  # no red: it looks resolved
    assert "Lasted" not in said["mail of a firing alert"]


def test_many_services_fit_a_subject(declared, tool, tmp_path):
    (declaration,) = declared("alertmanager")
    path = "/etc/alertmanager/samples/firing.json"
    sample = next(item for item in declaration["files"] if item.get("path") == path)
    data = json.loads(sample["content"])
    one = data["alerts"][0]
    # Two alerts of each: a service is counted once.
    data["alerts"] = [one | {"labels": one["labels"] | {"service": f"service-{number % 50:02}"}}
                      for number in range(100)]
    sample["content"] = json.dumps(data)
    subject = judge(tool, declaration, "alertmanager", tmp_path)["text of a firing alert"].split("FIRING:")[0]
    assert subject == ("[FIRING] ServiceDown service-00, service-01, service-02, service-03, service-04, service-05 "
                       "and 44 more on gpu1.example.org")


@pytest.mark.parametrize("given", CASES["prometheus"])
def test_a_restart_forgets_no_alert(given, declared):
    """Prometheus takes up an alert where it was only if its `for` is no shorter than this period."""
    (declaration,) = declared("prometheus", **given)
    assert "--rules.alert.for-grace-period=1m" in declaration["unit"]["exec"]


@pytest.mark.parametrize(("labels", "receiver"), [
    ("alertname=ServiceDown severity=critical", "notifications"),
    ("alertname=HostHighCpu severity=warning", "notifications"),
    ("alertname=SomebodysOwn severity=page", "notifications"),
    ("alertname=WithoutSeverity", "notifications"),
    ("alertname=HostRebooted severity=info", "nobody"),
    ("alertname=Other severity=none", "nobody"),
    ("alertname=Watchdog severity=none", "watchdog"),
    ("alertname=ServiceDown severity=critical service=ollama", "night"),
])
def test_every_alert_ends_where_it_belongs(labels, receiver, declared, tool, tmp_path):
    (declaration,) = declared("alertmanager", **CASES["alertmanager"][1])
    place(declaration["files"], tmp_path)
    subprocess.run([tool("alertmanager", "amtool"), "config", "routes", "test", f"--verify.receivers={receiver}",
                    f"--config.file={tmp_path}/etc/alertmanager/alertmanager.yml", *labels.split()],
                   capture_output=True, check=True)


def test_without_receivers_nobody_is_told_and_that_is_said(declared):
    (declaration,) = declared("alertmanager")
    config = json.loads(content(declaration, "/etc/alertmanager/alertmanager.yml"))
    assert config["receivers"] == [{"name": "nobody"}, {"name": "notifications"}]
    assert "smtp_smarthost" not in config["global"]
    warning = load("roles/alertmanager/tasks/main.yml")[-1]
    assert "observability_notifications" in warning["ansible.builtin.debug"]["msg"]


@pytest.mark.parametrize(("run", "skip", "changed", "files", "said"), [
    (["alertmanager"], [], True, {"create": ["/etc/alertmanager/web.yml"], "change": []}, True),
    (["all"], ["prometheus"], True, {"create": [], "remove": ["/etc/alertmanager/web.yml"]}, True),
    (["alertmanager"], [], True, {"create": [], "change": ["/etc/alertmanager/alertmanager.yml"]}, False),
    (["alertmanager"], [], False, {"create": [], "change": []}, False),
    (["alertmanager", "prometheus"], [], True, {"create": ["/etc/alertmanager/web.yml"]}, False),
    (["all"], [], True, {"create": ["/etc/alertmanager/web.yml"]}, False),
])
def test_a_run_that_cuts_prometheus_off_says_so(run, skip, changed, files, said, loader, variables):
    task = loader.load_from_file(str(ROOT / "roles/alertmanager/tasks/main.yml"), trusted_as_template=True)[1]
    own = variables("alertmanager", ansible_run_tags=run, ansible_skip_tags=skip,
                    alertmanager__done={"changed": changed, "plan": {"files": files}})
    assert Templar(loader=loader, variables=own).evaluate_conditional(task["when"]) is said


def test_what_people_write_may_hold_an_emoji(declared):
    receiver = {"name": "fire", "slack_configs": [{"title": "🔥 Feuer für alle", "channel": "#x"}]}
    (declaration,) = declared("alertmanager", alertmanager_extra_receivers=[receiver])
    assert json.loads(content(declaration, "/etc/alertmanager/alertmanager.yml"))["receivers"][-1] == receiver
    (declaration,) = declared("prometheus", prometheus_external_labels={"site": "🏠"})
    assert json.loads(content(declaration, "/etc/prometheus/prometheus.yml"))["global"]["external_labels"] == {
        "site": "🏠"}


@pytest.mark.parametrize(("tls", "require", "implicit"), [
    ("starttls", True, False), ("implicit", False, True), ("none", False, False)])
def test_the_mail_server_is_spoken_to_as_asked(tls, require, implicit, declared):
    (declaration,) = declared("alertmanager", observability_notifications={"email": EMAIL | {"tls": tls}})
    config = json.loads(content(declaration, "/etc/alertmanager/alertmanager.yml"))["global"]
    assert (config["smtp_require_tls"], config["smtp_force_implicit_tls"]) == (require, implicit)


def test_an_inhibition_needs_the_labels_that_it_compares(declared):
    """Alertmanager takes two missing labels for equal."""
    (declaration,) = declared("alertmanager")
    for rule in json.loads(content(declaration, "/etc/alertmanager/alertmanager.yml"))["inhibit_rules"]:
        for label in rule["equal"]:
            assert f'{label}!=""' in rule["source_matchers"]


CPU = {"instance": "gpu1", "service": "host", "problem": "cpu"}
DISK = {"instance": "gpu1", "service": "host", "problem": "disk /dev/sda1"}


@pytest.mark.parametrize(("source", "target", "muted"), [
    ({"alertname": "HostCriticalCpu", "severity": "critical", **CPU},
     {"alertname": "HostHighCpu", "severity": "warning", **CPU}, True),
    ({"alertname": "HostCriticalCpu", "severity": "critical", **CPU},
     {"alertname": "HostHighCpu", "severity": "warning", **CPU, "instance": "gpu2"}, False),
    ({"alertname": "HostDiskSpaceCritical", "severity": "critical", **DISK},
     {"alertname": "HostDiskSpaceLow", "severity": "warning", **DISK}, True),
    ({"alertname": "HostDiskSpaceCritical", "severity": "critical", **DISK},
     {"alertname": "HostDiskWillFill4h", "severity": "critical", **DISK}, True),
    ({"alertname": "HostDiskSpaceCritical", "severity": "critical", **DISK},
     {"alertname": "HostDiskWillFill4h", "severity": "critical", **DISK, "problem": "disk /dev/sdb1"}, False),
    ({"alertname": "HostDiskSpaceLow", "severity": "warning", **DISK},
     {"alertname": "HostDiskWillFill24h", "severity": "warning", **DISK}, True),
    ({"alertname": "HostDiskSpaceLow", "severity": "warning", **DISK},
     {"alertname": "HostDiskWillFill4h", "severity": "critical", **DISK}, False),
    ({"alertname": "HostDiskWillFill4h", "severity": "critical", **DISK},
     {"alertname": "HostDiskSpaceCritical", "severity": "critical", **DISK}, False),
    ({"alertname": "ServiceDown", "severity": "critical", "instance": "gpu1", "service": "host"},
     {"alertname": "HostDiskSpaceCritical", "severity": "critical", **DISK}, True),
    ({"alertname": "ServiceDown", "severity": "critical", "instance": "gpu1", "service": "host"},
     {"alertname": "HostDown", "severity": "critical", "instance": "gpu1", "service": "host"}, False),
    ({"alertname": "ServiceDown", "severity": "critical", "instance": "gpu1", "service": "ollama"},
     {"alertname": "HostDiskSpaceCritical", "severity": "critical", **DISK}, False),
    ({"alertname": "ServiceDown", "severity": "critical", "instance": "gpu2", "service": "host"},
     {"alertname": "HostDiskSpaceCritical", "severity": "critical", **DISK}, False),
    ({"alertname": "HostDown", "severity": "critical", "instance": "gpu1"},
     {"alertname": "ServiceDown", "severity": "critical", "instance": "gpu1", "service": "ollama"}, True),
    ({"alertname": "HostDown", "severity": "critical", "instance": "gpu1"},
     {"alertname": "HostDown", "severity": "critical", "instance": "gpu1"}, False),
    ({"alertname": "HostDown", "severity": "critical", "instance": "gpu1"},
     {"alertname": "ServiceDown", "severity": "critical", "instance": "gpu2", "service": "ollama"}, False),
    ({"alertname": "HostDown", "severity": "critical", "instance": "gpu1"},
     {"alertname": "Watchdog", "severity": "none"}, False),
    ({"alertname": "SomebodysOwn", "severity": "critical"}, {"alertname": "Watchdog", "severity": "none"}, False),
    ({"alertname": "SomebodysOwn", "severity": "critical"}, {"alertname": "Others", "severity": "warning"}, False),
    ({"alertname": "AuthenticationFailures", "severity": "warning", "instance": "gpu1", "service": "keycloak"},
     {"alertname": "KeycloakLoginFailures", "severity": "warning", "instance": "gpu1", "service": "keycloak"}, True),
    ({"alertname": "AuthenticationFailures", "severity": "warning", "instance": "gpu1", "service": "host"},
     {"alertname": "KeycloakLoginFailures", "severity": "warning", "instance": "gpu1", "service": "keycloak"}, False),
    ({"alertname": "KernelOom", "severity": "critical", "instance": "gpu1", "service": "kernel"},
     {"alertname": "HostOomKill", "severity": "warning", "instance": "gpu1", "service": "host"}, True),
    ({"alertname": "HostDown", "severity": "critical", "instance": "gpu1", "service": "host"},
     {"alertname": "ServiceLogSilent", "severity": "warning", "instance": "gpu1", "service": "ollama"}, True),
])
def test_what_mutes_what(source, target, muted, declared):
    (declaration,) = declared("alertmanager")
    rules = json.loads(content(declaration, "/etc/alertmanager/alertmanager.yml"))["inhibit_rules"]

    def matches(matchers, labels):
        for name, sign, value in (re.fullmatch(r'(\w+)([!=][=~]?)"(.*)"', matcher).groups() for matcher in matchers):
            label = labels.get(name, "")
            fits = bool(re.fullmatch(value, label)) if sign.endswith("~") else label == value
            if fits == sign.startswith("!"):
                return False
        return True

    assert muted == any(
        matches(rule["source_matchers"], source) and matches(rule["target_matchers"], target)
        and all(source.get(label) == target.get(label) for label in rule["equal"]) for rule in rules)
