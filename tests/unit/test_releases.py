# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pins, overlay and mirror."""

import json

import pytest
from ansible_collections.aistack.observability.plugins.plugin_utils.releases import ReleaseError, Releases

SUM = "a" * 64
PINS = {
    "toy": {"pinned": "1.2.0", "url": "https://up.example/v{version}/toy-{version}.linux-{arch}.tar.gz", "strip": 1,
            "programs": ["toy"], "sha256": {"1.2.0": {"amd64": {"value": SUM}, "arm64": {"value": "b" * 64}},
                                            "1.1.0": {"amd64": {"value": "c" * 64, "url": "https://old.example/toy"}}}},
    "wheel": {"pinned": "2.0", "format": "wheel", "file": "wheel-{version}-py3-none-any.whl",
              "sha256": {"2.0": {"any": {"value": SUM}}}},
}


@pytest.fixture
def pins(tmp_path):
    path = tmp_path / "releases.yml"
    path.write_text(json.dumps(PINS))
    return str(path)


def test_the_pinned_version_is_the_default(pins):
    resolved = Releases(pins=pins).release({"name": "toy"})
    assert resolved["version"] == "1.2.0" and resolved["strip"] == 1 and resolved["format"] == "tar.gz"
    assert resolved["artefacts"]["arm64"] == {"url": "https://up.example/v1.2.0/toy-1.2.0.linux-arm64.tar.gz",
                                              "file": "toy-1.2.0.linux-arm64.tar.gz", "sha256": "b" * 64}


def test_an_older_version_may_have_an_address_of_its_own(pins):
    resolved = Releases(pins=pins).release({"name": "toy", "version": "1.1.0"})
    assert resolved["artefacts"]["amd64"]["url"] == "https://old.example/toy"


def test_a_version_that_is_not_pinned_names_those_that_are(pins):
    with pytest.raises(ReleaseError, match=r"toy 9 is not pinned .*1\.1\.0, 1\.2\.0.*toy_version.*toy_release"):
        Releases(pins=pins).release({"name": "toy", "version": "9"})


def test_where_no_sha256_is_known_the_user_gives_one(tmp_path):
    path = tmp_path / "pins.yml"
    path.write_text("toy: {pinned: '1.0', url: 'https://up.example/v{version}/toy.zip', sha256: {}}")
    with pytest.raises(ReleaseError, match=r"no sha256 of toy is known.*toy_release.*https://up\.example/v1\.0\)"):
        Releases(pins=str(path)).release({"name": "toy"})


def test_the_way_out_needs_all_three(pins):
    own = {"name": "toy", "version": "9", "url": "https://mine.example/toy-9.tar.gz", "sha256": SUM}
    resolved = Releases(pins=pins).release(own)
    assert resolved["artefacts"] == {"any": {"url": own["url"], "file": "toy-9.tar.gz", "sha256": SUM}}
    for missing in ("version", "url", "sha256"):
        with pytest.raises(ReleaseError, match="needs all of version, url and sha256"):
            Releases(pins=pins).release(dict(own, **{missing: ""}))


def test_a_web_mirror_changes_only_where_from(pins):
    releases = Releases(mirror="https://mirror.example/x/", pins=pins)
    artefact = releases.release({"name": "toy"})["artefacts"]["amd64"]
    assert artefact["url"] == "https://mirror.example/x/toy-1.2.0.linux-amd64.tar.gz" and artefact["sha256"] == SUM
    assert releases.wheel("wheel") == {"url": "https://mirror.example/x/wheel-2.0-py3-none-any.whl",
                                       "file": "wheel-2.0-py3-none-any.whl", "sha256": SUM}


def test_a_folder_mirror_is_handed_over(pins, tmp_path):
    releases = Releases(mirror=str(tmp_path), pins=pins)
    artefact = releases.release({"name": "toy"})["artefacts"]["amd64"]
    assert artefact["from_controller"] and releases.wheel("wheel")["from_controller"]
    with pytest.raises(ReleaseError, match="toy-1.2.0.linux-amd64.tar.gz is not in the mirror folder"):
        releases.obtain(artefact)
    (tmp_path / artefact["file"]).write_text("")
    assert releases.obtain(artefact) == str(tmp_path / artefact["file"])
    with pytest.raises(ReleaseError, match="neither a web address nor a folder"):
        Releases(mirror=str(tmp_path / "missing"), pins=pins)


def test_an_overlay_replaces_whole_entries(pins, tmp_path):
    overlay = tmp_path / "overlay.yml"
    overlay.write_text(json.dumps({"toy": dict(PINS["toy"], pinned="1.1.0"), "more": PINS["toy"]}))
    releases = Releases(overlay=str(overlay), pins=pins)
    assert releases.pinned("toy") == "1.1.0" and releases.pinned("wheel") == "2.0" and releases.pinned("more")
    with pytest.raises(ReleaseError, match="missing.yml can't be read"):
        Releases(overlay=str(tmp_path / "missing.yml"), pins=pins)


def test_an_unknown_name_lists_the_known(pins):
    with pytest.raises(ReleaseError, match="nothing is not in files/releases.yml .known: toy, wheel"):
        Releases(pins=pins).pinned("nothing")


def test_every_committed_pin_is_complete():
    releases = Releases()
    for name, entry in releases._entries.items():
        for version, sums in entry["sha256"].items():
            if entry.get("format") == "wheel":
                assert releases.wheel(name)["file"].endswith(".whl")
                continue
            for arch, artefact in releases.release({"name": name, "version": str(version)})["artefacts"].items():
                assert artefact["url"].startswith("https://") and len(artefact["sha256"]) == 64, (name, arch)
                assert int(artefact["sha256"], 16)
            assert sums
