# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one reader of the mixins.

A mixin (mixins/<service>/) is data: how a kind of service is scraped, its rules, their tests, the metrics it exposes
and its runbook. This file reads and checks that data and fills in the placeholders. It knows nothing of Ansible.

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

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
OPTION_TYPES = {"str", "int", "float", "bool", "list", "dict", "path"}
SCRAPE_KEYS = {"job", "role", "placement", "default_port", "path", "options"}
PLACES = {"every_host", "observability", "monitored_services"}
METRIC_TYPES = {"counter", "gauge", "histogram", "summary", "untyped", "info", "stateset"}


class MixinError(ValueError):
    """A fault in a mixin or in a value given to it: names the file, the key and the fix."""

    def __init__(self, file, key, problem):
        super().__init__(f"{file}: {key}: {problem}" if key else f"{file}: {problem}")


class Mixins:
    """All mixins of one folder."""

    def __init__(self, folder=FOLDER):
        self.folder = Path(folder)

    def names(self):
        """The mixins there are, in alphabetical order."""
        return sorted(path.parent.name for path in self.folder.glob("*/scrape.yml"))

    def scrape(self, name):
        """How a mixin's service is scraped: job, role, placement, default_port, path, options."""
        file = self._file(name, "scrape.yml")
        scrape = _load(file, dict)
        _known_keys(file, "", scrape, SCRAPE_KEYS)
        for key, kind in (("job", str), ("role", str), ("path", str), ("default_port", int)):
            if type(scrape.get(key)) is not kind:
                raise MixinError(_short(file), key, f"is needed and must be of type {kind.__name__}")
        if scrape.get("placement") not in PLACES:
            raise MixinError(_short(file), "placement", f"must be one of {', '.join(sorted(PLACES))}")
        scrape.setdefault("options", {})
        for option, spec in scrape["options"].items():
            if not isinstance(spec, dict) or spec.get("type") not in OPTION_TYPES or not spec.get("description"):
                raise MixinError(_short(file), f"options.{option}",
                                 f"needs a description and a type out of {', '.join(sorted(OPTION_TYPES))}")
        if scrape["options"] and scrape["placement"] != "monitored_services":
            raise MixinError(_short(file), "options", "only a mixin with `placement: monitored_services` takes options")
        return scrape

    def options(self, name):
        """The options of monitored_services.<key> for this type, as an argument spec."""
        return self.scrape(name)["options"]

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
        values = {"runbook_url": RUNBOOKS, "prometheus_url": PROMETHEUS, "thresholds": {}}
        given = dict(given or {})
        thresholds = dict(given.pop("thresholds", None) or {})
        for key, value in given.items():
            if key not in values:
                raise MixinError("values", key, f"is unknown{_nearest(key, values)}")
            if not isinstance(value, str) or not value:
                raise MixinError("values", key, "must be an address")
            values[key] = value.rstrip("/")
        known = self.thresholds()
        for key, value in thresholds.items():
            if key not in known:
                raise MixinError("thresholds", key, f"is unknown{_nearest(key, known)}")
            low, high = known[key].get("minimum", 0), known[key].get("maximum", float("inf"))
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                limits = f"from {low} to {high}" if high != float("inf") else f"of at least {low}"
                raise MixinError("thresholds", key, f"must be a number {limits} ({known[key]['unit']}), not {value!r}")
        values["thresholds"] = {key: thresholds.get(key, spec["default"]) for key, spec in known.items()}
        return values

    def rules(self, name, given=None):
        """A mixin's rules document with its placeholders filled in and every alert's links added."""
        return self._rules(name, self.values(given))

    def alerts(self, name):
        """A mixin's alerts as they are written, placeholders and all."""
        document = _load(self._file(name, "rules.yml"), dict)
        return [rule for group in document.get("groups", ()) for rule in group.get("rules", ()) if "alert" in rule]

    def render(self, folder, given=None):
        """Write the rules and their tests, filled in, to <folder>/<mixin>/ where promtool can run them."""
        values = self.values(given)
        for name in self.names():
            target = Path(folder) / name
            target.mkdir(parents=True, exist_ok=True)
            tests = self._file(name, "rules.test.yml")
            documents = {"rules.yml": self._rules(name, values),
                         "rules.test.yml": _fill(_load(tests, dict), _flat(values), tests)}
            for file, document in documents.items():
                (target / file).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def _rules(self, name, values):
        file = self._file(name, "rules.yml")
        document = _fill(_load(file, dict), _flat(values), file)
        for group in document.get("groups", ()):
            for rule in group.get("rules", ()):
                if "alert" in rule:
                    _add_links(rule, name, values)
        return document

    def _file(self, name, file):
        if not (self.folder / name / "scrape.yml").is_file():
            raise MixinError(f"{self.folder.name}/{name}", "", f"there is no such mixin{_nearest(name, self.names())}")
        path = self.folder / name / file
        if not path.is_file():
            raise MixinError(_short(path), "", "is missing: every mixin has one")
        return path


def _add_links(rule, name, values):
    """The links that every alert carries. An alert's own annotation wins."""
    alert = rule["alert"]
    annotations = rule.setdefault("annotations", {})
    annotations.setdefault("runbook_url", f"{values['runbook_url']}/{name}/runbook.md#{alert.lower()}")
    annotations.setdefault("dashboard_url", f"{values['prometheus_url']}/alerts?search={alert}")


def _flat(values):
    """{"runbook_url": …, "thresholds.cpu_percent": "80", …}: what each placeholder is replaced with."""
    flat = {key: value for key, value in values.items() if key != "thresholds"}
    flat.update({f"thresholds.{key}": _number(value) for key, value in values["thresholds"].items()})
    return flat


def _number(value):
    """80 for 80.0, so that texts read well whatever type the value came as."""
    return str(int(value)) if float(value).is_integer() else str(value)


def _fill(node, flat, file, key=""):
    """A copy of a document with every ${placeholder} in its strings replaced."""
    if isinstance(node, dict):
        return {name: _fill(value, flat, file, f"{key}.{name}".lstrip(".")) for name, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, flat, file, f"{key}[{index}]") for index, value in enumerate(node)]
    if not isinstance(node, str):
        return node

    def value_of(match):
        if match[1] not in flat:
            hint = _nearest(match[1], flat) or " (a reference to a regular expression's group is written $1)"
            raise MixinError(_short(file), key, f"unknown placeholder {match[0]}{hint}")
        return flat[match[1]]

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
