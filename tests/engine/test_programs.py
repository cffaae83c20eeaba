# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other kinds of programs: a package of the distribution, and a Python environment from wheels."""

import os
import pathlib

import pytest

PACKAGE = "hello"
MIRROR = pathlib.Path(os.environ.get("AISTACK_CACHE") or "~/.cache/aistack-observability").expanduser() / "mirror"
EXPORTER = """
import sys, time
from prometheus_client import Gauge, start_http_server
Gauge("toy_answer", "what it says").set(float(sys.argv[1]))
start_http_server(7071, "127.0.0.1")
print("exporter starts", flush=True)
time.sleep(1e9)
"""


@pytest.fixture
def packages(host):
    """A host that reaches Debian's archive and doesn't have the package."""
    if host.sh("dpkg-query -W -f='${db:Status-Abbrev}' %s 2>/dev/null" % PACKAGE, check=False).startswith("ii"):
        host.sh("apt-get -q -y remove %s" % PACKAGE)
    if not host.sh("(apt-get update && apt-get -y --download-only install %s) >/dev/null 2>&1 && echo yes" % PACKAGE,
                   check=False):
        pytest.skip("this host doesn't reach Debian's archive")
    return host


def installed(host):
    return host.sh("dpkg-query -W -f='${db:Status-Abbrev}' %s 2>/dev/null" % PACKAGE, check=False).startswith("ii")


def packaged(**more):
    return dict({"name": "toy", "package": {"name": PACKAGE},
                 "files": [{"path": "/etc/toy/toy.json", "content": "{}"}],
                 "validate": [{"name": "hello", "argv": ["{program}/hello", "--greeting=ready"]}]}, **more)


def test_a_package(packages):
    host = packages
    host.sh("rm -rf /var/lib/apt/lists/*")
    check = host.module(packaged(), check=True)
    assert check["plan"]["action"] == "install" and not installed(host)
    result = host.module(packaged())
    assert installed(host) and "hello agrees" in result["steps"]
    assert not host.module(packaged())["changed"]
    changed = host.module(packaged(files=[{"path": "/etc/toy/toy.json", "content": "[]"}]))
    assert changed["plan"]["action"] == "change"
    host.sh("apt-get -q -y remove %s" % PACKAGE)
    assert host.module(packaged())["changed"] and installed(host)
    host.module(packaged(state="absent"))
    assert not installed(host) and not host.exists("/var/lib/aistack") and not host.exists("/etc/toy")


def test_a_package_that_was_there_stays(packages):
    host = packages
    host.sh("apt-get -q -y install %s" % PACKAGE)
    host.module(packaged())
    host.module(packaged(files=[]))
    host.module(packaged(state="absent"))
    assert installed(host)


def test_a_package_whose_checker_refuses_is_taken_back(packages):
    host = packages
    with pytest.raises(AssertionError) as caught:
        host.module(packaged(validate=[{"name": "hello", "argv": ["/bin/sh", "-c", "{program}/hello -t; exit 1"]}]))
    assert "hello refuses the new configuration" in str(caught.value)
    assert "The first installation was taken back" in str(caught.value)
    assert not installed(host) and not host.exists("/etc/toy") and not host.exists("/var/lib/aistack")


def environment(toy, answer="1", source=EXPORTER):
    wheels = {name: toy.releases.wheel(name) for name in ("pip", "prometheus_client")}
    return {
        "name": "toy", "account": {"user": "toy"},
        "python": {"name": "toy_exporter", "version": "1.2.3", "wheels": ["prometheus_client"], "resolved": {
            "version": "1.2.3", "pip": wheels["pip"], "wheels": {"prometheus_client": wheels["prometheus_client"]},
            "modules": {"toy_exporter/__init__.py": "", "toy_exporter/__main__.py": source}}},
        "unit": {"description": "Test exporter",
                 "exec": ["{program}/bin/python", "-m", "toy_exporter", answer]},
        "answers": {"within": 20, "questions": [{"url": "http://127.0.0.1:7071/metrics",
                                                 "matches": "^toy_answer " + answer}]},
    }


@pytest.fixture
def wheels(toy):
    files = list(MIRROR.glob("*.whl")) if MIRROR.is_dir() else []
    if not any(path.name.startswith("prometheus_client-") for path in files):
        pytest.skip("no wheels in %s: run tests/servers/servers.py build" % MIRROR)
    toy.host.put({"/srv/mirror/" + path.name: path.read_bytes() for path in files})
    return toy


def test_a_python_environment(wheels):
    toy = wheels
    toy.host.module(environment(toy))
    assert "toy_answer 1.0" in toy.host.ask("/metrics", 7071)
    listing = toy.host.listing(["/opt/aistack"])
    assert not toy.host.module(environment(toy))["changed"]
    restarted = toy.host.module(environment(toy, "2"))
    assert restarted["plan"]["service"] == "restart" and restarted["plan"]["to"] == "1.2.3"
    assert toy.host.listing(["/opt/aistack"]) == listing, "a new command line needs no new environment"
    rebuilt = toy.host.module(environment(toy, "2", EXPORTER + "\n"))
    assert rebuilt["plan"]["action"] == "rebuild"
    broken = environment(toy, "2", "raise SystemExit('exporter: broken')")
    with pytest.raises(AssertionError, match="exporter: broken"):
        toy.host.module(broken)
    assert "toy_answer 2.0" in toy.host.ask("/metrics", 7071)
    toy.host.module(dict(environment(toy), state="absent", purge_data=True))
    assert not toy.host.exists("/opt/aistack")


def test_a_wheel_with_another_checksum(wheels):
    toy = wheels
    params = environment(toy)
    params["python"]["resolved"]["wheels"]["prometheus_client"]["sha256"] = "0" * 64
    before = toy.state()
    with pytest.raises(AssertionError, match="the wheel prometheus_client: the sha256 of"):
        toy.host.module(params)
    assert toy.state() == before
