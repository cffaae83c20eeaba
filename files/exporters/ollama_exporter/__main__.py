# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m ollama_exporter``."""

import sys

from .cli import main

sys.exit(main())
