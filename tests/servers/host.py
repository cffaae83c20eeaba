#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throwaway systemd hosts in Docker, for the tests. Runs with any Python >= 3.8 and needs nothing else.

A host gets only what systemd needs, not --privileged, which not every machine can give. Its name is
aistack-<run>-<name>, where <run> is $AISTACK_RUN or chosen anew by every `up`: runs side by side never meet.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

LABEL_RUN = "aistack.run"
LABEL_NAME = "aistack.name"
RELEASES = ("bookworm", "trixie")
RECIPE_VERSION = 1  # raise it when the code below makes a different image
# systemd and what Ansible needs, then what the tests use.
PACKAGES = [
    "systemd", "systemd-sysv", "dbus", "python3", "python3-apt", "ca-certificates", "iproute2", "procps", "sudo",
    "curl", "strace", "openssl", "gzip", "zstd",
]  # fmt: skip
# Flavours of the image: `docker` has an engine of its own, `stack` also what a user's own stack needs. Each stands on
# the one before it, so that no package is laid out twice.
FLAVOURS = {"": [], "docker": ["docker.io", "busybox-static"], "stack": ["default-jre-headless", "postgresql"]}
APART = {("docker", "trixie"): ["docker-cli"]}  # what one release packs apart
STEPS = {
    # /proc/sys is read-only here, and a newer engine wants to be told that its containers may keep IPv6.
    "docker": ["echo DOCKER_ALLOW_IPV6_ON_IPV4_INTERFACE=1 >> /etc/default/docker"],
    "stack": ["systemctl disable --quiet postgresql.service"],
}
# Overlays can't lie on a container's own: every host gets a volume there, which goes away with it.
VOLUMES = {"docker": "/var/lib/docker"}
# Units that make no sense in a container and would only delay or degrade it.
MASKED = [
    "systemd-networkd-wait-online.service", "systemd-udevd.service", "systemd-udev-trigger.service",
    "systemd-modules-load.service", "systemd-sysctl.service", "sys-kernel-config.mount", "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount", "dev-hugepages.mount", "dev-mqueue.mount", "proc-sys-fs-binfmt_misc.automount",
    "getty.target", "console-getty.service", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer",
    "fstrim.timer",
]  # fmt: skip
# The first two are systemd's; with the third, root may look into /proc of every process, as on a real host.
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE")
# Without shared mounts LoadCredential= hands over an empty folder.
INIT = "mount --make-rshared / && exec /lib/systemd/systemd"
# systemd >= 256 starts on cgroup v1 only when told so; in a container it reads its own arguments as kernel arguments.
LEGACY = " systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"


class Trouble(Exception):
    """Something that a person can read in one sentence."""


def cache_folder():
    folder = os.environ.get("AISTACK_CACHE") or os.path.expanduser("~/.cache/aistack-observability")
    os.makedirs(folder, exist_ok=True)
    return folder


