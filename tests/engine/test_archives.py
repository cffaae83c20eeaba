# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that are not what they must be: refused before anything that runs is touched."""

import pytest
import toy as toy_program

REFUSED = {
    "toy_wrong_checksum": ["pinned is " + "0" * 64, "wrong-checksum.tar.gz", "Nothing was unpacked", "_release"],
    "toy_truncated": ["truncated.tar.gz", "can't be unpacked"],
    "toy_missing_architecture": ["not pinned for the architecture amd64", "only for sparc64",
                                 "toy_missing_architecture_release"],
    "toy_mirror_down": ["can't be fetched from http://127.0.0.1:8099/not-there.tar.gz", "404", "observability_mirror"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_on_a_blank_host(toy, name):
    before = toy.host.listing()
    failure = toy.fails(release=toy.release(name, "3.0.0"))
    for words in REFUSED[name]:
        assert words in failure.msg
    toy.host.sh("rm -rf /run/aistack")
    assert toy.host.listing() == before


@pytest.mark.parametrize("name", REFUSED)
def test_refused_as_an_upgrade(toy, name):
    toy.run()
    with toy.untouched():
        failure = toy.fails(release=toy.release(name, "3.0.0"))
    assert REFUSED[name][0] in failure.msg


@pytest.mark.parametrize("name", toy_program.climbing())
def test_entries_that_climb_out(toy, name):
    """Not even the staging folder is left behind, and nothing lies outside of it."""
    before = toy.host.listing()
    failure = toy.fails(release=toy.release("toy_" + name, "6.6.6"))
    assert toy_program.climbing()[name][1] in failure.msg
    assert "climbing-%s.tar.gz" % name in failure.msg
    assert "Nothing that runs was touched" in failure.msg
    toy.host.sh("rm -rf /run/aistack")
    assert toy.host.listing() == before


def test_a_zip_that_climbs_out(toy):
    before = toy.host.listing()
    assert "climbs out" in toy.fails(release=toy.release("toy_zip_climbing", "6.6.6")).msg
    toy.host.sh("rm -rf /run/aistack")
    assert toy.host.listing() == before


def test_nobody_listens_at_the_mirror(toy):
    toy.run()
    release = toy.release(version="2.0.0")
    release["resolved"]["artefacts"]["any"]["url"] = "http://127.0.0.1:9/toy-2.0.0.tar.gz"
    with toy.untouched():
        failure = toy.fails(release=release)
    assert "http://127.0.0.1:9/toy-2.0.0.tar.gz" in failure.msg and "refused" in failure.msg


def test_the_tree_that_comes_of_an_archive(toy):
    toy.run()
    folder = toy.host.sh("readlink -f /opt/aistack/toy/current")
    listing = {path[len(folder) + 1:]: (entry[0], entry[3] if entry[0][0] == "l" else None)
               for path, entry in toy.host.listing([folder]).items()}
    assert listing == {
        "toy": ("-rwxr-xr-x", None), "toycheck": ("-rwxr-xr-x", None), "LICENSE": ("-rw-r--r--", None),
        "lib": ("drwxr-xr-x", None), "lib/libtoy.so.1": ("-rw-r--r--", None),
        "lib/libtoy.so": ("lrwxrwxrwx", "libtoy.so.1"), "libtoy.so": ("lrwxrwxrwx", "./lib/libtoy.so"),
    }


@pytest.mark.parametrize("name", ["toy_zip", "toy_binary"])
def test_other_formats(toy, name):
    toy.run(release=toy.release(name, "2.0.0"), validate=[])
    toy.serves("2.0.0")


def test_a_strict_umask_of_root_does_not_lock_the_service_out(toy):
    process = toy.host.start_module(toy.declare(), wrap=("sh", "-c", 'umask 077; exec "$@"', "sh"))
    toy.host.end_module(process)
    toy.serves()
