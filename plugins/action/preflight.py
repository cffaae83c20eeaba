# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of the preflight: variables, the inventory, and what the target's half found."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.parsing.vault import VaultHelper
from ansible.plugins.action import ActionBase
from ansible_collections.aistack.observability.plugins.plugin_utils import inventory_model, secrets, spec
from ansible_collections.aistack.observability.plugins.plugin_utils.inventory_model import ModelError, Service, Site
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import MixinError, Mixins
from ansible_collections.aistack.observability.plugins.plugin_utils.releases import ReleaseError, Releases
from ansible_collections.aistack.observability.plugins.plugin_utils.spec import SERVICES, SHARED, Problem

# LoadCredential with a folder, and the sandbox that the units are written for, came by this version.
MIN_SYSTEMD = 249
MIN_PYTHON = (3, 9)
ARCHITECTURES = {"x86_64", "aarch64", "armv7l"}


def is_selected(role: str, run_tags: Iterable[str], skip_tags: Iterable[str]) -> bool:
    """Whether a run with these tags runs a role whose only tag is its name."""
    if {role, "all", "tagged"} & set(skip_tags):
        return False
    return bool({role, "all", "tagged"} & set(run_tags or ["all"]))


def is_vaulted(value: str) -> bool:
    return VaultHelper.get_ciphertext(value, with_tags=False) is not None


def concerns(problem: Problem, roles: Iterable[str], all_roles: Iterable[str]) -> bool:
    """Whether a problem of the inventory concerns a run of these roles. Prometheus depends on everybody's addresses."""
    if problem.name.startswith("log_"):
        return bool({inventory_model.LOKI, *inventory_model.SHIPPERS} & set(roles))
    owner = next((role for role in sorted(all_roles, key=len, reverse=True) if problem.name.startswith(f"{role}_")), "")
    return owner in ("", SHARED, *roles) or "prometheus" in roles


# -- variables ---------------------------------------------------------------------------------------------------


