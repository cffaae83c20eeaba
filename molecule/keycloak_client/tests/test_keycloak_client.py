# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""People log in by the page of the real Keycloak with what the role made there, and with nothing else; what is changed
there by hand is mended; what can't be done is said before anything is done."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
OWN = yaml.safe_load((ROOT / "molecule/keycloak_client/host_vars/monitor.yml").read_text(encoding="utf-8"))
SSO = OWN["observability_single_sign_on"]
GRAFANA = OWN["grafana_external_url"]
REDIRECT = GRAFANA + "/login/generic_oauth"
ROLES = ["grafana-admin", "grafana-editor", "grafana-viewer"]
PASSWORD = SSO["admin"]["password"]

# What runs on the host: the stack's way to the administration, and a browser.
ON_THE_HOST = """
import base64, hashlib, os, sys
os.environ["SSL_CERT_FILE"] = "/etc/stack/keycloak.crt"
sys.path.insert(0, "/opt/stack")
import realm as stack
settings = json.load(open(stack.SETTINGS))

def admin(method, path, body=None, realm=""):
    keycloak = stack.Keycloak(dict(settings, realm=realm or settings["realm"]))
    return keycloak.inside(method, path, body, missing=method == "GET")

def claims(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))

def endpoint(name):
    return settings["url"] + "/realms/" + settings["realm"] + "/protocol/openid-connect/" + name

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")

def begin(redirect, **changes):
    browser = Browser()
    question = {"response_type": "code", "client_id": "grafana", "redirect_uri": redirect, "state": "s",
                "scope": "openid email profile", "code_challenge": CHALLENGE, "code_challenge_method": "S256"} | changes
    question = {name: value for name, value in question.items() if value}
    return browser, browser.request("GET", endpoint("auth") + "?" + urllib.parse.urlencode(question))

def reason(answer):
    where = urllib.parse.urlsplit(answer.location)
    return urllib.parse.parse_qs(where.query or where.fragment).get("error", [str(answer.status)])[0]

def tokens(secret, redirect, user, **changes):
    browser, page = begin(redirect)
    page = browser.request("POST", page.form.action, form=dict(page.form.fields, username=user,
                                                               password=settings["user_password"]))
    assert page.location.startswith(redirect), (page.status, page.form.message)
    form = {"grant_type": "authorization_code", "client_id": "grafana", "client_secret": secret,
            "redirect_uri": redirect, "code_verifier": VERIFIER,
            "code": urllib.parse.parse_qs(urllib.parse.urlsplit(page.location).query)["code"][0]} | changes
    return browser, browser.request("POST", endpoint("token"), form=form).json()

def log_in(*arguments):
    browser, given = tokens(*arguments)
    request = urllib.request.Request(endpoint("userinfo"), headers={"Authorization": "Bearer " + given["access_token"]})
    return {"id": claims(given["id_token"]), "access": claims(given["access_token"]),
            "userinfo": json.load(urllib.request.urlopen(request)), "lifespan": given["expires_in"]}

def log_out(secret, redirect, user, back):
    browser, given = tokens(secret, redirect, user)
    answer = browser.request("GET", endpoint("logout") + "?" + urllib.parse.urlencode(
        {"id_token_hint": given["id_token"], "post_logout_redirect_uri": back}))
    return answer.status, answer.location
"""


@pytest.fixture(scope="session")
def there(host):
    """there("admin('GET', '/roles')"): the value of an expression, on the host."""
    browser = (ROOT / "tests/e2e/keycloak_login.py").read_text(encoding="utf-8")

    def value(expression):
        program = f"{browser}\n{ON_THE_HOST}\nprint(json.dumps({expression}))"
        done = subprocess.run(["docker", "exec", "-i", host.backend.name, "python3", "-"], input=program, text=True,
                              capture_output=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)
    return value


