# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mixins' dashboards, fitted to an installation.

mixins/<name>/dashboard.json is what mixins/dashboards.py made. Here panels, queries and variables that can't have data
are left out, what is left closes up, our placeholders become values, and links lead only to dashboards that are there.
Every other ${…} is Grafana's own. It knows nothing of Ansible.
"""
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import PLACEHOLDER, MixinError, flat

WIDTH = 24
OURS = ("thresholds.", "energy.", "services.")
LEADS_TO = re.compile(r"/d/([\w-]+)")

Panel = Mapping[str, Any]


def dashboards(mixins: Any, values: Mapping[str, Any], available: Iterable[str]) -> dict[str, dict]:
    """{"<name>.json": dashboard} of those mixins in *available* that have one, and of those that are nothing but a
    dashboard, such as the summary, if what it needs is there.

    *values* come from mixins.values(); *available* are the types of services that there are, and the features.
    """
    present = set(available)
    alone = {path.parent.name for path in mixins.folder.glob("*/dashboard.json")}.difference(mixins.names())
    documents = {name: load(mixins, name) for name in sorted(present | alone) if mixins.has_dashboard(name)}
    documents = {name: document for name, document in documents.items()
                 if present.issuperset(document.pop("needs", ()))}
    uids = {document["uid"] for document in documents.values()}
    return {f"{name}.json": _fitted(document, values, present, uids) for name, document in documents.items()}


def load(mixins: Any, name: str) -> dict:
    """A mixin's dashboard as it is written, placeholders and all."""
    file = mixins.folder / name / "dashboard.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MixinError(f"mixins/{name}/dashboard.json", "", f"cannot be read: {error}") from error


def panel_id(document: Mapping[str, Any], title: str) -> int:
    """The number of a dashboard's panel."""
    for panel in document["panels"]:
        if panel["title"] == title and panel["type"] != "row":
            return panel["id"]
    raise MixinError(f"dashboard {document['uid']}", "panels", f"there is none with the title {title!r}")


def _fitted(document: Mapping[str, Any], values: Mapping[str, Any], present: set[str], uids: set[str]) -> dict:
    panels = [panel if "targets" not in panel else {**panel, "targets": _met(panel["targets"], present)}
              for panel in _met(document["panels"], present)]
    texts = flat(values)

    def fill(text: str) -> Any:
        """A text with our placeholders filled in. One that is nothing but a placeholder becomes the value itself."""
        whole = PLACEHOLDER.fullmatch(text)
        if whole and whole[1].startswith(OURS) and whole[1] in texts:
            kind, name = whole[1].split(".", 1)
            return values[kind][name]
        return PLACEHOLDER.sub(text_of, text)

    def text_of(match: re.Match) -> str:
        if not match[1].startswith(OURS):
            return match[0]
        if match[1] not in texts:
            raise MixinError(f"dashboard {document['uid']}", "", f"unknown placeholder {match[0]}")
        return texts[match[1]]

    variables = _met(document.get("templating", {}).get("list", ()), present)
    return _copied({**document, "panels": _closed_up(panels), "templating": {"list": variables}}, fill,
                   lambda item: not _leads_nowhere(item, uids))


def _met(items: Iterable[Panel], present: set[str]) -> list[dict]:
    """The panels, queries or variables whose needs are met, without saying what they need. A panel that asks nothing
    any more goes."""
    return [{key: value for key, value in item.items() if key != "needs"} for item in items
            if present.issuperset(item.get("needs", ()))
            and any(present.issuperset(target.get("needs", ())) for target in item.get("targets", [{}]))]


def _closed_up(panels: Iterable[Panel]) -> list[dict]:
    """The same panels without gaps: every line fills the width, no line is empty, no heading is without panels."""
    by_top: dict[int, list[Panel]] = {}
    for panel in sorted(panels, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"])):
        by_top.setdefault(panel["gridPos"]["y"], []).append(panel)
    lines = list(by_top.values())
    top = 0
    placed = []
    for line, following in zip(lines, [*lines[1:], None]):
        if _is_heading(line) and (following is None or _is_heading(following)):
            continue
        left = 0
        for panel, width in zip(line, _spread([panel["gridPos"]["w"] for panel in line])):
            placed.append({**panel, "gridPos": {**panel["gridPos"], "x": left, "y": top, "w": width}})
            left += width
        top += max(panel["gridPos"]["h"] for panel in line)
    return placed


def _is_heading(line: list[Panel]) -> bool:
    return line[0]["type"] == "row"


def _spread(widths: list[int]) -> list[int]:
    """The widths, in the same proportion, over the whole width."""
    shares = [width * WIDTH // sum(widths) for width in widths]
    left = WIDTH - sum(shares)
    return [share + (index < left) for index, share in enumerate(shares)]


def _leads_nowhere(item: Any, uids: set[str]) -> bool:
    found = LEADS_TO.match(item.get("url", "")) if isinstance(item, dict) else None
    return found is not None and found[1] not in uids


def _copied(node: Any, fill: Callable[[str], Any], wanted: Callable[[Any], bool]) -> Any:
    """A copy with every text filled in, and without the unwanted items of lists."""
    if isinstance(node, dict):
        return {key: _copied(value, fill, wanted) for key, value in node.items()}
    if isinstance(node, list):
        return [_copied(item, fill, wanted) for item in node if wanted(item)]
    return fill(node) if isinstance(node, str) else node
