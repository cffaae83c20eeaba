# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a log line between its source and Loki, described once, and written as Promtail or Alloy want it.

Both programs run the same stages and the same relabelling. The description is in Promtail's form, plain data:
`pipeline(logs)`. Knows nothing of Ansible. Regular expressions are RE2's, and valid in Python for the tests' sake.

The way of an entry: labels from its source · lines that belong together are joined · lines that nobody wants go ·
secrets go · level, ids and (files) time are read from what is left · labels that are not ours go.
"""

from __future__ import annotations

import json
import re

LABELS = ["host", "service", "container", "level", "stream"]

# Canonical level by the words that programs say; numbers are pino's and bunyan's.
LEVELS = {
    "critical": ["critical", "crit", "fatal", "panic", "emerg", "emergency", "alert", "dpanic", "60"],
    "error": ["error", "err", "severe", "eror", "50"],
    "warning": ["warning", "warn", "40"],
    "info": ["info", "information", "informational", "notice", "log", "30"],
    "debug": ["debug", "dbug", "trace", "trce", "verbose", "fine", "finer", "finest", "20", "10"],
}
KLOG = {"F": "critical", "E": "error", "W": "warning", "I": "info"}

_WORD = (r"(?:fatal|d?panic|emerg(?:ency)?|alert|crit(?:ical)?|severe|err(?:or)?|warn(?:ing)?|notice"
         r"|info(?:rmation(?:al)?)?|debug|trace|verbose|fine(?:r|st)?)")
_COLOUR = r"(?:\x1b\[[\d;]*m)*"
# What the first line of an entry says of its level, in the order of trust: a named field; a word in capitals, between
# brackets or bars, or before a colon, within the first words; Go's klog.
LEVEL_SAID = (
    rf"^(?:[^\n]*?(?:(?:^|\s)(?:level|lvl|severity|loglevel)=\"?|\"(?:level|lvl|severity|levelname)\"\s*:\s*\")"
    rf"(?P<field>(?i:{_WORD}))\b"
    rf"|(?P<klog>[FEWI])\d{{4}} \d\d:\d\d:\d\d"
    rf"|[ \t]*(?:\S+[ \t]+){{0,6}}?(?:"
    rf"[\[(<|]?{_COLOUR}(?P<word>FATAL|PANIC|EMERG|ALERT|CRIT|CRITICAL|SEVERE|ERR|ERROR|WARN|WARNING|NOTICE|INFO"
    rf"|DEBUG|TRACE|VERBOSE|FINE|FINER|FINEST){_COLOUR}(?:[\])>|:,\[]|\s|$)"
    rf"|(?:[\[(<]|\|\s*)(?P<mark>(?i:{_WORD}))(?:[\])>]|\s*\|)"
    rf"|{_COLOUR}(?P<head>(?i:{_WORD})){_COLOUR}:(?:\s|$)))"
)

JSON_FIELDS = {
    "said": 'level || severity || lvl || loglevel || log_level || levelname || "log.level" || log.level || "@l"',
    "request_id": 'request_id || requestId || requestID || req_id || reqId || "request.id" || req.id || '
                  'correlation_id || correlationId || mdc.requestId',
    "trace_id": 'trace_id || traceId || traceID || "trace.id" || trace.id || "dd.trace_id" || mdc.traceId',
}
IDS_SAID = {
    "request_id": r"(?i)\b(?:x-)?(?:request|req|correlation)[_-]?id[\"']?\s*[=:]\s*[\"']?(?P<request_id>[\w.:-]{6,80})",
    "trace_id": r"(?i)\btrace[_-]?id[\"']?\s*[=:]\s*[\"']?(?P<trace_id>[\w-]{6,64})",
}
IDS_GUARD = r"(?i)(?:request|req|correlation|trace)[_-]?id"

# --- Entries of several lines, of programs of which nothing is known -------------------------------------------------

# No line that begins like this begins an entry.
CONTINUATIONS = [
    "Caused by:", "Suppressed:", "... ", "Traceback (most", "During handling of the above", "The above exception was",
    "goroutine ", "created by ", "}", "]",
]


def begins_with_none_of(prefixes: list[str]) -> str:
    """An RE2 expression of what begins with no white space and with none of these; RE2 can't look ahead."""
    tree: dict = {}
    for prefix in prefixes:
        if any(prefix != other and prefix.startswith(other) for other in prefixes):
            continue
        node = tree
        for letter in prefix:
            node = node.setdefault(letter, {})

    def leaves(node: dict, first: bool) -> str:
        """What leaves this node by another way than its children."""
        if not node:                                          # a whole prefix: there is no other way
            return ""
        letters = "".join(re.escape(letter) for letter in sorted(node))
        ways = [f"[^{letters}{chr(92)}s]" if first else f"(?:[^{letters}]|$)"]
        for letter, below in sorted(node.items()):
            way = leaves(below, False)
            if way:
                ways.append(re.escape(letter) + way)
        return "(?:" + "|".join(ways) + ")" if len(ways) > 1 else ways[0]

    return "^" + leaves(tree, True)


