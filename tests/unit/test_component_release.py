# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacking: what may be in an archive, and what refuses it whole."""

import io
import tarfile

import pytest
from ansible_collections.aistack.observability.plugins.module_utils.component import release
from ansible_collections.aistack.observability.plugins.module_utils.component.errors import ComponentError


@pytest.mark.parametrize("link, points_at, allowed", [
    ("/f/lib/a.so", "a.so.1", True), ("/f/lib/a.so", "../b/a.so", True), ("/f/a.so", "./lib/a.so", True),
    ("/f/a", "..", False), ("/f/a", "../f2/x", False), ("/f/lib/a", "../../x", False), ("/f/a", "/f/b", False),
    ("/f/a", "lib/../../x", False), ("/f/a", "lib/../b", False), ("/f/lib/a", "..", True), ("/f/a", "", True),
])
def test_symbolic_links(link, points_at, allowed):
    assert release._stays_inside(link, points_at, "/f") is allowed


@pytest.mark.parametrize("name, strip, target", [
    ("top/a", 1, "/f/a"), ("./top/a", 1, "/f/a"), ("top/", 1, None), ("a", 0, "/f/a"), ("top//b/./c", 1, "/f/b/c"),
])
def test_where_an_entry_goes(name, strip, target):
    assert release._inside(name, "/f", strip, "x.tar.gz") == target


@pytest.mark.parametrize("name", ["../a", "top/../../a", "/a", "top/..", "a\\b", "a\0b"])
def test_entries_that_climb(name):
    with pytest.raises(ComponentError, match="x.tar.gz is refused"):
        release._inside(name, "/f", 1, "/tmp/x.tar.gz")


def test_special_bits_are_dropped_and_modes_made_plain(tmp_path):
    archive, folder = tmp_path / "x.tar.gz", tmp_path / "out"
    folder.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        for name, mode in (("run", 0o6755), ("read", 0o666)):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = mode, 1
            tar.addfile(entry, io.BytesIO(b"x"))
    release.unpack(str(archive), str(folder), "tar.gz", 0, [])
    assert [(folder / name).stat().st_mode & 0o7777 for name in ("run", "read")] == [0o755, 0o644]


@pytest.mark.parametrize("form, content", [
    ("tar.gz", b"no archive"), ("tar.gz", b"\x1f\x8b\x08\x00" + b"x" * 50), ("zip", b"no archive"), ("tar.gz", b"")])
def test_no_archive_at_all(tmp_path, form, content):
    archive = tmp_path / "x"
    archive.write_bytes(content)
    with pytest.raises(ComponentError, match="x can't be unpacked"):
        release.unpack(str(archive), str(tmp_path), form, 0, [])


def test_a_program_is_intact_until_a_file_changes(tmp_path):
    (tmp_path / "run").write_text("x")
    record = {"folder": str(tmp_path), "entries": release.inventory(str(tmp_path))}
    assert release.intact(record)
    (tmp_path / "run").write_text("y!")
    assert not release.intact(record)
    (tmp_path / "run").unlink()
    assert not release.intact(record)
