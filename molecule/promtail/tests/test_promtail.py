# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real Promtail delivers to a real Loki: labels, text, and whether every line is there, under faults."""

import collections
import datetime
import json
import re
import shlex
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "plugins" / "plugin_utils"))
import log_pipeline  # noqa: E402

STATE = "/var/lib/promtail"
# 500 numbered lines a second, to the journal and to a file whose lines carry no time; a container says about as many.
# At the end both tell how many there were.
WRITER = '''
import os, sys, time
os.makedirs("/var/log/numbers", exist_ok=True)
log = open("/var/log/numbers/a.log", "a", buffering=1)
number, start = 0, time.monotonic()
while not os.path.exists("/run/writer/stop"):
    while number < (time.monotonic() - start) * 500:
        number += 1
        text = f"{sys.argv[1]} line {number:08d}, with some words to be as long as log lines are: one two three four"
        log.write(text + "\\n")
        sys.stdout.write(text + "\\n")
    sys.stdout.flush()
    time.sleep(0.01)
print(number, file=open("/run/writer/writer", "w"))
'''
COUNTING = '''n=0
while ! test -e /run/writer/stop; do
    k=0
    while test $k -lt 50; do
        k=$((k + 1)); n=$((n + 1))
        printf '%s line %08d, with some words to be as long as log lines are: one two three four\\n' NAME $n
    done
    /bin/busybox sleep 0.1
done
echo $n > /run/writer/CONTAINER'''


class Entry(dict):
    """An entry as Loki tells it: its labels, and `line`, `time` (s) and `metadata`."""


@pytest.fixture(scope="module")
def loki(ask):
    """loki('{service="app"}', since): every entry that there is, old to new."""
    began = time.time()

    def query(selector, since=None):
        start, found, seen = int((since or began - 3600) * 1e9), [], set()
        while True:
            answer = ask(":3100/loki/api/v1/query_range", query=selector, start=start, limit=4000, direction="forward",
                         end=int((time.time() + 60) * 1e9))
            assert answer.status == 200, answer.text[:500]
            page = [(int(when), line, json.dumps(stream["stream"], sort_keys=True), json.dumps(rest))
                    for stream in answer.json["data"]["result"] for when, line, *rest in stream["values"]]
            new = sorted(row for row in page if row not in seen)
            found += new
            if len(page) < 4000 or not new:
                return [Entry(json.loads(stream), line=line, time=when / 1e9) for when, line, stream, _rest in found]
            start = new[-1][0]
            seen = {row for row in page if row[0] == start}
    return query


@pytest.fixture(scope="module")
def found(loki, eventually):
    """found('{…} |= "text"'): the entries, at least one. The time it took is printed, not judged."""
    def wait(selector, count=1, within=60):
        begin = time.monotonic()
        entries = eventually(lambda: [entry for entry in [loki(selector)] if len(entry) >= count], within=within)[0]
        print(f"\n{selector}: found after {time.monotonic() - begin:.1f} s")
        return entries
    return wait


@pytest.fixture(scope="module")
def say(host):
    """say("unit", "text"): a unit writes this to its standard output."""
    def write(unit, text):
        host.check_output("printf %s %s > /run/said && systemd-run --quiet --wait --unit=%s cat /run/said", "%s", text,
                          unit)
    return write


@pytest.fixture(scope="module")
def log(host):
    """log("text"): lines of an application's file."""
    host.check_output("mkdir -p /var/log/application /var/log/numbers")

    def write(text, name="a.log"):
        host.check_output("printf %s %s >> /var/log/application/" + name, "%s\\n", text)
    return write


@pytest.fixture(scope="module")
def container(host):
    """container("name", "shell command", *options): a container that stays when its command has ended."""
    host.check_output("tar -C / -c bin/busybox | docker import - busybox")
    names = []

    def start(name, command, *options):
        names.append(name)
        host.check_output(f"docker run -d --name %s {' '.join(options)} busybox /bin/busybox sh -c %s", name,
                          f"{command}; exec /bin/busybox sleep 3600")
    yield start
    host.run("docker rm -f " + " ".join(names))


@pytest.fixture(scope="module")
def counters(metrics):
    """counters()("promtail_…", label=…): the sum of a metric's series."""
    def read():
        served = metrics(":9080")
        return lambda name, **labels: sum(value for _own, value in served.series(name, **labels))
    return read


def labels(entry):
    """Those of the stream. Metadata comes beside them, and Loki adds service_name."""
    return {name: value for name, value in entry.items()
            if name not in ("line", "time", "unit", "request_id", "trace_id")}