@pytest.fixture(scope="session")
def admin(there):
    """admin("GET", "/roles"): Keycloak's administration, as its administrator."""
    return lambda method, path, body=None, realm="": there(f"admin({method!r}, {path!r}, {body!r}, {realm!r})")


@pytest.fixture(scope="session")
def client(admin):
    def read():
        found = admin("GET", "/clients?clientId=grafana")
        return found[0] if found else None
    return read


@pytest.fixture(scope="session")
def edit(admin, client):
    """edit(redirectUris=[…]): somebody changes the client by hand."""
    def change(**fields):
        now = client()
        admin("PUT", f"/clients/{now['id']}", now | fields | {
            "attributes": now["attributes"] | fields.get("attributes", {})})
    return change


@pytest.fixture(scope="session")
def run(site):
    """run("--check", groups={…}): changed tasks of a run with other settings of observability_single_sign_on."""
    def go(*arguments, **changes):
        outcome = site(*arguments, observability_single_sign_on=SSO | changes)
        return sum(1 for result in outcome.results if result.get("changed"))
    return go


@pytest.fixture(scope="session")
def secret():
    store = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "secrets.yml")
    return yaml.safe_load(store.read_text(encoding="utf-8"))["grafana_client_secret"]


@pytest.fixture(scope="session")
def people(host):
    """Ada may everything, Victor may look; Edith and nobody have no role."""
    for name, role in (("ada", ROLES[0]), ("victor", ROLES[2])):
        host.check_output("python3 /opt/stack/realm.py grant %s %s", name, role)


@pytest.fixture
def group(admin):
    """group("staff"): a group of the user's own, and the roles that it has."""
    made = []

    def make(name):
        admin("POST", "/groups", {"name": name})
        number = admin("GET", f"/group-by-path/{name}")["id"]
        made.append(number)
        return lambda: sorted(role["name"] for role in admin("GET", f"/groups/{number}/role-mappings/realm"))
    yield make
    for number in made:
        admin("DELETE", f"/groups/{number}")


def names(found):
    return sorted(one["name"] for one in found)


# -- what was made -----------------------------------------------------------------------------------------------------

def test_the_client_is_as_declared(client, admin, secret):
    made = client()
    assert {name: made[name] for name in (
        "enabled", "protocol", "clientAuthenticatorType", "publicClient", "bearerOnly", "consentRequired",
        "standardFlowEnabled", "implicitFlowEnabled", "directAccessGrantsEnabled", "serviceAccountsEnabled",
        "fullScopeAllowed", "frontchannelLogout", "redirectUris", "webOrigins", "rootUrl", "baseUrl", "adminUrl")} == {
            "enabled": True, "protocol": "openid-connect", "clientAuthenticatorType": "client-secret",
            "publicClient": False, "bearerOnly": False, "consentRequired": False, "standardFlowEnabled": True,
            "implicitFlowEnabled": False, "directAccessGrantsEnabled": False, "serviceAccountsEnabled": False,
            "fullScopeAllowed": False, "frontchannelLogout": False, "redirectUris": [REDIRECT],
            "webOrigins": [GRAFANA], "rootUrl": GRAFANA, "baseUrl": GRAFANA + "/", "adminUrl": ""}
    assert not made.get("authorizationServicesEnabled")
    assert made["attributes"].items() >= {
        "pkce.code.challenge.method": "S256", "access.token.lifespan": "60",
        "post.logout.redirect.uris": f"{GRAFANA}##{GRAFANA}/##{GRAFANA}/login"}.items()
    assert sorted(made["defaultClientScopes"]) == ["basic", "email", "profile"]
    assert made["optionalClientScopes"] == []
    assert names(made["protocolMappers"]) == ["realm roles"]
    assert names(admin("GET", f"/clients/{made['id']}/scope-mappings/realm")) == ROLES
    assert len(secret) >= 24
    assert made["secret"] == secret


