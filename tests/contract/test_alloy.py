# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Alloy and Promtail are given for every option, compared with files of tests/golden/logs, and judged by the
programs themselves: Alloy's `fmt` and `validate`, Promtail's `-check-syntax`.

    GOLDEN=write .venv/bin/pytest tests/contract/test_alloy.py      # writes them anew; then read the diff
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.aistack.observability.plugins.plugin_utils import log_pipeline
from ansible_collections.aistack.observability.plugins.plugin_utils.mixins import Mixins

GOLDEN = Path(__file__).parents[1] / "golden/logs"
PUSH = {"url": "http://127.0.0.1:3100/loki/api/v1/push"}
LEAST = {"host": "gpu1", "push": [PUSH]}
PARSE = {
    "app": {
        "first_line": r"^\d{4}-", "level": [r"^\S+ (?P<level>\w+) \"", r"<(?P<level>\w+)>"],
        "levels": {"SUCCESS": "info"}, "metadata": [r"id (?P<request_id>\w+)"],
        "drop": [{"line": "^\\s*noise\t", "why": 'says "nothing"'}],
        "time": {"expression": r"^(?P<time>\S+)", "formats": ["2006-01-02", "02 Jan 2006"]}},
    "other": {"time": {"expression": r"^(?P<time>\S+)", "formats": ["RFC3339"]}},
}
# By the name of the file: a host's logs, and what else its shippers are told.
CASES = {
    "journal": (LEAST | {"journal": True, "max_age": "30m"}, {}, {}),
    "units": (LEAST | {"journal": True, "units": [{"unit": "ollama.service", "service": "ollama"},
                                                  {"unit": "postgresql@*.service", "service": "db$1"}]}, {}, {}),
    "containers": (LEAST | {"docker": True, "containers": [{"name": "ai.n8n-1", "service": "n8n"}]}, {}, {}),
    "containers_in_the_journal": (LEAST | {"journal": True, "docker": False,
                                           "containers": [{"name": "n8n", "service": "n8n"}]}, {}, {}),
    "containers_beside_the_journal": (LEAST | {"journal": True, "docker": True}, {}, {}),
    "files": (LEAST | {"files": [{"paths": ["/var/log/app/*.log", "/srv/a.log"], "service": "app"}]},
              {"handed_over": "/var/lib/alloy/promtail.yaml"}, {}),
    "parse": (LEAST | {"docker": True, "files": [{"paths": ["/a.log"], "service": "app"}], "parse": PARSE}, {}, {}),
    "redact_and_drop": (LEAST | {"docker": True, "drop": ["^never \"this\"", "GET /health"], "redact": [
        {"expression": r"customer (\d+)", "replace": "<redacted:customer>"}]}, {}, {}),
    "two_lokis_with_tls": (LEAST | {"journal": True, "push": [
        {"url": "https://192.0.2.1:3100/loki/api/v1/push", "tls": {"authority": "/etc/ca.pem", "server_name": "mon"}},
        {"url": "https://192.0.2.2:3100/loki/api/v1/push", "tls": {"authority": "/etc/ca.pem"}}]}, {}, {}),
    "served": (LEAST | {"journal": True},
               {"log_level": "warn", "web_tls": {"certificate": "/etc/a.crt", "key": "/etc/a.key"}},
               {"listen_address": "0.0.0.0:9081", "positions": "/srv/positions.yaml", "server": {
                   "http_tls_config": {"cert_file": "/etc/a.crt", "key_file": "/etc/a.key"}}}),
}
NAMES = pytest.mark.parametrize("name", CASES)


def made(name):
    """{file name: content}"""
    logs, alloy, promtail = CASES[name]
    described = log_pipeline.pipeline(logs)
    document = log_pipeline.promtail(
        described, {"listen_address": "127.0.0.1:9080", "positions": "/var/lib/promtail/positions.yaml"} | promtail)
    return {f"{name}.alloy": log_pipeline.alloy(described, alloy),
            f"{name}.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n"}


def run(*argv, code=0):
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@NAMES
def test_the_files_are_those_of_the_golden_folder(name):
    for file, content in made(name).items():
        if os.environ.get("GOLDEN") == "write":
            GOLDEN.mkdir(parents=True, exist_ok=True)
            (GOLDEN / file).write_text(content, encoding="utf-8")
        assert content == (GOLDEN / file).read_text(encoding="utf-8"), file


def test_the_golden_folder_has_no_other_files():
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(file for name in CASES for file in made(name))


@NAMES
def test_alloy_accepts_it_as_it_is_formatted(alloy, name):
    run(alloy, "fmt", "--test", GOLDEN / f"{name}.alloy")
    run(alloy, "validate", GOLDEN / f"{name}.alloy")


@NAMES
def test_promtail_accepts_it(promtail, name):
    run(promtail, "-check-syntax", f"-config.file={GOLDEN / name}.json")


def test_what_the_mixins_say_is_accepted(alloy, promtail, tmp_path):
    """All of them at once, in every source."""
    mixins = Mixins()
    parse = {name: mixins.logs(name)["parse"] for name in mixins.names() if mixins.logs(name).get("parse")}
    described = log_pipeline.pipeline(LEAST | {
        "journal": True, "docker": True, "parse": parse,
        "files": [{"paths": [f"/var/log/{name}.log"], "service": name} for name in parse]})
    (tmp_path / "all.alloy").write_text(log_pipeline.alloy(described), encoding="utf-8")
    run(alloy, "fmt", "--test", tmp_path / "all.alloy")
    run(alloy, "validate", tmp_path / "all.alloy")
    (tmp_path / "all.yml").write_text(json.dumps(log_pipeline.promtail(
        described, {"listen_address": "127.0.0.1:9080", "positions": "/p.yaml"})), encoding="utf-8")
    run(promtail, "-check-syntax", f"-config.file={tmp_path}/all.yml")


@pytest.mark.parametrize(("was", "becomes", "words"), [
    ("max_backoff_retries", "max_retries", "unrecognized attribute name"),
    ("stage.labels", "stage.label", "unrecognized block name"),
    ("loki.process.journal.receiver", "loki.process.nobody.receiver", 'component "loki.process.nobody'),
    ("}\n\nloki.write", "\n\nloki.write", "expected"),
])
def test_alloy_refuses_what_is_wrong(alloy, tmp_path, was, becomes, words):
    """The checks above would have found it."""
    text = made("journal")["journal.alloy"]
    assert was in text
    (tmp_path / "bad.alloy").write_text(text.replace(was, becomes), encoding="utf-8")
    assert words in run(alloy, "validate", tmp_path / "bad.alloy", code=1)
