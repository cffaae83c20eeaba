#!/usr/bin/python
# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: keycloak_state
short_description: What is still to be done in a Keycloak realm for Grafana's client, and whether that can be done
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - Asks Keycloak in one go for a log-in client, its roles and what groups have of them, and says what differs. A run
    that finds nothing to do needs no other module.
  - Fails, before anything is changed, with what is wrong and what to do about it. Keycloak may not be reached or
    trusted, the account may be refused or lack a right, the realm or a group may be missing.
  - Changes nothing. The modules C(community.general.keycloak_*) do.
attributes:
  check_mode:
    support: full
    description: Nothing is changed in any case.
  diff_mode:
    support: none
    description: Nothing is changed.
options:
  state:
    description: Whether the client is to be there.
    type: str
    choices: [present, absent]
    default: present
  url:
    description: Base address of Keycloak for people, which messages name.
    type: str
    required: true
  realm:
    description: The realm of the client.
    type: str
    required: true
  create_realm:
    description: Whether a missing realm will be made.
    type: bool
    default: false
  authority:
    description:
      - Path of the certificate that Keycloak's is verified with, which messages name. The verification itself follows
        the environment variable C(SSL_CERT_FILE), as it does in the modules that make the changes.
    type: path
  admin:
    description: How to reach the administration.
    type: dict
    required: true
    suboptions:
      url:
        description: Base address.
        type: str
        required: true
      realm:
        description: Realm of the account.
        type: str
        required: true
      username:
        description: Name of the account. Empty for a service account.
        type: str
      password:
        description: Its password.
        type: str
      client_id:
        description: The client to log in with.
        type: str
        required: true
      client_secret:
        description: Its secret. Empty for a public client.
        type: str
  client_id:
    description: Name of the client.
    type: str
    required: true
  client:
    description:
      - What the client is to be, in the words of M(community.general.keycloak_client). Attributes that are not named
        may be anything, and so may fields that are not named.
    type: dict
    default: {}
  client_secret:
    description: Its secret.
    type: str
  roles:
    description: The realm roles that the client's tokens name, by a word of the caller's own.
    type: dict
    required: true
  groups:
    description: Paths of the groups whose members get these roles, by the same words.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: What is to be done for Grafana in Keycloak?
  aistack.observability.keycloak_state:
    url: https://keycloak.example.org
    realm: home
    admin: {url: "https://keycloak.example.org", realm: master, client_id: admin-cli, username: admin,
            password: "{{ vault_keycloak_password }}"}
    client_id: grafana
    client: {public_client: false, redirect_uris: ["https://grafana.example.org/login/generic_oauth"]}
    client_secret: "{{ vault_client_secret }}"
    roles: {admin: grafana-admin, editor: grafana-editor, viewer: grafana-viewer}
    groups: {admin: [/staff/operators]}
"""

RETURN = r"""
realm_missing:
  description: The realm is not there.
  returned: success
  type: bool
client_missing:
  description: The client is not there.
  returned: success
  type: bool
client_differs:
  description: What is to be changed at the client, by the names of its fields; all of them where it is missing.
  returned: success
  type: list
  elements: str
client_scopes:
  description: The client scopes that the client has by default.
  returned: success
  type: list
  elements: str
missing_roles:
  description: Realm roles that are to be made.
  returned: success
  type: list
  elements: str
missing_in_scope:
  description: Realm roles that the client's tokens don't name yet.
  returned: success
  type: list
  elements: str
grants:
  description: Groups that are to get roles, each with its C(id), C(path) and C(roles).
  returned: success
  type: list
  elements: dict
withdrawals:
  description: Groups that are to lose roles that an earlier run gave them, in the same form.
  returned: success
  type: list
  elements: dict
own_roles:
  description: With O(state=absent), the roles that an earlier run made and that are still there.
  returned: success
  type: list
  elements: str
memory:
  description: What to keep at the client, so that a later run knows what was made here and what by other people.
  returned: success
  type: str
later:
  description: What would follow in a run that changes something and can't be looked at before.
  returned: success
  type: list
  elements: str