# --- found by label and by text ------------------------------------------------------------------------------------


def test_a_unit_of_the_journal(say, found):
    say("shop", "WARNING: the shop is nearly out of 4711")
    entry, = found('{service="shop"} |= "4711"')
    assert labels(entry) == {"host": "monitor", "service": "shop", "service_name": "shop", "stream": "journal",
                             "level": "warning"}
    assert entry["unit"] == "shop.service"
    assert entry["line"] == "WARNING: the shop is nearly out of 4711"


def test_a_file(log, found):
    log("2026-11-22T10:00:00Z level=error msg=\"the application has lost 4712\" request_id=5f0c12ab")
    entry, = found('{host="monitor", stream="file"} |= "4712"')
    assert labels(entry) == {"host": "monitor", "service": "application", "service_name": "application",
                             "stream": "file", "level": "error"}
    assert entry["request_id"] == "5f0c12ab"


def test_a_container(container, found):
    container("chat", "echo 'level=info msg=\"the chat says 4714\"'; echo 'ERROR: the chat says 4714' >&2")
    entries = found('{container="chat"} |= "4714"', count=2)
    common = {"host": "monitor", "service": "chat", "service_name": "chat", "container": "chat"}
    assert {entry["stream"]: labels(entry) for entry in entries} == {
        "stderr": common | {"stream": "stderr", "level": "error"},
        "stdout": common | {"stream": "stdout", "level": "info"}}


def test_a_container_of_compose_has_the_name_of_its_service(container, found):
    container("stack-web-1", "echo 'the web says 4715'", "--label com.docker.compose.service=web")
    entry, = found('{service="web"} |= "4715"')
    assert labels(entry) == {"host": "monitor", "service": "web", "service_name": "web", "container": "stack-web-1",
                             "stream": "stdout", "level": "unknown"}


def test_by_full_text_without_any_other_label(log, found):
    log("only this word: perambulator")
    assert len(found('{host="monitor"} |= "perambulator"')) == 1


def test_sshd_and_sudo_wherever_they_run(host, found):
    host.check_output("logger -t sshd 'Failed password for invalid user admin from 192.0.2.1 port 4713 ssh2'")
    host.check_output("sudo -u nobody true")
    assert labels(found('{service="sshd"} |= "4713"')[0])["stream"] == "journal"
    assert "COMMAND=" in found('{service="sudo"} |= "nobody"')[0]["line"]


@pytest.mark.parametrize(("line", "level"), [
    ('{"time":"2026-11-22T10:00:00Z","level":"ERROR","msg":"json one"}', "error"),
    ('{"level":50,"time":1795367224000,"msg":"pino two"}', "error"),
    ('{"severity":"NOTICE","message":"json three"}', "info"),
    ('ts=2026-11-22 level=warn msg="logfmt four"', "warning"),
    ("2026-11-22 10:00:00,123 [FATAL] plain five", "critical"),
    ("DEBUG: plain six", "debug"),
    ("nothing is said of seven", "unknown"),
])
def test_levels(log, found, line, level):
    word = re.search(r"one|two|three|four|five|six|seven", line)[0]
    log(line)
    entries = found(f'{{service="application"}} |~ "(json|pino|logfmt|plain|of) {word}"')
    assert {entry["level"] for entry in entries} == {level}


def test_no_other_label_ever(ask):
    known = ask(":3100/loki/api/v1/labels").json["data"]
    assert set(known) <= {"host", "service", "container", "level", "stream", "service_name"}


# --- what becomes of odd lines -------------------------------------------------------------------------------------


TRACEBACK = """Traceback (most recent call last):
  File "/srv/app.py", line 4, in <module>
    main()
  File "/srv/app.py", line 2, in main
    raise ValueError("4720 is too much")
ValueError: 4720 is too much"""


@pytest.mark.parametrize("source", ["journal", "container", "file"])
def test_a_traceback_is_one_entry(say, log, container, found, source):
    text = TRACEBACK.replace("4720", f"4720-{source}")
    if source == "journal":
        say("tracer", f"before\n{text}\nafter\n")
    elif source == "container":
        container("tracer", f"echo {shlex.quote(f'before{chr(10)}{text}{chr(10)}after')}")
    else:
        log(f"before\n{text}\nafter", name="tracer.log")
    entries = found(f'{{host="monitor"}} |= "4720-{source}"')
    # What is logged with a traceback stands before it.
    assert [entry["line"] for entry in entries] == [f"before\n{text}"]
    assert entries[0]["level"] == "error"


