# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator

import pytest
from fault_server import FaultServer


@pytest.fixture
def ollama() -> Iterator[FaultServer]:
    """A double of Ollama that answers properly until told otherwise."""
    server = FaultServer()
    server.healthy()
    yield server
    server.close()
