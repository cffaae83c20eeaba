# Copyright: (c) 2026, aistack.observability contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with a component, as one sentence for the user."""
from __future__ import annotations


class ComponentError(Exception):
    """A transaction can't go on.

    ``message`` names what is wrong and the fix; ``details`` are longer texts (a checker's own words, the last
    lines of the journal), shown below it.
    """

    def __init__(self, message: str, details: dict | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})


class Refused(ComponentError):
    """Found in our place: something that isn't ours. Nothing was changed."""
