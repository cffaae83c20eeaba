# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets into Grafana, and as what: with the real Keycloak's own page, as the site set both of them up."""

from __future__ import annotations

import urllib.parse

import pytest
from chromium import Chromium
from demo import MAIN
from keycloak_login import SESSION, Person
from running_site import wait_for


@pytest.fixture
def realm(grafana_site):
    """Works on Keycloak's realm."""
    return lambda words: grafana_site.on(MAIN, f"python3 /opt/stack/realm.py {words}").strip()


@pytest.fixture
def person(grafana_site):
    return Person(grafana_site.demo.address("grafana"))


@pytest.fixture
def password(grafana_site):
    return grafana_site.demo.password("people")


@pytest.fixture
def at_keycloak(person, grafana_site, password):
    """Has filled in Keycloak's form as ada; the address by which the browser is sent back with the code."""
    callback = person.submit(person.open(person.begin()), "ada", password).location
    assert callback.startswith(grafana_site.demo.address("grafana") + "/login/generic_oauth?")
    assert "code=" in callback
    return callback


def form_is_shown(person):
    return bool(person.open(person.begin()).form.action)


# -- roles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "role"), [("ada", "Admin"), ("edith", "Editor"), ("victor", "Viewer")])
def test_a_role_in_keycloak_is_the_role_in_grafana(person, password, name, role):
    assert person.log_in(name, password), person.reason
    assert person.role == role
    user = person.ask("/api/user").json()
    assert (user["login"], user["email"], user["isGrafanaAdmin"]) == (name, f"{name}@stack.test", False)
    assert user["authLabels"] == ["Generic OAuth"] or user["isExternal"]
    # What the role is good for: all see dashboards, an Editor may make folders (not without a title), an Admin all.
    folder = person.request("POST", person.grafana + "/api/folders", body={"title": ""})
    assert (person.ask("/api/dashboards/uid/aistack-host").status, folder.status, person.ask("/api/org/users").status) \
        == {"Admin": (200, 400, 200), "Editor": (200, 400, 403), "Viewer": (200, 403, 403)}[role]


def test_without_a_role_there_is_no_session_and_a_reason(person, password, grafana_site):
    assert not person.log_in("nobody", password)
    assert "role" in person.reason.lower(), person.reason
    assert not person.cookie(SESSION) and not person.inside
    known = {one["login"] for one in grafana_site.ask("grafana", "/api/users", login="grafana_admin_password")}
    assert {"admin", "ada", "edith", "victor"} <= known and "nobody" not in known


def test_a_role_taken_away_is_gone_at_the_next_log_in(person, password, realm):
    assert person.log_in("edith", password) and person.role == "Editor"
    try:
        realm("grant edith grafana-viewer")
        assert realm("revoke edith grafana-editor") == "changed"
        person.log_out()
        assert person.log_in("edith", password) and person.role == "Viewer", person.reason
        realm("revoke edith grafana-viewer")
        person.log_out()
        assert not person.log_in("edith", password)
        assert "role" in person.reason.lower() and not person.inside
    finally:
        realm("grant edith grafana-editor")
        realm("revoke edith grafana-viewer")


def test_grafana_knows_no_password_of_these_people(person, password):
    """Nor is there a way in without an account: nobody is let in anonymously, and nobody can sign up."""
    answer = person.request("POST", person.grafana + "/login", body={"user": "ada", "password": password})
    assert answer.status == 401 and not person.inside
    assert person.ask("/api/dashboards/uid/aistack-host").status == 401
    assert person.request("POST", person.grafana + "/api/user/signup", body={"email": "x@stack.test"}).status == 401


# -- refusals --------------------------------------------------------------------------------------------------------


def test_a_wrong_password_stays_at_keycloak(person):
    assert not person.log_in("ada", "not hers")
    assert "Invalid username or password" in person.reason
    assert not person.inside
    # The same browser gets in with the right one only: nothing of the first try is left.
    assert form_is_shown(person)


@pytest.mark.parametrize("address", ["http://evil.test/login/generic_oauth", "{grafana}/login/generic_oauth/../../x",
                                     "{grafana}.evil.test/login/generic_oauth", "{grafana}/other"])
def test_a_tampered_redirect_address_is_refused(person, address):
    split = urllib.parse.urlsplit(person.begin())
    query = dict(urllib.parse.parse_qsl(split.query))
    assert query["redirect_uri"] == person.grafana + "/login/generic_oauth"
    query["redirect_uri"] = address.format(grafana=person.grafana)
    page = person.open(split._replace(query=urllib.parse.urlencode(query)).geturl())
    assert page.status == 400 and not page.location and not page.form.action
    assert "Invalid parameter: redirect_uri" in page.text


def test_the_log_in_uses_pkce_and_asks_for_no_offline_token(person):
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(person.begin()).query))
    assert query["code_challenge_method"] == "S256" and len(query["code_challenge"]) == 43
    assert query["state"] and "offline_access" not in query["scope"].split() and "openid" in query["scope"].split()


def test_keycloak_refuses_a_log_in_without_pkce(person):
    """So that no code is worth anything to who steals it on the way."""
    split = urllib.parse.urlsplit(person.begin())
    query = [(key, value) for key, value in urllib.parse.parse_qsl(split.query) if not key.startswith("code_challenge")]
    answer = person.open(split._replace(query=urllib.parse.urlencode(query)).geturl())
    assert not answer.form.action
    assert "error=invalid_request" in answer.location and "code_challenge" in answer.location


