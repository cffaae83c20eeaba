#!/usr/bin/python
# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: component
short_description: Make a declared component true on a systemd host, as one transaction
version_added: 0.1.0
author: aistack.observability contributors (@aistack)
description:
  - A component is a program, its account, directories, files and unit. The task declares them, the module compares the
    declaration with the host, stages what is new, lets the component's own checkers judge it, switches, and asks the
    component its real question. If the answer doesn't come, the last proven state is put back and asked too.
  - After a kill at any moment the next run restores the last proven state first.
  - Everything that an earlier declaration placed and this one no longer wants is removed. A file of ours that was
    changed by hand is saved below C(/var/lib/aistack/<component>/saved) before it is mended. What isn't ours is refused
    by name.
attributes:
  check_mode:
    support: full
    description: The same plan and diff as the real run, on a blank host too.
  diff_mode:
    support: full
    description: The content of secret files is never shown.
  platform:
    platforms: posix
    support: full
    description: Linux with systemd 249 or newer.
options:
  name:
    description:
      - Name of the component, of its unit (C(<name>.service)) and of its folders. C(@instance) tells several of one
        family apart.
      - May be left out when O(state=absent) and O(family) is given.
    type: str
  family:
    description: The family of the component, O(name) up to C(@) by default.
    type: str
  except_names:
    description: With O(state=absent) and O(family), the members of the family that stay.
    type: list
    elements: str
  state:
    description: V(absent) removes what was placed. Data and its owner stay unless O(purge_data).
    type: str
    choices: [present, absent]
    default: present
  purge_data:
    description: With O(state=absent), remove the directories of kind V(data) and the account as well.
    type: bool
    default: false
  adopt:
    description: Take over files and units in our places that aren't ours; they are saved first.
    type: bool
    default: false
  release:
    description: The program is a released archive, looked up by name in the collection's C(files/releases.yml).
    type: dict
    suboptions:
      name:
        description: Name of the entry.
        type: str
        required: true
      version:
        description: Version, the pinned one if empty.
        type: str
      url:
        description: Address of an archive of one's own; needs O(release.version) and O(release.sha256).
        type: str
      sha256:
        description: Its sha256, 64 hexadecimal digits.
        type: str
      resolved:
        description: Filled in by the action plugin.
        type: dict
  python:
    description: The program is a Python environment of pinned wheels and packages of the collection's own.
    type: dict
    suboptions:
      name:
        description: Name for messages.
        type: str
        required: true
      version:
        description: Version for messages and folder names.
        type: str
        required: true
      source:
        description: Folders on the controller, each an importable Python package.
        type: list
        elements: str
        default: []
      wheels:
        description: Names of wheels in C(files/releases.yml).
        type: list
        elements: str
        default: []
      resolved:
        description: Filled in by the action plugin.
        type: dict
  package:
    description: The program is a package of the distribution.
    type: dict
    suboptions:
      name:
        description: Name of the package.
        type: str
        required: true
      version:
        description: Exact version; the distribution's candidate, once, if empty.
        type: str
  account:
    description: System account that the component runs as; made if missing.
    type: dict
    suboptions:
      user:
        description: User name.
        type: str
        required: true
      group:
        description: Primary group, named as the user by default.
        type: str
      groups:
        description: Further groups for the service.
        type: list
        elements: str
        default: []
  directories:
    description: Directories of the component.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      kind:
        description:
          - V(config) is staged for the checkers and removed with the component if nothing else is in it.
          - V(data) is writable for the service and outlives a removal.
        type: str
        choices: [config, data]
        default: config
      mode:
        description: Octal mode.
        type: str
        default: "0750"
      owner:
        description: Owner; the account's user for data, root otherwise.
        type: str
      group:
        description: Group; the account's by default.
        type: str
  files:
    description: Files of the component. What isn't listed any more is removed.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path. Either this or O(files[].credential).
        type: path
      credential:
        description:
          - Name of a systemd credential. The content goes into a file that root alone can read and the service finds
            it at C(/run/credentials/<component>.service/<name>).
        type: str
      content:
        description: Content.
        type: str
        required: true
      mode:
        description: Octal mode.
        type: str
        default: "0640"
      owner:
        description: Owner.
        type: str
        default: root
      group:
        description: Group; the account's by default.
        type: str
      secret:
        description: Keep the content out of diffs and messages. A credential always is.
        type: bool
        default: false
      read_by:
        description:
          - Unit of another program that reads this file, C(systemd-journald.service) for example. If it runs, it is
            restarted when the file comes, changes or goes, before the component itself starts again. Where it doesn't
            start, the change is taken back and it is restarted once more. The component isn't restarted for this file.
        type: str
  validate:
    description:
      - The component's own checkers. They run over the staged files, at their final paths, as the service's user in
        its sandbox. A refusal ends the run with nothing changed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name for messages.
        type: str
      argv:
        description:
          - Command. C({program}) is the folder of the staged program, C({python}) the Python that runs this module.
        type: list
        elements: str
        required: true
      stdin:
        description: What the command reads from its standard input, a program for C({python} -) for example.
        type: str
  unit:
    description: The service.
    type: dict
    suboptions:
      description:
        description: Description of the unit.
        type: str
        required: true
      documentation:
        description: Address of the program's documentation.
        type: str
      exec:
        description: Command. C({program}) is the folder of the program in use.
        type: list
        elements: str
        required: true
      environment:
        description: Environment; no secrets, anyone on the host can read it.
        type: dict
        default: {}
      after:
        description: Units to start after.
        type: list
        elements: str
        default: []
      service:
        description:
          - Directives of the service section over the hardened baseline. A list repeats a directive, V(null) takes one
            away. C({program}) is the folder of the program in use.
        type: dict
        default: {}
  apply:
    description: Which changes a reload serves. Everything else needs a restart.
    type: dict
    suboptions:
      reload:
        description: Signal that makes the service load its files again.
        type: str
      reload_requests:
        description:
          - Addresses that are posted to, in this order and with the log-in of O(answers), in place of O(apply.reload).
            Any answer but 200 takes the change back.
        type: list
        elements: str
        default: []
      rereads:
        description:
          - Whether the service looks by itself whether its files changed, so that nothing is sent to it. O(answers)
            must tell the new files from the old.
        type: bool
        default: false
      reload_paths:
        description: Patterns of paths whose changes a reload serves. A changed credential always needs a restart.
        type: list
        elements: str
        default: []
      reload_metric:
        description:
          - Where the component itself says that it loaded the new files. C(url) of its metrics, the gauges C(success)
            and C(time) (Unix time in seconds).
        type: dict
        suboptions:
          url:
            description: Address.
            type: str
            required: true
          success:
            description: Name of the gauge that is 1 after a successful reload.
            type: str
            required: true
          time:
            description: Name of the gauge with the time of the last successful reload.
            type: str
            required: true
  watches:
    description: Files placed by others (certificates, say) whose change restarts the component.
    type: list
    elements: path
    default: []
  snapshot:
    description: Data that can't go back by itself. Copied, with the service stopped, before another version starts.
    type: list
    elements: path
    default: []
  answers:
    description: The real question that a healthy component answers. The socket must belong to our unit.
    type: dict
    suboptions:
      within:
        description: Seconds to wait for the answer.
        type: int
        default: 60
      questions:
        description: All of them must be answered.
        type: list
        elements: dict
        default: []
        suboptions:
          url:
            description: Address on this host.
            type: str
            required: true
          status:
            description: Expected status.
            type: int
            default: 200
          matches:
            description: Regular expression that the answer must match; C(^) and C($) match at lines.
            type: str
      login:
        description: Basic authentication.
        type: dict
        suboptions: &login
          username:
            description: User name.
            type: str
          password:
            description: Password.
            type: str
      tls:
        description: Certificates, as paths on the target.
        type: dict
        suboptions: &tls
          authority:
            description: Certificate of the authority that signed the server's.
            type: path
          certificate:
            description: Client certificate.
            type: path
          key:
            description: Its key.
            type: path
          server_name:
            description: Name in the server's certificate.
            type: str
  silence:
    description: Alerts to silence for ten minutes while the component restarts; expired when it has answered.
    type: dict
    suboptions:
      urls:
        description: Addresses of Alertmanagers.
        type: list
        elements: str
        default: []
      matchers:
        description: Label values that the silenced alerts carry.
        type: dict
        default: {}
      login:
        description: Basic authentication.
        type: dict
        suboptions: *login
      tls:
        description: Certificates, as paths on the target.
        type: dict
        suboptions: *tls
  handed_over:
    description: Filled in by the action plugin, archives that the controller copied to the target, by sha256.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Node exporter
  aistack.observability.component:
    name: node_exporter
    release: {name: node_exporter}
    account: {user: node_exporter}
    unit:
      description: Metrics of this host
      exec: ["{program}/node_exporter", "--web.listen-address=127.0.0.1:9100"]
    answers:
      questions: [{url: "http://127.0.0.1:9100/metrics", matches: "^node_boot_time_seconds"}]
