# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana has what the site declares and keeps what people make; what is wrong never takes the running one away."""

import hashlib
import io
import json
import os
import shlex
import shutil
import tarfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SSO = yaml.safe_load((ROOT / "molecule/grafana/host_vars/monitor.yml").read_text(encoding="utf-8"))[
    "observability_single_sign_on"]
MIRROR = Path(os.environ.get("AISTACK_CACHE") or Path.home() / ".cache/aistack-observability") / "mirror"
DECLARED = "/etc/grafana/provisioning"
BY_HAND = {"title": "Made by hand", "uid": "made-by-hand", "panels": []}


@pytest.fixture(scope="session")
def store():
    """The secrets that the run generated."""
    path = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "secrets.yml")
    return lambda: yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def grafana(host, store):
    """grafana("/api/…", body, method="POST"): (status, document) of Grafana's own answer to its admin."""
    def ask(path, body=None, method=None, password=None, headers=()):
        login = f"admin:{password or store()['grafana_admin_password']}"
        argv = ["curl", "-sS", "-g", "--max-time", "20", "-w", r"\n%{http_code}", "-u", login,
                *[word for header in headers for word in ("-H", header)], f"http://127.0.0.1:3000{path}"]
        argv += ["-X", method] if method else []
        argv += ["-H", "Content-Type: application/json", "--data-raw", json.dumps(body)] if body is not None else []
        text, _newline, status = host.run(" ".join(map(shlex.quote, argv))).stdout.rpartition("\n")
        return int(status or 0), json.loads(text) if text.strip().startswith(("{", "[")) else text
    return ask


@pytest.fixture(scope="session")
def declared(host):
    """declared("alerting/rules.yml"): what a provisioning file on the host says."""
    return lambda name: json.loads(host.check_output(f"cat {DECLARED}/{name}"))


@pytest.fixture(scope="session")
def names(grafana):
    """names("/api/datasources", "name"): the names of what Grafana has."""
    def of(address, key):
        status, found = grafana(address)
        assert status == 200, found
        return {item[key] for item in found}
    return of


@pytest.fixture(scope="session")
def by_hand(grafana):
    """What somebody made in Grafana's own pages, of every kind."""
    own = ["X-Disable-Provenance: true"]
    alerting = "/api/v1/provisioning"
    rule = rule_of("by-hand", "By hand") | {"folderUID": "aistack-hand", "ruleGroup": "hand", "orgID": 1,
                                            "noDataState": "OK", "execErrState": "OK"}
    # Where it is found, where it is made, and what.
    things = [
        ("/api/dashboards/uid/made-by-hand", "/api/dashboards/db", {"dashboard": BY_HAND}),
        ("/api/datasources/name/By%20hand", "/api/datasources", {
            "name": "By hand", "type": "prometheus", "access": "proxy", "url": "http://127.0.0.1:9"}),
        ("/api/folders/aistack-hand", "/api/folders", {"uid": "aistack-hand", "title": "By hand"}),
        (f"{alerting}/alert-rules/by-hand", f"{alerting}/alert-rules", rule),
        (f"{alerting}/mute-timings/by%20hand", f"{alerting}/mute-timings", {
            "name": "by hand", "time_intervals": [{"weekdays": ["sunday"]}]}),
        (f"{alerting}/templates/by-hand", f"{alerting}/templates/by-hand", {
            "template": '{{ define "hand" }}x{{ end }}'}),
        (f"{alerting}/contact-points?name=by%20hand", f"{alerting}/contact-points", {
            "uid": "by-hand", "name": "by hand", "type": "email", "settings": {"addresses": "hand@demo.test"}}),
    ]

    def absent():
        answers = {place: grafana(place) for place, _address, _body in things}
        return [place for place, (status, found) in answers.items() if status != 200 or not found]

    missing = absent()
    for place, address, body in things:
        if place in missing:
            status, answer = grafana(address, body, "PUT" if "/templates/" in address else "POST", headers=own)
            assert status in (200, 201, 202), answer

    def check():
        assert absent() == []
    check()
    return check


def rule_of(uid, title):
    return {"uid": uid, "title": title, "condition": "A", "for": "5m", "data": [{
        "refId": "A", "datasourceUid": "prometheus", "relativeTimeRange": {"from": 600, "to": 0},
        "model": {"refId": "A", "expr": "vector(0) > 1", "instant": True}}]}


# -- what is there -----------------------------------------------------------------------------------------------------