# Step one joins what a line itself tells to be the rest of another. Step two sees only what opens a block and what may
# go on with one: so `ValueError: …` ends a traceback, and stays an entry where there is none. What begins with white
# space gets as far as that where a stream begins, or goes on after a pause, with a traceback.
FIRST_LINE = begins_with_none_of(CONTINUATIONS)
_NAMED_ERROR = r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Timeout|Iteration|Group|Fault|Failure)"
BLOCK_OPENS = (r"^(?:[^\n]*\n(?:[ \t][^\n]*\n)*)?Traceback \(most recent call last\)"
               r"|^(?:panic|fatal error): |-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*$")
BLOCK_GOES_ON = (rf"^(?:[ \t]|{_NAMED_ERROR}(?::[^\n]*)?(?:$|\n\s*(?:[^a\s]|a[^t]))"
                 r"|[\w./*()]+\([^\n]*\)\n\t\S+\.go:\d|exit status \d|-----END "
                 r"|[A-Za-z0-9+/]{40,76}={0,2}$|[A-Za-z0-9+/]+={1,2}$)")
LOOKS_LIKE_AN_ERROR = rf"^(?:{_NAMED_ERROR}(?::|\n|$))"
# Step two must wait longer: what ends a block stays in step one until its time is over.
MULTILINE = {"max_wait_time": "500ms", "max_lines": 500}
BLOCK = MULTILINE | {"max_wait_time": "1s"}

# --- Secrets ---------------------------------------------------------------------------------------------------------

# Most lines have none of these words and pass one expression. The marks that are left behind begin with `<`, which no
# expression takes for a value: a line that passes twice doesn't change again.
SECRET_GUARD = (r"(?i)passw|passphrase|secret|token|api[_-]?key|authorization|bearer"
                r"|(?:access|private|encryption|signing|master|auth)[_ -]?key"
                r"|pass\\?[\"']?\s*[:=]|-pass\s|pwd"
                r"|basic |identified by|://[^\s@]*@|akia|asia|gh[pousr]_|github_pat|xox|xapp-|sk-|eyj|glpat-|hf_|aiza"
                r"|hooks\.slack|webhooks/|glsa_|npm_|bot\d|hv[bs]\.|[rs]k_(?:live|test)_|sg\.|gocspx-"
                r"|curl\s|mysql\w*\s+-|sshpass|redis-cli")
_PASSWORD = r"(?:passw(?:or)?d(?:[_-]?hash|\d)?|passphrase)"
_TOKEN = (r"(?:access|auth|refresh|id|session|bearer|api|bot|csrf|user|private|personal|deploy|service"
          r"|registration|login|reset|invite|client|hub|hf|web|vault)[_-]?token")
_NAMED_KEY = (r"(?:(?:api|encryption|signing|master|auth|private|secret)[_-]?key(?:[_-]?base)?"
              r"|access[_-]?key(?:[_-]?id)?"
              rf"|{_TOKEN})")
_KEY = rf"[\w.-]*(?:{_PASSWORD}|secret|{_NAMED_KEY})"
# `pass` is also a test's result and `PWD` a folder: not before every colon, and not in every spelling.
_KEY_OR_PASS = (rf"[\w.-]*(?:{_PASSWORD}|secret|{_NAMED_KEY}|(?:\b|_)pass|[_-]pwd"
                r"|(?-i:\bpwd|[a-z]Pass|[a-z]Pwd))")
