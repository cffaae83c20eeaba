# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site as the inventory describes it: which services and roles are on which host, and how they reach each other.

Everything follows from two groups, from variables and from the mixins' scrape.yml; nothing comes from facts of a host
or from the hosts of a play, so a run with ``--limit`` or ``--tags`` derives the same site. It knows nothing of Ansible.

    observability   hosts that run Prometheus and Alertmanager; they are always watched too
    monitored       the other hosts to watch

Every service has a name on its host, which becomes the label ``service``, and a type, the mixin's name. A mixin says
where its service is: on every host, on observability hosts, where ``monitored_services`` names it, on every host from
which something is probed, or where ``log_shipper`` names it. It also says what tells of the service: an exporter of
ours, metrics of its own, probes; and whose log lines are its own.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.common.validation import check_type_bool
from ansible_collections.aistack.observability.plugins.plugin_utils import spec
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import OPTION, fill_options
from ansible_collections.aistack.observability.plugins.plugin_utils.spec import SERVICES, Problem

OBSERVABILITY, MONITORED = "observability", "monitored"

# Roles whose web pages the shared login protects, and where Prometheus reads that login's password.
WEB_LOGIN_ROLES = ("prometheus", "alertmanager")
WEB_PASSWORD_FILE = "/run/credentials/{role}.service/web_password"

PROBER = "blackbox_exporter"
PROBE_JOB = "probe"
# Asked of every service that has an address which people open. Grafana's and its neighbours' is <role>_external_url.
FRONT_DOOR = {"module": "front_door", "target": "{front_door}", "from": OBSERVABILITY}

LOKI = "loki"
SHIPPERS = ("alloy", "promtail")
# Where preflight puts what it saw on a host, and where a host's own roles read it.
DOCKER_FACT = "aistack_docker"

# A component's name, its unit and its folders are made from a service's name.
SERVICE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")

# What every entry of monitored_services takes beside the options of its mixin.
COMMON_OPTIONS = {
    "type": {
        "type": "str",
        "description": "What kind of service it is: the name of a mixin. The entry's own name by default.",
    },
    "exporter_url": {
        "type": "str",
        "description": "Full address of the metrics of an exporter that already runs, in Docker for example. It is "
                       "scraped as it is, and no exporter of ours is installed for this service.",
    },
    "exporter_listen_address": {
        "type": "str",
        "description": "Where our exporter for this service listens, host:port.",
    },
    "front_door": {
        "type": "str",
        "description": "Public address that people open. It is probed from the observability host, its certificate "
                       "with it.",
    },
    "container": {
        "type": "str",
        "description": "Name of the container whose log lines are this service's. By default one of the service's own "
                       "name, or the Compose service of that name.",
    },
    "units": {
        "type": "list", "elements": "str",
        "description": "Units of systemd, patterns allowed, whose log lines are this service's. By default those of "
                       "the type.",
    },
    "log_files": {
        "type": "list", "elements": "path",
        "description": "Log files of this service, patterns allowed. By default those of the type.",
    },
}

QUESTIONS = ("services", "roles", "scrape_configs", "blackbox", "rules", "alertmanagers", "silence", "reach", "version",
             "single_sign_on", "dashboards", "grafana_alerting", "delivered_by_grafana", "secret", "web_login", "logs",
             "log_rules")


