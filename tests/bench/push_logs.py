#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small client that pushes made-up log lines into Loki as shippers do: protobuf, about 64 KiB a batch.

    push_logs.py push URL --mib N --seconds S --host H    N MiB, as if H had written them evenly over the last S seconds
    push_logs.py write FILE --mib N                       the same lines into a file, for a shipper to read

There are 20 needles among them: `needle-0-needle`, `needle-1-needle`, …

Runs on the host, with any Python >= 3.9 and nothing else. Prints JSON. Only the sending is timed: what is sent is made
before. Nothing is compressed on the way; the wire has the format of snappy all the same, which Loki expects.
"""

import argparse
import http.client
import json
import queue
import random
import threading
import time
import urllib.parse

SERVICES = ("ollama", "keycloak", "postgresql", "n8n", "open-webui", "qdrant", "redis", "host")
LEVELS = ("info", "info", "info", "warning")
PART = 128  # MiB that are held at a time
BATCH = 64 * 1024
NEEDLES = 20


def made_up(dice):
    """A line as one of these programs writes it."""
    kind = dice.randrange(6)
    request = "%032x" % dice.getrandbits(128)
    address = "10.%d.%d.%d" % (dice.randrange(256), dice.randrange(256), dice.randrange(256))
    if kind == 0:
        return '[GIN] 2026/11/22 - 17:%02d:%02d | 200 | %11.6fms | %15s | POST     "/api/chat"' % (
            dice.randrange(60), dice.randrange(60), dice.random() * 5000, address)
    if kind == 1:
        return ('2026-11-22 17:%02d:%06.3f INFO  [org.keycloak.events] (executor-thread-%d) type="LOGIN", '
                'realmId="%s", clientId="grafana", userId="%s", ipAddress="%s", auth_method="openid-connect"' % (
                    dice.randrange(60), dice.random() * 60, dice.randrange(99), request[:12], request, address))
    if kind == 2:
        return ("2026-11-22 17:%02d:%06.3f UTC [%d] app@webui LOG:  duration: %.3f ms  statement: SELECT id, title "
                "FROM chat WHERE user_id = '%s' ORDER BY updated_at DESC LIMIT 60" % (
                    dice.randrange(60), dice.random() * 60, dice.randrange(99999), dice.random() * 900, request))
    if kind == 3:
        return json.dumps({"level": "info", "time": 1763832000000 + dice.randrange(3600000), "msg": "Workflow finished",
                           "executionId": str(dice.randrange(10**6)), "workflowId": request[:16],
                           "durationMs": dice.randrange(90000)})
    if kind == 4:
        return 'INFO:     %s:%d - "GET /api/v1/chats/%s HTTP/1.1" 200 OK' % (address, dice.randrange(65536), request)
    return "time=2026-11-22T17:%02d:%06.3fZ level=INFO source=server.go:%d msg=\"loaded runners\" count=%d id=%s" % (
        dice.randrange(60), dice.random() * 60, dice.randrange(2000), dice.randrange(9), request[:8])


def varint(number):
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def entry(nanoseconds, line):
    seconds, rest = divmod(nanoseconds, 10**9)
    stamp = b"\x08" + varint(seconds) + b"\x10" + varint(rest)
    return field(2, field(1, stamp) + field(2, line))


def snappy(data):
    """The format without its compression: literals alone."""
    parts = [varint(len(data))]
    for start in range(0, len(data), 65536):
        piece = data[start:start + 65536]
        parts.append(b"\xf4" + (len(piece) - 1).to_bytes(2, "little") + piece)
    return b"".join(parts)


def body(labels, entries):
    text = "{" + ", ".join('%s="%s"' % item for item in sorted(labels.items())) + "}"
    return snappy(field(1, field(1, text.encode()) + b"".join(entries)))


class Lines:
    """Made-up lines, spread over the services, each with its time."""

    def __init__(self, size, seconds):
        self.dice = random.Random(5)
        self.pool = [made_up(self.dice) for _time in range(20000)]
        average = sum(map(len, self.pool)) / len(self.pool)
        self.count = int(size / average)
        self.step = int(seconds * 10**9 / self.count) or 1
        self.now = time.time_ns() - self.step * self.count
        self.needles = {self.count * number // NEEDLES + 7: number for number in range(NEEDLES)}
        self.made = 0

    def take(self, size):
        """(time, line) until there are that many bytes."""
        taken = 0
        while self.made < self.count and taken < size:
            line = self.dice.choice(self.pool)
            # No two are the same: what identifies a request differs from line to line.
            line += " seq=%d" % self.made
            if self.made in self.needles:
                line += " needle-%d-needle" % self.needles[self.made]
            self.made += 1
            self.now += self.step
            taken += len(line)
            yield self.now, line.encode()


def bodies(lines, size, host):
    """The next part, as ready requests with their numbers of lines and bytes."""
    waiting = {}
    found = []
    for moment, line in lines.take(size):
        key = (lines.dice.choice(SERVICES), lines.dice.choice(LEVELS))
        entries, held = waiting.get(key, ([], 0))
        entries.append(entry(moment, line))
        held += len(line)
        waiting[key] = (entries, held)
        if held >= BATCH:
            found.append((body(labels(host, *key), entries), len(entries), held))
            del waiting[key]
    return found + [(body(labels(host, *key), entries), len(entries), held) for key, (entries, held) in waiting.items()]


def labels(host, service, level):
    return {"host": host, "service": service, "level": level, "stream": "journal"}


def send(url, ready, connections=2):
    """Seconds that it took, and how many answers said that it was too much."""
    parts = urllib.parse.urlsplit(url)
    work, refused, wrong = queue.Queue(), [], []
    for one in ready:
        work.put(one[0])

    def sender():
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        while not wrong:
            try:
                data = work.get_nowait()
            except queue.Empty:
                return
            while True:
                connection.request("POST", parts.path, data, {"Content-Type": "application/x-protobuf"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 429:
                    refused.append(text)
                    time.sleep(0.25)
                    continue
                if answer.status != 204:
                    wrong.append("%d %s" % (answer.status, text[:300]))
                break

    threads = [threading.Thread(target=sender) for _number in range(connections)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise SystemExit("Loki answered %s" % wrong[0])
    return time.monotonic() - began, len(refused)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["push", "write"])
    parser.add_argument("where")
    parser.add_argument("--mib", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--host", default="bench")
    arguments = parser.parse_args()
    lines = Lines(arguments.mib * 2**20, arguments.seconds)
    told = {"lines": 0, "bytes": 0, "seconds": 0.0, "refused": 0}
    if arguments.command == "write":
        with open(arguments.where, "wb") as handle:
            for _moment, line in lines.take(float("inf")):
                handle.write(line + b"\n")
                told["lines"] += 1
                told["bytes"] += len(line)
    else:
        while ready := bodies(lines, PART * 2**20, arguments.host):
            seconds, refused = send(arguments.where, ready)
            told = {"lines": told["lines"] + sum(one[1] for one in ready),
                    "bytes": told["bytes"] + sum(one[2] for one in ready),
                    "seconds": told["seconds"] + seconds, "refused": told["refused"] + refused}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