# These are no secrets, whatever the key: words, what masks another, variables, paths, counts and times.
HARMLESS = (
    r"(?i:null|none|nil|true|false|undefined|required|missing|invalid|empty|unset|not|yes|no|changed|ok|passed|failed"
    r"|failure|success|skipped|enabled|disabled|incorrect|expired|wrong|unknown|error|rejected|accepted|denied|mismatch"
    r"|unauthorized|unauthenticated|authenticated|unavailable|unspecified|configured|authentication|authorization"
    r"|malformed|revoked|updated|generated|is|was|to|or|and|for|in|on|with|must|cannot|can|option|flag|argument|instead"
    r"|[\[(]?(?:not_logging_\w+|value_specified_in_no_log_parameter|redacted|masked|hidden|filtered|removed|omitted"
    r"|censored|obfuscated|protected|sanitized|scrubbed)[\])]?)"
    "|\u2022+"
    r"|\*+|\*{3}.*|[xX]{3,}|[.#_-]{3,}|%\w|%\(.*|\$[A-Z_][A-Z0-9_]*"
    r"|\$\{[^}]*\}?|\$\(.*|\{\{.*|[{(\[][})\]]?|\{[A-Za-z_]+\}"
    r"|(?:~|\.{1,2})?(?:/[a-z0-9._@-]+)+/?"
    r"|/(?:etc|run|var|opt|srv|home|root|usr|tmp|mnt|data|app|config|certs?|secrets?|Users)/[\w.@/+ -]*"
    r"|\d{1,2}|\d{1,4}(?:\.\d+)?(?:ms|s|%)|\d+/\d+|<redacted:\w+>.*")


def _unless_harmless(mark: str) -> str:
    return ("{{ if .Value }}{{ if eq (regexReplaceAllLiteral `^(?:" + HARMLESS + ")$` .Value ``) `` }}{{ .Value }}"
            "{{ else }}" + mark + "{{ end }}{{ end }}")


_CREDENTIAL = _unless_harmless("<redacted:credential>")
# What stands between quotes, whose own may be escaped, and between quotes that are escaped themselves.
_QUOTED = (r"(?:\\\"([^\"\\<\s](?:[^\"\\]|\\[^\"\\]|\\\\(?:\\.|[^\"\\]))*)|\"((?:[^\"\\<\s]|\\.)(?:[^\"\\]|\\.)*)"
           r"|'([^'<\s][^']*)')")