class ModelError(ValueError):
    """The inventory can't be turned into a site. Holds every problem that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True)
class Service:
    """One watched service of one host."""

    host: str
    name: str
    type: str
    role: str
    component: str            # the component of ours that serves its metrics; empty when there is none
    listen_address: str       # where that component listens; empty likewise
    listen_variable: str      # the variable that says where its metrics are, for messages
    exporter_url: str = ""    # metrics that are there without us: an adopted exporter's, or the service's own
    options: dict[str, Any] = field(default_factory=dict)
    front_door: str = ""      # the address that people open
    container: str = ""       # what the user says of its log lines
    units: tuple[str, ...] | None = None
    log_files: tuple[str, ...] | None = None

    @property
    def port(self) -> int:
        return spec.split_address(self.listen_address)[1]

    @property
    def has_metrics(self) -> bool:
        return bool(self.component or self.exporter_url)


@dataclass(frozen=True)
class Probe:
    """One question that is asked of a service again and again."""

    service: Service
    name: str      # the label `probe`
    source: str    # the host that asks
    module: str    # of the source's blackbox exporter
    target: str
    variable: str  # the variable that says where the target is, for messages


class Site:
    """The derivation. ``variables(host)`` gives a host's variables, with values already templated."""

    def __init__(self, groups: Mapping[str, Iterable[str]], variables: Callable[[str], Mapping[str, Any]],
                 mixins: Mapping[str, Mapping[str, Any]],
                 logs_of: Callable[[str], Mapping[str, Any]] = lambda kind: {}) -> None:
        # Sorted, so that the order in which an inventory source lists its hosts changes no file.
        self.observability = sorted(set(groups.get(OBSERVABILITY) or ()))
        self.hosts = sorted(set(self.observability) | set(groups.get(MONITORED) or ()))
        self.mixins = mixins
        self.variables = variables
        self._logs_of = logs_of  # a mixin's logs.yml
        self._cache: dict[str, tuple[list[Service], list[Problem]]] = {}
        self._probes: list[Probe] | None = None
        # The type of service that our probes are made by; empty where no mixin is one.
        self.prober = next((name for name, mixin in mixins.items() if mixin["placement"] == "probes"), "")

    # -- what is where --------------------------------------------------------------------------------------------

    def derive(self, host: str) -> tuple[list[Service], list[Problem]]:
        """The services of a host, as far as its variables describe any, and what is wrong with those variables."""
        services, problems = self._without_prober(host)
        if any(probe.source == host for probe in self.probes()):
            services = [*services, Service(
                host=host, name=self.prober, type=self.prober, role=PROBER, component=PROBER,
                listen_address=self.listen_address(host, PROBER), listen_variable=f"{PROBER}_listen_address")]
        return services, problems

    def _without_prober(self, host: str) -> tuple[list[Service], list[Problem]]:
        if host not in self._cache:
            self._cache[host] = _Host(self, host).derive() if host in self.hosts else ([], [])
        return self._cache[host]

    def probes(self) -> list[Probe]:
        """Every probe of the site."""
        if self._probes is None:
            watched = self.prober and self.observability
            self._probes = [probe for host in self.hosts for service in self._without_prober(host)[0]
                            for probe in self._probes_of(service)] if watched else []
        return self._probes

    def _probes_of(self, service: Service) -> Iterable[Probe]:
        """A service's probes, as far as its options and addresses make any.

        A service that nothing else tells of needs its probes: where the blackbox exporter of its host is out of
        Prometheus's reach, the inventory is refused. One with metrics of its own does without those probes there, so
        a host need not listen for Prometheus a second time.
        """
        mixin = self.mixins[service.type]
        ours = mixin["placement"] != "monitored_services"
        words = service.options if not ours else {"url": self._own_url(service)}
        words = {**words, "front_door": service.front_door}
        for name, probe in {"front_door": FRONT_DOOR, **(mixin.get("probes") or {})}.items():
            source = self.observability[0] if probe["from"] == OBSERVABILITY else service.host
            target = fill_options(probe["target"], words)
            if not target or words.get(probe.get("unless", "")):
                continue
            if service.has_metrics and not self.reach(source, self.listen_address(source, PROBER),
                                                      self.observability[0]):
                continue
            named = next(iter(OPTION.findall(probe["target"])), "")
            variable = f"{SERVICES}.{service.name}.{named}"
            if ours:
                variable = f"{service.role}_{'external_url' if named == 'front_door' else 'listen_address'}"
            # Behind TLS or a log-in of ours it takes a module of its own.
            own = ours and named == "url" and self._client(service.host, service.role, PROBER)
            yield Probe(service, name, source, service.role if own else probe["module"], target, variable)

    def _own_url(self, service: Service) -> str:
        """The address of a component of ours on its own host."""
        if not service.component:
            return ""
        scheme = "https" if self._tls(service.host, service.role) else "http"
        return f"{scheme}://{self.reach(service.host, service.listen_address, service.host)}"

    def services(self, host: str, kind: str | None = None) -> list[Service]:
        """The services of a host, or those of one type. Raises ModelError when its variables don't describe them."""
        services, problems = self.derive(host)
        if kind is not None:
            if kind not in self.mixins:
                raise ModelError([Problem(kind, f"there is no such type of service{spec.nearest(kind, self.mixins)}")])
            # What is wrong with another role's address is no reason to fail this one.
            names = (SERVICES, f"{self.mixins[kind].get('role', SERVICES)}_")
            problems = [problem for problem in problems if problem.name.startswith(names)]
            services = [service for service in services if service.type == kind]
        if problems:
            raise ModelError(problems)
        return services

    def roles(self, host: str) -> list[str]:
        """The roles that this host needs, in the order of their names."""
        places = {service.role for service in self.derive(host)[0] if service.component}
        # Grafana's other half, which places nothing; without single sign-on it has nothing to do.
        places |= {"keycloak_client"} if "grafana" in places else set()
        return sorted(places | ({"docker_logging"} if self.variables(host).get("docker_logging_driver") else set()))

    def types(self) -> list[str]:
        """The types of service that the site has somewhere: the mixins that it uses."""
        return sorted(self.services_by_type())

    def services_by_type(self) -> dict[str, list[str]]:
        """{type: names of the services of that type, on whichever host}."""
        names: dict[str, set[str]] = {}
        for host in self.hosts:
            for service in self.services(host):
                names.setdefault(service.type, set()).add(service.name)
        return {kind: sorted(found) for kind, found in sorted(names.items())}

    def listen_address(self, host: str, role: str) -> str:
        """Where a role's (first) component listens on a host; its default where the user's value isn't an address."""
        given = self.variables(host).get(f"{role}_listen_address")
        if given and not spec.check_value(f"{role}_listen_address", {"type": "str"}, given):
            return str(given)
        return "127.0.0.1:%d" % next(mixin["default_port"] for mixin in self.mixins.values()
                                     if mixin.get("role") == role)

    def address(self, host: str) -> str:
        """Under which name or address other hosts reach this one."""
        variables = self.variables(host)
        return str(variables.get("observability_address") or variables.get("ansible_host") or host)

    def reach(self, host: str, listen_address: str, seen_from: str) -> str:
        """host:port of what listens on one host, as another host (or itself) reaches it; empty if it can't."""
        listens_on, port = spec.split_address(listen_address)
        if host == seen_from:
            return spec.join_address("127.0.0.1" if spec.is_wildcard(listens_on) else listens_on, port)
        if spec.is_loopback(listens_on):
            return ""
        return spec.join_address(self.address(host) if spec.is_wildcard(listens_on) else listens_on, port)

    # -- logs -----------------------------------------------------------------------------------------------------

    def log_shipper(self, host: str) -> str:
        """The role that ships a host's logs; empty where none does, as in a site without Loki."""
        given = self.variables(host).get("log_shipper", SHIPPERS[0])
        known = LOKI in self.mixins and any(not self._removed(target, LOKI) for target in self.observability)
        return given if known and given in SHIPPERS and not self._removed(host, given) else ""

    def logs(self, host: str) -> dict[str, Any]:
        """What a host's log shipper reads, whose each line is, and where it goes; empty where nothing is shipped."""
        shipper = self.log_shipper(host)
        if not shipper:
            return {}
        if problems := self._logs_out_of_reach(host):
            raise ModelError(problems)
        own = self.variables(host)
        sources = own.get("log_sources") or {}
        docker = sources.get("docker", "auto")
        if docker == "auto":
            docker = (own.get("ansible_facts") or {}).get(DOCKER_FACT, False)
        result: dict[str, Any] = {
            "shipper": shipper, "host": host, "push": self._pushes(host), "max_age": sources.get("max_age") or "12h",
            "journal": _true(sources.get("journal", True)), "docker": _true(docker),
            "units": [], "containers": [], "files": [], "parse": {},
            "redact": [{"replace": "<redacted>", **rule} for rule in sources.get("redact") or []],
            "drop": sources.get("drop") or []}
        services = self.services(host)
        for service in services:
            mixin = self._logs_of(service.type)
            # The defaults of a type go to the service that is called like it, or that has no sibling.
            first = service.name == service.type or sum(other.type == service.type for other in services) == 1
            units = service.units if service.units is not None else mixin.get("units", ()) if first else ()
            if service.component and self.mixins[service.type]["placement"] not in ("monitored_services", "every_host"):
                units = [f"{service.component}.service"]
            files = service.log_files if service.log_files is not None else mixin.get("files", ()) if first else ()
            result["units"] += [{"unit": unit, "service": service.name} for unit in units]
            if service.container:
                result["containers"].append({"name": service.container, "service": service.name})
            if files:
                result["files"].append({"paths": list(files), "service": service.name})
            if mixin.get("parse"):
                result["parse"][service.name] = mixin["parse"]
        result["files"] += [dict(entry) for entry in sources.get("files") or []]
        return result

    def _pushes(self, host: str) -> list[dict]:
        """Every Loki as the log shipper of this host reaches it: url, and tls where needed."""
        result = []
        for target in self.observability:
            address = self.reach(target, self.listen_address(target, LOKI), host)
            if address and not self._removed(target, LOKI):
                tls = self._tls(target, LOKI)
                result.append({"url": f"{'https' if tls else 'http'}://{address}/loki/api/v1/push",
                               **self._access(target, LOKI, None)})
        return result

    def _logs_out_of_reach(self, host: str) -> list[Problem]:
        if not self.log_shipper(host) or self._pushes(host):
            return []
        target = self.observability[0]
        address = self.listen_address(target, LOKI)
        return [Problem("log_shipper", f"{self.log_shipper(host)} on {host} can't reach Loki, which listens on "
                                       f"{address} of {target}: set loki_listen_address to an address of that host in "
                                       f"a network that you trust, or log_shipper: none on {host}")]

    # -- what Prometheus and the components are told --------------------------------------------------------------

    def scrape_configs(self, host: str) -> list[dict]:
        """The scrape configs for the Prometheus on this host: one a mixin, or more where targets need different
        settings."""
        jobs: dict[str, list[tuple[dict, dict]]] = {}  # job -> [(settings, static config)]
        problems = []
        for target in self.hosts:
            problems += self._out_of_reach(target, host)
            for service in self.services(target):
                settings, address = self._scrape(service, self.mixins[service.type], host)
                if address and not self._absent(service):
                    static = {"targets": [address], "labels": {"instance": service.host, "service": service.name}}
                    jobs.setdefault(self.mixins[service.type]["job"], []).append((settings, static))
        for probe in self.probes():
            address = self.reach(probe.source, self.listen_address(probe.source, PROBER), host)
            if address and not self._absent(probe.service) and not self._removed(probe.source, PROBER):
                labels = {"instance": probe.service.host, "service": probe.service.name, "type": probe.service.type,
                          "probe": probe.name, "target": probe.target,
                          "__param_target": probe.target, "__param_module": probe.module}
                settings = {"metrics_path": "/probe", **self._client(probe.source, PROBER)}
                jobs.setdefault(PROBE_JOB, []).append((settings, {"targets": [address], "labels": labels}))
        if problems:
            raise ModelError(problems)
        return [config for job in sorted(jobs) for config in _grouped(job, jobs[job])]

    def blackbox(self, host: str) -> dict:
        """What the blackbox exporter of a host is told: for every component of ours behind TLS or a log-in a module,
        named like the role, with the settings of its HTTP client; and whether one logs in, with the credential
        `web_password`; and the authority of front doors of ours, where one has its own. Empty where nothing is
        probed."""
        if all(service.role != PROBER for service in self.derive(host)[0]):
            return {}
        modules = {}
        for probe in self.probes():
            service = probe.service
            if probe.source == host and probe.module == service.role:
                settings = self._client(host, service.role, PROBER)
                modules[service.role] = {key: value for key, value in settings.items() if key != "scheme"}
        authorities = [self._tls(host, probe.service.role).get("authority") for probe in self.probes()
                       if (probe.source, probe.service.host, probe.name) == (host, host, "front_door")
                       and probe.service.component]
        return {"modules": modules, "login": any("basic_auth" in settings for settings in modules.values()),
                "authority": next(filter(None, authorities), "")}

    def values(self, host: str) -> dict[str, Any]:
        """What the placeholders of rules and dashboards stand for on this host, as ``Mixins.values`` takes it."""
        variables = self.variables(host)
        given = {"runbook_url": variables.get("observability_runbook_url"),
                 "prometheus_url": self.web_url("prometheus"), "grafana_url": self.web_url("grafana"),
                 "thresholds": variables.get("observability_thresholds"),
                 "energy": variables.get("observability_energy_and_cost"), "services": self.services_by_type()}
        return {name: value for name, value in given.items() if value}

    def alertmanagers(self, host: str) -> list[dict]:
        """Every Alertmanager as this host reaches it: address, scheme and the settings of an HTTP client."""
        result = []
        for target in self.observability:
            address = self.reach(target, self.listen_address(target, "alertmanager"), host)
            if address and not self._removed(target, "alertmanager"):
                settings = self._client(target, "alertmanager")
                result.append({"address": address, "scheme": settings.pop("scheme", "http"), **settings})
        return result

    def silence(self, host: str, service: str, login: Mapping[str, str] | None = None) -> dict:
        """The `silence:` mapping of the component that stands for a service; empty when no Alertmanager is in reach."""
        known = [entry.name for entry in self.derive(host)[0]]
        if service not in known:
            raise ModelError([Problem(service, f"there is no such service on {host}{spec.nearest(service, known)}")])
        alertmanagers = self.alertmanagers(host)
        if not alertmanagers:
            return {}
        return {"urls": [f"{entry['scheme']}://{entry['address']}" for entry in alertmanagers],
                "matchers": {"instance": host, "service": service},
                **self._access(self.observability[0], "alertmanager", login)}

    def servers(self, host: str, logins: Mapping[str, Mapping[str, str] | None]) -> dict[str, dict]:
        """How a task on this host asks the servers of the site, each with its log-in: url, and login and tls where
        needed. One that is out of its reach, or isn't installed, is left out."""
        result: dict[str, dict] = {}
        for role, login in logins.items():
            for target in self.observability:
                address = self.reach(target, self.listen_address(target, role), host)
                if address and not self._removed(target, role):
                    url = f"{'https' if self._tls(target, role) else 'http'}://{address}"
                    result.setdefault(role, {"url": url, **self._access(target, role, login)})
        return result

    def available(self, host: str) -> set[str]:
        """What dashboards can show: the types of services, and what else is known of the site."""
        energy = self.variables(host).get("observability_energy_and_cost") or {}
        return {*self.types(), *(["energy"] if energy.get("tariff_per_kwh") and energy.get("host_watts") else [])}

    def _access(self, host: str, role: str, login: Mapping[str, str] | None) -> dict:
        """login and tls of a request to a role's web interface, where needed."""
        access: dict[str, Any] = {}
        if login:
            access["login"] = {"username": login["username"], "password": login["password"]}
        tls = self._tls(host, role)
        if tls:
            access["tls"] = {"server_name": self._server_name(host, tls)}
            if tls.get("authority"):
                access["tls"]["authority"] = tls["authority"]
        return access

    def web_url(self, role: str) -> str:
        """The address of a web page for people: what the user says, or what the first observability host listens on.
        Empty where the role isn't installed."""
        if not self.observability or role not in {mixin.get("role") for mixin in self.mixins.values()}:
            return ""
        host = self.observability[0]
        if self._removed(host, role):
            return ""
        given = self.variables(host).get(f"{role}_external_url")
        if given:
            return str(given).rstrip("/")
        listen_address = self.listen_address(host, role)
        wildcard = spec.is_wildcard(spec.split_address(listen_address)[0])
        address = self.reach(host, listen_address, seen_from="" if wildcard else host)
        return f"{'https' if self._tls(host, role) else 'http'}://{address}"

    # -- what is wrong --------------------------------------------------------------------------------------------

    def problems(self, host: str, others: Iterable[str] = ()) -> list[Problem]:
        """What the inventory says that can't be, for one host.

        An observability host also speaks for ``others``: hosts that its files depend on and that a ``--limit`` leaves
        out of the run, so that nobody else would say it.
        """
        if not self.observability:
            return [Problem("inventory", "the group `observability` has no host: put the machine that is to run "
                                         "Prometheus into it, see inventories/example/hosts.yml")]
        if host not in self.hosts:
            return [Problem("inventory", f"{host} is in neither of the groups `observability` and `monitored`: put it "
                                         "into one of them, or leave it out of the run with --limit")]
        problems = []
        if len(self.observability) > 1:
            problems.append(Problem("inventory", f"the group `observability` has {len(self.observability)} hosts "
                                                 f"({', '.join(self.observability)}); this version serves one: leave "
                                                 "one there and move the others to the group `monitored`"))
        problems += self._ambiguous(host)
        names = [host]
        if host in self.observability:
            names += sorted((set(others) & set(self.hosts)) - {host})
        for name in names:
            wrong = self.derive(name)[1] or [*self._out_of_reach(name, self.observability[0]),
                                             *self._logs_out_of_reach(name)]
            problems += wrong if name == host else [Problem(f"{item.name} (of {name})", item.text) for item in wrong]
        return problems

    def _ambiguous(self, host: str) -> list[Problem]:
        """Rules and panels know a service's type by its name, so a name has one type in the whole site."""
        types: dict[str, dict[str, str]] = {}
        for other in self.hosts:
            for service in self.derive(other)[0]:
                types.setdefault(service.name, {}).setdefault(service.type, other)
        return [Problem(f"{SERVICES}.{service.name}", f"this name is that of a service of type {kind} on {other}: give "
                                                      "one of the two another name")
                for service in self.derive(host)[0]
                for kind, other in sorted(types[service.name].items()) if kind != service.type]

    def clashes(self, host: str, roles: Iterable[str], more: Mapping[str, tuple[str, str]] | None = None
                ) -> list[Problem]:
        """Listen addresses of a host that can't both be, if one of the two belongs to one of ``roles``.

        ``more`` holds other listen addresses of the roles there: {variable: (role, address)}.
        """
        taken = {service.listen_variable: (service.role, service.listen_address)
                 for service in self.derive(host)[0] if service.component}
        for variable, (role, address) in (more or {}).items():
            taken.setdefault(variable, (role, address))
        listeners = []
        for variable, (role, address) in sorted(taken.items()):
            try:
                listeners.append((variable, role, *spec.split_address(address)))
            except ValueError:
                continue  # the check of formats says so
        problems = []
        for index, (variable, role, listens_on, port) in enumerate(listeners):
            for other_variable, other_role, other_listens_on, other_port in listeners[:index]:
                if port != other_port or not ({role, other_role} & set(roles)):
                    continue
                if listens_on == other_listens_on or spec.is_wildcard(listens_on) or spec.is_wildcard(other_listens_on):
                    problems.append(Problem(
                        variable, f"port {port} is also that of {other_variable} on {host}: give one of the two "
                                  "another port"))
        return problems

    # -- inside ---------------------------------------------------------------------------------------------------

    def _scrape(self, service: Service, mixin: Mapping[str, Any], seen_from: str) -> tuple[dict, str]:
        """(settings of the scrape config, address) of one target; the address is empty if it is out of reach."""
        if service.exporter_url:
            url = urlsplit(service.exporter_url)
            if service.host != seen_from and spec.is_loopback(url.hostname or ""):
                return {}, ""
            settings: dict[str, Any] = {"metrics_path": url.path or "/metrics"}
            if url.scheme == "https":
                settings["scheme"] = "https"
            if url.query:
                settings["params"] = {}
                for pair in url.query.split("&"):
                    name, _equals, value = pair.partition("=")
                    settings["params"].setdefault(name, []).append(value)
            port = url.port or (443 if url.scheme == "https" else 80)
            return settings, spec.join_address(url.hostname or "", port)
        if not service.component:
            return {}, ""
        settings = {"metrics_path": mixin.get("path") or "/metrics"}
        settings |= self._client(service.host, service.role)
        return settings, self.reach(service.host, service.listen_address, seen_from)

    def _client(self, host: str, role: str, reader: str = "prometheus") -> dict:
        """How Prometheus, or another program of ours, must speak to a component of ours: scheme, tls_config and
        basic_auth, where needed."""
        settings: dict[str, Any] = {}
        tls = self._tls(host, role)
        if tls:
            settings["scheme"] = "https"
            settings["tls_config"] = {"server_name": self._server_name(host, tls)}
            if tls.get("authority"):
                settings["tls_config"]["ca_file"] = tls["authority"]
        login = self.variables(host).get("observability_web_login") or {}
        if role in WEB_LOGIN_ROLES and login:
            settings["basic_auth"] = {"username": login.get("username", ""),
                                      "password_file": WEB_PASSWORD_FILE.format(role=reader)}
        return settings

    def _tls(self, host: str, role: str) -> Mapping[str, Any]:
        return self.variables(host).get(f"{role}_web_tls") or {}

    def _server_name(self, host: str, tls: Mapping[str, Any]) -> str:
        # A certificate is made out to a name, and on its own host a component is reached under 127.0.0.1.
        return str(tls.get("server_name") or host)

    def _removed(self, host: str, role: str) -> bool:
        return bool(role) and self.variables(host).get(f"{role}_state") == "absent"

    def _absent(self, service: Service) -> bool:
        """Whether what serves a service's metrics is taken away, so that nothing is known of it any more."""
        return not service.exporter_url and self._removed(service.host, service.role)

    def _out_of_reach(self, host: str, prometheus: str) -> list[Problem]:
        """What of one host's services Prometheus can't be told of, and how it could."""
        problems = []
        probes = [probe for probe in self.probes() if host in (probe.source, probe.service.host)]
        for service in self.services(host):
            mine = [probe for probe in probes if probe.service == service]
            if self._absent(service):
                continue
            if service.has_metrics and not self._scrape(service, self.mixins[service.type], prometheus)[1]:
                problems.append(self._unreachable(service, prometheus, [
                    probe.service.name for probe in probes if probe.source == host and service.role == PROBER]))
            elif not service.has_metrics and not mine:
                problems.append(Problem(f"{SERVICES}.{service.name}",
                                        f"nothing would tell of this service: its addresses are empty, and so there is "
                                        f"nothing to ask; see the options of {service.type}"))
            for probe in mine:
                if probe.source != host and spec.is_loopback(urlsplit(probe.target).hostname or ""):
                    problems.append(Problem(probe.variable,
                                            f"{probe.target} is a loopback address of {host}, and {probe.source} "
                                            "probes it: write the address that people open"))
        return problems

    def _unreachable(self, service: Service, prometheus: str, probed: Iterable[str] = ()) -> Problem:
        if service.exporter_url:
            adopted = service.listen_variable.endswith(".exporter_url")
            return Problem(service.listen_variable,
                           f"is a loopback address of {service.host}, which Prometheus on {prometheus} can't reach: "
                           + ("publish the exporter on an address of that host and write that" if adopted else
                              "serve its metrics on an address of that host in a network that you trust and write "
                              'that, or write "" to do without them'))
        because = f" (it is needed there for probes of {', '.join(sorted(set(probed)))})" if probed else ""
        return Problem(service.listen_variable,
                       f"{service.component} on {service.host} listens on {service.listen_address}, which Prometheus "
                       f"on {prometheus} can't reach{because}: set {service.listen_variable} to an address of that "
                       f"host in a network that you trust, for example 192.0.2.10:{service.port}")