def test_secrets_do_not_leave_the_host(host, log, found):
    log("trial 4730: password=hunter2hunter2 Authorization: Bearer abcdefghijklmnopqrstuvwxyz012345 customer 998877")
    line = found('{service="application"} |= "trial 4730"')[0]["line"]
    assert "redacted" in line
    assert not re.search("hunter2|abcdefghij|998877", line), line


def test_what_nobody_wants_stays_away(log, found, loki):
    log("trial 4735 nobody wants this\ntrial 4735 everybody wants that")
    assert [entry["line"] for entry in found('{service="application"} |= "trial 4735"')] == [
        "trial 4735 everybody wants that"]


def test_a_line_of_a_megabyte_is_cut_and_counted(host, found, counters):
    before = counters()("promtail_mutated_entries_total", reason="line_too_long")
    host.check_output("{ printf 'trial 4740 '; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo 'trial 4741'; } "
                      ">> /var/log/application/long.log")
    assert found('{service="application"} |= "trial 4741"')
    line = found('{service="application"} |= "trial 4740"')[0]["line"]
    assert 200_000 < len(line) <= 262_144
    assert counters()("promtail_mutated_entries_total", reason="line_too_long") == before + 1


def test_bytes_that_are_no_text_arrive_as_such(host, found):
    host.check_output("printf 'trial 4745 \\377\\376 caf\\351\\n' >> /var/log/application/bytes.log")
    assert "\ufffd" in found('{service="application"} |= "trial 4745"')[-1]["line"]


def test_a_refusal_is_counted_and_no_hindrance(host, site, counters, found, log):
    """Lines of last month: a file whose time is read."""
    before = counters()("promtail_dropped_entries_total")
    old = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 30 * 86400))
    host.check_output("mkdir -p /var/log/old && echo '%s trial 4750, too old' >> /var/log/old/a.log" % old)
    job = {"job_name": "old", "static_configs": [{"targets": ["localhost"], "labels": {
        "__path__": "/var/log/old/*.log", "host": "monitor", "service": "old", "stream": "file"}}],
        "pipeline_stages": [{"regex": {"expression": r"^(?P<time>\S+) "}},
                            {"timestamp": {"source": "time", "format": "RFC3339"}}, {"labeldrop": ["filename"]}]}
    assert site(promtail_extra_config={"scrape_configs": [job]}).changing["promtail"]["service"] == "restart"
    log("trial 4751, after it")
    assert found('{service="application"} |= "trial 4751"')
    assert counters()("promtail_dropped_entries_total") >= 1
    assert before == 0
    assert not [entry for entry in found('{service="old"} |= "trial" or "old"', count=0)]
    assert site().changing["promtail"]["service"] == "restart"


def test_wrong_stages_are_refused_before_anything_changes(host, site, main_pid):
    before = main_pid("promtail")
    outcome = site(refused=True, promtail_extra_config={"scrape_configs": [
        {"job_name": "wrong", "static_configs": [{"targets": ["localhost"], "labels": {"__path__": "/x"}}],
         "pipeline_stages": [{"regex": {"expression": "(unclosed"}}]}]})
    assert "unclosed" in outcome.message or "regex" in outcome.message
    assert main_pid("promtail") == before


# --- every line, under faults ----------------------------------------------------------------------------------------


@pytest.fixture
def written(host, container, loki, eventually):
    """written(fault): the writers write while a fault happens; then the numbers missing and double, by source."""
    def trial(name, fault):
        host.check_output("rm -rf /run/writer /var/log/numbers/* && mkdir /run/writer && printf %s %s > /run/writer.py",
                          "%s", WRITER)
        began, counter = time.time() - 1, f"counter-{name}"
        host.check_output("systemd-run --quiet --unit=writer python3 /run/writer.py %s", name)
        container(counter, COUNTING.replace("NAME", name).replace("CONTAINER", counter), "-v /run/writer:/run/writer")
        # Containers are looked for every five seconds.
        eventually(lambda: loki(f'{{service="{counter}"}}'))
        time.sleep(4)
        fault()
        time.sleep(8)
        host.check_output("touch /run/writer/stop")
        result = {}
        for source, service in (("writer", "writer"), ("writer", "numbers"), (counter, counter)):
            total = int(eventually(lambda source=source: host.run(f"cat /run/writer/{source}").stdout))
            last, selector = f"{name} line {total:08d}", f'{{service="{service}"}} |= "{name} line"'
            eventually(lambda selector=selector, last=last: loki(f'{selector} |= "{last}"'), within=120)
            seen = collections.Counter(int(re.search(r"line (\d{8})", entry["line"])[1])
                                       for entry in loki(selector, began))
            result["container" if service == counter else service] = {
                "missing": [number for number in range(1, total + 1) if number not in seen],
                "double": sum(seen.values()) - len(seen)}
            print(f"\n{name}: {service}: {total} lines, "
                  f"{sum(number not in seen for number in range(1, total + 1))} missing, "
                  f"{sum(seen.values()) - len(seen)} double")
        host.check_output("docker rm -f %s", counter)
        return result
    return trial


