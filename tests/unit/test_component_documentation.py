# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's documentation is its argument spec in words: neither says anything that the other doesn't."""

import yaml
from ansible_collections.aistack.observability.plugins.modules import component


def differences(documented, spec, path=""):
    for name in sorted(set(documented) ^ set(spec)):
        yield "%s%s is only in one of them" % (path, name)
    for name in sorted(set(documented) & set(spec)):
        for part in ("type", "elements", "default", "choices", "required"):
            if documented[name].get(part) != spec[name].get(part):
                yield "%s%s: %s differs" % (path, name, part)
        if not documented[name].get("description"):
            yield "%s%s has no description" % (path, name)
        yield from differences(documented[name].get("suboptions", {}), spec[name].get("options", {}), path + name + ".")


def test_documentation_and_argument_spec_agree():
    assert list(differences(yaml.safe_load(component.DOCUMENTATION)["options"], component.ARGUMENTS)) == []
    assert yaml.safe_load(component.RETURN) and yaml.safe_load(component.EXAMPLES)