class _Host:
    """Works out the services of one host."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.name = name
        self.mixins = site.mixins
        self.problems: list[Problem] = []
        self.ports: set[int] = set()

    def derive(self) -> tuple[list[Service], list[Problem]]:
        fixed = [name for name, mixin in sorted(self.mixins.items()) if mixin["placement"] == "every_host"
                 or mixin["placement"] == "observability" and self.name in self.site.observability
                 or mixin["placement"] == "log_shipper" and mixin["role"] == self.site.log_shipper(self.name)]
        entries = self._entries()
        listen = {role: self.site.listen_address(self.name, role)
                  for role in sorted({mixin["role"] for mixin in self.mixins.values() if "role" in mixin})}
        for role in listen:
            given = self.site.variables(self.name).get(f"{role}_listen_address")
            self.problems += spec.check_value(f"{role}_listen_address", {"type": "str"}, given) if given else []
        # Ports that a service may not be given: every mixin's own, and what the user sets on this host. So a service
        # that comes or goes moves no other one's port.
        self.ports = {mixin["default_port"] for mixin in self.mixins.values() if "role" in mixin}
        self.ports |= {spec.split_address(address)[1] for address in listen.values()}
        self.ports |= {spec.split_address(entry["exporter_listen_address"])[1] for entry in entries.values()
                       if entry.get("exporter_listen_address")}
        services = [self._service(name, entries.pop(name, {"type": name}), listen) for name in fixed]
        services += [self._service(name, entry, listen) for name, entry in sorted(entries.items())]
        return services, self.problems

    def _entries(self) -> dict[str, dict]:
        """The valid entries of monitored_services, each with its type."""
        declared = self.site.variables(self.name).get(SERVICES)
        if declared is None:
            return {}
        if not isinstance(declared, Mapping):
            self._problem("", f"expected a mapping of services by name, got {spec.shown('', declared)}; for example "
                              f"`{SERVICES}: {{ollama: {{}}}}`")
            return {}
        entries = {}
        for name, given in declared.items():
            entry = self._entry(str(name), {} if given is None else given)
            if entry is not None:
                entries[str(name)] = entry
        return entries

    def _entry(self, name: str, given: Any) -> dict | None:
        if not SERVICE_NAME.fullmatch(name):
            return self._problem(name, "a service's name may hold small letters, digits and _ . - only")
        if not isinstance(given, Mapping):
            return self._problem(name, f"expected a mapping of options (or {{}} for the defaults), got "
                                       f"{spec.shown('', given)}")
        kind = str(given.get("type") or name)
        mixin = self.mixins.get(kind)
        if mixin is None:
            selectable = sorted(key for key, entry in self.mixins.items() if entry["placement"] == "monitored_services")
            text = f"{kind!r} is not a type of service" + (
                spec.nearest(kind, selectable) or f"; the types are {', '.join(selectable)}")
            if given.get("type"):
                return self._problem(f"{name}.type", text)
            return self._problem(name, f"{text}; an entry with a name of its own needs `type:`")
        # The machine itself may have an entry, under its own name, because its exporter may be one that runs already.
        if (mixin["placement"] in ("observability", "probes", "log_shipper")
                or (mixin["placement"] == "every_host" and kind != name)):
            return self._problem(name, f"the service {kind} is watched without an entry: remove the line")
        if name in self.mixins and name != kind and self.mixins[name]["placement"] != "monitored_services":
            return self._problem(name, f"this name belongs to the service {name}, which is always watched: choose "
                                       "another")
        options = {key: option for key, option in COMMON_OPTIONS.items() if self._takes(mixin, key)}
        options |= dict(mixin.get("options") or {})
        wrong = spec.check_options(options, given, prefix=f"{SERVICES}.{name}.")
        if given.get("exporter_url") and given.get("exporter_listen_address"):
            wrong.append(Problem(f"{SERVICES}.{name}", "exporter_url takes an exporter that runs already, and "
                                                       "exporter_listen_address is for ours: keep one of the two"))
        self.problems += wrong
        # With wrong options the service is there all the same, and so is the role that it needs.
        return {"type": kind} if wrong else {**given, "type": kind}

    def _problem(self, name: str, text: str) -> dict | None:
        self.problems.append(Problem(f"{SERVICES}.{name}" if name else SERVICES, text))
        return None

    @staticmethod
    def _takes(mixin: Mapping[str, Any], option: str) -> bool:
        """Whether services of a type take one of the common options."""
        return {"exporter_url": "job" in mixin, "exporter_listen_address": "role" in mixin,
                "front_door": mixin["placement"] == "monitored_services"}.get(option, True)

    def _service(self, name: str, entry: Mapping[str, Any], listen: Mapping[str, str]) -> Service:
        kind = entry["type"]
        mixin = self.mixins[kind]
        role = mixin.get("role", "")
        defaults = mixin.get("options") or {}
        options = {key: option["default"] for key, option in defaults.items() if "default" in option}
        options |= {key: value for key, value in entry.items() if key not in COMMON_OPTIONS}
        common = {"host": self.name, "name": name, "type": kind, "role": role, "options": options,
                  "front_door": entry.get("front_door") or self._external_url(mixin),
                  "container": entry.get("container") or "",
                  **{key: tuple(entry[key]) for key in ("units", "log_files") if entry.get(key) is not None}}
        metrics = mixin.get("metrics_url", "")
        if entry.get("exporter_url") or not role:
            named = "" if entry.get("exporter_url") else next(iter(OPTION.findall(metrics)), "")
            return Service(**common, component="", listen_address="",
                           listen_variable=f"{SERVICES}.{name}.{named or 'exporter_url'}",
                           exporter_url=entry.get("exporter_url") or fill_options(metrics, options))
        component, address, variable = role, listen[role], f"{role}_listen_address"
        if name != kind:
            component = f"{role}@{name}"
            variable = f"{SERVICES}.{name}.exporter_listen_address"
        if entry.get("exporter_listen_address"):
            address, variable = entry["exporter_listen_address"], f"{SERVICES}.{name}.exporter_listen_address"
        elif name != kind:
            address = self._next(address)
        return Service(**common, component=component, listen_address=address, listen_variable=variable)

    def _external_url(self, mixin: Mapping[str, Any]) -> str:
        """The address under which people open a web page of ours, if it is to be probed."""
        variables = self.site.variables(self.name)
        if mixin["placement"] != "observability" or not _true(variables.get(f"{PROBER}_front_doors", True)):
            return ""
        return str(variables.get(f"{mixin['role']}_external_url") or "")

    def _next(self, address: str) -> str:
        """The next free port after a role's own, on the same interface."""
        listens_on, port = spec.split_address(address)
        while port in self.ports:
            port += 1
        self.ports.add(port)
        return spec.join_address(listens_on, port)