@pytest.mark.parametrize(("user", "roles"), [("ada", [ROLES[0]]), ("victor", [ROLES[2]]), ("nobody", None)])
def test_tokens_say_who_somebody_is_and_may(there, people, secret, user, roles):
    given = there(f"log_in({secret!r}, {REDIRECT!r}, {user!r})")
    for kind in ("id", "access", "userinfo"):
        assert given[kind].get("roles") == roles, kind
    assert given["id"]["iss"] == f"{SSO['url']}/realms/{SSO['realm']}"
    assert given["id"]["aud"] == "grafana"
    for kind in ("id", "userinfo"):
        assert given[kind]["sub"]
        assert (given[kind]["preferred_username"], given[kind]["email"]) == (user, f"{user}@stack.test")
    # Nothing else that somebody has is told.
    assert "offline_access" not in json.dumps(given["access"])
    assert "realm_access" not in given["access"]
    assert given["lifespan"] == 60


@pytest.mark.parametrize(("changes", "reason"), [
    ({"code_challenge": "", "code_challenge_method": ""}, "invalid_request"),
    ({"code_challenge_method": "plain"}, "invalid_request"),
    ({"response_type": "token"}, "unauthorized_client"),
    ({"response_type": "id_token", "nonce": "n"}, "unauthorized_client"),
    ({"scope": "openid offline_access"}, "invalid_scope"),
    ({"redirect_uri": REDIRECT + "/more"}, "400"),
    ({"redirect_uri": "https://grafana.demo.test.evil.test/login/generic_oauth"}, "400"),
])
def test_no_other_way_in_is_begun(there, changes, reason):
    assert there(f"reason(begin({REDIRECT!r}, **{changes!r})[1])") == reason


@pytest.mark.parametrize(("changes", "error"), [
    ({"client_secret": "wrong"}, "unauthorized_client"),
    ({"client_secret": ""}, "unauthorized_client"),
    ({"code_verifier": "w" * 43}, "invalid_grant"),
    ({"grant_type": "password", "username": "ada", "password": "stack-user-password"}, "unauthorized_client"),
    ({"grant_type": "client_credentials"}, "unauthorized_client"),
])
def test_no_other_way_to_a_token(there, people, secret, changes, error):
    assert there(f"tokens({secret!r}, {REDIRECT!r}, 'ada', **{changes!r})[1]['error']") == error


@pytest.mark.parametrize("back", [GRAFANA, GRAFANA + "/", GRAFANA + "/login"])
def test_a_log_out_leads_back_to_grafana(there, people, secret, back):
    status, location = there(f"log_out({secret!r}, {REDIRECT!r}, 'ada', {back!r})")
    assert (status, location) == (302, back)


def test_a_log_out_leads_nowhere_else(there, people, secret):
    assert there(f"log_out({secret!r}, {REDIRECT!r}, 'ada', 'https://evil.test/')") == [400, ""]


# -- what is changed by hand -------------------------------------------------------------------------------------------

def without_memory(found):
    """The representation without what two equal clients differ in."""
    text = json.loads(json.dumps(found))
    for mapper in text.setdefault("protocolMappers", []):
        mapper.pop("id", None)
    text["attributes"].pop("client.secret.creation.time", None)
    for name in ("defaultClientScopes", "optionalClientScopes"):
        text[name].sort()
    return text


MAPPER = {"name": "more", "protocol": "openid-connect", "protocolMapper": "oidc-hardcoded-claim-mapper",
          "config": {"claim.name": "roles", "claim.value": "grafana-admin", "id.token.claim": "true"}}


ATTRIBUTES = {"pkce.code.challenge.method": "", "post.logout.redirect.uris": "*", "access.token.lifespan": "86400",
              "oauth2.device.authorization.grant.enabled": "true", "oidc.ciba.grant.enabled": "true"}


