# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change is made true and proven, or the host is as it was and the old program serves."""

import time

import pytest


def stranger(host, port=7070):
    """A program that isn't ours on our port, and answers 200 with what we ask for."""
    host.write("/srv/toy-stranger/index.html", '{"version": "stranger"}')
    host.sh("systemd-run --quiet --unit=stranger -p Restart=no python3 -m http.server --bind 127.0.0.1 "
            "--directory /srv/toy-stranger %d" % port)
    host.sh("for _ in $(seq 100); do curl -s -o /dev/null http://127.0.0.1:%d/ && exit; sleep 0.05; done" % port)


def test_install_answers_and_a_second_run_changes_nothing(toy):
    first = toy.run()
    assert first["changed"] and first["plan"]["action"] == "install" and first["generation"] == 1
    answer = toy.serves(key="open sesame")
    state = toy.state()
    second = toy.run()
    assert not second["changed"] and second["plan"]["action"] == "none" and second["diff"] == []
    assert toy.state() == state and toy.host.ask() == answer
    assert toy.host.sh("systemctl is-enabled toy") == "enabled"
    toy.clean()


def test_upgrade_snapshots_and_downgrade_needs_no_network(toy):
    toy.run()
    upgrade = toy.run("2.0.0", say="two")
    assert (upgrade["plan"]["action"], upgrade["plan"]["from"], upgrade["plan"]["to"]) == ("upgrade", "1.0.0", "2.0.0")
    assert "snapshot of /var/lib/toy" in upgrade["plan"]["data"]
    toy.serves("2.0.0", say="two")
    toy.host.sh("systemctl stop mirror; systemctl reset-failed mirror 2>/dev/null || true")
    try:
        assert toy.run("1.0.0")["plan"]["action"] == "downgrade"
    finally:
        toy.host.sh("systemd-run --quiet --unit=mirror python3 -m http.server --bind 127.0.0.1 --directory /srv/mirror "
                    "8099; sleep 0.3")
    toy.serves("1.0.0", say="hello")
    toy.clean()


def test_old_generations_and_programs_are_collected(toy):
    for turn in range(5):
        toy.run(say="turn %d" % turn)
    assert toy.host.sh("ls /var/lib/aistack/toy/generations").split() == ["3", "4", "5"]
    toy.clean()


def test_a_validator_refuses(toy):
    toy.run()
    with toy.untouched():
        failure = toy.fails(refused=True)
    assert "toycheck refuses the new configuration" in failure.msg
    uid = toy.host.sh("id -u toy")
    assert "toycheck: refused is set in /etc/toy/toy.json (checked as user %s)" % uid in failure.msg
    assert "Nothing that runs was touched" in failure.msg
    toy.serves(say="hello")


def test_a_validator_refuses_the_first_install(toy):
    before = toy.state()
    assert "toycheck refuses" in toy.fails(refused=True).msg
    assert toy.state() == before and not toy.host.exists("/var/lib/aistack")


def test_a_validator_without_a_unit_sees_the_staged_files(toy):
    toy.run(unit=None, answers=None, key=None, validate=[
        {"argv": ["/bin/sh", "-c", 'test "$(cat /etc/toy/toy.json)" = \'{"say": "$HOME ${x} %n"}\'']}],
        say="$HOME ${x} %n")
    assert not toy.host.exists("/etc/systemd/system/toy.service")


@pytest.mark.parametrize("fault, words", [
    ({"mute": True, "within": 2}, "nothing listens on port 7070"),
    ({"die": True}, "ended"),
    ({"broken": True, "within": 2}, "answered 500"),
])
def test_a_change_that_does_not_answer_is_taken_back(toy, fault, words):
    toy.run(say="before")
    state = toy.state()
    failure = toy.fails("2.0.0", ruin=True, **fault)
    assert words in failure.msg and "Generation 1 was put back and answers" in failure.msg
    assert "toy 2.0.0 starts" in failure.msg, "the journal of the program that failed is shown"
    assert toy.state() == state
    toy.serves("1.0.0", say="before")
    assert toy.host.read("/var/lib/toy/database") == "precious", "the snapshot was put back"
    toy.clean()
    assert not toy.run(say="before")["changed"]


def test_a_stranger_answers_while_ours_crash_loops(toy):
    toy.run()
    toy.host.sh("systemctl stop toy")
    stranger(toy.host)
    try:
        failure = toy.fails(die=True)
        assert "ended" in failure.msg
        # ours can't come back either: the stranger has its port
        assert "Generation 1 was put back but does not answer either" in failure.msg
    finally:
        toy.host.sh("systemctl stop stranger")
    toy.run()
    toy.serves()


def test_a_stranger_answers_while_ours_is_up_but_silent(toy):
    stranger(toy.host)
    failure = toy.fails(mute=True, within=2)
    assert "port 7070 is held by another process: python3" in failure.msg
    toy.host.sh("systemctl stop stranger")
    assert not toy.host.exists("/etc/toy")


