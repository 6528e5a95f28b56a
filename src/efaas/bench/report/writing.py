"""From the document to files: Markdown, one self-contained HTML page, and the plots."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from pathlib import Path

from efaas.bench import live, records
from efaas.bench.report import document as doc
from efaas.bench.report import figures as fig
from efaas.bench.report.page import STYLE
from efaas.bench.report.plots import ALL, Plot, render

Rendered = Mapping[str, dict[str, bytes]]

_BADGES = {
    doc.REACHED: "good",
    "holds": "good",
    doc.MISSED: "bad",
    "does not hold": "bad",
    doc.OPEN: "open",
}


def write(out: Path) -> None:
    """Make report.html, report.md and plots/ from the data in a result folder.

    Args:
        out: result folder; what was not run is left out.
    """
    document = doc.build(out)
    rendered: dict[str, dict[str, bytes]] = {}
    folder = out / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    for plot in ALL:
        files = render(plot, out)
        if files is not None:
            rendered[plot.name] = files
            (folder / f"{plot.name}.png").write_bytes(files["png"])
    (out / "report.md").write_text(markdown(document, rendered), encoding="utf-8")
    (out / "report.html").write_text(page(document, rendered), encoding="utf-8")


def table(out: Path) -> str:
    """The target table and the headline's policies as Markdown, from the data alone."""
    targets = records.read_targets(out)
    known = {target.name for target in targets}
    targets += [target for target in live.targets(out) if target.name not in known]
    wide = doc.targets_table(targets)
    # A README has no room for remarks; they are in the report.
    short = doc.Table(wide.head[:6], tuple(row[:6] for row in wide.rows), wide.prose)
    parts = [markdown_table(short)]
    experiment = fig.Experiment(out, fig.MAIN)
    cell = experiment.main_cell()
    if cell is not None:
        columns = (
            ("mean TTNS, s", "ttns_mean_s", 1.0),
            ("p95 TTNS, s", "ttns_p95_s", 1.0),
            ("QDC, %", "qdc", 100.0),
            ("background wait, s", "background_wait_s", 1.0),
        )
        parts.append(markdown_table(doc.policy_table(experiment, cell, columns)))
    return "\n\n".join(parts) + "\n"


# --- Markdown -------------------------------------------------------------------------------------------


def markdown(document: doc.Document, rendered: Rendered) -> str:
    """The document as Markdown; plots are files beside it."""
    plots = {plot.name: plot for plot in ALL}
    lines = [f"# {document.title}", "", *_paragraphs(document.intro)]
    lines += ["".join(f"**{value}** {what}. " for what, value in document.facts).strip(), ""]
    for section in document.sections:
        lines += [f"## {section.title}", "", *_paragraphs(section.text)]
        for made in section.tables:
            lines += [markdown_table(made), ""]
        for name in section.plots:
            if name in rendered:
                plot = plots[name]
                lines += [f"![{plot.title}](plots/{name}.png)", "", f"*{plot.title}.* {plot.caption}", ""]
    return "\n".join(lines)


def _paragraphs(text: tuple[str, ...]) -> list[str]:
    return [line for paragraph in text for line in (paragraph, "")]


def markdown_table(made: doc.Table) -> str:
    """A table as Markdown; columns of figures are set to the right."""

    def row(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---" if place == 0 or place in made.prose else "---:" for place in range(len(made.head))]
    return "\n".join([row(made.head), row(tuple(rule)), *(row(cells) for cells in made.rows)])


# --- HTML -----------------------------------------------------------------------------------------------


def page(document: doc.Document, rendered: Rendered) -> str:
    """The document as one HTML page that loads nothing from anywhere, in a light and a dark theme."""
    plots = {plot.name: plot for plot in ALL}
    links = "".join(
        f'<a href="#{_slug(section.title)}">{html.escape(section.title)}</a>' for section in document.sections
    )
    facts = "".join(
        f'<div class="fact"><b>{html.escape(value)}</b><span>{html.escape(what)}</span></div>'
        for what, value in document.facts
    )
    body = "".join(_section(section, plots, rendered) for section in document.sections)
    intro = "".join(f"<p>{_inline(text)}</p>" for text in document.intro)
    title = html.escape(document.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>"
        f'<nav aria-label="Sections">{links}</nav><main><header><h1>{title}</h1>{intro}'
        f'<div class="facts">{facts}</div></header>{body}</main></body></html>\n'
    )


def _section(section: doc.Section, plots: Mapping[str, Plot], rendered: Rendered) -> str:
    parts = [f'<section id="{_slug(section.title)}"><h2>{html.escape(section.title)}</h2>']
    parts += [f"<p>{_inline(text)}</p>" for text in section.text]
    parts += [_html_table(made) for made in section.tables]
    parts += [_figure(plots[name], rendered[name]) for name in section.plots if name in rendered]
    return "".join(parts) + "</section>"


def _figure(plot: Plot, files: Mapping[str, bytes]) -> str:
    light, dark = (
        "data:image/svg+xml;base64," + base64.b64encode(files[f"{theme}.svg"]).decode()
        for theme in ("light", "dark")
    )
    title = html.escape(plot.title)
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{title}: {html.escape(plot.caption)}" src="{light}"></picture>'
        f"<figcaption><b>{title}.</b> {html.escape(plot.caption)}</figcaption></figure>"
    )


def _html_table(made: doc.Table) -> str:
    def cell(place: int, text: str, tag: str) -> str:
        kind = "left" if place == 0 or place in made.prose else "number"
        if text in _BADGES:
            return f'<{tag} class="left"><span class="badge {_BADGES[text]}">{text}</span></{tag}>'
        prose = " prose" if place in made.prose and len(text) > 40 else ""
        return f'<{tag} class="{kind}{prose}">{html.escape(text)}</{tag}>'

    def row(cells: tuple[str, ...], tag: str) -> str:
        shown = [cell(place, text, tag) for place, text in enumerate(cells) if place != made.note]
        if tag == "td" and made.note is not None and cells[made.note]:
            below = f'<div class="note">{html.escape(cells[made.note])}</div></td>'
            shown[0] = shown[0].removesuffix("</td>") + below
        return "".join(shown)

    head = row(made.head, "th")
    rows = "".join(f"<tr{_ours(cells)}>{row(cells, 'td')}</tr>" for cells in made.rows)
    return (
        '<div class="scroll" tabindex="0"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _ours(cells: tuple[str, ...]) -> str:
    return ' class="ours"' if cells and cells[0] == fig.NAMES["efaas"] else ""


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _inline(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(text))