@pytest.mark.parametrize(("drift", "seen"), [
    ({"redirectUris": ["*"]}, ["redirect_uris"]),
    ({"redirectUris": [REDIRECT, "https://evil.test/*"], "webOrigins": ["+"], "directAccessGrantsEnabled": True,
      "implicitFlowEnabled": True, "serviceAccountsEnabled": True, "enabled": False, "fullScopeAllowed": True,
      "frontchannelLogout": True, "adminUrl": "https://evil.test", "consentRequired": True,
      "rootUrl": "https://old.demo.test", "name": "Other",
      "description": "", "secret": "somebody-elses-secret", "protocolMappers": [MAPPER]},
     ["redirect_uris", "web_origins", "direct_access_grants_enabled", "implicit_flow_enabled",
      "service_accounts_enabled", "enabled", "full_scope_allowed", "frontchannel_logout", "consent_required",
      "admin_url", "root_url", "name", "description", "secret", "protocol_mappers",
      "default_client_scopes"]),  # Keycloak itself adds one for a service account
    ({"publicClient": True, "protocolMappers": []}, ["public_client", "secret", "protocol_mappers"]),
    ({"attributes": ATTRIBUTES}, ["attributes"]),
], ids=["redirect", "fields", "public", "attributes"])
def test_drift_is_seen_and_mended(client, edit, site, run, drift, seen):
    before = without_memory(client())
    edit(**drift)
    drifted = without_memory(client())
    outcome = site("--check")
    (found,) = [result["client_differs"] for result in outcome.results if "client_differs" in result]
    assert sorted(found) == sorted(seen)
    assert [result for result in outcome.results if result.get("changed")]
    assert without_memory(client()) == drifted
    assert run() == 1
    assert without_memory(client()) == before
    assert run() == 0


@pytest.mark.parametrize(("kind", "scope", "method"), [
    ("default", "roles", "PUT"), ("default", "email", "DELETE"), ("optional", "offline_access", "PUT")])
def test_scopes_are_mended(client, admin, run, kind, scope, method):
    before = without_memory(client())
    number = next(one["id"] for one in admin("GET", "/client-scopes") if one["name"] == scope)
    admin(method, f"/clients/{before['id']}/{kind}-client-scopes/{number}")
    assert (run("--check"), run(), run()) == (1, 1, 0)
    assert without_memory(client()) == before


def test_a_role_that_is_gone_comes_back(admin, client, run):
    admin("DELETE", "/roles/grafana-editor")
    assert run("--check") == 2  # the role, and that tokens name it
    assert names(admin("GET", "/roles?search=grafana-")) == [ROLES[0], ROLES[2]]
    assert (run(), run()) == (2, 0)
    assert names(admin("GET", f"/clients/{client()['id']}/scope-mappings/realm")) == ROLES


def test_what_people_set_beside_it_stays(client, edit, run):
    edit(attributes={"minimum.acr.value": "1"}, alwaysDisplayInConsole=True)
    assert run() == 0
    assert client()["attributes"]["minimum.acr.value"] == "1"
    assert client()["alwaysDisplayInConsole"] is True
    edit(attributes={"minimum.acr.value": ""}, alwaysDisplayInConsole=False)


def test_another_address_and_another_lifespan(site, client):
    before = without_memory(client())
    moved = {"grafana_external_url": "https://home.test:8443/grafana/", "keycloak_client_token_lifespan": 300}
    site(**moved)
    now = client()
    assert now["redirectUris"] == ["https://home.test:8443/grafana/login/generic_oauth"]
    assert now["webOrigins"] == ["https://home.test:8443"]
    assert now["baseUrl"] == "https://home.test:8443/grafana/"
    assert now["attributes"]["access.token.lifespan"] == "300"
    site()
    assert without_memory(client()) == before


# -- groups ------------------------------------------------------------------------------------------------------------

