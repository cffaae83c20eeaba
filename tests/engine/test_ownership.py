# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is ours is mended and removed; what isn't is refused by name, saved or left alone."""

import pytest


def test_a_file_of_ours_changed_by_hand_is_saved_and_mended(toy):
    toy.run()
    toy.host.sh("echo '{\"say\": \"by hand\"}' > /etc/toy/toy.json")
    result = toy.run()
    assert result["plan"]["action"] == "mend"
    assert any("/etc/toy/toy.json was changed by hand" in note for note in result["plan"]["notes"])
    saved = toy.host.sh("find /var/lib/aistack/toy/saved -type f")
    assert saved.endswith("/etc/toy/toy.json") and "by hand" in toy.host.read(saved)
    assert any(saved in step for step in result["steps"])
    toy.serves(say="hello")
    assert not toy.run()["changed"]


def test_a_mode_changed_by_hand(toy):
    toy.run()
    state, pid = toy.state(), toy.host.pid()
    toy.host.sh("chmod 0666 /etc/toy/toy.json; chown nobody /etc/aistack/credentials/toy/key; chmod 0777 /var/lib/toy")
    result = toy.run()
    assert result["plan"]["files"]["rights"] == ["/etc/aistack/credentials/toy/key", "/etc/toy/toy.json"]
    assert result["plan"]["directories"] == ["/var/lib/toy"] and result["plan"]["service"] == "none"
    assert toy.state() == state and toy.host.pid() == pid
    assert not toy.run()["changed"]


def test_a_damaged_program_is_mended(toy):
    toy.run()
    folder = toy.host.sh("readlink -f /opt/aistack/toy/current")
    toy.host.sh("echo 'exit 1' > %s/toycheck" % folder)
    result = toy.run()
    assert result["plan"]["action"] == "mend" and result["plan"]["service"] == "restart"
    assert "json" in toy.host.read("/opt/aistack/toy/current/toycheck")
    toy.serves()
    assert not toy.run()["changed"]
    toy.host.sh("rm -rf /opt/aistack/toy")
    assert toy.run()["plan"]["action"] == "mend"
    toy.serves()


def test_a_unit_stopped_or_disabled_by_the_user(toy):
    toy.run()
    toy.host.sh("systemctl stop toy")
    result = toy.run()
    assert (result["plan"]["action"], result["plan"]["service"]) == ("start", "start")
    toy.serves()
    toy.host.sh("systemctl disable toy")
    assert toy.run()["plan"]["enable"]
    assert toy.host.sh("systemctl is-enabled toy") == "enabled"


def test_user_drop_ins_are_respected(toy):
    toy.run()
    toy.host.write("/etc/systemd/system/toy.service.d/mine.conf", "[Service]\nEnvironment=EXTRA=dropped-in\n")
    toy.run("2.0.0")
    toy.serves("2.0.0", extra="dropped-in")
    toy.absent(purge_data=True)
    assert toy.host.exists("/etc/systemd/system/toy.service.d/mine.conf")


@pytest.mark.parametrize("path", ["/etc/toy/toy.json", "/etc/systemd/system/toy.service",
                                  "/usr/lib/systemd/system/toy.service"])
def test_what_is_not_ours_is_refused_by_name(toy, path):
    toy.host.write(path, "[Service]\nExecStart=/bin/sleep 1000\n")
    toy.host.sh("systemctl daemon-reload")
    before = toy.state()
    failure = toy.fails()
    for words in (path.replace("/usr/lib", "/lib"), "isn't ours", "toy_adopt"):
        assert words in failure.msg
    assert toy.state() == before


def test_adopt_saves_and_replaces(toy):
    toy.host.write("/etc/toy/toy.json", "somebody's")
    toy.host.write("/usr/lib/systemd/system/toy.service", "[Service]\nExecStart=/bin/sleep 1000\n")
    toy.host.sh("systemctl daemon-reload; systemctl start toy")
    toy.run(adopt=True)
    toy.serves()
    saved = toy.host.sh("find /var/lib/aistack/toy/saved -type f")
    assert toy.host.read(saved) == "somebody's"
    again = toy.run(adopt=True)
    assert not again["changed"], str(again["plan"])


