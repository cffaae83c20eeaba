# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does every line arrive, once, where it is looked for? A real Loki, Alloy on the main host, Promtail on the other.

The tests build on one another, in the order in which they stand here. With AISTACK_LONG=1, Loki is away for two minutes
instead of half of one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import host as hosts
import pytest
from demo import MAIN
from keycloak_login import Person
from running_site import WATCHED, wait_for

SHIPPERS = {MAIN: "alloy", WATCHED: "promtail"}
LABELS = {"host", "service", "container", "level", "stream", "service_name"}
LEVELS = {"critical", "error", "warning", "info", "debug", "unknown"}
# What the issue promises from a line to its place in Loki.
FOUND = 10
OUTAGE = 120 if os.environ.get("AISTACK_LONG") else 35
BATCH = 72 * 1024  # by which log_positions.py goes back, at most
RATE, LINE = 500, 90  # lines a second, and the bytes of one
# In every line that is looked for, so that a second look at the same site finds its own.
MARK = secrets.token_hex(3)

# 500 lines a second, to the journal and to a file; the number of the last one stands in /run/numbers.
WRITER = r"""
import os, sys, time
os.makedirs("/var/log/numbers", exist_ok=True)
began, number = time.monotonic(), 0
with open("/var/log/numbers/numbers.log", "a") as file:
    while not os.path.exists("/run/numbers.stop"):
        while number < (time.monotonic() - began) * 500:
            number += 1
            line = "number %07d of many, which are all counted in the end%s\n" % (number, "." * 70)
            sys.stdout.write(line)
            file.write(line)
        sys.stdout.flush()
        file.flush()
        with open("/run/numbers.new", "w") as state:
            state.write(str(number))
        os.replace("/run/numbers.new", "/run/numbers")
        time.sleep(0.02)
"""


class Logs:
    """Loki, as people ask it."""

    def __init__(self, site):
        self.site = site

    def ask(self, path, **parameters):
        return self.site.ask("loki", f"/loki/api/v1/{path}?{urlencode(parameters)}", login=False)["data"]

    def entries(self, query, since="1h", **more):
        """[(time in ns, line, labels and structured metadata)], the oldest first."""
        more = {"limit": 5000, "direction": "forward", **({} if "start" in more else {"since": since}), **more}
        found = self.ask("query_range", query=query, **more)["result"]
        return sorted(((int(value[0]), value[1], one["stream"]) for one in found for value in one["values"]),
                      key=lambda entry: entry[0])

    def all(self, query, start, end):
        """All of them, however many: in halves until none is cut off."""
        found = self.entries(query, start=start, end=end)
        if len(found) < 5000:
            return found
        middle = (start + end) // 2
        return self.all(query, start, middle) + self.all(query, middle, end)

    def wait_for(self, query, within=FOUND, count=1, **more):
        """The entries once there are that many, and how long that took; Loki may be about to start."""
        began = time.monotonic()

        def look():
            with contextlib.suppress(OSError, http.client.HTTPException):
                found = self.entries(query, **more)
                return found if len(found) >= count else None

        found = wait_for(query, look, within, every=0.25)
        return found, time.monotonic() - began


@pytest.fixture(scope="module")
def logs(logs_site):
    return Logs(logs_site)


def metric(site, name, reason, host=MAIN, address="127.0.0.1:3100"):
    """What Loki or a shipper says of itself, summed up. Prometheus has it later."""
    text = site.on(host, f"curl -sf http://{address}/metrics")
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines()
               if re.match(rf"{name}[ {{]", line) and f'reason="{reason}"' in line)


def write(site, name, text, path="/var/log/app/app.log"):
    """Appends to a log file, in one piece."""
    subprocess.run(["docker", "exec", "-i", site.demo.state["containers"][name], "sh", "-c",
                    f"mkdir -p {os.path.dirname(path)}; cat >> {path}"], check=True,
                   input=text if isinstance(text, bytes) else text.encode())


def speak(site, name, unit, text):
    """Lines of a unit, by way of the journal."""
    write(site, name, text, f"/tmp/{unit}.txt")
    site.on(name, f"systemd-run --quiet --wait --unit={unit} cat /tmp/{unit}.txt; rm /tmp/{unit}.txt")


