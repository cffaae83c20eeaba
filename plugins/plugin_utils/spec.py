# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks variables against the roles' argument specs, and says what is wrong in one line a problem.

A problem names the variable, what was expected, what was given and the nearest valid name. What Ansible's own
validator would convert silently is refused here (a string where a list belongs, a number where YAML lost a zero of a
version), because roles use the values as they are written. The value of an option that may be a secret is not shown.

Formats follow from names, so that a spec needs no words of its own:

    *_interval, *_timeout, *_time, *retention, retention.metrics, retention.logs
                                              a duration such as 30s, 1h30m or 15d
    *_size                                    a size such as 512MB or 50GB
    *_memory_max                              a size in systemd's words, such as 512M or 25%
    *listen_address                           host:port, for example 127.0.0.1:9090
    smarthost                                 host:port, for example mail.example.org:587
    url, *_url                                an http or https address
    to, from (of an e-mail)                   an e-mail address
    sha256                                    64 hexadecimal digits

An empty string or mapping means "not set" and is not checked further.
"""
from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml
from ansible.module_utils.common import validation
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROLES = Path(__file__).resolve().parents[2] / "roles"
SHARED = "observability"  # the role that owns the shared variables
SERVICES = "monitored_services"
# The inventory's own words: variables without a role's prefix, and without a line in defaults.
WORDS = (SERVICES, "log_shipper", "log_sources")

SECRET_NAME = re.compile(
    r"(^|_)(passwords?|passphrase|secrets?|tokens?|credentials?|(api|private|access|account)?_?key)$")
# A webhook's address is the secret itself, and any address may carry a login.
SECRET_PLACE = re.compile(r"(^|[._])(webhook_url$|webhooks?\b|watchdog\b)")
LOGIN_IN_ADDRESS = re.compile(r"://[^/\s]*@")

# Option of Ansible's specs -> what a reader understands.
TYPE_NAMES = {
    "str": "a string", "path": "a path", "int": "a whole number", "float": "a number",
    "bool": "true or false", "list": "a list", "dict": "a mapping",
}


class Hidden(str):
    """A value that must not be shown whatever its option's name, because its owner encrypted it."""


class Problem(NamedTuple):
    """One thing that is wrong: the variable (or place) and what to do about it."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


# -- addresses ---------------------------------------------------------------------------------------------------


def split_address(address: str) -> tuple[str, int]:
    """("127.0.0.1", 9090) from "127.0.0.1:9090". The host is empty for ":9090" and bare for "[::1]:9090"."""
    host, colon, port = str(address).rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536 or (":" in host and host[:1] + host[-1:] != "[]"):
        raise ValueError(f"{address!r} is not host:port")
    host = host.removeprefix("[").removesuffix("]")
    if not re.fullmatch(r"[A-Za-z0-9_.:-]*", host):
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_wildcard(host: str) -> bool:
    return host in ("", "*", "0.0.0.0", "::")


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


# -- formats -----------------------------------------------------------------------------------------------------

DURATION = re.compile(r"0|(?=\d)(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?")
SIZE = re.compile(r"0|\d+(\.\d+)?([KMGTPE]i?)?B")
MEMORY = re.compile(r"\d+(\.\d+)?([KMGTPE]|%)?|infinity")
EMAIL = re.compile(r"([^<>@]*<)?[^\s@<>,]+@[^\s@<>,]+>?")
SHA256 = re.compile(r"[0-9a-f]{64}")


def _is_address(value: str) -> bool:
    try:
        split_address(value)
    except ValueError:
        return False
    return True


def _is_smarthost(value: str) -> bool:
    return _is_address(value) and not value.startswith(":")


def _is_web_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in value
    except ValueError:
        return False


def _is_bare_web_address(value: str) -> bool:
    return _is_web_address(value) and "@" not in urlsplit(value).netloc


# (names, by their end in the dotted path; the check; what is expected)
FORMATS: list[tuple[re.Pattern, Callable[[str], Any], str]] = [
    (re.compile(r"_(interval|timeout|time|retention)$|_retention\.(metrics|logs)$|\.max_age$"), DURATION.fullmatch,
     "a duration such as 30s, 1h30m or 15d"),
    (re.compile(r"_size$"), SIZE.fullmatch, "a size such as 512MB or 50GB"),
    (re.compile(r"_memory_max$"), MEMORY.fullmatch, "a size such as 512M or 4G, or a percentage of the memory"),
    (re.compile(r"(^|[._])listen_address$"), _is_address, "host:port, for example 127.0.0.1:9090"),
    (re.compile(r"(^|[._])smarthost$"), _is_smarthost, "host:port, for example mail.example.org:587"),
    # It ends on a command line or in a label, where everybody can read it.
    (re.compile(rf"^{SERVICES}\..*([._]url|\.front_door)$|^docker_logging_loki_url$"), _is_bare_web_address,
     "an http or https address without a log-in, for example http://127.0.0.1:11434"),
    (re.compile(rf"^{SERVICES}\..*\.address$"), _is_smarthost, "host:port, for example 127.0.0.1:5432"),
    (re.compile(r"_web_login\.username$"), lambda value: ":" not in value, "a name without a colon"),
    (re.compile(r"(^|[._])url$"), _is_web_address, "an http or https address, for example http://127.0.0.1:11434"),
    (re.compile(r"\.email\.(to(\[\d+\])?|from)$"), EMAIL.fullmatch, "an e-mail address"),
    (re.compile(r"_extra_rule_files\[\d+\]$"), lambda path: path.endswith(".yml"), "a path that ends in .yml"),
    (re.compile(r"(\.log_files|^log_sources\.files\[\d+\]\.paths)\[\d+\]$"),
     lambda path: path.startswith("/") and not path.startswith(("/home/", "/root/", "/tmp/", "/var/tmp/")),
     "an absolute path, patterns allowed, for example /var/log/app/*.log; /home, /root and the temporary folders are "
     "closed to the shipper"),
    (re.compile(r"(^|[._])sha256$"), SHA256.fullmatch, "64 hexadecimal digits"),
]


# -- specs -------------------------------------------------------------------------------------------------------


def _load(path: Path) -> Any:
    with path.open("rb") as handle:
        return yaml.load(handle, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class Specs:
    """The argument specs and defaults of the collection's roles, each read when it is first asked for.

    ``load`` reads a file of defaults; Ansible's own loader marks their templates as trusted.
    """

    def __init__(self, folder: Path = ROLES, load: Callable[[Path], Any] = _load) -> None:
        self.folder = Path(folder)
        self._load = load
        self._options: dict[str, dict] = {}
        self._defaults: dict[str, dict] = {}

    def roles(self) -> list[str]:
        return sorted(path.parent.parent.name for path in self.folder.glob("*/meta/argument_specs.yml"))

    def options(self, role: str) -> dict[str, dict]:
        if role not in self._options:
            document = _load(self.folder / role / "meta" / "argument_specs.yml") or {}
            self._options[role] = document["argument_specs"]["main"].get("options") or {}
        return self._options[role]

    def defaults(self, role: str) -> dict[str, Any]:
        """The role's defaults as they are written, templates and all."""
        if role not in self._defaults:
            path = self.folder / role / "defaults" / "main.yml"
            self._defaults[role] = (self._load(path) if path.exists() else None) or {}
        return self._defaults[role]


