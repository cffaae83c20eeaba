# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Grafana's checker finds without a Grafana: in files, in logs, and in Keycloak's answers."""

import hashlib
import http.server
import importlib.util
import json
import sqlite3
import threading
import urllib.parse
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "roles/grafana/files/try_grafana.py"


@pytest.fixture(scope="module")
def tried():
    spec = importlib.util.spec_from_file_location("try_grafana", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- settings ----------------------------------------------------------------------------------------------------------

def test_settings_are_read_as_grafana_does(tried, tmp_path):
    (tmp_path / "secret").write_text("from a file\n", encoding="utf-8")
    (tmp_path / "grafana.ini").write_text(
        "# a comment\n\n[auth.generic_oauth]\n"
        "role_attribute_path = \"\"\"contains(roles[*], 'a') && 'b' || '%(x)s; #'\"\"\"\n"
        f"client_secret = $__file{{{tmp_path}/secret}}\nauth_url = https://id/auth?a=b\n", encoding="utf-8")
    client = tried.read_settings(str(tmp_path / "grafana.ini"))["auth.generic_oauth"]
    assert client == {"role_attribute_path": "contains(roles[*], 'a') && 'b' || '%(x)s; #'",
                      "client_secret": "from a file", "auth_url": "https://id/auth?a=b"}


def test_a_file_that_settings_name_must_be_readable(tried, tmp_path):
    (tmp_path / "grafana.ini").write_text("[a]\nb = $__file{/nowhere/at/all}\n", encoding="utf-8")
    with pytest.raises(tried.Refused, match="/nowhere/at/all"):
        tried.read_settings(str(tmp_path / "grafana.ini"))


# -- dashboards --------------------------------------------------------------------------------------------------------

GOOD = {"title": "Good", "uid": "good", "panels": []}


def write(folder, **documents):
    for name, document in documents.items():
        text = document if isinstance(document, str) else json.dumps(document)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return str(folder)


def test_good_dashboards_are_found_by_their_uids(tried, tmp_path):
    resource = {"apiVersion": "dashboard.grafana.app/v1beta1", "kind": "Dashboard", "metadata": {"name": "new"},
                "spec": {"title": "New"}}
    assert tried.problems_of_dashboards(write(tmp_path, one=GOOD, two=resource)) == (
        {"good": "one.json", "new": "two.json"}, [])


@pytest.mark.parametrize(("document", "words"), [
    ('{"title": ', ["no JSON", "line 1"]),
    ("", ["no JSON"]),
    ([GOOD], ["holds a list"]),
    ({"dashboard": GOOD, "meta": {}}, ["the answer of Grafana's API"]),
    (GOOD | {"title": ""}, ["no title"]),
    (GOOD | {"uid": None, "title": "My own: one"}, ["no uid", '"my-own-one"']),
    (GOOD | {"uid": "with a space"}, ["'with a space'", "letters, digits"]),
    (GOOD | {"uid": "x" * 41}, ["at most 40"]),
    (GOOD | {"title": "Other"}, ["'good'", "first.json"]),
    (GOOD | {"uid": "other"}, ["the title 'Good'", "first.json"]),
    (GOOD | {"uid": "x", "title": "X", "__inputs": [{"name": "DS"}]}, ["__inputs"]),
])
def test_a_bad_dashboard_is_named_with_its_fault(tried, tmp_path, document, words):
    found, problems = tried.problems_of_dashboards(write(tmp_path, first=GOOD, second=document))
    assert found == {"good": "first.json"}
    (problem,) = problems
    for word in ["second.json", *words]:
        assert word in problem


def test_it_is_the_users_own_dashboard_that_is_in_the_way(tried, tmp_path):
    folder = write(tmp_path, **{"extra-a": GOOD, "ours": GOOD})
    assert tried.problems_of_dashboards(folder)[1][0].startswith("the dashboard extra-a.json")


# -- provisioning ------------------------------------------------------------------------------------------------------

def test_what_is_declared_is_read_from_every_file(tried, tmp_path):
    for folder in ("datasources", "alerting"):
        (tmp_path / folder).mkdir()
    (tmp_path / "datasources/aistack.yml").write_text(json.dumps(
        {"datasources": [{"name": "Costs $$"}]}), encoding="utf-8")
    (tmp_path / "alerting/all.yml").write_text(json.dumps({
        "groups": [{"name": "g", "rules": [{"uid": "r1"}, {"uid": "r2"}]}],
        "contactPoints": [{"name": "c", "receivers": [{"uid": "p"}]}],
        "muteTimes": [{"name": "always"}], "templates": [{"name": "t"}]}), encoding="utf-8")
    (tmp_path / "alerting/own.yml").write_text("groups:\n  - name: theirs\n", encoding="utf-8")
    found, problems = tried.declared(str(tmp_path))
    assert problems == []
    assert {key: list(names) for key, names in found.items()} == {
        "datasources": ["Costs $"], "groups": ["r1", "r2"], "contactPoints": ["p"], "muteTimes": ["always"],
        "templates": ["t"]}


def test_a_name_in_two_places_and_one_that_is_missing(tried, tmp_path):
    (tmp_path / "alerting").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"alerting/{name}.yml").write_text(json.dumps(
            {"groups": [{"rules": [{"uid": "same"}, {"title": "x"}]}]}), encoding="utf-8")
    _found, problems = tried.declared(str(tmp_path))
    assert "the alert rule 'same' is declared in a.yml and in b.yml: one of them must go" in problems
    assert "a.yml: the alert rule number 2 has no uid: give it one" in problems


