# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret is in its own file and nowhere else."""

import json

import pytest

SECRETS = ["it's \"quoted\" \\back", "first-9\nsecond-9 of it", "{{ not a template }}", "prometheus-toy",
           "$HOME %h `id`"]
PEEK = """
import glob, sys, time
needle, seen = sys.stdin.buffer.read(), 0
end = time.monotonic() + %d
while time.monotonic() < end:
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as handle:
                seen += needle in handle.read()
        except OSError:
            pass
print(seen)
"""


@pytest.mark.parametrize("secret", SECRETS)
def test_it_arrives_and_shows_nowhere(toy, secret):
    files = [{"path": "/etc/toy/web.yml", "content": "password: " + secret, "secret": True}]
    validate = toy.declare()["validate"] + [{"argv": ["/bin/cat", "/run/credentials/toy.service/key"]}]
    texts = [json.dumps(toy.run(key=secret, extra_files=files, validate=validate)),
             json.dumps(toy.run(key=secret + "!", extra_files=[dict(files[0], content="now: " + secret)], check=True)),
             json.dumps(toy.run(key=secret + "!", extra_files=[dict(files[0], content="now: " + secret)]))]
    toy.serves(key=secret + "!")
    assert toy.host.read("/etc/toy/web.yml") == "now: " + secret
    # a checker that says it aloud, and a removal by hand
    failure = toy.fails(key=secret + "?", leak=True, refused=True)
    texts.append(json.dumps(failure.result))
    texts.append(json.dumps(toy.run(key=secret, extra_files=[])))
    lines = secret.splitlines()
    for text in texts:
        for line in lines:
            assert json.dumps(line)[1:-1] not in text
    assert "********" in failure.msg
    for line in lines:
        listed = toy.host.sh("cd / && grep -rlF -f - etc var/lib/toy opt 2>/dev/null", text_in=line + "\n", check=False)
        assert listed.split() == ["etc/aistack/credentials/toy/key"]
        assert toy.host.sh("journalctl --no-pager | grep -cF -f -", text_in=line + "\n", check=False) == "0"
    for path in ("/etc/aistack/credentials/toy/key", "/etc/aistack/credentials/toy"):
        assert toy.host.sh("stat -c %%U%%a %s" % path) in ("root400", "root700")
    assert toy.host.sh("stat -c %U%a /var/lib/aistack/toy /var/lib/aistack").split() == ["root700"] * 2


def test_it_is_in_no_process_arguments(toy):
    toy.host.write("/srv/toy-peek.py", PEEK % 3)
    process = toy.host.start_module(toy.declare(key="needle-7c1f"))
    seen = toy.host.sh("python3 -B /srv/toy-peek.py", text_in="needle-7c1f")
    toy.host.end_module(process)
    assert seen == "0"
    toy.serves(key="needle-7c1f")


def test_the_service_user_can_not_read_the_file_itself(toy):
    toy.run(key="for root alone")
    done = toy.host.sh("setpriv --reuid toy --regid toy --clear-groups cat /etc/aistack/credentials/toy/key 2>&1",
                       check=False)
    assert "Permission denied" in done


def test_a_common_word_as_a_secret_spoils_no_message(toy):
    toy.run(key="toy")
    failure = toy.fails(key="toy", refused=True)
    assert "toycheck refuses the new configuration" in failure.msg and "/etc/toy/toy.json" in failure.msg
