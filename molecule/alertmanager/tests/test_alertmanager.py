# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alertmanager sends every alert to whom it concerns, and the mails look right in a real mail server."""

import html.parser
import json
import re
import time
from pathlib import Path

import pytest
import yaml

MAILS = "http://127.0.0.1:8025/api/v1"
SEVERITIES = {
    "critical": "notifications", "warning": "notifications", "info": "nobody", "none": "nobody",
    "something-new": "notifications",
}
AMTOOL = ("/opt/aistack/alertmanager/current/amtool config routes test "
          "--config.file=/etc/alertmanager/alertmanager.yml")
SUMMARY = "ollama on monitor has not answered for 45s <&>"
RUNBOOK = "https://runbooks.example.org/prometheus.md#servicedown"


class Balance(html.parser.HTMLParser):
    """Whether every element is closed where it must be."""

    VOID = {"meta", "br", "img", "hr", "link"}

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.links, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name == "href"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def send(ask):
    """send("Name", "ollama", "n8n", severity=…): alerts of some services, as Prometheus would post them."""
    def post(name, *services, ended=False, age=125, **labels):
        def stamp(offset):
            return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + offset))
        answer = ask(":9093/api/v2/alerts", login=True, body=[{
            "labels": {"alertname": name, "instance": "monitor", "service": service, "severity": "critical", **labels},
            "annotations": {"summary": SUMMARY, "description": "Nothing answers.", "value": "0 of 3 polls",
                            "runbook_url": RUNBOOK},
            "startsAt": stamp(-age), "endsAt": stamp(-5 if ended else 600),
        } for service in services])
        assert answer.status == 200, answer.text
    return post


@pytest.fixture
def mails(ask):
    """mails("Name"): the mails with the word in their subject, oldest first, each with Text and HTML."""
    def read(word):
        found = ask(f"{MAILS}/messages", limit="200").json["messages"]
        return [ask(f"{MAILS}/message/{one['ID']}").json for one in reversed(found) if word in one["Subject"]]
    return read


def test_it_answers_who_logs_in_and_nobody_else(ask):
    assert ask(":9093/api/v2/status").status == 401
    status = ask(":9093/api/v2/status", login=True).json
    assert status["versionInfo"]["version"] == "0.34.1"
    assert status["cluster"]["status"] == "disabled"


def route(host, *labels):
    return host.check_output(f"{AMTOOL} {' '.join(labels)}")


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_severity_reaches(host, severity):
    assert route(host, "alertname=Any", "instance=monitor", f"severity={severity}") == SEVERITIES[severity]


def test_no_alert_is_lost_and_the_watchdog_goes_outside(host):
    assert route(host, "alertname=Any") == "notifications"
    assert route(host, "alertname=Watchdog", "severity=none") == "watchdog"


def test_every_alert_of_the_mixins_reaches_whom_it_concerns(host, rules):
    alerts = {rule["alert"]: rule["labels"]["severity"] for rule in rules if "alert" in rule}
    assert len(alerts) > 30
    asked = "; ".join(f"echo {name} $({AMTOOL} alertname={name} instance=monitor severity={severity})"
                      for name, severity in alerts.items())
    reached = dict(line.split() for line in host.check_output(asked).splitlines())
    assert reached == {name: "watchdog" if name == "Watchdog" else SEVERITIES[severity]
                       for name, severity in alerts.items()}


def test_the_mail_server_takes_no_mail_without_tls_and_login(host):
    """Or the tests below would say less than they seem to."""
    attempt = ("import smtplib, ssl, sys\n"
               "server = smtplib.SMTP('127.0.0.1', 1025)\n"
               "if sys.argv[1] == 'tls': server.starttls(context=ssl._create_unverified_context())\n"
               "server.sendmail('a@demo.test', ['b@demo.test'], 'x')\n")
    for transport, code in (("plain", "530"), ("tls", "530")):
        done = host.run("python3 -c %s %s", attempt, transport)
        assert done.rc != 0
        assert code in done.stderr, done.stderr


