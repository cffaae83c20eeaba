# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a log shipper's read positions back after an end that was not clean, so that no line is lost.

Promtail and Alloy note how far they have read, not how far Loki has taken it. What is between the two when they are
killed, the machine loses its power, or Loki is away while they stop, would never be sent. So:

    log_positions.py stopped FILE…   ExecStopPost: notes whether the end was clean ($SERVICE_RESULT) and which file each
                                     position belongs to
    log_positions.py resume FILE…    ExecStartPre: without the mark of a clean end, takes each position back by what may
                                     have been under way; positions of files that were replaced meanwhile begin anew
    log_positions.py handover FROM TO  ExecStartPre, as root: gives another shipper a copy of the positions, once

FILE may be a pattern. What is sent again Loki takes for the same where it carries its own time (journal, containers,
files whose time is read); lines of other files come twice, at most --bytes of them. A position is never taken back
behind the one from which the last run set out: everything before that had arrived.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

CURSOR = "cursor-"
# What Promtail logs at each try when Loki doesn't take a batch. Alloy logs only what it gives up when it ends; it calls
# that a success, and each time it loses what waits for another line of the same entry.
REFUSED = "error sending batch, will retry"
THROWN_AWAY = ("no retries left, dropping data", "failed to flush all queues during shutdown")
HELD = 5              # s
LINES = 3             # that were on their way through the stages
RETRY = 60            # s, the most between two tries
MARGIN = 15           # s in which a batch arrives or the first failure is logged: batch wait, and the request's timeout
FAR = 300             # s, for containers whose lines are being caught up
BATCH = 65536         # bytes
ENTRIES = 3000        # of a journal that is being caught up: a full batch of short lines
MOST_ENTRIES = 20000
AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Key(NamedTuple):
    """Whose position it is. Promtail's keys are paths, Alloy's have labels, too."""

    path: str
    labels: str | None = None

    def text(self) -> str:
        return self.path if self.labels is None else f"{self.path} {self.labels}"


def say(text: str) -> None:
    print(text, flush=True)


# --- The file: YAML of one shape, as gopkg.in/yaml.v2 writes it ---------------------------------------------------


ESCAPES = {" ": " ", "e": "\x1b", "a": "\a", "N": "\x85", "L": "\u2028", "_": "\xa0", "P": "\u2029", "0": "\0"}


def scalar(text: str) -> str:
    text = text.strip()
    if text.startswith('"'):
        # Its escapes are JSON's and a few more, which no path has.
        text = re.sub(r"\\x([0-9A-Fa-f]{2})", r"\\u00\1", re.sub(r"\\\n\s*", "", text))
        text = re.sub(r"\\([ eaNL_P0])", lambda match: json.dumps(ESCAPES[match[1]])[1:-1], text)
        return json.loads(re.sub(r"\n\s*", " ", text))
    if text.startswith("'"):
        return re.sub(r"\n\s*", " ", text[1:-1]).replace("''", "'")
    return re.sub(r"\n\s*", " ", text)


def parse(text: str) -> dict[Key, str]:
    """Fails with ValueError on what it doesn't know: then the file is left alone."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines or lines == ["positions: {}"]:
        return {}
    if lines[0].rstrip() != "positions:":
        raise ValueError("no positions")
    # A line that is indented deeper than an entry goes on with it.
    entries: list[list[str]] = []
    for line in lines[1:]:
        if re.match(r"  [^ :]", line) or (re.match(r"  : ", line) and not entries):
            entries.append([line[2:]])
        elif entries:
            entries[-1].append(line[2:] if line.startswith("  ") else line)
        else:
            raise ValueError(line)
    result = {}
    for entry in entries:
        whole = "\n".join(entry)
        if whole.startswith("? "):
            found = re.fullmatch(r"\? (.*)\n: (.*)", whole, re.DOTALL)
            if not found:
                raise ValueError(whole)
            inner, value = found.groups()
            pair = re.fullmatch(r"path: (.*)\n\s+labels: (.*)", inner, re.DOTALL)
            key = Key(scalar(pair[1]), scalar(pair[2])) if pair else Key(scalar(inner))
        else:
            found = re.fullmatch(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|.*?): (.*)""", whole, re.DOTALL)
            if not found:
                raise ValueError(whole)
            key, value = Key(scalar(found[1])), found[2]
        result[key] = scalar(value)
    return result


