"""Makes the chart's values.schema.json and docs/values.md from values.schema.yaml and values.yaml.

The YAML is the source because it can be read and commented; Helm takes JSON only. Run by `make chart`; a test
compares what is committed with what this makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "efaas"
SCHEMA = CHART / "values.schema.json"
PAGE = ROOT / "docs" / "values.md"


def source() -> dict[str, Any]:
    """The schema as it is written."""
    document: dict[str, Any] = yaml.safe_load((CHART / "values.schema.yaml").read_text())
    return document


def rows(schema: dict[str, Any], values: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Each value: its path, its default as JSON (empty for a group), what it means."""
    for name, field in schema.get("properties", {}).items():
        if name == "global":
            continue
        place = f"{path}.{name}" if path else name
        group = "properties" in field
        default = "" if group else json.dumps(values[name], ensure_ascii=False)
        yield place, default, field["description"]
        if group:
            yield from rows(field, values[name], place)


def schema_text() -> str:
    """values.schema.json."""
    return json.dumps(source(), indent=1, ensure_ascii=False) + "\n"


def page_text() -> str:
    """docs/values.md."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    lines = [
        "# Values of the chart",
        "",
        "Made by `make chart` from `charts/efaas/values.schema.yaml`. Helm refuses what is not here.",
        "",
        "| value | default | meaning |",
        "| --- | --- | --- |",
    ]
    for place, default, meaning in rows(source(), values):
        shown = f"`{default}`".replace("|", "\\|") if default else ""
        lines.append(f"| `{place}` | {shown} | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    SCHEMA.write_text(schema_text())
    PAGE.write_text(page_text())


if __name__ == "__main__":
    main()