@pytest.mark.parametrize("fault", [{"die": True}, {"mute": True, "within": 2}])
def test_a_first_install_that_fails_goes_back_to_absent(toy, fault):
    before = toy.state()
    failure = toy.fails(**fault)
    assert "The first installation was taken back; data was kept" in failure.msg
    assert "toy 1.0.0 starts" in failure.msg
    after = toy.state()
    left = {path for path in after if path not in before}
    # the program had written data before it failed: the data stays, and so does its owner
    assert left <= {"/var/lib/toy"}
    assert toy.host.read("/var/lib/toy/database") == "precious"
    assert toy.host.sh("stat -c %U /var/lib/toy/database") == "toy"
    assert not toy.host.exists("/var/lib/aistack") and not toy.host.exists("/opt/aistack")
    assert not toy.host.active()
    toy.run()
    toy.serves()
    toy.absent(purge_data=True)
    assert toy.state() == before


def test_a_return_that_fails_too_and_the_next_good_declaration(toy):
    toy.run(snapshot=[])
    failure = toy.fails("2.0.0", poison=True, snapshot=[])
    assert "Generation 1 was put back but does not answer either" in failure.msg
    assert failure.msg.count("toy: poisoned") >= 2
    assert "--- after the change: journal" in failure.msg and "--- after the return: journal" in failure.msg
    toy.clean()
    mended = toy.run(antidote=True, snapshot=[])
    assert mended["changed"]
    toy.serves()


def test_a_program_that_can_not_be_executed(toy):
    toy.run()
    state = toy.state()
    failure = toy.fails(unit={"description": "Test program", "exec": ["{program}/LICENSE", "/etc/toy/toy.json"]})
    assert "toy.service" in failure.msg and "Generation 1 was put back and answers" in failure.msg
    assert toy.state() == state
    toy.serves()


def test_two_runs_at_once(toy):
    toy.run()
    first = toy.host.start_module(toy.declare("2.0.0", say="first"))
    second = toy.host.start_module(toy.declare("2.0.0", say="second"))
    results = [toy.host.end_module(process) for process in (first, second)]
    assert all(result["changed"] for result in results)
    assert sorted(result["generation"] for result in results) == [2, 3]
    last = max(zip((2, 3), sorted(results, key=lambda one: one["generation"]), strict=True))[1]
    toy.serves("2.0.0", say="first" if last is results[0] else "second")
    toy.clean()


def test_the_same_change_twice_at_once_is_made_once(toy):
    processes = [toy.host.start_module(toy.declare()) for _ in range(2)]
    assert sorted(toy.host.end_module(process)["changed"] for process in processes) == [False, True]
    toy.serves()


def test_a_second_run_waits_for_what_a_killed_one_still_does(toy):
    """The children of a killed run go on; who comes next waits for them too."""
    toy.run()
    slow = [{"argv": ["/bin/sleep", "4"]}]
    process = toy.host.start_module(toy.declare("2.0.0", validate=slow))
    toy.host.sh("for _ in $(seq 100); do pgrep -f 'systemd-ru[n].*sleep' && exit; sleep 0.05; done; exit 1")
    toy.host.sh("pkill -9 -f '^python3 -B -c'")
    process.communicate()
    started = time.monotonic()
    toy.run()
    assert time.monotonic() - started > 1
    toy.serves("1.0.0")
    toy.clean()


def test_disk_full_for_programs(toy):
    toy.run()
    toy.host.sh("mkdir -p /srv/toy-save && cp -a /opt/aistack/. /srv/toy-save"
                " && mount -t tmpfs -o size=4m tmpfs /opt/aistack && cp -a /srv/toy-save/. /opt/aistack")
    toy.run()   # other inodes: placed anew
    with toy.untouched():
        failure = toy.fails(release=toy.release("toy_large", "3.0.0"))
    assert "no room on the disk" in failure.msg and "/opt/aistack/toy" in failure.msg and "make room" in failure.msg


@pytest.mark.parametrize("place", ["/var/lib/aistack", "/etc/toy"])
def test_disk_full_for_files(toy, place):
    toy.host.sh(f"mkdir -p {place} && mount -t tmpfs -o size=192k,mode=0750 tmpfs {place}")
    toy.run()
    with toy.untouched():
        failure = toy.fails(say="x" * 120000, ballast="y" * 120000)
    assert "no room on the disk" in failure.msg and place in failure.msg
    assert "Nothing that runs was touched" in failure.msg


def test_disk_full_for_the_snapshot(toy):
    toy.host.sh("mkdir -p /var/lib/aistack && mount -t tmpfs -o size=1m,mode=0700 tmpfs /var/lib/aistack")
    toy.run()
    toy.host.sh("head -c 4000000 /dev/urandom > /var/lib/toy/large")
    state = toy.state()
    failure = toy.fails("2.0.0")
    assert "no room for the snapshot of /var/lib/toy" in failure.msg
    assert toy.state() == state
    toy.serves("1.0.0")
    toy.clean()