def _true(value: Any) -> bool:
    try:
        return check_type_bool(value)
    except TypeError:  # the check of the role's variables says so
        return True


def _grouped(job: str, targets: list[tuple[dict, dict]]) -> list[dict]:
    """Scrape configs of one job. Targets with equal settings share one; a further one keeps the label `job`.

    How often is said once for all of them, in Prometheus's own `global` section.
    """
    groups: list[tuple[dict, list[dict]]] = []
    for settings, static in targets:
        for known, statics in groups:
            if known == settings:
                statics.append(static)
                break
        else:
            groups.append((settings, [static]))
    configs = []
    for number, (settings, statics) in enumerate(groups, 1):
        if number > 1:
            statics = [{**static, "labels": {"job": job, **static["labels"]}} for static in statics]
        configs.append({"job_name": job if number == 1 else f"{job}-{number}", **settings, "static_configs": statics})
    return configs


# -- Ansible's variables -----------------------------------------------------------------------------------------


class Variables(Mapping):
    """A host's variables as plain Python values, each templated when it is asked for."""

    def __init__(self, host: str, raw: Mapping[str, Any], template: Callable[[Any], Any],
                 is_hidden: Callable[[str], bool]) -> None:
        self._host = host
        self._raw = raw
        self._template = template
        self._is_hidden = is_hidden
        self._known: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            if name not in self._raw:
                raise KeyError(name)
            try:
                self._known[name] = plain(self._template(self._raw[name]), self._is_hidden)
            except Exception as error:  # whatever a template can run into
                reason = str(error).strip().split("\n", 1)[0]
                raise ModelError([Problem(name, f"can't be evaluated for {self._host}: {reason}")]) from error
        return self._known[name]

    def __iter__(self):
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, name: object) -> bool:
        return name in self._raw


