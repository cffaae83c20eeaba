# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records on the target: complete or not there at all."""

import os

import pytest
from ansible_collections.aistack.observability.plugins.module_utils.component import files, generations
from ansible_collections.aistack.observability.plugins.module_utils.component.errors import ComponentError

ME = (files.pwd.getpwuid(os.getuid()).pw_name, files.grp.getgrgid(os.getgid()).gr_name)
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="records belong to root")


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setattr(generations, "STATE_ROOT", str(tmp_path / "state"))
    monkeypatch.setattr(generations, "LOCK_ROOT", str(tmp_path / "lock"))
    toy = generations.Generations("toy")
    toy.prepare()
    return toy


def proven(toy, content=b"x", **manifest):
    wanted = [files.Wanted("/etc/toy", content, 0o640, *ME, False, "config")]
    generation = toy.store(toy.next_number(), manifest, wanted, [])
    toy.prove(generation)
    return generation


def test_store_prove_and_collect(toy):
    for turn in range(5):
        proven(toy, b"%d" % turn)
    toy.store(toy.next_number(), {}, [], [])
    os.makedirs(os.path.join(toy.root, "generations", "9.partial"))
    os.makedirs(toy.snapshot_folder(2))
    assert [item["generation"] for item in toy.collect()] == [3, 4, 5]
    assert sorted(os.listdir(os.path.join(toy.root, "generations"))) == ["3", "4", "5"]
    assert os.listdir(os.path.join(toy.root, "snapshots")) == []
    assert toy.proven().wanted()[0].content == b"4"


def test_what_was_there_before_is_remembered(toy, tmp_path):
    path = tmp_path / "foreign"
    path.write_text("somebody's")
    path.chmod(0o604)
    toy.store(1, {}, [], [files.Found(str(path))])
    found = toy.load(1).foreign()[str(path)]
    assert (found.content, found.mode) == (b"somebody's", 0o604)


def test_an_intent_without_its_generation(toy):
    assert toy.abandoned({"to": 7}).records() == {}


def test_a_damaged_record_says_so(toy):
    generation = proven(toy)
    with open(os.path.join(generation.folder, "manifest.json"), "w", encoding="utf-8") as handle:
        handle.write("{")
    with pytest.raises(ComponentError, match="generation 1 .* can't be read"):
        toy.proven()


def test_snapshot_and_back(toy, tmp_path):
    folder, file, later = tmp_path / "data", tmp_path / "file", tmp_path / "later"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_text("old")
    (folder / "deep" / "a").chmod(0o604)
    file.write_text("old")
    toy.take_snapshot(2, [str(folder), str(file), str(later)])
    (folder / "deep" / "a").write_text("new")
    (folder / "more").write_text("new")
    file.unlink()
    later.mkdir()
    inode = folder.stat().st_ino
    assert toy.restore_snapshot(2) == [str(folder), str(file), str(later)]
    assert (folder / "deep" / "a").read_text() == "old" and (folder / "deep" / "a").stat().st_mode & 0o777 == 0o604
    assert sorted(os.listdir(folder)) == ["deep"] and file.read_text() == "old" and not later.exists()
    assert folder.stat().st_ino == inode, "the folder may be a mount point"


def test_half_a_snapshot_is_none(toy, tmp_path):
    (tmp_path / "data").write_text("precious")
    toy.take_snapshot(2, [str(tmp_path / "data")])
    os.unlink(os.path.join(toy.snapshot_folder(2), "paths.json"))
    (tmp_path / "data").write_text("still")
    assert toy.restore_snapshot(2) == [] and (tmp_path / "data").read_text() == "still"


def test_forget_keeps_what_was_saved(toy):
    proven(toy)
    toy.intend({"to": 2})
    assert toy.recorded
    saved = toy.save_changed(files.Found.imagined("/etc/toy", b"by hand", 0o644, 0, 0))
    toy.forget()
    assert os.listdir(toy.root) == ["saved"] and not toy.recorded
    with open(saved, "rb") as handle:
        assert handle.read() == b"by hand"


def test_a_reader_makes_no_lock_and_a_family_is_found(toy):
    with toy.lock(reading=True):
        assert not os.path.exists(generations.LOCK_ROOT)
    with toy.lock():
        assert os.listdir(generations.LOCK_ROOT) == ["toy.lock"]
    for name in ("toy@b", "toy@a", "toys"):
        generations.Generations(name).prepare()
    assert generations.family("toy") == ["toy", "toy@a", "toy@b"]
