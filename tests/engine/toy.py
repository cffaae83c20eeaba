# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test program: a released archive in shape, an HTTP server that misbehaves on request in content.

It is no stand-in for a real program: it shows what the engine does when a program dies, hangs or ruins its data.
"""

import hashlib
import io
import json
import tarfile
import zipfile

PORT = 7070
VERSIONS = ("1.0.0", "2.0.0")

PROGRAM = """#!/usr/bin/python3
import http.server, json, os, signal, sys, time
VERSION, PORT, DATA = "%(version)s", %(port)d, "/var/lib/toy"
path = sys.argv[1]
def load():
    with open(path) as handle:
        return json.load(handle)
conf, loaded, good = load(), time.time(), 1
print("toy", VERSION, "starts, to say", conf.get("say"), flush=True)
poison = os.path.join(DATA, "poison")
if conf.get("antidote") and os.path.exists(poison):
    os.unlink(poison)
if conf.get("poison"):
    open(poison, "w").close()
if os.path.exists(poison):
    sys.exit("toy: poisoned")
if os.path.isdir(DATA):
    database = os.path.join(DATA, "database")
    if not os.path.exists(database):
        with open(database, "w") as handle:
            handle.write("precious")
    if conf.get("ruin"):
        with open(database, "w") as handle:
            handle.write("ruined by " + VERSION)
if conf.get("die"):
    sys.exit("toy: dies as told")
if conf.get("mute"):
    signal.pause()
def hangup(*_):
    global conf, loaded, good
    new = load()
    if new.get("die_on_reload"):
        os._exit(3)
    if new.get("refuse_reload"):
        good = 0
    else:
        conf, loaded, good = new, time.time(), 1
signal.signal(signal.SIGHUP, hangup)
def secret():
    try:
        with open("/run/credentials/toy.service/key") as handle:
            return handle.read()
    except OSError:
        return None
KEY = secret()
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if conf.get("rereads"):
            hangup()
        if self.path == "/metrics":
            text = "toy_good %%d\\ntoy_loaded_seconds %%f\\n" %% (good, loaded)
        else:
            text = json.dumps({"version": VERSION, "say": conf.get("say"), "key": KEY, "pid": os.getpid(),
                               "extra": os.environ.get("EXTRA")})
        self.send_response(500 if conf.get("broken") else 200)
        self.end_headers()
        self.wfile.write(text.encode())
    def do_POST(self):
        hangup()
        self.send_response(200 if good else 500)
        self.end_headers()
        self.wfile.write(b"reloaded" if good else b"toy: will not load that")
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = True
Server(("127.0.0.1", PORT), Answer).serve_forever()
"""

CHECKER = """#!/usr/bin/python3
import json, os, sys
with open(sys.argv[1]) as handle:
    conf = json.load(handle)
if conf.get("leak"):
    print("toycheck: the key is", open("/run/credentials/toy.service/key").read())
if conf.get("refused"):
    sys.exit("toycheck: refused is set in %s (checked as user %d)" % (sys.argv[1], os.getuid()))
"""

LIBRARY = b"a library with a name of its own\n"


def member(name, content=b"", kind=tarfile.REGTYPE, link="", mode=0o755):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode, entry.size = kind, link, mode, len(content)
    return entry, content


def tarball(members, compression="gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:" + compression) as tar:
        for entry, content in members:
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def members(version):
    """The released archive's entries, with the links that archives with libraries have."""
    top = "toy-%s/" % version
    return [
        member(top, kind=tarfile.DIRTYPE),
        member(top + "toy", (PROGRAM % {"version": version, "port": PORT}).encode()),
        member(top + "toycheck", CHECKER.encode()),
        member(top + "LICENSE", b"GPL-3.0-or-later\n", mode=0o600),
        member(top + "lib/libtoy.so.1", LIBRARY, mode=0o644),
        member(top + "lib/libtoy.so", kind=tarfile.SYMTYPE, link="libtoy.so.1"),
        member(top + "libtoy.so", kind=tarfile.SYMTYPE, link="./lib/libtoy.so"),
    ]


