# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the finished site do what it is for? Real programs, real faults, real mails.

The tests build on one another, in the order in which they stand here: faults are begun together, and while one waits
for its mail the next is looked at.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from demo import MAIN, TOP
from running_site import CRASHES, HANGS, QUIET, wait_for

# What the design promises from a service's death to the mail.
PROMISE = 120
# The alert holds on for two minutes, and then comes the group's next turn.
RESOLVED = 240
COMPONENTS = ["alertmanager", "alloy", "blackbox_exporter", "grafana", "loki", "node_exporter", "ollama_exporter",
              "prometheus"]
# What is watched on the main host alone.
SERVICES = ["alertmanager", "blackbox", "grafana", "keycloak", "loki", "postgresql", "prometheus"]
# What is watched on every one of the three.
EVERYWHERE = ["alloy", "host", "ollama"]


def test_every_target_is_up(site):
    def down():
        targets = site.ask("prometheus", "/api/v1/targets?state=active")["data"]["activeTargets"]
        found = {(one["labels"]["service"], one["labels"]["instance"]): one["health"] for one in targets}
        return found if set(found.values()) == {"up"} else None

    targets = wait_for("every target up", down, 60)
    assert set(targets) == {(service, MAIN) for service in SERVICES} | {
        (service, host) for service in EVERYWHERE for host in (MAIN, HANGS, CRASHES)}


def test_doctor_finds_nothing(site):
    verdicts, last = site.doctor("-e", "observability_doctor_wait=60")
    assert {verdict for verdict, _detail, _fix in verdicts.values()} == {"ok"}, verdicts
    assert {f"component {name}" for name in COMPONENTS} < set(verdicts)
    assert last == f"Everything works: {len(verdicts)} checks."


def test_models_are_counted(site):
    """The number that Prometheus has is the number that Ollama itself tells, and it follows."""
    def follows(change):
        site.on(MAIN, f"python3 /opt/stack/model.py {change}")
        real = len(site.ask("ollama", "/api/tags", login=False)["models"])
        began = time.monotonic()
        wait_for(f"ollama_models_total {real} after {change}", lambda: site.value(
            f'ollama_models_total{{instance="{MAIN}"}}') == real, 40)
        print(f"ollama_models_total followed `{change}` after {time.monotonic() - began:.0f} s")
        return real

    before = len(site.ask("ollama", "/api/tags", login=False)["models"])
    assert before == 1
    assert follows("add second /opt/stack/tiny-llama.gguf") == 2
    assert follows("remove second") == 1


def test_doctor_names_every_fault_and_a_run_mends_them(site):
    site.on(MAIN, "systemctl stop node_exporter alertmanager; echo >> /etc/prometheus/rules/host.yml; "
                  "printf x >> /opt/aistack/alertmanager/current/amtool")
    unwatched = {"observability_notifications": {"webhooks": [{"name": "x", "url": "http://127.0.0.1:1"}]}}
    verdicts, last = site.doctor("-e", json.dumps(unwatched), healthy=False)
    for check, detail, fix in (
        ("component node_exporter", "node_exporter.service is inactive", "--tags node_exporter"),
        ("component alertmanager", "amtool is not as it was placed", "--tags alertmanager"),
        ("component prometheus", "/etc/prometheus/rules/host.yml is not as it was placed", "--tags prometheus"),
        ("Alertmanager", "does not answer", "journalctl -u alertmanager"),
        ("Outside watchdog", "nobody notices", "observability_notifications.watchdog.url"),
    ):
        assert verdicts[check][0] == "failed" and detail in verdicts[check][1] and fix in verdicts[check][2], verdicts
    assert verdicts["component ollama_exporter"][0] == "ok"
    assert re.fullmatch(r"\d+ of \d+ checks failed\.", last)

    mended = site.play("site.yml")
    assert mended.changed == {MAIN: 3, HANGS: 0, CRASHES: 0}, mended.text[-3000:]
    # Not all of it: until Prometheus sends the watchdog again, a restarted Alertmanager knows of no alert.
    verdicts, _last = site.doctor(healthy=None)
    assert {verdicts[f"component {name}"][0] for name in COMPONENTS} == {"ok"}


def test_the_play_silences_what_it_restarts(site):
    """Nobody is told of these restarts; that no mail came is looked at in the end."""
    restarted = [name for name in COMPONENTS if name != "blackbox_exporter"]  # which has no setting for it

    def starts():
        text = site.on(MAIN, "systemctl show --property=InvocationID --value " + " ".join(restarted))
        return dict(zip(restarted, text.split()))

    def silences():
        return {one["id"]: one for one in site.ask("alertmanager", "/api/v2/silences")}

    started, known = starts(), silences()
    site.demo.set(observability_thresholds=QUIET, prometheus_memory_max="3G", alertmanager_memory_max="700M",
                  grafana_memory_max="900M", loki_memory_max="2G", alloy_memory_max="600M",
                  node_exporter_collectors_disabled=["zfs"], ollama_exporter_timeout="4s")
    run = site.play("site.yml")
    assert run.changed == {MAIN: 7, HANGS: 3, CRASHES: 3}
    assert all(before != after for before, after in zip(started.values(), starts().values()))
    new = [one for identity, one in silences().items() if identity not in known]
    assert {one["status"]["state"] for one in new} == {"expired"}
    silenced = {tuple(sorted((matcher["name"], matcher["value"]) for matcher in one["matchers"])) for one in new}
    assert silenced == {(("instance", MAIN), ("service", service))
                        for service in ("host", "ollama", "alertmanager", "prometheus", "loki", "grafana", "alloy")}


