# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: options from flags and the environment, logging, start and end."""

from __future__ import annotations

import argparse
import html
import json
import logging
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Callable, NamedTuple, NoReturn

from prometheus_client import CollectorRegistry, ProcessCollector

from . import __version__, web_config
from .client import Address, Client, parse_address
from .collector import OllamaCollector
from .poller import Poller
from .web import Page, Response, WebServer, metrics_page, text

_log = logging.getLogger(__name__)

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def _duration(least: float, most: float) -> Callable[[str], float]:
    def convert(value: str) -> float:
        if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
            seconds = float(value)
        else:
            match = re.fullmatch(r"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", value, re.ASCII)
            if match is None:
                raise ValueError("it is not a duration; write it like 15s, 1m or 500ms")
            seconds = sum(int(count or 0) * unit for count, unit in zip(match.groups(), _UNITS.values()))
        if not least <= seconds <= most:
            raise ValueError(f"it must be between {least:g}s and {most:g}s")
        return seconds

    return convert


def _listen_address(value: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]|([^\s:\[\]]*)):(\d{1,5})", value, re.ASCII)
    try:
        if match is None or int(match[3]) > 65535:
            raise ValueError
        host = match[1] or match[2]
        host.encode("idna")  # as the look-up does
    except ValueError:
        raise ValueError("it is not an address; write it like 127.0.0.1:9877, [::1]:9877 or :9877") from None
    return host, int(match[3])


def _one_of(*choices: str) -> Callable[[str], str]:
    def convert(value: str) -> str:
        if value not in choices:
            raise ValueError(f"it must be one of {', '.join(choices)}")
        return value

    return convert


def _api_key(path: str) -> str | None:
    if not path:
        return None
    try:
        with open(path, encoding="ascii") as file:
            key = file.read().strip()
    except UnicodeDecodeError:
        raise ValueError("the file holds something else than a key; write the key into it and nothing else") from None
    except OSError as error:
        raise ValueError(
            f"the file cannot be read ({error.strerror}); give one that the exporter's user can read"
        ) from None
    if not key or not key.isprintable() or " " in key:
        raise ValueError("the file holds no key, or more than one word; write the key into it and nothing else")
    return key


def _web_config(path: str) -> web_config.WebConfig:
    return web_config.load(path) if path else web_config.WebConfig()


class _Option(NamedTuple):
    flag: str
    variable: str
    default: str
    convert: Callable[[str], Any]
    metavar: str
    help: str


_OPTIONS = (
    _Option(
        "--ollama.url",
        "OLLAMA_URL",
        "http://127.0.0.1:11434",
        parse_address,
        "URL",
        "where Ollama answers; a path before /api is allowed",
    ),
    _Option("--ollama.timeout", "OLLAMA_TIMEOUT", "5s", _duration(0.1, 300), "DURATION", "for a whole poll of Ollama"),
    _Option(
        "--ollama.api-key-file",
        "OLLAMA_API_KEY_FILE",
        "",
        _api_key,
        "FILE",
        "file with the key for an Ollama behind a proxy that wants one (sent as a bearer token)",
    ),
    _Option(
        "--scrape.interval",
        "SCRAPE_INTERVAL",
        "15s",
        _duration(1, 3600),
        "DURATION",
        "between two polls of Ollama, such as 15, 15s or 1m",
    ),
    _Option(
        "--web.listen-address",
        "WEB_LISTEN_ADDRESS",
        "127.0.0.1:9877",
        _listen_address,
        "HOST:PORT",
        "where to serve; [::1]:9877 for IPv6, :9877 for all addresses",
    ),
    _Option(
        "--web.config.file",
        "WEB_CONFIG_FILE",
        "",
        _web_config,
        "FILE",
        "TLS and logins, as exporter-toolkit has it: tls_server_config, basic_auth_users; JSON, which is valid YAML "
        "(other YAML needs PyYAML)",
    ),
    _Option("--log.level", "LOG_LEVEL", "info", _one_of(*_LEVELS), "LEVEL", ", ".join(_LEVELS)),
    _Option("--log.format", "LOG_FORMAT", "logfmt", _one_of("logfmt", "json"), "FORMAT", "logfmt or json"),
)


