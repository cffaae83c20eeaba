# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The poller and the metrics made from it, scraped as Prometheus would."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from typing import Any

import fault_server as fault
import pytest
from fault_server import FaultServer
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from ollama_exporter.client import REASONS, Client, parse_address
from ollama_exporter.collector import GAUGES, MAX_MODELS, OllamaCollector
from ollama_exporter.poller import ENDPOINTS, Poller

TIMEOUT = 0.3
Sample = tuple[str, frozenset[tuple[str, str]]]


def poller_of(url: str, interval: float = 60) -> Poller:
    return Poller(Client(parse_address(url), TIMEOUT), interval, TIMEOUT)


def registry_of(poller: Poller) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(OllamaCollector(poller))
    return registry


class Scrape:
    """The samples of a scrape, read back from the text."""

    def __init__(self, poller: Poller) -> None:
        self.text = generate_latest(registry_of(poller)).decode()
        self.samples: dict[Sample, float] = {}
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, f"twice: {key}"
                self.samples[key] = sample.value

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.samples.get((name, frozenset(labels.items())))

    def names(self) -> set[str]:
        return {name for name, _ in self.samples}

    def errors(self) -> dict[tuple[str, str], float]:
        """The counters that are not 0."""
        return {
            (dict(labels)["endpoint"], dict(labels)["reason"]): value
            for (name, labels), value in self.samples.items()
            if name == "ollama_exporter_poll_errors_total" and value
        }

    def about_ollama(self) -> set[str]:
        return {name for name in self.names() if name.startswith("ollama_") and "_exporter_" not in name}


def poll_and_scrape(ollama: FaultServer) -> Scrape:
    poller = poller_of(ollama.url)
    poller.poll()
    return Scrape(poller)


def test_recorded_values(ollama: FaultServer) -> None:
    scrape = poll_and_scrape(ollama)
    assert scrape("ollama_up") == 1
    assert scrape("ollama_version_info", version="0.24.0") == 1
    assert scrape("ollama_models_total") == 2
    assert scrape("ollama_total_size_bytes") == 485252, "one model and its copy"
    details = {"family": "llama", "parameter_size": "119K", "quantization": "unknown", "format": "gguf"}
    for model, loaded in (("tiny-alias:latest", 1), ("tiny-llama:latest", 0)):
        assert scrape("ollama_model_size_bytes", model=model) == 485252
        assert scrape("ollama_model_info", model=model, remote_host="", **details) == 1
        assert scrape("ollama_model_loaded", model=model) == loaded
    assert scrape("ollama_model_ram_bytes", model="tiny-alias:latest") == 664832
    assert scrape("ollama_model_vram_bytes", model="tiny-alias:latest") == scrape("ollama_vram_bytes") == 0
    assert scrape("ollama_model_gpu_offload_ratio", model="tiny-alias:latest") == 0
    assert scrape("ollama_model_context_length", model="tiny-alias:latest") == 512
    assert scrape("ollama_model_keep_alive_forever", model="tiny-alias:latest") == 0
    ollama.healthy(ps="ps-forever")
    assert poll_and_scrape(ollama)("ollama_model_keep_alive_forever", model="tiny-alias:latest") == 1


