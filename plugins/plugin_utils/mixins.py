# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one reader of the mixins.

A mixin (mixins/<service>/) is data: how a kind of service is scraped and probed, its rules, their tests, the metrics
it exposes and its runbook. This file reads and checks that data and fills in the placeholders. It knows nothing of
Ansible.

    python plugins/plugin_utils/mixins.py render DIR    # the rules and their tests with default values, for promtool
"""
from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "mixins"

RUNBOOKS = "https://github.com/aistack/observability/blob/main/mixins"
PROMETHEUS = "http://127.0.0.1:9090"
CURRENCY = "EUR"

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
OPTION_TYPES = {"str", "int", "float", "bool", "list", "dict", "path"}
SCRAPE_KEYS = {"job", "role", "placement", "default_port", "path", "metrics_url", "probes", "options"}
PLACES = {"every_host", "observability", "monitored_services", "probes", "log_shipper"}
PROBE_KEYS = {"module", "target", "from", "unless"}
# The modules of roles/blackbox_exporter that are there on every host.
MODULES = {"http_2xx", "front_door", "tcp_connect", "redis_ping"}
SOURCES = {"host", "observability"}
OPTION = re.compile(r"\{([^{}]*)\}")
LOGS_KEYS = {"units", "files", "parse", "groups"}
PARSE_KEYS = {"first_line", "level", "levels", "time", "metadata", "drop"}
LEVELS = ("critical", "error", "warning", "info", "debug", "unknown")
METRIC_TYPES = {"counter", "gauge", "histogram", "summary", "untyped", "info", "stateset"}


class MixinError(ValueError):
    """A fault in a mixin or in a value given to it: names the file, the key and the fix."""

    def __init__(self, file, key, problem):
        super().__init__(f"{file}: {key}: {problem}" if key else f"{file}: {problem}")


class Mixins:
    """All mixins of one folder."""

    def __init__(self, folder=FOLDER):
        self.folder = Path(folder)
        self._scrapes = {}
        self._logs = {}

    def names(self):
        """The mixins there are, in alphabetical order."""
        return sorted(path.parent.name for path in self.folder.glob("*/scrape.yml"))

    def scrape(self, name):
        """How a mixin's service is watched: job, role, placement, default_port, path, metrics_url, probes, options."""
        if name not in self._scrapes:
            file = self._file(name, "scrape.yml")
            self._scrapes[name] = _checked(_load(file, dict), file)
        return self._scrapes[name]

    def probed_only(self):
        """The mixins whose services nothing but probes tell of."""
        return [name for name in self.names() if "job" not in self.scrape(name)]

    def has_rules(self, name):
        """Whether a mixin has rules of its own. One that has only probes may do without; any other has them."""
        return "job" in self.scrape(name) or (self.folder / name / "rules.yml").is_file()

    def has_dashboard(self, name):
        """Whether a mixin has a dashboard, which is then `aistack-<name>` in Grafana."""
        return (self.folder / name / "dashboard.json").is_file()

    def options(self, name):
        """The options of monitored_services.<key> for this type, as an argument spec."""
        return self.scrape(name)["options"]

    def logs(self, name):
        """What is known of a service's log lines: units, files, parse, and the rule groups of Loki's ruler as they are
        written. Empty where nothing is."""
        if name not in self._logs:
            file = self.folder / name / "logs.yml"
            self._logs[name] = _checked_logs(_load(file, dict), file) if file.is_file() else {}
        return self._logs[name]

    def metrics(self, name):
        """The catalogue of what this service really exposes: recorded_from and metrics."""
        file = self._file(name, "metrics.yml")
        catalogue = _load(file, dict)
        _known_keys(file, "", catalogue, {"recorded_from", "metrics"})
        source = catalogue.get("recorded_from")
        if not isinstance(source, dict) or {"program", "version", "date"} - set(source):
            raise MixinError(_short(file), "recorded_from", "needs program, version and date")
        for index, metric in enumerate(catalogue.get("metrics") or ()):
            missing = {"name", "type", "labels", "help"} - set(metric)
            if missing or metric["type"] not in METRIC_TYPES:
                raise MixinError(_short(file), f"metrics[{index}]",
                                 "needs name, labels, help and a type out of " + ", ".join(sorted(METRIC_TYPES)))
        return catalogue

    def runbook(self, name):
        """The runbook's text."""
        return self._file(name, "runbook.md").read_text(encoding="utf-8")

    def thresholds(self):
        """Every threshold there is: {name: {default, unit, minimum, maximum, description, used_by}}."""
        return _load(self.folder / "thresholds.yml", dict)

    def values(self, given=None):
        """The complete values of the placeholders: what was given, checked, over the defaults."""
        given = dict(given or {})
        values = {"runbook_url": RUNBOOKS, "prometheus_url": PROMETHEUS, "grafana_url": "",
                  "probed_only": _pattern(self.probed_only()),
                  "thresholds": self._threshold_values(given.pop("thresholds", None) or {}),
                  "services": self._service_values(given.pop("services", None) or {}),
                  "energy": _energy_values(given.pop("energy", None) or {})}
        addresses = ("runbook_url", "prometheus_url", "grafana_url")
        for key, value in given.items():
            if key not in addresses:
                raise MixinError("values", key, f"is unknown{_nearest(key, addresses)}")
            if not isinstance(value, str) or not (value or key == "grafana_url"):
                raise MixinError("values", key, "must be an address")
            values[key] = value.rstrip("/")
        return values

    def _threshold_values(self, given):
        known = self.thresholds()
        for key, value in given.items():
            if key not in known:
                raise MixinError("thresholds", key, f"is unknown{_nearest(key, known)}")
            low, high = known[key].get("minimum", 0), known[key].get("maximum", float("inf"))
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                limits = f"from {low} to {high}" if high != float("inf") else f"of at least {low}"
                raise MixinError("thresholds", key, f"must be a number {limits} ({known[key]['unit']}), not {value!r}")
        return {key: given.get(key, spec["default"]) for key, spec in known.items()}

    def _service_values(self, given):
        """{type: regular expression of its services' names}; a type of which nothing is said has its own name."""
        names = self.names()
        for kind in given:
            if kind not in names:
                raise MixinError("services", kind, f"is unknown{_nearest(kind, names)}")
        return {kind: _pattern(given.get(kind) or [kind]) for kind in names}

    def rules(self, name, given=None):
        """A mixin's rules document with its placeholders filled in and every alert's links added."""
        return self._rules(name, self.values(given))

    def rule_files(self, names, given=None):
        """{"<name>.yml": rules document} of those of the mixins that have rules."""
        values = self.values(given)
        return {f"{name}.yml": self._rules(name, values) for name in names if self.has_rules(name)}

    def log_rules(self, name, given=None):
        """A mixin's rules for Loki's ruler, with its placeholders filled in; no groups where it has none."""
        return self._log_rules(name, self.values(given))

    def log_rule_files(self, names, given=None):
        """{"<name>.yml": rules document} of those of the mixins that have rules for log lines."""
        values = self.values(given)
        return {f"{name}.yml": self._log_rules(name, values) for name in names if self.logs(name).get("groups")}

    def _log_rules(self, name, values):
        """Every alert gets the label `instance`, by which silences and inhibitions know a host, and its links."""
        file = self.folder / name / "logs.yml"
        groups = fill(self.logs(name).get("groups") or [], flat(values), file)
        page = (f"{values['grafana_url']}/d/aistack-log_explorer?var-host={{{{ $labels.host }}}}"
                "&var-service={{ $labels.service }}" if values["grafana_url"] else "")
        for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
            rule["labels"] = {"instance": "{{ $labels.host }}", **rule.get("labels", {})}
            _add_links(rule, name, values, page)
        return {"groups": groups}

    def alerts(self, name):
        """A mixin's alerts as they are written, placeholders and all."""
        document = _load(self._file(name, "rules.yml"), dict)
        return [rule for group in document.get("groups", ()) for rule in group.get("rules", ()) if "alert" in rule]

    def render(self, folder, given=None):
        """Write the rules and their tests, filled in, to <folder>/<mixin>/ where promtool can run them."""
        values = self.values(given)
        for name in filter(self.has_rules, self.names()):
            target = Path(folder) / name
            target.mkdir(parents=True, exist_ok=True)
            tests = self._file(name, "rules.test.yml")
            documents = {"rules.yml": self._rules(name, values),
                         "rules.test.yml": fill(_load(tests, dict), flat(values), tests)}
            for file, document in documents.items():
                (target / file).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def _rules(self, name, values):
        file = self._file(name, "rules.yml")
        document = fill(_load(file, dict), flat(values), file)
        page = f"{values['grafana_url']}/d/aistack-{name}" if self.has_dashboard(name) else ""
        for group in document.get("groups", ()):
            for rule in group.get("rules", ()):
                if "alert" in rule:
                    _add_links(rule, name, values, page if values["grafana_url"] else "")
        return document

    def _file(self, name, file):
        if not (self.folder / name / "scrape.yml").is_file():
            raise MixinError(f"{self.folder.name}/{name}", "", f"there is no such mixin{_nearest(name, self.names())}")
        path = self.folder / name / file
        if not path.is_file():
            needs = ("every mixin has one" if "job" in self.scrape(name)
                     else "a mixin that has only probes may do without, and then has none to be asked for")
            raise MixinError(_short(path), "", f"is missing: {needs}")
        return path