def variable_problems(specs: spec.Specs, roles: Iterable[str], variables: inventory_model.Variables,
                      raw: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the variables of some roles, as far as the user sets them.

    A role's default follows from other variables, which are checked under their own names.
    """
    problems = []
    for role in roles:
        options, values = dict(specs.options(role)), {}
        for name in list(options):
            if name not in raw:
                continue
            if name in specs.defaults(role) and raw[name] == specs.defaults(role)[name]:
                del options[name]
                continue
            try:
                values[name] = variables[name]
            except ModelError as error:
                del options[name]
                problems += error.problems
        problems += spec.check_options(options, values)
    return problems


def unknown_names(specs: spec.Specs, roles: Iterable[str], raw: Mapping[str, Any], ignored: Iterable[str]
                  ) -> list[Problem]:
    """Names that were meant to be variables of these roles."""
    names = {name for name, value in raw.items() if name not in set(ignored) and not _is_result(value)}
    return [problem for role, problem in spec.Names(specs).unknown(names) if role in set(roles)]


def _is_result(value: Any) -> bool:
    """Whether a value was registered by a task, and not set by anybody."""
    return isinstance(value, Mapping) and "changed" in value and ("failed" in value or "results" in value)


def threshold_problems(mixins: Mixins, thresholds: Any) -> list[Problem]:
    """Thresholds outside of their limits. Names and types are the spec's business."""
    problems = []
    known = mixins.thresholds()
    for name, value in (thresholds if isinstance(thresholds, Mapping) else {}).items():
        if name in known:
            try:
                mixins.values({"thresholds": {name: value}})
            except MixinError as error:
                problems.append(Problem(f"observability_thresholds.{name}", str(error).split(f"{name}: ", 1)[-1]))
    return problems


def source_problems(mirror: Any, overlay: Any) -> list[Problem]:
    """Places of programs on the controller that aren't there."""
    problems = []
    if isinstance(mirror, str) and mirror and "://" not in mirror and not os.path.isdir(os.path.expanduser(mirror)):
        problems.append(Problem("observability_mirror", "expected a web address, or a folder that is there on the "
                                                        f"controller, got {spec.shown('', mirror)}"))
    if isinstance(overlay, str) and overlay and not os.path.isfile(os.path.expanduser(overlay)):
        problems.append(Problem("observability_releases_overlay", "expected a file that is there on the controller, "
                                                                  f"got {spec.shown('', overlay)}"))
    return problems


def placed_file_problems(name: str, paths: Any) -> list[Problem]:
    """Files that aren't there, or of which one would take the place of another, for they are placed by their names."""
    problems, seen = [], {}
    for path in paths if isinstance(paths, list) else []:
        file = os.path.basename(str(path))
        # Where a relative path is looked for is Ansible's business, when the role's turn has come.
        if os.path.isabs(str(path)) and not os.path.isfile(path):
            problems.append(Problem(name, f"there is no file {path} on the controller"))
        if file in seen:
            problems.append(Problem(name, f"{path} and {seen[file]} have the same name, under which they are placed: "
                                          "rename one of them"))
        seen[file] = path
    return problems


# What other variables say, by the sections of grafana.ini; * stands for all of a section.
OWNED_SETTINGS = {
    "server": {"http_addr": "grafana_listen_address", "http_port": "grafana_listen_address",
               "protocol": "grafana_web_tls", "cert_file": "grafana_web_tls", "cert_key": "grafana_web_tls",
               "root_url": "grafana_external_url", "domain": "grafana_external_url"},
    "security": {"admin_password": "grafana_admin_password", "secret_key": "grafana_secret_key"},
}


def setting_problems(name: str, sections: Any) -> list[Problem]:
    """Settings of the user's own that are no settings, or belong to another variable."""
    problems = []
    for section, keys in (sections if isinstance(sections, Mapping) else {}).items():
        if not isinstance(keys, Mapping):
            problems.append(Problem(f"{name}.{section}", "expected a mapping of settings, got "
                                                         f"{spec.shown('', keys)}"))
            continue
        for key, value in keys.items():
            if isinstance(value, (Mapping, list)):
                problems.append(Problem(f"{name}.{section}.{key}", "expected a text, a number, true or false"))
            owner = OWNED_SETTINGS.get(str(section), {}).get(str(key))
            if owner:
                problems.append(Problem(f"{name}.{section}.{key}", f"is said by {owner}: set that"))
    return problems


def log_problems(sources: Any, driver: Any = "", shipper: str = "", docker: bool = False) -> list[Problem]:
    """What is wrong with what a host's log shipper is told, beyond the types of its options."""
    problems = []
    sources = sources if isinstance(sources, Mapping) else {}
    for option, entries in (("drop", sources.get("drop") or []), ("redact", sources.get("redact") or [])):
        for number, entry in enumerate(entries if isinstance(entries, list) else []):
            expression = entry.get("expression") if isinstance(entry, Mapping) else entry
            name = f"log_sources.{option}[{number}]"
            try:
                groups = re.compile(str(expression)).groups
            except re.error as error:
                problems.append(Problem(name, f"is not a regular expression: {error}"))
                continue
            if re.search(r"\(\?(<?[=!]|P=)|\\[1-9]", str(expression)):
                problems.append(Problem(name, "looks around or refers back, which the shippers' regular expressions "
                                              "(RE2) can't"))
            elif option == "redact" and groups != 1:
                problems.append(Problem(name, "needs exactly one group: what is to be replaced"))
    if driver == "loki" and shipper and docker:
        problems.append(Problem("docker_logging_driver", "every line of this host's containers would be in Loki "
                                                         f"twice, for {shipper} reads them as well: set log_sources: "
                                                         "{docker: false} there, or choose another driver"))
    return problems


def shipper_problems(roles: Iterable[str], selected: Iterable[str], ours: Iterable[str]) -> list[Problem]:
    """Two shippers at a time would send every line of a file twice: one goes before the other comes."""
    coming = next((role for role in inventory_model.SHIPPERS if role in roles and role not in ours), "")
    staying = next((role for role in inventory_model.SHIPPERS if role in ours and role not in selected), "")
    if not (coming and staying):
        return []
    return [Problem("log_shipper", f"{staying} still runs on this host, and this run's tags leave its role out: run "
                                   f"both (--tags {staying},{coming}), so that {coming} reads on where {staying} "
                                   "stops")]


def release_problems(roles: Iterable[str], variables: Mapping[str, Any]) -> list[Problem]:
    """Versions that nobody has pinned, said before the first component changes; mistyped ones are the spec's."""
    problems = []
    for role in roles:
        try:
            releases = Releases(variables.get("observability_releases_overlay") or "")
            given = variables.get(f"{role}_release") or {}
            if isinstance(given, Mapping) and releases.has(role) and variables.get(f"{role}_state") != "absent":
                releases.release({"name": role, "version": variables.get(f"{role}_version"), **given})
        except ReleaseError as error:
            setting = "release" if variables.get(f"{role}_release") else "version"
            problems.append(Problem(f"{role}_{setting}", str(error)))
        except ModelError:
            continue
    return problems


def listen_addresses(specs: spec.Specs, roles: Iterable[str], variables: Mapping[str, Any]
                     ) -> dict[str, tuple[str, str]]:
    """{variable: (role, address)} of every listen address that roles have beside those of their services."""
    result = {}
    for role in roles:
        for name in specs.options(role):
            if name.endswith("_listen_address") and name != f"{role}_listen_address":
                try:
                    address = variables.get(name)
                except ModelError:
                    continue
                if isinstance(address, str) and address:
                    result[name] = (role, address)
    return result


# -- the target --------------------------------------------------------------------------------------------------


def system_problems(target: Mapping[str, Any], architectures: Iterable[str] = ARCHITECTURES) -> list[Problem]:
    """Why this collection can't serve a system."""
    problems = []
    if not target["root"]:
        problems.append(Problem("become", "the tasks must run as root on this host: set `become: true` in the play or "
                                          "ansible_become in the inventory"))
    if not target["systemd"]:
        problems.append(Problem("systemd", "the first process of this host isn't systemd, which must start and watch "
                                           "the programs: use a host, or a container, that boots with systemd"))
    elif target["systemd"] < MIN_SYSTEMD:
        problems.append(Problem("systemd", f"version {target['systemd']} is too old, {MIN_SYSTEMD} or newer is needed "
                                           "(Debian 12, Ubuntu 22.04, Enterprise Linux 9): upgrade the system"))
    if target["architecture"] not in set(architectures):
        problems.append(Problem("architecture", f"there are no programs for {target['architecture']}; the known "
                                                f"architectures are {', '.join(sorted(architectures))}"))
    if tuple(int(part) for part in target["python"].split(".")[:2]) < MIN_PYTHON:
        problems.append(Problem("python", f"version {target['python']} is too old, "
                                          f"{'.'.join(map(str, MIN_PYTHON))} or newer is needed: set "
                                          "ansible_python_interpreter to a newer one"))
    return problems


def foreign_problems(target: Mapping[str, Any], services: Iterable[Service], adopted: Iterable[str]) -> list[Problem]:
    """Software in our places that isn't ours. A role in ``adopted`` may take over its unit and folder."""
    problems = []
    adopted, ours = set(adopted), set(target["ours"])
    our_units = {f"{component}.service" for component in ours}
    for service in services:
        component = service.component
        if component not in ours and service.role not in adopted:
            for kind, path in (("unit", target["units"].get(component)), ("folder", target["folders"].get(component))):
                if path:
                    package = target["packages"].get(path)
                    problems.append(Problem(path, (
                        f"this {kind} belongs to the package {package}: remove it (apt purge {package}, or your "
                        "distribution's command)" if package else
                        f"this {kind} isn't ours: move it away") + f", or set {service.role}_adopt to take it over"))
        for holder in target["ports"].get(str(service.port), ()):
            if holder["unit"] in our_units or not _overlap(service.listen_address, holder["address"]):
                continue
            if service.role in adopted and holder["unit"] == f"{component}.service" and not holder["container"]:
                continue
            problems.append(Problem(
                service.listen_variable, f"port {service.port} is held by {_holder(holder)}: stop that, or choose "
                f"another port{_adoption(service, holder)}"))
    return problems


def adoption_problems(target: Mapping[str, Any], adopted: Iterable[str], variables: Mapping[str, Any]
                      ) -> list[Problem]:
    """What must be known of software before it is taken over."""
    if "grafana" in adopted and "grafana" not in target["ours"] and not variables.get("grafana_secret_key"):
        return [Problem("grafana_secret_key", "a Grafana that is taken over has encrypted secrets in its database: "
                                              "give the secret_key of its grafana.ini, or Grafana's own default")]
    return []


def _overlap(listen_address: str, held: str) -> bool:
    listens_on = spec.split_address(listen_address)[0]
    listens_on = "127.0.0.1" if listens_on == "localhost" else listens_on
    return spec.is_wildcard(listens_on) or spec.is_wildcard(held) or listens_on == held


def _holder(holder: Mapping[str, str]) -> str:
    if holder["container"]:
        return f"the container {holder['container']}"
    if holder["process"]:
        return f"{holder['process']}" + (f" ({holder['unit']})" if holder["unit"] else "")
    return "a process that can't be seen from here"


def _adoption(service: Service, holder: Mapping[str, str]) -> str:
    """How what runs there can be kept, where it can."""
    if service.role.endswith("_exporter") and service.role != inventory_model.PROBER:
        return (f", or keep it and have it scraped with {SERVICES}: {{{service.name}: {{exporter_url: "
                f"http://{service.listen_address}/metrics}}}}")
    if holder["unit"] == f"{service.component}.service":
        return f", or set {service.role}_adopt to take it over"
    return ""


# -- the action --------------------------------------------------------------------------------------------------


class ActionModule(ActionBase):
    _supports_check_mode = True
    _VALID_ARGS = frozenset()

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        if self._task.args:
            raise AnsibleActionFail("preflight takes no options: what it checks follows from the inventory and the "
                                    "run's tags")
        host = task_vars["inventory_hostname"]
        self.specs, mixins = spec.Specs(load=self._load_defaults), Mixins()
        # A variable may refer to the default of another one, whose role isn't in the preflight's own play.
        raw = {name: value for role in self.specs.roles() for name, value in self.specs.defaults(role).items()}
        raw |= task_vars
        templar = self._templar.copy_with_new_env(available_variables=raw)
        site = inventory_model.from_ansible(raw, templar.template, mixins, is_hidden=is_vaulted)
        variables = site.variables(host)
        selected = [role for role in self.specs.roles()
                    if is_selected(role, raw.get("ansible_run_tags") or (), raw.get("ansible_skip_tags") or ())]

        problems, roles, services = [], [], []
        try:
            roles = [role for role in site.roles(host) if role in selected]
            problems += [problem for problem in site.problems(host, self._left_out(raw))
                         if concerns(problem, roles, self.specs.roles())]
            services = [service for service in site.derive(host)[0] if service.component and service.role in roles
                        and variables.get(f"{service.role}_state") != "absent"]
        except ModelError as error:
            problems += error.problems
        problems += self._variables(roles, site, mixins, variables, raw)
        # With nobody in the groups, the play is here on the controller to say so.
        target = self._look(services, task_vars) if site.hosts else {}
        if target.get("target"):
            adopted = [role for role in roles if _true(variables.get(f"{role}_adopt"))]
            problems += system_problems(target["target"])
            if target["target"]["root"]:  # anybody else can't see whose files and ports these are
                problems += foreign_problems(target["target"], services, adopted)
                problems += adoption_problems(target["target"], adopted, variables)
        elif site.hosts:
            problems.append(Problem("target", f"this host can't be looked at: {target.get('msg', 'no answer')}"))

        facts = {inventory_model.DOCKER_FACT: bool(target.get("target", {}).get("docker"))}
        problems += self._logs(site, host, roles, facts[inventory_model.DOCKER_FACT])
        problems += shipper_problems(roles, selected, target.get("target", {}).get("ours", ()))

        names = []
        if not problems:
            names, wrong = self._secrets(variables, roles)
            problems += wrong
        lines = list(dict.fromkeys(str(problem) for problem in problems))
        if lines:
            # The message says it all; what else a failed result holds is printed beneath it.
            count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
            return {"failed": True, "msg": "\n".join([f"{count} on {host}, nothing was changed:", *lines])}
        result.update(changed=bool(names) and not self._task.check_mode, roles=roles, secrets=names,
                      target=target["target"], ansible_facts=facts)
        if "promtail" in roles:
            result["warnings"] = [f"{host}: Promtail has had no support and no security fixes since 2026-03-02; "
                                  "`log_shipper: alloy` takes over where it stops reading"]
        return result

    def _load_defaults(self, path) -> Any:
        return self._loader.load_from_file(str(path), trusted_as_template=True)

    @staticmethod
    def _left_out(raw: Mapping[str, Any]) -> set[str]:
        """Hosts of the site that aren't in this play, so that no check of their own speaks for them."""
        playing = set(raw.get("ansible_play_hosts_all") or ())
        return {name for group in (inventory_model.OBSERVABILITY, inventory_model.MONITORED)
                for name in raw["groups"].get(group, ())} - playing

    def _variables(self, roles: list[str], site: Site, mixins: Mixins, variables: inventory_model.Variables,
                   raw: Mapping[str, Any]) -> list[Problem]:
        host = raw["inventory_hostname"]
        problems = variable_problems(self.specs, [SHARED, *roles], variables, raw)
        try:
            ignored = variables.get("observability_ignored_variables") or []
            thresholds = variables.get("observability_thresholds")
            problems += source_problems(variables.get("observability_mirror"),
                                        variables.get("observability_releases_overlay"))
        except ModelError:
            return problems  # which has said so already
        problems += unknown_names(self.specs, [SHARED, *roles], raw, ignored if isinstance(ignored, list) else [])
        wrong = {problem.name for problem in problems}
        problems += [problem for problem in threshold_problems(mixins, thresholds) if problem.name not in wrong]
        files_of = ("_extra_rule_files", "_extra_dashboards")
        for name in (name for role in roles for name in self.specs.options(role) if name.endswith(files_of)):
            if name not in wrong:
                problems += placed_file_problems(name, variables.get(name))
        if "grafana" in roles and "grafana_extra_settings" not in wrong:
            problems += setting_problems("grafana_extra_settings", variables.get("grafana_extra_settings"))
        if not any(name.endswith(("_version", "_overlay")) or "_release" in name for name in wrong):
            problems += release_problems(roles, variables)
        others = listen_addresses(self.specs, site.roles(host), variables)
        problems += site.clashes(host, roles, others)
        return problems

    @staticmethod
    def _logs(site: Site, host: str, roles: list[str], docker: bool) -> list[Problem]:
        """The inventory's own words for logs, as far as the run's roles read them."""
        try:
            shipper, own = site.log_shipper(host), site.variables(host)
            sources, driver = own.get("log_sources") or {}, own.get("docker_logging_driver")
        except ModelError:
            return []  # which has been said
        if not {shipper, "docker_logging"} & set(roles) or not isinstance(sources, Mapping):
            return []
        read = sources.get("docker", "auto")
        problems = log_problems(sources, driver, shipper, docker if read == "auto" else _true(read))
        if driver == "loki" and not own.get("docker_logging_loki_url") and not site.servers(host, {"loki": None}):
            problems.append(Problem("docker_logging_loki_url", "this host can't reach Loki, to which the driver sends: "
                                                               "give its address here, or set loki_listen_address to "
                                                               "an address of its host in a network that you trust"))
        return problems

    def _look(self, services: list[Service], task_vars: Mapping[str, Any]) -> Mapping[str, Any]:
        arguments = {"components": sorted({service.component for service in services}),
                     "ports": sorted({service.port for service in services})}
        return self._execute_module(module_name="aistack.observability.preflight", module_args=arguments,
                                    task_vars=task_vars)

    def _secrets(self, variables: inventory_model.Variables, roles: list[str]) -> tuple[list[str], list[Problem]]:
        """(names of the secrets that were generated or would be, what is wrong)."""
        try:
            roles = [role for role in roles if variables.get(f"{role}_state") != "absent"]
            if not secrets.Store.wanted(variables, roles):
                return [], []
            store = secrets.Store(secrets.store_path(variables), self._loader._vault)
            names = (store.missing if self._task.check_mode else store.generate)(variables, roles)
            store.web_login(variables, check_mode=self._task.check_mode)
        except secrets.SecretError as error:
            return [], [Problem("secrets", str(error))]
        return names, []


def _true(value: Any) -> bool:
    return str(value).lower() in ("true", "yes", "on", "1", "y", "t")