"""

RETURN = r"""
plan:
  description: What changes; the same in check mode and in the run that follows it.
  returned: always
  type: dict
  contains:
    component:
      description: Name of the component.
      type: str
    action:
      description: One of C(none), C(install), C(upgrade), C(downgrade), C(rebuild), C(change), C(mend), C(start),
        C(remove).
      type: str
    from:
      description: Version before.
      type: str
    to:
      description: Version after.
      type: str
    files:
      description: Paths to create, change, remove and those whose mode or owner changes.
      type: dict
    directories:
      description: Directories that are made or get other rights.
      type: list
      elements: str
    account:
      description: Account that is made.
      type: str
    service:
      description: C(none), C(start), C(reload), C(restart) or C(stop).
      type: str
    data:
      description: What it means for the data.
      type: str
    notes:
      description: What else is worth knowing.
      type: list
      elements: str
plans:
  description: The plans of all members that are removed, with O(family) instead of O(name).
  returned: when O(name) is not given
  type: list
  elements: dict
steps:
  description: What was really done, in order; nothing in check mode.
  returned: always
  type: list
  elements: str
generation:
  description: Number of the proven generation.
  returned: always
  type: int
"""

import os
import traceback

from ansible_collections.aistack.observability.plugins.module_utils.component.errors import ComponentError
from ansible_collections.aistack.observability.plugins.module_utils.component.generations import family
from ansible_collections.aistack.observability.plugins.module_utils.component.transaction import Transaction
from ansible_collections.aistack.observability.plugins.module_utils.quiet import QuietModule

LOGIN = {"username": {"type": "str"}, "password": {"type": "str", "no_log": False}}
TLS = {"authority": {"type": "path"}, "certificate": {"type": "path"}, "key": {"type": "path", "no_log": False},
       "server_name": {"type": "str"}}


def _list(elements, **more):
    return dict({"type": "list", "elements": elements, "default": []}, **more)


ARGUMENTS = {
    "name": {"type": "str"},
    "family": {"type": "str"},
    "except_names": {"type": "list", "elements": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "purge_data": {"type": "bool", "default": False},
    "adopt": {"type": "bool", "default": False},
    "release": {"type": "dict", "options": {
        "name": {"type": "str", "required": True}, "version": {"type": "str"}, "url": {"type": "str"},
        "sha256": {"type": "str"}, "resolved": {"type": "dict"}}},
    "python": {"type": "dict", "options": {
        "name": {"type": "str", "required": True}, "version": {"type": "str", "required": True},
        "source": _list("str"), "wheels": _list("str"), "resolved": {"type": "dict"}}},
    "package": {"type": "dict", "options": {
        "name": {"type": "str", "required": True}, "version": {"type": "str"}}},
    "account": {"type": "dict", "options": {
        "user": {"type": "str", "required": True}, "group": {"type": "str"}, "groups": _list("str")}},
    "directories": _list("dict", options={
        "path": {"type": "path", "required": True},
        "kind": {"type": "str", "choices": ["config", "data"], "default": "config"},
        "mode": {"type": "str", "default": "0750"}, "owner": {"type": "str"}, "group": {"type": "str"}}),
    "files": _list("dict", options={
        "path": {"type": "path"}, "credential": {"type": "str"},
        "content": {"type": "str", "required": True, "no_log": False},
        "mode": {"type": "str", "default": "0640"}, "owner": {"type": "str", "default": "root"},
        "group": {"type": "str"}, "secret": {"type": "bool", "default": False, "no_log": False},
        "read_by": {"type": "str"}}),
    "validate": _list("dict", options={
        "name": {"type": "str"}, "argv": {"type": "list", "elements": "str", "required": True},
        "stdin": {"type": "str"}}),
    "unit": {"type": "dict", "options": {
        "description": {"type": "str", "required": True}, "documentation": {"type": "str"},
        "exec": {"type": "list", "elements": "str", "required": True},
        "environment": {"type": "dict", "default": {}}, "after": _list("str"),
        "service": {"type": "dict", "default": {}}}},
    "apply": {"type": "dict", "options": {
        "reload": {"type": "str"}, "reload_requests": _list("str"), "reload_paths": _list("str"),
        "rereads": {"type": "bool", "default": False},
        "reload_metric": {"type": "dict", "options": {
            "url": {"type": "str", "required": True}, "success": {"type": "str", "required": True},
            "time": {"type": "str", "required": True}}}}},
    "watches": _list("path"),
    "snapshot": _list("path"),
    "answers": {"type": "dict", "options": {
        "within": {"type": "int", "default": 60},
        "questions": _list("dict", options={
            "url": {"type": "str", "required": True}, "status": {"type": "int", "default": 200},
            "matches": {"type": "str"}}),
        "login": {"type": "dict", "options": LOGIN}, "tls": {"type": "dict", "options": TLS}}},
    "silence": {"type": "dict", "options": {
        "urls": _list("str"), "matchers": {"type": "dict", "default": {}},
        "login": {"type": "dict", "options": LOGIN}, "tls": {"type": "dict", "options": TLS}}},
    "handed_over": {"type": "dict", "default": {}},
}


def _members_to_remove(params):
    """The declarations of a family's members that are no longer listed."""
    listed = params["except_names"] or []
    return [dict(params, name=name) for name in family(params["family"]) if name not in listed]