# --- every source ----------------------------------------------------------------------------------------------------


def test_every_source_is_found_by_label_and_by_text(logs_site, logs):
    def seen(name, label, text, within=FOUND):
        query = f'{{host="{name}",{label}}}'
        _found, seconds = logs.wait_for(f"{query} |= `{text}`", within)
        assert logs.entries(query)
        return f"{name}: {label} after {seconds:.1f} s"

    def look(name):
        told = []
        speak(logs_site, name, "spoken", f"a unit of {name} speaks {MARK}\n")
        told.append(seen(name, 'service="spoken",stream="journal"', f"a unit of {name} speaks {MARK}"))
        write(logs_site, name, f"a file of {name} grows {MARK}\n")
        told.append(seen(name, 'service="app",stream="file"', f"a file of {name} grows {MARK}"))
        logs_site.on(name, "tar -C /usr -c bin/busybox | docker import - said")
        logs_site.on(name, "docker rm -f talker; docker run -d --name talker said busybox sh -c "
                           f"'echo a new container speaks {MARK}; sleep 3000'")
        mine = 'container="talker",service="talker",stream="{}"'
        # The shipper asks Docker every few seconds which containers there are.
        told.append(seen(name, mine.format("stdout"), f"a new container speaks {MARK}", 20))
        for stream, number in (("stdout", 1), ("stderr", 2)):
            text = f"a container of {name} speaks to its {stream} {MARK}"
            logs_site.on(name, f"docker exec talker busybox sh -c 'echo {text} > /proc/1/fd/{number}'")
            told.append(seen(name, mine.format(stream), text))
        return told

    with ThreadPoolExecutor() as pool:
        print("\n".join(sum(pool.map(look, SHIPPERS), [])))


def test_there_are_no_other_labels(logs_site, logs):
    found = logs.ask("series", **{"match[]": '{host=~".+"}', "since": "1h"})
    assert {name for labels in found for name in labels} <= LABELS
    assert {labels["host"] for labels in found} == set(SHIPPERS)
    assert {labels["level"] for labels in found} <= LEVELS
    assert {labels["stream"] for labels in found} <= {"journal", "file", "stdout", "stderr"}
    assert all(labels.get("service") for labels in found)
    services = {labels["service"] for labels in found if labels["host"] == MAIN}
    assert {"alloy", "prometheus", "grafana", "keycloak", "ollama"} <= services  # Loki has nothing to say yet


TRACEBACK = """ERROR asking failed
Traceback (most recent call last):
  File "/srv/{where}.py", line 7, in <module>
    answer = ask(question)
             ^^^^^^^^^^^^^
  File "/srv/{where}.py", line 3, in ask
    raise TimeoutError("no answer in {where} {mark}")
TimeoutError: no answer in {where} {mark}
"""


@pytest.mark.parametrize("name", SHIPPERS)
def test_a_traceback_is_one_entry(logs_site, logs, name):
    said = "INFO before it\n" + TRACEBACK + "INFO after it\n"
    write(logs_site, name, said.format(where="file", mark=MARK))
    speak(logs_site, name, "raises", said.format(where="journal", mark=MARK))
    for where, service in (("file", "app"), ("journal", "raises")):
        (entry,), seconds = logs.wait_for(f'{{host="{name}",service="{service}"}} |= `no answer in {where} {MARK}`')
        assert entry[1].strip() == TRACEBACK.format(where=where, mark=MARK).strip()
        assert entry[2]["level"] == "error"
        for text in ("before it", "after it"):
            logs.wait_for(f'{{host="{name}",service="{service}",level="info"}} |= `{text}`')
        print(f"{name}: a traceback of a {where} is one entry after {seconds:.1f} s")


