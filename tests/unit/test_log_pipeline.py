# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of the log pipeline: its expressions, its labels, and that both shippers get the same.

What a line becomes in the programs themselves is seen in tests/contract/test_log_pipeline.py and in the scenarios.
"""

import json
import re

import pytest
from ansible_collections.aistack.observability.plugins.plugin_utils import log_pipeline as pipeline

LOGS = {
    "host": "gpu1", "push": [{"url": "http://127.0.0.1:3100/loki/api/v1/push"}], "journal": True, "docker": True,
    "units": [{"unit": "ollama.service", "service": "ollama"}, {"unit": "ollama*.service", "service": "second"},
              {"unit": "postgresql@*.service", "service": "postgresql"}],
    "containers": [{"name": "n8n.1", "service": "n8n"}],
    "files": [{"paths": ["/var/log/a/*.log", "/var/log/b.log"], "service": "app"}],
    "parse": {
        "app": {"first_line": r"^\d{4}-", "level": [r"^\S+ (?P<level>\w+)", r"<(?P<level>\w+)>"],
                "levels": {"SUCCESS": "info"}, "metadata": [r"id (?P<request_id>\w+)"],
                "time": {"expression": r"^(?P<time>\S+)", "formats": ["2006-01-02", "02 Jan 2006"]},
                "drop": [{"line": "^noise", "why": "says nothing"}]},
        "n8n": {"first_line": r"^\d{4}-"},
    },
    "redact": [{"expression": "(own-secret)", "replace": "<redacted:own>"}], "drop": ["^nobody wants this"],
}


def stages(tree):
    """Every stage, also those within others."""
    for stage in tree:
        (name, settings), = stage.items()
        yield name, settings
        if name == "match":
            yield from stages(settings.get("stages", []))


def all_stages(described):
    return [item for source in ("journal", "docker", "files") if source in described
            for item in stages(described[source]["stages"])]


def expressions(described):
    for name, settings in all_stages(described):
        if name in ("regex", "replace", "drop"):
            yield settings["expression"]
        elif name == "multiline":
            yield settings["firstline"]
        elif name == "match":
            for text in re.findall(r'\|~ ("(?:[^"\\]|\\.)*")', settings["selector"]):
                yield json.loads(text)
    for source in ("journal", "docker"):
        yield from (rule["regex"] for rule in described.get(source, {}).get("relabel", []) if "regex" in rule)


@pytest.mark.parametrize("expression", sorted(set(expressions(pipeline.pipeline(LOGS)))))
def test_an_expression_is_one_of_re2_and_of_python(expression):
    assert not re.search(r"\(\?(?:[=!>]|<[=!])|\\[1-9]|\(\?P=|\\Z|[+*?}][+]", expression), "RE2 has no such thing"
    re.compile(expression)
    # Go refuses more than 1000 repetitions, and unrolls all of them.
    assert all(int(count) <= 100 for count in re.findall(r"\{(?:\d+,)?(\d+)\}", expression))


# -- entries of several lines ------------------------------------------------------------------------------------------

def blocks(text):
    """What the two multiline stages make of lines that come at once; nothing came before them."""
    entries, begun = [], False
    for line in text.splitlines():
        if re.search(pipeline.FIRST_LINE, line) or not begun:
            begun = begun or bool(re.search(pipeline.FIRST_LINE, line))
            entries.append(line)
        else:
            entries[-1] += "\n" + line
    result, block = [], None
    for entry in entries:
        if re.search(pipeline.BLOCK_OPENS, entry):
            block = len(result)
            result.append(entry)
        elif block is not None and re.search(pipeline.BLOCK_GOES_ON, entry):
            result[block] += "\n" + entry
        else:
            result.append(entry)
    return result


PYTHON = """Traceback (most recent call last):
  File "/app/a.py", line 3, in <module>
    main()
