#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the Python environment for development and tests. Runs with any Python >= 3.8 and needs nothing else.

    venv.py FOLDER [--core 2.19]

It finds a Python that fits, installs the pinned requirements, and does nothing when they have not changed.
"""

import argparse
import fcntl
import glob
import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Which Python versions an ansible-core runs on, the preferred core first.
CORES = {"2.21": ((3, 12), (3, 14)), "2.19": ((3, 11), (3, 13))}
PROBE = "import ensurepip, venv, sys; print(*sys.version_info[:3])"


def requirements(core):
    return [os.path.join(ROOT, name) for name in (f"requirements-ansible-{core}.txt", "requirements-dev.txt")]


def pythons():
    """Every usable Python as (version, path), newest first: version managers' folders, then PATH."""
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    found = glob.glob(os.path.join(pyenv, "versions", "3.*", "bin", "python3"))
    found += glob.glob(os.path.expanduser("~/.local/share/uv/python/*/bin/python3"))
    found += filter(None, (shutil.which(f"python3.{minor}") for minor in range(14, 10, -1)))
    found += [sys.executable]
    usable = {}
    for path in found:
        answer = subprocess.run([path, "-c", PROBE], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            usable.setdefault(tuple(map(int, answer.stdout.split())), path)
    return sorted(usable.items(), reverse=True)


def choose(usable, core=None):
    """The (core, version, path) to use.

    By itself the newest core that some Python can run, on the newest such Python; an older core that was asked for is
    a test of compatibility, and gets the oldest.
    """
    for candidate, (oldest, newest) in CORES.items():
        if core not in (None, candidate):
            continue
        for version, path in usable if core is None else reversed(usable):
            if oldest <= version[:2] <= newest:
                return candidate, version, path
    return None


def stamp(core):
    digest = hashlib.sha256()
    for name in requirements(core):
        with open(name, "rb") as handle:
            digest.update(handle.read())
    return f"{core} {digest.hexdigest()}"


def is_current(folder, core):
    """Whether the environment works and was made from today's requirements (of the asked core, or of its own)."""
    try:
        with open(os.path.join(folder, ".stamp"), encoding="utf-8") as handle:
            made = handle.read()
        has = made.split()[0]
        return core in (None, has) and made == stamp(has) and os.path.exists(os.path.join(folder, "bin", "python"))
    except (OSError, IndexError):
        return False


def make(folder, wanted):
    chosen = choose(pythons(), wanted)
    if chosen is None:
        spans = ", ".join(f"ansible-core {core}: Python {a}.{b} to {c}.{d}" for core, ((a, b), (c, d)) in CORES.items())
        sys.exit(f"No Python with the venv module was found that can run Ansible ({spans}).")
    core, version, path = chosen
    print(f"{folder}: Python {'.'.join(map(str, version))}, ansible-core {core}", flush=True)
    subprocess.run([path, "-m", "venv", "--clear", folder], check=True)
    python = os.path.join(folder, "bin", "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for name in requirements(core):
        install += ["-r", name]
    subprocess.run(install, check=True)
    with open(os.path.join(folder, ".stamp"), "w", encoding="utf-8") as handle:
        handle.write(stamp(core))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--core", choices=CORES)
    args = parser.parse_args()

    if is_current(args.folder, args.core):
        return
    with open(args.folder.rstrip("/") + ".lock", "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not is_current(args.folder, args.core):  # another run may have made it meanwhile
            make(args.folder, args.core)


if __name__ == "__main__":
    main()