def _checked(scrape, file):
    """A scrape.yml with every key there and right."""
    def fault(key, problem):
        return MixinError(_short(file), key, problem)

    _known_keys(file, "", scrape, SCRAPE_KEYS)
    if scrape.get("placement") not in PLACES:
        raise fault("placement", f"must be one of {', '.join(sorted(PLACES))}")
    scrape.setdefault("options", {})
    scrape.setdefault("probes", {})
    # What comes with a component of ours, with metrics of the service itself, and with nothing but probes.
    if "role" in scrape:
        needed, without = {"job": str, "role": str, "path": str, "default_port": int}, "a role"
    elif "metrics_url" in scrape:
        needed, without = {"job": str, "metrics_url": str}, "metrics_url"
    else:
        needed, without = {}, "neither a role nor metrics_url"
    for key, kind in needed.items():
        if type(scrape.get(key)) is not kind:
            raise fault(key, f"is needed and must be of type {kind.__name__}")
    for key in ("job", "path", "default_port", "metrics_url"):
        if key in scrape and key not in needed:
            raise fault(key, f"has no use in a mixin with {without}")
    if "role" not in scrape and scrape["placement"] != "monitored_services":
        raise fault("placement", "must be monitored_services where no role of ours is installed")
    if not needed and not scrape["probes"]:
        raise fault("probes", "are needed in a mixin that has neither a role nor metrics_url")
    for option, spec in scrape["options"].items():
        if not isinstance(spec, dict) or spec.get("type") not in OPTION_TYPES or not spec.get("description"):
            raise fault(f"options.{option}",
                        f"needs a description and a type out of {', '.join(sorted(OPTION_TYPES))}")
    if scrape["options"] and scrape["placement"] != "monitored_services":
        raise fault("options", "only a mixin with `placement: monitored_services` takes options")
    # A component of ours has an address of its own, and what people open is said by <role>_external_url.
    known = {"front_door", *(scrape["options"] if scrape["placement"] == "monitored_services" else ("url",))}
    _only_options(file, "metrics_url", scrape.get("metrics_url", ""), known)
    for name, probe in scrape["probes"].items():
        _check_probe(file, f"probes.{name}", probe, known)
    return scrape