def check_mail(mail, status):
    assert [one["Address"] for one in mail["To"]] == ["you@demo.test"]
    assert mail["From"]["Address"] == "alerts@demo.test"
    assert mail["Subject"] == f"[{status}] SeenByTest ollama on monitor"
    page = Balance(mail["HTML"])
    assert not page.wrong
    assert not page.open
    since = time.strftime("%Y", time.gmtime())
    for text in (mail["Text"], page.text):
        assert SUMMARY in text
        assert "0 of 3 polls" in text
        assert "Since" in text
        assert since in text
        assert "UTC" in text
        assert status in text
        assert "{{" not in text
        assert "<no value>" not in text
    assert RUNBOOK in mail["Text"]
    assert RUNBOOK in page.links
    assert "<&>" not in mail["HTML"]


def test_an_alert_fires_and_is_over_in_two_mails(send, mails, eventually):
    send("SeenByTest", "ollama")
    eventually(lambda: mails("SeenByTest"))
    send("SeenByTest", "ollama", ended=True)
    eventually(lambda: len(mails("SeenByTest")) == 2)
    firing, resolved = mails("SeenByTest")
    check_mail(firing, "FIRING")
    check_mail(resolved, "RESOLVED")
    assert "Lasted" not in firing["Text"]
    assert re.search(r"^Lasted: +2m \d+s", resolved["Text"], re.MULTILINE)
    assert "Was: " + SUMMARY in Balance(resolved["HTML"]).text


def test_one_problem_is_one_mail(send, mails, eventually):
    """Two services that die together share a mail, and the smaller problem does not come along."""
    # An alert that is older than its group waits is told of at once, alone.
    send("SeenTogether", "keycloak", "n8n", age=0, problem="availability")
    send("SeenLess", "keycloak", "n8n", age=0, problem="availability", severity="warning")
    send("SeenNever", "n8n", severity="info")
    (mail,) = eventually(lambda: mails("SeenTogether"))
    assert "keycloak, n8n" in mail["Subject"] or "n8n, keycloak" in mail["Subject"]
    assert mail["Text"].count("FIRING: ") == 2
    time.sleep(5)
    assert not mails("SeenLess")
    assert not mails("SeenNever")


def test_the_watchdog_leaves_the_house_and_disturbs_nobody(ask, send, mails, eventually):
    send("Watchdog", "prometheus", severity="none")
    eventually(lambda: "Watchdog" in ask("http://127.0.0.1:8099/").json["alertnames"])
    assert not mails("Watchdog")


@pytest.mark.parametrize("wrong, why", [
    ({"alertmanager_extra_routes": [{"receiver": "no-such-receiver", "matchers": ["a=b"]}]}, "no-such-receiver"),
    ({"alertmanager_extra_receivers": [{"name": "own", "email_configs": [{"to": "a@b.test", "smarthost": "x"}]}]},
     "x"),
    ({"alertmanager_extra_files": [{"path": "/etc/alertmanager/templates/own.tmpl", "group": "alertmanager",
                                    "mode": "0640", "content": "{% raw %}{{ define \"x\" }}{{ nosuch }}{% endraw %}"}]},
     "nosuch"),
], ids=["receiver", "smarthost", "template"])
def test_what_is_wrong_is_refused_and_nothing_happened(ask, host, main_pid, site, wrong, why):
    def state():
        return main_pid("alertmanager"), host.check_output(
            "cd /etc/alertmanager && find . -type f | sort | xargs sha256sum")
    before = state()
    outcome = site(refused=True, **wrong)
    assert "amtool" in outcome.message
    assert why in outcome.message
    assert state() == before
    assert ask(":9093/api/v2/status", login=True).status == 200


def test_a_mail_server_with_implicit_tls(host, mails, playbook, send, site, eventually):
    shared = Path(__file__).resolve().parents[2] / "shared/group_vars/all.yml"
    variables = yaml.safe_load(shared.read_text(encoding="utf-8"))
    email = variables["observability_notifications"]["email"] | {"tls": "implicit"}
    stack = playbook("tests/servers/stack.yml", "--tags", "mailpit", stack_smtp_tls="implicit")
    assert stack.code == 0, stack.text
    site(observability_notifications={"email": email})
    config = json.loads(host.file("/etc/alertmanager/alertmanager.yml").content_string)
    assert config["global"]["smtp_force_implicit_tls"] is True
    send("SeenByTest", "implicit")
    eventually(lambda: mails("implicit"))
    assert playbook("tests/servers/stack.yml", "--tags", "mailpit").code == 0
    site()
