# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's process is killed with -9 before each thing that it does to the host.

strace delivers the signal at the n-th of the system calls that change something or start a child, so no hook in the
engine is needed, and nothing that it does can be forgotten. The next run must put right what was left, finish, and
leave exactly the host that an undisturbed run leaves.
"""

import pytest

CALLS = ("rename,renameat,renameat2,symlink,symlinkat,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,chmod,"
         "fchmod,fchmodat,chown,lchown,fchown,fchownat,ftruncate,fork,vfork,clone,clone3")
# So many moments of a run are tried, spread over all of them.
MOST = 14
TRACE = "/tmp/toy-trace"


def strace(*more):
    return ("strace", "-qq", "-o", TRACE, "-e", "trace=" + CALLS, *more)


def traced(toy):
    """The system calls of a run, each with how many of its kind there were up to then: so strace counts."""
    names = [line.split("(")[0] for line in toy.host.read(TRACE).splitlines() if "(" in line]
    return [(name, names[:index + 1].count(name)) for index, name in enumerate(names)]


def undisturbed(toy, params):
    toy.host.end_module(toy.host.start_module(params, wrap=strace()))
    return traced(toy)


def killed_at(toy, params, moment):
    """Kill a run before it does *moment*; True where it came so far."""
    process = toy.host.start_module(params, wrap=strace("-e", "inject=%s:signal=SIGKILL:when=%d" % moment))
    out, _errors = process.communicate()
    return not out


def some(moments, part=0, parts=1):
    step = max(1.0, (len(moments) - 1) / (MOST - 1))
    chosen = sorted({min(round(number * step), len(moments) - 1) for number in range(MOST)})
    return [moments[index] for index in chosen][part::parts]


def back_and_forth(toy, here, there, part=0):
    """From *here* to *there* and back, killed on the way each time; the run after must arrive."""
    toy.host.module(here)
    undisturbed(toy, there)
    states, calls = {}, {}
    for way, params in (("back", here), ("forth", there), ("back", here)):
        calls[way] = undisturbed(toy, params)
        assert states.setdefault(way, toy.state()) == toy.state(), "an undisturbed run leaves the same host each time"
    killed = 0
    for forth, back in zip(some(calls["forth"], part, 2), some(calls["back"], part, 2), strict=True):
        for way, params, moment in (("forth", there, forth), ("back", here, back)):
            killed += killed_at(toy, params, moment)
            check = toy.host.module(params, check=True)
            result = toy.host.module(params)
            where = "%s, killed before %s number %d" % ((way,) + moment)
            assert toy.state() == states[way], where
            toy.clean()
            assert (check["plan"], check["diff"]) == (result["plan"], result["diff"]), where
            if params.get("state") != "absent":
                assert toy.host.ask(), where
    # A run that finds something to clear up makes a few calls more or less than the one that was counted.
    assert killed >= 0.8 * 2 * len(some(calls["forth"], part, 2))


@pytest.mark.parametrize("part", [0, 1])
def test_installation_and_removal(toy, part):
    params = toy.declare(extra_files=[{"path": "/etc/toy/rules/a.yml", "content": "a"}])
    back_and_forth(toy, dict(params, state="absent", purge_data=True), params, part)


@pytest.mark.parametrize("part", [0, 1])
def test_configuration(toy, part):
    """One way with a reload, the other too; files come and go."""
    extra = [{"path": "/etc/toy/rules/a.yml", "content": "a"}]
    back_and_forth(toy, toy.declare(say="here"), toy.declare(say="there", extra_files=extra), part)


@pytest.mark.parametrize("part", [0, 1])
def test_upgrade_with_a_snapshot(toy, part):
    back_and_forth(toy, toy.declare("1.0.0", key="one"), toy.declare("2.0.0", key="two"), part)
    assert toy.host.read("/var/lib/toy/database") == "precious"


@pytest.mark.parametrize("part", [0, 1])
def test_a_change_that_fails(toy, part):
    """Killed on the way back: the next run goes on with that."""
    good, bad = toy.declare("1.0.0"), toy.declare("2.0.0", die=True, ruin=True)
    toy.host.module(good)
    state = toy.state()
    toy.host.start_module(bad, wrap=strace()).communicate()
    calls = traced(toy)
    for moment in some(calls[len(calls) // 2:], part, 2):
        killed_at(toy, bad, moment)
        toy.host.module(good)
        assert toy.state() == state
        assert toy.host.read("/var/lib/toy/database") == "precious"
        toy.serves("1.0.0")
        toy.clean()


def test_the_next_run_may_want_something_else(toy):
    """After a killed first installation nothing of it stands in the way of another declaration, or of a removal."""
    calls = undisturbed(toy, toy.declare())
    toy.absent(purge_data=True)
    blank = toy.state()
    for moment in some(calls)[3::4]:
        killed_at(toy, toy.declare(say="first", extra_files=[{"path": "/etc/toy/old", "content": ""}]), moment)
        toy.run(say="second")
        toy.serves(say="second")
        assert not toy.host.exists("/etc/toy/old")
        toy.clean()
        killed_at(toy, toy.declare("2.0.0", say="third"), moment)
        toy.absent(purge_data=True)
        assert toy.state() == blank and not toy.host.exists("/var/lib/aistack")
        killed_at(toy, toy.declare(say="first"), moment)
        toy.absent(purge_data=True)
        assert toy.state() == blank and not toy.host.exists("/var/lib/aistack")


def test_the_service_is_killed_as_well(toy):
    toy.run()
    calls = undisturbed(toy, toy.declare("2.0.0"))
    toy.run("1.0.0")
    for moment in some(calls)[-9::4]:
        killed_at(toy, toy.declare("2.0.0"), moment)
        toy.host.sh("systemctl kill -s KILL toy; systemctl stop toy", check=False)
        toy.run("2.0.0")
        toy.serves("2.0.0")
        toy.clean()
        toy.run("1.0.0")