def test_groups_get_roles_and_lose_only_those(host, there, group, admin, run, secret):
    staff, others = group("staff"), group("others")
    viewer = admin("GET", f"/roles/{ROLES[2]}")
    number = admin("GET", "/group-by-path/others")["id"]
    admin("POST", f"/groups/{number}/role-mappings/realm", [viewer])  # by hand
    both = {"editor": ["/staff"], "viewer": ["/staff", "/others"]}
    assert run("--check", groups=both) == 2  # the groups, and the client that remembers it
    assert staff() == []
    run(groups=both)
    assert (staff(), others(), run(groups=both)) == (ROLES[1:], ROLES[2:], 0)
    host.check_output("python3 /opt/stack/realm.py join edith staff")
    assert sorted(there(f"log_in({secret!r}, {REDIRECT!r}, 'edith')")["id"]["roles"]) == ROLES[1:]
    fewer = {"viewer": ["/staff"]}
    assert run("--check", groups=fewer) == 2
    run(groups=fewer)
    assert (staff(), others(), run(groups=fewer)) == (ROLES[2:], ROLES[2:], 0)
    run()
    assert (staff(), others(), run()) == ([], ROLES[2:], 0)


# -- what can't be done ------------------------------------------------------------------------------------------------

@pytest.fixture
def refused(site, admin):
    """refused(url=…, admin={…}): what the run says; nothing may have changed by then."""
    def go(**changes):
        def everything():
            return [admin("GET", path) for path in ("/clients", "/roles", "/groups")]
        before = everything()
        outcome = site(refused=True, observability_single_sign_on=SSO | changes)
        assert everything() == before
        assert not [result for result in outcome.results if result.get("changed")]
        assert outcome.message.endswith("Nothing was changed.")
        assert PASSWORD not in outcome.text
        return outcome.message
    return go


def account(**changes):
    return SSO["admin"] | changes


def test_keycloak_is_away(refused, host):
    said = refused(url="https://127.0.0.1:9")
    assert said.startswith("observability_single_sign_on.url: Keycloak at https://127.0.0.1:9: ")
    assert "the connection is refused" in said
    said = refused(admin=account(url="https://keycloak.invalid"))
    assert said.startswith("observability_single_sign_on.admin.url: ")
    assert "can't resolve the name" in said
    deaf = "import socket, time; s = socket.create_server(('127.0.0.1', 9123)); time.sleep(120)"
    host.check_output("systemd-run --unit=deaf python3 -c %s", deaf)
    assert "does not answer within 10 s" in refused(admin=account(url="http://127.0.0.1:9123"))
    host.check_output("systemctl stop deaf")


def test_something_else_answers(refused):
    assert "does not answer as Keycloak (404" in refused(admin=account(url="http://127.0.0.1:9000"))
    assert "does not speak TLS" in refused(admin=account(url="https://127.0.0.1:9000"))
    assert "http-relative-path" in refused(admin=account(url=SSO["url"] + "/auth"))


def test_tls_can_not_be_verified(refused, host):
    said = refused(authority="")
    assert "can't be verified (self-signed certificate)" in said
    assert "Set observability_single_sign_on.authority to the path" in said
    host.check_output("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=Other -keyout /tmp/o.key -out /tmp/o.crt")
    assert "It was not signed by the authority in observability_single_sign_on.authority, /tmp/o.crt" in refused(
        authority="/tmp/o.crt")
    assert "/etc/hostname is no certificate in PEM" in refused(authority="/etc/hostname")
    assert "/etc/nowhere can't be read" in refused(authority="/etc/nowhere")
    host.check_output("sh -c 'echo 127.0.0.1 stranger.test >> /etc/hosts'")
    assert "made out to another name" in refused(url="https://stranger.test:8443")


def test_the_account_is_refused(refused):
    said = refused(admin=account(password="wrong-password"))
    assert said.startswith("observability_single_sign_on.admin.password: ")
    assert "the account 'admin' of realm 'master'" in said
    assert "wrong-password" not in said
    assert refused(admin=account(realm="nowhere")).startswith("observability_single_sign_on.admin.realm: ")
    said = refused(admin={"client_id": "robot", "client_secret": "wrong-secret"})
    assert said.startswith("observability_single_sign_on.admin.client_secret: ")
    assert "wrong-secret" not in said
    assert "direct access grants" in refused(admin=account(client_id="account"))