def test_an_adoption_that_fails_gives_back(toy):
    toy.host.write("/etc/toy/toy.json", "somebody's")
    toy.host.write("/etc/systemd/system/toy.service",
                   "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n")
    toy.host.sh("chmod 0604 /etc/toy/toy.json; chown nobody /etc/toy/toy.json; systemctl daemon-reload;"
                " systemctl enable --now toy")
    before = toy.state()
    failure = toy.fails(adopt=True, die=True, snapshot=[], directories=[{"path": "/etc/toy", "kind": "config"}])
    assert "The first installation was taken back" in failure.msg
    after = toy.state()
    assert {path: entry for path, entry in after.items() if path in before} == before
    assert toy.host.active() and toy.host.sh("systemctl show -p ExecStart toy | grep -c /bin/sleep") == "1"


def test_a_first_install_that_fails_gives_folders_their_rights_back(toy):
    """Somebody else's program may live on in them."""
    toy.host.sh("mkdir -m 0755 /etc/toy /var/lib/toy && chown nobody /var/lib/toy && touch /var/lib/toy/theirs")
    before = toy.state()
    toy.fails(die=True)
    after = toy.state()
    for path in ("/etc/toy", "/var/lib/toy", "/var/lib/toy/theirs"):
        assert after[path] == before[path]
    toy.run()
    assert toy.host.sh("stat -c %a:%U /etc/toy /var/lib/toy").split() == ["750:root", "750:toy"]


def test_a_change_that_fails_gives_a_new_folder_its_rights_back(toy):
    toy.run()
    toy.host.sh("mkdir -m 0755 /srv/toy")
    folders = toy.declare()["directories"] + [{"path": "/srv/toy", "kind": "data"}]
    before = toy.state()
    toy.fails(die=True, directories=folders)
    assert toy.state() == before
    toy.serves()
    toy.clean()


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_unit_that_was_deleted_by_hand(toy, forgotten):
    """While it runs; with a daemon-reload systemd knows that it is gone."""
    for again in (toy.absent, toy.run):
        toy.run()
        toy.host.sh("rm /etc/systemd/system/toy.service" + ("; systemctl daemon-reload" if forgotten else ""))
        again()
    toy.serves()
    assert not toy.run()["changed"]
    toy.absent()
    assert not toy.host.active() and not toy.host.exists("/etc/systemd/system/multi-user.target.wants/toy.service")


def test_a_link_or_directory_in_our_place_is_refused(toy):
    toy.host.sh("mkdir -p /etc/toy/toy.json")
    assert "/etc/toy/toy.json exists and is no regular file (directory)" in toy.fails().msg
    toy.host.sh("rmdir /etc/toy/toy.json; ln -s /etc/passwd /etc/toy/toy.json")
    before = toy.host.read("/etc/passwd")
    assert "is no regular file (link)" in toy.fails(adopt=True).msg
    assert toy.host.read("/etc/passwd") == before


def test_stale_files_go_and_those_of_others_stay(toy):
    extra = [{"path": "/etc/toy/rules/a.yml", "content": "a"}, {"path": "/etc/toy/rules/b.yml", "content": "b"},
             {"path": "/etc/toy/lonely/c.yml", "content": "c"}]
    toy.run(extra_files=extra)
    toy.host.write("/etc/toy/rules/mine.yml", "the user's own")
    toy.host.sh("echo changed > /etc/toy/rules/b.yml")
    result = toy.run(extra_files=[])
    assert result["plan"]["files"]["remove"] == sorted(entry["path"] for entry in extra)
    assert toy.host.sh("ls /etc/toy /etc/toy/rules") == "/etc/toy:\nrules\ntoy.json\n\n/etc/toy/rules:\nmine.yml"
    assert toy.host.read(toy.host.sh("find /var/lib/aistack/toy/saved -type f")) == "changed"


def test_a_folder_in_the_place_of_a_stale_file_is_left_alone(toy):
    toy.run(extra_files=[{"path": "/etc/toy/extra", "content": "a"}])
    toy.host.sh("rm /etc/toy/extra; mkdir /etc/toy/extra; echo precious > /etc/toy/extra/mine")
    toy.run(extra_files=[])
    toy.absent()
    assert toy.host.read("/etc/toy/extra/mine") == "precious"


