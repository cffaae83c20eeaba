# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway host a worker, and the component module run on it: straight through `docker exec`, for the start of
Ansible would cost more than what is tested. What the action plugin adds is tested by playbooks of its own."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

import ansible.module_utils
import pytest
from ansible_collections.aistack.observability.plugins.plugin_utils.releases import Releases

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import toy as toy_program  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = [sys.executable, str(ROOT / "tests" / "servers" / "host.py")]
RELEASE = os.environ.get("AISTACK_RELEASE", "bookworm")
ENGINE = "/srv/engine"
MIRROR_PORT = 8099
MODULE = "ansible_collections.aistack.observability.plugins.modules.component"

RUNNER = """
import importlib, json, sys
sys.path.insert(0, "%s")
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = sys.stdin.buffer.read()
basic._ANSIBLE_PROFILE = "legacy"
importlib.import_module("%s").main()
""" % (ENGINE, MODULE)

# Everything that is on the host, but for what lives by itself.
LISTING = """
import hashlib, json, os, stat, sys
roots, skip = json.loads(sys.argv[1]), tuple(json.loads(sys.argv[2]))
result = {}
def note(path):
    info = os.lstat(path)
    entry = [stat.filemode(info.st_mode), info.st_uid, info.st_gid]
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as handle:
            entry.append(hashlib.sha256(handle.read()).hexdigest())
    elif stat.S_ISLNK(info.st_mode):
        entry.append(os.readlink(path))
    result[path] = entry
for root in roots:
    for here, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not os.path.join(here, name).startswith(skip)]
        for name in folders + names:
            path = os.path.join(here, name)
            if not path.startswith(skip):
                note(path)
json.dump(result, sys.stdout)
"""
LIVES_BY_ITSELF = ["/proc", "/sys", "/dev", "/var/log", "/var/lib/systemd", "/run/systemd", "/run/log", "/run/udev",
                   "/run/user", "/run/dbus", "/run/lock/", "/run/credentials", "/usr/bin", "/usr/lib", "/usr/share",
                   "/tmp/systemd-private-", "/var/tmp/systemd-private-", ENGINE]


class Failed(AssertionError):
    """The module failed; ``result`` is what it said."""

    def __init__(self, result):
        super().__init__(result.get("msg"))
        self.result = result
        self.msg = result.get("msg", "")


class Host:
    """A throwaway host and what the tests do on it."""

    runner = RUNNER

    def __init__(self, identity, name):
        self.identity = identity
        self.name = name

    def sh(self, command, check=True, text_in=None):
        done = subprocess.run(["docker", "exec", "-i", self.identity, "sh", "-c", command], input=text_in,
                              capture_output=True, text=True, check=False, timeout=300)
        if check and done.returncode:
            raise AssertionError("%s: %s" % (command, done.stderr or done.stdout))
        return done.stdout.strip()

    def put(self, tree):
        """Copy *tree*, {path: bytes}, onto the host."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for path, content in tree.items():
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
        subprocess.run(["docker", "exec", "-i", self.identity, "tar", "-x", "-C", "/"], input=buffer.getvalue(),
                       check=True, timeout=120)

    def write(self, path, content):
        self.put({path: content.encode()})

    def start_module(self, params, check=False, diff=True, wrap=()):
        arguments = dict({key: value for key, value in params.items() if value is not None},
                         _ansible_check_mode=check, _ansible_diff=diff)
        process = subprocess.Popen(["docker", "exec", "-i", self.identity, *wrap, "python3", "-B", "-c", RUNNER],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        process.stdin.close()
        process.stdin = None
        return process

    @staticmethod
    def end_module(process):
        out, errors = process.communicate(timeout=300)
        try:
            result = json.loads(out.decode().strip().splitlines()[-1])
        except (IndexError, ValueError):
            raise AssertionError("the module died: %s%s" % (out.decode(), errors.decode())) from None
        result.pop("invocation", None)
        if result.get("failed"):
            raise Failed(result)
        return result

    def module(self, params, **options):
        return self.end_module(self.start_module(params, **options))

    def listing(self, roots=("/",), skip=()):
        text = subprocess.run(["docker", "exec", self.identity, "python3", "-B", "-c", LISTING, json.dumps(roots),
                               json.dumps(LIVES_BY_ITSELF + list(skip))], capture_output=True, check=True).stdout
        return json.loads(text)

    def ask(self, path="/", port=toy_program.PORT):
        """What the toy answers, None where nothing does."""
        text = self.sh("curl -s --max-time 5 http://127.0.0.1:%d%s" % (port, path), check=False)
        return json.loads(text) if text.startswith("{") else text or None

    def exists(self, path):
        return self.sh("test -e %s -o -L %s && echo yes" % (path, path), check=False) == "yes"

    def read(self, path):
        return self.sh("cat '%s'" % path)

    def active(self, unit="toy.service"):
        return self.sh("systemctl is-active %s" % unit, check=False) == "active"

    def pid(self, unit="toy.service"):
        return self.sh("systemctl show -p MainPID --value %s" % unit)


def code():
    """module_utils of the Ansible that runs the tests, and the collection's own code."""
    tree = {ENGINE + "/ansible/__init__.py": b""}
    base = pathlib.Path(ansible.module_utils.__file__).parent
    for folder, place in ((base, "ansible/module_utils"),
                          (ROOT / "plugins" / "modules", "ansible_collections/aistack/observability/plugins/modules"),
                          (ROOT / "plugins" / "module_utils",
                           "ansible_collections/aistack/observability/plugins/module_utils")):
        for path in folder.rglob("*.py"):
            tree["%s/%s/%s" % (ENGINE, place, path.relative_to(folder))] = path.read_bytes()
    return tree


