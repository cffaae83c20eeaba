# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret is found by walking everything that others can see: files, units, processes, the journal, the output.

The site is installed, every secret is changed, and it is run again, all at `-vvv --diff`, with the newest and with the
oldest supported ansible-core. What processes show is recorded while the runs last. Then the walk is proven: a secret
planted in each place is found there, in each disguise.
"""

import base64
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SERVER = [sys.executable, str(ROOT / "tests/servers/host.py")]
CORES = {"newest": ".venv", "oldest": ".venv-2.19"}
# Whatever quoting or templating can stumble over. In an address or a key, only what may stand there.
NASTY = "\"x' $HOME {{ 7*7 }} %s\\n\nsecond-line-"
NASTY_ADDRESS = "\"x'{{7*7}}$HOME-"
# In one line and without a dollar, for the log-ins at which people type it.
NASTY_LINE = "\"x' {{ 7*7 }} %s-"
COMMON_WORD = "prometheus"

# Runs on the host, as root, and writes what processes show (their arguments and environment) to /run/shown.
RECORDER = r"""
import os, time
seen = set()
os.umask(0o077)
with open("/run/shown", "wb") as out:
    while not os.path.exists("/run/enough"):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            for name in ("cmdline", "environ"):
                try:
                    text = open(f"/proc/{pid}/{name}", "rb").read()
                except OSError:
                    continue
                if text not in seen:
                    seen.add(text)
                    out.write(text + b"\n")
                    out.flush()
        time.sleep(0.05)
"""

# Runs on the host, reads {start, needles} from its standard input, and looks as nobody does.
WALK = r"""
import json, os, subprocess, sys
asked = json.load(sys.stdin)
needles = [needle.encode("utf-8", "surrogateescape") for needle in asked["needles"]]
found, seen = [], {"file": 0, "unit": 0, "process": 0, "journal": 0}
def look(place, name, text):
    seen[place] += 1
    found.extend([place, name, needles.index(needle)] for needle in needles if needle in text)
with open("/run/shown", "rb") as handle:
    look("process", "recorded", handle.read())
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("cmdline", "environ"):
        try:
            if int(pid) != os.getpid():
                look("process", f"{pid}/{name}", open(f"/proc/{pid}/{name}", "rb").read())
        except OSError:
            pass
look("journal", "export", subprocess.run(["journalctl", "--no-pager", "--all", "-o", "export"], stdout=-1).stdout)
look("journal", "json", subprocess.run(["journalctl", "--no-pager", "--all", "-o", "json"], stdout=-1).stdout)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for unit in subprocess.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=service"],
                           stdout=-1, text=True).stdout.splitlines():
    name = unit.split()[0]
    for command in ("show", "cat"):
        look("unit", name, subprocess.run(["systemctl", command, "--no-pager", name], stdout=-1, stderr=-1).stdout)
for top in ("/", "/run", "/tmp", "/dev/shm"):
    device = os.stat(top).st_dev
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if os.lstat(os.path.join(folder, name)).st_dev == device]
        for path in (os.path.join(folder, name) for name in names):
            try:
                entry = os.lstat(path)
                # Programs out of archives are the only large files.
                if os.path.isfile(path) and entry.st_ctime >= asked["start"] and entry.st_size < 4000000:
                    look("file", path, path.encode("utf-8", "surrogateescape") + open(path, "rb").read())
            except OSError:
                pass
