#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints docs/roles.md: every public variable of every role, from the argument specs and the defaults."""

from __future__ import annotations

import pathlib
import re
import sys

import yaml

ROLES = pathlib.Path(__file__).resolve().parent.parent / "roles"


def plain(text: object) -> str:
    """A description without Ansible's markup, on one line."""
    sentences = text if isinstance(text, list) else [text]
    joined = " ".join(str(sentence) for sentence in sentences)
    joined = re.sub(r"\b[A-Z]\((?:ignore:)?([^)]*)\)", r"`\1`", joined)
    return joined.replace("|", "\\|").replace("\n", " ")


def kind(option: dict) -> str:
    text = option.get("type", "str")
    if option.get("elements"):
        text += " of %s" % option["elements"]
    if option.get("choices"):
        text += ": %s" % ", ".join(str(choice) for choice in option["choices"])
    return text


def rows(options: dict, defaults: dict, prefix: str = "") -> list[str]:
    lines = []
    for name, option in options.items():
        default = defaults.get(name, option.get("default", "")) if not prefix else option.get("default", "")
        shown = "required" if option.get("required") else "`%s`" % default if default not in ("", None) else ""
        lines.append("| %s | %s | %s | %s |" % ("`%s%s`" % (prefix, name), kind(option), shown.replace("|", "\\|"),
                                                 plain(option.get("description", ""))))
        lines += rows(option.get("options") or {}, {}, prefix + name + ".")
    return lines


def page(role: pathlib.Path) -> list[str]:
    spec = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]
    defaults_file = role / "defaults" / "main.yml"
    defaults = yaml.safe_load(defaults_file.read_text(encoding="utf-8")) or {} if defaults_file.exists() else {}
    return ["## %s" % role.name, "", plain(spec["short_description"]).rstrip(".") + ".", "",
            *[plain(line) + "\n" for line in spec.get("description") or [] if isinstance(spec["description"], list)],
            "| Variable | Type | Default | Meaning |", "|---|---|---|---|",
            *rows(spec.get("options") or {}, defaults), ""]


def main() -> None:
    lines = ["# Variables", "",
             "Made from `roles/*/meta/argument_specs.yml` by `make docs`. A misspelt or mistyped variable stops a run",
             "before anything is changed.", ""]
    for role in sorted(path for path in ROLES.iterdir() if (path / "meta" / "argument_specs.yml").exists()):
        lines += page(role)
    sys.stdout.write("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
