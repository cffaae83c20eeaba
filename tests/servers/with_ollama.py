#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command beside a real Ollama that holds the tiny model, both only as long as the command.

    with_ollama.py CMD ARGS…

The command finds its address in OLLAMA_TEST_URL, and promtool on its PATH. Both programs come from the mirror.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import model
import servers


def unpack(mirror: Path, name: str, folder: Path) -> Path:
    """The newest archive of a program, unpacked; the folder that it holds."""
    archives = sorted(mirror.glob(f"{name}-[0-9]*.tar.*"))
    if not archives:
        raise SystemExit(f"there is no {name} in {mirror}: run `make servers`")
    with tarfile.open(archives[-1]) as archive:
        archive.extractall(folder / name, filter="data")
    return folder / name


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            model.names(url)
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("Ollama did not start")


def main(command: list[str]) -> int:
    mirror = Path(servers.mirror_folder())
    with tempfile.TemporaryDirectory(prefix="aistack-ollama-") as scratch:
        folder = Path(scratch)
        program = next(unpack(mirror, "ollama", folder).rglob("ollama"))
        tools = next(unpack(mirror, "prometheus", folder).rglob("promtool")).parent
        url = f"http://127.0.0.1:{free_port()}"
        environment = dict(os.environ, HOME=scratch, OLLAMA_HOST=url, OLLAMA_MODELS=str(folder / "models"),
                           OLLAMA_NO_CLOUD="1")
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen([str(program), "serve"], env=environment, stdout=log, stderr=log)
        try:
            wait_for(url, process)
            model.add("tiny", str(mirror / "tiny-llama.gguf"), url)
            given = dict(os.environ, OLLAMA_TEST_URL=url, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")
            return subprocess.run(command, env=given, check=False).returncode
        finally:
            process.terminate()
            process.wait(timeout=20)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