ValueError: no such thing"""
CHAINED = PYTHON + """

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/b.py", line 1, in main
requests.exceptions.ConnectionError: HTTPConnectionPool(host='a', port=1)

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/c.py", line 1, in main
SystemExit"""
JAVA = """java.lang.IllegalStateException: broken
\tat org.example.A.b(A.java:12)
\tat org.example.C.d(C.java:34)
Caused by: java.io.IOException: gone
\tat org.example.E.f(E.java:56)
\t... 12 more"""
NODE = """TypeError: Cannot read properties of undefined (reading 'x')
    at main (/app/index.js:1:2)
    at node:internal/main:3:4"""
GO = """panic: runtime error: index out of range [3] with length 2

goroutine 1 [running]:
main.main()
\t/src/main.go:5 +0x1d
created by main.start in goroutine 1
\t/src/start.go:9 +0x2
exit status 2"""
KEY = """-----BEGIN RSA PRIVATE KEY-----
MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7MaBQwBtPoHfzBkbW
MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7MaBQwBtPoHfzBkbW
c2VjcmV0
Rk9PQg==
-----END RSA PRIVATE KEY-----"""


@pytest.mark.parametrize("text", [PYTHON, CHAINED, JAVA, NODE, GO, KEY.replace("c2VjcmV0\n", ""),
                                  "ERROR:root:failed\n" + PYTHON, '{\n  "a": 1\n}'])
def test_what_belongs_together_is_one_entry(text):
    assert blocks(text) == [text]
    assert blocks(f"before\n{text}\nafter")[-1] == "after"


@pytest.mark.parametrize("text", [
    "one\ntwo\nthree",
    "2026-01-01 ERROR one\n2026-01-01 ERROR two",
    '{"a": 1}\n{"a": 2}',
    "ValueError: alone\nConnectionError: alone\nError: alone",
    "Caution: a\nCause unknown\nCaused an alarm\nTrace 1\nTraceback is a word",
    "During the night\nThe end\n.. a\ncreated",
    "10.0.0.1 - - [01/Jan/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 200\n::1 - - x",
    "[GIN] 2026/01/01 - 00:00:00 | 200 |\n[ERROR] b\n<6>c\n(d)\n-e\n#f\né ü",
    "main()\nfoo(bar)\nabcdef\nQUJD",
    "goroutines\ncreate d",
])
def test_ordinary_lines_are_never_joined(text):
    assert blocks(text) == text.splitlines()
    assert blocks(PYTHON + "\nafter it\n" + "\n".join(line for line in text.splitlines() if "Error:" not in line))[0] \
        == PYTHON


@pytest.mark.parametrize("prefixes", [["a"], ["ab", "ac"], ["ab", "abc"], ["Caused by:", "Cause", "x.y(z)"], ["]"]])
def test_begins_with_none_of(prefixes):
    expression = re.compile(pipeline.begins_with_none_of(prefixes))
    words = {prefix[:end] + tail for prefix in prefixes for end in range(len(prefix) + 1)
             for tail in ("", "a", "b", "z", "]", " ", "é")}
    for word in sorted(words):
        wanted = bool(word) and not word[0].isspace() and not word.startswith(tuple(prefixes))
        assert bool(expression.search(word)) == wanted, word


# -- levels ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("line", "level"), [
    ("2026-01-01 00:00:00,123 ERROR [org.keycloak] (main) broken", "error"),
    ("2026-01-01 00:00:00,123 - app.module - WARNING - careful", "warning"),
    ("2026-01-01 00:00:00.123 | INFO     | open_webui.main:1 - hello", "info"),
    ("INFO:     127.0.0.1:1 - \"GET / HTTP/1.1\" 200 OK", "info"),
    ("time=2026-01-01T00:00:00Z level=WARN source=a.go:1 msg=\"an ERROR was seen\"", "warning"),
    ("ts=1 lvl=eror msg=x", ""),
    ("logger=a t=1 level=error msg=b", "error"),
    ('log {"severity":"critical","a":1}', "critical"),
    ("[ERROR] a", "error"), ("[warn] b", "warning"), ("<notice> c", "info"),
    ("2026/01/01 00:00:00 [crit] 12#12: *1 connect() failed", "critical"),
    ("2026-01-01T00:00:00Z | debug | n8n says", "debug"),
    ("error: no such file", "error"), ("fatal: not a git repository", "critical"), ("npm warn: old", "warning"),
    ("panic: runtime error", "critical"),
    ("E0102 03:04:05.678 1 a.go:1] klog", "error"), ("I0102 03:04:05.678 1 a.go:1] klog", "info"),
    ("\x1b[31mERROR\x1b[0m red", "error"),
    ("2026-01-01T00:00:00Z  INFO qdrant::a: ok", "info"),
    ("08:15:00.123 [main] DEBUG org.example - x", "debug"),
    ("no errors were found", ""), ("Information about a warning system", ""), ("an info page", ""),
    ('10.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "GET /error HTTP/1.1" 200', ""),
    ("one two three four five six seven eight ERROR late", ""),
    ("first line\nERROR second", ""), ("ERRORS: 3", ""), ("INFORMATION", ""), ("loglevel set to debug", ""),
])
def test_what_a_line_says_of_its_level(line, level):
    found = re.search(pipeline.LEVEL_SAID, line)
    groups = found.groupdict() if found else {}
    said = next((groups[name] for name in ("field", "word", "mark", "head") if groups.get(name)), "").lower()
    known = {word: canonical for canonical, words in pipeline.LEVELS.items() for word in words}
    assert (known[said] if said else pipeline.KLOG.get(groups.get("klog"), "")) == level


def test_every_word_has_one_level():
    words = [word for words in pipeline.LEVELS.values() for word in words]
    assert len(words) == len(set(words))
    assert set(pipeline.LEVELS) == {"critical", "error", "warning", "info", "debug"}


# -- secrets -----------------------------------------------------------------------------------------------------------

def redacted(line, rules=pipeline.REDACTIONS):
    """What the replace stages make of a line: every group of every match is replaced."""
    if not re.search(pipeline.SECRET_GUARD, line):
        return line
    for expression, mark in rules:
        result, done = "", 0
        for match in re.finditer(expression, line):
            for group in range(1, match.re.groups + 1):
                start, end = match.span(group)
                if start < 0 or start < done:
                    continue
                harmless = "{{" in mark and re.fullmatch(pipeline.HARMLESS, match[group])
                result += line[done:start] + (
                    match[group] if harmless else re.search(r"<redacted:\w+>", mark)[0] if "{{" in mark else mark)
                done = end
        line = result + line[done:]
    return line


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
GITHUB, SLACK, OPENAI = "ghp_" + "a1B2" * 9, "xoxb-" + "123456789012-abcdef", "sk-proj-" + "a1B2" * 6


@pytest.mark.parametrize(("line", "wanted"), [
    ("password=hunter2 next=1", "password=<redacted:credential> next=1"),
    ("DB_PASSWORD=hunter2;x", "DB_PASSWORD=<redacted:credential>;x"),
    ("--password=hunter2", "--password=<redacted:credential>"),
    ('{"password": "a b", "n": 1}', '{"password": "<redacted:credential>", "n": 1}'),
    (r'{"msg": "sent {\"password\":\"hunter2\",\"a\":1}"}',
     r'{"msg": "sent {\"password\":\"<redacted:credential>\",\"a\":1}"}'),
    ("{'api_key': 'x y', 'a': 1}", "{'api_key': '<redacted:credential>', 'a': 1}"),
    ('client_secret="x"', 'client_secret="<redacted:credential>"'),
    ("GET /cb?access_token=abc&state=1 HTTP/1.1", "GET /cb?access_token=<redacted:credential>&state=1 HTTP/1.1"),
    ("GET /x?a=1&token=abcdef12 HTTP/1.1", "GET /x?a=1&token=<redacted:credential> HTTP/1.1"),
    ("apiKey=abc", "apiKey=<redacted:credential>"),
    ("AWS_SECRET_ACCESS_KEY=ab/cd+ef", "AWS_SECRET_ACCESS_KEY=<redacted:credential>"),
    ('"token": "9f86d081884c7d659a2f"', '"token": "<redacted:credential>"'),
    ("Password: hunter2", "Password: <redacted:credential>"),
    ("ALTER ROLE a PASSWORD 'geheim'", "ALTER ROLE a PASSWORD '<redacted:credential>'"),
    ("Authorization: Bearer abc.def", "Authorization: Bearer <redacted:authorization>"),
    ("authorization: Basic dXNlcjpwYXNz", "authorization: Basic <redacted:authorization>"),
    ('{"Authorization":"Bearer abcdef"}', '{"Authorization":"Bearer <redacted:authorization>"}'),
    ("curl -H 'Bearer abcdefghijklmnopqrst'", "curl -H 'Bearer <redacted:authorization>'"),
    ("redis://:hunter2@db:6379/0", "redis://:<redacted:url_password>@db:6379/0"),
    ("to postgres://u:p%40ss@db/x and http://a:b@c/", "to postgres://u:<redacted:url_password>@db/x and "
                                                      "http://a:<redacted:url_password>@c/"),
    (f"key {AWS} used", "key <redacted:aws_key> used"),
    (f"{GITHUB} {SLACK} {OPENAI}", "<redacted:token> <redacted:token> <redacted:token>"),
    ("https://hooks.slack.com/services/T0/B0/xyz", "https://hooks.slack.com/services/<redacted:token>"),
    (f"got {JWT}!", "got <redacted:jwt>!"),
    (f"Authorization: Bearer {JWT}", "Authorization: Bearer <redacted:jwt>"),
    (KEY, "<redacted:private_key>"),
    (json.dumps({"key": KEY, "a": 1}), '{"key": "<redacted:private_key>", "a": 1}'),
    ("-----BEGIN PRIVATE KEY-----\nMIIE", "<redacted:private_key>"),
    *((given.format(secret), given.format("<redacted:credential>")) for given, secret in [
        ("WEBUI_SECRET_KEY={}", "t0p-s3cret-Value99"), ("N8N_SMTP_PASS={}", "hunter2secret"), ("DB_PASS={}",
        "xyz12345"),
        ("MYSQL_PWD={}", "hunter2abc"), ("smtpPass={}", "geheim"), ("pass={} host=a", "geheim"),
        ("N8N_ENCRYPTION_KEY={}", "abcdef"),
        ("password = {}", "hunter2"), ("api_key = {}", "abcdef123456"), ("password: {}", "hunter"),
        ("user: a, password: {}, b: 1", "hunter"), ("password:{}", "hunter2"), ("password={}", "a$b"),
        ("password={}", "(hunter2"),
        ("password={}", "$ecret"),
        ("api_key: {}", "sixteen-12345678"), ("Password: {}", "12345678"),
        ("PWD=/root ; USER=root ; COMMAND=/usr/bin/mysqldump --password {} db", "hunter2"),
        ("PWD=/root ; TTY=pts/0 ; COMMAND=/usr/bin/mysqldump --password={} db", "hunter2"),
        ("COMMAND=/usr/bin/mysql -uroot -p{} db", "hunter2"), ("COMMAND=/usr/bin/sshpass -p {} ssh a", "hunter2"),
        ("COMMAND=/usr/bin/redis-cli -h a -a {} ping", "hunter2"), ("a --api-key '{}' b", "x y"), ("a --token {}",
        "geheim"),
        ("COMMAND=/usr/bin/curl -u admin:{} https://x", "hunter2"), ("curl -s --user 'a:{}' https://x", "hunter2"),
        ("X-Auth-Token: {}", "9f8a7b6c1234"), ("X-Api-Key: {}", "abcdefghijkl"), ("curl -H 'X-Api-Key: {}' b",
        "abcdefghijkl"),
        ("private_key={}", "/Ab9+xYz/1234567890"),
    ]),
    ('{"password":"{a b"}', '{"password":"<redacted:credential>"}'),
    ('{"secret_key":"abcd1234efgh"}', '{"secret_key":"<redacted:credential>"}'),
    ('{"pass":"hunter2abc"}', '{"pass":"<redacted:credential>"}'), ('{"pwd":"hunter2"}',
    '{"pwd":"<redacted:credential>"}'),
    ('{"password": 12345678, "a": 1}', '{"password": "<redacted:credential>", "a": 1}'),
    (r'{"password":"a\"b c","d":"e"}', '{"password":"<redacted:credential>","d":"e"}'),
    (r'{"password":"\"b c","d":"e"}', '{"password":"<redacted:credential>","d":"e"}'),
    (json.dumps({"msg": json.dumps({"password": 'a"b\\c', "d": "e"})}),
     json.dumps({"msg": json.dumps({"password": "<redacted:credential>", "d": "e"})})),
    ("https://user:p/ss@db", "https://user:<redacted:url_password>@db"),
    ("https://user:p?s/s@db/x", "https://user:<redacted:url_password>@db/x"),
    ("https://user:p@ss@db/x", "https://user:<redacted:url_password>@db/x"),
    *((f"key {token}.", "key <redacted:token>.") for token in [
        "hvs" + ".CAESIJlU9JqXw0abcdefgh12", "sk_live" + "_4eC39HqLyjWDarjtT1", "GOCSPX" + "-abcdefghijkl1234567890",
        "SG" + ".ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc"]),
])
def test_secrets_are_taken_out(line, wanted):
    assert redacted(line) == wanted
    assert redacted(wanted) == wanted, "it changes what it has changed"
    if line.startswith('{"'):
        json.loads(redacted(line))


@pytest.mark.parametrize("line", [
    "token_count=12 max_tokens: 100 tokens=5 next_token=abcdefgh",
    '{"eval_count": 12, "prompt_tokens": 5, "token": "information", "tokens": "abc"}',
    "print_info: EOS token        = 151645 '<|im_end|>'", "token=12 token=151645", "bos_token='<s>'",
    "password=null api_key=None secret=true access_token=undefined", "password=**** token=%s password=${PW}",
    "password=<redacted:credential>", "Failed password for root from 192.0.2.1 port 22 ssh2",
    "PWD=/home/a ; USER=root ; COMMAND=/bin/ls", "authorization: failed", "Bearer authentication is needed",
    "basic authentication failed", "http://host:8080/a@b", "https://example.org/reset-password",
    "invalid token: expired",
    "password authentication failed for user \"a\"", "password: incorrect", "secrets loaded: 5", "Asia/Tokyo",
    "secretName: db", "the task-force-of-the-ministry-of-silly-walks", "risk-assessment",
    "postgresql://app:***@db/x", "postgres://app:xxxxx@db/x", "password=****", "password=NOT_LOGGING_PARAMETER",
    "password=NOT_LOGGING_PASSWORD", "password: ********", "api_key=[REDACTED]", 'password="***"', "password: (hidden)",
    'private_key="/etc/ssl/private/x.key"', "password_file=/etc/x", "secret=/run/secrets/db", "--password-file /etc/x",
    "token_count=12", "max_tokens: 100", '"eval_count": 5', "tokens: 5", "pass=1 fail=0", "pass=12 fail=3",
    "PASS: TestLogin1",
    "Failed password for invalid user admin from 10.0.0.9 port 22", "passed: 12", "bypass=abcdef1", "compass=abcdef1",
    "PWD=/root", "TTY=pts/0 ; PWD=/root ; USER=root ; COMMAND=/usr/bin/mysql -uroot -P3306 db",
    'level=info msg="token refreshed"', 'type=LOGIN_ERROR, realmId="a", auth_method=openid-connect, code_id=abc123',
    "http://host:8080/path@x", "http://[::1]:8080/a@b", "invalid password: user not found", "--password is required",
    "docker run --user 1000:1000 a", "pwd: command not found", "secret: default", "check_password:42: done",
    "the password must be changed", "password == other",
    '{"secret": {"name": "a"}, "password": null, "token": 12345678}',
])
def test_ordinary_words_stay(line):
    assert redacted(line) == line


# -- labels ------------------------------------------------------------------------------------------------------------

def relabelled(rules, **labels):
    """Prometheus's relabelling, as far as it is used; None where the line is dropped."""
    for rule in rules:
        value = ";".join(labels.get(name, "") for name in rule.get("source_labels", []))
        found = re.fullmatch(rule.get("regex", "(.*)"), value, re.DOTALL)
        if found and rule.get("action") == "drop":
            return None
        if found:
            parts = ["$", *(group or "" for group in found.groups())]
            labels[rule["target_label"]] = re.sub(
                r"\$(\$|\d)", lambda part, all=parts: all[0 if part[1] == "$" else int(part[1])], rule["replacement"])
    return {name: value for name, value in labels.items() if value and not name.startswith("__")}