NONE = {"missing": [], "double": 0}
# Lines of a batch, and of what may be under way beside it.
BATCH = 73728 // 90


def test_loki_away_and_back(host, written):
    def fault():
        host.check_output("systemctl stop loki")
        time.sleep(25)
        host.check_output("systemctl start loki")
    assert written("away", fault) == {"writer": NONE, "container": NONE, "numbers": NONE}


def test_stopped_and_started(host, written):
    def fault():
        host.check_output("systemctl stop promtail")
        assert json.loads(host.file(f"{STATE}/positions.yaml.state").content_string)["clean"]
        time.sleep(5)
        host.check_output("systemctl start promtail")
    result = written("stopped", fault)
    assert result["writer"] == result["container"] == NONE
    assert not result["numbers"]["missing"]
    # A position is noted an instant before the reading ends: a line or two that were written in between.
    assert result["numbers"]["double"] <= 5


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_end_of_a_shipper_while_loki_is_away(host, written, how):
    def fault():
        host.check_output("systemctl stop loki")
        time.sleep(10)
        host.check_output("systemctl kill -s KILL promtail" if how == "killed" else "systemctl stop promtail")
        time.sleep(2)
        assert not json.loads(host.file(f"{STATE}/positions.yaml.state").content_string)["clean"]
        host.check_output("systemctl start promtail")
        time.sleep(10)
        host.check_output("systemctl start loki")
    result = written(f"{how}-away", fault)
    assert result["writer"] == result["container"] == NONE
    assert not result["numbers"]["missing"]
    assert result["numbers"]["double"] <= BATCH


def test_killed_with_loki_up(host, written):
    def fault():
        host.check_output("systemctl kill -s KILL promtail")
        # It comes back by itself.
    result = written("crashed", fault)
    assert result["writer"] == result["container"] == NONE
    assert not result["numbers"]["missing"]
    # Two seconds of positions that were not on the disk yet, beside a batch.
    assert result["numbers"]["double"] <= BATCH + 1000


def test_a_renamed_file_is_read_to_its_end(host, loki, found):
    host.check_output("cd /var/log/application && seq -f 'rotated %04g a' 500 >> turn.log && "
                      "until grep -q turn.log /var/lib/promtail/positions.yaml; do sleep 0.1; done; "
                      "seq -f 'rotated %04g c' 500 >> turn.log; mv turn.log turn.log.1; "
                      "seq -f 'rotated %04g b' 500 > turn.log")
    assert len(found('{service="application"} |= "rotated"', count=1500)) == 1500


# --- the lines of the mixins' corpora ------------------------------------------------------------------------------


# The corpora were recorded at 17 o'clock of one day. Loki takes no line that is older than a week, and looks for lines
# that are not on its disk yet only among those of the last three hours.
RECORDED = time.strptime("2026-11-22", "%Y-%m-%d")
RECENT = time.gmtime(time.time() - 3600)
PRIORITIES = dict(enumerate(["critical"] * 3 + ["error", "warning", "info", "info", "debug"]))


def corpora():
    """(name, case) of what is to be made of lines, some of programs that are not here; they are of an hour ago."""
    def recent(text):
        for form in ("%Y-%m-%d", "%d/%b/%Y", "%d %b %Y"):
            text = text.replace(time.strftime(form, RECORDED), time.strftime(form, RECENT))
        return re.sub(r"(?<!\d)17:(?=\d\d:\d\d)", time.strftime("%H:", RECENT), text)

    for path in sorted(ROOT.glob("mixins/*/logs.corpus.yml")):
        for number, case in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")).get("parse") or []):
            texts = {name: recent(case[name]) for name in ("line", "time") if name in case}
            yield f"{path.parent.name}.{number}", {"service": path.parent.name} | case | texts


