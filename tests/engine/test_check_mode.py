# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode promises what the run does, and touches nothing: the whole filesystem is compared."""


import pytest


def promise(toy, params):
    before = toy.host.listing()
    check = toy.host.module(params, check=True)
    assert toy.host.listing() == before
    result = toy.host.module(params)
    for part in ("plan", "diff", "changed"):
        assert check[part] == result[part]
    again = toy.host.module(params, check=True)
    assert not again["changed"] and again["plan"]["action"] == "none" and again["diff"] == []
    return check


def test_blank_change_upgrade_and_removal(toy):
    files = [{"path": "/etc/toy/rules/a.yml", "content": "a"}]
    check = promise(toy, toy.declare(extra_files=files))
    plan = check["plan"]
    assert plan["action"] == "install" and plan["service"] == "start" and plan["account"] == "toy"
    assert plan["directories"] == ["/etc/toy", "/var/lib/toy"]
    assert plan["files"]["create"] == ["/etc/aistack/credentials/toy/key", "/etc/systemd/system/toy.service",
                                       "/etc/toy/rules/a.yml", "/etc/toy/toy.json"]
    assert [need["file"] for need in check["needs"]] == ["toy-1.0.0.tar.gz"]
    assert promise(toy, toy.declare(say="other"))["plan"]["service"] == "reload"
    assert promise(toy, toy.declare("2.0.0"))["plan"]["action"] == "upgrade"
    assert promise(toy, toy.declare("1.0.0"))["needs"] == [], "a kept generation still has this program"
    toy.host.sh("echo hand >> /etc/toy/toy.json; chmod 0600 /etc/toy")
    assert promise(toy, toy.declare("1.0.0"))["plan"]["action"] == "mend"
    absent = dict(toy.declare(), state="absent", purge_data=True)
    assert promise(toy, absent)["plan"]["action"] == "remove"


@pytest.mark.parametrize("more", [{}, {"validate": [], "name": "toy@other", "account": {"user": "toy"}}])
def test_no_lock_or_folder_is_made(toy, more):
    before = toy.host.listing()
    toy.run(check=True, **more)
    assert toy.host.listing() == before and not toy.host.exists("/run/aistack")