"""

import json
import socket
import ssl
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode

from ansible.module_utils.urls import open_url
from ansible_collections.aistack.observability.plugins.module_utils.quiet import QuietModule

VARIABLE = "observability_single_sign_on"
MEMORY = "aistack.made"
TIMEOUT = 10
# Without the first no token says who somebody is (Keycloak 25 and newer; older ones do it without a scope).
SCOPES = ("basic", "profile", "email")
OPTIONAL_SCOPES = ("basic",)


class Problem(Exception):
    """What stands in the way, and what to do about it."""


class Keycloak:
    """The administration of a Keycloak, in the words of its REST interface."""

    def __init__(self, params: dict) -> None:
        self._admin = params["admin"]
        self._authority = params["authority"] or ""
        self._url = self._admin["url"].rstrip("/")
        own = self._url != params["url"].rstrip("/")
        self._variable = "%s%s" % (VARIABLE, ".admin.url" if own else ".url")
        self._token = ""

    @property
    def account(self) -> str:
        kind, name = (("account", self._admin["username"]) if self._admin.get("username")
                      else ("service account", self._admin["client_id"]))
        return "%s %r of realm %r" % (kind, name, self._admin["realm"])

    def log_in(self) -> None:
        self._check_authority()
        form = {"grant_type": "client_credentials", "client_id": self._admin["client_id"]}
        if self._admin.get("username"):
            form.update(grant_type="password", username=self._admin["username"],
                        password=self._admin.get("password") or "")
        if self._admin.get("client_secret"):
            form["client_secret"] = self._admin["client_secret"]
        path = "/realms/%s/protocol/openid-connect/token" % quote(self._admin["realm"], safe="")
        status, answer = self._send("POST", path, urlencode(form), "application/x-www-form-urlencoded")
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if status == 200 and token:
            self._token = token
            return
        raise Problem(self._refused_login(status, answer))

    def _check_authority(self) -> None:
        """A file without a certificate is otherwise taken without a word."""
        if not self._authority:
            return
        try:
            ssl.create_default_context(cafile=self._authority)
        except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
            said = "is no certificate in PEM" if isinstance(error, ssl.SSLError) else "can't be read on this host"
            raise Problem("%s.authority: %s %s. Place the certificate of the authority that signed Keycloak's "
                          "certificate there, in PEM" % (VARIABLE, self._authority, said)) from error

    def ask(self, path: str, body=None, method: str = ""):
        """Status and answer of a question to the administration."""
        status, answer = self._send(method or ("GET" if body is None else "POST"), "/admin/realms" + path,
                                    None if body is None else json.dumps(body), "application/json")
        if status == 401:
            raise Problem("Keycloak at %s took the %s at its token endpoint, but not in its administration (401). Is "
                          "%s the address that Keycloak itself knows (its option `hostname`)?"
                          % (self._url, self.account, self._variable))
        if status >= 500:
            raise Problem(self._strange(status, answer))
        return status, answer

    def _send(self, method: str, path: str, data, kind: str):
        headers = {"Content-Type": kind, "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = "Bearer " + self._token
        try:
            try:
                reply = open_url(self._url + path, method=method, data=data, headers=headers, timeout=TIMEOUT,
                                 http_agent="aistack.observability")
                status, text = reply.getcode(), reply.read()
            except HTTPError as error:
                status, text = error.code, error.read()
        except (OSError, HTTPException, ValueError) as error:
            raise Problem(self._no_answer(error)) from error
        try:
            return status, json.loads(text) if text else None
        except ValueError:
            return status, text.decode("utf-8", "replace")

    # -- in clear words -----------------------------------------------------------------------------------------------

    def _no_answer(self, error: Exception) -> str:
        reason = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
        where = "%s: Keycloak at %s" % (self._variable, self._url)
        if isinstance(reason, ssl.SSLCertVerificationError):
            said = reason.verify_message
            if reason.verify_code in (62, 64):  # a name, or an address, that the certificate isn't made out to
                return "%s shows a certificate that is made out to another name (%s). Use the name that it holds" % (
                    where, said)
            if reason.verify_code == 10:
                return "%s shows a certificate that has expired. Renew it" % where
            fix = ("It was not signed by the authority in %s.authority, %s: place the right one there"
                   % (VARIABLE, self._authority)) if self._authority else (
                       "Set %s.authority to the path, on this host, of the certificate of the authority that signed "
                       "it, in PEM" % VARIABLE)
            return "%s shows a certificate that can't be verified (%s). %s" % (where, said, fix)
        if isinstance(reason, ssl.SSLError):
            return "%s does not speak TLS as expected (%s). Is https right?" % (
                where, getattr(reason, "reason", None) or reason)
        if isinstance(reason, socket.gaierror):
            return "%s: this host can't resolve the name (%s). Correct the address or the name service" % (
                where, reason.strerror)
        if isinstance(reason, (socket.timeout, TimeoutError)):
            return "%s does not answer within %d s. Is a firewall in between, or Keycloak overloaded?" % (
                where, TIMEOUT)
        if isinstance(reason, ConnectionRefusedError):
            return "%s: the connection is refused. Start Keycloak, or correct the address and port" % where
        return "%s can't be asked (%s). Correct the address, or see what Keycloak's log says" % (
            where, str(reason) or type(reason).__name__)

    def _refused_login(self, status: int, answer) -> str:
        error, said = "", ""
        if isinstance(answer, dict):
            error, said = str(answer.get("error") or ""), str(answer.get("error_description") or "")
        admin, where = VARIABLE + ".admin", "Keycloak at %s" % self._url
        if status == 404 and "ealm" in error:
            return "%s.realm: %s has no realm %r, in which the %s would be" % (
                admin, where, self._admin["realm"], self.account.split(" of ", maxsplit=1)[0])
        if "HTTPS required" in said:
            return "%s: %s wants https for this. Give its https address" % (self._variable, where)
        if error in ("unauthorized_client", "invalid_client", "invalid_grant"):
            if not self._admin.get("username") or said.startswith("Invalid client"):
                return ("%s.client_secret: %s refuses the client %r of realm %r (%s). Correct its id and secret; it "
                        "must be confidential, with service accounts enabled"
                        % (admin, where, self._admin["client_id"], self._admin["realm"], said or error))
            if said == "Invalid user credentials":
                return ("%s.password: %s refuses the %s. Correct name and password; an account with a second factor "
                        "can't be used, a service account can (client_id and client_secret)"
                        % (admin, where, self.account))
            if said.startswith("Client not allowed"):
                return ("%s.client_id: %s lets nobody log in with the client %r of realm %r (%s). Use admin-cli, or "
                        "enable direct access grants for it" % (admin, where, self._admin["client_id"],
                                                                self._admin["realm"], said))
            return "%s: %s refuses the %s (%s). Put the account in order in Keycloak" % (
                admin, where, self.account, said or error)
        return self._strange(status, answer)

    def _strange(self, status: int, answer) -> str:
        fix = ("Is it still starting?" if status in (502, 503, 504) else
               "Correct the address; a Keycloak with `http-relative-path` has that path in it")
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return "%s: what answers at %s does not answer as Keycloak (%s %s). %s" % (
            self._variable, self._url, status, " ".join(text.split())[:120], fix)

    def lacks(self, names: list, realm: str) -> str:
        home = self._admin["realm"]
        if names == ["create-realm"]:
            roles = "the role create-realm of realm 'master'"
        elif home not in ("master", realm):
            return ("%s.admin.realm: the %s can't work on realm %r. Use an account of that realm or of 'master'"
                    % (VARIABLE, self.account, realm))
        else:
            client = realm + "-realm" if home == "master" else "realm-management"
            roles = "%s of the client %r in realm %r" % (
                ("the role " if len(names) == 1 else "the roles ") + ", ".join(names), client, home)
        return ("%s.admin: the %s lacks a right. Give it %s, or use another account" % (VARIABLE, self.account, roles))


class State:
    """Compares a realm with what is wanted of it."""

    def __init__(self, keycloak: Keycloak, params: dict) -> None:
        self._keycloak, self._params = keycloak, params
        self._realm, self._client_id = params["realm"], params["client_id"]
        self._path = "/" + quote(self._realm, safe="")
        self._present = params["state"] == "present"
        self._roles = list(dict.fromkeys(params["roles"].values()))
        self._groups: dict = {}
        for word, paths in params["groups"].items():
            for path in paths or ():
                self._groups.setdefault(params["roles"][word], []).append(path)
        self._lacking: list = []
        self._group_ids: dict = {}

    def compare(self) -> dict:
        self._keycloak.log_in()
        done = {"realm_missing": False, "client_missing": True, "client_differs": [], "client_scopes": [],
                "missing_roles": [], "missing_in_scope": [], "grants": [], "withdrawals": [], "own_roles": [],
                "memory": "", "later": []}
        # What an account may not see looks as if it were not there, so a missing right stops the comparison.
        if self._keycloak.ask(self._path)[0] == 404:
            return done | self._without_realm()
        client = self._client()
        have = self._realm_roles()
        self._stop_if_lacking()
        made = self._remembered(client)
        done["client_missing"] = client is None
        if not self._present:
            done["own_roles"] = sorted(set(made["roles"]) & have)
            kept = {role: paths for role, paths in made["groups"].items() if role not in done["own_roles"]}
            done["withdrawals"] = self._withdrawals(kept, {}, have)
        else:
            done["client_scopes"] = self._client_scopes()
            done["missing_roles"] = [role for role in self._roles if role not in have]
            scope = self._get("/clients/%s/scope-mappings/realm" % client["id"]) if client else []
            named = {role["name"] for role in scope or ()}
            done["missing_in_scope"] = [role for role in self._roles if role not in named]
            done["grants"] = self._grants()
            done["withdrawals"] = self._withdrawals(made["groups"], self._groups, have)
            done["memory"] = self._memory(made, done)
            done["client_differs"] = self._differences(client or {}, done)
            done["later"] = self._later(done)
        self._check_rights(done)
        self._stop_if_lacking()
        return done

    def _without_realm(self) -> dict:
        if not self._present:
            return {"realm_missing": True}
        if not self._params["create_realm"]:
            raise Problem("%s.realm: there is no realm %r in Keycloak. Correct the name, make the realm, or have it "
                          "made with %s.create_realm: true" % (VARIABLE, self._realm, VARIABLE))
        if self._groups:
            raise Problem("%s.groups: realm %r is yet to be made, so it has no groups. Leave them out of this run, "
                          "make them in Keycloak, then run again with them" % (VARIABLE, self._realm))
        # An empty name is refused by everybody's Keycloak, to those who may not make realms with another answer.
        if self._keycloak.ask("", {"realm": ""})[0] == 403:
            raise Problem(self._keycloak.lacks(["create-realm"], self._realm))
        done = {"realm_missing": True, "client_scopes": list(SCOPES), "missing_roles": self._roles,
                "missing_in_scope": self._roles, "grants": []}
        done["memory"] = self._memory({"roles": [], "groups": {}}, done)
        done["client_differs"] = self._differences({}, done)
        return done | {"later": ["Client %s in realm %s" % (self._client_id, self._realm)] + self._later(
            done | {"client_missing": True})}

    # -- what is there ------------------------------------------------------------------------------------------------

    def _get(self, path: str):
        status, answer = self._keycloak.ask(self._path + path)
        if status == 403:
            return None
        if status != 200:
            raise Problem("Keycloak does not answer %s%s (%s)" % (self._path, path, status))
        return answer

    def _client(self):
        """The client; every client says what the account may do with it, so another one serves where it is missing."""
        for client_id in (self._client_id, "account"):
            found = self._get("/clients?clientId=" + quote(client_id, safe=""))
            if found is None or (found and not found[0].get("access", {}).get("manage")):
                self._lacking.append("manage-clients")
                return None
            if found:
                return found[0] if client_id == self._client_id else None
        return None

    def _realm_roles(self) -> set:
        roles = self._get("/roles")
        if roles is None:
            self._lacking.append("manage-realm")
        return {role["name"] for role in roles or ()}

    def _client_scopes(self) -> list:
        have = {scope["name"] for scope in self._get("/client-scopes") or ()}
        for name in SCOPES:
            if name not in have and name not in OPTIONAL_SCOPES:
                raise Problem("Realm %r has no client scope %r, without which Grafana does not learn who logs in. Make "
                              "it in Keycloak, as every new realm has it" % (self._realm, name))
        return [name for name in SCOPES if name in have]

    def _group(self, path: str):
        """The id of a group and the realm roles that it has itself; None if it is not there."""
        if path not in self._group_ids:
            status, group = self._keycloak.ask(
                "%s/group-by-path/%s" % (self._path, quote(path.strip("/"), safe="/")))
            if status == 403:
                self._lack("manage-users")
                return None
            self._group_ids[path] = group["id"] if status == 200 else None
        number = self._group_ids[path]
        if number is None:
            return None
        roles = self._get("/groups/%s/role-mappings/realm" % number)
        if roles is None:
            self._lack("manage-users")
        return number, {role["name"] for role in roles or ()}

    # -- what is to be done -------------------------------------------------------------------------------------------

    def _differences(self, client: dict, done: dict) -> list:
        """As strict as the module that makes the changes, so that it never misses what that one would change."""
        attributes = dict(self._params["client"].get("attributes") or {}, **{MEMORY: done["memory"]})
        wanted = dict(self._params["client"], secret=self._params["client_secret"], attributes=attributes,
                      default_client_scopes=done["client_scopes"], optional_client_scopes=[])
        differences = []
        for name, value in wanted.items():
            first, *others = name.split("_")
            # What is false is left out of some answers.
            have = client.get(first + "".join(word.capitalize() for word in others), False if value is False else None)
            if name == "attributes":
                have = {key: (have or {}).get(key) for key in value}
            elif name == "protocol_mappers":
                have = [{key: mapper[key] for key in mapper if key != "id"} for mapper in have or ()]
            elif isinstance(value, list):
                have, value = sorted(have or ()), sorted(value)
            if have != value or not client:
                differences.append(name)
        return differences

    def _grants(self) -> list:
        wanted: dict = {}
        for role, paths in self._groups.items():
            for path in paths:
                wanted.setdefault(path, []).append(role)
        grants, missing = [], []
        for path, roles in wanted.items():
            group = self._group(path)
            self._stop_if_lacking()
            if group is None:
                missing.append(path)
                continue
            roles = [role for role in roles if role not in group[1]]
            if roles:
                grants.append({"id": group[0], "path": path, "roles": roles})
        if missing:
            raise Problem("%s.groups: realm %r has no %s. Correct the path, or make the group in Keycloak" % (
                VARIABLE, self._realm, " and no ".join("group " + path for path in missing)))
        return grants

    def _withdrawals(self, given: dict, wanted: dict, have: set) -> list:
        """A group that somebody took away, or whose role is gone, has nothing left to lose."""
        lost: dict = {}
        for role in sorted(set(given) & have):
            for path in given[role]:
                if path not in wanted.get(role, []):
                    lost.setdefault(path, []).append(role)
        done = []
        for path, roles in sorted(lost.items()):
            group = self._group(path)
            roles = [role for role in roles if group and role in group[1]]
            if group and roles:
                done.append({"id": group[0], "path": path, "roles": roles})
        return done

    @staticmethod
    def _remembered(client) -> dict:
        try:
            made = json.loads(((client or {}).get("attributes") or {}).get(MEMORY) or "{}")
            return {"roles": [str(role) for role in made.get("roles", [])],
                    "groups": {str(role): [str(path) for path in paths]
                               for role, paths in made.get("groups", {}).items()}}
        except (ValueError, TypeError, AttributeError):
            return {"roles": [], "groups": {}}  # somebody edited it: then nothing is ours

    def _memory(self, made: dict, done: dict) -> str:
        groups: dict = {}
        for role, paths in self._groups.items():
            granted = {grant["path"] for grant in done["grants"] if role in grant["roles"]}
            own = [path for path in paths if path in granted or path in made["groups"].get(role, [])]
            if own:
                groups[role] = sorted(own)
        return json.dumps({"groups": groups, "roles": sorted({*made["roles"], *done["missing_roles"]})},
                          sort_keys=True, separators=(",", ":"))

    def _later(self, done: dict) -> list:
        later = []
        if done["missing_in_scope"] and (done["client_missing"] or done["missing_roles"]):
            later.append("Tokens of client %s name the roles %s" % (
                self._client_id, ", ".join(done["missing_in_scope"])))
        return later + ["Group %s gets the roles %s" % (grant["path"], ", ".join(grant["roles"]))
                        for grant in done["grants"] if set(grant["roles"]) & set(done["missing_roles"])]

    # -- rights -------------------------------------------------------------------------------------------------------

    def _check_rights(self, done: dict) -> None:
        """Ask for what changes nothing and is still refused to those who may not do it: only if it is to be done."""
        if (done["missing_roles"] or done["own_roles"]) and self._keycloak.ask(self._path + "/roles", {})[0] == 403:
            self._lack("manage-realm")
        for group in (done["grants"] + done["withdrawals"])[:1]:
            path = "%s/groups/%s/role-mappings/realm" % (self._path, group["id"])
            if self._keycloak.ask(path, [])[0] == 403:
                self._lack("manage-users")

    def _lack(self, name: str) -> None:
        if name not in self._lacking:
            self._lacking.append(name)

    def _stop_if_lacking(self) -> None:
        if self._lacking:
            raise Problem(self._keycloak.lacks(self._lacking, self._realm))


def main() -> None:
    optional = {"type": "str"}
    needed = {"type": "str", "required": True}
    module = QuietModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "url": needed, "realm": needed, "client_id": needed,
            "create_realm": {"type": "bool", "default": False}, "authority": {"type": "path"},
            "admin": {"type": "dict", "required": True, "options": {
                "url": needed, "realm": needed, "username": optional, "password": {"type": "str", "no_log": True},
                "client_id": needed, "client_secret": {"type": "str", "no_log": True}}},
            "client": {"type": "dict", "default": {}}, "client_secret": {"type": "str", "no_log": True},
            "roles": {"type": "dict", "required": True},
            "groups": {"type": "dict", "default": {}},
        }, supports_check_mode=True)
    try:
        module.exit_json(changed=False, **State(Keycloak(module.params), module.params).compare())
    except Problem as problem:
        text = str(problem)
        module.fail_json(msg="%s%s Nothing was changed." % (text, "" if text.endswith("?") else "."))


if __name__ == "__main__":
    main()
