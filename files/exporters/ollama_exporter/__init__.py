# Copyright: (c) 2026, aistack.observability contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus exporter for Ollama."""

__version__ = "0.1.0"