def of_journal(logs=LOGS, **fields):
    rules = pipeline.pipeline(logs)["journal"]["relabel"]
    return relabelled(rules, **{f"__journal_{name}": value for name, value in fields.items()})


@pytest.mark.parametrize(("fields", "service"), [
    ({"_systemd_unit": "ollama.service"}, "ollama"),
    ({"_systemd_unit": "ollama-two.service"}, "second"),
    ({"_systemd_unit": "postgresql@16-main.service"}, "postgresql"),
    ({"_systemd_unit": "cron.service"}, "cron"),
    ({"_systemd_unit": "getty@tty1.service"}, "getty"),
    ({"_systemd_unit": "session-1.scope"}, "host"), ({"_systemd_unit": "init.scope"}, "host"),
    ({"_systemd_unit": "user@1000.service"}, "host"), ({"_systemd_unit": "run-r1a2.service"}, "host"),
    ({}, "host"),
    ({"_transport": "kernel"}, "kernel"),
    ({"_systemd_unit": "session-1.scope", "syslog_identifier": "sudo"}, "sudo"),
    ({"_systemd_unit": "session-2.scope", "syslog_identifier": "sshd-session"}, "sshd"),
    ({"_systemd_unit": "ssh.service", "syslog_identifier": "sshd"}, "sshd"),
])
def test_whose_a_line_of_the_journal_is(fields, service):
    labels = of_journal(**fields)
    assert labels["service"] == service
    assert (labels["host"], labels["stream"]) == ("gpu1", "journal")


