# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the tests get real servers: the parts of tests/servers that need neither Docker nor a network."""

import hashlib
import importlib
import io
import os
import pathlib
import re
import sys
import tarfile
import urllib.error
import zipfile

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "servers"))
host, model, realm, servers, venv = (importlib.import_module(name)
                                     for name in ("host", "model", "realm", "servers", "venv"))

RELEASES = servers.load(ROOT / "files" / "releases.yml")
MANIFEST = servers.load(ROOT / "tests" / "servers" / "manifest.yml")
SHAPE = {"url": "https://example.org/v{version}/demo-{version}.linux-{arch}.tar.gz", "format": "tar.gz", "strip": 1,
         "programs": ["demo"]}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AISTACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def job(version="1.0", **changes):
    return servers.Job("demo", version, "v" + version, {"recipe": "fake", "lacks": "web pages"}, {**SHAPE, **changes})


def fake_recipe(_job, _work, tree):
    path = pathlib.Path(tree, "demo")
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return "example.org/demo@v1.0"


# --- files/releases.yml ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RELEASES)
def test_every_release_is_complete(name):
    entry = RELEASES[name]
    assert entry["pinned"] in entry["sha256"]
    assert entry["format"] in ("tar.gz", "tar.zst", "zip", "binary", "wheel")
    if entry["format"] == "wheel":
        assert "{version}" in entry["file"]
    else:
        assert entry["url"].startswith("https://") and "{version}" in entry["url"] and entry["programs"]
    for architectures in entry["sha256"].values():
        assert architectures and set(architectures) <= {"amd64", "arm64", "armv7", "any"}
        for pin in architectures.values():
            assert re.fullmatch("[0-9a-f]{64}", pin["value"]) and pin["attested"]


def test_no_two_archives_share_a_sum():
    values = [pin["value"] for entry in RELEASES.values() for one in entry["sha256"].values() for pin in one.values()]
    assert len(values) == len(set(values))


def test_the_manifest_makes_what_the_roles_install():
    made = servers.jobs(MANIFEST, RELEASES)
    assert {"prometheus", "alertmanager", "node_exporter", "blackbox_exporter", "grafana", "mailpit", "ollama",
            "keycloak"} <= {one.name for one in made}
    for one in made:
        assert "{" not in one.file
        if one.row["recipe"] == "go":
            programs = [one.shape["named"]] if "named" in one.shape else one.shape["programs"]
            assert set(one.row["programs"]) == set(programs)


# --- archives and the overlay ------------------------------------------------------------------------------------


def test_archives_of_the_same_content_are_the_same_bytes(tmp_path):
    sums = set()
    for number, names in enumerate((["a", "b"], ["b", "a"])):
        tree = tmp_path / str(number)
        tree.mkdir()
        for name in names:
            (tree / name).write_text(name)
            os.utime(tree / name, (number, number))
        (tree / "a").chmod(0o755)
        target = tmp_path / f"{number}.tar.gz"
        servers.pack(str(tree), str(target), SHAPE, "demo-1.0")
        sums.add(hashlib.sha256(target.read_bytes()).hexdigest())
    assert len(sums) == 1
    with tarfile.open(target) as archive:
        assert [(one.name, oct(one.mode)) for one in archive] == [("demo-1.0/a", "0o755"), ("demo-1.0/b", "0o644")]