@pytest.mark.parametrize("name", SHIPPERS)
def test_hard_lines_stop_nothing(logs_site, logs, name):
    # Promtail cuts by itself, and says so itself.
    counter = ("loki_mutated_samples_total", "line_too_long") if name == MAIN else (
        "promtail_mutated_entries_total", "line_too_long", WATCHED, "127.0.0.1:9080")
    cut = metric(logs_site, *counter)
    write(logs_site, name, f"{MARK} a long one {'x' * 2**20}\n".encode() + b"\xff\xfe \xc3( "
          + f"is not UTF-8 {MARK}\n{MARK} an ordinary line\n".encode())
    mine = f'{{host="{name}",service="app"}} |= `{MARK}`'
    logs.wait_for(f"{mine} |= `an ordinary line`")
    (long,), _seconds = logs.wait_for(f"{mine} |= `a long one`")
    assert 100_000 < len(long[1]) < 2**20
    (strange,), _seconds = logs.wait_for(f"{mine} |= `is not UTF-8`")
    assert strange[1].startswith("\ufffd")
    assert metric(logs_site, *counter) > cut
    print(f"{name}: 1 MiB became {len(long[1])} characters; {strange[1]!r}")


def test_lines_of_last_week_are_counted(logs_site, logs):
    """PostgreSQL's lines carry their time in files."""
    path = "/var/log/postgresql/postgresql-15-main.log"
    counter = "loki_discarded_samples_total", "greater_than_max_sample_age"
    old = metric(logs_site, *counter)
    stamps = [time.strftime("%Y-%m-%d %H:%M:%S.000 UTC", time.gmtime(time.time() - age)) for age in (9 * 86400, 0)]
    write(logs_site, MAIN, f"{stamps[0]} [7] LOG:  nine days old\n{stamps[1]} [7] LOG:  of this moment {MARK}\n", path)
    logs.wait_for(f'{{host="{MAIN}",service="postgresql"}} |= `of this moment {MARK}`')
    assert metric(logs_site, *counter) > old
    assert not logs.entries('{service="postgresql"} |= `nine days old`')


SECRETS = {
    "password=Tr0ub4dor&3-{name}": "Tr0ub4dor",
    "Authorization: Bearer abcdef0123456789abcdef0123456789{name}": "abcdef0123456789abcdef",
    "connect to postgresql://app:sw0rdf1sh-{name}@db:5432/app": "sw0rdf1sh",
    '{{"msg": "up", "api_key": "k3y-of-{name}-0123456789"}}': "k3y-of-",
    "token ghp_0123456789abcdefghijABCDEFGHIJ012345 of {name}": "ghp_0123456789abcdefghij",
}


@pytest.mark.parametrize("name", SHIPPERS)
def test_secrets_stay_on_the_host(logs_site, logs, name):
    said = "".join(line.format(name=name) + f" planted {MARK}\n" for line in SECRETS)
    write(logs_site, name, said)
    speak(logs_site, name, "leaks", said)
    for query in (f'{{host="{name}",service="app"}}', f'{{host="{name}",service="leaks"}}'):
        found, _seconds = logs.wait_for(f"{query} |= `planted {MARK}`", count=len(SECRETS))
        assert all("<redacted" in line for _time, line, _labels in found), found
    for secret in SECRETS.values():
        assert not logs.entries(f'{{host="{name}"}} |= `{secret}`')


# --- what is made of lines -------------------------------------------------------------------------------------------


def test_accesses_of_ollama_become_series(logs_site, logs):
    """Without a proxy in the way; what the exporter asks every few seconds is not among them, nor stored at all."""
    for _time in range(3):
        logs_site.on(MAIN, "curl -sf http://127.0.0.1:11434/api/show -d '{\"model\": \"tiny\"}' -o /dev/null; "
                           "curl -s http://127.0.0.1:11434/api/show -d '{\"model\": \"missing\"}' -o /dev/null")
    logs.wait_for(f'{{host="{MAIN}",service="ollama"}} |= `/api/show`', count=6)
    began = time.monotonic()

    def recorded():
        found = logs_site.ask("prometheus", "/api/v1/query?" + urlencode(
            {"query": '{__name__=~"ollama_access:.+",route="/api/show"}'}))["data"]["result"]
        return {one["metric"].get("status", "") for one in found} >= {"200", "404"} and found

    series = wait_for("the recorded series", recorded, 150)
    print(f"recorded after {time.monotonic() - began:.0f} s: {sorted({one['metric']['__name__'] for one in series})}")
    assert {(one["metric"]["instance"], one["metric"]["service"]) for one in series} == {(MAIN, "ollama")}
    assert {one["metric"].get("method", "POST") for one in series} == {"POST"}
    assert not logs.entries(f'{{host="{MAIN}",service="ollama"}} |~ `GET +"/api/(version|ps|tags)"`')