def test_it_answers_who_logs_in_and_nobody_else(ask, grafana):
    assert ask(":3000/api/health").json["version"] == "10.0.0"
    assert ask(":3000/api/datasources").status == 401
    assert grafana("/api/datasources", password="admin")[0] == 401
    assert grafana("/api/datasources")[0] == 200


def test_everything_that_is_declared_is_there(host, grafana, declared, names):
    sources = declared("datasources/aistack.yml")["datasources"]
    assert {"Prometheus", "Alertmanager"} <= {item["name"] for item in sources} <= names("/api/datasources", "name")
    for source in sources:
        assert grafana(f"/api/datasources/uid/{source['uid']}")[1]["readOnly"] is True
    files = host.check_output("ls /etc/grafana/dashboards").split()
    uids = {json.loads(host.check_output(f"cat /etc/grafana/dashboards/{name}"))["uid"] for name in files}
    assert {"aistack-host", "aistack-summary", "aistack-ollama"} <= uids <= names("/api/search?type=dash-db", "uid")
    for uid in uids:
        meta = grafana(f"/api/dashboards/uid/{uid}")[1]["meta"]
        assert (meta["provisioned"], meta["folderTitle"]) == (True, "aistack")
    rules = [rule["uid"] for group in declared("alerting/rules.yml")["groups"] for rule in group["rules"]]
    assert "aistack-prometheus-rules-stalled" in rules
    assert set(rules) <= names("/api/v1/provisioning/alert-rules", "uid")
    points = [one for point in declared("alerting/contact_points.yml")["contactPoints"] for one in point["receivers"]]
    assert {"aistack-email"} <= {one["uid"] for one in points} <= names("/api/v1/provisioning/contact-points", "uid")
    assert {one["name"] for one in declared("alerting/mute_timings.yml")["muteTimes"]} <= names(
        "/api/v1/provisioning/mute-timings", "name")
    assert {one["name"] for one in declared("alerting/templates.yml")["templates"]} <= names(
        "/api/v1/provisioning/templates", "name")
    assert grafana("/api/v1/provisioning/policies")[1]["receiver"] == declared(
        "alerting/policies.yml")["policies"][0]["receiver"]


def test_the_data_sources_answer(grafana, eventually):
    question = {"from": "now-5m", "to": "now", "queries": [
        {"refId": "A", "datasource": {"uid": "prometheus"}, "expr": 'up{job="node"}', "instant": True}]}

    def up():
        frames = grafana("/api/ds/query", question)[1]["results"]["A"].get("frames") or []
        return [frame["data"]["values"][1] for frame in frames] == [[1]]
    eventually(up)
    status, answer = grafana("/api/datasources/proxy/uid/alertmanager/api/v2/status")
    assert status == 200
    assert answer["versionInfo"]["version"] == "0.34.1"


def test_a_log_in_begins_at_keycloak_with_pkce(host):
    headers = host.check_output("curl -sS -o /dev/null -D - http://127.0.0.1:3000/login/generic_oauth")
    (place,) = [line.split(" ", 1)[1] for line in headers.splitlines() if line.lower().startswith("location:")]
    assert place.startswith("https://127.0.0.1:8443/realms/home/protocol/openid-connect/auth?")
    assert "code_challenge_method=S256" in place
    assert "offline_access" not in place


def test_a_mail_of_grafanas_own_arrives(ask, grafana, eventually):
    """The mail server insists on TLS, of an authority of its own, and on a log-in."""
    integration = {"name": "mail", "type": "email", "settings": {"addresses": "tried@demo.test"}}
    status, answer = grafana("/api/alertmanager/grafana/config/api/v1/receivers/test", {"receivers": [
        {"name": "mail", "grafana_managed_receiver_configs": [integration]}]})
    assert status in (200, 207), answer
    mails = eventually(lambda: ask("http://127.0.0.1:8025/api/v1/search", query="to:tried@demo.test").json["messages"])
    assert mails[0]["From"]["Address"] == "alerts@demo.test"


def test_the_logs_complain_of_nothing_of_ours(host):
    log = host.check_output("journalctl -u grafana --no-pager -o cat")
    assert "finished to provision alerting" in log
    complaints = [line for line in log.splitlines() if "level=error" in line and "provisioning" in line]
    # 10 looks for a folder of the old alerting, and goes on without.
    assert not [line for line in complaints if "provisioning.notifiers" not in line]