print(json.dumps({"found": found, "seen": seen}))
"""


class Secret(str):
    """A value with a core that no quoting changes and that stands nowhere else."""

    core: str

    @classmethod
    def make(cls, before):
        core = secrets.token_hex(8)
        secret = cls(before + core)
        secret.core = core
        return secret

    def disguises(self):
        """Its core, which survives any quoting, and encodings of it and of the whole."""
        whole = {"base64": base64.b64encode(self.encode()).decode(), "hexadecimal": self.encode().hex()}
        inside = {}
        for shift in range(3):
            encoded = base64.b64encode(b"." * shift + self.core.encode()).decode()
            inside[f"base64 at {shift}"] = encoded[4 if shift else 0:-4]
        return {"core": self.core, "core in hexadecimal": self.core.encode().hex(), **whole, **inside}


def new_secrets():
    return {
        "smtp": Secret.make(NASTY), "login": Secret.make(NASTY[:30]), "push": Secret.make(NASTY),
        "scrape": Secret.make(NASTY), "ollama": Secret.make(NASTY_ADDRESS),
        "watchdog": Secret.make("https://watch.example.org/" + NASTY_ADDRESS),
        "slack": Secret.make("https://hooks.slack.example.org/" + NASTY_ADDRESS),
        "webhook": Secret.make("https://pager.example.org/" + NASTY_ADDRESS),
        "client": Secret.make(NASTY_ADDRESS), "grafana": Secret.make(NASTY_LINE), "source": Secret.make(NASTY_LINE),
        "grafana_key": Secret.make(NASTY_LINE), "keycloak": Secret.make(NASTY_LINE),
    }


def renewed(values):
    """All of them new, but for the account of a Keycloak that isn't ours, and the key to Grafana's database."""
    return new_secrets() | {name: values[name] for name in ("keycloak", "grafana_key")}


class Unsafe(yaml.SafeDumper):
    """Writes secrets as a careful user does: `!unsafe`, so that Ansible takes no part of them for a template."""


Unsafe.add_representer(Secret, lambda dumper, value: dumper.represent_scalar("!unsafe", str(value), style='"'))


def variables(values):
    cache = Path(os.environ.get("AISTACK_CACHE") or Path.home() / ".cache/aistack-observability")
    return {
        "observability_mirror": f"{cache}/mirror",
        "observability_releases_overlay": f"{cache}/mirror/releases.yml",
        "observability_web_login": {"username": "admin", "password": values["login"]},
        "observability_notifications": {
            "email": {"to": ["you@demo.test"], "from": "site@demo.test", "smarthost": "127.0.0.1:1025",
                      "username": "site", "password": values["smtp"]},
            "slack": {"webhook_url": values["slack"], "channel": "#alerts"},
            "webhooks": [{"name": "pager", "url": values["webhook"]}],
            "watchdog": {"url": values["watchdog"]},
        },
        "prometheus_remote_write": [
            {"url": "http://127.0.0.1:9/push", "name": "far",
             "basic_auth": {"username": "site", "password": values["push"]}},
            {"url": "http://127.0.0.1:9/word", "name": "word",
             "basic_auth": {"username": "site", "password": COMMON_WORD}}],
        # Nobody takes these samples: a restart needs not wait for it.
        "prometheus_extra_args": ["--storage.remote.flush-deadline=1s"],
        "prometheus_extra_scrape_configs": [
            {"job_name": "own", "basic_auth": {"username": "site", "password": values["scrape"]},
             "static_configs": [{"targets": ["127.0.0.1:9"]}]}],
        "monitored_services": {"ollama": {"api_key": values["ollama"]}},
        "observability_single_sign_on": {
            "url": "http://127.0.0.1:8080", "realm": "aistack", "client_secret": values["client"],
            "admin": {"username": "admin", "password": values["keycloak"]}},
        "grafana_admin_password": values["grafana"], "grafana_secret_key": values["grafana_key"],
        "grafana_extra_data_sources": [
            {"name": "Other", "uid": "other", "type": "loki", "url": "http://127.0.0.1:9", "basicAuth": True,
             "basicAuthUser": "site", "secureJsonData": {"basicAuthPassword": values["source"]}}],
    }


class Target:
    """A throwaway host and the runs of the site over it."""

    def __init__(self, environment, folder):
        self.environment = environment
        self.folder = folder
        self.run_id = os.environ.get("AISTACK_RUN") or secrets.token_hex(3)
        done = subprocess.run([*SERVER, "up", f"secrets-{environment.removeprefix('.venv').strip('-') or 'new'}",
                               "--flavour", "stack"],
                              env=dict(os.environ, AISTACK_RUN=self.run_id), text=True, stdout=subprocess.PIPE,
                              check=True)
        self.container = json.loads(done.stdout)["name"]
        self.start = float(self.shell("date +%s").strip())
        self.output = ""
        self.known = []
        self.recorder = threading.Thread(target=lambda: self.python(RECORDER), daemon=True)
        self.recorder.start()

    def remove(self):
        subprocess.run([*SERVER, "down", self.container], stdout=subprocess.DEVNULL, check=True)

    def execute(self, *argv, stdin=""):
        return subprocess.run(["docker", "exec", "-i", self.container, *argv], input=stdin, text=True,
                              capture_output=True, check=True).stdout

    def shell(self, script, stdin=""):
        return self.execute("sh", "-c", script, stdin=stdin)

    def python(self, program, stdin=""):
        return self.execute("python3", "-c", program, stdin=stdin)

    def keycloak(self, password):
        """The user's own Keycloak, with a realm and an account that may administer it."""
        variables = self.folder / "keycloak.yml"
        variables.write_text(yaml.dump({"stack_parts": ["keycloak"], "stack_keycloak_password": password,
                                        "stack_keycloak_realm": "aistack"}, Dumper=Unsafe))
        done = subprocess.run(
            [ROOT / self.environment / "bin/ansible-playbook", "-i", f"{self.container},", "-e", f"@{variables}",
             "-e", "ansible_connection=community.docker.docker ansible_python_interpreter=/usr/bin/python3",
             "tests/servers/stack.yml"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:]

    def play(self, values):
        """One run with these secrets; its results go to the output that is walked."""
        self.known += [value for value in values.values() if value not in self.known]
        inventory = {"observability": {"hosts": {"monitor": {
            "ansible_connection": "community.docker.docker", "ansible_host": self.container,
            "ansible_python_interpreter": "/usr/bin/python3"}}}, "monitored": {"hosts": {}},
            "all": {"vars": variables(values)}}
        path = self.folder / "hosts.yml"
        path.write_text(yaml.dump(inventory, Dumper=Unsafe, allow_unicode=True), encoding="utf-8")
        done = subprocess.run(
            [ROOT / self.environment / "bin/ansible-playbook", "-i", path, "-vvv", "--diff", "site.yml"],
            cwd=ROOT, env=dict(os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0", COLUMNS="1000"),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.output += done.stdout
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def disguises(self):
        return [(name, text) for secret in self.known for name, text in secret.disguises().items()]

    def shown(self, text):
        """The disguises of secrets in a text."""
        return {name for name, needle in self.disguises() if needle in text}

    def walk(self):
        """[(place, where in it, disguise)] of every secret that others can see on the host."""
        disguises = self.disguises()
        answer = json.loads(self.python(WALK, json.dumps({"start": self.start, "needles": [
            text for _name, text in disguises]})))
        # A walk that saw nothing would find nothing.
        assert answer["seen"]["file"] > 100
        assert answer["seen"]["unit"] > 10
        assert answer["seen"]["process"] > 10
        assert answer["seen"]["journal"] == 2
        return sorted({(place, where, disguises[index][0]) for place, where, index in answer["found"]})


@pytest.fixture(scope="module", params=CORES)
def target(request, tmp_path_factory):
    environment = CORES[request.param]
    if not (ROOT / environment / "bin/ansible-playbook").exists():
        pytest.fail(f"there is no {environment}: run `make venv venv-2.19`")
    target = Target(environment, tmp_path_factory.mktemp("inventory"))
    yield target
    target.remove()


@pytest.fixture(scope="module")
def runs(target):
    """What the runs said: the first, one with every secret changed, and one with nothing to do."""
    before = new_secrets()
    after = renewed(before)
    target.keycloak(before["keycloak"])
    said = [target.play(before), target.play(after), target.play(after)]
    target.shell("touch /run/enough")
    target.recorder.join(timeout=30)
    return said, after


def test_every_secret_arrives_as_it_was_given(target, runs):
    """Neither templated, nor stripped, nor cut at a line's end: in a file that only root reads."""
    _said, values = runs
    kept = json.loads(target.python(
        "import json, os, glob\n"
        "print(json.dumps({path: [open(path, newline='').read(), oct(os.stat(path).st_mode & 0o7777),"
        " os.stat(path).st_uid] for path in glob.glob('/etc/aistack/credentials/*/*')}))"))
    assert {mode for _text, mode, _owner in kept.values()} <= {"0o600", "0o400"}
    assert {owner for _text, _mode, owner in kept.values()} == {0}
    contents = {text for text, _mode, _owner in kept.values()}
    for name, value in values.items():
        # That account is the run's, and no program's.
        assert (str(value) in contents) == (name != "keycloak"), name
    assert COMMON_WORD in contents


def test_the_last_run_changed_nothing(runs):
    (_first, changed, last), _values = runs
    assert re.search(r"^monitor +: ok=\d+ +changed=[1-9]", changed, re.MULTILINE)
    assert re.search(r"^monitor +: ok=\d+ +changed=0 ", last, re.MULTILINE), last[-2000:]


def test_a_common_word_as_a_password_hides_nothing_else(target, runs):
    """The word stands in a hundred paths; as the password it stands in its credential only."""
    (first, _changed, _last), _values = runs
    # Ansible masks with eight; its banners have more.
    assert not re.search(r"(?<!\*)\*{8}(?!\*)", first)
    assert "/etc/prometheus/prometheus.yml" in first
    config = json.loads(target.shell("cat /etc/prometheus/prometheus.yml"))
    (word,) = [entry for entry in config["remote_write"] if entry["name"] == "word"]
    assert word["basic_auth"].keys() == {"username", "password_file"}
    shown = re.findall(r"^[+-]" + COMMON_WORD + r"$", target.output, re.MULTILINE)
    assert not shown


def test_nobody_else_sees_a_secret_on_the_host(target, runs):
    assert target.walk() == []


def test_no_run_showed_a_secret(target, runs):
    said, _values = runs
    assert all("TASK [" in text for text in said)
    assert not target.shown("".join(said))


# -- the walk can find what there is -----------------------------------------------------------------------------------

def planted(target, secret, place, disguise):
    """Put a disguised secret into a place; returns how to take it away."""
    text = secret.disguises()[disguise]
    if place == "file":
        target.shell("umask 022; cat > /etc/planted", text)
        return "rm /etc/planted"
    if place == "unit":
        target.shell("umask 022; cat > /etc/systemd/system/planted.service; systemctl daemon-reload; "
                     "systemctl start planted",
                     f"[Service]\nEnvironment=PLANTED={text}\nRemainAfterExit=yes\nExecStart=/bin/true\n")
        return "systemctl stop planted; rm /etc/systemd/system/planted.service; systemctl daemon-reload"
    if place == "process":
        target.shell("read -r text; python3 -c 'import time; time.sleep(600)' \"$text\" >/dev/null 2>&1 & "
                     "echo $! > /run/planted", text + "\n")
        return "kill $(cat /run/planted); rm /run/planted"
    target.shell("systemd-cat -t planted", text)
    return "journalctl --rotate; sleep 1.1; journalctl --vacuum-time=1s"


@pytest.mark.parametrize("disguise", ["core", "base64", "hexadecimal"])
@pytest.mark.parametrize("place", ["file", "unit", "process", "journal"])
def test_the_walk_finds_what_is_planted(target, runs, place, disguise):
    secret = target.known[0]
    undo = planted(target, secret, place, disguise)
    try:
        assert place in {found for found, _where, _disguise in target.walk()}
    finally:
        target.shell(undo)
    assert target.walk() == []


@pytest.mark.parametrize("quoted", [str, json.dumps, repr, urllib.parse.quote,
                                    lambda value: base64.b64encode(f"admin:{value}".encode()).decode()],
                         ids=["plain", "json", "repr", "url", "base64 with a login"])
def test_the_walk_finds_a_quoted_secret_in_the_output(target, runs, quoted):
    for secret in target.known:
        assert target.shown("TASK [x]\n" + quoted(str(secret)) + "\n")


def test_what_only_root_reads_is_no_finding(target, runs):
    target.shell("umask 077; cat > /etc/planted", target.known[0])
    try:
        assert target.walk() == []
    finally:
        target.shell("rm /etc/planted")
