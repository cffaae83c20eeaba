# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file that another program reads: that program, a unit of the test's own, is restarted with it, there and back."""

import pytest
from test_kill import killed_at, some, undisturbed

PLACE = "/etc/toy-reader/conf.d/50-ours.conf"
READER = """[Service]
Type=notify
NotifyAccess=all
Restart=no
StartLimitIntervalSec=0
ExecStart=/bin/sh -c 'cat /etc/toy-reader/conf.d/*.conf > /srv/toy-read 2>/dev/null; ! grep -q bad /srv/toy-read || \
exit 3; systemd-notify --ready; exec sleep infinity'
"""
NOTE = "toyreader.service reads what changes: it is restarted"


@pytest.fixture
def reader(toy):
    """reader(): what the other program has read."""
    toy.host.write("/etc/systemd/system/toyreader.service", READER)
    toy.host.sh("mkdir /etc/toy-reader; systemctl daemon-reload; systemctl start toyreader")

    def read():
        assert toy.host.active("toyreader.service")
        return toy.host.read("/srv/toy-read")
    return read


def wanted(content="one"):
    return {"extra_files": [{"path": PLACE, "content": content, "mode": "0644", "read_by": "toyreader.service"}]}


def test_it_reads_what_comes_changes_and_goes(toy, reader):
    toy.run()
    pid = toy.host.pid()
    for more, expected in ((wanted(), "one"), (wanted("two"), "two"), ({}, "")):
        check, result = toy.run(check=True, **more), toy.run(**more)
        assert NOTE in check["plan"]["notes"] and (check["plan"], check["diff"]) == (result["plan"], result["diff"])
        assert "restarted toyreader.service, which reads what changed" in result["steps"]
        assert reader() == expected
        before = toy.host.pid("toyreader.service")
        assert not toy.run(**more)["changed"] and toy.host.pid("toyreader.service") == before
    assert toy.host.pid() == pid, "it is none of the component's own files"
    assert not toy.host.exists("/etc/toy-reader/conf.d") and toy.host.exists("/etc/toy-reader")
    toy.clean()


def test_the_folder_of_the_other_program_stays(toy, reader):
    toy.host.sh("mkdir -m 0751 /etc/toy-reader/conf.d")
    toy.run(**wanted())
    assert toy.host.sh("stat -c %a /etc/toy-reader/conf.d") == "751"
    result = toy.absent()
    assert NOTE in result["plan"]["notes"] and reader() == ""
    assert toy.host.sh("stat -c %a /etc/toy-reader/conf.d") == "751"


def test_what_it_does_not_start_with_is_taken_back(toy, reader):
    first = toy.fails(**wanted("bad"))
    assert "toyreader.service" in first.msg and "The first installation was taken back" in first.msg
    assert reader() == "" and not toy.host.exists("/etc/toy-reader/conf.d") and not toy.host.exists("/etc/toy")
    toy.run(**wanted())
    with toy.untouched():
        assert "toyreader.service" in toy.fails(**wanted("bad")).msg
    assert reader() == "one"


def test_it_goes_back_with_a_component_that_fails(toy, reader):
    toy.run(**wanted())
    failure = toy.fails("2.0.0", die=True, **wanted("two"))
    assert "Generation 1 was put back and answers" in failure.msg
    assert reader() == "one"
    toy.serves()


def test_a_reader_that_is_broken_anyway_keeps_nothing_down(toy, reader):
    toy.run(**wanted())
    toy.host.sh("sed -i 's/ExecStart=.*/ExecStart=\\/bin\\/false/' /etc/systemd/system/toyreader.service; "
                "systemctl daemon-reload")
    failure = toy.fails(**wanted("two"))
    assert failure.msg.count("toyreader.service") > 1
    assert toy.host.read(PLACE) == "one"
    toy.serves()
    toy.clean()
    # It runs no more, so nobody reads the file.
    assert toy.run(**wanted("two"))["changed"]


def test_a_run_that_is_killed(toy, reader):
    """Whatever came of it: the next run leaves the other program with what lies there."""
    calls, gone = undisturbed(toy, toy.declare(**wanted("two"))), toy.declare(state="absent", **wanted())
    toy.run(**wanted())
    undisturbed(toy, toy.declare(**wanted("two")))
    for moment in some(calls)[1::2]:
        toy.run(**wanted())
        killed_at(toy, toy.declare(**wanted("two")), moment)
        toy.run(**wanted())
        assert reader() == "one", moment
        toy.clean()
    calls = undisturbed(toy, gone)
    for moment in some(calls)[1::2]:
        toy.run(**wanted())
        killed_at(toy, gone, moment)
        toy.host.module(gone)
        assert reader() == "", moment


def test_no_name_of_a_unit(toy):
    more = wanted()
    more["extra_files"][0]["read_by"] = "journald"
    assert "files.read_by 'journald' is no name of a unit" in toy.fails(**more).msg