def test_no_secret_stands_where_others_can_read_it(host, store, main_pid):
    secrets = [value for name, value in store().items() if name.startswith("grafana_")]
    assert len(secrets) >= 2
    open_places = host.check_output(
        f"cd /proc/{main_pid('grafana')} && cat cmdline environ | tr '\\0' '\\n'; "
        "journalctl --no-pager -u grafana; find /etc/grafana /etc/systemd/system -type f -exec cat {} +")
    assert "$__file{/run/credentials/grafana.service/admin_password}" in open_places
    assert not [secret for secret in secrets if secret in open_places]
    assert host.check_output("stat -c '%a %U' /etc/grafana /etc/grafana/grafana.ini /var/lib/grafana").split() == [
        "750", "root", "640", "root", "750", "grafana"]
    assert host.run("runuser -u nobody -- cat /var/lib/grafana/grafana.db").rc != 0


# -- changes -----------------------------------------------------------------------------------------------------------

def files_of(folder, **documents):
    for name, document in documents.items():
        text = document if isinstance(document, str) else json.dumps(document)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return [str(folder / f"{name}.json") for name in documents]


def extra(folder):
    """One more of every kind."""
    return {
        "grafana_extra_dashboards": files_of(folder, mine={"title": "Mine", "uid": "mine", "panels": []}),
        "grafana_extra_data_sources": [{"name": "Second", "uid": "second", "type": "prometheus",
                                        "url": "http://127.0.0.1:9091"}],
        "grafana_extra_contact_points": [{"name": "second", "receivers": [
            {"uid": "second", "type": "email", "settings": {"addresses": "second@demo.test"}}]}],
        "grafana_extra_mute_timings": [{"name": "nights", "time_intervals": [
            {"times": [{"start_time": "22:00", "end_time": "24:00"}]}]}],
        "grafana_extra_templates": [
            {"name": "second", "template": '{% raw %}{{ define "second" }}x{{ end }}{% endraw %}'}],
        "grafana_extra_rule_groups": [{"name": "second", "folder": "aistack", "interval": "1m",
                                       "rules": [rule_of("second", "Second")]}],
    }


KINDS = [("/api/search?type=dash-db", "uid", "mine"), ("/api/datasources", "name", "Second"),
         ("/api/v1/provisioning/contact-points", "uid", "second"),
         ("/api/v1/provisioning/mute-timings", "name", "nights"),
         ("/api/v1/provisioning/templates", "name", "second"), ("/api/v1/provisioning/alert-rules", "uid", "second")]


def test_what_comes_and_leaves_needs_no_restart_and_what_is_made_by_hand_stays(
        site, tmp_path, names, by_hand, main_pid):
    before = main_pid("grafana")
    outcome = site(**extra(tmp_path))
    assert outcome.plans["grafana"]["service"] == "reload"
    for address, key, name in KINDS:
        assert name in names(address, key)
    assert not site(**extra(tmp_path)).changing
    gone = site()
    assert gone.plans["grafana"]["service"] == "reload"
    removed = next(result["removed"] for result in gone.results if "removed" in result)
    assert {"data_sources": ["Second"], "rules": ["second"], "contact_points": ["second"], "mute_timings": ["nights"],
            "templates": ["second"]} == {kind: list(found) for kind, found in removed.items() if found}
    for address, key, name in KINDS:
        assert name not in names(address, key)
    by_hand()
    assert main_pid("grafana") == before
    again = site()
    assert not [result for result in again.results if result.get("changed")]


def test_the_password_of_the_admin_is_the_declared_one(host, site, grafana, by_hand, eventually):
    site(grafana_admin_password="another-one-for-a-while")
    assert grafana("/api/datasources", password="another-one-for-a-while")[0] == 200
    assert grafana("/api/datasources")[0] == 401
    site()
    assert grafana("/api/datasources")[0] == 200
    # One that was changed in Grafana lasts until the next start.
    assert grafana("/api/admin/users/1/password", {"password": "by-hand"}, method="PUT")[0] == 200
    assert grafana("/api/datasources")[0] == 401
    host.check_output("systemctl restart grafana")
    eventually(lambda: grafana("/api/datasources")[0] == 200)
    by_hand()


