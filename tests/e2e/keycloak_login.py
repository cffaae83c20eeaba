# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person with a browser who logs in to Grafana by the page of the real Keycloak, step by step.

Every step of the way is a method, so that a test can tamper with it:

    person = Person("http://127.0.0.1:3000")
    page = person.open(person.begin())                      # Grafana sends the browser to Keycloak's page
    callback = person.submit(page, "ada", "password")       # Keycloak sends it back with a code
    person.finish(callback)                                 # Grafana takes the code
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie

SESSION = "grafana_session"
START = "/login/generic_oauth"


class Form(HTMLParser):
    """The first form of a page, and what Keycloak says about a mistake."""

    def __init__(self, text):
        super().__init__()
        self.action = ""
        self.fields = {}
        self.message = ""
        self._inside = self._message = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "form" and not self.action:
            self.action, self._inside = given.get("action", ""), True
        elif tag == "input" and self._inside and given.get("name"):
            self.fields[given["name"]] = given.get("value") or ""
        elif re.search(r"\binput-error|kc-error-message|kc-feedback-text|\binstruction\b", " ".join(
                (given.get("id") or "", given.get("class") or ""))):
            self._message = True

    def handle_endtag(self, tag):
        if tag == "form":
            self._inside = False

    def handle_data(self, data):
        if self._message and data.strip():
            self.message = self.message or " ".join(data.split())


@dataclass
class Answer:
    url: str
    status: int
    headers: dict[str, str]
    text: str
    form: Form = field(init=False)

    def __post_init__(self):
        self.form = Form(self.text)

    @property
    def location(self):
        """Where it sends the browser; an empty text when it stays."""
        return urllib.parse.urljoin(self.url, self.headers["Location"]) if "Location" in self.headers else ""

    def json(self):
        return json.loads(self.text)


class Stay(urllib.request.HTTPRedirectHandler):
    """A step of the way is one answer."""

    def redirect_request(self, *_arguments):
        return None


class Browser:
    """Keeps cookies by host and path, and sends those marked Secure over http as well: to Keycloak's loopback address
    a browser does that, too, and a cookie jar of Python's does not."""

    def __init__(self):
        self.cookies: dict[tuple[str, str, str], str] = {}
        self._opener = urllib.request.build_opener(Stay, urllib.request.ProxyHandler({}))

    def request(self, method, url, form=None, body=None):
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        headers = {"Accept-Language": "en"}
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(url, data, headers, method=method)
        place = urllib.parse.urlsplit(url)
        mine = {name: value for (host, path, name), value in self.cookies.items()
                if host == place.hostname and place.path.startswith(path)}
        if mine:
            request.add_header("Cookie", "; ".join(f"{name}={value}" for name, value in mine.items()))
        try:
            answer = self._opener.open(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            for line in answer.headers.get_all("Set-Cookie") or []:
                for name, cookie in SimpleCookie(line).items():
                    self.keep(place.hostname, cookie["path"] or "/", name, cookie)
            return Answer(url, answer.status, dict(answer.headers), answer.read().decode("utf-8", "replace"))

    def keep(self, host, path, name, cookie):
        if cookie["max-age"] in ("0", "-1") or "1970" in cookie["expires"] or not cookie.value:
            self.cookies.pop((host, path, name), None)
        else:
            self.cookies[host, path, name] = cookie.value

    def cookie(self, name):
        return next((value for (_host, _path, known), value in self.cookies.items() if known == name), "")

    def drop(self, *names):
        self.cookies = {key: value for key, value in self.cookies.items() if key[2] not in names}


class Person(Browser):
    def __init__(self, grafana):
        super().__init__()
        self.grafana = grafana.rstrip("/")
        self.reason = ""

    # -- the way in ----------------------------------------------------------------------------------------------

    def begin(self):
        """Grafana's redirect to Keycloak."""
        answer = self.request("GET", self.grafana + START)
        assert answer.status in (302, 303, 307) and answer.location, (answer.status, answer.text[:500])
        return answer.location

    def open(self, url):
        """Keycloak's page for that address: a form, an error, or (with a session there) a redirect back."""
        return self.request("GET", url)

    def submit(self, page, user, password):
        """Fills in the form: a redirect to Grafana, or the form again with a message."""
        assert page.form.action, (page.status, page.location, page.text[:2000])
        fields = dict(page.form.fields, username=user, password=password)
        return self.request("POST", urllib.parse.urljoin(page.url, page.form.action), form=fields)

    def finish(self, url):
        """Grafana takes the code. True with a session; otherwise `reason` says what it shows."""
        before = self.cookie(SESSION)
        answer = self.request("GET", url)
        self.reason = "" if self.cookie(SESSION) not in ("", before) else self._reason(answer)
        return not self.reason

    def _reason(self, answer):
        """Refusals that are the user's business are shown on Grafana's log-in page, others on a page of their own."""
        if answer.location and urllib.parse.urlsplit(answer.location).path.endswith("/login"):
            page = self.request("GET", answer.location).text
            settings = re.search(r"settings:\s*(\{.*)", page)
            shown = json.JSONDecoder().raw_decode(settings[1])[0].get("loginError", "") if settings else ""
            return shown or "no session and no reason"
        title = re.search(r"<h1>\s*(.*?)\s*</h1>", answer.text, re.DOTALL)
        return f"{answer.status}: {title[1] if title else answer.text[:300]}"

    def log_in(self, user, password):
        """All of it; with a session at Keycloak no form is shown. True with a session in Grafana."""
        page = self.open(self.begin())
        if not page.location:
            page = self.submit(page, user, password)
        if not page.location.startswith(self.grafana):
            self.reason = page.form.message or f"{page.status}: {page.text[:300]}"
            return False
        return self.finish(page.location)

    # -- inside --------------------------------------------------------------------------------------------------

    def ask(self, path, method="GET", body=None):
        return self.request(method, self.grafana + path, body=body)

    @property
    def inside(self):
        """Whether Grafana takes this browser for somebody."""
        return self.ask("/api/user").status == 200

    @property
    def role(self):
        (one,) = self.ask("/api/user/orgs").json()
        return one["role"]

    def log_out(self):
        """Out of Grafana, and on where it sends the browser; Keycloak's question is answered with yes.

        The answers on the way.
        """
        answers = [self.ask("/logout")]
        while len(answers) < 8:
            last = answers[-1]
            if last.location:
                answers.append(self.open(last.location))
            elif "logout-confirm" in last.form.action:
                answers.append(self.request("POST", urllib.parse.urljoin(last.url, last.form.action),
                                            form=last.form.fields))
            else:
                break
        return answers