_END = r"[ \t]*(?:$|[,;}\])\"'\\])"
REDACTIONS = [
    (r"(-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|$))", "<redacted:private_key>"),
    (r"\b(eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?)", "<redacted:jwt>"),
    (r"(?i)\bauthorization\\?[\"']?\s*[:=]\s*\\?[\"']?(?:bearer|basic|token|digest|apikey|negotiate)\s+"
     r"([^\s\"',;<\\][^\s\"',;\\]*)", "<redacted:authorization>"),
    (r"(?i)\b(?:bearer\s+([a-z0-9._~+/-]{20,}=*)|basic\s+([a-z0-9+/]{24,}={0,2}|[a-z0-9+/]{6,}={1,2}))",
     "<redacted:authorization>"),
    # Also with what belongs escaped; a host's port has digits only.
    (r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@:\"'<\[]*:(?:([^\s/?#\"'<]+)@"
     r"|([\w.+~!$%*=^-]*[A-Za-z_!~^*][\w.+~!$%*=^-]*[/?#][^\s\"'<@]*)@[\w.-])",
     _unless_harmless("<redacted:url_password>")),
    (r"\b((?:AKIA|ASIA)[0-9A-Z]{16})\b", "<redacted:aws_key>"),
    (r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}"
     r"|sk-[A-Za-z0-9_-]{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|AIza[\w-]{30,}|glsa_\w{20,}|npm_[A-Za-z0-9]{30,}"
     r"|hv[bs]\.[\w-]{20,}|[rs]k_(?:live|test)_[A-Za-z0-9]{10,}|SG\.[\w-]{16,}\.[\w-]{16,}|GOCSPX-[\w-]{16,})"
     r"|hooks\.slack\.com/services/([\w/]+)|\bwebhooks/\d+/([\w-]{20,})|\bbot(\d{6,}:[\w-]{30,})", "<redacted:token>"),
    # "key": "value", 'key': 'value', key="value", also with the quotes escaped; then key=value. A bare `token` may be
    # a model's word or a count of them: it must look like a secret.
    (rf"(?i){_KEY_OR_PASS}\\?[\"']?\s*[:=]\s*{_QUOTED}"
     r"|(?:^|[^\w.])token\\?[\"']?\s*[:=]\s*\\?[\"']((?:[a-z][\w.~+/-]*\d|\d[\w.~+/-]*[a-z])[\w.~+/=-]{4,}"
     r"|[\w.~+/=-]{16,})", _CREDENTIAL),
    # A number in JSON becomes a string, that it stays JSON.
    (rf"(?i)[{{,]\s*\"{_KEY_OR_PASS}\"\s*:\s*(-?\d{{4,}}[\d.]*)", '"<redacted:credential>"'),
    (rf"(?i){_KEY_OR_PASS}[ \t]*=[ \t]*([^\s\"',;&<>|\\=][^\s\"',;&<>|\\]+)"
     r"|(?:^|[^\w.])token=([\d.~+/_-]*[a-z][\w.~+/=-]{5,})", _CREDENTIAL),
    # After a colon prose may follow: what has digits and letters, or many digits, or is all that follows.
    (rf"(?im){_KEY}\\?[\"']?[ \t]*:(?:[ \t]*([^\s\"',;<:\\]*[a-z][^\s\"',;<:\\]*\d[^\s\"',;<\\]*"
     rf"|\d[^\s\"',;<:\\]*[a-z][^\s\"',;<\\]*)|[ \t]+([^\s\"',;<\\]{{3,}}\d[^\s\"',;<\\]*|\d[^\s\"',;<\\]{{5,}}))"
     rf"|{_PASSWORD}[ \t]*:[ \t]+([^\s\"',;<\\]{{2,}}){_END}|{_NAMED_KEY}[ \t]*:[ \t]+([\w.~+/=-]{{12,}}){_END}",
     _CREDENTIAL),
    (r"(?i)\b(?:password|identified by)\s+'([^'<][^']*)'", "<redacted:credential>"),
    # Command lines, as sudo logs them.
    (rf"(?i)(?:^|\s)--?(?:{_KEY_OR_PASS}|token)[ \t]+(?:{_QUOTED}|([^\s\"'<\\-][^\s\"',;<\\]+))", _CREDENTIAL),
    (r"\bcurl\s(?:[^\n;|]*?\s)?(?:-u|-U|--user|--proxy-user)[ =]?[\"']?[^\s:\"'<]+:([^\s\"'<]+)"
     r"|\bmysql\w*\s(?:[^\n;|]*?\s)?-p([^\s\"'<]+)|\bsshpass\s+-p\s*([^\s\"'<]+)"
     r"|\bredis-cli\s(?:[^\n;|]*?\s)?-a\s+([^\s\"'<]+)", _CREDENTIAL),
]

_JSON_LINE = r"^\s*\{"
# Go reads bytes that are no UTF-8 as U+FFFD where it looks at characters. One character alone it would look for by its
# bytes, hence two.
NO_UTF8 = "([\ufffc\ufffd]+)"


def _selector(labels: dict | None = None, line: str = "") -> str:
    """A LogQL selector; an operator other than = stands at the value's front."""
    parts = []
    for name, value in (labels or {"host": "=~.+"}).items():
        operator = next((sign for sign in ("=~", "!~", "!=") if value.startswith(sign)), "=")
        parts.append(f"{name}{operator}{json.dumps(value.removeprefix(operator), ensure_ascii=False)}")
    text = "{" + ",".join(parts) + "}"
    return f"{text} |~ {json.dumps(line, ensure_ascii=False)}" if line else text


def _match(stages: list[dict], labels: dict | None = None, line: str = "") -> dict:
    return {"match": {"selector": _selector(labels, line), "stages": stages}}


def _one_of(services) -> str:
    return "|".join(re.escape(name) for name in sorted(services))


def _joined(parse: dict, only: dict, services: set | None) -> list[dict]:
    """Stages that make one entry of lines that belong together; the `only` labels say which lines."""
    known = {name: rules["first_line"] for name, rules in parse.items()
             if rules.get("first_line") and (services is None or name in services)}
    stages = [_match([{"multiline": {"firstline": expression} | MULTILINE}], {"service": name} | only)
              for name, expression in sorted(known.items())]
    if services is not None and services <= known.keys():
        return stages
    others = ({"service": "!~" + _one_of(known)} if known else {}) | only
    return stages + [
        _match([{"multiline": {"firstline": FIRST_LINE} | MULTILINE}], others),
        _match([{"multiline": {"firstline": BLOCK_OPENS} | BLOCK}], others, f"{BLOCK_OPENS}|{BLOCK_GOES_ON}"),
    ]