def main():
    module = QuietModule(argument_spec=ARGUMENTS, supports_check_mode=True,
                           mutually_exclusive=[("release", "python", "package")],
                           required_one_of=[("name", "family")],
                           required_by={"except_names": "family"})
    if os.geteuid() != 0:
        module.fail_json(msg="only root can place a component: set become: true")
    # What is made for the service must be readable for it, however strict root's own habit is.
    os.umask(0o022)
    params = module.params
    if params["name"]:
        declarations = [params]
    elif params["state"] == "absent":
        declarations = _members_to_remove(params)
    else:
        module.fail_json(msg="name is missing: only state=absent with family works without it")
    results = []
    try:
        for declaration in declarations:
            transaction = Transaction(declaration)
            results.append(transaction.preview() if module.check_mode else transaction.carry_out())
    except ComponentError as error:
        module.fail_json(msg=_sentence(error), details=error.details)
    except Exception as error:
        module.fail_json(msg="%s: %s: %s" % (params["name"] or params["family"], type(error).__name__, error),
                         exception=traceback.format_exc())
    if params["name"]:
        module.exit_json(**results[0])
    module.exit_json(changed=any(result["changed"] for result in results),
                     plan=None, plans=[result["plan"] for result in results],
                     steps=[step for result in results for step in result["steps"]],
                     diff=[entry for result in results for entry in result["diff"]])


def _sentence(error):
    lines = [error.message]
    for title, text in error.details.items():
        if text:
            lines += ["--- %s" % title, text]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