def test_the_realm_is_missing(refused):
    said = refused(realm="nowhere")
    assert said.startswith("observability_single_sign_on.realm: there is no realm 'nowhere'")
    assert "observability_single_sign_on.create_realm: true" in said
    assert "has no groups" in refused(realm="nowhere", create_realm=True, groups={"admin": ["/staff"]})


def test_a_group_is_missing(refused):
    assert "realm 'home' has no group /nowhere and no group /staff/never" in refused(
        groups={"admin": ["/nowhere"], "viewer": ["/staff/never"]})


@pytest.fixture
def helper(admin):
    """helper("manage-clients"): an account of the realm with these rights and no others."""
    def make(*rights):
        manager = admin("GET", "/clients?clientId=realm-management")[0]["id"]
        for user in admin("GET", "/users?username=helper&exact=true"):
            admin("DELETE", f"/users/{user['id']}")
        admin("POST", "/users", {
            "username": "helper", "enabled": True, "firstName": "H", "lastName": "H", "email": "helper@stack.test",
            "credentials": [{"type": "password", "value": "helper-password", "temporary": False}]})
        number = admin("GET", "/users?username=helper&exact=true")[0]["id"]
        admin("POST", f"/users/{number}/role-mappings/clients/{manager}",
              [admin("GET", f"/clients/{manager}/roles/{right}") for right in rights])
        return {"realm": "home", "username": "helper", "password": "helper-password"}
    return make


FRESH = {"admin": "fresh-admin", "editor": "fresh-editor", "viewer": "fresh-viewer"}


@pytest.mark.parametrize(("rights", "changes", "missing"), [
    ([], {}, "the roles manage-clients, manage-realm of the client 'realm-management' in realm 'home'"),
    (["view-clients", "view-realm"], {}, "the role manage-clients of"),
    (["manage-clients"], {}, "the role manage-realm of"),
    (["manage-clients", "view-realm"], {"roles": FRESH}, "the role manage-realm of"),
    (["manage-clients", "manage-realm"], {"groups": {"viewer": ["/staff"]}}, "the role manage-users of"),
    (["manage-clients", "manage-realm", "view-users"], {"groups": {"viewer": ["/staff"]}}, "the role manage-users of"),
    (["realm-admin"], {"realm": "another", "create_realm": True}, "the role create-realm of realm 'master'"),
], ids=str)
def test_the_account_lacks_a_right(refused, helper, group, rights, changes, missing):
    group("staff")
    said = refused(admin=helper(*rights), **changes)
    assert "the account 'helper' of realm 'home' lacks a right" in said
    assert f"Give it {missing}" in said


def test_three_rights_are_enough(run, helper, group, admin):
    staff = group("staff")
    little = helper("manage-clients", "manage-realm", "manage-users")
    other = {"admin": little, "roles": FRESH, "groups": {"viewer": ["/staff"]}, "client_id": "second"}
    assert run(**other) > 0
    assert (staff(), run(**other)) == (["fresh-viewer"], 0)
    run("-e", "keycloak_client_state=absent", **other)
    assert admin("GET", "/clients?clientId=second") == []
    assert names(admin("GET", "/roles?search=fresh-")) == []


# -- secrets -----------------------------------------------------------------------------------------------------------

WATCH = """
import glob, json, os, time
seen = set()
while not os.path.exists("/tmp/stop-watching"):
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            seen.add(open(path, errors="replace").read())
        except OSError:
            continue
    with open("/tmp/watched.new", "w") as out:
        json.dump(sorted(seen), out)
    os.rename("/tmp/watched.new", "/tmp/watched")
    time.sleep(0.01)
"""