@pytest.mark.parametrize(("transport", "priority", "level"), [
    ("stdout", "6", None), ("stdout", "3", "error"), ("stdout", "4", "warning"), ("syslog", "6", "info"),
    ("kernel", "0", "critical"), ("kernel", "2", "critical"), ("journal", "7", "debug"), ("syslog", "5", "info"),
])
def test_what_a_priority_means(transport, priority, level):
    assert of_journal(_transport=transport, _priority=priority).get("priority") is None
    assert of_journal(_transport=transport, priority=priority).get("priority") == level


def test_a_unit_is_told_of_by_systemd():
    assert of_journal(_systemd_unit="init.scope", unit="ollama.service")["unit"] == "ollama.service"


def test_containers_that_log_to_the_journal():
    fields = {"_systemd_unit": "docker.service", "_transport": "journal", "container_name": "n8n.1", "priority": "3"}
    assert of_journal(**fields) is None
    labels = of_journal(LOGS | {"docker": False}, **fields)
    assert labels == {"host": "gpu1", "service": "n8n", "container": "n8n.1", "stream": "stderr", "transport": "stdout"}


def test_containers():
    def of_docker(**labels):
        return relabelled(pipeline.pipeline(LOGS)["docker"]["relabel"],
                          **{f"__meta_docker_container_{name}": value for name, value in labels.items()})
    compose = "label_com_docker_compose_service"
    assert of_docker(name="/n8n.1", log_stream="stderr") == {
        "host": "gpu1", "service": "n8n", "container": "n8n.1", "stream": "stderr"}
    assert of_docker(name="/n8n11", log_stream="stdout")["service"] == "n8n11"
    assert of_docker(name="/ai-db-1", log_stream="stdout", **{compose: "db"})["service"] == "db"
    assert of_docker(name="/n8n.1", log_stream="stdout", **{compose: "db"})["service"] == "n8n"


