# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stages make of lines, in the real Promtail, which reads them from its standard input and sends nothing.

Alloy's stages come from the same source and run in its scenario.
"""

import json
import os
import re
import select
import subprocess
from typing import NamedTuple

import pytest
from ansible_collections.aistack.observability.plugins.plugin_utils import log_pipeline

# It shows no structured metadata; here they are labels.
METADATA = ["unit", "request_id", "trace_id"]
ENTRY = re.compile(rb'^(\d{4}-\d\d-\d\dT[\d:.]+[+-]\d{4})\s*\{((?:\w+="(?:[^"\\]|\\.)*"(?:, )?)+)\}\t?', re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Entry(NamedTuple):
    line: str
    labels: dict
    time: str

    @property
    def level(self):
        return self.labels["level"]


def said(program, configuration, given):
    """Its output. It loses what is still under way when its input ends, so that doesn't end before it is quiet: longer
    than it waits for another line of an entry."""
    with subprocess.Popen([program, f"-config.file={configuration}", "-stdin", "-dry-run", "-log.level=error"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(given)
        process.stdin.flush()
        out = b""
        while select.select([process.stdout], [], [], 2.5)[0]:
            out += os.read(process.stdout.fileno(), 65536)
        rest, error = process.communicate(timeout=60)
    return out + rest, error


@pytest.fixture(scope="module")
def processed(promtail, tmp_path_factory):
    """processed(lines, source="docker", labels={…}, **logs): what comes out, in no order that counts."""
    folder = tmp_path_factory.mktemp("promtail")

    def run(lines, source="docker", labels=None, **logs):
        described = log_pipeline.pipeline({
            "host": "gpu1", "push": [{"url": "http://127.0.0.1:1/"}], "journal": True, "docker": True,
            "files": [{"paths": ["/a"], "service": "app"}]} | logs)
        stages = []
        for stage in described[source]["stages"]:
            if "structured_metadata" in stage:
                stage = {"labels": stage["structured_metadata"]}
            elif "labelallow" in stage:
                stage = {"labelallow": stage["labelallow"] + METADATA}
            stages.append(stage)
        document = log_pipeline.promtail(described, {"listen_address": "127.0.0.1:9080", "positions": "/p"})
        own = {"host": "gpu1", "service": "app", "stream": "stdout"} | (labels or {})
        document["scrape_configs"] = [{
            "job_name": "test", "static_configs": [{"labels": {"job": "test"}}],
            # What is within a match sees labels as if they had come with the line.
            "pipeline_stages": [{"static_labels": own}, {"match": {"selector": '{host="gpu1"}', "stages": stages}}]}]
        (folder / "promtail.yml").write_text(json.dumps(document), encoding="utf-8")
        given = lines if isinstance(lines, bytes) else ("\n".join(lines) + "\n").encode()
        out, error = said(promtail, folder / "promtail.yml", given)
        assert not error, error.decode()
        found = list(ENTRY.finditer(out))
        ends = [match.start() for match in found[1:]] + [len(out)]
        return [Entry(out[match.end():end].decode().rstrip("\n"), dict(LABEL.findall(match[2].decode())),
                      match[1].decode()) for match, end in zip(found, ends)]
    return run


LEVELS = {
    "2026-01-01 ERROR broken": "error", "level=warn msg=a": "warning", "W0102 03:04:05.6 klog": "warning",
    "notice: b": "info", "<trace> c": "debug", "says nothing": "unknown", "PANIC: d": "critical",
    '{"level":"fatal","msg":"ERROR"}': "critical", '{"severity":"NOTICE"}': "info", '{"level":50}': "error",
    '{"level":35,"a":1}': "unknown", '{"log.level":"debug"}': "debug", '{"log":{"level":"warn"}}': "warning",
    '{"level":{"a":1}}': "unknown", '{"level": broken': "unknown", '{"level":"info","a":"unfinished': "info",
    '{"level":null}': "unknown", "ValueError: alone": "error", "{{ .level }} %s": "unknown",
}


def test_levels(processed):
    entries = processed(LEVELS)
    assert {entry.line: entry.level for entry in entries} == LEVELS
    assert {frozenset(entry.labels) for entry in entries} == {frozenset({"host", "service", "stream", "level"})}


def test_the_journal_s_priority_counts_where_the_line_says_nothing(processed):
    entries = processed(["nothing", "ERROR x"], "journal",
                        {"priority": "warning", "transport": "syslog", "unit": "a.service"})
    assert {entry.line: entry.level for entry in entries} == {"nothing": "warning", "ERROR x": "error"}
    assert {entry.labels["unit"] for entry in entries} == {"a.service"}


def test_ids(processed):
    wanted = {
        '{"requestId":"abc-123456","trace":{"id":"feedbeef00"}}': ("abc-123456", "feedbeef00"),
        'level=info request_id=abcdef99 traceID="0123456789ab"': ("abcdef99", "0123456789ab"),
        "X-Request-Id: 0a1b2c3d": ("0a1b2c3d", None),
        "requested 5 things": (None, None),
        '{"request_id":null,"trace_id":7}': (None, "7"),
    }
    assert {entry.line: (entry.labels.get("request_id"), entry.labels.get("trace_id"))
            for entry in processed(wanted)} == wanted


def test_a_service_s_own_words(processed):
    parse = {"app": {
        "level": [r"^\[(?P<level>\w+)\]", r"code (?P<level>\d)"],
        "levels": {"LOG": "info", "4": "warning", "ERR": "info"}, "metadata": [r"job (?P<request_id>\w+)"],
        "drop": [{"line": "^noise", "why": "says nothing"}]}}
    wanted = {"[LOG] a": "info", "code 4 job x17": "warning", "[ERROR] code 4": "error", "ERROR code 9": "error",
              "[err] c": "info", "level=err d": "info", "b": "unknown", '{"level":"warn"}': "warning"}
    entries = processed([*wanted, "noise"], parse=parse)
    assert {entry.line: entry.level for entry in entries} == wanted
    assert [entry.labels.get("request_id") for entry in entries if "x17" in entry.line] == ["x17"]
    # Another service's lines are its own.
    assert len(processed(["noise", "[LOG] a"], labels={"service": "other"}, parse=parse)) == 2


CHAINED = [
    "INFO before", "Traceback (most recent call last):", '  File "a.py", line 1', "ValueError: a", "",
    "During handling of the above exception, another exception occurred:", "", "Traceback (most recent call last):",
    '  File "b.py", line 1', "app.errors.OwnError: b", "INFO after",
]


@pytest.mark.parametrize(("source", "labels"), [
    ("docker", {}), ("files", {"stream": "file"}), ("journal", {"stream": "journal", "transport": "stdout"})])
def test_a_traceback_is_one_entry_and_an_error(processed, source, labels):
    # Standard input loses empty lines.
    entries = processed(CHAINED, source, labels)
    assert sorted((entry.line.split("\n")[-1], entry.level) for entry in entries) == [
        ("INFO after", "info"), ("app.errors.OwnError: b", "error")]


def test_a_message_that_came_to_the_journal_as_one_stays_one(processed):
    entries = processed(["one", "  two"], "journal", {"transport": "syslog"})
    assert len(entries) == 2


def test_entries_begin_as_the_service_says(processed):
    parse = {"app": {"first_line": r"^\d{4}-\d\d-\d\d "}}
    entries = processed(["2026-01-01 ERROR a", "b", "c", "2026-01-01 INFO d"], parse=parse)
    assert {entry.line: entry.level for entry in entries} == {
        "2026-01-01 ERROR a\nb\nc": "error", "2026-01-01 INFO d": "info"}


def test_secrets(processed):
    wanted = {
        "password=hunter2 max_tokens=7": "password=<redacted:credential> max_tokens=7",
        '{"password":"a","token":"9f86d081884c7d659a2f","level":"error"}':
            '{"password":"<redacted:credential>","token":"<redacted:credential>","level":"error"}',
        "password=null secret=True": "password=null secret=True",
        "redis://:pw@db:1 Basic dXNlcjpwYXNz": "redis://:<redacted:url_password>@db:1 Basic dXNlcjpwYXNz",
        "Authorization: Basic dXNlcjpwYXNz": "Authorization: Basic <redacted:authorization>",
        "secret=/run/secrets/db": "secret=/run/secrets/db",
        "customer 4711": "customer <redacted:customer>",
        "DB_PASS=xyz12345 PWD=/root pass=1": "DB_PASS=<redacted:credential> PWD=/root pass=1",
        '{"password": 12345678}': '{"password": "<redacted:credential>"}',
        r'{"password":"a\"b c","d":1}': '{"password":"<redacted:credential>","d":1}',
        "TTY=pts/0 ; COMMAND=/usr/bin/curl -u admin:hunter2 https://x":
            "TTY=pts/0 ; COMMAND=/usr/bin/curl -u admin:<redacted:credential> https://x",
        "X-Api-Key: abcdefghijkl": "X-Api-Key: <redacted:credential>",
        "https://user:p/ss@db http://host:8080/path@x":
            "https://user:<redacted:url_password>@db http://host:8080/path@x",
        "postgres://app:xxxxx@db/x password=NOT_LOGGING_PARAMETER password=\u2022\u2022\u2022":
            "postgres://app:xxxxx@db/x password=NOT_LOGGING_PARAMETER password=\u2022\u2022\u2022",
    }
    entries = processed(wanted, redact=[{"expression": r"customer (\d+)", "replace": "<redacted:customer>"}])
    assert sorted(entry.line for entry in entries) == sorted(wanted.values())
    assert [entry.level for entry in entries if "level" in entry.line] == ["error"]


def test_lines_that_nobody_wants(processed):
    assert [entry.line for entry in processed(["a", "GET /health 200", "b"], drop=["GET /health"])] == ["a", "b"]


def test_what_is_no_utf8(processed):
    entries = processed(b"good\nbad \xff\xfe \xe4\xc3\xa4\nERROR nul \x00\n")
    assert {entry.line: entry.level for entry in entries} == {
        "good": "unknown", "bad \ufffd \ufffd\u00e4": "unknown", "ERROR nul \x00": "error"}


def test_the_time_of_a_line_in_a_file(processed):
    parse = {"app": {"time": {"expression": r"^(?P<time>\S+ \S+ \S+)", "formats": [
        "2006-01-02 15:04:05.000 MST", "02/Jan/2006 15:04:05 -0700"]}}}
    lines = ["2026-01-02 03:04:05.678 UTC a", "02/Jan/2026 03:04:05 +0100 b", "no time at all"]
    entries = {entry.line: entry.time for entry in processed(lines, "files", {"stream": "file"}, parse=parse)}
    assert entries.pop("no time at all").split("-")[0] > "2025"
    assert entries == {lines[0]: "2026-01-02T03:04:05.678+0000", lines[1]: "2026-01-02T03:04:05+0100"}