# -- what Grafana says -------------------------------------------------------------------------------------------------

def line(**words):
    return json.dumps({"level": "error", "t": "now"} | words) + "\n"


@pytest.mark.parametrize(("said", "words"), [
    ("Datasource provisioning error: datasource.yaml config is invalid",
     ["a data source", "grafana_extra_data_sources"]),
    ("failure to map file rules.yml: failure parsing rules: rule 'x' failed to parse: no condition set",
     ["an alert rule", "rule 'x'"]),
    ("migration failed (id = x): no such column", ["the database can't be brought to this version"]),
    ('Invalid root_url.: parse "http://%zz": invalid URL escape "%zz"', ["a setting", "grafana_extra_settings"]),
    ("value of setting 'min_interval' should be greater than the base interval (10s)", ["grafana_extra_settings"]),
    ("something that nobody thought of", ["does not start", "exit status 1", "something that nobody thought of"]),
])
def test_the_last_words_are_the_reason(tried, said, words):
    noise = line(msg="failed to save dashboard", error="context canceled", file="/etc/grafana/dashboards/a.json")
    text = tried.explain(line(logger="migrator", msg="an earlier migration") + noise + f"Error: \u2717 {said}\n",
                         "it ended with exit status 1")
    for word in [said, "What to do:", *words]:
        assert word in text


def test_without_last_words_the_log_is_asked(tried):
    log = line(msg="Failed to provision data sources", error="Datasource provisioning error: x") + "not JSON\n{broken\n"
    assert "a data source is refused" in tried.explain(log, "it did not answer")
    assert "it did not answer" in tried.explain("", "it did not answer")


class Answers:
    """A stand-in for the scratch copy."""

    def __init__(self, lists, dashboards, log):
        self.lists, self.dashboards, self.text = lists, dashboards, log

    def names(self, address, _label):
        return self.lists.get(address, set())

    def ask(self, address):
        return (200 if address.rsplit("/", 1)[1] in self.dashboards else 404), {}

    def log(self):
        return self.text


def test_what_is_missing_is_told_with_grafanas_own_words(tried):
    scratch = Answers({"/api/datasources": {"Prometheus"}}, {"there"},
                      line(msg="failed to save dashboard", file="/etc/grafana/dashboards/gone.json", error="no title"))
    wanted = {key: {} for key in tried.DECLARED} | {"datasources": {"Prometheus": "a.yml", "Lost": "b.yml"}}
    gone = tried.missing(scratch, wanted, {"there": "there.json", "gone": "gone.json"})
    assert len(gone) == 2
    assert "the data source 'Lost' of b.yml. What to do" in gone[0]
    assert "the dashboard 'gone' of gone.json, and says: failed to save dashboard" in gone[1]


# -- the scratch copy --------------------------------------------------------------------------------------------------

@pytest.fixture
def scratch(tried, tmp_path):
    made = tried.Scratch("/nowhere", str(tmp_path), str(tmp_path), {"security": {"admin_user": "admin"}})
    yield made
    made.end()
    assert not Path(made.folder).exists()


def database(folder, login="admin"):
    with sqlite3.connect(folder / "grafana.db") as made:
        made.execute("CREATE TABLE user (id INT, login TEXT, password TEXT, salt TEXT, is_admin INT, is_disabled INT)")
        made.execute("CREATE TABLE login_attempt (id INTEGER)")
        made.execute("INSERT INTO user VALUES (1, ?, 'kept', 'salt', 1, 0)", [login])
    made.close()


def test_the_database_is_copied_and_never_touched(scratch, tmp_path):
    database(tmp_path)
    before = hashlib.sha256((tmp_path / "grafana.db").read_bytes()).hexdigest()
    assert scratch.copy_database() is True
    assert hashlib.sha256((tmp_path / "grafana.db").read_bytes()).hexdigest() == before
    with sqlite3.connect(Path(scratch.folder) / "data/grafana.db") as copy:
        assert copy.execute("SELECT login, password != 'kept' FROM user").fetchall() == [("admin", 1)]
    copy.close()


def test_a_first_installation_has_no_database(scratch):
    assert scratch.copy_database() is False


