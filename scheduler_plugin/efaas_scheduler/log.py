"""Log lines as JSON, one a line, on standard error: those of `efaas.kubernetes.log`."""

from __future__ import annotations

from efaas.kubernetes.log import JsonLines, start_logging

__all__ = ["JsonLines", "start_logging"]
