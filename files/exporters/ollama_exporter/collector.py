# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics, made from the poller's last snapshot at each scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from . import __version__
from .poller import ENDPOINTS, Poller, Snapshot

# Models beyond this have no series of their own; the totals include them.
MAX_MODELS = 1000

GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ollama_up": (
        "Whether Ollama answered the last poll: its version and at least one of its lists, 1 or 0.",
        (),
    ),
    "ollama_version_info": ("Ollama's version; always 1.", ("version",)),
    "ollama_models_total": ("Installed models, remote ones included.", ()),
    "ollama_total_size_bytes": (
        (
            "Disk space of the installed models, each digest counted once, remote models not counted. "
            "Layers that models with different digests share are counted for each."
        ),
        (),
    ),
    "ollama_model_size_bytes": ("Disk space of an installed model; remote models have none.", ("model",)),
    "ollama_model_info": (
        "What an installed model is; always 1. remote_host is empty unless another host runs the model.",
        ("model", "family", "parameter_size", "quantization", "format", "remote_host"),
    ),
    "ollama_model_modified_timestamp_seconds": ("When an installed model was last modified, Unix time.", ("model",)),
    "ollama_models_loaded": ("Models in memory.", ()),
    "ollama_model_loaded": ("Whether a model is in memory, 1 or 0.", ("model",)),
    "ollama_model_vram_bytes": ("GPU memory of a loaded model.", ("model",)),
    "ollama_model_ram_bytes": ("Main memory of a loaded model: its size less its GPU memory.", ("model",)),
    "ollama_model_gpu_offload_ratio": (
        "Share of a loaded model that is in GPU memory, 0 (all on the CPU) to 1.",
        ("model",),
    ),
    "ollama_model_expires_timestamp_seconds": (
        "When a loaded model leaves memory unless it is used, Unix time; absent for one that stays for ever.",
        ("model",),
    ),
    "ollama_model_keep_alive_forever": (
        "Whether a loaded model stays in memory for ever (keep-alive -1), 1 or 0.",
        ("model",),
    ),
    "ollama_model_context_length": ("Context length in tokens that a loaded model was loaded with.", ("model",)),
    "ollama_vram_bytes": ("GPU memory of all loaded models.", ()),
    "ollama_exporter_build_info": ("The exporter's version; always 1.", ("version",)),
    "ollama_exporter_endpoint_up": (
        "Whether an endpoint of Ollama answered the last poll properly, 1 or 0.",
        ("endpoint",),
    ),
    "ollama_exporter_poll_duration_seconds": ("How long an endpoint took in the last poll.", ("endpoint",)),
    "ollama_exporter_last_poll_timestamp_seconds": ("When the last poll ended, Unix time; 0 before the first.", ()),
    "ollama_exporter_last_success_timestamp_seconds": (
        "When the last poll that found Ollama up ended, Unix time; 0 if none has.",
        (),
    ),
    "ollama_exporter_models_omitted": (
        f"Models without series of their own, because an endpoint lists more than {MAX_MODELS}.",
        ("endpoint",),
    ),
}
"""Every gauge: name, help, labels."""

_ERRORS = (
    "ollama_exporter_poll_errors",
    "Failed questions to Ollama. Reasons: connect, timeout, http_status, unauthorized, invalid, too_large.",
    ("endpoint", "reason"),
)


class _Gauges:
    """The gauges of one scrape."""

    def __init__(self) -> None:
        self._families: dict[str, GaugeMetricFamily] = {
            name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in GAUGES.items()
        }

    def set(self, name: str, value: float | None, *labels: str) -> None:
        """Add a sample; None adds none."""
        if value is not None:
            self._families[name].add_metric(labels, value)

    def families(self) -> Iterator[Metric]:
        return (family for family in self._families.values() if family.samples)