@pytest.fixture(scope="module")
def made_of_corpora(host, loki):
    """What the real Promtail makes of them: {name: entries}. Each line has a file of its own, and the stages that its
    source has: the same program and the same stages behind another reader."""
    parse = {path.parent.name: (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("parse")
             for path in ROOT.glob("mixins/*/logs.yml")}
    here = f"corpus-{time.time():.0f}"
    push = [{"url": "http://127.0.0.1:3100/loki/api/v1/push"}]
    described = log_pipeline.pipeline({
        "host": here, "push": push, "journal": True, "docker": True,
        "files": [{"paths": ["/none"], "service": case["service"]} for _name, case in corpora()],
        "parse": {name: rules for name, rules in parse.items() if rules}})
    jobs = {"journal": [], "docker": [], "file": []}
    host.check_output("rm -rf /run/corpus && mkdir -p /run/corpus")
    for name, case in corpora():
        host.check_output(f"printf %s %s > /run/corpus/{name}", "%s\\n", case["line"])
        given = {"__path__": f"/run/corpus/{name}", "host": here, "service": case["service"], "stream": name}
        if case["stage"] == "journal":
            # What comes with a priority of its own was not written line by line.
            given |= ({"transport": "syslog", "priority": PRIORITIES[case["priority"]]} if "priority" in case
                      else {"transport": "stdout"})
        jobs[case["stage"]].append({"targets": ["localhost"], "labels": given})
    config = {"server": {"disable": True}, "positions": {"filename": "/run/corpus/positions"},
              "clients": [push[0] | {"batchwait": "250ms"}],
              "scrape_configs": [{"job_name": stage, "static_configs": targets, "pipeline_stages": described[
                  "files" if stage == "file" else stage]["stages"]} for stage, targets in jobs.items() if targets]}
    host.check_output("printf %s %s > /run/corpus.yml && systemd-run --quiet --unit=corpus "
                      "/opt/aistack/promtail/current/promtail -config.file=/run/corpus.yml", "%s", json.dumps(config))

    def arrived():
        result = collections.defaultdict(list)
        for entry in loki(f'{{host="{here}"}}', time.time() - 9000):
            result[entry["stream"]].append(entry)
        return result

    wanted = {name for name, case in corpora() if not case.get("dropped")}
    try:
        for _second in range(30):
            if wanted <= arrived().keys():
                break
            time.sleep(1)
        return arrived()
    finally:
        host.check_output("systemctl stop corpus")


@pytest.mark.parametrize(("name", "case"), [pytest.param(*one, id=one[0]) for one in corpora()])
def test_the_corpora_of_all_mixins(made_of_corpora, name, case):
    entries = made_of_corpora[name]
    if case.get("dropped"):
        assert not entries
        return
    assert [entry["line"] for entry in entries] == [case["line"].rstrip("\n")]
    assert entries[0]["level"] == case["level"]
    assert {key: entries[0].get(key) for key in case.get("metadata") or {}} == (case.get("metadata") or {})
    if "time" in case:
        assert entries[0]["time"] == pytest.approx(
            datetime.datetime.fromisoformat(case["time"].replace("Z", "+00:00")).timestamp(), abs=0.001)


# --- last ----------------------------------------------------------------------------------------------------------


def test_no_port_but_one_and_no_capability(host, main_pid):
    assert host.file("/run/promtail").mode == 0o700
    text = host.file(f"/proc/{main_pid('promtail')}/status").content_string
    assert set(re.findall(r"^Cap(?:Prm|Eff|Bnd|Amb):\s+([0-9a-f]+)$", text, re.MULTILINE)) == {"0" * 16}


def test_journald_takes_more_than_its_own_limit(host):
    assert "RateLimitBurst=30000" in host.check_output("systemd-analyze cat-config systemd/journald.conf")


@pytest.mark.parametrize("other", ["none", "alloy"])
def test_another_takes_it_away_and_keeps_how_far_it_has_read(host, site, other):
    before = host.check_output("stat -c %Y /proc/$(pidof systemd-journald)")
    outcome = site(log_shipper=other)
    assert outcome.changing["promtail"]["action"] == "remove"
    assert not host.service("promtail").is_running
    assert not host.file("/etc/systemd/system/promtail.service").exists
    assert not host.file("/etc/systemd/journald.conf.d/50-aistack-promtail.conf").exists
    assert host.check_output("stat -c %Y /proc/$(pidof systemd-journald)") != before
    assert host.file(f"{STATE}/positions.yaml").exists
    assert site().changing["promtail"]["action"] != "none"
    assert host.service("promtail").is_running
