#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands outside of a site, on a throwaway host. Runs with any Python >= 3.9 and needs nothing else.

    outside.py WATCHDOG_PORT [FROM:TO …]

A STAND-IN for the service that alarms when the watchdog's calls stop (healthchecks.io and the like): it only counts,
GET / answers {"calls": n, "last": unix time, "alertnames": […]} of what was POSTed to it. And forwarders, by which the
machine that holds the host reaches ports of the host's loopback.
"""

import asyncio
import contextlib
import http.server
import json
import sys
import threading
import time

SEEN = {"calls": 0, "last": 0.0, "alertnames": []}


class Watchdog(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        names = {alert["labels"].get("alertname", "") for alert in body.get("alerts", [])}
        SEEN.update(calls=SEEN["calls"] + 1, last=time.time(), alertnames=sorted(names | set(SEEN["alertnames"])))
        self.answer(b"{}")

    def do_GET(self):
        self.answer(json.dumps(SEEN).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


async def pump(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def forward(source, target):
    async def connected(reader, writer):
        try:
            back, there = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, there), pump(back, writer))

    await asyncio.start_server(connected, "0.0.0.0", source)


async def main(port, *forwards):
    watchdog = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Watchdog)
    threading.Thread(target=watchdog.serve_forever, daemon=True).start()
    for pair in forwards:
        await forward(*map(int, pair.split(":")))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
