"""Tables of a result folder inside pages that people write: a README, a page of the documentation.

A page marks where a table stands, and everything between the two marks is replaced:

    <!-- bench: policies -->
    <!-- bench: end -->

So figures in prose pages come from the data by a command, and filling a page twice changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from efaas.bench import live, records
from efaas.bench.report import document as doc
from efaas.bench.report import figures as fig
from efaas.bench.report.writing import markdown_table
from efaas.errors import InputError

_MARKED = re.compile(r"(<!-- bench: (?!end)([a-z-]+) -->\n).*?(<!-- bench: end -->)", re.DOTALL)

_COLUMNS = (
    ("mean TTNS, s", "ttns_mean_s", 1.0),
    ("p50", "ttns_p50_s", 1.0),
    ("p95", "ttns_p95_s", 1.0),
    ("p99", "ttns_p99_s", 1.0),
    ("first iteration, s", "ttns_first_s", 1.0),
    ("whole iteration, s", "iteration_mean_s", 1.0),
    ("background wait, s", "background_wait_s", 1.0),
)


def fill(page: Path, out: Path) -> None:
    """Replace what stands between a page's marks.

    Args:
        page: a Markdown file.
        out: result folder.

    Raises:
        InputError: the page has no marks, or one that names no table.
    """
    text = page.read_text(encoding="utf-8")
    if not _MARKED.search(text):
        raise InputError(
            f"has no part to fill; put `<!-- bench: {next(iter(_TABLES))} -->` and `<!-- bench: end -->` on "
            "lines of their own",
            place=str(page),
        )

    def filled(found: re.Match[str]) -> str:
        name = found[2]
        if name not in _TABLES:
            raise InputError(f"{name!r} is no table; there are {', '.join(_TABLES)}", place=str(page))
        return f"{found[1]}{_TABLES[name](out)}\n{found[3]}"

    page.write_text(_MARKED.sub(filled, text), encoding="utf-8")


def _targets(out: Path) -> str:
    targets = records.read_targets(out)
    known = {target.name for target in targets}
    targets += [target for target in live.targets(out) if target.name not in known]
    return markdown_table(doc.targets_table(targets))


def _policies(out: Path) -> str:
    experiment = fig.Experiment(out, fig.MAIN)
    cell = experiment.main_cell()
    if cell is None:
        return "The headline was not run."
    return markdown_table(doc.policy_table(experiment, cell, _COLUMNS))


def _checks(out: Path) -> str:
    rows = tuple(
        (
            check.name,
            fig.significant(check.theory),
            f"{fig.significant(check.measured)} ± {fig.significant(check.half_width)}",
            "yes" if check.holds else "NO",
        )
        for check in records.read_checks(out)
    )
    return markdown_table(doc.Table(("check", "theory", "measured", "holds"), rows))


def _facts(out: Path) -> str:
    path = out / "bench.json"
    facts: list[str] = json.loads(path.read_text()).get("facts", []) if path.exists() else []
    return "\n".join(f"- {fact}" for fact in facts) or "Nothing was measured."


_TABLES: Mapping[str, Callable[[Path], str]] = {
    "policies": _policies,
    "targets": _targets,
    "checks": _checks,
    "facts": _facts,
}