def test_a_zip_keeps_the_mode(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    fake_recipe(None, None, tree)
    servers.pack(str(tree), str(tmp_path / "demo.zip"), {"format": "zip"}, "unused")
    with zipfile.ZipFile(tmp_path / "demo.zip") as archive:
        (entry,) = archive.infolist()
    assert (entry.filename, entry.external_attr >> 16) == ("demo", 0o755)


def test_what_is_there_is_kept_until_its_recipe_changes(cache):
    known = servers.obtain(job(), servers.Upstream(), {"fake": fake_recipe})
    assert servers.record(job()) == known
    assert servers.record(job(strip=0)) is None
    (cache / "mirror" / job().file).write_bytes(b"cut off")
    assert servers.record(job()) is None


def test_the_overlay_tells_what_each_archive_is(cache):
    old, new = job("1.0"), job("1.1")
    records = {("demo", one.version): servers.obtain(one, servers.Upstream(), {"fake": fake_recipe})
               for one in (old, new)}
    entry = servers.overlay([old, new], records, {"demo": {"pinned": "1.1"}})["demo"]
    assert (entry["pinned"], entry["origin"], entry["lacks"]) == ("1.1", "real", "web pages")
    assert entry["url"] == "demo-{version}.linux-{arch}.tar.gz"
    for version in ("1.0", "1.1"):
        pin = entry["sha256"][version][servers.ARCH]
        file = entry["url"].format(version=version, arch=servers.ARCH)
        assert pin["value"] == servers.sha256_of(cache / "mirror" / file)
    # A version other than the pinned one is the nearest that could be had.
    entry = servers.overlay([old], {("demo", "1.0"): records["demo", "1.0"]}, {"demo": {"pinned": "1.1"}})["demo"]
    assert (entry["pinned"], entry["origin"]) == ("1.0", "nearest")


def test_an_archive_made_here_has_the_rows_word_in_its_name(cache):
    row = {"recipe": "fake", "address": {"build": "made"}}
    shape = {**SHAPE, "url": "https://example.org/demo_{version}_{build}_{arch}.tar.gz"}
    made = servers.Job("demo", "1.0", "v1.0", row, shape)
    assert made.file == f"demo_1.0_made_{servers.ARCH}.tar.gz"
    released = servers.Job("demo", "1.0", "v1.0", row, {**shape, "sha256": {
        "1.0": {"any": {"value": "0" * 64, "attested": "one source", "build": "77"}}}})
    assert released.file == f"demo_1.0_77_{servers.ARCH}.tar.gz"  # upstream's own wins
    records = {("demo", "1.0"): servers.obtain(made, servers.Upstream(), {"fake": fake_recipe})}
    pin = servers.overlay([made], records, {})["demo"]["sha256"]["1.0"][servers.ARCH]
    assert pin["build"] == "made" and "77" not in records["demo", "1.0"]["file"]


def test_files_of_the_source_belong_into_the_archive(tmp_path):
    source, tree = tmp_path / "source", tmp_path / "tree"
    servers.lay({"public/app/a/plugin.json": "{}", "public/app/a/module.ts": "", "page.html.gz": "page"}, source)
    servers.keep(["public/app/**/plugin.json", "*.gz"], source, tree)
    assert sorted(name for _, name in servers.members(tree)) == ["page.html.gz", "public/app/a/plugin.json"]
    assert servers.gzip.decompress((tree / "page.html.gz").read_bytes()) == b"page"
    with pytest.raises(servers.Trouble, match=r"conf/\*\*"):
        servers.keep(["conf/**"], source, tree)


def test_a_second_version_of_one_source_comes_after_the_first_ones(monkeypatch, cache):
    order = []
    manifest = {name: {"recipe": "fake", "versions": {"1.0": "a", "1.1": "a"}, "release": SHAPE} for name in "ab"}
    monkeypatch.setattr(servers, "obtain", lambda one, *_: order.append(one.title) or {})
    monkeypatch.setattr(servers, "CORES", 1)
    assert servers.build(servers.jobs(manifest, {}), [], False, {})
    assert order == ["a 1.0", "b 1.0", "a 1.1", "b 1.1"]


# --- Maven -------------------------------------------------------------------------------------------------------


class Silent:
    def fetch(self, _job, _target):
        return False


@pytest.fixture
def released(tmp_path):
    """An archive as upstream releases it, and the job that prepares it."""
    tree = tmp_path / "released"
    servers.lay({"bin/kc.sh": "#!/bin/sh\n"}, tree)
    (tree / "bin" / "kc.sh").chmod(0o755)
    archive = tmp_path / "released.tar.gz"
    servers.pack(str(tree), str(archive), SHAPE, "demo-1.0")
    row = {"recipe": "maven", "artefact": "org.example:demo:{version}:tar.gz", "plugin": "1.0",
           "prepare": ["sh", "-c", "test -z \"$KC_DB\" && touch prepared"], "files": {"data/README": "data"}}
    return archive, servers.Job("demo", "1.0", "1.0", row, dict(SHAPE, url="demo-prepared-{version}.tar.gz"))


def maven(archive, value=None):
    shape = {**SHAPE, "sha256": {"1.0": {"any": {"value": value or servers.sha256_of(archive), "attested": "two"}}}}
    return servers.Maven({"demo": shape}, Silent())


@pytest.fixture
def mvn(released, monkeypatch):
    """Puts the archive where Maven would; everything else is really run."""
    def run(argv, _run=servers.run, **options):
        if argv[0] != "mvn":
            return _run(argv, **options)
        assert "-Dartifact=org.example:demo:1.0:tar.gz" in argv
        folder = pathlib.Path(argv[-1].split("=", 1)[1])
        folder.mkdir()
        return servers.shutil.copyfile(released[0], folder / "demo-1.0.tar.gz")

    monkeypatch.setattr(servers, "run", run)
    monkeypatch.setattr(servers.shutil, "which", lambda name: "/usr/bin/" + name)
    monkeypatch.setenv("KC_DB", "postgres")


def test_mavens_archive_is_upstreams_and_gets_prepared(released, mvn, cache):
    archive, one = released
    known = servers.obtain(one, servers.Upstream(), {"maven": maven(archive)})
    assert known["source"] == "org.example:demo:1.0:tar.gz"
    with tarfile.open(cache / "mirror" / one.file) as packed:
        names = {member.name.split("/", 1)[1]: member.mode for member in packed}
    assert set(names) == {"bin/kc.sh", "data/README", "prepared"}
    assert names["bin/kc.sh"] == 0o755


def test_mavens_archive_must_be_upstreams(released, mvn, cache):
    archive, one = released
    with pytest.raises(servers.Trouble, match="files/releases.yml says 0000"):
        servers.obtain(one, servers.Upstream(), {"maven": maven(archive, "0" * 64)})
    assert not (cache / "mirror" / one.file).exists()


def test_without_maven_there_is_one_clear_sentence(released, monkeypatch):
    archive, one = released
    monkeypatch.setattr(servers.shutil, "which", lambda _name: None)
    with pytest.raises(servers.Trouble, match="install Maven"):
        servers.obtain(one, servers.Upstream(), {"maven": maven(archive)})


def test_keycloak_is_the_pinned_one():
    assert list(MANIFEST["keycloak"]["versions"]) == [RELEASES["keycloak"]["pinned"]]


# --- upstream ----------------------------------------------------------------------------------------------------


def attested(value):
    return job(sha256={"1.0": {"any": {"value": value, "attested": "two sources agree"}}})


def test_upstreams_own_archive_is_taken_where_it_answers(monkeypatch, cache):
    body = b"upstream's archive"
    monkeypatch.setattr(servers.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(body))
    known = servers.obtain(attested(hashlib.sha256(body).hexdigest()), servers.Upstream(), {})
    assert (known["how"], known["attested"]) == ("fetched", "two sources agree")
    assert known["source"].startswith("https://example.org/")
    assert servers.description(attested(""), known) == {"origin": "real"}  # upstream's own lacks nothing
    with pytest.raises(servers.Trouble, match="sha256"):
        servers.obtain(attested("0" * 64), servers.Upstream(), {})


def test_a_silent_upstream_is_asked_once(monkeypatch):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        raise urllib.error.URLError("no such host")

    monkeypatch.setattr(servers.urllib.request, "urlopen", urlopen)
    upstream = servers.Upstream()
    for _ in range(2):
        known = servers.obtain(attested("0" * 64), upstream, {"fake": fake_recipe})
    assert len(asked) == 1
    assert (known["source"], known["attested"]) == ("example.org/demo@v1.0", "made here from its source")


# --- hosts -------------------------------------------------------------------------------------------------------


def test_a_host_gets_what_systemd_needs_and_no_more():
    argv = host.run_arguments("aistack-r-a", "a", "r", "bookworm", "image", "2", ["8080:80"], ["k=v"])
    text = " ".join(argv)
    assert "--privileged" not in text and "--label aistack.run=r" in text and "--label k=v" in text
    assert "--publish 127.0.0.1:8080:80" in text
    added = {argv[at + 1] for at, one in enumerate(argv) if one == "--cap-add"}
    assert added == {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"}
    assert argv[-1].startswith("mount --make-rshared / && ")


@pytest.mark.parametrize("release, cgroup, legacy",
                         [("bookworm", "1", False), ("trixie", "1", True), ("trixie", "2", False)])
def test_newer_systemd_is_told_to_accept_cgroup_v1(release, cgroup, legacy):
    command = host.run_arguments("c", "a", "r", release, "image", cgroup)[-1]
    assert ("ENABLE_LEGACY" in command) is legacy


def test_names_of_hosts():
    assert host.container_name("r1", "a") == "aistack-r1-a"
    with pytest.raises(host.Trouble):
        host.container_name("r1", "a b")


@pytest.fixture
def containers(monkeypatch):
    """Two runs, each with a host `a`; returns the ids that were removed."""
    there = {"1" * 64: ("r1", "a"), "2" * 64: ("r2", "a")}
    removed = []

    def find(*filters):
        found = set(there)
        for kind, _, value in (one.partition("=") for one in filters):
            found &= {
                identity for identity, (run, name) in there.items()
                if (kind == "name" and re.search(value, f"/aistack-{run}-{name}"))
                or (kind == "id" and identity.startswith(value))
                or (kind == "label" and value in (f"{host.LABEL_RUN}={run}", f"{host.LABEL_NAME}={name}"))
            }
        return sorted(found)

    monkeypatch.setattr(host, "engine_answers", lambda: True)
    monkeypatch.setattr(host, "find", find)
    monkeypatch.setattr(host, "remove", removed.extend)
    monkeypatch.delenv("AISTACK_RUN", raising=False)
    return removed


@pytest.mark.parametrize("run, name", [("r2", "a"), ("", "aistack-r2-a"), ("", "2" * 12), ("r1", "aistack-r2-a")])
def test_down_removes_the_one_that_is_meant(containers, monkeypatch, run, name):
    if run:
        monkeypatch.setenv("AISTACK_RUN", run)
    host.down(name, [])
    assert containers == ["2" * 64]


def test_down_does_not_guess_between_runs(containers):
    with pytest.raises(host.Trouble, match="AISTACK_RUN"):
        host.down("a", [])
    assert containers == []


def test_the_image_uses_the_machines_mirror():
    deb822 = "URIs: http://mirror.lan/debian\n# URIs: http://old.lan/debian\nURIs: http://mirror.lan/debian-security\n"
    assert host.sources(deb822) == ("http://mirror.lan/debian", "http://mirror.lan/debian-security")
    one_line = "deb [signed-by=/k.gpg] https://mirror.lan/debian/ bookworm main\n"
    assert host.sources(one_line) == ("https://mirror.lan/debian/", "")
    assert host.sources("deb http://archive.lan/ubuntu noble main\n") == ("", "")


def test_a_flavour_stands_on_the_one_before_it(monkeypatch):
    monkeypatch.setattr(host, "machine_sources", lambda: "deb http://mirror.lan/debian bookworm main")
    monkeypatch.setattr(host, "machine_apt_options", lambda: "")

    def tags():
        return [host.image_tag("bookworm", flavour) for flavour in ("", "docker", "stack")]

    plain, docker, stack = tags()
    assert re.fullmatch("aistack-host:bookworm-[0-9a-f]{12}", plain)
    assert docker.startswith("aistack-host:bookworm-docker-") and stack.startswith("aistack-host:bookworm-stack-")
    monkeypatch.setattr(host, "FLAVOURS", dict(host.FLAVOURS, stack=["another"]))
    assert tags()[:2] == [plain, docker] and tags()[2] != stack
    monkeypatch.setattr(host, "VOLUMES", {})
    assert tags()[0] == plain and not {docker, stack} & set(tags())
    monkeypatch.setattr(host, "PACKAGES", ["systemd"])
    assert plain not in tags()


@pytest.mark.parametrize("flavour, words", [
    ("docker", ["policy-rc.d", "apt-get install", "docker.io", "rm -rf", "VOLUME /var/lib/docker"]),
    ("stack", ["policy-rc.d", "apt-get install", "jre-headless postgresql", "systemctl disable", "rm -rf"]),
])
def test_nothing_of_a_flavour_starts_while_it_is_built(flavour, words):
    recipe = host.flavoured("bookworm", flavour)
    steps = [recipe.index(word) for word in words]
    assert steps == sorted(steps)
    assert "http" not in recipe  # packages come from where the plain image has them from
    assert ("docker-cli" in host.flavoured("trixie", flavour)) is (flavour == "docker")


def test_every_flavour_of_every_release_is_built(monkeypatch):
    built = []
    monkeypatch.setattr(host, "engine", lambda: None)
    monkeypatch.setattr(host, "image", lambda *which: built.append(which) or "".join(which))
    assert host.all_images() == ["bookworm", "bookwormdocker", "bookwormstack", "trixie", "trixiedocker", "trixiestack"]
    assert len(built) == 6


# --- the stack ---------------------------------------------------------------------------------------------------


def test_only_what_is_asked_for_becomes_part_of_the_stack():
    (play,) = servers.load(ROOT / "tests" / "servers" / "stack.yml")
    parts = {tuple(task["tags"]): task.get("when") for task in play["tasks"]}
    assert parts.pop(("ollama", "mailpit", "keycloak")) is None  # the folders
    assert parts == {(name,): f"'{name}' in stack_wanted" for name in ("ollama", "mailpit", "keycloak", "postgresql")}
    assert "default(['ollama', 'mailpit'] + ansible_run_tags" in play["vars"]["stack_wanted"]
    assert "stack_parts" not in play["vars"]


def test_keycloaks_password_is_in_no_unit():
    tasks = servers.load(ROOT / "tests" / "servers" / "keycloak.yml")
    (one,) = [task["aistack.observability.component"] for task in tasks if "aistack.observability.component" in task]
    assert "password" not in str(one["unit"]) and "settings" not in str(one["unit"])


class Realm:
    """What realm.py asks of Keycloak, kept in a dictionary; it notes what was changed."""

    realm = "aistack"
    settings = {"user_password": "secret"}

    def __init__(self):
        self.made, self.changes, self.mappings, self.sessions = {}, [], [], [{}]

    def call(self, method, path, body):
        self.changes.append((method, path, body["realm"]))

    def user(self, name):
        return self.made.get(name)

    known = user

    def inside(self, method, path, body=None, missing=False):
        if method == "GET":
            return {"": {"accessTokenLifespan": 300, "enabled": True} if self.made else None,
                    "/roles/viewer": {"name": "viewer"}, "/users/u/sessions": self.sessions,
                    "/users/u/role-mappings/realm": self.mappings}.get(path)
        self.changes.append((method, path))
        if path == "/users":
            self.made[body["username"]] = "u"
            assert body["emailVerified"] and body["firstName"] and body["lastName"] and "@" in body["email"]


def test_the_realm_is_made_once():
    keycloak = Realm()
    assert realm.users(keycloak)
    assert keycloak.changes == [("POST", "", "aistack")] + [("POST", "/users")] * 4
    assert set(keycloak.made) == {"ada", "edith", "victor", "nobody"}
    assert not realm.users(keycloak) and len(keycloak.changes) == 5


def test_work_on_the_realm_says_whether_it_changed():
    keycloak = Realm()
    realm.users(keycloak)
    keycloak.changes.clear()
    assert realm.role(keycloak, "ada", "viewer", True) and not realm.role(keycloak, "ada", "viewer", False)
    keycloak.mappings.append({"name": "viewer"})
    assert realm.role(keycloak, "ada", "viewer", False) and not realm.role(keycloak, "ada", "viewer", True)
    with pytest.raises(realm.Trouble, match="no role owner"):
        realm.role(keycloak, "ada", "owner", True)
    assert realm.change(keycloak, ["accessTokenLifespan=60"])
    assert not realm.change(keycloak, ["accessTokenLifespan=300", "enabled=true"])
    with pytest.raises(realm.Trouble, match="no setting nonsense"):
        realm.change(keycloak, ["nonsense=1"])
    assert realm.logout(keycloak, "ada")
    keycloak.sessions = []
    assert not realm.logout(keycloak, "ada")
    assert [method for method, _ in keycloak.changes] == ["POST", "DELETE", "PUT", "POST"]


# --- the Python environment --------------------------------------------------------------------------------------


@pytest.mark.parametrize("versions, core, expected", [
    ([(3, 14, 0), (3, 12, 1), (3, 11, 7)], None, ("2.21", (3, 14, 0))),
    ([(3, 15, 0), (3, 13, 0), (3, 11, 7)], None, ("2.21", (3, 13, 0))),
    ([(3, 11, 7), (3, 9, 1)], None, ("2.19", (3, 11, 7))),
    ([(3, 13, 0), (3, 12, 1), (3, 11, 7)], "2.19", ("2.19", (3, 11, 7))),
    ([(3, 10, 0)], None, None),
])
def test_the_python_that_fits(versions, core, expected):
    chosen = venv.choose([(version, "python") for version in versions], core)
    assert (chosen and chosen[:2]) == expected


# --- the model ---------------------------------------------------------------------------------------------------


def test_the_tiny_model_is_always_the_same(tmp_path):
    sums = set()
    for name in ("a", "b"):
        model.make(str(tmp_path / name))
        sums.add(servers.sha256_of(tmp_path / name))
    assert len(sums) == 1
    assert (tmp_path / "a").read_bytes().startswith(b"GGUF")


def test_the_overlay_is_read_by_the_collection(cache):
    """The overlay's shape is the one that plugins/plugin_utils/releases.py reads."""
    releases = importlib.import_module("ansible_collections.aistack.observability.plugins.plugin_utils.releases")
    records = {("demo", "1.0"): servers.obtain(job(), servers.Upstream(), {"fake": fake_recipe})}
    servers.write_overlay(servers.overlay([job()], records, {}))
    folder = cache / "mirror"
    assert yaml.safe_load((folder / "releases.yml").read_text())["demo"]["programs"] == ["demo"]
    resolved = releases.Releases(str(folder / "releases.yml"), str(folder)).release({"name": "demo"})
    need = resolved["artefacts"][servers.ARCH]
    assert servers.sha256_of(releases.Releases(mirror=str(folder)).obtain(need)) == need["sha256"]
