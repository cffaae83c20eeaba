# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Through ansible-playbook and the action plugin: hand-over from a folder, check mode, what is printed."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECRET = "brass needle {{ 'not' }} a template"


class Play:
    def __init__(self, toy, folder, mirror):
        self.toy = toy
        self.folder = folder
        self.inventory = folder / "hosts.yml"
        self.inventory.write_text(json.dumps({"all": {"hosts": {"target": {
            "ansible_host": toy.host.name, "ansible_connection": "community.docker.docker",
            "ansible_python_interpreter": "/usr/bin/python3",
            "observability_releases_overlay": str(mirror / "releases.yml"),
            "observability_mirror": str(mirror)}}}}))

    def __call__(self, params, *options, expect=0):
        params = {key: value for key, value in params.items() if value is not None}
        if params.get("release"):
            params["release"] = {key: value for key, value in params["release"].items() if key != "resolved"}
        # A template of Ansible's would spoil the secret: it comes as the roles hand it over, from a variable.
        for entry in params.get("files", []):
            if entry.get("credential"):
                entry["content"] = "{{ secret }}"
        (self.folder / "ansible.cfg").touch()
        playbook = self.folder / "play.json"
        playbook.write_text(json.dumps([{
            "hosts": "all", "gather_facts": False, "vars": {"secret": {"__ansible_unsafe": SECRET}},
            "tasks": [{"name": "Toy", "aistack.observability.component": params}]}]))
        environment = dict(os.environ, ANSIBLE_CONFIG=str(self.folder / "ansible.cfg"), ANSIBLE_NOCOLOR="1",
                           ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".collections"), ANSIBLE_PIPELINING="1",
                           ANSIBLE_LOCAL_TEMP=str(self.folder / "tmp"))
        done = subprocess.run([str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.inventory),
                               str(playbook), *options], cwd=ROOT, env=environment, capture_output=True, text=True,
                              check=False, timeout=300)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == bool(expect), output
        assert "brass needle" not in output
        return output


@pytest.fixture
def play(toy, tmp_path, mirror):
    return Play(toy, tmp_path, mirror)


def test_the_life_of_a_component(play):
    toy = play.toy
    toy.host.sh("systemctl stop mirror; systemctl reset-failed mirror 2>/dev/null || true")
    toy.host.sh("mkdir -p -m 0700 /root/.ansible/tmp")
    try:
        before = toy.state()
        output = play(toy.declare(), "--check", "--diff")
        assert "changed=1" in output and "+++ after: /etc/toy/toy.json" in output and toy.state() == before
        output = play(toy.declare(), "-vvv")
        assert "handing over toy-1.0.0.tar.gz" in output and "toy: install 1.0.0, then asking" in output
        toy.serves(key=SECRET)
        assert "changed=0" in play(toy.declare())
        output = play(toy.declare("2.0.0"), "--diff")
        assert "handing over toy-2.0.0.tar.gz" in output and "+program 2.0.0" in output
        toy.serves("2.0.0")
        # what a failure looks like, and that it leaves the old program serving
        with toy.untouched():
            output = play(toy.declare("2.0.0", refused=True), expect=2)
            assert "toycheck: refused is set in /etc/toy/toy.json" in output
        assert "changed=1" in play(dict(toy.declare(), state="absent", purge_data=True))
        assert toy.state() == before
        assert not toy.host.sh("find /root/.ansible/tmp -mindepth 1", check=False), "nothing handed over is left behind"
    finally:
        toy.host.sh("systemd-run --quiet --unit=mirror python3 -m http.server --bind 127.0.0.1 --directory /srv/mirror "
                    "8099; sleep 0.3")


@pytest.mark.parametrize("release, words", [
    ({"name": "toy", "version": "9.9.9"}, ["toy 9.9.9 is not pinned", "pinned: 1.0.0, 2.0.0", "toy_version"]),
    ({"name": "no_such_program"}, ["no_such_program is not in files/releases.yml"]),
    ({"name": "toy", "version": "9.9.9", "url": "https://example.invalid/a.tar.gz"},
     ["needs all of version, url and sha256"]),
    ({"name": "toy_mirror_down"}, ["not-there.tar.gz is not in the mirror folder"]),
])
def test_what_can_not_be_resolved(play, release, words):
    before = play.toy.state()
    output = " ".join(play(dict(play.toy.declare(), release=release), expect=2).split())
    for part in words:
        assert part in output
    assert play.toy.state() == before
