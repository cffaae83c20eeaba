#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Works on the realm of the stack's Keycloak. Runs on its host, as root, with any Python >= 3.9 and nothing else.

    realm.py users                    the realm, and ada, edith, victor and nobody in it
    realm.py grant|revoke USER ROLE   a role of the realm
    realm.py join|leave USER GROUP    a group, which is made when it is missing
    realm.py password USER            a new password, read from stdin
    realm.py logout USER              ends all sessions
    realm.py set KEY=VALUE …          settings of the realm (accessTokenLifespan, ssoSessionMaxLifespan, …)

Prints `changed` or `ok`. How to reach it is in /etc/stack/keycloak.json, which only root can read.
"""

import argparse
import json
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

SETTINGS = "/etc/stack/keycloak.json"
USERS = {"ada": "Admin", "edith": "Editor", "victor": "Viewer", "nobody": "Roleless"}


class Trouble(Exception):
    """Something that a person can read in one sentence."""


def quote(text):
    return urllib.parse.quote(text, safe="")


class Keycloak:
    def __init__(self, settings):
        self.settings = settings
        self.realm = settings["realm"]
        authority = settings.get("authority")
        self.tls = ssl.create_default_context(cafile=authority) if authority else None
        login = {"grant_type": "password", "client_id": "admin-cli",
                 "username": settings["username"], "password": settings["password"]}  # fmt: skip
        status, answer = self.send(
            "POST", "/realms/master/protocol/openid-connect/token", urllib.parse.urlencode(login).encode()
        )
        if status != 200:
            raise Trouble(f"Keycloak refused the administrator ({status}): {answer}")
        self.token = answer["access_token"]

    def send(self, method, path, data=None, **headers):
        """The status and the JSON of an answer; a refusal is an answer, too."""
        request = urllib.request.Request(self.settings["url"] + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.tls) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def call(self, method, path, body=None, missing=False):
        """The answer of the admin API below the realm; with `missing`, None for what isn't there."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": "Bearer " + self.token, "Content-Type": "application/json"}
        status, answer = self.send(method, f"/admin/realms{path}", data, **headers)
        if status == 404 and missing:
            return None
        if status >= 300:
            raise Trouble(f"Keycloak refused {method} {path} ({status}): {answer}")
        return answer

    def inside(self, method, path, body=None, missing=False):
        return self.call(method, f"/{quote(self.realm)}{path}", body, missing)

    def user(self, name):
        """The id of a user, or nothing."""
        found = self.inside("GET", f"/users?exact=true&username={quote(name)}")
        return found[0]["id"] if found else None

    def known(self, name):
        identity = self.user(name)
        if not identity:
            raise Trouble(f"the realm {self.realm} has no user {name}")
        return identity


def users(keycloak):
    changed = False
    if keycloak.inside("GET", "", missing=True) is None:
        keycloak.call("POST", "", {"realm": keycloak.realm, "enabled": True})
        changed = True
    for name, last in USERS.items():
        if keycloak.user(name):
            continue
        keycloak.inside("POST", "/users", {
            "username": name, "enabled": True, "firstName": name.capitalize(), "lastName": last,
            "email": name + "@stack.test", "emailVerified": True,
            "credentials": [{"type": "password", "value": keycloak.settings["user_password"], "temporary": False}],
        })  # fmt: skip
        changed = True
    return changed


def role(keycloak, name, wanted, there):
    """Gives (there) or takes a role of the realm, which somebody else must have made."""
    path = f"/users/{keycloak.known(name)}/role-mappings/realm"
    one = keycloak.inside("GET", f"/roles/{quote(wanted)}", missing=True)
    if one is None:
        raise Trouble(f"the realm {keycloak.realm} has no role {wanted}")
    if (wanted in [given["name"] for given in keycloak.inside("GET", path)]) == there:
        return False
    keycloak.inside("POST" if there else "DELETE", path, [one])
    return True


def group(keycloak, name, wanted, there):
    path = f"/users/{keycloak.known(name)}/groups"
    if (wanted in [one["name"] for one in keycloak.inside("GET", path)]) == there:
        return False

    def found():
        return [one["id"] for one in keycloak.inside("GET", f"/groups?exact=true&search={quote(wanted)}")]

    if not found():
        keycloak.inside("POST", "/groups", {"name": wanted})
    keycloak.inside("PUT" if there else "DELETE", f"{path}/{found()[0]}")
    return True


def password(keycloak, name, value):
    wanted = {"type": "password", "value": value, "temporary": False}
    keycloak.inside("PUT", f"/users/{keycloak.known(name)}/reset-password", wanted)
    return True


def logout(keycloak, name):
    identity = keycloak.known(name)
    if not keycloak.inside("GET", f"/users/{identity}/sessions"):
        return False
    keycloak.inside("POST", f"/users/{identity}/logout")
    return True


def parsed(value):
    """Numbers and true or false are meant as such."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def change(keycloak, pairs):
    wanted = {key: parsed(value) for key, value in (pair.split("=", 1) for pair in pairs)}
    there = keycloak.inside("GET", "")
    unknown = set(wanted) - set(there)
    if unknown:
        raise Trouble(f"a realm has no setting {', '.join(sorted(unknown))}")
    if all(there[key] == value for key, value in wanted.items()):
        return False
    keycloak.inside("PUT", "", wanted)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--realm", help="another realm than that of the stack")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("users")
    for command, what in (("grant", "role"), ("revoke", "role"), ("join", "group"), ("leave", "group")):
        one = commands.add_parser(command)
        one.add_argument("user")
        one.add_argument(what)
    for command in ("password", "logout"):
        commands.add_parser(command).add_argument("user")
    commands.add_parser("set").add_argument("pairs", nargs="+", metavar="KEY=VALUE")
    args = parser.parse_args()
    if args.command == "set" and not all("=" in pair for pair in args.pairs):
        parser.error("set wants KEY=VALUE")
    try:
        with open(SETTINGS, encoding="utf-8") as handle:
            settings = json.load(handle)
        keycloak = Keycloak(dict(settings, realm=args.realm or settings["realm"]))
        changed = {
            "users": lambda: users(keycloak),
            "grant": lambda: role(keycloak, args.user, args.role, True),
            "revoke": lambda: role(keycloak, args.user, args.role, False),
            "join": lambda: group(keycloak, args.user, args.group, True),
            "leave": lambda: group(keycloak, args.user, args.group, False),
            "password": lambda: password(keycloak, args.user, sys.stdin.readline().rstrip("\n")),
            "logout": lambda: logout(keycloak, args.user),
            "set": lambda: change(keycloak, args.pairs),
        }[args.command]()
    except (Trouble, OSError) as trouble:
        sys.exit(str(trouble))
    print("changed" if changed else "ok")


if __name__ == "__main__":
    main()