def test_the_users_own_settings_win_and_their_secrets_are_credentials(host, site, store):
    site(grafana_extra_settings={"users": {"default_theme": "light"}, "analytics": {"reporting_enabled": True},
                                 "auth.ldap": {"sync_secret": "not-for-the-file"}})
    text = host.file("/etc/grafana/grafana.ini").content_string
    assert "default_theme = light" in text
    assert text.count("reporting_enabled = ") == text.count("reporting_enabled = true") == 1
    assert "not-for-the-file" not in text
    assert host.file("/etc/aistack/credentials/grafana/setting_auth_ldap_sync_secret").mode == 0o400
    site()


def test_another_version_and_back_again(site, ask, by_hand):
    outcome = site(grafana_version="10.0.1")
    assert outcome.plans["grafana"]["action"] == "upgrade"
    assert "snapshot" in outcome.plans["grafana"]["data"]
    assert ask(":3000/api/health").json["version"] == "10.0.1"
    by_hand()
    assert site().plans["grafana"]["action"] == "downgrade"
    assert ask(":3000/api/health").json["version"] == "10.0.0"
    by_hand()


# -- faults ------------------------------------------------------------------------------------------------------------

@pytest.fixture
def untouched(host, main_pid, grafana, by_hand):
    """The block leaves the running Grafana as it was: the same process, files and data."""
    def state():
        return main_pid("grafana"), host.check_output(
            "cd /etc/grafana && find . -type f | sort | xargs sha256sum; readlink /opt/aistack/grafana/current")

    @contextmanager
    def check():
        before = state()
        yield
        assert state() == before
        by_hand()
        # The scratch copy is gone, with its folder.
        assert host.run("pgrep -f cfg:[s]erver.socket").rc != 0
        assert not host.check_output("ls -d /tmp/grafana-* 2>/dev/null || true")
    return check