def _checked_logs(logs, file):
    """A logs.yml with every key there and right."""
    def fault(key, problem):
        return MixinError(_short(file), key, problem)

    _known_keys(file, "", logs, LOGS_KEYS)
    for key in ("units", "files"):
        if not isinstance(logs.setdefault(key, []), list) or not all(isinstance(item, str) for item in logs[key]):
            raise fault(key, "must be a list of texts")
    parse = logs.setdefault("parse", {})
    _known_keys(file, "parse", parse, PARSE_KEYS)
    words = parse.get("levels") or {}
    for word, level in words.items():
        if level not in LEVELS:
            raise fault(f"parse.levels.{word}", f"must be one of {', '.join(LEVELS)}")
    for key, groups in (("level", {"level"}), ("metadata", {"request_id", "trace_id"})):
        for index, expression in enumerate(parse.get(key) or ()):
            found = set(_expression(file, f"parse.{key}[{index}]", expression).groupindex)
            if not found or not found <= groups:
                raise fault(f"parse.{key}[{index}]", f"needs named groups out of {', '.join(sorted(groups))}")
    if "first_line" in parse:
        _expression(file, "parse.first_line", parse["first_line"])
    if "time" in parse:
        _known_keys(file, "parse.time", parse["time"], {"expression", "formats"})
        found = _expression(file, "parse.time.expression", parse["time"].get("expression"))
        if set(found.groupindex) != {"time"} or not parse["time"].get("formats"):
            raise fault("parse.time", "needs an expression with the group `time`, and formats")
    for index, drop in enumerate(parse.get("drop") or ()):
        if not isinstance(drop, dict) or set(drop) != {"line", "why"}:
            raise fault(f"parse.drop[{index}]", "must be a mapping of line and why")
        _expression(file, f"parse.drop[{index}].line", drop["line"])
    return logs


def _expression(file, key, expression):
    """Loki and its shippers read RE2, most of which is Python's as well."""
    try:
        return re.compile(expression)
    except (re.error, TypeError) as error:
        raise MixinError(_short(file), key, f"is not a regular expression: {error}") from None