def test_a_unit_that_is_no_longer_declared(toy):
    toy.run()
    result = toy.run(unit=None, answers=None, key=None)
    assert result["plan"]["service"] == "stop"
    assert not toy.host.active() and not toy.host.exists("/etc/systemd/system/toy.service")
    assert not toy.host.exists("/etc/systemd/system/multi-user.target.wants/toy.service")
    toy.run()
    toy.serves()


def test_removal_leaves_kept_data_and_its_owner_and_purge_takes_them(toy):
    blank = toy.state()
    toy.run(extra_files=[{"path": "/etc/toy/rules/a.yml", "content": "a"}])
    result = toy.absent()
    assert result["changed"] and result["plan"]["action"] == "remove" and result["plan"]["service"] == "stop"
    assert result["plan"]["data"] == "kept: /var/lib/toy"
    after = toy.state()
    assert {path for path in after if path not in blank} == {"/var/lib/toy"}
    assert toy.host.sh("stat -c %U:%G /var/lib/toy") == "toy:toy"
    assert not toy.host.exists("/var/lib/aistack") and not toy.host.active()
    assert not toy.absent()["changed"]
    purge = toy.absent(purge_data=True)
    assert purge["changed"] and purge["plan"]["data"] == "purged: /var/lib/toy"
    assert toy.state() == blank
    assert toy.host.sh("getent passwd toy; getent group toy", check=False) == ""
    assert not toy.absent(purge_data=True)["changed"]


def test_data_that_was_there_before_is_found_again(toy):
    toy.run()
    toy.absent()
    toy.host.sh("echo older > /var/lib/toy/database")
    toy.run()
    assert toy.host.read("/var/lib/toy/database") == "older"


def test_an_account_that_is_not_ours_outlives_a_purge(toy):
    toy.host.sh("useradd --system toy")
    toy.run()
    toy.absent(purge_data=True)
    assert toy.host.sh("getent passwd toy")
    assert not toy.host.exists("/var/lib/toy")


def test_data_moved_to_another_disk_by_a_link(toy):
    toy.host.sh("useradd --system toy; mkdir -p /srv/toy-disk/toy; ln -s /srv/toy-disk/toy /var/lib/toy")
    toy.run(snapshot=[])
    toy.serves()
    assert toy.host.read("/srv/toy-disk/toy/database") == "precious"
    assert not toy.run(snapshot=[])["changed"]
    toy.absent(purge_data=True)
    assert not toy.host.exists("/var/lib/toy") and not toy.host.exists("/srv/toy-disk/toy")


def member(toy, name, port):
    script = "import http.server; http.server.HTTPServer(('127.0.0.1', %d), http.server.SimpleHTTPRequestHandler)" \
             ".serve_forever()" % port
    return {"name": name, "account": {"user": "toy"},
            "unit": {"description": "Member", "exec": ["/usr/bin/python3", "-c", script],
                     "service": {"WorkingDirectory": "/etc"}},
            "answers": {"questions": [{"url": "http://127.0.0.1:%d/" % port}]}}


def test_a_family_and_its_members(toy):
    names = ["toy", "toy@a", "toy@b.c"]
    for number, name in enumerate(names):
        toy.host.module(member(toy, name, 7071 + number))
    everyone = {"family": "toy", "state": "absent", "except_names": ["toy", "toy@b.c"]}
    check = toy.host.module(everyone, check=True)
    assert check["changed"] and [plan["component"] for plan in check["plans"]] == ["toy@a"]
    result = toy.host.module(everyone)
    assert [plan["component"] for plan in result["plans"]] == ["toy@a"] and result["steps"]
    assert [toy.host.active(name + ".service") for name in names] == [True, False, True]
    assert toy.host.sh("getent passwd toy"), "its siblings still run as this user"
    assert not toy.host.module(everyone)["changed"]
    toy.host.module({"family": "toy", "state": "absent"})
    assert not any(toy.host.active(name + ".service") for name in names)
    assert not toy.host.sh("getent passwd toy", check=False) and not toy.host.exists("/var/lib/aistack")
