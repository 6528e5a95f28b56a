"""Values, their schema and their page say the same, and Helm refuses what is in none of them."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.chart.conftest import CHART, Refused, helm, rendered
from tests.support.cluster import ROOT

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chart_schema", ROOT / "scripts" / "chart_schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _paths(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> set[str]:
    """Paths of values as deep as the schema tells groups apart."""
    found = set()
    for name, value in values.items():
        field = schema["properties"].get(name, {}) if schema else {}
        found.add(f"{path}{name}")
        if "properties" in field:
            found |= _paths(value, field, f"{path}{name}.")
    return found


def test_schema_and_page_are_those_that_make_chart_makes(script):
    assert (CHART / "values.schema.json").read_text() == script.schema_text()
    assert (ROOT / "docs" / "values.md").read_text() == script.page_text()


def test_every_value_is_documented_and_every_documented_value_has_a_default(script):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = script.source()
    documented = {place for place, _, _ in script.rows(schema, values)}
    assert documented == _paths(values, schema)


def test_every_description_is_a_sentence(script):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for place, _, meaning in script.rows(script.source(), values):
        assert meaning.rstrip("`").endswith("."), place


def test_groups_and_references_of_the_schema_hold_nothing_by_mistake(script):
    allowed = {
        "type", "description", "properties", "additionalProperties", "items", "enum", "pattern", "$ref",
        "minimum", "maximum", "minLength", "maxLength", "required",
    }  # fmt: skip

    def look(field: Any, place: str) -> None:
        if not isinstance(field, dict):
            return
        assert set(field) <= allowed, place
        for name, inner in field.get("properties", {}).items():
            look(inner, f"{place}.{name}")

    for name, field in script.source()["properties"].items():
        look(field, name)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"operator": {"replica": 3}}, "replica"),
        ({"scheduler": {"replicas": 0}}, "replicas"),
        ({"tls": {"mode": "Sometimes"}}, "mode"),
        ({"weights": {"team": 0}}, "team"),
        ({"devices": {"list": [{"name": "Upper", "spec": {}}]}}, "name"),
        ({"qpu": {"resources": {"memory": "much"}}}, "memory"),
        ({"networkPolicy": {"metricsFrom": [{"namespace": "monitoring"}]}}, "namespace"),
        ({"surprise": 1}, "surprise"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_helm_refuses_values_that_the_schema_does_not_know(values, place):
    with pytest.raises(Refused, match=place):
        rendered(values)


def test_lint_finds_nothing():
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_the_chart_carries_the_crds_of_the_models():
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        assert (CHART / "files" / "crds" / file.name).read_text() == file.read_text(), file.name