def _dropped(parse: dict, logs: dict, services: set | None) -> list[dict]:
    stages = [_match([{"drop": {"expression": rule["line"], "drop_counter_reason": f"{name}: {rule['why']}"}}
                      for rule in rules["drop"]], {"service": name})
              for name, rules in sorted(parse.items())
              if rules.get("drop") and (services is None or name in services)]
    return stages + [{"drop": {"expression": expression, "drop_counter_reason": "log_sources.drop"}}
                     for expression in logs.get("drop") or []]


def _redacted(logs: dict) -> list[dict]:
    own = [{"replace": {"expression": rule["expression"], "replace": rule["replace"]}}
           for rule in logs.get("redact") or []]
    return [_match([{"replace": {"expression": expression, "replace": mark}} for expression, mark in REDACTIONS],
                   line=SECRET_GUARD)] + own


_SAID = '.said .field .word .mark .head ""'


def _chosen(variable: str, levels: dict[str, list[str]]) -> list[str]:
    """Branches of a template: which words mean which level."""
    return [f"if eq {variable} {' '.join(map(json.dumps, words))} }}}}{level}" for level, words in levels.items()]


def _level_template() -> str:
    """The canonical word of what was said, else of the journal's priority."""
    branches = _chosen("$said", LEVELS) + [
        f'if eq (or .klog "") "{letter}" }}}}{level}' for letter, level in KLOG.items()]
    return (f"{{{{ $said := ToLower (or .level {_SAID}) }}}}{{{{ {'{{ else '.join(branches)}"
            '{{ else }}{{ or .priority "unknown" }}{{ end }}')


def _own_template(words: dict) -> str:
    """The level that a program's own expression found, and its own words before the usual ones. Empty where neither
    knows it, so that what else the line says counts."""
    own: dict[str, list[str]] = {}
    for word, level in words.items():
        own.setdefault(level, []).append(str(word).lower())
    branches = _chosen("$own", own) + _chosen("$own", LEVELS) + _chosen("$said", own)
    return (f'{{{{ $own := ToLower (or .level "") }}}}{{{{ $said := ToLower (or {_SAID}) }}}}'
            f"{{{{ {'{{ else '.join(branches)}{{{{ end }}}}")


def _understood(parse: dict, services: set | None, files: bool) -> list[dict]:
    """Stages that read level, ids and time from an entry."""
    stages: list[dict] = [
        {"regex": {"expression": LEVEL_SAID}},
        _match([{"json": {"expressions": JSON_FIELDS}}], line=_JSON_LINE),
        _match([{"regex": {"expression": expression}} for expression in IDS_SAID.values()], line=IDS_GUARD),
    ]
    for name, rules in sorted(parse.items()):
        if services is not None and name not in services:
            continue
        # The last expression that matches counts; the first one shall.
        own: list[dict] = [{"regex": {"expression": expression}} for expression in reversed(rules.get("level") or [])]
        if rules.get("level") or rules.get("levels"):
            own.append({"template": {"source": "level", "template": _own_template(rules.get("levels") or {})}})
        own += [{"regex": {"expression": expression}} for expression in rules.get("metadata") or []]
        if files and rules.get("time"):
            first, *others = rules["time"]["formats"]
            own += [{"regex": {"expression": rules["time"]["expression"]}},
                    # A time without a zone is the host's. A line whose time can't be read keeps the one at which it was
                    # read.
                    {"timestamp": {"source": "time", "format": first}
                     | ({"fallback_formats": others} if others else {})
                     | {"location": "Local", "action_on_failure": "skip"}}]
        if own:
            stages.append(_match(own, {"service": name}))
    return stages + [
        {"template": {"source": "level", "template": _level_template()}},
        {"labels": {"level": "level"}},
        _match([{"static_labels": {"level": "error"}}], {"level": "=~info|debug|unknown"},
               r"(?m)^Traceback \(most recent call last\)"),
        _match([{"static_labels": {"level": "error"}}], {"level": "unknown"}, LOOKS_LIKE_AN_ERROR),
        {"structured_metadata": {name: name for name in ("unit", "request_id", "trace_id")}},
        {"labelallow": LABELS},
    ]


