# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Against a real Ollama: OLLAMA_TEST_URL names one that is for tests and has a small model, which is loaded here.

With OLLAMA_TEST_RECORD=1 its answers are written to fixtures/, byte for byte.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from fault_server import FIXTURES
from test_poller import Scrape

from ollama_exporter.client import Client, parse_address
from ollama_exporter.poller import Poller

URL = os.environ.get("OLLAMA_TEST_URL", "")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not URL, reason="OLLAMA_TEST_URL names no real Ollama"),
]


def ask(path: str, body: Any = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(URL + path, data), timeout=60) as response:
        return bytes(response.read())


def load(model: str, keep_alive: Any) -> None:
    """Load or unload a model, and wait until Ollama says so."""
    ask("/api/generate", {"model": model, "keep_alive": keep_alive, "stream": False})
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if bool(json.loads(ask("/api/ps"))["models"]) == (keep_alive != 0):
            return
        time.sleep(0.2)
    raise AssertionError("Ollama did not load or unload the model")


def record(name: str, answer: bytes) -> None:
    if os.environ.get("OLLAMA_TEST_RECORD"):
        version = json.loads(ask("/api/version"))["version"]
        (FIXTURES / f"ollama-{version}-{name}.json").write_bytes(answer)


@pytest.fixture(scope="module")
def model() -> str:
    models = json.loads(ask("/api/tags"))["models"]
    assert models, "the test Ollama has no model"
    return str(min(models, key=lambda entry: entry["size"])["name"])


@pytest.fixture
def scrape() -> Callable[[], Scrape]:
    poller = Poller(Client(parse_address(URL), 5), 15, 5)

    def run() -> Scrape:
        poller.poll()
        return Scrape(poller)

    return run


def test_installed(model: str, scrape: Callable[[], Scrape]) -> None:
    load(model, 0)
    version, tags, ps = (ask(f"/api/{endpoint}") for endpoint in ("version", "tags", "ps"))
    for name, answer in (("version", version), ("tags", tags), ("ps-idle", ps)):
        record(name, answer)
    result, models = scrape(), json.loads(tags)["models"]
    assert result("ollama_up") == 1
    assert result.errors() == {}
    assert result("ollama_version_info", version=json.loads(version)["version"]) == 1
    assert result("ollama_models_total") == len(models)
    for entry in models:
        assert result("ollama_model_size_bytes", model=entry["name"]) == entry["size"]
        modified = result("ollama_model_modified_timestamp_seconds", model=entry["name"])
        assert modified is not None
        assert time.time() - 10 * 365 * 86400 < modified <= time.time()
    digests = {entry["digest"]: entry["size"] for entry in models}
    assert result("ollama_total_size_bytes") == sum(digests.values())
    assert result("ollama_models_loaded") == result("ollama_vram_bytes") == 0
    assert result("ollama_model_loaded", model=model) == 0


def test_loaded(model: str, scrape: Callable[[], Scrape]) -> None:
    load(model, "5m")
    answer = ask("/api/ps")
    record("ps-loaded", answer)
    (entry,) = json.loads(answer)["models"]
    result = scrape()
    assert result("ollama_models_loaded") == result("ollama_model_loaded", model=model) == 1
    vram = result("ollama_model_vram_bytes", model=model)
    ram = result("ollama_model_ram_bytes", model=model)
    assert vram is not None
    assert ram is not None
    assert vram == entry["size_vram"] == result("ollama_vram_bytes")
    assert vram + ram == entry["size"]
    ratio = result("ollama_model_gpu_offload_ratio", model=model)
    assert ratio == pytest.approx(entry["size_vram"] / entry["size"])
    assert result("ollama_model_context_length", model=model) == entry["context_length"]
    assert result("ollama_model_keep_alive_forever", model=model) == 0
    expires = result("ollama_model_expires_timestamp_seconds", model=model)
    assert expires is not None
    assert 0 < expires - time.time() <= 301


def test_kept_for_ever(model: str, scrape: Callable[[], Scrape]) -> None:
    load(model, -1)
    record("ps-forever", ask("/api/ps"))
    result = scrape()
    assert result("ollama_model_keep_alive_forever", model=model) == 1
    assert result("ollama_model_expires_timestamp_seconds", model=model) is None
    load(model, 0)
    assert scrape()("ollama_model_loaded", model=model) == 0