@contextlib.contextmanager
def lock(name):
    """One at a time over all runs on this machine."""
    with open(os.path.join(cache_folder(), name + ".lock"), "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def say(text):
    """Progress goes to stderr: stdout carries the answer."""
    print(text, file=sys.stderr, flush=True)


def run(*argv, check=True, timeout=600, **options):
    options.setdefault("stdout", subprocess.PIPE)
    done = subprocess.run(argv, stderr=subprocess.PIPE, text=True, timeout=timeout, check=False, **options)
    if check and done.returncode != 0:
        raise Trouble(f"{' '.join(argv[:4])} … failed ({done.returncode}): {done.stderr.strip()[-800:]}")
    return done


# --- the engine --------------------------------------------------------------------------------------------------


def engine_answers():
    if not shutil.which("docker"):
        return False
    try:
        return run("docker", "version", "--format", "{{.Server.Version}}", check=False, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def need(program, package):
    """A Debian program, installed when that is possible."""
    if shutil.which(program):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Trouble(f"{program} is needed and not installed: install the package {package}.")
    say(f"{program}: installing {package}")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    run("apt-get", "update", "-qq", check=False, env=environment)
    run("apt-get", "install", "-qq", "-y", "--no-install-recommends", package, env=environment)


def forget_dead_engine(pid_file="/var/run/docker.pid"):
    """A dockerd that was killed leaves its pid behind, and the next one refuses to start when another has it now."""
    try:
        with open(pid_file, encoding="ascii") as handle:
            pid = handle.read().strip()
        with open(f"/proc/{pid}/comm", encoding="ascii") as handle:
            if handle.read().strip() == "dockerd":
                return
    except FileNotFoundError:
        pass
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pid_file)


def engine():
    """Makes sure that a Docker engine answers; starts one by hand where nothing else would (no service manager)."""
    if engine_answers():
        return
    if os.geteuid() != 0:
        raise Trouble("No Docker engine answers, and only root can start one: start Docker, or join its group.")
    with lock("docker"):
        if engine_answers():
            return
        need("dockerd", "docker.io")
        need("docker", "docker.io")
        if engine_answers():  # where there is a service manager, the package starts it
            return
        forget_dead_engine()
        log = os.path.join(cache_folder(), "dockerd.log")
        say(f"docker: starting dockerd, its log is {log}")
        with open(log, "ab") as handle:
            daemon = subprocess.Popen(
                ["dockerd"], stdin=subprocess.DEVNULL, stdout=handle, stderr=handle, start_new_session=True, cwd="/"
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and daemon.poll() is None:
            if engine_answers():
                return
            time.sleep(0.5)
        with open(log, encoding="utf-8", errors="replace") as handle:
            last = handle.read().strip().splitlines()[-3:]
        raise Trouble("dockerd did not come up: " + " | ".join(last))


def cgroup_version():
    return run("docker", "info", "--format", "{{.CgroupVersion}}").stdout.strip() or "1"


# --- the image ---------------------------------------------------------------------------------------------------


def sources(text):
    """The machine's own Debian mirror, taken from its apt sources, as (main, security) addresses.

    Empty where it names none: then debootstrap's own default and what it writes into the image hold.
    """
    addresses = re.findall(r"https?://[^\s\]]+", re.sub(r"(?m)^\s*#.*", "", text))
    debian = [one for one in addresses if re.search(r"/debian/?$", one)]
    security = [one for one in addresses if re.search(r"/debian-security/?$", one)]
    return (
        debian[0] if debian else "",
        security[0] if security else "",
    )


def machine_sources():
    text = ""
    for folder, _, names in os.walk("/etc/apt"):
        for name in names:
            if name == "sources.list" or (folder.endswith("sources.list.d") and name.endswith((".list", ".sources"))):
                with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as handle:
                    text += handle.read() + "\n"
    return text


def machine_apt_options():
    """How this machine reaches its packages (proxy, dates, …): the host is built to reach them in the same way."""
    if not shutil.which("apt-config"):
        return ""
    wanted = re.compile(r"^Acquire::(Check-|Retries|ForceIPv|https?::)")
    lines = run("apt-config", "dump").stdout.splitlines()
    return "".join(line + "\n" for line in lines if wanted.match(line))


def customise(tree, release):
    """What the bare system needs to be a host for tests."""
    main, security = sources(machine_sources())
    lines = [f"deb {main} {release} main", f"deb {main} {release}-updates main"] if main else []
    lines += [f"deb {security} {release}-security main"] if main and security else []
    files = {
        "etc/apt/apt.conf.d/90machine": machine_apt_options(),
        "etc/dpkg/dpkg.cfg.d/small": "path-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n",
        "etc/machine-id": "",  # every host makes its own
    }
    if lines:
        files["etc/apt/sources.list"] = "\n".join(lines) + "\n"
    for path, text in files.items():
        path = os.path.join(tree, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as handle:
            handle.write(text)
    units = os.path.join(tree, "etc/systemd/system")
    os.makedirs(units, exist_ok=True)
    for unit in MASKED:
        if not os.path.lexists(os.path.join(units, unit)):
            os.symlink("/dev/null", os.path.join(units, unit))


def bootstrap(work, release, tag):
    """The image from Debian's packages alone; needs root."""
    need("debootstrap", "debootstrap")
    say(f"{tag}: building with debootstrap, about a minute")
    tree = os.path.join(work, "tree")
    main, _ = sources(machine_sources())
    run("debootstrap", "--variant=minbase", "--include=" + ",".join(PACKAGES), release, tree, *filter(None, [main]))
    customise(tree, release)
    for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(os.path.join(tree, folder), ignore_errors=True)
        os.makedirs(os.path.join(tree, folder, "partial"))
    with subprocess.Popen(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE) as packed:
        run("docker", "import", "--change", "ENV container=docker", "-", tag, stdin=packed.stdout)


def extend(work, release, tag):
    """The image from Debian's own image."""
    say(f"{tag}: building from debian:{release}-slim")
    customise(os.path.join(work, "tree"), release)
    ours = os.path.join(work, "tree", "etc/apt/sources.list")
    theirs = " /etc/apt/sources.list.d/debian.sources" if os.path.exists(ours) else ""
    with open(os.path.join(work, "Dockerfile"), "w", encoding="utf-8") as handle:
        handle.write(
            f"FROM debian:{release}-slim\n"
            "ENV container=docker\n"
            f"RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "
            f"{' '.join(PACKAGES)} && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb "
            f"/usr/sbin/policy-rc.d{theirs}\n"
            "COPY tree/ /\n"
        )
    run("docker", "build", "--quiet", "--tag", tag, work)


def stands_on(flavour):
    """The flavour whose image this one begins with."""
    names = list(FLAVOURS)
    return names[names.index(flavour) - 1]


def flavoured(release, flavour):
    """The recipe of a flavour, without what it stands on: more packages, of which nothing starts while it is built."""
    packages = FLAVOURS[flavour] + APART.get((flavour, release), [])
    options = "-o Dpkg::Options::=--path-exclude=/usr/share/locale/*"  # man and doc are left out already
    steps = [
        "export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8",  # the language decides the encoding of the cluster
        # Java's alternatives need the folder although no page is put there.
        "mkdir -p /usr/share/man/man1",
        "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d",
        "chmod +x /usr/sbin/policy-rc.d",
        "apt-get update -qq",
        f"apt-get install -qq -y --no-install-recommends {options} {' '.join(packages)}",
        *STEPS.get(flavour, []),
        "rm -rf /usr/sbin/policy-rc.d /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb",
    ]
    volume = f"VOLUME {VOLUMES[flavour]}\n" if flavour in VOLUMES else ""
    return "RUN " + " && ".join(steps) + "\n" + volume


def image_tag(release, flavour=""):
    """Named after everything that goes into it, so that a changed recipe makes a new image."""
    if flavour:
        recipe = image_tag(release, stands_on(flavour)) + flavoured(release, flavour)
    else:
        recipe = json.dumps([release, PACKAGES, MASKED, machine_apt_options(), sources(machine_sources()),
                             RECIPE_VERSION])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    return "-".join(filter(None, [f"aistack-host:{release}", flavour, digest]))


def image_exists(tag):
    return run("docker", "image", "inspect", tag, check=False).returncode == 0


def image(release, flavour=""):
    engine()
    tag = image_tag(release, flavour)
    if image_exists(tag):
        return tag
    base = image(release, stands_on(flavour)) if flavour else ""
    with lock("-".join(filter(None, ["image", release, flavour]))):
        if image_exists(tag):
            return tag
        started = time.monotonic()
        if flavour:
            say(f"{tag}: building from {base}")
            recipe = f"FROM {base}\n{flavoured(release, flavour)}"
            run("docker", "build", "--quiet", "--tag", tag, "-", input=recipe)
            say(f"{tag}: built in {time.monotonic() - started:.0f} s")
            return tag
        work = tempfile.mkdtemp(prefix="image-", dir=cache_folder())
        try:
            # From scratch where that is possible: it needs no image registry.
            (bootstrap if os.geteuid() == 0 else extend)(work, release, tag)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        say(f"{tag}: built in {time.monotonic() - started:.0f} s")
    return tag


def all_images():
    """Every flavour of every release; releases side by side."""
    engine()
    with ThreadPoolExecutor() as pool:
        return sum(pool.map(lambda release: [image(release, flavour) for flavour in FLAVOURS], RELEASES), [])


# --- hosts -------------------------------------------------------------------------------------------------------


def container_name(run_id, name):
    for part in (run_id, name):
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", part):
            raise Trouble(f"'{part}' is not a name for a host: letters, digits, '.', '_' and '-' only.")
    return f"aistack-{run_id}-{name}"


def run_arguments(container, name, run_id, release, tag, cgroup, publish=(), labels=()):
    """The `docker run` of a host: exactly what systemd needs."""
    init = INIT + (LEGACY if cgroup == "1" and release != "bookworm" else "")
    argv = [
        "docker", "run", "--detach", "--name", container, "--hostname", name,
        "--label", f"{LABEL_RUN}={run_id}", "--label", f"{LABEL_NAME}={name}",
        *(word for capability in CAPABILITIES for word in ("--cap-add", capability)),
        "--security-opt", "seccomp=unconfined",
        "--stop-signal", "SIGRTMIN+3", "--tmpfs", "/run:exec", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec",
        "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--cgroupns", "host",
    ]  # fmt: skip
    for label in labels:
        argv += ["--label", label]
    for ports in publish:
        argv += ["--publish", ports if ports.count(":") > 1 else "127.0.0.1:" + ports]
    return argv + [tag, "/bin/sh", "-c", init]


def wait_until_running(container, within=60):
    """'running', or 'degraded' with the failed units; anything else is trouble, told with what systemd said."""
    deadline = time.monotonic() + within
    state = "unknown"
    while time.monotonic() < deadline:
        state = run("docker", "exec", container, "systemctl", "is-system-running", check=False).stdout.strip()
        if state == "running":
            return state, []
        if state == "degraded":
            failed = run("docker", "exec", container, "systemctl", "--failed", "--plain", "--no-legend").stdout
            return state, [line.split()[0] for line in failed.splitlines() if line.strip()]
        if run("docker", "inspect", "--format", "{{.State.Running}}", container).stdout.strip() != "true":
            break
        time.sleep(0.2)
    logs = run("docker", "logs", "--tail", "20", container, check=False)
    raise Trouble(f"{container}: systemd is '{state}' after {within} s: {(logs.stdout + logs.stderr).strip()[-800:]}")


def up(name, release, publish, labels, flavour=""):
    tag = image(release, flavour)
    run_id = os.environ.get("AISTACK_RUN") or secrets.token_hex(3)
    container = container_name(run_id, name)
    started = run(*run_arguments(container, name, run_id, release, tag, cgroup_version(), publish, labels), check=False)
    if started.returncode != 0:
        # Docker keeps a container that could not start; the name would stay taken.
        run("docker", "rm", "--force", "--volumes", container, check=False)
        raise Trouble(f"{container}: {started.stderr.strip()[-800:]}")
    identity = started.stdout.strip()
    try:
        state, failed = wait_until_running(identity)
    except BaseException:
        remove([identity])
        raise
    address = run(
        "docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", identity
    ).stdout.strip()
    host = {"id": identity, "name": container, "address": address, "run": run_id, "release": release, "state": state}
    if failed:
        host["failed"] = failed
        say(f"{container}: degraded, failed units: {', '.join(failed)}")
    return host


def find(*filters):
    argv = ["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", "label=" + LABEL_RUN]
    for one in filters:
        argv += ["--filter", one]
    return run(*argv).stdout.split()


def remove(identities):
    """Gone is gone, whoever did it."""
    if not identities:
        return
    done = run("docker", "rm", "--force", "--volumes", *identities, check=False)
    left = set(run("docker", "ps", "--all", "--quiet", "--no-trunc").stdout.split()) & set(identities)
    if left:
        raise Trouble(f"Docker could not remove {', '.join(sorted(left))}: {done.stderr.strip()[-400:]}")


def down(name, labels):
    """Removes hosts by container name or id, by short name within $AISTACK_RUN, or by label; never anything else."""
    if not engine_answers():
        return []
    found = set()
    if labels:
        found.update(find(*("label=" + label for label in labels)))
    if name:
        run_id = os.environ.get("AISTACK_RUN")
        exact = find(f"name=^/{re.escape(name)}$")
        if not exact and re.fullmatch("[0-9a-f]{12,64}", name):
            exact = find("id=" + name)
        if not exact and run_id:
            exact = find(f"label={LABEL_RUN}={run_id}", f"label={LABEL_NAME}={name}")
        elif not exact:
            exact = find(f"label={LABEL_NAME}={name}")
            if len(exact) > 1:
                raise Trouble(f"{len(exact)} runs have a host '{name}': set AISTACK_RUN, or give the container's name.")
        found.update(exact)
    remove(sorted(found))
    return sorted(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("docker", help="make sure that a Docker engine answers")
    one = commands.add_parser("image", help="build the image if it is missing, and print its name")
    one.add_argument("--release", choices=RELEASES, default=RELEASES[0])
    one.add_argument("--flavour", choices=FLAVOURS, default="")
    one.add_argument("--all", action="store_true", help="every flavour of every release")
    one = commands.add_parser("up", help="start a host and print {id, name, address, …} when systemd has come up")
    one.add_argument("name")
    one.add_argument("--release", choices=RELEASES, default=RELEASES[0])
    one.add_argument("--flavour", choices=FLAVOURS, default="", help="docker: an engine; stack: and Java, PostgreSQL")
    one.add_argument("--publish", action="append", default=[], metavar="HOSTPORT:PORT")
    one.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    one = commands.add_parser("down", help="remove a host by name or id, or all hosts with a label")
    one.add_argument("name", nargs="?")
    one.add_argument("--label", action="append", default=[], metavar="KEY[=VALUE]")
    args = parser.parse_args()
    try:
        if args.command == "docker":
            engine()
        elif args.command == "image":
            print("\n".join(all_images()) if args.all else image(args.release, args.flavour))
        elif args.command == "up":
            print(json.dumps(up(args.name, args.release, args.publish, args.label, args.flavour)))
        elif not args.name and not args.label:
            raise Trouble("down needs a name or --label.")
        else:
            for identity in down(args.name, args.label):
                print(identity)
    except Trouble as trouble:
        sys.exit(str(trouble))


if __name__ == "__main__":
    main()
