# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of the component module: resolves programs, hands archives over, says what goes on."""
from __future__ import annotations

import os

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.aistack.observability.plugins.plugin_utils.releases import ReleaseError, Releases

display = Display()


class ActionModule(ActionBase):
    # No TRANSFERS_FILES: a folder for transfers costs three round trips, and most runs have nothing to transfer.
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        self._task_vars = task_vars or {}
        arguments = dict(self._task.args)
        try:
            self._releases = Releases(self._variable("observability_releases_overlay"),
                                      self._variable("observability_mirror"))
            if arguments.get("state") != "absent":
                self._resolve(arguments)
            result = self._ask_module(arguments, check=True)
            if self._task.check_mode or result.get("failed") or not result.get("changed"):
                return self._tidy(result)
            handed_over = self._hand_over(result.get("needs") or [])
            self._announce(result)
        except ReleaseError as error:
            raise AnsibleActionFail(str(error)) from error
        return self._tidy(self._ask_module(dict(arguments, handed_over=handed_over), check=False))

    def _variable(self, name):
        value = self._task_vars.get(name)
        return self._templar.template(value) if value else ""

    def _resolve(self, arguments):
        """Replace names of releases and wheels by addresses and sums, read from the collection's pins."""
        if arguments.get("release"):
            arguments["release"] = dict(arguments["release"], resolved=self._releases.release(arguments["release"]))
        if arguments.get("python"):
            spec = arguments["python"]
            arguments["python"] = dict(spec, resolved={
                "version": spec["version"], "pip": self._releases.wheel("pip"),
                "wheels": {name: self._releases.wheel(name) for name in spec.get("wheels") or []},
                "modules": _modules(spec.get("source") or [])})

    def _ask_module(self, arguments, check):
        """Run the module; a first run in check mode tells what is needed before anything is touched."""
        before = self._task.check_mode
        self._task.check_mode = check or before
        try:
            return self._execute_module(module_name="aistack.observability.component", module_args=arguments,
                                        task_vars=self._task_vars)
        finally:
            self._task.check_mode = before

    def _hand_over(self, needs):
        """Copy to the target what it doesn't fetch itself; by sha256, so that the module checks it like any other."""
        handed_over = {}
        for need in needs:
            if not need["from_controller"]:
                continue
            self._say("handing over %s" % need["file"])
            local = self._releases.obtain(need)
            if self._connection._shell.tmpdir is None:
                self._make_tmp_path()
            remote = self._connection._shell.join_path(self._connection._shell.tmpdir, need["file"])
            self._transfer_file(local, remote)
            handed_over[need["sha256"]] = remote
        return handed_over

    def _announce(self, result):
        plan = result.get("plan")
        if not plan:
            return
        text = "%s: %s" % (plan["component"], plan["action"])
        if plan["to"] and plan["to"] != plan["from"]:
            text += " %s" % plan["to"]
        fetched = [need["file"] for need in result.get("needs") or [] if not need["from_controller"]]
        if fetched:
            text += ", fetching %s" % ", ".join(fetched)
        self._say(text + (", then asking" if plan["service"] in ("start", "restart", "reload") else ""))

    def _say(self, text):
        display.display("  %s | %s" % (self._task_vars.get("inventory_hostname", ""), text), color="bright gray")

    def _tidy(self, result):
        # core 2.19 and 2.20 print the arguments of a module at -vvv, and these hold secrets.
        result.pop("invocation", None)
        result.pop("needs", None)
        if not (self._task.diff or self._play_context.diff):
            result.pop("diff", None)
        return result


def _modules(folders):
    """The Python files below *folders*, by their path in the environment."""
    modules = {}
    for folder in folders:
        folder = os.path.abspath(folder)
        if not os.path.isfile(os.path.join(folder, "__init__.py")):
            raise AnsibleActionFail("python.source %s is no Python package: it has no __init__.py" % folder)
        for here, _folders, names in os.walk(folder):
            for name in names:
                if name.endswith(".py") or name == "py.typed":
                    path = os.path.join(here, name)
                    with open(path, encoding="utf-8") as handle:
                        modules[os.path.relpath(path, os.path.dirname(folder))] = handle.read()
    return modules