def test_a_dollar_in_a_name_stays_one():
    logs = LOGS | {"host": "a$1b", "containers": [{"name": "x", "service": "y$1"}]}
    labels = relabelled(pipeline.pipeline(logs)["docker"]["relabel"], __meta_docker_container_name="/x")
    assert (labels["host"], labels["service"]) == ("a$1b", "y$1")


@pytest.mark.parametrize("source", ["journal", "docker", "files"])
def test_no_other_label_leaves_the_host(source):
    described = pipeline.pipeline(LOGS)
    assert described[source]["stages"][-1] == {"labelallow": ["host", "service", "container", "level", "stream"]}


# -- the whole ---------------------------------------------------------------------------------------------------------

def test_only_the_sources_that_there_are():
    assert set(pipeline.pipeline({"host": "a", "push": []})) == {"push"}
    described = pipeline.pipeline({"host": "a", "push": [], "files": [{"paths": ["/a"], "service": "b"}]})
    assert set(described) == {"push", "files"}


def test_a_service_costs_only_its_own_lines():
    described = pipeline.pipeline(LOGS | {"drop": [], "redact": []})
    for name in ("journal", "docker", "files"):
        everyone = [kind for stage in described[name]["stages"] for kind in stage if kind != "match"]
        # One expression for the level and one for what is no UTF-8; everything else is behind a selector.
        assert sorted(everyone) == ["labelallow", "labels", "regex", "replace", "structured_metadata", "template"]


