"""Log lines as JSON, one object a line, on standard error: `efaas.kubernetes.log`, as all parts write them."""

from __future__ import annotations

from efaas.kubernetes.log import JsonLines, start_logging

__all__ = ["JsonLines", "start_logging"]
