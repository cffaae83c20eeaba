#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gets the real servers that the tests and the demo run, as archives in a mirror folder.

Each row of manifest.yml becomes an archive of the shape that upstream releases: fetched from upstream where it answers,
built from the same source elsewhere. What is there is kept; the overlay `releases.yml` beside the archives tells the
collection their sha256 and says of each what it is.
"""

import argparse
import dataclasses
import glob
import gzip
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor, as_completed

import host
import model
import yaml
from host import Trouble, cache_folder, lock, say

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armv7"}
ARCH = ARCHITECTURES.get(platform.machine(), platform.machine())
EPOCH = 1767225600  # 2026-01-01: archives of the same programs are the same bytes
RECIPE_VERSION = 1  # raise it when a change below makes different archives
CORES = os.cpu_count() or 1
BUILDS = max(1, CORES // 2)  # compilers are hungry: two cores each


@dataclasses.dataclass(frozen=True)
class Job:
    """One version of one row."""

    name: str
    version: str
    ref: str
    row: dict
    shape: dict  # the entry of files/releases.yml, or the row's own `release`

    @property
    def title(self):
        return f"{self.name} {self.version}"

    @property
    def file(self):
        return os.path.basename(self.address)

    @property
    def extra(self):
        """What else upstream's address needs (Grafana's build number); an archive made here takes the row's word."""
        known = {name: value for name, value in (self.attested or {}).items() if name not in ("value", "attested")}
        return {**self.row.get("address", {}), **known}

    @property
    def address(self):
        return (self.shape.get("url") or self.shape["file"]).format(version=self.version, arch=ARCH, **self.extra)

    @property
    def key(self):
        """Changes with all that makes the archive, and not with what is only said about it."""
        recipe = {name: value for name, value in self.row.items() if name not in ("versions", "origin", "lacks")}
        text = json.dumps([RECIPE_VERSION, self.name, self.version, self.ref, ARCH, recipe, self.shape], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def attested(self):
        """What files/releases.yml says of upstream's archive, or nothing."""
        known = self.shape.get("sha256", {}).get(self.version, {})
        return known.get(ARCH) or known.get("any")


def load(path):
    with open(path, encoding="utf-8") as handle:
        return yaml.safe_load(handle)


def jobs(manifest, releases):
    result = []
    for name, row in manifest.items():
        shape = row.get("release") or releases[name]
        # A changed sha256 of one version is no reason to make another version again.
        versions = row.get("versions") or {shape["pinned"]: shape["pinned"]}
        for version, ref in versions.items():
            known = {version: shape["sha256"][version]} if version in shape.get("sha256", {}) else {}
            result.append(Job(name, version, ref, row, dict(shape, sha256=known)))
    return result


def mirror_folder():
    folder = os.path.join(cache_folder(), "mirror")
    os.makedirs(os.path.join(folder, ".records"), exist_ok=True)
    return folder


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def run(argv, **options):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        last = " | ".join(done.stdout.strip().splitlines()[-6:])
        raise Trouble(f"{shlex.join(argv[:4])} … failed ({done.returncode}): {last[-1200:]}")
    return done.stdout


# --- upstream ----------------------------------------------------------------------------------------------------


class Upstream:
    """Fetches released archives. An address that did not answer is not asked again in this run."""

    def __init__(self):
        self._silent = {}
        self._locks = {}
        self._guard = threading.Lock()

    def fetch(self, job, target):
        """Whether the archive came; one that is not the attested one is trouble."""
        url = job.address
        host = urllib.parse.urlsplit(url).netloc
        with self._guard:
            first = self._locks.setdefault(host, threading.Lock())
        with first:  # the first one finds out for all
            if host in self._silent:
                return False
            try:
                answer = urllib.request.urlopen(url, timeout=5)
            except (urllib.error.URLError, OSError) as error:
                say(f"{host}: does not answer ({getattr(error, 'reason', error)}), what it releases is built instead")
                self._silent[host] = True
                return False
        say(f"{job.title}: fetching {url}")
        with answer, open(target, "wb") as handle:
            shutil.copyfileobj(answer, handle, 1 << 20)
        value = sha256_of(target)
        if value != job.attested["value"]:
            raise Trouble(f"{url} has the sha256 {value}, files/releases.yml says {job.attested['value']}")
        return True


# --- recipes: each fills the folder `tree` and returns where it came from ------------------------------------------


class Go:
    """Builds in a copy of the module's own source: its go.mod and go.sum stay the law, as in upstream's build."""

    def __init__(self):
        self.cache = os.path.join(cache_folder(), "go")
        self._turns = {}
        self._guard = threading.Lock()

    def environment(self, row):
        return dict(
            os.environ,
            GOMODCACHE=os.path.join(self.cache, "modules"),
            GOCACHE=os.path.join(self.cache, "build"),
            GOFLAGS="-mod=mod -trimpath -buildvcs=false -modcacherw",
            GOWORK="off",
            CGO_ENABLED="1" if row.get("cgo") else "0",
        )

    def download(self, module, environment):
        """The folder with a module's source."""
        answer = json.loads(run(["go", "mod", "download", "-json", module], env=environment, cwd=cache_folder()))
        if "Dir" not in answer:
            raise Trouble(f"{module}: {answer.get('Error', 'no source')}")
        return answer["Dir"]

    def headers(self, wanted, work, environment):
        """Header files that the module leaves out, unpacked where nothing else sees them; returns the search path."""
        include = os.path.join(work, "include")
        os.makedirs(include)
        for package in wanted.get("debian", []):
            run(["apt-get", "download", "-qq", package], cwd=work)
        for name in sorted(os.listdir(work)):
            if name.endswith(".deb"):
                run(["dpkg-deb", "--extract", name, include], cwd=work)
        for module, files in wanted.get("modules", {}).items():
            source = self.download(module, environment)
            for origin, target in files.items():
                os.makedirs(os.path.dirname(os.path.join(include, target)), exist_ok=True)
                shutil.copyfile(os.path.join(source, origin), os.path.join(include, target))
        return f"-I{include} -I{include}/usr/include"

    def __call__(self, job, work, tree):
        if not shutil.which("go"):
            raise Trouble("upstream does not answer, and Go is not installed: install Go to build it")
        row = job.row
        if row.get("cgo") and not shutil.which("g++"):
            raise Trouble("g++ is not installed")
        origin = f"{row['module']}@{job.ref}"
        with self._guard:
            turn = self._turns.setdefault(origin, threading.Lock())
        with turn:  # the second version of one source only needs to be linked
            say(f"{job.title}: building {origin}")
            self.build(job, work, tree, origin)
        return origin

    def build(self, job, work, tree, origin):
        row = job.row
        environment = self.environment(row)
        source = os.path.join(work, "source")
        run(["cp", "-r", "--no-preserve=mode", self.download(origin, environment), source])
        for module, version in row.get("require", {}).items():
            run(["go", "mod", "edit", f"-dropreplace={module}", f"-require={module}@{version}"], cwd=source)
        lay(row.get("files", {}), source)
        if "headers" in row:
            environment["CGO_CPPFLAGS"] = self.headers(row["headers"], work, environment)
        for command in row.get("generate", []):
            run(command, cwd=source, env=environment)
        flags = "-s -w " + row.get("ldflags", "").replace("{version}", job.version)
        tags = ["-tags", ",".join(row["tags"])] if "tags" in row else []
        for program, package in row["programs"].items():
            target = os.path.join(tree, program.format(arch=ARCH))
            command = ["go", "build", "-p", str(CORES // BUILDS), *tags, "-ldflags", flags, "-o", target, package]
            run(command, cwd=source, env=environment)
        for name in ("LICENSE", "NOTICE"):
            if os.path.exists(os.path.join(source, name)):
                shutil.copyfile(os.path.join(source, name), os.path.join(tree, name))
        keep(row.get("keep", []), source, tree)

    def clean(self):
        shutil.rmtree(self.cache, ignore_errors=True)


def lay(files, folder):
    for path, text in files.items():
        path = os.path.join(folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as handle:
            handle.write(gzip.compress(text.encode(), mtime=0) if path.endswith(".gz") else text.encode())


def keep(patterns, source, tree):
    """Copies files of the source into the archive; a pattern that finds nothing is a mistake."""
    for pattern in patterns:
        found = [name for name in glob.glob(pattern, root_dir=source, recursive=True)
                 if os.path.isfile(os.path.join(source, name))]  # fmt: skip
        if not found:
            raise Trouble(f"the source has no {pattern}")
        for name in found:
            os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
            shutil.copyfile(os.path.join(source, name), os.path.join(tree, name))


class Maven:
    """Unpacks a released archive that a Maven repository holds as well, and prepares it for a quick start."""

    def __init__(self, releases, upstream):
        self.releases = releases
        self.upstream = upstream

    def fetch(self, job, archive):
        """Upstream's own archive, checked against files/releases.yml wherever it came from."""
        shape = self.releases[job.name]
        released = dataclasses.replace(job, shape=dict(shape, sha256={job.version: shape["sha256"][job.version]}))
        if self.upstream.fetch(released, archive):
            return released.address
        if not shutil.which("mvn"):
            raise Trouble("upstream does not answer, and Maven is not installed: install Maven (mvn) to fetch it")
        coordinates = job.row["artefact"].format(version=job.version)
        say(f"{job.title}: fetching {coordinates}")
        folder = archive + ".maven"
        plugin = f"org.apache.maven.plugins:maven-dependency-plugin:{job.row['plugin']}:copy"
        argv = ["mvn", "-q", "-B", plugin, f"-Dartifact={coordinates}", f"-DoutputDirectory={folder}"]
        run(argv, cwd=os.path.dirname(archive))
        (name,) = os.listdir(folder)
        os.replace(os.path.join(folder, name), archive)
        value = sha256_of(archive)
        if value != released.attested["value"]:
            raise Trouble(f"{name} has the sha256 {value}, files/releases.yml says {released.attested['value']}")
        return coordinates

    def __call__(self, job, work, tree):
        archive = os.path.join(work, "released")
        origin = self.fetch(job, archive)
        run(["tar", "-xzf", archive, "-C", tree, f"--strip-components={job.shape['strip']}", "--no-same-owner"])
        command = job.row["prepare"]
        say(f"{job.title}: {shlex.join(command)}")
        if not shutil.which("java"):
            mount = ["--volume", f"{tree}:{tree}", "--workdir", tree]
            command = ["docker", "run", "--rm", *mount, host.image(host.RELEASES[0], "stack"), *command]
        # A setting of this machine's own Keycloak is none of the archive.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("KC_", "JAVA_OPTS"))}
        run(command, cwd=tree, env=environment)
        lay(job.row.get("files", {}), tree)
        return origin


def wheel(job, work, tree):
    say(f"{job.title}: fetching the wheel")
    run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--only-binary=:all:", "--dest", tree, f"{job.name}=={job.version}"],
        cwd=work,
    )  # fmt: skip
    if not os.path.exists(os.path.join(tree, job.file)):
        raise Trouble(f"the index gave {os.listdir(tree)}, not {job.file}")
    value = sha256_of(os.path.join(tree, job.file))
    if value != job.attested["value"]:
        raise Trouble(f"{job.file} has the sha256 {value}, files/releases.yml says {job.attested['value']}")
    return f"pypi {job.name}=={job.version}"


def tiny_model(job, work, tree):
    say(f"{job.title}: making the model")
    model.make(os.path.join(tree, job.shape["programs"][0]))
    return "tests/servers/model.py"


# --- archives ----------------------------------------------------------------------------------------------------


def members(tree):
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            yield path, os.path.relpath(path, tree)


def pack(tree, target, shape, top):
    """Packs a folder; the same content always gives the same bytes."""
    prefix = top + "/" if shape.get("strip") else ""
    if shape["format"] in ("binary", "wheel"):
        (path,) = [path for path, _ in members(tree)]
        shutil.copyfile(path, target)
    elif shape["format"] == "tar.gz":
        with (
            open(target, "wb") as raw,
            gzip.GzipFile("", "wb", 6, raw, mtime=EPOCH) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
        ):
            for path, name in members(tree):
                member = tarfile.TarInfo(prefix + name)
                member.size = os.path.getsize(path)
                member.mode = 0o755 if os.access(path, os.X_OK) else 0o644
                member.mtime = EPOCH
                with open(path, "rb") as handle:
                    archive.addfile(member, handle)
    elif shape["format"] == "zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, name in members(tree):
                entry = zipfile.ZipInfo(prefix + name, time.gmtime(EPOCH)[:6])
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
                with open(path, "rb") as handle:
                    archive.writestr(entry, handle.read())
    else:
        raise Trouble(f"archives of the format {shape['format']} are not made here")


# --- the mirror --------------------------------------------------------------------------------------------------


def record_path(job):
    return os.path.join(mirror_folder(), ".records", f"{job.name}-{job.version}.json")


def record(job):
    """What is known of the archive in the mirror, if it is there and was made by today's recipe."""
    try:
        with open(record_path(job), encoding="utf-8") as handle:
            known = json.load(handle)
        size = os.path.getsize(os.path.join(mirror_folder(), job.file))
    except (OSError, ValueError):
        return None
    return known if (known["key"], known["size"]) == (job.key, size) else None


def all_records(all_jobs):
    return {(job.name, job.version): known for job in all_jobs if (known := record(job))}


def obtain(job, upstream, recipes):
    """Gets one archive into the mirror and writes down what it is."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=job.name + "-", dir=cache_folder()) as work:
        archive = os.path.join(work, job.file)
        known = {"key": job.key, "file": job.file}
        if job.attested and "url" in job.shape and upstream.fetch(job, archive):
            known.update(how="fetched", source=job.address, attested=job.attested["attested"])
        else:
            tree = os.path.join(work, "tree")
            os.makedirs(tree)
            source = recipes[job.row["recipe"]](job, work, tree)
            pack(tree, archive, job.shape, job.file[: -len(job.shape["format"]) - 1])
            same = job.attested and job.attested["value"] == sha256_of(archive)
            attested = job.attested["attested"] if same else "made here from its source"
            known.update(how="fetched" if same else "made", source=source, attested=attested)
        known.update(sha256=sha256_of(archive), size=os.path.getsize(archive))
        os.replace(archive, os.path.join(mirror_folder(), job.file))
    temporary = record_path(job) + ".new"
    with open(temporary, "w", encoding="utf-8") as handle:
        json.dump(known, handle, indent=1)
    os.replace(temporary, record_path(job))
    say(f"{job.title}: {known['how']} in {time.monotonic() - started:.0f} s, {known['size'] / 1e6:.1f} MB")
    return known


def description(job, known):
    """What an archive is, compared with upstream's: `origin`, and what it `lacks`."""
    if known["how"] == "fetched":
        return {"origin": "real"}
    return {"origin": job.row.get("origin", "real"), **{k: v for k, v in job.row.items() if k == "lacks"}}


def overlay(all_jobs, records, releases):
    """The mirror's releases.yml: entries that replace those of files/releases.yml by name."""
    entries = {}
    for job in all_jobs:
        known = records.get((job.name, job.version))
        if not known:
            continue
        entry = entries.setdefault(job.name, {})
        if not entry:
            pinned = releases.get(job.name, {}).get("pinned", job.version)
            entry["pinned"] = pinned if (job.name, pinned) in records else job.version
            entry.update({k: v for k, v in job.shape.items() if k in ("format", "strip", "programs", "named", "file")})
            if "url" in job.shape:
                entry["url"] = os.path.basename(job.shape["url"])
            entry.update(description(job, known), source=known["source"])
            if entry["pinned"] != pinned:
                entry["origin"] = "nearest"
            entry["sha256"] = {}
        arch = "any" if job.shape["format"] == "wheel" else ARCH
        pin = dict(job.extra, value=known["sha256"], attested=known["attested"])
        entry["sha256"][job.version] = {arch: pin}
    return entries


def write_overlay(entries):
    path = os.path.join(mirror_folder(), "releases.yml")
    with open(path + ".new", "w", encoding="utf-8") as handle:
        handle.write("# Made by tests/servers/servers.py: what the archives in this folder are.\n---\n")
        yaml.safe_dump(entries, handle, sort_keys=False, width=120)
    os.replace(path + ".new", path)


def summary(all_jobs, records, failed):
    for job in all_jobs:
        known = records.get((job.name, job.version))
        if known:
            what = description(job, known)
            lacks = f", without {what['lacks']}" if "lacks" in what else ""
            print(f"{job.title:26} {what['origin']:9} {known['size'] / 1e6:7.1f} MB  {known['source']}{lacks}")
        else:
            print(f"{job.title:26} {failed.get(job.title, 'not there')}")


def build(all_jobs, wanted, again, releases):
    unknown = set(wanted) - {job.name for job in all_jobs}
    if unknown:
        raise Trouble(f"no such row in manifest.yml: {', '.join(sorted(unknown))}")
    chosen = [job for job in all_jobs if not wanted or job.name in wanted]
    failed = {}
    go = Go()
    upstream = Upstream()
    recipes = {"go": go, "wheel": wheel, "model": tiny_model, "maven": Maven(releases, upstream)}
    with lock("mirror"):
        missing = [job for job in chosen if again or not record(job)]
        missing.sort(key=lambda job: list(job.row.get("versions", [job.version])).index(job.version))
        with ThreadPoolExecutor(CORES) as pool, ThreadPoolExecutor(BUILDS) as builders:
            waiting = {}
            for job in missing:
                workers = builders if job.row["recipe"] == "go" else pool
                waiting[workers.submit(obtain, job, upstream, recipes)] = job
            write_overlay(overlay(all_jobs, all_records(all_jobs), releases))
            for done in as_completed(waiting):
                error = done.exception()
                if error:
                    failed[waiting[done].title] = f"FAILED: {error}"
                    say(f"{waiting[done].title}: {error}")
                else:  # what is there can be used while the rest is being made
                    write_overlay(overlay(all_jobs, all_records(all_jobs), releases))
        if not failed:  # else they make the next try quick
            go.clean()
    summary(chosen, all_records(all_jobs), failed)
    return not failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("build", help="fetch or build what is missing")
    one.add_argument("--only", nargs="+", default=[], metavar="NAME")
    one.add_argument("--again", action="store_true", help="also what is there")
    commands.add_parser("mirror", help="print the folder with the archives and the overlay releases.yml")
    commands.add_parser("status", help="say what is there")
    args = parser.parse_args()
    if args.command == "mirror":
        print(mirror_folder())
        return
    releases = load(os.path.join(ROOT, "files", "releases.yml"))
    all_jobs = jobs(load(os.path.join(HERE, "manifest.yml")), releases)
    try:
        if args.command == "status":
            summary(all_jobs, all_records(all_jobs), {})
        elif not build(all_jobs, args.only, args.again, releases):
            sys.exit(1)
    except Trouble as trouble:
        sys.exit(str(trouble))


if __name__ == "__main__":
    main()