def dump(positions: dict[Key, str]) -> str:
    if not positions:
        return "positions: {}\n"
    lines = ["positions:"]
    for key, value in sorted(positions.items(), key=lambda item: item[0].text()):
        path, labels = (json.dumps(part, ensure_ascii=False) for part in (key.path, key.labels))
        lines.append(f"  ? {path}" if key.labels is None else f"  ? path: {path}\n    labels: {labels}")
        lines.append(f"  : {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def write(path: str, text: str, owner: tuple[int, int] | None = None) -> None:
    """In one step, and on the disk when it returns."""
    folder = os.path.dirname(path) or "."
    handle, name = tempfile.mkstemp(dir=folder, prefix=".positions-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            if owner:
                os.fchown(stream.fileno(), *owner)
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    folder_handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_handle)
    finally:
        os.close(folder_handle)


def read(path: str) -> dict[Key, str]:
    with open(path, encoding="utf-8") as stream:
        return parse(stream.read())


# --- What was noted about them -------------------------------------------------------------------------------------


def boot() -> str:
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()
    return ""


def identity(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_dev, status.st_ino]


def noted(path: str) -> dict:
    try:
        with open(path + ".state", encoding="utf-8") as stream:
            found = json.load(stream)
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def files_of(positions: dict[Key, str]) -> dict[str, list[int] | None]:
    return {key.path: identity(key.path) for key in positions if not key.path.startswith(CURSOR)}


# --- The journal ---------------------------------------------------------------------------------------------------


def journal(*arguments: str) -> Iterator[dict]:
    """Entries as journalctl tells them; none where it can't be asked."""
    command = ["journalctl", "--no-pager", "--quiet", "--output=json", *arguments]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return
    try:
        for line in process.stdout or ():
            with contextlib.suppress(ValueError):
                yield json.loads(line)
    finally:
        process.kill()
        process.communicate()


def seconds(entry: dict) -> float:
    return int(entry["__REALTIME_TIMESTAMP"]) / 1e6


def accepted_until(unit: str, end: float) -> float | None:
    """Up to when Loki took what it was sent, going by what the shipper logged; None where that isn't known."""
    if not unit:
        return None
    until, asked = end, False
    for entry in journal(f"--unit={unit}", "--reverse", f"--until=@{int(end) + 2}", "--output-fields=MESSAGE"):
        asked = True
        if until - seconds(entry) > RETRY:
            break
        if REFUSED in str(entry.get("MESSAGE")):
            until = min(until, seconds(entry))
    return until if asked else None


# --- Back ----------------------------------------------------------------------------------------------------------


def line_start(path: str, position: int) -> int:
    """Where the line begins that the byte at this position is in."""
    with open(path, "rb") as stream:
        while position > 0:
            step = min(65536, position)
            stream.seek(position - step)
            found = stream.read(step).rfind(b"\n")
            if found >= 0:
                return position - step + found + 1
            position -= step
    return 0


def file_back(path: str, position: int, floor: int, how: How) -> int:
    """A file's position; unclean ends take it back."""
    size = os.stat(path).st_size
    if position > size:
        # It was cut: what is there is new, or, where the power failed, what reached the disk.
        position, floor = (size, min(floor, size)) if how.power_failed else (0, 0)
    if how.clean and how.held and position and os.stat(path).st_mtime > how.ended - HELD:
        least = min(floor, position)
        for _line in range(LINES):
            position = line_start(path, max(0, position - 1))
        return max(least, position)
    if how.clean or (how.accepted is not None and os.stat(path).st_mtime < how.accepted - MARGIN):
        return position
    return max(floor, line_start(path, max(0, position - how.bytes))) if position > floor else position


def container_back(position: int, floor: int, how: How) -> int:
    if how.clean:
        back = position - HELD
    elif how.accepted is None or position < how.accepted - RETRY:
        back = position - FAR
    else:
        back = int(min(position, how.accepted)) - MARGIN
    return min(position, max(floor, back, 0))


def journal_back(cursor: str, floor: str, how: How) -> str:
    found, limit, entries = cursor, None, MOST_ENTRIES
    for number, entry in enumerate(journal("--reverse", f"--cursor={cursor}", f"--lines={MOST_ENTRIES}",
                                           "--output-fields=PRIORITY")):
        when = seconds(entry)
        if number == 0:
            if how.clean:
                limit = when - HELD
            elif how.accepted is not None and when >= how.accepted - RETRY:
                limit = min(when, how.accepted) - MARGIN
            else:
                entries = min(MOST_ENTRIES, ENTRIES * max(1, how.bytes // BATCH))
        found = entry["__CURSOR"]
        if found == floor or number >= entries or (limit is not None and when < limit):
            break
    return found


class How(NamedTuple):
    clean: bool
    power_failed: bool
    accepted: float | None
    bytes: int
    held: bool = False
    ended: float = 0


def back(key: Key, value: str, floor: str, how: How) -> str:
    if key.path.startswith(CURSOR):
        if how.clean and not how.held:
            return value
        if value.isdigit():
            return str(container_back(int(value), int(floor) if floor.isdigit() else 0, how))
        return journal_back(value, floor, how) if value else value
    if not value.isdigit():
        return value
    return str(file_back(key.path, int(value), int(floor) if floor.isdigit() else 0, how))


def left_behind(path: str, was: list[int], position: int) -> int:
    """Bytes of a file that was renamed before it was read to its end; its name is not read any more."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(os.path.dirname(path)):
            status = entry.stat(follow_symlinks=False)
            if [status.st_dev, status.st_ino] == was:
                return max(0, status.st_size - position)
    return 0


def first_cursor(path: str, positions: dict[Key, str], journals: list[str], after: str) -> None:
    """A journal of which nothing has been read begins where the shipper before this one stopped, or that far back."""
    for name, _equals, age in (given.partition("=") for given in journals):
        # Each of Alloy's components has a folder of its own.
        component = name[len(CURSOR):]
        alloy = component.startswith("loki.source.")
        if any(key.path == name for key in positions) or (
                alloy and os.path.basename(os.path.dirname(path)) != component):
            continue
        before = read(after) if after and os.path.exists(after) else {}
        # What is a number is a container's.
        cursor = next((value for key, value in before.items()
                       if key.path.startswith(CURSOR) and value and not value.isdigit()), "")
        if not cursor:
            begin = time.time() - sum(int(number) * AGES[unit] for number, unit in re.findall(r"(\d+)([smhdw])", age))
            entries = journal(f"--since=@{begin:.0f}", "--output-fields=PRIORITY")
            cursor = next((entry["__CURSOR"] for entry in entries), "")
        if cursor:
            # Alloy 1.19 reads and writes "", and converts Promtail's to "{}", which it doesn't find.
            positions.update({Key(name, labels): cursor for labels in (("", "{}") if alloy else (None,))})


def resume(path: str, unit: str, size: int, journals: list[str] | None = None, after: str = "",
           held: bool = False) -> None:
    try:
        positions = read(path)
        end = os.stat(path).st_mtime
    except FileNotFoundError:
        positions, end = {}, time.time()
    state = noted(path)
    floors = state.get("floors") or {}
    clean = bool(state.get("clean"))
    power_failed = not clean and state.get("boot") not in (None, boot())
    how = How(clean, power_failed, None if clean else accepted_until(unit, end), size, held, end)
    told = []
    before = dict(positions)
    for key, value in before.items():
        was = (state.get("files") or {}).get(key.path)
        here = identity(key.path)
        new = value
        if was and here and was != here and value.isdigit():
            rest = left_behind(key.path, was, int(value))
            say(f"{key.path}: another file now, read from its beginning; unread of the one before: {rest} bytes")
            new = "0"
        elif here or key.path.startswith(CURSOR):
            # The floor is that of the file which was there when the last run began.
            same = key.path.startswith(CURSOR) or (state.get("began") or {}).get(key.path) == here
            new = back(key, value, str(floors.get(key.text(), "")) if same else "", how)
        if new != value:
            positions[key] = new
            told.append(f"{key.path}: {value} → {new}")
    first_cursor(path, positions, journals or [], after)
    if positions != before:
        os.makedirs(os.path.dirname(path), 0o750, exist_ok=True)
        # Root leaves it to whom its folder belongs.
        owner = os.stat(os.path.dirname(path))
        write(path, dump(positions), (owner.st_uid, owner.st_gid) if os.geteuid() == 0 else None)
    if told and not clean:
        until = time.gmtime(how.accepted) if how.accepted else None
        since = time.strftime(", Loki took all until %H:%M:%SZ", until) if until else ""
        say(f"The last end was not clean{since}. Read again: " + "; ".join(told))
    if not os.path.isdir(os.path.dirname(path)):
        return
    write(path + ".state", json.dumps({
        "clean": False, "boot": boot(), "began": files_of(positions),
        "floors": {key.text(): value for key, value in positions.items()}}))


def thrown_away(unit: str) -> bool:
    """Whether the shipper that has just ended says that it gave up on what it held."""
    lines = journal(f"--unit={unit}", "--reverse", f"--since=@{int(time.time()) - RETRY}", "--output-fields=MESSAGE")
    return bool(unit) and any(text in str(entry.get("MESSAGE")) for entry in lines for text in THROWN_AWAY)


def stopped(path: str, result: str) -> None:
    state = noted(path)
    try:
        files = files_of(read(path))
    except (OSError, ValueError):
        files = {}
    write(path + ".state", json.dumps(dict(state, clean=result == "success", files=files)))
    if result != "success":
        say(f"This end was not clean ({result}): what was under way is read again")


def handover(source: str, target: str, unit: str, size: int, user: str) -> None:
    """The positions of the shipper before this one, for its user to read; only where there are none yet."""
    if os.path.exists(target) or not os.path.exists(source):
        return
    account = pwd.getpwnam(user) if user else None
    resume(source, unit, size)
    with open(source, encoding="utf-8") as stream:
        text = stream.read()
    write(target, text, (account.pw_uid, account.pw_gid) if account else None)
    say(f"{source}: handed over as {target}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--unit", default="", help="the shipper's unit, whose journal says since when Loki is away")
    parser.add_argument("--bytes", type=int, default=73728, help="of a file that may be under way")
    parser.add_argument("--journal", action="append", default=[], metavar="CURSOR=AGE",
                        help="name of a journal's position, and how far back its first reading begins")
    parser.add_argument("--after", default="", metavar="FILE",
                        help="positions handed over, which a first start begins with")
    parser.add_argument("--held", action="store_true", help="a clean end, too, loses what waited for another line")
    parser.add_argument("--user", default="", help="to whom positions are handed over")
    parser.add_argument("action", choices=["stopped", "resume", "handover"])
    parser.add_argument("files", nargs="+")
    options = parser.parse_args(arguments)
    if options.action == "handover":
        source, target = options.files
        handover(source, target, options.unit, options.bytes, options.user)
        return 0
    result = os.environ.get("SERVICE_RESULT", "")
    if options.action == "stopped" and result == "success" and thrown_away(options.unit):
        result = "Loki was away"
    paths = sorted({path for pattern in options.files
                    for path in (glob.glob(glob.escape(pattern) if os.path.exists(pattern) else pattern)
                                 or ([] if glob.has_magic(pattern) else [pattern]))})
    for path in paths:
        # Positions that can't be taken back are better than a shipper that doesn't start.
        try:
            if options.action == "resume":
                resume(path, options.unit, options.bytes, options.journal, options.after, options.held)
            elif os.path.isdir(os.path.dirname(path)):
                stopped(path, result)
        except (OSError, ValueError) as error:
            say(f"{path}: left as it is: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
