# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading Ollama's answers."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from fault_server import FIXTURES, fixture

from ollama_exporter.answers import InvalidAnswer, parse_ps, parse_tags, parse_time, parse_version

NOW = datetime.datetime(2025, 5, 10, tzinfo=datetime.timezone.utc).timestamp()


def unix(*parts: int) -> float:
    return datetime.datetime(*parts, tzinfo=datetime.timezone.utc).timestamp()  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-02-29T12:00:00Z", unix(2024, 2, 29, 12)),
        ("2024-01-01T00:00:00.123456789Z", unix(2024, 1, 1) + 0.123456789),
        ("2024-01-01T02:30:00.5+02:30", unix(2024, 1, 1) + 0.5),
        ("2023-12-31T16:00:00-08:00", unix(2024, 1, 1)),
        ("2318-11-05T02:45:06.123456789+01:00", unix(2318, 11, 5, 1, 45, 6) + 0.123456789),
        ("9999-12-31T23:59:59Z", unix(9999, 12, 31, 23, 59, 59)),
        ("2016-12-31T23:59:60Z", unix(2017, 1, 1)),
        ("0001-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("2023-02-29T12:00:00Z", None),
        ("2024-13-01T00:00:00Z", None),
        ("2024-00-10T00:00:00Z", None),
        ("2024-01-01T25:00:00Z", None),
        ("2024-01-01T00:00:00", None),
        ("2024-01-01", None),
        ("٢٠٢٤-01-01T00:00:00Z", None),
        ("soon", None),
        ("", None),
        (None, None),
        (1704067200, None),
    ],
)
def test_time(text: Any, expected: float | None) -> None:
    assert parse_time(text) == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_documented_tags() -> None:
    models = {model.name: model for model in parse_tags(fixture("documented-tags.json"))}
    assert list(models) == ["deepseek-r1:latest", "gpt-oss:120b-cloud", "llama3.2:latest", "reasoner:latest"]
    model = models["deepseek-r1:latest"]
    assert (model.size_bytes, model.family, model.parameter_size) == (4683075271, "qwen2", "7.6B")
    assert (model.quantization, model.format, model.remote_host) == ("Q4_K_M", "gguf", "")
    assert model.modified_seconds == pytest.approx(unix(2025, 5, 10, 15, 6, 48) + 0.639712648, abs=1e-6)
    assert models["gpt-oss:120b-cloud"].remote_host == "https://ollama.com:443"


def test_documented_ps() -> None:
    partly, forever = parse_ps(fixture("documented-ps.json"), NOW)
    assert (partly.vram_bytes, partly.size_bytes, partly.context_length) == (4500000000, 6000000000, 8192)
    assert partly.expires_seconds == pytest.approx(unix(2025, 5, 10, 15, 11, 48) + 0.639712648, abs=1e-6)
    assert not partly.forever
    assert forever.forever
    assert forever.expires_seconds is None


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("ollama-*.json")), ids=lambda path: path.name)
def test_recorded(path: Any) -> None:
    document = fixture(path.name)
    if path.stem.endswith("version"):
        assert parse_version(document) == path.stem.split("-")[1]
    elif "-tags" in path.stem:
        assert [model.name for model in parse_tags(document)] == [entry["name"] for entry in document["models"]]
        assert all(model.modified_seconds and model.size_bytes and model.family for model in parse_tags(document))
    else:
        loaded = parse_ps(document, NOW)
        assert [model.name for model in loaded] == [entry["name"] for entry in document["models"]]
        assert all(model.forever or model.expires_seconds for model in loaded)
        assert all(model.forever == ("forever" in path.stem) for model in loaded)


@pytest.mark.parametrize("document", [None, [], "x", 1, {}, {"version": None}, {"version": ""}, {"version": 3}])
def test_invalid_version(document: Any) -> None:
    with pytest.raises(InvalidAnswer):
        parse_version(document)


GOOD = {"name": "m", "size": 1, "size_vram": 1}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "models",
        {},
        {"models": {}},
        {"models": "none"},
        {"models": 0},
        {"models": ["m"]},
        {"models": [None]},
        {"models": [{**GOOD, "name": None}]},
        {"models": [{**GOOD, "name": ""}]},
        {"models": [{**GOOD, "name": 7}]},
        {"models": [{**GOOD, "size": "1"}]},
        {"models": [{**GOOD, "size": -1}]},
        {"models": [{**GOOD, "size": 1.5}]},
        {"models": [{**GOOD, "size": True}]},
        {"models": [{**GOOD, "size": 2**63}]},
        {"models": [{"name": "m"}]},
        {"models": [GOOD, {**GOOD, "size": None}]},
    ],
)
def test_invalid_models(document: Any) -> None:
    with pytest.raises(InvalidAnswer):
        parse_tags(document)
    with pytest.raises(InvalidAnswer):
        parse_ps(document, NOW)


def test_size_vram_must_be_right() -> None:
    with pytest.raises(InvalidAnswer, match="size_vram is missing"):
        parse_ps({"models": [{"name": "m", "size": 1}]}, NOW)


def test_empty_lists() -> None:
    documents: list[Any] = [{"models": []}, {"models": None}]
    for document in documents:
        assert parse_tags(document) == ()
        assert parse_ps(document, NOW) == ()


@pytest.mark.parametrize("odd", [None, 1, [], {}, {"family": 1, "format": None, "parameter_size": []}])
def test_optional_fields_are_left_out(odd: Any) -> None:
    entry = {**GOOD, "details": odd, "digest": odd, "modified_at": odd, "expires_at": odd, "context_length": odd}
    (model,) = parse_tags({"models": [entry]})
    assert (model.family, model.digest, model.modified_seconds) == ("", "", None)
    entry["context_length"] = "4096"
    (loaded,) = parse_ps({"models": [entry]}, NOW)
    assert (loaded.context_length, loaded.expires_seconds, loaded.forever) == (None, None, False)


def test_odd_names_become_valid_labels() -> None:
    names = ["a\nb", 'q"u\\o', "日本語", "lone \ud800 surrogate", "nul\x00esc\x1b", "x" * 5000]
    models = parse_tags({"models": [{**GOOD, "name": name} for name in names]})
    assert {model.name for model in models} == {
        "a\nb", 'q"u\\o', "日本語", "lone ? surrogate", "nul\ufffdesc\ufffd", "x" * 512,
    }  # fmt: skip


def test_a_name_twice() -> None:
    assert len(parse_tags({"models": [GOOD, GOOD]})) == 1
    old = {**GOOD, "size": 10, "size_vram": 4, "expires_at": "2025-05-10T00:05:00Z", "context_length": 2048}
    new = {**GOOD, "size": 20, "size_vram": 20, "expires_at": "2025-05-10T00:06:00Z"}
    (both,) = parse_ps({"models": [old, new]}, NOW)
    assert (both.size_bytes, both.vram_bytes, both.context_length) == (30, 24, 2048)
    assert both.expires_seconds == NOW + 360
