# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files: replaced in one step, compared, and shown without their secrets."""

import os

import pytest
from ansible_collections.aistack.observability.plugins.module_utils.component import files
from ansible_collections.aistack.observability.plugins.module_utils.component.errors import ComponentError

ME = (files.pwd.getpwuid(os.getuid()).pw_name, files.grp.getgrgid(os.getgid()).gr_name)


def test_write_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "it"
    path.write_text("old")
    files.write(str(path), b"new", 0o640, *ME)
    found = files.Found(str(path))
    assert found.content == b"new" and found.same_rights(0o640, *ME) and os.listdir(tmp_path) == ["it"]


def test_an_unknown_owner_changes_nothing(tmp_path):
    path = tmp_path / "it"
    path.write_text("old")
    with pytest.raises(ComponentError, match="no account 'nobody-of-this-name'"):
        files.write(str(path), b"new", 0o640, "nobody-of-this-name", ME[1])
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["it"]


def test_an_error_names_the_file_that_was_to_be_written(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        files.prepare(str(tmp_path / "missing" / "it"), b"", 0o600, *ME)
    assert caught.value.filename == str(tmp_path / "missing" / "it")


def test_only_the_own_component_is_swept(tmp_path):
    mine = files.prepare(str(tmp_path / "a"), b"", 0o600, *ME, component="toy")
    others = [files.prepare(str(tmp_path / "b"), b"", 0o600, *ME, component=name) for name in ("toy@x", "toys")]
    files.sweep_temporaries(str(tmp_path), "toy")
    assert not os.path.exists(mine) and all(os.path.exists(path) for path in others)


def test_unlink_spares_folders(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert not files.unlink(str(tmp_path / "folder")) and not files.unlink(str(tmp_path / "missing"))
    assert files.unlink(str(tmp_path / "link"))
    assert os.listdir(tmp_path) == ["folder"]


def test_link_replaces_in_one_step(tmp_path):
    for target in ("one", "two"):
        files.link(target, str(tmp_path / "current"))
        assert os.readlink(tmp_path / "current") == target
    assert os.listdir(tmp_path) == ["current"]


def test_difference():
    plain = files.difference("/a", b"old\n", b"new\n", False)
    assert (plain["before"], plain["after"]) == ("old\n", "new\n")
    secret = files.difference("/a", b"old\n", b"new\n", True)
    assert secret["before"] != secret["after"] and "old" not in str(secret) and "new" not in str(secret)
    assert files.difference("/a", None, b"x", False)["before_header"] == "/dev/null"
    assert "binary" in files.difference("/a", None, b"\xff\xfe", False)["after"]
    assert "bytes, sha256" in files.difference("/a", None, b"x" * (files.DIFF_LIMIT + 1), False)["after"]
