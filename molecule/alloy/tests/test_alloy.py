# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real Alloy delivers to a real Loki, and that no line is missing after its end, whatever that was like.

The program is the one in the mirror: upstream's archive, or the nearest that is built from its source (its row in
tests/servers/manifest.yml says what that one lacks).
"""

import collections
import json
import re
import time

import pytest

STATE = "/var/lib/alloy"
JOURNAL = f"{STATE}/loki.source.journal.journal/positions.yml"
WRITER = '''
import sys, time
number, start = 0, time.monotonic()
log = open("/var/log/application/numbers.log", "a", buffering=1)
import os
while not os.path.exists("/run/writer.stop"):
    while number < (time.monotonic() - start) * 500:
        number += 1
        text = f"{sys.argv[1]} line {number:08d}, with some words to be as long as log lines are: one two three four"
        print(text)
        log.write(text + "\\n")
    sys.stdout.flush()
    time.sleep(0.01)
print(number, file=open("/run/writer.done", "w"))
'''


@pytest.fixture(scope="module", autouse=True)
def folder(host):
    host.check_output("mkdir -p /var/log/application")


@pytest.fixture(scope="module")
def loki(ask):
    """loki('{service="app"}', since): [(labels and metadata, line)], old to new, by default of these tests."""
    began = time.time() - 5

    def query(selector, since=None):
        start, found, seen = int((since or began) * 1e9), [], set()
        while True:
            answer = ask(":3100/loki/api/v1/query_range", query=selector, start=start, limit=4000, direction="forward",
                         end=int((time.time() + 60) * 1e9))
            assert answer.status == 200, answer.text[:500]
            page = [(int(when), line, json.dumps(stream["stream"], sort_keys=True))
                    for stream in answer.json["data"]["result"] for when, line, *_rest in stream["values"]]
            new = sorted(row for row in page if row not in seen)
            found += new
            if len(page) < 4000 or not new:
                return [(json.loads(labels), line) for _when, line, labels in found]
            start = new[-1][0]
            seen = {row for row in page if row[0] == start}
    return query


@pytest.fixture(scope="module")
def found(loki, eventually):
    def wait(selector, count=1):
        return eventually(lambda: [entries for entries in [loki(selector)] if len(entries) >= count], within=60)[0]
    return wait


@pytest.fixture(scope="module")
def log(host):
    def write(text, name="a.log"):
        host.check_output("printf %s %s >> /var/log/application/" + name, "%s\\n", text)
    return write


@pytest.fixture(scope="module")
def say(host):
    """say("unit", "text"): a unit writes this to its standard output."""
    def write(unit, text):
        host.check_output("printf %s %s > /run/said && systemd-run --quiet --wait --unit=%s cat /run/said", "%s", text,
                          unit)
    return write


def test_which_program_it_is(host):
    version = host.check_output("/opt/aistack/alloy/current/alloy --version").splitlines()[0]
    print(f"\n{version}")
    assert version.startswith("alloy, version v1.")


# --- labels and text -----------------------------------------------------------------------------------------------


def test_a_unit_of_the_journal(say, found):
    say("shop", "WARNING: the shop is nearly out of 4711")
    [(labels, line)] = found('{service="shop"} |= "4711"')
    assert labels == {"host": "monitor", "service": "shop", "service_name": "shop", "stream": "journal",
                      "level": "warning", "unit": "shop.service"}
    assert line == "WARNING: the shop is nearly out of 4711"


def test_a_file(log, found):
    log('level=error msg="lost 4712" request_id=5f0c12ab')
    [(labels, _line)] = found('{stream="file"} |= "4712"')
    assert labels == {"host": "monitor", "service": "application", "service_name": "application", "stream": "file",
                      "level": "error", "request_id": "5f0c12ab"}


def test_no_other_label_ever(ask):
    assert set(ask(":3100/loki/api/v1/labels").json["data"]) <= {
        "host", "service", "container", "level", "stream", "service_name"}


@pytest.mark.parametrize(("line", "level"), [
    ('{"level":"ERROR","msg":"trial one"}', "error"), ('{"level":40,"msg":"trial two"}', "warning"),
    ("2026-11-22 10:00:00,123 [FATAL] trial three", "critical"), ("trial four says nothing", "unknown"),
    ('{"level":null,"msg":"trial five"}', "unknown"), ("E1122 10:00:00.1 1 a.go:1] trial six", "error"),
])
def test_levels(log, found, line, level):
    log(line)
    [(labels, _line)] = found(f'{{service="application"}} |= "{re.search("trial [a-z]+", line)[0]}"')
    assert labels["level"] == level


TRACEBACK = """Traceback (most recent call last):
  File "/srv/app.py", line 2, in main
    raise ValueError("%s")