def _stages(logs: dict, only: dict, services: set | None = None, files: bool = False) -> list[dict]:
    parse = logs.get("parse") or {}
    return [*_joined(parse, only, services), *_dropped(parse, logs, services),
            {"replace": {"expression": NO_UTF8, "replace": "\ufffd"}},
            *_redacted(logs), *_understood(parse, services, files)]


# --- Labels from the sources -----------------------------------------------------------------------------------------


def _set(label: str, value: str, source: str | list[str] = "", expression: str = "") -> dict:
    """A relabelling rule: `label` becomes `value` where the source matches."""
    rule: dict = {"source_labels": [source] if isinstance(source, str) else source} if source else {}
    return rule | ({"regex": expression} if expression else {}) | {"target_label": label, "replacement": value}


def _of_glob(pattern: str) -> str:
    """RE2 of a pattern as systemd knows them."""
    translated = ""
    for part in re.split(r"(\*|\?|\[[^]]+\])", pattern):
        translated += {"*": ".*", "?": "."}.get(part) or (part if part.startswith("[") else re.escape(part))
    return translated


def _escaped(name: str) -> str:
    return name.replace("$", "$$")


def _container_services(logs: dict, source: str) -> list[dict]:
    """The first match wins, so it is written last."""
    return [_set("service", _escaped(entry["service"]), source, "/?" + re.escape(entry["name"]))
            for entry in reversed(logs.get("containers") or [])]


def _journal_rules(logs: dict) -> list[dict]:
    unit, transport, container = "__journal__systemd_unit", "__journal__transport", "__journal_container_name"
    rules = [
        _set("host", _escaped(logs["host"])),
        _set("stream", "journal"),
        _set("transport", "$1", transport, "(.+)"),
        _set("unit", "$1", unit, "(.+)"),
        # What systemd says of a unit.
        _set("unit", "$1", "__journal_unit", "(.+)"),
        _set("service", "host"),
        _set("service", "$1", unit, r"(.+?)(?:@.*)?\.service"),
        _set("service", "host", unit, r"(?:user@.*|user-runtime-dir@.*|run-.*)\.service"),
        *[_set("service", _escaped(entry["service"]), unit, _of_glob(entry["unit"]))
          for entry in reversed(logs.get("units") or [])],
        _set("service", "kernel", transport, "kernel"),
        # By name, in whatever session they are.
        _set("service", "sshd", "__journal_syslog_identifier", "sshd(?:-session|-auth)?"),
        _set("service", "sudo", "__journal_syslog_identifier", "sudo"),
    ]
    both = [transport, "__journal_priority"]
    rules += [_set("priority", level, both, rf"[^;]*;{numbers}")
              for level, numbers in [("critical", "[0-2]"), ("error", "3"), ("warning", "4"), ("info", "5"),
                                     ("debug", "7")]]
    # 6 is what systemd gives to every line of a program that writes to its standard output.
    rules.append(_set("priority", "info", both, "(?:kernel|syslog|journal|driver|audit);6"))
    if logs.get("docker"):
        rules.append({"source_labels": [container], "regex": ".+", "action": "drop"})
    else:
        # Docker's journald driver: 3 is what a container wrote to its standard error, whatever it says there.
        rules += [
            _set("container", "$1", container, "/?(.+)"),
            _set("service", "$1", container, "/?(.+)"),
            _set("service", "$1", "__journal_com_docker_compose_service", "(.+)"),
            *_container_services(logs, container),
            _set("stream", "stdout", container, ".+"),
            _set("stream", "stderr", [container, "__journal_priority"], ".+;3"),
            _set("transport", "stdout", container, ".+"),
            _set("priority", "", container, ".+"),
            _set("unit", "", container, ".+"),
        ]
    return rules


def _docker_rules(logs: dict) -> list[dict]:
    name = "__meta_docker_container_name"
    return [
        _set("host", _escaped(logs["host"])),
        _set("container", "$1", name, "/?(.+)"),
        _set("service", "$1", name, "/?(.+)"),
        _set("service", "$1", "__meta_docker_container_label_com_docker_compose_service", "(.+)"),
        *_container_services(logs, name),
        _set("stream", "$1", "__meta_docker_container_log_stream", "(.+)"),
    ]


