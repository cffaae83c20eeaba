# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ollama's answers as typed values.

Names and sizes must be there and be right, or the whole answer is invalid: half an answer would be shown as the
truth. Everything else is optional, and what cannot be read is left out.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# A keep-alive of -1 reaches us as an end some 292 years ahead.
_FOREVER_SECONDS = 100 * 365 * 86400
_MAX_TEXT = 512
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f]")
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII)


class InvalidAnswer(ValueError):
    """The answer is not what this endpoint of Ollama answers; the text says what is wrong."""


@dataclass(frozen=True)
class Model:
    """A model in /api/tags. A remote (cloud) model has a ``remote_host`` and no size worth counting."""

    name: str
    size_bytes: int
    digest: str
    family: str
    parameter_size: str
    quantization: str
    format: str
    remote_host: str
    modified_seconds: float | None


@dataclass(frozen=True)
class LoadedModel:
    """A model in /api/ps. ``expires_seconds`` (Unix time) is None if it stays for ever or the time is unreadable."""

    name: str
    size_bytes: int
    vram_bytes: int
    context_length: int | None
    expires_seconds: float | None
    forever: bool


def parse_version(document: Any) -> str:
    """Return the version in an answer of /api/version; raise InvalidAnswer."""
    return _name(_mapping(document, "the answer"), "version")


def parse_tags(document: Any) -> tuple[Model, ...]:
    """Return the installed models in an answer of /api/tags, by name, each name once; raise InvalidAnswer."""
    models: dict[str, Model] = {}
    for entry in _models(document):
        raw_details = entry.get("details")
        details: Mapping[str, Any] = raw_details if isinstance(raw_details, dict) else {}
        model = Model(
            name=_name(entry, "name"),
            size_bytes=_size(entry, "size"),
            digest=_text(entry.get("digest")),
            family=_text(details.get("family")),
            parameter_size=_text(details.get("parameter_size")),
            quantization=_text(details.get("quantization_level")),
            format=_text(details.get("format")),
            remote_host=_text(entry.get("remote_host")),
            modified_seconds=parse_time(entry.get("modified_at")),
        )
        models.setdefault(model.name, model)
    return tuple(models[name] for name in sorted(models))


def parse_ps(document: Any, now: float) -> tuple[LoadedModel, ...]:
    """Return the models in memory from an answer of /api/ps, by name, each name once; raise InvalidAnswer.

    A name is there twice when the model was replaced while its old version was loaded: both take memory, so they are
    added. ``now`` (Unix time, seconds) tells a far end from a keep-alive without end.
    """
    models: dict[str, LoadedModel] = {}
    for entry in _models(document):
        expires = parse_time(entry.get("expires_at"))
        forever = expires is not None and expires > now + _FOREVER_SECONDS
        context = entry.get("context_length")
        model = LoadedModel(
            name=_name(entry, "name"),
            size_bytes=_size(entry, "size"),
            vram_bytes=_size(entry, "size_vram"),
            context_length=context if type(context) is int and context > 0 else None,
            expires_seconds=None if forever else expires,
            forever=forever,
        )
        earlier = models.get(model.name)
        if earlier is not None:
            model = LoadedModel(
                name=model.name,
                size_bytes=earlier.size_bytes + model.size_bytes,
                vram_bytes=earlier.vram_bytes + model.vram_bytes,
                context_length=_later(earlier.context_length, model.context_length),
                expires_seconds=_later(earlier.expires_seconds, model.expires_seconds),
                forever=earlier.forever or model.forever,
            )
        models[model.name] = model
    return tuple(models[name] for name in sorted(models))


def parse_time(value: Any) -> float | None:
    """Return an RFC 3339 time as Unix time in seconds, or None if it is not one or not after 1970 (Go's zero time).

    By hand, because before Python 3.11 ``datetime.fromisoformat`` knows neither nanoseconds nor "Z".
    """
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour <= 23 and minute <= 59 and second <= 60) or year < 1970:
        return None
    if day > calendar.monthrange(year, month)[1]:
        return None
    seconds = calendar.timegm((year, month, day, hour, minute, second)) + float("0" + (match[7] or ".0"))
    if match[8]:
        offset = int(match[9]) * 3600 + int(match[10]) * 60
        seconds += -offset if match[8] == "+" else offset
    return seconds if seconds > 0 else None


def _later(first: Any, second: Any) -> Any:
    return max((value for value in (first, second) if value is not None), default=None)


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidAnswer(f"{what} is {_kind(value)}, not an object")
    return value


def _models(document: Any) -> list[Mapping[str, Any]]:
    answer = _mapping(document, "the answer")
    if "models" not in answer:
        raise InvalidAnswer("the answer has no models")
    models = answer["models"]
    if models is None:  # how Go writes an empty list
        return []
    if not isinstance(models, list):
        raise InvalidAnswer(f"models is {_kind(models)}, not a list")
    return [_mapping(entry, "a model") for entry in models]


def _name(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidAnswer(f"{key} is {_kind(value)}, not a text")
    return _text(value)


def _size(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if type(value) is not int or not 0 <= value < 2**63:
        raise InvalidAnswer(f"{key} is {_kind(value)}, not a number of bytes")
    return value


def _text(value: Any) -> str:
    """Return what can be a label value: valid Unicode of bounded length, without control characters but newline."""
    if not isinstance(value, str):
        return ""
    return _CONTROL.sub("\ufffd", value[:_MAX_TEXT]).encode("utf-8", "replace").decode()


def _kind(value: Any) -> str:
    return "missing" if value is None else "empty" if value == "" else f"of type {type(value).__name__}"