def test_documented_values(ollama: FaultServer) -> None:
    ollama.documented()
    before = time.time()
    scrape = poll_and_scrape(ollama)
    assert scrape("ollama_up") == 1
    assert scrape("ollama_version_info", version="0.12.6") == 1
    assert scrape("ollama_models_total") == 4
    # The alias is counted once, the cloud model not at all.
    assert scrape("ollama_total_size_bytes") == 4683075271 + 2019393189
    assert scrape("ollama_model_size_bytes", model="reasoner:latest") == 4683075271
    assert scrape("ollama_model_size_bytes", model="gpt-oss:120b-cloud") is None
    info = {"family": "qwen2", "parameter_size": "7.6B", "quantization": "Q4_K_M", "format": "gguf"}
    assert scrape("ollama_model_info", model="deepseek-r1:latest", remote_host="", **info) == 1
    cloud = {"family": "gptoss", "parameter_size": "116.8B", "quantization": "MXFP4", "format": ""}
    assert scrape("ollama_model_info", model="gpt-oss:120b-cloud", remote_host="https://ollama.com:443", **cloud) == 1
    assert scrape("ollama_model_modified_timestamp_seconds", model="reasoner:latest") == 1748736000
    assert scrape("ollama_models_loaded") == 2
    loaded = [
        ("deepseek-r1:latest", 1),
        ("llama3.2:latest", 1),
        ("reasoner:latest", 0),
        ("gpt-oss:120b-cloud", 0),
    ]
    for model, value in loaded:
        assert scrape("ollama_model_loaded", model=model) == value
    assert scrape("ollama_model_vram_bytes", model="deepseek-r1:latest") == 4500000000
    assert scrape("ollama_model_ram_bytes", model="deepseek-r1:latest") == 1500000000
    assert scrape("ollama_model_gpu_offload_ratio", model="deepseek-r1:latest") == 0.75
    assert scrape("ollama_model_gpu_offload_ratio", model="llama3.2:latest") == 1
    assert scrape("ollama_vram_bytes") == 7500000000
    assert scrape("ollama_model_context_length", model="deepseek-r1:latest") == 8192
    expires = scrape("ollama_model_expires_timestamp_seconds", model="deepseek-r1:latest")
    assert expires == pytest.approx(1746889908.639712, abs=1e-5)
    assert scrape("ollama_model_keep_alive_forever", model="deepseek-r1:latest") == 0
    assert scrape("ollama_model_expires_timestamp_seconds", model="llama3.2:latest") is None
    assert scrape("ollama_model_keep_alive_forever", model="llama3.2:latest") == 1
    for endpoint in ENDPOINTS:
        assert scrape("ollama_exporter_endpoint_up", endpoint=endpoint) == 1
        assert 0 < (scrape("ollama_exporter_poll_duration_seconds", endpoint=endpoint) or 0) < TIMEOUT
    assert before <= (scrape("ollama_exporter_last_poll_timestamp_seconds") or 0) <= time.time()
    assert before <= (scrape("ollama_exporter_last_success_timestamp_seconds") or 0) <= time.time()
    assert scrape("ollama_exporter_models_omitted", endpoint="tags") == 0
    assert scrape.errors() == {}
    # Everything that is declared is served here, and the other way round.
    assert scrape.names() == {*GAUGES, "ollama_exporter_poll_errors_total"}


def test_nothing_loaded(ollama: FaultServer) -> None:
    ollama.healthy(ps="ps-idle")
    scrape = poll_and_scrape(ollama)
    assert scrape("ollama_models_loaded") == 0
    assert scrape("ollama_vram_bytes") == 0
    assert scrape("ollama_model_loaded", model="tiny-alias:latest") == 0
    assert "ollama_model_vram_bytes" not in scrape.names()


def test_nothing_installed(ollama: FaultServer) -> None:
    ollama.behaviours["/api/ps"] = ollama.behaviours["/api/tags"] = fault.answer({"models": None})
    scrape = poll_and_scrape(ollama)
    assert scrape("ollama_up") == 1
    assert scrape("ollama_models_total") == 0
    assert scrape("ollama_total_size_bytes") == 0


@pytest.mark.parametrize(
    ("reason", "behaviour"),
    [
        ("timeout", fault.silent),
        ("timeout", fault.drip),
        ("connect", fault.reset_in_body),
        ("http_status", fault.answer({}, "500 Internal Server Error")),
        ("http_status", fault.answer({}, "302 Found", "Location: /x\r\n")),
        ("unauthorized", fault.answer({}, "401 Unauthorized")),
        ("invalid", fault.answer(b"<html></html>")),
        ("invalid", fault.answer({"version": ["0.1"], "models": {"name": 1}})),
        ("too_large", fault.endless),
    ],
)
def test_all_endpoints_fail(ollama: FaultServer, reason: str, behaviour: fault.Behaviour) -> None:
    poller = poller_of(ollama.url)
    first = poller.poll()
    assert first.up
    ollama.all(behaviour)
    began = time.monotonic()
    poller.poll()
    # Side by side: one time-out for all three.
    assert time.monotonic() - began < TIMEOUT + 0.6
    scrape = Scrape(poller)
    assert scrape("ollama_up") == 0
    assert scrape.about_ollama() == {"ollama_up"}
    assert scrape.errors() == {(endpoint, reason): 1 for endpoint in ENDPOINTS}
    assert all(scrape("ollama_exporter_endpoint_up", endpoint=endpoint) == 0 for endpoint in ENDPOINTS)
    assert scrape("ollama_exporter_last_success_timestamp_seconds") == pytest.approx(first.unix_time, abs=1e-3)
    assert (scrape("ollama_exporter_last_poll_timestamp_seconds") or 0) > first.unix_time


def test_down_and_up_again(ollama: FaultServer) -> None:
    poller = poller_of(ollama.url)
    ollama.all(fault.answer({}, "503 Service Unavailable"))
    poller.poll()
    assert Scrape(poller)("ollama_exporter_last_success_timestamp_seconds") == 0
    poller.poll()
    ollama.healthy()
    poller.poll()
    scrape = Scrape(poller)
    assert scrape("ollama_up") == 1
    assert scrape.errors() == {(endpoint, "http_status"): 2 for endpoint in ENDPOINTS}


