#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A STAND-IN for the outside service that alarms when the watchdog's calls stop (healthchecks.io and the like).

It only counts: GET / answers {"calls": n, "last": unix time, "alertnames": […]} of what was POSTed anywhere. Runs with
any Python >= 3.9 and needs nothing else: watchdog_sink.py HOST PORT.
"""

import http.server
import json
import socketserver
import sys
import time

SEEN = {"calls": 0, "last": 0.0, "alertnames": []}


class Sink(http.server.BaseHTTPRequestHandler):
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


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    Server((sys.argv[1], int(sys.argv[2])), Sink).serve_forever()