def nothing_hidden(value: str) -> bool:
    return False


def plain(value: Any, is_hidden: Callable[[str], bool] = nothing_hidden) -> Any:
    """A value without Ansible's own types, which template lazily and carry tags."""
    if isinstance(value, Mapping):
        return {plain(key): plain(item, is_hidden) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, is_hidden) for item in value]
    if isinstance(value, str) and is_hidden(value):
        return spec.Hidden(str.__str__(value))
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            return kind.__str__(value) if kind is str else kind(value)
    return value


def from_ansible(variables: Mapping[str, Any], template: Callable[[Any], Any], mixins: Any,
                 is_hidden: Callable[[str], bool] = nothing_hidden) -> Site:
    """The site as a task or a lookup sees it. ``template`` is for its own host; ``hostvars`` templates others.

    ``is_hidden`` tells the values that must not be in a message.
    """
    own = variables["inventory_hostname"]
    known: dict[str, Variables] = {}

    def of(host: str) -> Variables:
        if host not in known:
            known[host] = (Variables(host, variables, template, is_hidden) if host == own
                           else Variables(host, variables["hostvars"][host], lambda value: value, is_hidden))
        return known[host]

    return Site(variables["groups"], of, {name: mixins.scrape(name) for name in mixins.names()}, mixins.logs)