def test_nobody_listens(ollama: FaultServer) -> None:
    ollama.close()
    scrape = poll_and_scrape(ollama)
    assert scrape.about_ollama() == {"ollama_up"}
    assert scrape.errors() == {(endpoint, "connect"): 1 for endpoint in ENDPOINTS}


def test_tags_fail(ollama: FaultServer) -> None:
    ollama.behaviours["/api/tags"] = fault.answer(b"<html>", "502 Bad Gateway")
    scrape = poll_and_scrape(ollama)
    assert scrape("ollama_up") == 1
    assert scrape("ollama_exporter_endpoint_up", endpoint="tags") == 0
    assert scrape("ollama_exporter_endpoint_up", endpoint="ps") == 1
    assert scrape.errors() == {("tags", "http_status"): 1}
    assert scrape("ollama_model_loaded", model="tiny-alias:latest") == 1
    assert scrape("ollama_models_loaded") == 1
    assert not {"ollama_models_total", "ollama_total_size_bytes", "ollama_model_info"} & scrape.names()


def test_ps_fails(ollama: FaultServer) -> None:
    ollama.behaviours["/api/ps"] = fault.silent
    scrape = poll_and_scrape(ollama)
    assert scrape("ollama_up") == 1
    assert scrape("ollama_models_total") == 2
    assert scrape.errors() == {("ps", "timeout"): 1}
    assert not {"ollama_model_loaded", "ollama_models_loaded", "ollama_vram_bytes"} & scrape.names()


def test_both_lists_fail(ollama: FaultServer) -> None:
    ollama.behaviours["/api/ps"] = ollama.behaviours["/api/tags"] = fault.silent
    assert poll_and_scrape(ollama).about_ollama() == {"ollama_up"}


def test_version_fails(ollama: FaultServer) -> None:
    ollama.behaviours["/api/version"] = fault.answer({"models": []})
    scrape = poll_and_scrape(ollama)
    assert scrape("ollama_up") == 0
    assert scrape.about_ollama() == {"ollama_up"}
    assert scrape.errors() == {("version", "invalid"): 1}


def test_before_the_first_poll(ollama: FaultServer) -> None:
    scrape = Scrape(poller_of(ollama.url))
    assert scrape.about_ollama() == {"ollama_up"}
    assert scrape("ollama_up") == 0
    assert scrape("ollama_exporter_last_poll_timestamp_seconds") == 0
    pairs = {(e, r) for e in ENDPOINTS for r in REASONS}
    assert all(scrape("ollama_exporter_poll_errors_total", endpoint=e, reason=r) == 0 for e, r in pairs)