class Options(NamedTuple):
    """The options, converted; durations in seconds."""

    ollama_url: Address
    ollama_timeout: float
    ollama_api_key_file: str | None
    scrape_interval: float
    web_listen_address: tuple[str, int]
    web_config_file: web_config.WebConfig
    log_level: str
    log_format: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def parse_options(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Return the options: a flag wins over its variable, an empty variable counts as unset. Bad ones exit with 2."""
    parser = _Parser(
        prog="ollama-exporter",
        description="Prometheus exporter for Ollama. Asks Ollama at an interval of its own; scrapes never wait for it.",
        epilog="Pages: /metrics, /healthz.",
        allow_abbrev=False,
    )
    versions = f"python {platform.python_version()}, prometheus_client {metadata.version('prometheus_client')}"
    parser.add_argument("--version", action="version", version=f"ollama_exporter, version {__version__} ({versions})")
    for option in _OPTIONS:
        default = option.default or "none"
        described = f"{option.help} [variable {option.variable}, default {default}]"
        parser.add_argument(option.flag, metavar=option.metavar, help=described)
    given = vars(parser.parse_args(arguments))
    values: list[Any] = []
    for option in _OPTIONS:
        source, value = option.flag, given[option.flag[2:].replace("-", "_")]
        if value is None:
            source, value = option.variable, environment.get(option.variable) or option.default
        try:
            values.append(option.convert(value))
        except web_config.ConfigError as error:
            parser.error(f"{source}: {error}")
        except ValueError as error:
            parser.error(f"{source} is {value!r}: {error}")
    return Options(*values)


class _Formatter(logging.Formatter):
    """One line a record: time, level, message and the record's ``fields``."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self._join = _json if style == "json" else _logfmt

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        level = "warn" if record.levelno == logging.WARNING else record.levelname.lower()
        fields: dict[str, Any] = {"time": stamp, "level": level, "msg": record.getMessage()}
        fields.update(getattr(record, "fields", {}))
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return self._join(fields)


def _json(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields)


def _logfmt(fields: Mapping[str, Any]) -> str:
    # JSON's quotes are logfmt's, and keep a hostile answer on one line.
    return " ".join(
        f"{key}={value if re.fullmatch(r'[!#-<>-~]+', str(value)) else json.dumps(str(value))}"
        for key, value in fields.items()
    )


def _start_logging(level: str, style: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(style))
    logging.basicConfig(level=_LEVELS[level], handlers=[handler])


def _health_page(poller: Poller) -> Page:
    def page(_request: Any) -> Response:
        fault = poller.fault()
        return text(503, f"{fault}\n") if fault else text(200, "ok\n")

    return page


def _landing_page(url: str) -> Page:
    body = (
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Ollama exporter</title>"
        f"<h1>Ollama exporter {__version__}</h1><p>Asks {html.escape(url)}."
        "<ul><li><a href=/metrics>Metrics</a><li><a href=/healthz>Health of the exporter</a></ul></html>\n"
    ).encode()
    return lambda _request: Response(200, [("Content-Type", "text/html; charset=utf-8")], body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT and end the process with 0; return 1 if the address cannot be served."""
    options = parse_options(sys.argv[1:] if arguments is None else arguments, os.environ)
    _start_logging(options.log_level, options.log_format)
    # Before the threads start, so that all have them blocked and only sigwait takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))

    address = options.ollama_url
    url = f"{address.scheme}://{address.authority}{address.prefix}"
    client = Client(address, options.ollama_timeout, options.ollama_api_key_file)
    poller = Poller(client, options.scrape_interval, options.ollama_timeout)
    registry = CollectorRegistry()
    registry.register(OllamaCollector(poller))
    ProcessCollector(registry=registry)
    pages = {"/": _landing_page(url), "/healthz": _health_page(poller), "/metrics": metrics_page(registry)}
    host, port = options.web_listen_address
    try:
        server = WebServer(host, port, pages, options.web_config_file)
    except OSError as error:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        sys.stderr.write(
            f"ollama-exporter: error: cannot listen on {where} ({error.strerror}); free it, or choose another address "
            "with --web.listen-address\n"
        )
        return 1
    poller.start()
    # A working Ollama answers at once: the first scrape should not show it down.
    poller.wait(1.0)
    server.start()
    scheme = "https" if options.web_config_file.tls else "http"
    _log.info(
        "listening",
        extra={"fields": {"address": f"{scheme}://{server.address}", "ollama": url, "version": __version__}},
    )
    received = signal.sigwait((signal.SIGTERM, signal.SIGINT))
    _log.info("ending", extra={"fields": {"signal": signal.Signals(received).name}})
    logging.shutdown()
    # At once: threads that wait for Ollama or a client have nothing to save, and joining them takes their time-outs.
    os._exit(0)