def pipeline(logs: dict) -> dict:
    """{"push", "journal": {"max_age", "relabel", "stages"}, "docker": {"relabel", "stages"},
    "files": {"targets": [labels], "stages"}}; sources that this host doesn't have are left out."""
    result: dict = {"push": logs["push"]}
    if logs.get("journal"):
        # Only what a program wrote line by line can be the rest of another line.
        result["journal"] = {"max_age": logs.get("max_age") or "12h", "relabel": _journal_rules(logs),
                             "stages": _stages(logs, {"transport": "stdout"})}
    if logs.get("docker"):
        result["docker"] = {"relabel": _docker_rules(logs), "stages": _stages(logs, {})}
    if logs.get("files"):
        services = {entry["service"] for entry in logs["files"]}
        result["files"] = {
            "targets": [{"__path__": path, "host": logs["host"], "service": entry["service"], "stream": "file"}
                        for entry in logs["files"] for path in entry["paths"]],
            "stages": _stages(logs, {}, services, files=True)}
    return result


# --- Promtail --------------------------------------------------------------------------------------------------------

DOCKER = "unix:///var/run/docker.sock"
# Small batches: what is under way when the shipper is killed may be lost or come twice. Retries never end.
BATCH = {"bytes": 64 * 1024, "wait": "250ms", "least": "250ms", "most": "10s", "timeout": "10s"}
# Alloy fills one batch while another waits and a third is being sent.
QUEUED = "16KiB"


def promtail(described: dict, options: dict) -> dict:
    """Promtail's configuration. Options: positions (path), listen_address, server, max_line_size."""
    host, _colon, port = options["listen_address"].rpartition(":")
    jobs: list[dict] = []
    if "journal" in described:
        part = described["journal"]
        jobs.append({"job_name": "journal", "journal": {"max_age": part["max_age"]},
                     "relabel_configs": part["relabel"], "pipeline_stages": part["stages"]})
    if "docker" in described:
        part = described["docker"]
        jobs.append({"job_name": "docker", "docker_sd_configs": [{"host": DOCKER, "refresh_interval": "5s"}],
                     "relabel_configs": part["relabel"], "pipeline_stages": part["stages"]})
    if "files" in described:
        part = described["files"]
        jobs.append({"job_name": "files", "static_configs": [{"targets": ["localhost"], "labels": labels}
                                                             for labels in part["targets"]],
                     "pipeline_stages": part["stages"]})
    clients = []
    for target in described["push"]:
        tls = target.get("tls") or {}
        secure = {"ca_file": tls.get("authority"), "server_name": tls.get("server_name")}
        secure = {name: value for name, value in secure.items() if value}
        clients.append({"url": target["url"], "batchsize": BATCH["bytes"], "batchwait": BATCH["wait"],
                        "timeout": BATCH["timeout"],
                        "backoff_config": {"min_period": BATCH["least"], "max_period": BATCH["most"], "max_retries": 0}}
                       | ({"tls_config": secure} if secure else {}))
    return {
        "server": {"http_listen_address": host.strip("[]"), "http_listen_port": int(port), "grpc_listen_port": 0}
                  | (options.get("server") or {}),
        "positions": {"filename": options["positions"], "sync_period": "1s"},
        "clients": clients,
        "target_config": {"sync_period": "5s"},
        "scrape_configs": jobs,
    }


# --- Alloy -----------------------------------------------------------------------------------------------------------


class Expression(str):
    """Alloy code where a value is expected."""


