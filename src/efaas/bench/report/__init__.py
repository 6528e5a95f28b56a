"""The report of a benchmark: `report.html`, `report.md` and `plots/`, made from a result folder's data alone.

`write` makes them; `table` gives the target table and the headline as Markdown, for a README, and `fill` puts
tables into pages between marks. One document (`efaas.bench.report.document`) is rendered twice, so the two
files cannot disagree.
"""

from __future__ import annotations

from efaas.bench.report.pages import fill
from efaas.bench.report.writing import table, write

__all__ = ["fill", "table", "write"]