def test_a_replayed_code_is_refused(person, at_keycloak):
    cookies = dict(person.cookies)
    assert person.finish(at_keycloak), person.reason
    other = Person(person.grafana)
    other.cookies = cookies
    assert not other.finish(at_keycloak), "the code was taken twice"
    assert not other.inside and not other.cookie(SESSION)


def test_a_code_is_worth_nothing_in_another_browser(person, at_keycloak):
    """Without its state a stolen code is refused, and without its PKCE verifier even with the state."""
    thief = Person(person.grafana)
    assert not thief.finish(at_keycloak) and not thief.inside
    forged = Person(person.grafana)
    forged.begin()
    assert not forged.finish(at_keycloak) and not forged.inside
    person.drop("oauth_code_verifier")
    assert not person.finish(at_keycloak) and not person.inside


def test_keycloak_refuses_a_password_sent_past_its_page(grafana_site, password):
    """The client is good for the log-in page alone."""
    other = Person(grafana_site.demo.address("grafana"))
    issuer = other.begin().split("/protocol/")[0]
    answer = other.request("POST", issuer + "/protocol/openid-connect/token", form={
        "grant_type": "password", "client_id": "grafana", "username": "ada", "password": password,
        "client_secret": grafana_site.demo.login("grafana_client_secret")[1]})
    assert answer.status in (400, 401) and "access_token" not in answer.text


# -- the end of a session --------------------------------------------------------------------------------------------


def test_log_out_in_grafana_ends_the_session_in_keycloak(person, password):
    assert person.log_in("ada", password) and person.inside
    assert not form_is_shown(person), "with a session in Keycloak nobody types a password again"
    session = dict(person.cookies)
    answers = person.log_out()
    assert answers[-1].url.startswith(person.grafana), [(one.status, one.url) for one in answers]
    assert not person.inside and form_is_shown(person)
    # Not only these cookies: the sessions themselves are over.
    person.cookies = session
    assert not person.inside and form_is_shown(person)


def renewals(site):
    """How often Keycloak has renewed a token, as it counts itself."""
    lines = site.on(MAIN, "curl -s http://127.0.0.1:9000/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines
               if line.startswith("keycloak_user_events_total") and 'event="refresh_token"' in line)


def test_log_out_in_keycloak_ends_the_session_in_grafana(person, password, grafana_site):
    assert person.log_in("ada", password), person.reason
    before = renewals(grafana_site)
    # With a session in Keycloak the one in Grafana goes on, beyond the life of a token.
    wait_for("a token to be renewed", lambda: person.inside and renewals(grafana_site) > before, 90)
    assert person.inside and person.role == "Admin"
    issuer = person.begin().split("/protocol/")[0]
    page = person.open(issuer + "/protocol/openid-connect/logout")
    done = person.request("POST", urllib.parse.urljoin(page.url, page.form.action), form=page.form.fields)
    assert done.status == 200 and "logged out" in done.text
    wait_for("Grafana to end the session", lambda: not person.inside, 120)
    assert form_is_shown(person)


def test_an_expired_session_is_over_in_both(person, password, realm):
    realm("set ssoSessionMaxLifespan=30")
    try:
        assert person.log_in("victor", password) and person.inside, person.reason
        wait_for("Grafana to end the session", lambda: not person.inside, 120)
        assert form_is_shown(person)
    finally:
        realm("set ssoSessionMaxLifespan=36000")
    assert person.ask("/api/dashboards/uid/aistack-host").status == 401


# -- a real browser --------------------------------------------------------------------------------------------------


def test_a_browser_logs_in_and_out(grafana_site, password):
    """Keycloak's page as people see it; nothing of it is known but the two fields' names."""
    grafana = grafana_site.demo.address("grafana")
    me = "fetch('/api/user/orgs').then(answer => answer.ok ? answer.json() : answer.status)"
    with Chromium() as browser:
        def fields():
            return browser.evaluate("document.querySelectorAll('[name=username], [name=password]').length") == 2

        def log_in(name, given):
            browser.go(grafana + "/login/generic_oauth")
            wait_for("Keycloak's form", fields, 60)
            assert browser.address.startswith(grafana_site.demo.address("keycloak") + "/realms/")
            browser.type("[name=username]", name)
            browser.type("[name=password]", given)
            browser.press_enter()

        log_in("ada", "not hers")
        wait_for("Keycloak's refusal", lambda: "Invalid username or password" in (
            browser.evaluate("document.body.innerText") or ""), 60)
        log_in("ada", password)
        wait_for("Grafana", lambda: browser.address.startswith(grafana), 60)
        (one,) = wait_for("the role", lambda: browser.evaluate(me), 60)
        assert one["role"] == "Admin"
        assert SESSION + "=" not in browser.evaluate("document.cookie"), "a script could read the session"

        browser.go(grafana + "/logout")
        wait_for("Keycloak's question", lambda: browser.evaluate("!!document.querySelector('form')"), 60)
        browser.evaluate("document.querySelector('form [type=submit]').click()")
        wait_for("Grafana again", lambda: browser.address.startswith(grafana), 60)
        assert browser.evaluate(me) == 401
        log_in("nobody", password)
        wait_for("the reason", lambda: "role" in (browser.evaluate(
            "(window.grafanaBootData?.settings?.loginError ?? document.body.innerText).toLowerCase()") or ""), 60)
        assert browser.evaluate(me) == 401