def test_time_is_read_from_files_alone():
    described = pipeline.pipeline(LOGS)
    of = {name: [settings for kind, settings in stages(described[name]["stages"]) if kind == "timestamp"]
          for name in ("journal", "docker", "files")}
    assert of == {"journal": [], "docker": [], "files": [{
        "source": "time", "format": "2006-01-02", "fallback_formats": ["02 Jan 2006"], "location": "Local",
        "action_on_failure": "skip"}]}


def test_what_the_user_adds():
    kinds = all_stages(pipeline.pipeline(LOGS))
    assert ("replace", {"expression": "(own-secret)", "replace": "<redacted:own>"}) in kinds
    assert ("drop", {"expression": "^nobody wants this", "drop_counter_reason": "log_sources.drop"}) in kinds
    assert ("drop", {"expression": "^noise", "drop_counter_reason": "app: says nothing"}) in kinds


def test_promtail_never_gives_up():
    made = pipeline.promtail(pipeline.pipeline(LOGS | {"push": [
        {"url": "https://a/loki/api/v1/push", "tls": {"authority": "/ca.pem",
        "server_name": "a"}}, {"url": "http://b"}]}),
        {"listen_address": "[::1]:9080", "positions": "/var/lib/promtail/positions.yaml"})
    assert [client["backoff_config"]["max_retries"] for client in made["clients"]] == [0, 0]
    assert [client.get("tls_config") for client in made["clients"]] == [
        {"ca_file": "/ca.pem", "server_name": "a"}, None]
    assert made["server"] == {"http_listen_address": "::1", "http_listen_port": 9080, "grpc_listen_port": 0}
    assert [job["job_name"] for job in made["scrape_configs"]] == ["journal", "docker", "files"]
    json.dumps(made)


def test_both_shippers_run_the_same_stages():
    """Every expression, template and selector of Promtail's is in Alloy's, as often, in the same order."""
    described = pipeline.pipeline(LOGS)
    text = pipeline.alloy(described)
    written = [json.loads(value) for value in re.findall(
        r'^\t+(?:expression|firstline|template|selector) += ("(?:[^"\\]|\\.)*")$', text, re.MULTILINE)]
    meant = [settings[key] for name, settings in all_stages(described)
             for key in ("selector", "expression", "firstline", "template") if key in settings]
    assert written == meant
    rules = [rule for source in ("journal", "docker") for rule in described[source]["relabel"]]
    assert text.count("\trule {") == len(rules)
