#!/usr/bin/env python3
# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands outside of a site, on a throwaway host. Runs with any Python >= 3.9 and needs nothing else.

    outside.py PORT [FROM:TO …]

All of it are STAND-INS, on one port of the loopback:

    the service that alarms when the watchdog's calls stop (healthchecks.io and the like): it only counts; GET / answers
    {"calls": n, "last": unix time, "alertnames": […]} of what was POSTed to any address but these three:
    /slack…, /discord…, /webhook… refuse what the real ones refuse, with their status and words; GET /received answers
    [{"at": unix time, "service": …, "sender": …, "refused": why or "", "payload": …}, …].

And forwarders, by which the machine that holds the host reaches ports of the host's loopback.
"""

import asyncio
import contextlib
import email.parser
import email.policy
import http.server
import json
import sys
import threading
import time

SEEN = {"calls": 0, "last": 0.0, "alertnames": []}
RECEIVED = []


class Refused(Exception):
    """A status, and the words of the real service."""


def slack(kind, body):
    """An incoming webhook: JSON with something to show."""
    if kind != "application/json":
        raise Refused(400, "invalid_payload")
    try:
        payload = json.loads(body)
    except ValueError:
        raise Refused(400, "invalid_payload") from None
    attachments = payload.get("attachments") or []
    shown = [payload.get("text"), payload.get("blocks"), *(
        one.get("text") or one.get("title") or one.get("fallback") or one.get("blocks") for one in attachments)]
    if not any(shown):
        raise Refused(400, "no_text")
    if len(attachments) > 100:
        raise Refused(400, "too_many_attachments")
    if len(payload.get("blocks") or []) > 50:
        raise Refused(400, "invalid_blocks")
    return payload, 200, "ok"


def discord(kind, body):
    """A channel's webhook: JSON, alone or beside files."""
    try:
        payload = json.loads(part_of_form(kind, body, "payload_json") if kind.startswith("multipart/") else body)
    except ValueError:
        raise Refused(400, '{"code": 50109, "message": "The request body contains invalid JSON."}') from None
    embeds = payload.get("embeds") or []
    if not payload.get("content") and not embeds:
        raise Refused(400, '{"code": 50006, "message": "Cannot send an empty message"}')
    texts = [(payload.get("content"), 2000), (payload.get("username"), 80)]
    for one in embeds:
        texts += [(one.get("title"), 256), (one.get("description"), 4096)]
    addresses = [payload.get("avatar_url"), *(one.get("url") for one in embeds)]
    if (len(embeds) > 10 or any(len(text or "") > limit for text, limit in texts)
            or any(one and not one.startswith(("http://", "https://")) for one in addresses)):
        raise Refused(400, '{"code": 50035, "message": "Invalid Form Body"}')
    return payload, 204, ""


def webhook(_kind, body):
    """What Alertmanager's and Grafana's manuals promise to a program that reads it."""
    try:
        payload = json.loads(body)
        alerts = payload["alerts"]
        whole = alerts and payload["status"] in ("firing", "resolved") and "receiver" in payload and all(
            one["labels"]["alertname"] and one["status"] in ("firing", "resolved") and one["startsAt"] and
            one["fingerprint"] for one in alerts)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise Refused(422, "not a notification of alerts")
    return payload, 200, "{}"


def part_of_form(kind, body, name):
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    for part in message.iter_parts():
        if part.get_param("name", header="content-disposition") == name:
            return part.get_payload(decode=True)
    return b""


SERVICES = {"slack": slack, "discord": discord, "webhook": webhook}


class Outside(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = next((one for one in SERVICES if self.path.startswith("/" + one)), "")
        if not name:
            return self.watchdog(json.loads(body or "{}"))
        entry = {"at": time.time(), "service": name, "sender": self.headers.get("User-Agent", ""), "refused": ""}
        try:
            entry["payload"], status, answer = SERVICES[name](self.headers.get("Content-Type") or "", body)
        except Refused as refused:
            status, answer = refused.args
            entry.update(payload=body.decode(errors="replace"), refused=answer)
        RECEIVED.append(entry)
        return self.answer(answer, status, "application/json" if answer.startswith("{") else "text/html")

    def watchdog(self, payload):
        names = {alert["labels"].get("alertname", "") for alert in payload.get("alerts", [])}
        SEEN.update(calls=SEEN["calls"] + 1, last=time.time(), alertnames=sorted(names | set(SEEN["alertnames"])))
        self.answer("{}")

    def do_GET(self):
        self.answer(json.dumps(RECEIVED if self.path == "/received" else SEEN))

    def answer(self, text, status=200, kind="application/json"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
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
    services = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Outside)
    threading.Thread(target=services.serve_forever, daemon=True).start()
    for pair in forwards:
        await forward(*map(int, pair.split(":")))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