# --- alerts ----------------------------------------------------------------------------------------------------------

ATTEMPTS = 30


def alert(site, name, instance):
    found = [one for one in site.ask("alertmanager", "/api/v2/alerts") if one["labels"]["alertname"] == name
             and one["labels"].get("instance") == instance]
    return found[0] if len(found) == 1 else None


@pytest.fixture(scope="module")
def attacks(logs_site):
    """Thirty wrong passwords at Keycloak; and as many at the other host's sshd, which is silenced."""
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    silence = logs_site.ask("alertmanager", "/api/v2/silences", body={
        "matchers": [{"name": "instance", "value": WATCHED, "isRegex": False, "isEqual": True}],
        "startsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "endsAt": ends, "createdBy": "test",
        "comment": "maintenance"})["silenceID"]
    # What OpenSSH writes, without one; until the stop file is there.
    logs_site.on(WATCHED, "systemd-run --quiet --unit=guesses sh -c 'while sleep 2; do for port in 1 2 3 4; do "
                          "logger -t sshd -p auth.info \"Failed password for invalid user admin from 192.0.2.7 port "
                          "4711$port ssh2\"; done; done'")
    began = time.time()
    person = Person(logs_site.demo.address("grafana"))
    page = person.open(person.begin())
    for number in range(ATTEMPTS):
        page = person.submit(page, ("ada", "edith", "victor")[number % 3], f"wrong-{number}")
        assert page.form.message, page.text[:1000]
    yield began, silence
    logs_site.on(WATCHED, "systemctl stop guesses", check=False)


def test_thirty_wrong_passwords_make_one_mail(logs_site, logs, attacks):
    began, _silence = attacks
    logs.wait_for(f'{{host="{MAIN}",service="keycloak"}} |= `LOGIN_ERROR`', count=ATTEMPTS)
    mail, seconds = logs_site.wait_for_mail("FIRING", "AuthenticationFailures", MAIN, since=began, within=240)
    print(f"thirty wrong passwords: the mail came after {seconds:.0f} s: {mail.subject}")
    found = alert(logs_site, "AuthenticationFailures", MAIN)
    assert found["labels"]["service"] == "keycloak"
    assert found["annotations"]["runbook_url"]


def test_a_silenced_host_is_silent_in_its_logs_too(logs_site, attacks):
    def suppressed():
        found = alert(logs_site, "AuthenticationFailures", WATCHED)
        return found if found and found["status"]["state"] == "suppressed" else None

    found = wait_for("the alert of the silenced host", suppressed, 180)
    assert found["labels"]["service"] == "sshd"
    assert attacks[1] in found["status"]["silencedBy"]


def test_so_is_a_host_that_is_down(logs_site, attacks):
    """Its lines of the last minutes still count while nothing of it answers."""
    container = logs_site.demo.state["containers"][WATCHED]
    hosts.run("docker", "pause", container)
    try:
        wait_for("the host down", lambda: alert(logs_site, "HostDown", WATCHED), 180)
        found = wait_for("the alert of the host that is down", lambda: alert(
            logs_site, "AuthenticationFailures", WATCHED), 5)
        assert found["status"]["inhibitedBy"]
    finally:
        hosts.run("docker", "unpause", container)
    logs_site.on(WATCHED, "systemctl stop guesses")
    wait_for("the host up", lambda: logs_site.value(f'host:up{{instance="{WATCHED}"}}') == 1, 90)


# --- no line lost, none double ---------------------------------------------------------------------------------------