def _check_probe(file, key, probe, known):
    if not isinstance(probe, dict):
        raise MixinError(_short(file), key, "must be a mapping of module, target and from")
    _known_keys(file, key, probe, PROBE_KEYS)
    probe.setdefault("from", "host")
    for name, choices in (("module", MODULES), ("from", SOURCES)):
        if probe.get(name) not in choices:
            raise MixinError(_short(file), f"{key}.{name}", f"must be one of {', '.join(sorted(choices))}")
    if not isinstance(probe.get("target"), str) or not probe["target"]:
        raise MixinError(_short(file), f"{key}.target", "is needed and must be of type str")
    _only_options(file, f"{key}.target", probe["target"], known)
    if "unless" in probe and probe["unless"] not in known:
        raise MixinError(_short(file), f"{key}.unless", f"names no option{_nearest(probe['unless'], known)}")


def _only_options(file, key, template, known):
    for name in OPTION.findall(template):
        if name not in known:
            raise MixinError(_short(file), key, f"{{{name}}} names no option{_nearest(name, known)}")


def fill_options(template, options):
    """A template of scrape.yml with the options that it names; empty when one of them is empty."""
    if not all(options.get(name) for name in OPTION.findall(template)):
        return ""
    # An address may be written with a slash at its end or without.
    return re.sub(r"\{([^{}]*)\}(/?)", lambda match: (str(options[match[1]]).rstrip("/") + "/" if match[2]
                                                      else str(options[match[1]])), template)


def _energy_values(given):
    """What is known of power and its price: numbers above zero, and the currency's name."""
    known = {"tariff_per_kwh", "host_watts", "currency"}
    for key, value in given.items():
        if key not in known:
            raise MixinError("energy", key, f"is unknown{_nearest(key, known)}")
        if key == "currency":
            if not isinstance(value, str):
                raise MixinError("energy", key, f"must be a text such as EUR, not {value!r}")
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise MixinError("energy", key, f"must be a number of at least 0, not {value!r}")
    found = {key: value for key, value in given.items() if value not in ("", None)}
    return {"currency": CURRENCY, **found} if found else {}


def _pattern(names):
    """A regular expression that matches these names. Without a backslash, whose escape differs from place to place."""
    return "|".join(name.replace(".", "[.]") for name in sorted(set(names)))


def _add_links(rule, name, values, page):
    """The links that every alert carries. An alert's own annotation wins."""
    alert = rule["alert"]
    annotations = rule.setdefault("annotations", {})
    annotations.setdefault("runbook_url", f"{values['runbook_url']}/{name}/runbook.md#{alert.lower()}")
    annotations.setdefault("dashboard_url", page or f"{values['prometheus_url']}/alerts?search={alert}")


def flat(values):
    """{"runbook_url": …, "thresholds.cpu_percent": "80", …}: the text that each placeholder is replaced with."""
    result = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result.update({f"{key}.{name}": item if isinstance(item, str) else _number(item)
                           for name, item in value.items()})
        else:
            result[key] = value
    return result


def _number(value):
    """80 for 80.0, so that texts read well whatever type the value came as."""
    return str(int(value)) if float(value).is_integer() else str(value)


def fill(node, texts, file, key=""):
    """A copy of a document with every ${placeholder} in its strings replaced."""
    if isinstance(node, dict):
        return {name: fill(value, texts, file, f"{key}.{name}".lstrip(".")) for name, value in node.items()}
    if isinstance(node, list):
        return [fill(value, texts, file, f"{key}[{index}]") for index, value in enumerate(node)]
    if not isinstance(node, str):
        return node

    def value_of(match):
        if match[1] not in texts:
            hint = _nearest(match[1], texts) or " (a reference to a regular expression's group is written $1)"
            raise MixinError(_short(file), key, f"unknown placeholder {match[0]}{hint}")
        return texts[match[1]]

    return PLACEHOLDER.sub(value_of, node)


def _load(file, kind):
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=LOADER)
    except yaml.YAMLError as error:
        raise MixinError(_short(file), "", f"is not valid YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise MixinError(_short(file), "", f"cannot be read: {error.strerror}") from error
    if not isinstance(document, kind):
        raise MixinError(_short(file), "", f"must hold a {kind.__name__}")
    return document


def _known_keys(file, key, mapping, known):
    for name in mapping:
        if name not in known:
            raise MixinError(_short(file), f"{key}.{name}".lstrip("."), f"is unknown{_nearest(name, known)}")


def _nearest(name, known):
    near = difflib.get_close_matches(str(name), [str(item) for item in known], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _short(file):
    """mixins/host/rules.yml, wherever the collection lies."""
    parts = Path(file).parts
    return "/".join(parts[parts.index("mixins"):]) if "mixins" in parts else str(file)


def main(argv):
    if len(argv) != 2 or argv[0] != "render":
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        Mixins().render(argv[1])
    except MixinError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
