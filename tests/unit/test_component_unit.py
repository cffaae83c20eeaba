# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit as systemd reads it."""

import pytest
from ansible_collections.aistack.observability.plugins.module_utils.component.errors import ComponentError
from ansible_collections.aistack.observability.plugins.module_utils.component.unit import (
    Unit,
    quote,
    quote_environment,
)

ACCOUNT = {"user": "toy", "group": "toys", "groups": ["video", "render"]}


def unit(spec=None, **more):
    given = dict({"description": "Toy", "exec": ["{program}/toy", "--say=a b"]}, **(spec or {}))
    arguments = dict({"account": ACCOUNT, "data": ["/var/lib/toy"], "credentials": ["key"],
                      "program": "/opt/aistack/toy/current", "reload_signal": "SIGHUP"}, **more)
    return Unit("toy", given, **arguments)


@pytest.mark.parametrize("argument, written", [
    ("plain", "plain"), ("", '""'), ("a b", '"a b"'), ('say "it"', '"say \\"it\\""'), ("50%", "50%%"),
    ("$HOME", "$$HOME"),
    ("back\\slash", "back\\\\slash"), ("two\nlines", '"two\\nlines"'), ("a;b", '"a;b"'), ("it's", '"it\'s"'),
])
def test_quoting(argument, written):
    assert quote(argument) == written


def test_the_environment_is_not_expanded_so_a_dollar_stays():
    assert quote_environment("A", 'x $y %z "q"') == '"A=x $y %%z \\"q\\""'


def test_text():
    lines = unit({"environment": {"B": 2, "A": "one"}, "after": ["docker.service"]}).text().splitlines()
    for line in ['ExecStart=/opt/aistack/toy/current/toy "--say=a b"', "ExecReload=/bin/kill -HUP $MAINPID",
                 "After=network-online.target docker.service", "User=toy", "Group=toys",
                 "SupplementaryGroups=video render", "ReadWritePaths=/var/lib/toy", "ProtectSystem=strict",
                 "LoadCredential=key:/etc/aistack/credentials/toy/key", "WantedBy=multi-user.target"]:
        assert line in lines
    assert lines.index('Environment="A=one"') < lines.index('Environment="B=2"')


def test_overrides_replace_repeat_and_remove():
    text = unit({"service": {"ProtectProc": None, "MemoryMax": "2G", "ReadWritePaths": ["/a", "/b"],
                             "PrivateDevices": False}}).text()
    assert "ProtectProc" not in text and "MemoryMax=2G" in text and "PrivateDevices=no" in text
    assert "ReadWritePaths=/a\nReadWritePaths=/b\n" in text and "/var/lib/toy" not in text


def test_a_directive_can_not_smuggle_in_another():
    with pytest.raises(ComponentError, match="more than one line"):
        unit({"description": "Toy\nExecStartPre=/bin/false"}).text()


def test_checkers_share_the_surroundings_but_not_the_life():
    spec = {"service": {"MemoryMax": "2G", "ExecStartPre": "/bin/true"}, "environment": {"A": "b c"}}
    options = unit(spec).surroundings()
    assert "User=toy" in options and "ProtectSystem=strict" in options and "A=b c" in options
    assert not {option.split("=")[0] for option in options} & {"Restart", "MemoryMax", "ExecStartPre", "Type"}
