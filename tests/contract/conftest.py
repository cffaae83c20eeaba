# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real checkers that the contract tests run."""

import os
import tarfile
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def promtool(tmp_path_factory):
    """promtool: the one that $PROMTOOL names, or the one in the test servers' archive of Prometheus."""
    if named := os.environ.get("PROMTOOL"):
        return named
    cache = Path(os.environ.get("AISTACK_CACHE") or Path.home() / ".cache/aistack-observability")
    archives = sorted((cache / "mirror").glob("prometheus-*.tar.gz"))
    if not archives:
        pytest.fail("there is no promtool: run `make servers`, or name one with PROMTOOL=/path/to/promtool")
    with tarfile.open(archives[-1]) as archive:
        member = next(member for member in archive if member.name.endswith("/promtool"))
        target = tmp_path_factory.mktemp("promtool") / "promtool"
        target.write_bytes(archive.extractfile(member).read())
    target.chmod(0o755)
    return str(target)


def _zipped(name, tmp_path_factory):
    """The program that $NAME names, or the one among the test servers' archives."""
    if named := os.environ.get(name.upper()):
        return named
    cache = Path(os.environ.get("AISTACK_CACHE") or Path.home() / ".cache/aistack-observability")
    archives = sorted((cache / "mirror").glob(f"{name}-*.zip"))
    if not archives:
        pytest.fail(f"there is no {name}: run `make servers`, or name one with {name.upper()}=/path/to/{name}")
    with zipfile.ZipFile(archives[-1]) as archive:
        (member,) = (member for member in archive.namelist() if member.startswith(name))
        target = Path(archive.extract(member, tmp_path_factory.mktemp(name)))
    target.chmod(0o755)
    return str(target)


@pytest.fixture(scope="session")
def lokitool(tmp_path_factory):
    return _zipped("lokitool", tmp_path_factory)


@pytest.fixture(scope="session")
def promtail(tmp_path_factory):
    return _zipped("promtail", tmp_path_factory)


@pytest.fixture(scope="session")
def alloy(tmp_path_factory):
    return _zipped("alloy", tmp_path_factory)
