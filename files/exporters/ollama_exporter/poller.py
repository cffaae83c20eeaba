# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that asks Ollama every interval and keeps the last answers for whoever scrapes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from .answers import InvalidAnswer, LoadedModel, Model, parse_ps, parse_tags, parse_version
from .client import REASONS, AskError, Client

_log = logging.getLogger(__name__)

ENDPOINTS: Mapping[str, Callable[[Any], Any]] = {
    "version": parse_version,
    "tags": parse_tags,
    "ps": lambda document: parse_ps(document, time.time()),
}
"""The endpoints under /api, and how each one's answer is read."""

# On top of the client's own time-out, which cannot interrupt a look-up of a name.
_GRACE_SECONDS = 0.5


@dataclass(frozen=True)
class Snapshot:
    """What one poll found. An endpoint is in ``errors`` (with the reason) exactly if its answer is None."""

    unix_time: float
    monotonic_time: float
    durations: Mapping[str, float]
    errors: Mapping[str, str]
    version: str | None = None
    models: tuple[Model, ...] | None = None
    loaded: tuple[LoadedModel, ...] | None = None

    @property
    def up(self) -> bool:
        """Whether Ollama answers: its version and at least one of its lists.

        The version alone is not enough: any web server may have that to tell, and a hung Ollama still has it.
        """
        return self.version is not None and not (self.models is None and self.loaded is None)


class Poller:
    """Asks the endpoints side by side, so that a poll takes one time-out at most, and never two polls at once."""

    def __init__(self, client: Client, interval: float, timeout: float) -> None:
        """``interval`` and ``timeout`` in seconds; ``timeout`` is the client's."""
        self._client = client
        self._interval = interval
        self._timeout = timeout
        self._max_age = 3 * interval + timeout
        self._snapshot: Snapshot | None = None
        self._last_success = 0.0
        self._error_counts = {(endpoint, reason): 0 for endpoint in ENDPOINTS for reason in REASONS}
        self._workers: dict[str, threading.Thread] = {}
        self._told: dict[str, str] = {}
        self._polled = threading.Event()
        self._stopping = threading.Event()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> None:
        """Start polling, at once and then every interval."""
        self._started = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Poll no more; a poll under way is left to end by itself."""
        self._stopping.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the first poll to end; return whether it has."""
        return self._polled.wait(seconds)

    @property
    def last(self) -> Snapshot | None:
        """The last poll, however old."""
        return self._snapshot

    @property
    def fresh(self) -> Snapshot | None:
        """The last poll, or None if it is older than three intervals and a time-out."""
        snapshot = self._snapshot
        if snapshot is None or time.monotonic() - snapshot.monotonic_time > self._max_age:
            return None
        return snapshot

    @property
    def last_success(self) -> float:
        """Unix time in seconds of the last poll that found Ollama up; 0 if none has."""
        return self._last_success

    @property
    def error_counts(self) -> Mapping[tuple[str, str], int]:
        """Failures since the start by endpoint and reason; every pair is there."""
        return dict(self._error_counts)

    def fault(self) -> str | None:
        """Say what is wrong with the polling itself (not with Ollama); None if nothing is."""
        if not self._thread.is_alive():
            return "the poller has ended"
        snapshot = self._snapshot
        age = time.monotonic() - (snapshot.monotonic_time if snapshot else self._started)
        return f"the last poll ended {age:.0f} s ago" if age > self._max_age else None

    def poll(self) -> Snapshot:
        """Ask all endpoints once and keep what they answer."""
        results: dict[str, Any] = {}
        durations: dict[str, float] = {}
        began = time.monotonic()
        for endpoint in ENDPOINTS:
            # One that is still held by a name look-up is not asked again on top.
            if endpoint not in self._workers or not self._workers[endpoint].is_alive():
                worker = threading.Thread(
                    target=self._ask, args=(endpoint, results, durations), name=f"ask {endpoint}", daemon=True
                )
                self._workers[endpoint] = worker
                worker.start()
        for worker in self._workers.values():
            worker.join(max(0.0, began + self._timeout + _GRACE_SECONDS - time.monotonic()))
        # Copies: a late worker may still write into the originals.
        results, durations = dict(results), dict(durations)
        held = AskError("timeout", "no answer, not even to the name look-up")
        errors = {
            endpoint: error
            for endpoint, error in ((name, results.get(name, held)) for name in ENDPOINTS)
            if isinstance(error, AskError)
        }
        snapshot = Snapshot(
            unix_time=time.time(),
            monotonic_time=time.monotonic(),
            durations={name: durations.get(name, time.monotonic() - began) for name in ENDPOINTS},
            errors={endpoint: error.reason for endpoint, error in errors.items()},
            version=None if "version" in errors else results["version"],
            models=None if "tags" in errors else results["tags"],
            loaded=None if "ps" in errors else results["ps"],
        )
        for endpoint, error in errors.items():
            self._error_counts[endpoint, error.reason] += 1
        if snapshot.up:
            self._last_success = snapshot.unix_time
        self._snapshot = snapshot
        self._polled.set()
        self._tell(errors)
        return snapshot

    def _ask(self, endpoint: str, results: dict[str, Any], durations: dict[str, float]) -> None:
        began = time.monotonic()
        result: Any
        try:
            result = ENDPOINTS[endpoint](self._client.get(f"/api/{endpoint}"))
        except AskError as error:
            result = error
        except InvalidAnswer as error:
            result = AskError("invalid", str(error))
        except Exception as error:  # a fault of ours must not pass for a name look-up that hangs
            _log.exception("asking failed", extra={"fields": {"endpoint": endpoint}})
            result = AskError("invalid", repr(error))
        durations[endpoint] = time.monotonic() - began
        results[endpoint] = result

    def _tell(self, errors: Mapping[str, AskError]) -> None:
        """Log changes only: a line a poll would fill the journal while Ollama is down."""
        for endpoint in ENDPOINTS:
            error = errors.get(endpoint)
            if error is None:
                if self._told.pop(endpoint, None):
                    _log.info("endpoint answers again", extra={"fields": {"endpoint": endpoint}})
            elif self._told.get(endpoint) != error.reason:
                self._told[endpoint] = error.reason
                fields = {"endpoint": endpoint, "reason": error.reason, "error": str(error)}
                _log.warning("endpoint does not answer properly", extra={"fields": fields})

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            try:
                self.poll()
            except Exception:
                _log.exception("poll failed")
            # A fixed rhythm; polls that were missed are not made up for.
            now = time.monotonic()
            due += self._interval * max(1, -(-(now - due) // self._interval))
            self._stopping.wait(due - now)