def _value(value) -> str:
    if isinstance(value, Expression):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inner = ", ".join(f"{key if re.fullmatch('[A-Za-z_][A-Za-z0-9_]*', key) else json.dumps(key)} = {_value(item)}"
                          for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # JSON's escapes are Alloy's too, but for control characters, which no configuration of ours has.
    return json.dumps(value, ensure_ascii=False)


class Block:
    """An Alloy block. It prints as `alloy fmt` prints it."""

    def __init__(self, kind: str, label: str = "", blocks=(), /, **attributes) -> None:
        self.head = f'{kind} "{label}"' if label else kind
        self.attributes = {key: value for key, value in attributes.items() if value is not None}
        self.blocks = list(blocks)

    def lines(self, depth: int = 0) -> list[str]:
        tabs = "\t" * depth
        if not self.attributes and not self.blocks:
            return [f"{tabs}{self.head} {{ }}"]
        width = max((len(key) for key in self.attributes), default=0)
        result = [f"{tabs}{self.head} {{"]
        for key, value in self.attributes.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                result += [f"{tabs}\t{key.ljust(width)} = [", *[f"{tabs}\t\t{_value(item)}," for item in value],
                           f"{tabs}\t]"]
            else:
                result.append(f"{tabs}\t{key.ljust(width)} = {_value(value)}")
        for number, block in enumerate(self.blocks):
            result += ([""] if number or self.attributes else []) + block.lines(depth + 1)
        return [*result, f"{tabs}}}"]


# Stages whose settings Alloy wants under another name or one level deeper.
_DEEPER = {"labels": "values", "structured_metadata": "values", "static_labels": "values"}


def _stage(stage: dict) -> Block:
    (name, settings), = stage.items()
    if name == "labelallow":
        return Block("stage.label_keep", values=settings)
    if name == "match":
        return Block("stage.match", "", [_stage(inner) for inner in settings.get("stages", [])],
                     **{key: value for key, value in settings.items() if key != "stages"})
    if name in _DEEPER:
        return Block(f"stage.{name}", **{_DEEPER[name]: settings})
    return Block(f"stage.{name}", **settings)


def alloy(described: dict, options: dict | None = None) -> str:
    """Alloy's configuration. Options: log_level, web_tls (paths of certificate and key), handed_over (path of a copy of
    Promtail's positions, which counts where a file has none yet)."""
    options = options or {}
    blocks = [Block("logging", format="logfmt", level=options.get("log_level") or "info")]
    if tls := options.get("web_tls"):
        blocks.append(Block("http", "", [Block("tls", cert_file=tls["certificate"], key_file=tls["key"])]))

    def processed(name: str, part: dict) -> None:
        blocks.append(Block("loki.process", name, [_stage(stage) for stage in part["stages"]],
                            forward_to=[Expression("loki.write.loki.receiver")]))

    def relabelled(name: str, part: dict) -> None:
        blocks.append(Block("loki.relabel", name, [Block("rule", **rule) for rule in part["relabel"]], forward_to=[]))

    if "journal" in described:
        part = described["journal"]
        blocks.append(Block("loki.source.journal", "journal", max_age=part["max_age"],
                            relabel_rules=Expression("loki.relabel.journal.rules"),
                            forward_to=[Expression("loki.process.journal.receiver")]))
        relabelled("journal", part)
        processed("journal", part)
    if "docker" in described:
        part = described["docker"]
        blocks.append(Block("discovery.docker", "docker", host=DOCKER, refresh_interval="5s"))
        blocks.append(Block("loki.source.docker", "docker", host=DOCKER,
                            targets=Expression("discovery.docker.docker.targets"),
                            relabel_rules=Expression("loki.relabel.docker.rules"), refresh_interval="5s",
                            forward_to=[Expression("loki.process.docker.receiver")]))
        relabelled("docker", part)
        processed("docker", part)
    if "files" in described:
        part = described["files"]
        blocks.append(Block("local.file_match", "files", sync_period="5s", path_targets=part["targets"]))
        blocks.append(Block("loki.source.file", "files", targets=Expression("local.file_match.files.targets"),
                            legacy_positions_file=options.get("handed_over"),
                            forward_to=[Expression("loki.process.files.receiver")]))
        processed("files", part)
    endpoints = []
    for target in described["push"]:
        tls = target.get("tls") or {}
        secure = [Block("tls_config", ca_file=tls.get("authority"), server_name=tls.get("server_name"))] if tls else []
        # Its queue holds 10 MiB if it is let: minutes of lines, which are read and not yet sent.
        queue = Block("queue_config", capacity=QUEUED)
        endpoints.append(Block(
            "endpoint", "", [*secure, queue],
            url=target["url"], batch_size=QUEUED, batch_wait=BATCH["wait"], remote_timeout=BATCH["timeout"],
            min_backoff_period=BATCH["least"], max_backoff_period=BATCH["most"], max_backoff_retries=0,
            retry_on_http_429=True))
    blocks.append(Block("loki.write", "loki", endpoints))
    return "\n\n".join("\n".join(block.lines()) for block in blocks) + "\n"