def climbing():
    """Archives that a careful engine refuses, each with a word of its message."""
    top = "toy-6.6.6/"
    good = members("6.6.6")
    body = b"climbed out\n"
    return {
        "parent": (good + [member("toy-6.6.6/../../climbed", body)], "climbs out"),
        "absolute": (good + [member("/etc/climbed", body)], "climbs out"),
        "symlink-absolute": (good + [member(top + "way", kind=tarfile.SYMTYPE, link="/etc")], "points out"),
        "symlink-parent": (good + [member(top + "way", kind=tarfile.SYMTYPE, link="../way")], "points out"),
        "symlink-detour": (good + [member(top + "way", kind=tarfile.SYMTYPE, link="lib/../../../way")], "points out"),
        "hardlink": (good + [member(top + "way", kind=tarfile.LNKTYPE, link="../../etc/passwd")], "climbs out"),
        "hardlink-absolute": (good + [member(top + "way", kind=tarfile.LNKTYPE, link="/etc/passwd")], "climbs out"),
        "through-a-link": (good + [member(top + "way", kind=tarfile.SYMTYPE, link="lib"),
                                   member(top + "way/climbed", body)], "through a link"),
        "device": (good + [member(top + "disk", kind=tarfile.BLKTYPE)], "neither a file nor a folder"),
        "fifo": (good + [member(top + "pipe", kind=tarfile.FIFOTYPE)], "neither a file nor a folder"),
        "no-program": ([one for one in good if not one[0].name.endswith("/toy")], "holds no program toy"),
    }


def zipped(version, climbing_entry=None):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for entry, content in members(version):
            if entry.isreg():
                info = zipfile.ZipInfo(entry.name)
                info.external_attr = entry.mode << 16
                bundle.writestr(info, content)
        if climbing_entry:
            bundle.writestr(climbing_entry, b"climbed out\n")
    return buffer.getvalue()


def write_mirror(folder):
    """The archives and, as its overlay, what they are pinned to."""
    entries = {}

    def put(name, version, file, content, **entry):
        (folder / file).write_bytes(content)
        known = entries.setdefault(name, dict(
            {"pinned": version, "url": "https://releases.invalid/" + file, "format": "tar.gz", "strip": 1,
             "programs": ["toy", "toycheck"], "sha256": {}}, **entry))
        known["sha256"][version] = {"any": {"value": hashlib.sha256(content).hexdigest(), "attested": "made here"}}
        return known

    for version in VERSIONS:
        put("toy", version, "toy-%s.tar.gz" % version, tarball(members(version)))["url"] = (
            "https://releases.invalid/toy-{version}.tar.gz")
    whole = tarball(members("3.0.0"))
    put("toy_wrong_checksum", "3.0.0", "wrong-checksum.tar.gz", whole)["sha256"]["3.0.0"]["any"]["value"] = "0" * 64
    put("toy_truncated", "3.0.0", "truncated.tar.gz", whole[:len(whole) // 2])
    missing = put("toy_missing_architecture", "3.0.0", "missing-architecture.tar.gz", whole)
    missing["sha256"]["3.0.0"] = {"sparc64": missing["sha256"]["3.0.0"]["any"]}
    put("toy_mirror_down", "3.0.0", "not-there.tar.gz", whole)
    (folder / "not-there.tar.gz").unlink()
    put("toy_large", "3.0.0", "large.tar.gz", tarball(
        members("3.0.0") + [member("toy-3.0.0/ballast", bytes(12 << 20))], "gz"))
    for name, (entries_in_it, _word) in climbing().items():
        put("toy_" + name, "6.6.6", "climbing-%s.tar.gz" % name, tarball(entries_in_it))
    put("toy_zip", "2.0.0", "toy.zip", zipped("2.0.0"), format="zip")
    put("toy_zip_climbing", "6.6.6", "climbing.zip", zipped("6.6.6", "toy-6.6.6/../../climbed"), format="zip")
    put("toy_binary", "2.0.0", "toy.bin", members("2.0.0")[1][1], format="binary", strip=0, programs=["toy"])
    (folder / "releases.yml").write_text(json.dumps(entries, indent=1))
    return folder / "releases.yml"