class Numbers:
    """Numbered lines on both hosts, and the number at which each phase began."""

    def __init__(self, site, logs):
        self.site, self.logs = site, logs
        self.phases: list[tuple[str, dict[str, int]]] = []
        self.start = time.time_ns()

    def begin(self):
        for name in SHIPPERS:
            write(self.site, name, WRITER, "/opt/numbers.py")
            self.site.on(name, "systemctl stop numbers 2>/dev/null; rm -f /run/numbers*; "
                               "systemd-run --quiet --unit=numbers python3 /opt/numbers.py")
        wait_for("the writers", lambda: all(self.now().values()), 10)

    def now(self):
        return {name: int(self.site.on(name, "cat /run/numbers 2>/dev/null || echo 0")) for name in SHIPPERS}

    def phase(self, name):
        self.phases.append((name, self.now()))

    def arrived(self, numbers, within):
        """Both sources of both hosts have brought that number."""
        for name, number in numbers.items():
            for stream in ("journal", "file"):
                self.logs.wait_for(f'{{host="{name}",service="numbers",stream="{stream}"}} |= `number {number:07d} `',
                                   within, start=self.start)

    def end(self):
        for name in SHIPPERS:
            self.site.on(name, "touch /run/numbers.stop; while systemctl is-active --quiet numbers; do sleep 0.1; done")
        self.last = self.now()

    def counted(self):
        """{(phase, host, stream): (missing, double)}"""
        result = {}
        end = time.time_ns()
        for name in SHIPPERS:
            for stream in ("journal", "file"):
                # A chunk on its way to the disk may be looked for in the wrong place: what is missing is asked again.
                for pause in (0, 15, 15):
                    time.sleep(pause)
                    found = self.logs.all(f'{{host="{name}",service="numbers",stream="{stream}"}}', self.start, end)
                    seen = Counter(int(re.search(r"number (\d+) ", line)[1]) for _time, line, _labels in found)
                    if len(seen) >= self.last[name]:
                        break
                bounds = [phase[1][name] for phase in self.phases[1:]] + [self.last[name]]
                low = 0
                for (phase, _numbers), high in zip(self.phases, bounds):
                    span = range(low + 1, high + 1)
                    missing = [number for number in span if number not in seen]
                    double = [number for number in span if seen[number] > 1]
                    result[phase, name, stream] = len(missing), sum(seen[number] - 1 for number in double)
                    told = [f"{len(some)} {what}" + (f" (from {some[0]} to {some[-1]})" if some else "")
                            for what, some in (("missing", missing), ("double", double))]
                    print(f"{phase}: {name}, {stream}, {low + 1} to {high}: {', '.join(told)}")
                    low = high
        return result


@pytest.fixture(scope="module")
def counted(logs_site, logs):
    """Three mishaps under 500 numbered lines a second from each source, one after the other."""
    numbers = Numbers(logs_site, logs)

    def shippers(command):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda item: logs_site.on(item[0], f"systemctl {command} {item[1]}"), SHIPPERS.items()))

    def back(what):
        began = time.monotonic()
        numbers.arrived(numbers.now(), 120)
        print(f"{what}: all there {time.monotonic() - began:.1f} s later")
        time.sleep(3)

    numbers.begin()
    numbers.phase("Loki away")
    time.sleep(3)
    logs_site.on(MAIN, "systemctl stop loki")
    gone = time.monotonic()
    verdicts, _last = logs_site.doctor(healthy=False)
    time.sleep(max(0.0, OUTAGE - (time.monotonic() - gone)))
    logs_site.on(MAIN, "systemctl start loki")
    back(f"Loki was away for {OUTAGE} s")
    numbers.phase("shipper stopped")
    shippers("stop")
    time.sleep(10)
    shippers("start")
    back("The shippers were stopped for 10 s")
    numbers.last = numbers.now()
    numbers.arrived(numbers.last, 30)
    before = numbers.counted()
    numbers.phase("shipper killed")
    logs_site.on(MAIN, "systemctl stop loki")
    time.sleep(OUTAGE / 3)
    shippers("kill --signal=KILL")
    time.sleep(OUTAGE / 3)
    logs_site.on(MAIN, "systemctl start loki")
    back("The shippers were killed while Loki was away")
    numbers.end()
    back("The end")
    result = numbers.counted()
    # What a killed shipper reads again may be older than the kill: whatever came since then is its doing.
    for (phase, name, stream), (missing, double) in before.items():
        lost, again = result["shipper killed", name, stream]
        after = result[phase, name, stream]
        result["shipper killed", name, stream] = lost + after[0] - missing, again + after[1] - double
        result[phase, name, stream] = missing, double
    for stream in ("journal", "file"):
        print(f"killed, {stream}: " + ", ".join(
            "{} {} missing, {} double".format(SHIPPERS[name], *result["shipper killed", name, stream])
            for name in SHIPPERS))
    return result, verdicts