def test_reload_or_restart(toy):
    toy.run()
    pid = toy.host.pid()
    result = toy.run(say="reloaded")
    assert result["plan"]["service"] == "reload"
    toy.serves(say="reloaded")
    assert toy.host.pid() == pid
    unit = dict(toy.declare()["unit"], environment={"EXTRA": "a $b %c \"d\""})
    assert toy.run(say="reloaded", unit=unit)["plan"]["service"] == "restart"
    toy.serves(say="reloaded", extra='a $b %c "d"')
    assert toy.host.pid() != pid


@pytest.mark.parametrize("fault, words", [
    ({"refuse_reload": True, "within": 2}, "has not been loaded (toy_good is 0.0)"),
    ({"die_on_reload": True}, "ended"),
])
def test_a_reload_that_fails(toy, fault, words):
    toy.run(say="before")
    state = toy.state()
    failure = toy.fails(**fault)
    assert words in failure.msg and "Generation 1 was put back and answers" in failure.msg
    assert toy.state() == state
    toy.serves(say="before")
    toy.clean()


BY_REQUEST = {"reload_requests": ["http://127.0.0.1:7070/reload"], "reload_paths": ["/etc/toy/*"]}


def test_a_reload_by_request(toy):
    toy.run(say="before", apply=BY_REQUEST)
    assert "ExecReload" not in toy.host.read("/etc/systemd/system/toy.service")
    pid = toy.host.pid()
    assert toy.run(say="after", apply=BY_REQUEST)["plan"]["service"] == "reload"
    toy.serves(say="after")
    assert toy.host.pid() == pid
    failure = toy.fails(refuse_reload=True, apply=BY_REQUEST)
    assert "reload answered 500: toy: will not load that" in failure.msg
    assert "Generation 2 was put back and answers" in failure.msg
    toy.serves(say="after")
    toy.clean()


def test_a_program_that_looks_for_new_files_by_itself(toy):
    rereads = {"rereads": True, "reload_paths": ["/etc/toy/*"]}
    toy.run(say="before", rereads=True, apply=rereads)
    assert "ExecReload" not in toy.host.read("/etc/systemd/system/toy.service")
    pid = toy.host.pid()
    assert toy.run(say="after", rereads=True, apply=rereads)["plan"]["service"] == "reload"
    toy.serves(say="after")
    assert toy.host.pid() == pid
    failure = toy.fails(broken=True, within=2, rereads=True, apply=rereads)
    assert "answered 500" in failure.msg and "Generation 2 was put back and answers" in failure.msg
    toy.serves(say="after")
    toy.clean()


def test_a_checker_of_ours_reads_its_program_from_standard_input(toy):
    """It runs with the Python that Ansible has found, in the service's sandbox."""
    program = ("import json, os, sys\n"
               "conf = json.load(open('/etc/toy/toy.json'))\n"
               "sentence = '%s judged by %s as %d' % (conf['say'], sys.argv[1], os.getuid())\n"
               "sys.exit(sentence if conf.get('bad') else 0)\n")
    checks = [{"name": "judge", "argv": ["{python}", "-", "a $b"], "stdin": program}]
    assert "judge agrees" in toy.run(validate=checks)["steps"]
    failure = toy.fails(say="this", bad=True, validate=checks)
    assert "this judged by a $b as %s" % toy.host.sh("id -u toy") in failure.msg


def test_a_changed_credential_restarts(toy):
    toy.run(key="one")
    result = toy.run(key="two")
    assert result["plan"]["service"] == "restart"
    toy.serves(key="two")


def test_watches(toy):
    toy.host.write("/root/outside/certificate", "first")
    toy.run(watches=["/root/outside/certificate"])
    pid = toy.host.pid()
    assert not toy.run(watches=["/root/outside/certificate"])["changed"]
    toy.host.write("/root/outside/certificate", "second")
    result = toy.run(watches=["/root/outside/certificate"])
    assert result["plan"]["service"] == "restart" and "/root/outside/certificate changed" in result["plan"]["notes"]
    assert toy.host.pid() != pid
    assert not toy.run(watches=["/root/outside/certificate"])["changed"]


def test_nonsense_is_refused_before_anything_happens(toy):
    toy.run()
    question = {"url": "http://127.0.0.1:7070/"}
    for more, words in [
        ({"answers": {"questions": [dict(question, matches="(")]}}, "no regular expression"),
        ({"answers": {"questions": [{"url": "127.0.0.1:7070"}]}}, "no http or https address"),
        ({"name": "../toy"}, "no component name"),
        ({"directories": [{"path": "/etc/../root"}]}, "absolute path"),
        ({"extra_files": [{"path": "/etc/toy/a", "content": "", "mode": "rw"}]}, "octal"),
        ({"extra_files": [{"path": "/etc/toy/toy.json", "content": ""}]}, "declared twice"),
        ({"extra_files": [{"path": "/etc/toy/a", "content": "", "owner": "nobody-here"}]}, "no account 'nobody-here'"),
        ({"unit": {"description": "a\nExecStartPre=/bin/false", "exec": ["/bin/true"]}}, "more than one line"),
    ]:
        with toy.untouched():
            assert words in toy.fails(**more).msg