OWN_ALERTING = {"path": "/etc/grafana/provisioning/alerting/own.yml", "group": "grafana"}
MINE = {"title": "Mine", "uid": "mine", "panels": []}
FAULTS = {
    "two default data sources": (
        {"grafana_extra_data_sources": [
            {"name": "Second", "type": "prometheus", "url": "http://x", "isDefault": True}]},
        {}, ["data source", "marked as default", "grafana_extra_data_sources"]),
    "a rule without a condition": (
        {"grafana_extra_rule_groups": [{"name": "own", "folder": "aistack", "interval": "1m", "rules": [
            {key: value for key, value in rule_of("own", "Own").items() if key != "condition"}]}]},
        {}, ["alert rule", "rule 'Own'", "no condition set"]),
    "a file of the user's that is no YAML": (
        {"grafana_extra_files": [OWN_ALERTING | {"content": "groups: [unclosed"}]}, {},
        ["own.yml", "/etc/grafana/provisioning/alerting"]),
    "a contact point of an unknown type": (
        {"grafana_extra_contact_points": [{"name": "own", "receivers": [
            {"uid": "own", "type": "pigeon", "settings": {"to": "x"}}]}]}, {}, ["contact point", "pigeon"]),
    "a dashboard that is no JSON": (
        {}, {"broken": '{"title": "Broken", '}, ["extra-broken.json", "no JSON", "line 1"]),
    "two dashboards with one uid": (
        {}, {"first": MINE, "second": MINE | {"title": "Other"}}, ["extra-second.json", "'mine'", "extra-first.json"]),
    "a dashboard that takes the uid of ours": (
        {}, {"first": MINE | {"uid": "aistack-host"}}, ["extra-first.json has the uid 'aistack-host'", "host.json"]),
    "a dashboard without a title": ({}, {"untitled": {"uid": "untitled"}}, ["extra-untitled.json", "has no title"]),
    "a dashboard exported for others": (
        {}, {"shared": MINE | {"__inputs": [{"name": "DS"}]}}, ["extra-shared.json", "__inputs"]),
    "a setting that Grafana can't work with": (
        {"grafana_extra_settings": {"unified_alerting": {"min_interval": "7s"}}}, {},
        ["min_interval", "grafana_extra_settings"]),
    "a Keycloak that isn't there": (
        {"observability_single_sign_on": SSO | {"url": "https://127.0.0.1:9"}}, {},
        ["Keycloak can't be reached at https://127.0.0.1:9/realms/home", "observability_single_sign_on.url"]),
    "a realm that isn't there": (
        {"observability_single_sign_on": SSO | {"realm": "elsewhere"}}, {}, ["no realm 'elsewhere'", "create_realm"]),
    "a wrong client secret": (
        {"observability_single_sign_on": SSO | {"client_secret": "wrong"}}, {},
        ["does not accept the client 'grafana' with this secret in the realm 'home'", "--tags keycloak_client"]),
    "a Keycloak whose certificate nobody knows": (
        {"observability_single_sign_on": {key: value for key, value in SSO.items() if key != "authority"}}, {},
        ["certificate can't be verified", "observability_single_sign_on.authority"]),
    "an address of Grafana's that Keycloak doesn't know": (
        {"grafana_external_url": "https://elsewhere.demo.test"}, {},
        ["would not send people back to https://elsewhere.demo.test/login/generic_oauth"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_said_and_nothing_happened(fault, site, tmp_path, untouched):
    variables, dashboards, words = FAULTS[fault]
    with untouched():
        outcome = site(refused=True, grafana_extra_dashboards=files_of(tmp_path, **dashboards), **variables)
    for word in ["try_grafana refuses", "Nothing that runs was touched", *words]:
        assert word in outcome.message


def test_a_taken_port_is_said_before_anything_happens(host, site, untouched):
    host.check_output("systemd-run --unit=stranger python3 -m http.server 3999 --bind 127.0.0.1")
    try:
        with untouched():
            outcome = site(refused=True, grafana_listen_address="127.0.0.1:3999")
    finally:
        host.check_output("systemctl stop stranger")
    assert "grafana_listen_address: port 3999 is held by python3 (stranger.service)" in outcome.message


# A program that takes the database apart and gives up, like a migration that fails half-way; one passes its trial.
FAILS = """#!/bin/sh
PASSES
python3 -c "
import sqlite3, sys
for word in sys.argv:
    if word.startswith('cfg:paths.data='):
        sys.exit()
database = sqlite3.connect('/var/lib/grafana/grafana.db')
database.execute('DROP TABLE dashboard')
database.execute('DELETE FROM data_source')
database.commit()
" "$@"
echo 'Error: migration failed (id = played by a test): no such column' >&2
exit 1
"""
PASSES = """case "$*" in *cfg:server.socket=*|cli*) exec "$0-real" "$@";; esac"""


@pytest.fixture
def broken(tmp_path):
    """broken("10.0.2", passes=…): variables that declare a version whose program breaks the database."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    def declare(version, passes):
        script = FAILS.replace("PASSES", PASSES if passes else "").encode()
        archive = folder / f"grafana_{version}_broken.tar.gz"
        with tarfile.open(next(MIRROR.glob("grafana_10.0.0_*.tar.gz"))) as source, \
                tarfile.open(archive, "w:gz", compresslevel=1) as target:
            for member in source:
                content = source.extractfile(member) if member.isfile() else None
                if member.name.endswith("/bin/grafana"):
                    entry = tarfile.TarInfo(member.name)
                    entry.size, entry.mode = len(script), 0o755
                    target.addfile(entry, io.BytesIO(script))
                    member.name += "-real"
                target.addfile(member, content)
        return {"observability_mirror": str(folder), "grafana_release": {
            "version": version, "url": f"https://example.org/{archive.name}",
            "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}}
    yield declare
    shutil.rmtree(folder)


def test_a_migration_that_fails_in_the_trial_is_refused(site, broken, untouched):
    with untouched():
        outcome = site(refused=True, **broken("10.0.3", passes=False))
    assert "the database can't be brought to this version: migration failed (id = played by a test)" in outcome.message
    assert "stay with the version that runs" in outcome.message


def test_a_database_that_the_new_program_broke_is_put_back(host, ask, site, broken, by_hand, names):
    """The trial can't see it, so the snapshot must."""
    sources = names("/api/datasources", "name")
    outcome = site(refused=True, **broken("10.0.2", passes=True))
    assert "was put back and answers" in outcome.message
    assert "migration failed (id = played by a test)" in outcome.message
    assert ask(":3000/api/health").json["version"] == "10.0.0"
    assert names("/api/datasources", "name") == sources
    by_hand()
    assert host.file("/var/lib/grafana/grafana.db").user == "grafana"
    assert not site().changing


def test_what_it_asked_can_go(playbook):
    """The last one here: the removal that follows finds this component's traces only."""
    gone = {f"{name}_{key}": value for name in ("prometheus", "alertmanager", "node_exporter")
            for key, value in {"state": "absent", "purge_data": True}.items()}
    outcome = playbook("site.yml", "--tags", "node_exporter,alertmanager,prometheus", **gone)
    assert outcome.code == 0, outcome.message