@pytest.mark.parametrize("name", SHIPPERS)
@pytest.mark.parametrize("phase", ["Loki away", "shipper stopped"])
def test_no_line_is_lost_or_double(counted, name, phase):
    result, _verdicts = counted
    assert result[phase, name, "journal"] == (0, 0)
    # Alloy goes back by three lines of a file, for it loses those that wait in its stages.
    missing, double = result[phase, name, "file"]
    assert missing == 0 and double <= (3 if (phase, name) == ("shipper stopped", MAIN) else 0)


@pytest.mark.parametrize("name", SHIPPERS)
def test_a_killed_shipper_loses_nothing(counted, name):
    """Lines without a time of their own may come twice: a batch of Promtail's; what Alloy read since it last noted how
    far, which it asks its readers every ten seconds and writes down every ten seconds, and three small batches."""
    result, _verdicts = counted
    assert result["shipper killed", name, "journal"] == (0, 0)
    missing, double = result["shipper killed", name, "file"]
    assert missing == 0 and double <= (BATCH // LINE if name == WATCHED else 20 * RATE + BATCH // LINE)


def test_doctor_says_that_loki_is_away(counted):
    _result, verdicts = counted
    assert verdicts["Loki"][0] == "failed" and "journalctl -u loki" in verdicts["Loki"][2]
    assert verdicts["Logs: alloy"][0] == "failed" and "is not in Loki" in verdicts["Logs: alloy"][1]
    assert verdicts["component loki"][0] == "failed"


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [[], ["--tags", "loki"], ["--tags", "alloy"], ["--tags", "promtail"]])
def test_another_run_changes_nothing(logs_site, tags):
    run = logs_site.play("site.yml", *tags)
    assert run.changed == {MAIN: 0, WATCHED: 0}, run.text[-4000:]


def test_doctor_finds_nothing(logs_site):
    verdicts, _last = logs_site.doctor("-e", "observability_doctor_wait=60", healthy=None)
    wrong = {check: found for check, found in verdicts.items() if found[0] == "failed"}
    assert not wrong
    assert {"Loki", "Loki: rules", "Logs: alloy", "component loki", "component alloy"} <= set(verdicts)
    print(verdicts["Loki"][1], verdicts["Loki: rules"][1], verdicts["Logs: alloy"][1], sep="; ")


def test_alloy_reads_on_where_promtail_stopped(logs_site, logs):
    """While lines are written on. Promtail leaves nothing behind but its positions."""
    numbers = Numbers(logs_site, logs)
    numbers.begin()
    numbers.phase("switch")
    time.sleep(3)
    logs_site.demo.own[WATCHED] = {**logs_site.demo.own[WATCHED], "log_shipper": "alloy"}
    logs_site.demo.set(**logs_site.variables)
    run = logs_site.play("site.yml")
    assert run.changed[WATCHED] >= 2
    numbers.arrived(numbers.now(), 60)
    numbers.end()
    numbers.arrived(numbers.last, 30)
    result = numbers.counted()
    assert {key: value for key, value in result.items() if key[1] == WATCHED} == {
        ("switch", WATCHED, stream): (0, 0) for stream in ("journal", "file")}
    assert "alloy" in logs_site.on(WATCHED, "systemctl list-units --plain --no-legend alloy.service")
    assert not logs_site.on(WATCHED, "ls -d /opt/aistack/promtail /etc/systemd/system/promtail.service", check=False)
    assert logs_site.play("site.yml").changed == {MAIN: 0, WATCHED: 0}


def test_it_was_one_mail(logs_site, attacks):
    """Nobody was told of the host that was silenced, either."""
    mails = Counter(mail.about for mail in logs_site.mails if mail.about[1] == "AuthenticationFailures")
    assert mails["FIRING", "AuthenticationFailures", MAIN] == 1
    assert not [about for about in mails if about[2] == WATCHED]
    print(json.dumps({" ".join(mail.about): mail.subject for mail in logs_site.mails}, indent=1))
