# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command, mostly as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fault_server as fault
import pytest
from fault_server import FaultServer

from ollama_exporter import __version__
from ollama_exporter.cli import parse_options

PACKAGE = Path(__file__).resolve().parents[1]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "ollama_exporter", *arguments],
        cwd=PACKAGE, env={"PATH": os.environ["PATH"], **environment},
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip


class Exporter:
    """A running exporter. ``lines`` is what it has logged so far."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        arguments = ("--web.listen-address", "127.0.0.1:0", *arguments)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ollama_exporter", *arguments],
            cwd=PACKAGE, env={"PATH": os.environ["PATH"], **environment}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r'address\W+(http://[^\s"]+)', line)
            if found:
                self.url = found[1]
                return
        raise AssertionError(f"it ended: {self.lines}")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        lines = self.get("/metrics")[1].splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        assert self.process.stderr
        self.lines += self.process.stderr.readlines()
        return self.process.wait(10)


Start = Callable[..., Exporter]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Exporter] = []

    def run(*arguments: str, **environment: str) -> Exporter:
        started.append(Exporter(*arguments, **environment))
        return started[-1]

    yield run
    for exporter in started:
        exporter.process.kill()
        exporter.process.communicate()


def test_serves(ollama: FaultServer, start: Start) -> None:
    exporter = start("--ollama.url", ollama.url)
    metrics = exporter.metrics()
    assert metrics["ollama_up"] == 1, "the first scrape of a working Ollama shows it up"
    assert metrics["ollama_models_total"] == 2
    assert metrics["process_resident_memory_bytes"] > 0
    assert metrics[f'ollama_exporter_build_info{{version="{__version__}"}}'] == 1
    assert exporter.get("/healthz") == (200, "ok\n")
    assert "/metrics" in exporter.get("/")[1]
    assert exporter.get("/nothing")[0] == 404


def test_polls_at_its_interval(ollama: FaultServer, start: Start) -> None:
    exporter = start(OLLAMA_URL=ollama.url, SCRAPE_INTERVAL="1")
    ollama.close()
    deadline = time.monotonic() + 4
    while exporter.metrics()["ollama_up"] and time.monotonic() < deadline:
        time.sleep(0.1)
    metrics = exporter.metrics()
    assert metrics["ollama_up"] == 0
    assert not [name for name in metrics if name.startswith("ollama_model")]
    assert exporter.get("/healthz")[0] == 200, "Ollama's fault is not the exporter's"
    assert exporter.end() == 0
    told = [line for line in exporter.lines if "level=warn" in line]
    assert len(told) == 3
    assert "reason=connect" in told[0]


def test_hung_ollama_holds_nothing_up(ollama: FaultServer, start: Start) -> None:
    ollama.all(fault.silent)
    began = time.monotonic()
    exporter = start("--ollama.url", ollama.url, "--ollama.timeout", "20s", "--scrape.interval", "1s")
    assert exporter.metrics()["ollama_up"] == 0
    assert time.monotonic() - began < 4
    began = time.monotonic()
    assert exporter.end() == 0
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_at_once(ollama: FaultServer, start: Start, number: int) -> None:
    exporter = start("--ollama.url", ollama.url)
    with socket.create_connection(tuple(exporter.url[len("http://") :].split(":"))) as held:
        held.sendall(b"GET /metrics HTTP/1.1\r\n")
        began = time.monotonic()
        assert exporter.end(number) == 0
        assert time.monotonic() - began < 1
    assert "Traceback" not in "".join(exporter.lines)


def test_restart_on_the_same_port(ollama: FaultServer, start: Start) -> None:
    first = start("--ollama.url", ollama.url)
    first.metrics()
    address = first.url[len("http://") :]
    assert first.end() == 0
    assert start("--ollama.url", ollama.url, "--web.listen-address", address).metrics()["ollama_up"] == 1


def test_taken_port(ollama: FaultServer, start: Start) -> None:
    address = start("--ollama.url", ollama.url).url[len("http://") :]
    second = command("--web.listen-address", address)
    assert second.returncode == 1
    assert second.stderr == (
        f"ollama-exporter: error: cannot listen on {address} (Address already in use); free it, or choose another "
        "address with --web.listen-address\n"
    )


@pytest.mark.parametrize("address", ["192.0.2.1:9877", "no-such-host.invalid:9877"])
def test_address_that_is_not_ours(address: str) -> None:
    result = command("--web.listen-address", address)
    assert result.returncode == 1
    assert f"cannot listen on {address}" in result.stderr
    assert "Traceback" not in result.stderr


def test_ipv6(ollama: FaultServer, start: Start) -> None:
    exporter = start("--ollama.url", ollama.url, "--web.listen-address", "[::1]:0")
    assert exporter.url.startswith("http://[::1]:")
    assert exporter.metrics()["ollama_up"] == 1


def test_api_key(ollama: FaultServer, start: Start, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("the-key\n")
    exporter = start("--ollama.url", ollama.url, "--log.level", "debug", OLLAMA_API_KEY_FILE=str(key))
    exporter.metrics()
    assert b"Authorization: Bearer the-key\r\n" in ollama.requests[0]
    assert exporter.end() == 0
    assert "the-key" not in "".join(exporter.lines)


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_log_lines(ollama: FaultServer, start: Start, style: str) -> None:
    ollama.all(fault.answer(b'<html>\n"level=error"', "200 OK"))
    exporter = start("--ollama.url", ollama.url, "--log.format", style, "--log.level", "debug")
    exporter.get("/metrics")
    assert exporter.end() == 0
    for line in exporter.lines:
        if style == "json":
            fields = json.loads(line)
            assert {"time", "level", "msg"} <= set(fields)
        else:
            assert re.fullmatch(
                r'time=\S+Z level=(debug|info|warn) msg=(\S+|"[^"]+")( \w+=(\S+|"(\\.|[^"\\])*"))*\n', line
            )
    assert "reason" in "".join(exporter.lines)
    assert "request" in "".join(exporter.lines)


def test_quiet(ollama: FaultServer) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ollama_exporter", "--ollama.url", ollama.url, "--web.listen-address", "127.0.0.1:0",
         "--log.level", "error"], cwd=PACKAGE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(1)
    process.terminate()
    assert process.communicate(timeout=10)[1] == ""
    assert process.returncode == 0


def test_help_and_version() -> None:
    shown = command("--help")
    assert shown.returncode == 0
    for name in ("--ollama.url", "OLLAMA_URL", "SCRAPE_INTERVAL", "WEB_CONFIG_FILE", "OLLAMA_API_KEY_FILE", "JSON"):
        assert name in shown.stdout
    version = command("--version")
    assert version.returncode == 0
    assert version.stdout.startswith(f"ollama_exporter, version {__version__} (python 3.")


@pytest.mark.parametrize(
    ("arguments", "environment", "parts"),
    [
        (
            ["--ollama.url", "localhost:11434"],
            {},
            ["--ollama.url is 'localhost:11434'", "write it like http://127.0.0.1:11434"],
        ),
        ([], {"OLLAMA_URL": "x"}, ["OLLAMA_URL is 'x'", "write it like"]),
        (["--ollama.timeout", "5 s"], {}, ["--ollama.timeout is '5 s'", "write it like 15s"]),
        ([], {"OLLAMA_TIMEOUT": "0"}, ["OLLAMA_TIMEOUT is '0'", "between 0.1s and 300s"]),
        ([], {"SCRAPE_INTERVAL": "often"}, ["SCRAPE_INTERVAL is 'often'", "write it like 15s, 1m or 500ms"]),
        (["--scrape.interval", "500ms"], {}, ["--scrape.interval is '500ms'", "between 1s and 3600s"]),
        (["--scrape.interval="], {}, ["--scrape.interval is ''", "write it like"]),
        (["--scrape.interval", "nan"], {}, ["not a duration"]),
        (["--web.listen-address", "9877"], {}, ["--web.listen-address is '9877'", "[::1]:9877"]),
        (["--web.listen-address", "::1:9877"], {}, ["write it like"]),
        (["--web.listen-address", "a..b:9877"], {}, ["write it like"]),
        (["--web.listen-address", "127.0.0.1:70000"], {}, ["write it like"]),
        ([], {"WEB_LISTEN_ADDRESS": "here"}, ["WEB_LISTEN_ADDRESS is 'here'"]),
        (["--web.config.file", "/none.yml"], {}, ["--web.config.file: /none.yml cannot be read (No such file"]),
        ([], {"OLLAMA_API_KEY_FILE": "/none"}, ["OLLAMA_API_KEY_FILE is '/none'", "cannot be read"]),
        ([], {"OLLAMA_API_KEY_FILE": "/dev/null"}, ["holds no key"]),
        ([], {"LOG_LEVEL": "loud"}, ["LOG_LEVEL is 'loud'", "one of debug, info, warn, error"]),
        (["--log.format", "xml"], {}, ["--log.format is 'xml'", "logfmt, json"]),
        (["--ollama.uri", "x"], {}, ["unrecognized arguments: --ollama.uri"]),
        (["--ollama.url"], {}, ["--ollama.url: expected one argument"]),
        (["--ollama"], {}, ["unrecognized arguments: --ollama"]),
        (["serve"], {}, ["unrecognized arguments: serve"]),
    ],
)
def test_bad_input(
    arguments: list[str], environment: dict[str, str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        parse_options(arguments, environment)
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("ollama-exporter: error: ")
    assert message.count("\n") == 1
    for part in parts:
        assert part in message


def test_bad_input_as_a_process() -> None:
    result = command(SCRAPE_INTERVAL="often")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_flag_wins_and_empty_is_unset() -> None:
    options = parse_options(["--scrape.interval", "30"], {"SCRAPE_INTERVAL": "1m", "OLLAMA_TIMEOUT": ""})
    assert (options.scrape_interval, options.ollama_timeout) == (30, 5)
    options = parse_options([], {"SCRAPE_INTERVAL": "1m30s", "OLLAMA_TIMEOUT": "500ms"})
    assert (options.scrape_interval, options.ollama_timeout) == (90, 0.5)
    assert options.web_listen_address == ("127.0.0.1", 9877)
    assert options.ollama_url.authority == "127.0.0.1:11434"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::]:9877", ("::", 9877)),
        (":9877", ("", 9877)),
        ("monitor.lan:0", ("monitor.lan", 0)),
    ],
)
def test_listen_addresses(text: str, expected: Any) -> None:
    assert parse_options(["--web.listen-address", text], {}).web_listen_address == expected
