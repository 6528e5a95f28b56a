"""`docs/metrics.md` and the metrics of the operator are the same."""

from __future__ import annotations

import re
from pathlib import Path

from efaas_operator.metrics import Metrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(efaas_operator_\w+)` \| (\w+) \| ([\w, ]*) \| (.+) \|$")


def test_page_and_code_are_equal():
    rows = [ROW.match(line) for line in PAGE.read_text().splitlines()]
    documented = {row[1]: (row[2], row[3].strip(), row[4]) for row in rows if row}
    implemented = {}
    for collector in vars(Metrics()).values():
        if hasattr(collector, "describe"):
            for family in collector.describe():
                name = f"{family.name}_total" if family.type == "counter" else family.name
                labels = ", ".join(collector._labelnames)
                implemented[name] = (family.type, labels, family.documentation)
    assert documented == implemented