@pytest.fixture(scope="module")
def faults(site):
    """Three faults at once: a stopped Ollama, one that hangs, and one that dies every few seconds for three minutes."""
    services = len(SERVICES) + 3 * len(EVERYWHERE)
    wait_for("every service up", lambda: site.value("count(service:up == 1)") == services, 60)
    crashes = subprocess.Popen(
        ["docker", "exec", site.demo.state["containers"][CRASHES], "sh", "-c",
         "end=$(($(date +%s) + 180)); while [ $(date +%s) -lt $end ]; do "
         "systemctl kill --signal=KILL ollama.service; sleep 7; done"])
    site.on(HANGS, "systemctl kill --signal=STOP ollama.service")
    hung = time.time()
    site.on(MAIN, "systemctl stop ollama.service")
    yield SimpleNamespace(stopped=time.time(), hung=hung, crashes=crashes)
    crashes.terminate()


def test_second_run_changes_nothing(site, faults):
    run = site.play("site.yml")
    assert run.changed == {MAIN: 0, HANGS: 0, CRASHES: 0}, run.text[-3000:]


def test_check_mode_shows_the_plan_on_one_screen(site, faults):
    run = site.play("site.yml", "--check")
    assert run.changed == {MAIN: 0, HANGS: 0, CRASHES: 0}
    plan = run.section("SITE PLAN: what would change").splitlines()
    assert len(plan) <= 24
    assert plan[-1].startswith("0 of 14 components would change, all are as declared.")


def test_a_dead_ollama_makes_one_mail_in_time(site, faults):
    mail, seconds = site.wait_for_mail("FIRING", "ServiceDown", MAIN, since=faults.stopped, within=PROMISE)
    print(f"Ollama stopped: the mail came after {seconds:.0f} s")
    assert seconds <= PROMISE
    assert mail.subject == f"[FIRING] ServiceDown ollama on {MAIN}"
    for part in (f"ollama on {MAIN} is down", "severity=critical", f"instance={MAIN}"):
        assert part in mail.text
    since = datetime.strptime(re.search(r"Since: +(.*) UTC", mail.text)[1], "%a %d %b %Y, %H:%M:%S")
    late = since.replace(tzinfo=timezone.utc).timestamp() - faults.stopped
    assert 0 <= late <= PROMISE - 30
    runbook = re.search(r"Runbook: +(\S+)", mail.text)[1]
    path, _mark, anchor = runbook.partition("#")
    with open(os.path.join(TOP, path[path.index("mixins/"):]), encoding="utf-8") as handle:
        assert anchor in re.findall(r"(?m)^## (\S+)$", handle.read().lower())
    assert runbook in mail.html and f"ollama on {MAIN} is down" in mail.html


def test_a_hanging_ollama_makes_the_same_mail(site, faults):
    mail, seconds = site.wait_for_mail("FIRING", "ServiceDown", HANGS, since=faults.hung, within=PROMISE)
    print(f"Ollama hangs: the mail came after {seconds:.0f} s")
    assert mail.subject == f"[FIRING] ServiceDown ollama on {HANGS}"


@pytest.fixture(scope="module")
def mended(site, faults):
    site.on(MAIN, "systemctl start ollama.service")
    site.on(HANGS, "systemctl kill --signal=CONT ollama.service")
    return time.time()


def test_test_alert_fires_and_is_over(site, mended):
    site.play("site.yml", "--tags", "test_alert", "-e", "observability_test_alert=true")
    sent = time.time()
    mail, seconds = site.wait_for_mail("FIRING", "TestAlert", MAIN, since=sent, within=30)
    print(f"The test alert arrived after {seconds:.0f} s")
    assert "This is a test" in mail.text
    _mail, seconds = site.wait_for_mail("RESOLVED", "TestAlert", MAIN, since=sent, within=150)
    print(f"It was over after {seconds:.0f} s")


def test_watchdog_leaves_the_house(site):
    """Prometheus has to renew it: if it doesn't, Alertmanager holds it for over, and the calls stop."""
    seen = wait_for("a call of the watchdog", lambda: (seen := site.watchdog())["calls"] and seen, 30)
    assert seen["alertnames"] == ["Watchdog"]
    (alert,) = site.ask("alertmanager", "/api/v2/alerts?filter=alertname%3D%22Watchdog%22")
    ends = datetime.fromisoformat(alert["endsAt"].replace("Z", "+00:00")).timestamp()
    assert 0 < ends - time.time() <= 300


@pytest.mark.parametrize("host", [MAIN, HANGS])
def test_its_end_makes_a_mail_as_well(site, mended, host):
    mail, seconds = site.wait_for_mail("RESOLVED", "ServiceDown", host, since=mended, within=RESOLVED)
    print(f"Ollama works again on {host}: the mail came after {seconds:.0f} s")
    assert "Lasted:" in mail.text


def test_nothing_else_was_mailed(site, faults, mended):
    """One problem, one notification; nothing for what the play restarted, and nothing else in all this time."""
    assert faults.crashes.wait(timeout=200) == 0
    time.sleep(45)  # a warning's group waits for half a minute
    mails = Counter(mail.about for mail in site.mails)
    crash = [about for about in mails.elements() if about[2] == CRASHES]
    print(f"The crash loop made {crash}")
    assert len([about for about in crash if about[0] == "FIRING"]) <= 1
    assert {about: count for about, count in mails.items() if about[2] != CRASHES} == {
        (status, alert, host): 1 for status in ("FIRING", "RESOLVED")
        for alert, host in (("ServiceDown", MAIN), ("ServiceDown", HANGS), ("TestAlert", MAIN))}
