#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records a mixin's catalogue of metrics (mixins/<mixin>/metrics.yml) from programs that really run.

    record_metrics.py [--program NAME VERSION] MIXIN URL [URL…]

Several addresses are for programs that show different metrics on different machines: the catalogue holds all of them.
Program and version come from the program's own <program>_build_info, or are named where it has none.
"""

import argparse
import datetime
import re
import urllib.request
from pathlib import Path

import yaml

MIXINS = Path(__file__).resolve().parents[2] / "mixins"
HEAD = """# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Made by tests/contract/record_metrics.py; the labels instance, service and job come with the scrape.
---
"""
SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
# What a family's samples have behind its name, by type, and the labels that come with the type.
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
OWN_LABELS = {"histogram": {"le"}, "summary": {"quantile"}}
# Java's Micrometer calls a timer of what still runs a summary, and shows two gauges behind its name.
RUNNING = ("_active_count", "_duration_sum")


class Dumper(yaml.SafeDumper):
    """Indents lists, as the linters want it."""

    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)

    def represent_sequence(self, tag, sequence, flow_style=None):
        """A list that does not fit in a line goes one item a line."""
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = node.flow_style and len(", ".join(map(str, sequence))) < 60
        return node


def families(text):
    """{name: {type, help, labels}} and {program: version} from the text format."""
    found, samples, versions = {}, {}, {}
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            _hash, kind, name, rest = line.split(" ", 3)
            found.setdefault(name, {"type": "untyped", "help": "", "labels": set()})[kind.lower()] = rest
        elif match := SAMPLE.match(line):
            name, labels = match[1], dict(LABEL.findall(match[2] or ""))
            samples.setdefault(name, set()).update(labels)
            if name.endswith("_build_info"):
                versions[name.removesuffix("_build_info")] = labels["version"]
    for name, family in list(found.items()):
        for part in RUNNING:
            if name + part in samples:
                found[name + part] = family | {"type": "gauge", "labels": set()}
                found.pop(name, None)
    for name, family in found.items():
        for part in PARTS.get(family["type"], ("",)):
            family["labels"] |= samples.pop(name + part, set())
        family["labels"] -= OWN_LABELS.get(family["type"], set())
    if samples:
        raise SystemExit(f"samples without a # TYPE line: {', '.join(sorted(samples))}")
    return found, versions


def main(mixin, urls, program=None):
    catalogue, versions = {}, {}
    for url in urls:
        # Some speak OpenMetrics to whoever doesn't ask for the older format.
        request = urllib.request.Request(url, headers={"Accept": "text/plain;version=0.0.4"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            found, its_versions = families(answer.read().decode())
        versions.update(its_versions)
        for name, family in found.items():
            catalogue.setdefault(name, family)["labels"].update(family["labels"])
    versions = dict([program]) if program else versions
    if len(versions) != 1:
        raise SystemExit(f"needs one <program>_build_info to know program and version, found {versions}")
    [(program, version)] = versions.items()
    document = {
        "recorded_from": {"program": program, "version": version,
                          "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat()},
        "metrics": [{"name": name, "type": family["type"], "labels": sorted(family["labels"]),
                     "help": family["help"].strip()}
                    for name, family in sorted(catalogue.items())],
    }
    text = yaml.dump(document, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=70, allow_unicode=True)
    (MIXINS / mixin / "metrics.yml").write_text(HEAD + text, encoding="utf-8")
    print(f"{mixin}: {len(catalogue)} metrics of {program} {version}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", nargs=2, metavar=("NAME", "VERSION"))
    parser.add_argument("mixin")
    parser.add_argument("url", nargs="+")
    given = parser.parse_args()
    main(given.mixin, given.url, given.program)
