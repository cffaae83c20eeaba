# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module with secrets among its arguments doesn't repeat them, however much is asked for."""

import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.aistack.observability.plugins.module_utils.quiet import QuietModule


@pytest.mark.parametrize("end", ["exit_json", "fail_json"])
def test_arguments_are_not_in_the_result(end, capsys):
    with patch_module_args({"login": {"password": "hunter2"}, "_ansible_verbosity": 4,
                            "_ansible_inject_invocation": True}):
        module = QuietModule(argument_spec={"login": {"type": "dict"}})
        with pytest.raises(SystemExit):
            getattr(module, end)(msg="done")
    said = capsys.readouterr().out
    assert json.loads(said)["msg"] == "done" and "hunter2" not in said