@pytest.mark.parametrize("kind", ["damaged", "renamed"])
def test_a_database_that_can_not_be_used_is_said(tried, scratch, tmp_path, kind):
    if kind == "damaged":
        (tmp_path / "grafana.db").write_bytes(b"not a database at all" * 100)
        expected = "grafana.db can't be read"
    else:
        database(tmp_path, login="somebody")
        expected = "no server admin 'admin'"
    with pytest.raises(tried.Refused, match=expected):
        scratch.copy_database()


def test_the_copy_tells_nobody_and_stays_in_its_folder(scratch):
    values = dict(item.removeprefix("cfg:").split("=", 1) for item in scratch.overrides())
    for name in ("unified_alerting.execute_alerts", "smtp.enabled", "analytics.reporting_enabled",
                 "analytics.check_for_updates"):
        assert values[name] == "false"
    assert values["server.protocol"] == "socket"
    for name in ("paths.data", "paths.logs", "server.socket"):
        assert values[name].startswith(scratch.folder + "/")
    assert (values["database.type"], values["database.url"]) == ("sqlite3", "")


# -- Keycloak ----------------------------------------------------------------------------------------------------------

class Keycloak(http.server.BaseHTTPRequestHandler):
    """A stand-in that answers as a Keycloak does; the scenarios ask a real one."""

    realm, secret, redirect = "home", "right", "https://grafana.example.org/login/generic_oauth"

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        if not parts.path.startswith(f"/realms/{self.realm}/"):
            return self.answer(404, {"error": "Realm does not exist"})
        if parts.path.endswith("/openid-configuration"):
            return self.answer(200, {"token_endpoint": "x"})
        asked = dict(urllib.parse.parse_qsl(parts.query))
        known = asked["redirect_uri"] == self.redirect
        return self.answer(200 if known else 400, {"error": "Invalid parameter: redirect_uri"})

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        if form["client_secret"] != self.secret:
            return self.answer(401, {"error": "unauthorized_client",
                                     "error_description": "Invalid client or Invalid client credentials"})
        return self.answer(400, {"error": "invalid_grant", "error_description": "Code not valid"})

    def answer(self, status, document):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def keycloak():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keycloak)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def client(url, realm="home", secret="right", root="https://grafana.example.org/"):
    openid = f"{url}/realms/{realm}/protocol/openid-connect"
    return {"server": {"root_url": root}, "auth.generic_oauth": {
        "enabled": "true", "client_id": "grafana", "client_secret": secret, "auth_url": f"{openid}/auth",
        "token_url": f"{openid}/token"}}


@pytest.mark.parametrize(("given", "words"), [
    ({}, None),
    ({"realm": "other"}, ["no realm 'other'", "observability_single_sign_on.realm"]),
    ({"secret": "wrong"}, ["client 'grafana'", "realm 'home'", "Invalid client", "--tags keycloak_client"]),
    ({"root": "https://elsewhere.example.org"}, ["https://elsewhere.example.org/login/generic_oauth", "redirect"]),
    ({"url": "http://127.0.0.1:9"}, ["can't be reached at http://127.0.0.1:9/realms/home", "refused"]),
], ids=["right", "realm", "secret", "redirect", "unreachable"])
def test_keycloak_is_asked_for_what_a_log_in_needs(tried, keycloak, given, words):
    problems = tried.problems_of_single_sign_on(client(**{"url": keycloak} | given))
    if words is None:
        assert problems == []
    else:
        (problem,) = problems
        for word in ["What to do:", *words]:
            assert word in problem


def test_without_single_sign_on_nobody_is_asked(tried):
    assert tried.problems_of_single_sign_on({"server": {}}) == []


def test_an_authority_that_is_not_there_is_said(tried, keycloak):
    given = client(keycloak)
    given["auth.generic_oauth"]["tls_client_ca"] = "/nowhere/ca.pem"
    (problem,) = tried.problems_of_single_sign_on(given)
    assert "observability_single_sign_on.authority: /nowhere/ca.pem" in problem


def test_a_grafana_that_ends_while_it_is_asked_says_why(tried, tmp_path):
    """Grafana 13 provisions when it answers already, and ends over a wrong file then."""
    program = tmp_path / "bin" / "grafana"
    program.parent.mkdir()
    words = "Datasource provisioning error: two defaults"
    program.write_text(f"#!/bin/sh\nsleep 0.3\necho 'Error: ✗ {words}' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    made = tried.Scratch(str(tmp_path), str(tmp_path), str(tmp_path), {"security": {"admin_user": "admin"}})
    try:
        made.start()
        with pytest.raises(tried.Refused, match="two defaults"):
            tried.settled(made, {"datasources": {"Prometheus": "a.yml"}}, {"uid": "b.json"})
    finally:
        made.end()


def test_a_python_without_sqlite_is_said(tried, scratch, tmp_path, monkeypatch):
    database(tmp_path)
    monkeypatch.setattr(tried, "sqlite3", None)
    with pytest.raises(tried.Refused, match="has no sqlite3.*ansible_python_interpreter"):
        scratch.copy_database()
