# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module whose arguments hold secrets."""
from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


class QuietModule(AnsibleModule):
    """Says nothing of its arguments: not in the target's journal, and not in its result, which -vvv prints.

    The constructor's own ``no_log`` doesn't do: the task's value replaces it before anything is logged. And with
    ``no_log`` on the task its whole result would be hidden.
    """

    def _log_invocation(self) -> None:
        pass

    def _return_formatted(self, kwargs: dict) -> None:
        kwargs["invocation"] = {}
        super()._return_formatted(kwargs)