def nearest(name: str, valid: Iterable[str]) -> str:
    """"; did you mean X?", or nothing when no valid name is near."""
    near = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def is_secret(name: str, value: Any = "") -> bool:
    """Whether the value of an option must not be shown, judged by its name, its type and its look."""
    last = re.sub(r"\[\d+\]$", "", name).rpartition(".")[2]
    return isinstance(value, Hidden) or bool(
        SECRET_NAME.search(last) or SECRET_PLACE.search(name) or LOGIN_IN_ADDRESS.search(str(value)))


def shown(name: str, value: Any) -> str:
    """The given value for a message: short, and never a secret's."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    if is_secret(name, value):
        return "a value that isn't shown"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…'"


# -- checks ------------------------------------------------------------------------------------------------------


def check_options(options: Mapping[str, dict], values: Mapping[str, Any], prefix: str = "",
                  hints: Callable[[str], str] | None = None) -> list[Problem]:
    """Check the values of a mapping against its options, sub-options included.

    ``prefix`` is put before each name (``monitored_services.ollama.``). ``hints`` may say more about an unknown name.
    """
    problems = []
    for name in values:
        if name not in options:
            hint = (hints and hints(str(name))) or nearest(name, options)
            problems.append(Problem(f"{prefix}{name}", f"there is no such option{hint}" if hint else
                                    f"there is no such option; the options are {', '.join(sorted(options)) or 'none'}"))
    for name, option in options.items():
        if name in values:
            problems += check_value(f"{prefix}{name}", option, values[name])
        elif option.get("required"):
            problems.append(Problem(f"{prefix}{name}", f"is needed: {_expected(option)}, and it isn't set"))
    return problems


def check_value(name: str, option: Mapping[str, Any], value: Any) -> list[Problem]:
    """Check one value against its option: type, choices, elements, sub-options and format."""
    if value is None:
        # YAML's "name:" with nothing behind it. Roles' defaults are never null, so this is a slip.
        if option.get("required") or option.get("type", "str") != "raw":
            return [Problem(name, f"expected {_expected(option)}, got nothing (write the value, or remove the line)")]
        return []
    kind = option.get("type", "str")
    if not _has_type(kind, value):
        return [Problem(name, f"expected {_expected(option)}, got {shown(name, value)}"
                              f"{_type_hint(kind, name, value)}")]
    if kind == "dict":
        return _check_mapping(name, option, value)
    if kind == "list":
        element = {key: option[key] for key in ("options", "choices") if key in option}
        element["type"] = option.get("elements", "raw")
        problems = []
        for index, item in enumerate(value):
            problems += check_value(f"{name}[{index}]", element, item)
        return problems
    if option.get("choices") and str(value) not in [str(choice) for choice in option["choices"]]:
        choices = [str(choice) for choice in option["choices"]]
        return [Problem(name, f"expected one of {', '.join(choices)}, got {shown(name, value)}"
                              f"{nearest(str(value), choices)}")]
    if kind in ("str", "path") and value != "":
        for pattern, matches, expected in FORMATS:
            if pattern.search(name) and not matches(str(value)):
                return [Problem(name, f"expected {expected}, got {shown(name, value)}")]
    return []


def _check_mapping(name: str, option: Mapping[str, Any], value: Mapping) -> list[Problem]:
    options = option.get("options")
    if not options or not value:
        return []  # an empty mapping means "not set", as an empty string does
    problems = check_options(options, value, prefix=f"{name}.")
    # Ansible knows five relations between the options of a mapping; their messages hold names, not values.
    for relation in ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by"):
        if option.get(relation):
            try:
                getattr(validation, f"check_{relation}")(option[relation], dict(value))
            except TypeError as error:
                problems.append(Problem(name, str(error)))
    return problems


def _has_type(kind: str, value: Any) -> bool:
    """Whether a role can use the value as it is. Numbers and truth may come as strings, from ``-e name=value``."""
    if kind == "raw":
        return True
    if kind == "dict":
        return isinstance(value, Mapping)
    if kind == "list":
        return isinstance(value, (list, tuple))
    if isinstance(value, (Mapping, list, tuple)):
        return False
    if kind in ("str", "path"):
        return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
    if isinstance(value, bool):
        return kind == "bool"
    return not ArgumentSpecValidator({"value": {"type": kind}}).validate({"value": value}).error_messages


def _expected(option: Mapping[str, Any]) -> str:
    kind = option.get("type", "str")
    if option.get("choices"):
        return "one of " + ", ".join(str(choice) for choice in option["choices"])
    if kind == "list" and option.get("elements") in TYPE_NAMES:
        return "a list of " + {"str": "strings", "dict": "mappings", "path": "paths"}.get(
            option["elements"], option["elements"])
    return TYPE_NAMES.get(kind, f"a value of type {kind}")


def _type_hint(kind: str, name: str, value: Any) -> str:
    if kind == "list" and isinstance(value, str):
        return "; write each item on a line of its own, after a dash"
    if kind in ("str", "path") and isinstance(value, (bool, float)):
        return "; put it in quotes"
    return ""


# -- names -------------------------------------------------------------------------------------------------------


class Names:
    """Which variable names are valid, and what a wrong one was meant to be."""

    # A misspelt prefix is told from another program's by its likeness: promethues is ours, redis_exporter is not.
    LIKENESS = 0.88

    def __init__(self, specs: Specs) -> None:
        self.valid = {name: role for role in specs.roles() for name in specs.options(role)}
        # The longest prefix wins, or a role `node` would own what belongs to `node_exporter`.
        self.prefixes = sorted(specs.roles(), key=len, reverse=True)

    def unknown(self, names: Iterable[str]) -> list[tuple[str, Problem]]:
        """(role, problem) of each name that looks like one of ours and is not."""
        result = []
        for name in sorted(names):
            if name in self.valid:
                continue
            role = next((prefix for prefix in self.prefixes if name.startswith(prefix + "_")), None)
            if role:
                own = [valid for valid, owner in self.valid.items() if owner == role]
                hint = nearest(name, own) or f"; the variables are described in roles/{role}/README.md"
                result.append((role, Problem(name, f"there is no such variable{hint}")))
            elif meant := self._meant(name):
                result.append((self.valid[meant], Problem(name, f"there is no such variable; did you mean {meant}?")))
        return result

    def _meant(self, name: str) -> str | None:
        """The variable that was meant by a name whose beginning is misspelt."""
        for word in WORDS:
            if difflib.SequenceMatcher(None, name, word).ratio() >= self.LIKENESS:
                return word
        for prefix in self.prefixes:
            # Only the same number of words can be the same name misspelt.
            words = prefix.count("_") + 1
            parts = name.split("_", words)
            if len(parts) <= words:
                continue
            begin, rest = "_".join(parts[:words]), parts[words]
            meant = f"{prefix}_{rest}"
            if meant in self.valid and difflib.SequenceMatcher(None, begin, prefix).ratio() >= self.LIKENESS:
                return meant
        return None