@pytest.mark.parametrize("core", ["", ".venv-2.19/bin"])
def test_no_secret_is_shown_or_kept(host, playbook, edit, secret, core, monkeypatch):
    """Not by the most talkative run with a difference to show, not in the journal, and not among the processes."""
    if core:
        monkeypatch.setenv("PATH", f"{ROOT / core}:{os.environ['PATH']}")
        assert "[core 2.19." in subprocess.run(["ansible", "--version"], capture_output=True, text=True,
                                               check=True).stdout
    edit(secret="a-secret-that-was-there", redirectUris=["*"])
    secrets = [secret, PASSWORD, "a-secret-that-was-there"]
    began = host.check_output("date +%s")
    host.check_output("rm -f /tmp/stop-watching")
    host.check_output("systemd-run --unit=watch python3 -c %s", WATCH)
    try:
        for arguments in (["--check"], [], []):
            outcome = playbook("site.yml", "--tags", "keycloak_client", "-vvvv", "--diff", *arguments, structured=False)
            assert outcome.code == 0, outcome.text[-3000:]
            assert "keycloak_state" in outcome.text
            assert not [one for one in secrets if one in outcome.text]
    finally:
        host.check_output("touch /tmp/stop-watching")
    called = host.check_output("journalctl --no-pager --since=@%s -t %s", began,
                               "ansible-community.general.keycloak_client")
    assert "Invoked with" in called, "the journal holds what other people's modules are called with"
    journal = host.check_output("journalctl --no-pager --output=export")
    assert not [one for one in secrets if one in journal]
    processes = host.file("/tmp/watched").content_string
    assert "python3" in processes
    assert not [one for one in secrets if one in processes]


# -- where there is nothing to do --------------------------------------------------------------------------------------

@pytest.mark.parametrize("given", [
    {"observability_single_sign_on": {}},
    {"observability_single_sign_on": {name: value for name, value in SSO.items() if name != "admin"}},
    {"grafana_state": "absent"},
], ids=["no log-in", "no admin", "no Grafana"])
def test_keycloak_is_left_alone(site, given):
    outcome = site(**given)
    assert not [result for result in outcome.results if "client_differs" in result or result.get("changed")]


def test_a_realm_is_made_where_that_is_wanted(run, admin, client):
    new = {"realm": "new", "create_realm": True}
    expected = run("--check", **new)
    assert admin("GET", "", realm="new") is None
    # The realm, the client, three roles in one task, and that tokens name them: each is announced.
    assert expected == 6
    assert (run(**new), run(**new)) == (6, 0)
    assert admin("GET", "/clients?clientId=grafana", realm="new")[0]["secret"] == client()["secret"]
    run("-e", "keycloak_client_state=absent", **new)
    assert admin("GET", "", realm="new")["enabled"] is True  # the realm stays
    assert admin("GET", "/clients?clientId=grafana", realm="new") == []
    admin("DELETE", "", realm="new")


# -- removal -----------------------------------------------------------------------------------------------------------

@pytest.mark.last
def test_removal_takes_what_was_made_and_nothing_else(run, admin, client, group):
    staff = group("staff")
    gone = ["-e", "keycloak_client_state=absent"]
    assert run("--check", *gone) == 4
    assert client()
    assert (run(*gone), run(*gone), client()) == (4, 0, None)
    assert names(admin("GET", "/roles?search=grafana-")) == []

    admin("POST", "/roles", {"name": ROLES[2], "description": "The user's own."})
    run(groups={"viewer": ["/staff"]})
    assert (staff(), names(admin("GET", "/roles?search=grafana-"))) == (ROLES[2:], ROLES)
    run(*gone)
    assert admin("GET", f"/roles/{ROLES[2]}")["description"] == "The user's own."
    assert (staff(), names(admin("GET", "/roles?search=grafana-"))) == ([], [ROLES[2]])
    assert names(admin("GET", "/groups")) == ["staff"]
    admin("DELETE", f"/roles/{ROLES[2]}")
    assert run() > 0