class OllamaCollector(Collector):
    """Never asks Ollama: a scrape takes the same time whatever Ollama does."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    def describe(self) -> Iterator[Metric]:
        """Return every family without samples."""
        for name, (text, labels) in GAUGES.items():
            yield GaugeMetricFamily(name, text, labels=labels)
        yield CounterMetricFamily(_ERRORS[0], _ERRORS[1], labels=_ERRORS[2])

    def collect(self) -> Iterator[Metric]:
        """Return the families that have something to say now."""
        gauges = _Gauges()
        gauges.set("ollama_exporter_build_info", 1, __version__)
        fresh, last = self._poller.fresh, self._poller.last
        gauges.set("ollama_up", 1 if fresh and fresh.up else 0)
        # Without Ollama no series about it: the last known ones would pass for true.
        if fresh and fresh.up:
            _installed(gauges, fresh)
            _loaded(gauges, fresh)
        for endpoint in ENDPOINTS:
            gauges.set("ollama_exporter_endpoint_up", 1 if fresh and endpoint not in fresh.errors else 0, endpoint)
            gauges.set("ollama_exporter_poll_duration_seconds", last.durations[endpoint] if last else None, endpoint)
        gauges.set("ollama_exporter_last_poll_timestamp_seconds", last.unix_time if last else 0)
        gauges.set("ollama_exporter_last_success_timestamp_seconds", self._poller.last_success)
        yield from gauges.families()
        errors = CounterMetricFamily(_ERRORS[0], _ERRORS[1], labels=_ERRORS[2])
        for labels, count in self._poller.error_counts.items():
            errors.add_metric(labels, count)
        yield errors


def _installed(gauges: _Gauges, snapshot: Snapshot) -> None:
    gauges.set("ollama_version_info", 1, snapshot.version or "")
    if snapshot.models is None:
        return
    local = [model for model in snapshot.models if not model.remote_host]
    # Without a digest there is nothing to share.
    sizes = {model.digest or model.name: model.size_bytes for model in local}
    gauges.set("ollama_models_total", len(snapshot.models))
    gauges.set("ollama_total_size_bytes", sum(sizes.values()))
    gauges.set("ollama_exporter_models_omitted", max(0, len(snapshot.models) - MAX_MODELS), "tags")
    for model in snapshot.models[:MAX_MODELS]:
        if not model.remote_host:
            gauges.set("ollama_model_size_bytes", model.size_bytes, model.name)
        details = (model.family, model.parameter_size, model.quantization, model.format, model.remote_host)
        gauges.set("ollama_model_info", 1, model.name, *details)
        gauges.set("ollama_model_modified_timestamp_seconds", model.modified_seconds, model.name)


def _loaded(gauges: _Gauges, snapshot: Snapshot) -> None:
    if snapshot.loaded is None:
        return
    gauges.set("ollama_models_loaded", len(snapshot.loaded))
    gauges.set("ollama_vram_bytes", sum(model.vram_bytes for model in snapshot.loaded))
    gauges.set("ollama_exporter_models_omitted", max(0, len(snapshot.loaded) - MAX_MODELS), "ps")
    shown = snapshot.loaded[:MAX_MODELS]
    in_memory = {model.name for model in snapshot.loaded}
    for model in shown:
        gauges.set("ollama_model_loaded", 1, model.name)
        gauges.set("ollama_model_vram_bytes", model.vram_bytes, model.name)
        gauges.set("ollama_model_ram_bytes", max(0, model.size_bytes - model.vram_bytes), model.name)
        share = min(1.0, model.vram_bytes / model.size_bytes) if model.size_bytes else None
        gauges.set("ollama_model_gpu_offload_ratio", share, model.name)
        gauges.set("ollama_model_expires_timestamp_seconds", model.expires_seconds, model.name)
        gauges.set("ollama_model_keep_alive_forever", int(model.forever), model.name)
        gauges.set("ollama_model_context_length", model.context_length, model.name)
    for installed in (snapshot.models or ())[:MAX_MODELS]:
        if installed.name not in in_memory:
            gauges.set("ollama_model_loaded", 0, installed.name)
