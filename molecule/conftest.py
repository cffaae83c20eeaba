# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of all scenarios share: the throwaway host, runs of the site, and questions to what runs there.

Molecule calls pytest with its own variables in the environment. The host is reached by testinfra's docker backend.
"""

import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import testinfra
import yaml

ROOT = Path(__file__).resolve().parents[1]
SCENARIO = os.environ.get("MOLECULE_SCENARIO_NAME", "default")
EVERY_COMPONENT = ["node_exporter", "ollama_exporter", "blackbox_exporter", "alertmanager", "prometheus", "loki",
                   "grafana", "alloy"]
COMPONENTS = EVERY_COMPONENT if SCENARIO == "default" else [SCENARIO]


def pytest_configure(config):
    config.addinivalue_line("markers", "last: runs after all others, because it takes away what they ask")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


def pytest_generate_tests(metafunc):
    if "component" in metafunc.fixturenames:
        metafunc.parametrize("component", COMPONENTS)


@pytest.fixture(scope="session")
def host():
    run_id = os.environ.get("AISTACK_RUN") or "molecule"
    return testinfra.get_host(f"docker://aistack-{run_id}-{SCENARIO.replace('_', '-')}")


class Outcome(NamedTuple):
    """What a playbook said: its exit code, its text, and the result of every task."""

    code: int
    text: str
    results: list

    @property
    def plans(self):
        return {plan["component"]: plan for result in self.results
                for plan in [result.get("plan"), *(result.get("plans") or [])] if plan}

    @property
    def changing(self):
        return {name: plan for name, plan in self.plans.items() if plan["action"] != "none"}

    @property
    def message(self):
        return "\n".join(str(result["msg"]) for result in self.results if result.get("failed") and result.get("msg"))


@pytest.fixture(scope="session")
def playbook():
    """playbook("site.yml", "--check", structured=True, **variables): an Outcome; with plain output its text is what a
    user sees."""
    def run(name, *arguments, structured=True, **variables):
        environment = dict(os.environ, ANSIBLE_FORCE_COLOR="0", ANSIBLE_NOCOLOR="1", COLUMNS="160")
        if structured:
            environment["ANSIBLE_STDOUT_CALLBACK"] = "ansible.posix.json"
        done = subprocess.run(
            ["ansible-playbook", "-i", os.environ["MOLECULE_EPHEMERAL_DIRECTORY"] + "/inventory",
             "-e", json.dumps(variables), *arguments, str(ROOT / name)],
            cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
        results = []
        # What the component action says while it works stands before the document, and the site plan after it.
        start = re.search(r"^\{$", done.stdout, re.MULTILINE) if structured else None
        if start:
            document = json.JSONDecoder().raw_decode(done.stdout[start.start():])[0]
            tasks = [task for play in document["plays"] for task in play["tasks"]]
            for result in [result for task in tasks for result in task["hosts"].values()]:
                results += result.get("results") or [result]
        return Outcome(done.returncode, done.stdout + done.stderr, results)
    return run


@pytest.fixture(scope="session")
def site(playbook):
    """site("--check", **variables): runs site.yml as this scenario does, and expects it to succeed or, with
    refused=True, to fail."""
    def run(*arguments, refused=False, **variables):
        tags = [] if SCENARIO == "default" else ["--tags", SCENARIO]
        outcome = playbook("site.yml", *tags, *arguments, **variables)
        assert (outcome.code != 0) == refused, outcome.message or outcome.text[-4000:]
        assert outcome.results or not variables.get("structured", True), "no host took part"
        return outcome
    return run


@pytest.fixture(scope="session")
def web_login():
    secrets = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "secrets.yml")
    return "admin:" + yaml.safe_load(secrets.read_text(encoding="utf-8"))["web_password"]


class Answer(NamedTuple):
    status: int
    text: str

    @property
    def json(self):
        return json.loads(self.text)


@pytest.fixture(scope="session")
def ask(host, web_login):
    """ask(":9090/api/v1/query", login=True, query="up"): a request on the host itself. With `body`, JSON is posted."""
    def question(address, login=False, body=None, **parameters):
        argv = ["curl", "-sS", "-g", "--max-time", "10", "-w", r"\n%{http_code}"]
        argv += ["-u", web_login] if login else []
        if body is not None:
            argv += ["-H", "Content-Type: application/json", "--data-raw", json.dumps(body)]
        for name, value in parameters.items():
            argv += ["-G", "--data-urlencode", f"{name}={value}"]
        url = address if "://" in address else f"http://127.0.0.1{address}"
        done = host.run(" ".join(shlex.quote(word) for word in [*argv, url]))
        text, _newline, status = done.stdout.rpartition("\n")
        return Answer(int(status or 0), text)
    return question


class Metrics:
    """The text that an exporter serves."""

    SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", re.MULTILINE)
    LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        self.samples = [(name, dict(self.LABEL.findall(labels)), float(value))
                        for name, labels, value in self.SAMPLE.findall(text)]

    def series(self, wanted, **labels):
        """[(labels, value)] of a metric, only those with these labels."""
        return [(own, value) for name, own, value in self.samples
                if name == wanted and labels.items() <= own.items()]

    def value(self, wanted, **labels):
        found = self.series(wanted, **labels)
        assert len(found) == 1, f"{wanted} {labels}: {found}"
        return found[0][1]


@pytest.fixture(scope="session")
def metrics(ask):
    """metrics(":9100"): what is served there now."""
    def read(address, **options):
        answer = ask(f"{address}/metrics", **options)
        assert answer.status == 200, answer.text[:400]
        return Metrics(answer.text)
    return read


@pytest.fixture(scope="session")
def eventually():
    """eventually(question, within=30): the first true answer; the last one when the time is over."""
    def wait(question, within=30):
        deadline = time.monotonic() + within
        while True:
            answer = question()
            if answer or time.monotonic() > deadline:
                assert answer, f"{answer!r} after {within} s"
                return answer
            time.sleep(0.5)
    return wait


@pytest.fixture(scope="session")
def rules():
    """Every rule of the mixins that the host's services use, as it is written there."""
    def used(folder):
        placement = yaml.safe_load((folder / "scrape.yml").read_text(encoding="utf-8"))["placement"]
        return placement != "monitored_services" and folder.name != "promtail" or folder.name == "ollama"
    return [rule for path in sorted(ROOT.glob("mixins/*/rules.yml")) if used(path.parent)
            for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


@pytest.fixture
def main_pid(host):
    return lambda component: int(host.check_output("systemctl show -P MainPID %s", component))