ValueError: %s

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/srv/app.py", line 9, in <module>
app.errors.WorseError: %s"""


@pytest.mark.parametrize("source", ["journal", "file"])
def test_a_traceback_is_one_entry_and_its_neighbours_are_not(say, log, found, source):
    word = f"4720-{source}-{time.time():.0f}"
    text = TRACEBACK.replace("%s", word)
    if source == "journal":
        # The journal takes no empty lines.
        text = text.replace("\n\n", "\n")
        say("tracer", f"before {word}\n{text}\nafter {word}\n")
    else:
        log(f"before {word}\n{text}\nafter {word}", name="tracer.log")
    entries = found(f'{{host="monitor"}} |= "{word}"', count=2)
    assert sorted((line, labels["level"]) for labels, line in entries) == [
        (f"after {word}", "unknown"), (f"before {word}\n{text}", "error")]


def test_a_traceback_with_which_a_stream_begins_is_one_entry(say, found):
    say("crash", TRACEBACK.replace("%s", "4725"))
    [(labels, line)] = found('{service="crash"} |= "4725"')
    assert (line, labels["level"]) == (TRACEBACK.replace("%s", "4725").replace("\n\n", "\n"), "error")


def test_secrets_and_what_nobody_wants_do_not_leave_the_host(log, found):
    log('trial 4730 password=hunter2hunter2 {"token":"9f86d081884c7d659a2f"} customer 998877 max_tokens=100\n'
        "trial 4730 nobody wants this")
    [(_labels, line)] = found('{service="application"} |= "trial 4730"')
    assert line == ('trial 4730 password=<redacted:credential> {"token":"<redacted:credential>"} '
                    "customer <redacted:customer> max_tokens=100")


def test_what_was_dropped_is_counted(metrics):
    assert metrics(":12345").value("loki_process_dropped_lines_total", reason="log_sources.drop",
                                   component_id="loki.process.files") >= 1


def test_bytes_that_are_no_text_arrive_as_such(host, found):
    host.check_output("printf 'trial 4745 \\377\\376 caf\\351\\n' >> /var/log/application/bytes.log")
    assert found('{service="application"} |= "trial 4745"')[0][1] == "trial 4745 \ufffd caf\ufffd"


# --- its configuration -----------------------------------------------------------------------------------------------


class TestConfiguration:
    """What is wrong is refused while the old one serves on."""

    @pytest.fixture(autouse=True)
    def unchanged(self, host):
        file = host.file("/etc/alloy/config.alloy").content_string
        yield
        assert host.file("/etc/alloy/config.alloy").content_string == file
        assert host.service("alloy").is_running

    @pytest.mark.parametrize(("extra", "words"), [
        ('loki.write "own" { endpoint { adress = "http://127.0.0.1" } }', "unrecognized attribute name"),
        ('loki.echo "own" {', "expected }"),
        ('loki.echo "own" { }\n\nloki.echo "own" { }', "already declared"),
    ])
    def test_wrong_language_is_refused_before_anything_changes(self, host, site, main_pid, extra, words):
        pid = main_pid("alloy")
        outcome = site(refused=True, alloy_extra_config=extra)
        assert "alloy validate" in outcome.message and words in outcome.message
        assert main_pid("alloy") == pid
        assert not host.file("/etc/alloy/extra.alloy").exists

    def test_an_expression_that_only_the_start_finds_is_taken_back(self, site, found, log):
        outcome = site(refused=True, log_sources={"files": [{"paths": ["/var/log/application/*.log"],
                                                             "service": "application"}], "drop": ["x{1,2000}"]})
        assert "was put back and answers" in outcome.message
        log("trial 4760 after it")
        assert found('{service="application"} |= "trial 4760"')


def test_components_of_the_user_s_own(host, site, found):
    host.check_output("mkdir -p /var/log/own && echo 'trial 4770' >> /var/log/own/a.log")
    extra = ('local.file_match "own" {\n\tpath_targets = [{__path__ = "/var/log/own/*.log", host = "monitor", '
             'service = "own", stream = "file"}]\n}\n\nloki.source.file "own" {\n\ttargets    = '
             'local.file_match.own.targets\n\tforward_to = [loki.process.files.receiver]\n}')
    outcome = site("--diff", alloy_extra_config=extra)
    assert outcome.changing["alloy"]["service"] == "restart"
    assert "path_targets" not in outcome.text
    [(labels, _line)] = found('{service="own"} |= "trial 4770"')
    assert "filename" not in labels
    assert site().changing["alloy"]["service"] == "restart"
    assert not host.file("/etc/alloy/extra.alloy").exists


def test_it_serves_tls(host, site, ask):
    host.check_output(
        "mkdir -p /etc/own && cd /etc/own && openssl req -x509 -newkey rsa:2048 -nodes -keyout a.key -out a.crt "
        "-days 10 -subj /CN=monitor -addext subjectAltName=DNS:monitor && chgrp alloy a.key && chmod 640 a.key")
    tls = {"certificate": "/etc/own/a.crt", "key": "/etc/own/a.key", "authority": "/etc/own/a.crt"}
    assert site(alloy_web_tls=tls).changing["alloy"]["service"] == "restart"
    host.check_output("curl -sSf --cacert /etc/own/a.crt --connect-to monitor:12345:127.0.0.1:12345 "
                      "https://monitor:12345/-/healthy")
    assert ask(":12345/-/healthy").status != 200
    assert site().changing["alloy"]["service"] == "restart"
    host.check_output("rm -r /etc/own")


def test_the_journal_takes_more_lines(host, site):
    """journald has been started anew since its drop-in came, and once more when that changes."""
    file = host.file("/etc/systemd/journald.conf.d/50-aistack-alloy.conf")
    assert "RateLimitBurst=30000" in file.content_string
    pid = host.check_output("systemctl show -P MainPID systemd-journald")
    alloy = host.check_output("systemctl show -P MainPID alloy")
    assert site(alloy_journald_rate_limit=0).changing["alloy"]["files"]["change"] == [file.path]
    assert host.check_output("systemctl show -P MainPID systemd-journald") != pid
    assert host.check_output("systemctl show -P MainPID alloy") == alloy
    assert site().changing["alloy"]["files"]["change"] == [file.path]


def test_it_may_read_logs_and_nothing_more(host, main_pid):
    text = host.file(f"/proc/{main_pid('alloy')}/status").content_string
    assert set(re.findall(r"^Cap(?:Prm|Eff|Bnd|Amb):\s+([0-9a-f]+)$", text, re.MULTILINE)) == {"0" * 16}
    groups = re.search(r"^Groups:\s+(.*)$", text, re.MULTILINE)[1].split()
    names = {line.split(":")[2]: line.split(":")[0] for line in host.check_output("cat /etc/group").splitlines()}
    # No Docker here, no group docker.
    assert {names[group] for group in groups} - {"alloy"} == {"adm", "systemd-journal"}


# --- every line, under faults ----------------------------------------------------------------------------------------


@pytest.fixture
def written(host, loki, eventually):
    """written(name, fault): 500 lines a second while a fault happens; {service: (missing, double)}."""
    def trial(name, fault):
        host.check_output("rm -f /run/writer.* /var/log/application/numbers.log; printf %s %s > /run/writer.py", "%s",
                          WRITER)
        began = time.time() - 1
        host.check_output("systemd-run --quiet --unit=writer python3 /run/writer.py %s", name)
        time.sleep(6)
        fault()
        time.sleep(6)
        host.check_output("touch /run/writer.stop")
        eventually(lambda: host.file("/run/writer.done").exists)
        total = int(host.file("/run/writer.done").content_string)
        result = {}
        for service in ("writer", "application"):
            selector = f'{{service="{service}"}} |= "{name} line"'
            eventually(lambda selector=selector: loki(f'{selector} |= "line {total:08d}"', began), within=120)
            # A chunk on its way to the disk may be looked for in the wrong place: what is missing is looked for again.
            for _again in range(3):
                seen = collections.Counter(int(re.search(r"line (\d{8})", line)[1])
                                           for _labels, line in loki(selector, began))
                missing = [number for number in range(1, total + 1) if number not in seen]
                if not missing:
                    break
                print(f"\n{name}: {service}: missing {missing[:5]}…")
                time.sleep(15)
            result[service] = (len(missing), sum(seen.values()) - len(seen))
            print(f"\n{name}: {service}: {total} lines, missing and double: {result[service]}")
        return result
    return trial


# So much of a file whose lines carry no time of their own may come twice: three batches, and what was read since Alloy
# last noted how far, which it asks its readers every ten seconds and writes down every ten seconds.
UNDER_WAY = 65536 // 90 + 20 * 500


def test_loki_away_and_back(host, written):
    def fault():
        host.check_output("systemctl stop loki")
        time.sleep(25)
        host.check_output("systemctl start loki")
    assert written("away", fault) == {"writer": (0, 0), "application": (0, 0)}


def test_stopped_and_started(host, written):
    def fault():
        host.check_output("systemctl stop alloy")
        time.sleep(5)
        host.check_output("systemctl start alloy")
    result = written("stopped", fault)
    assert result["writer"] == (0, 0)
    # A position is noted an instant before the reading ends: a line or two that were written in between.
    assert result["application"][0] == 0 and result["application"][1] <= 5


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_its_end_while_loki_is_away(host, written, how):
    def fault():
        host.check_output("systemctl stop loki")
        time.sleep(30)
        host.check_output("systemctl kill -s KILL alloy" if how == "killed" else "systemctl stop alloy")
        time.sleep(2)
        host.check_output("systemctl start alloy")
        time.sleep(8)
        host.check_output("systemctl start loki")
    result = written(how, fault)
    assert result["writer"] == (0, 0)
    assert result["application"][0] == 0 and result["application"][1] <= UNDER_WAY


# --- from Promtail to Alloy, and away --------------------------------------------------------------------------------


def test_it_begins_where_promtail_stopped(host, found, loki, say):
    """What the role does on a host where Promtail was: its positions are there, its own are not."""
    began = time.time()
    host.check_output("systemctl stop alloy")
    say("handed", "trial 4780 read by the one before\n")
    host.check_output("echo 'trial 4781 read by the one before' > /var/log/application/handed.log")
    cursor = json.loads(host.check_output("journalctl --sync; journalctl -u handed -n 1 -o json"))["__CURSOR"]
    size = host.file("/var/log/application/handed.log").size
    say("handed2", "trial 4782 not read yet\n")
    host.check_output("echo 'trial 4783 not read yet' >> /var/log/application/handed.log")
    host.check_output("install -d -m 0750 /var/lib/promtail && cd /var/lib/alloy && rm -rf loki.source.* *.yaml*")
    positions = (f'positions:\n  /var/log/application/handed.log: "{size}"\n  cursor-journal: "{cursor}"\n')
    host.check_output("cd /var/lib/promtail && printf %s %s > positions.yaml && chmod 600 positions.yaml && "
                      "printf %s %s > positions.yaml.state", "%s", positions, "%s", '{"clean": true}')
    host.check_output("systemctl start alloy")
    assert found('{host="monitor"} |= "trial 4782"') and found('{host="monitor"} |= "trial 4783"')
    assert not loki('{host="monitor"} |~ "trial 478[01]"', began)
    host.check_output("rm -rf /var/lib/promtail")


def test_where_another_shipper_is_wanted_it_goes(host, site):
    outcome = site(log_shipper="none")
    assert outcome.changing["alloy"]["action"] == "remove"
    assert not host.service("alloy").is_running
    assert not host.file("/etc/alloy").exists
    assert not host.file("/etc/systemd/journald.conf.d/50-aistack-alloy.conf").exists
    # How far it has read stays.
    assert host.file(JOURNAL).exists
    assert site().changing["alloy"]["action"] == "install"