@pytest.fixture(scope="session")
def mirror(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirror")
    toy_program.write_mirror(folder)
    return folder


@pytest.fixture(scope="session")
def session_host(mirror):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    made = subprocess.run(HOST + ["up", "engine-" + worker, "--release", RELEASE], capture_output=True, text=True,
                          check=False)
    if made.returncode:
        pytest.fail(made.stderr)
    facts = json.loads(made.stdout)
    try:
        host = Host(facts["id"], facts["name"])
        host.put(code())
        host.put({"/srv/mirror/" + path.name: path.read_bytes() for path in mirror.iterdir()})
        host.sh("systemd-run --quiet --unit=mirror python3 -m http.server --bind 127.0.0.1 --directory /srv/mirror %d"
                % MIRROR_PORT)
        host.sh("python3 -m compileall -q %s" % ENGINE)
        host.sh("for _ in $(seq 100); do curl -s -o /dev/null http://127.0.0.1:%d/ && exit; sleep 0.05; done; exit 1"
                % MIRROR_PORT)
        yield host
    finally:
        subprocess.run(HOST + ["down", facts["id"]], check=False, capture_output=True)


@pytest.fixture
def host(session_host):
    """The worker's host, without any component before and after."""
    _blank(session_host)
    yield session_host
    _blank(session_host)


def _blank(host):
    host.sh("""
        systemctl disable --now --quiet 'toy*.service' 2>/dev/null
        for unit in stranger $(systemctl list-units --plain --no-legend 'toy*' | cut -d' ' -f1); do
            systemctl stop --quiet $unit 2>/dev/null; done
        for place in /opt/aistack /etc/toy /var/lib/aistack; do
            while mountpoint -q $place; do umount $place; done; done
        rm -rf /etc/systemd/system/toy* /etc/systemd/system/*.wants/toy* /usr/lib/systemd/system/toy* \
            /etc/toy* /var/lib/toy* /srv/toy* /opt/aistack /var/lib/aistack /etc/aistack /run/aistack /root/outside
        userdel toy 2>/dev/null; groupdel toy 2>/dev/null
        systemctl daemon-reload; systemctl reset-failed; true""")


class Toy:
    """The toy as a component: :meth:`declare` makes the parameters as the action plugin hands them over."""

    def __init__(self, host, mirror):
        self.host = host
        self.releases = Releases(overlay=str(mirror / "releases.yml"), mirror="http://127.0.0.1:%d" % MIRROR_PORT)

    def release(self, name="toy", version="1.0.0"):
        spec = {"name": name, "version": version}
        return dict(spec, resolved=self.releases.release(spec))

    def declare(self, version="1.0.0", key="open sesame", within=10, **more):
        """Keywords that are no parameters of the module go into toy's configuration."""
        parameters = {
            "name": "toy", "release": self.release(version=version), "account": {"user": "toy"},
            "directories": [{"path": "/etc/toy", "kind": "config"}, {"path": "/var/lib/toy", "kind": "data"}],
            "validate": [{"name": "toycheck", "argv": ["{program}/toycheck", "/etc/toy/toy.json"]}],
            "unit": {"description": "Test program", "exec": ["{program}/toy", "/etc/toy/toy.json"]},
            "apply": {"reload": "SIGHUP", "reload_paths": ["/etc/toy/*"], "reload_metric": {
                "url": "http://127.0.0.1:7070/metrics", "success": "toy_good", "time": "toy_loaded_seconds"}},
            "snapshot": ["/var/lib/toy"],
            "answers": {"within": within, "questions": [{"url": "http://127.0.0.1:7070/", "matches": '"version"'}]},
        }
        given = {name: more.pop(name) for name in list(more)
                 if name in PARAMETERS or name in ("files", "extra_files", "directories")}
        extra = given.pop("extra_files", [])
        configuration = json.dumps(dict({"say": "hello"}, **more), sort_keys=True)
        parameters["files"] = [{"path": "/etc/toy/toy.json", "content": configuration}] + extra
        if key is not None:
            parameters["files"].append({"credential": "key", "content": key})
        parameters.update(given)
        return parameters

    def run(self, *arguments, check=False, **more):
        return self.host.module(self.declare(*arguments, **more), check=check)

    def fails(self, *arguments, **more):
        """Run what must fail; its message and result."""
        with pytest.raises(Failed) as caught:
            self.run(*arguments, **more)
        return caught.value

    def absent(self, check=False, **more):
        return self.host.module(dict(self.declare(), state="absent", **more), check=check)

    def serves(self, version="1.0.0", **expected):
        answer = self.host.ask()
        assert answer and answer["version"] == version, answer
        for name, value in expected.items():
            assert answer[name] == value, answer
        return answer

    def state(self):
        """What there is of the component, the engine's own records aside."""
        return self.host.listing(["/etc", "/opt", "/var/lib", "/usr/local", "/root", "/srv"], skip=[
            "/srv/mirror", "/var/lib/aistack", "/etc/passwd-", "/etc/group-", "/etc/shadow", "/etc/gshadow",
            "/etc/subuid", "/etc/subgid", "/etc/.pwd.lock", "/var/lib/toy/database"])

    @contextlib.contextmanager
    def untouched(self):
        """Whatever happens inside: the host is as before, and the same process still serves."""
        before, pid, answer = self.state(), self.host.pid(), self.host.ask()
        yield
        assert self.state() == before
        assert self.host.pid() == pid
        assert self.host.ask() == answer
        self.clean()

    def clean(self):
        """No trace of an unfinished run: no intent, stage, temporary file, half generation or unnamed program."""
        found = self.host.sh(
            "find /var/lib/aistack /etc /opt/aistack \\( -name '.aistack-*' -o -name intent.json -o -name stage"
            " -o -name '*.partial' -o -name '*.leaving' -o -name .incoming \\) 2>/dev/null", check=False)
        assert not found, found
        folders = self.host.sh("cd /opt/aistack/toy 2>/dev/null && ls -d [0-9]*", check=False).split()
        named = self.host.sh("cat /var/lib/aistack/toy/generations/*/manifest.json 2>/dev/null | grep '\"folder\"'",
                             check=False)
        assert all(folder + '"' in named for folder in folders), (folders, named)


PARAMETERS = {"name", "family", "except_names", "state", "purge_data", "adopt", "release", "python", "package",
              "account", "validate", "unit", "apply", "watches", "snapshot", "answers", "silence"}


@pytest.fixture
def toy(host, mirror):
    return Toy(host, mirror)