def test_old_snapshot_is_not_served(ollama: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    poller = poller_of(ollama.url, interval=10)
    ended = poller.poll().monotonic_time
    for age, up in ((3 * 10 + TIMEOUT - 0.1, 1), (3 * 10 + TIMEOUT + 0.1, 0)):
        monkeypatch.setattr("ollama_exporter.poller.time.monotonic", lambda age=age: ended + age)
        scrape = Scrape(poller)
        assert scrape("ollama_up") == up
        assert scrape("ollama_exporter_endpoint_up", endpoint="version") == up
        assert ("ollama_models_total" in scrape.names()) == bool(up)
    assert scrape.about_ollama() == {"ollama_up"}


def test_a_scrape_never_waits(ollama: FaultServer) -> None:
    ollama.all(fault.silent)
    poller = Poller(Client(parse_address(ollama.url), 20), 60, 20)
    poller.start()
    time.sleep(0.1)
    began = time.monotonic()
    assert Scrape(poller)("ollama_up") == 0
    assert time.monotonic() - began < 0.5
    poller.stop()


def test_name_lookup_that_hangs(ollama: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    calls: list[Any] = []

    def hang(*args: Any, **_kwargs: Any) -> Any:
        calls.append(args)
        release.wait(30)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr("ollama_exporter.client.socket.getaddrinfo", hang)
    poller = poller_of(ollama.url)
    began = time.monotonic()
    poller.poll()
    poller.poll()
    assert time.monotonic() - began < 2 * (TIMEOUT + 0.8)
    assert Scrape(poller).errors() == {(endpoint, "timeout"): 2 for endpoint in ENDPOINTS}
    assert len(calls) == len(ENDPOINTS), "threads pile up"
    monkeypatch.undo()
    release.set()
    time.sleep(0.1)
    assert poller.poll().up


def test_rhythm_and_health(ollama: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    poller = poller_of(ollama.url, interval=0.1)
    poller.start()
    assert poller.wait(5)
    time.sleep(0.55)
    assert 4 <= sum(b"/api/version" in request for request in ollama.requests) <= 7
    assert poller.fault() is None
    monkeypatch.setattr(poller, "poll", lambda: 1 / 0)
    time.sleep(0.3)
    assert poller.fault() is None
    time.sleep(0.6)
    assert "ago" in (poller.fault() or ""), "polls that fail without end must show"
    assert Scrape(poller)("ollama_up") == 0
    poller.stop()
    time.sleep(0.3)
    assert poller.fault() == "the poller has ended"


def test_log_tells_changes_only(ollama: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    poller = poller_of(ollama.url)
    poller.poll()
    assert not caplog.records
    ollama.behaviours["/api/tags"] = fault.answer({}, "500 Internal Server Error")
    for _ in range(3):
        poller.poll()
    ollama.healthy()
    for _ in range(3):
        poller.poll()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.records[0].fields == {"endpoint": "tags", "reason": "http_status", "error": "status 500"}  # type: ignore[attr-defined]


def test_many_models(ollama: FaultServer) -> None:
    names = [f"m{number:05d}" for number in range(3000)]
    tags = [{"name": name, "size": 1, "digest": name} for name in names]
    ps = [{"name": name, "size": 1, "size_vram": 1} for name in reversed(names)]
    ollama.behaviours["/api/tags"] = fault.answer({"models": tags})
    ollama.behaviours["/api/ps"] = fault.answer({"models": ps})
    scrape = poll_and_scrape(ollama)
    assert scrape("ollama_models_total") == scrape("ollama_total_size_bytes") == 3000
    assert scrape("ollama_models_loaded") == scrape("ollama_vram_bytes") == 3000
    assert scrape("ollama_exporter_models_omitted", endpoint="tags") == 3000 - MAX_MODELS
    assert scrape("ollama_exporter_models_omitted", endpoint="ps") == 3000 - MAX_MODELS
    series = [labels for name, labels in scrape.samples if name == "ollama_model_info"]
    assert len(series) == MAX_MODELS
    assert scrape("ollama_model_size_bytes", model="m00000") == 1


ODD = [
    "a\nb",
    'q"u\\o',
    "back\\",
    "日本語:latest",
    "é" * 20,
    "lone \ud800",
    "nul\x00",
    "tab\t",
    "{}",
    "# HELP x",
    "a,b=c",
]


def test_odd_names_survive_both_formats(ollama: FaultServer) -> None:
    entries = [{"name": name, "size": 1, "size_vram": 0, "digest": name} for name in ODD]
    ollama.behaviours["/api/tags"] = ollama.behaviours["/api/ps"] = fault.answer({"models": entries})
    poller = poller_of(ollama.url)
    poller.poll()
    expected = {name.replace("\ud800", "?").replace("\x00", "\ufffd").replace("\t", "\ufffd") for name in ODD}
    openmetrics = generate_openmetrics(registry_of(poller)).decode()
    for families in (text_string_to_metric_families(Scrape(poller).text), parse_openmetrics(openmetrics)):
        read = {
            sample.labels["model"]
            for family in families
            for sample in family.samples
            if sample.name == "ollama_model_loaded"
        }
        assert read == expected


def test_size_without_sense(ollama: FaultServer) -> None:
    entries = [
        {"name": "more", "size": 10, "size_vram": 20},
        {"name": "none", "size": 0, "size_vram": 0},
    ]
    ollama.behaviours["/api/ps"] = fault.answer({"models": entries})
    scrape = poll_and_scrape(ollama)
    assert scrape("ollama_model_gpu_offload_ratio", model="more") == 1
    assert scrape("ollama_model_ram_bytes", model="more") == 0
    assert scrape("ollama_model_gpu_offload_ratio", model="none") is None
    assert scrape("ollama_model_ram_bytes", model="none") == 0


def test_filter_by_name(ollama: FaultServer) -> None:
    poller = poller_of(ollama.url)
    poller.poll()
    text = generate_latest(registry_of(poller).restricted_registry(["ollama_up"])).decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == ["ollama_up 1.0"]


def test_promtool(ollama: FaultServer) -> None:
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if not promtool:
        pytest.skip("no promtool: neither PROMTOOL nor PATH names one")
    text = poll_and_scrape(ollama).text
    result = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    # The name is the users' own; it is the only exception.
    assert result.stderr.splitlines() == ['ollama_models_total non-counter metrics should not have "_total" suffix']
