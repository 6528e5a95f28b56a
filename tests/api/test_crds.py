"""The committed CRDs are those of the models, structural, and without floats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from efaas.api.crd import custom_resource_definitions, to_yaml

CRDS = Path(__file__).resolve().parents[2] / "crds"


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from fields(field, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


@pytest.mark.parametrize("name", custom_resource_definitions())
def test_committed_crds_are_those_of_the_models(name: str):
    assert (CRDS / name).read_text() == to_yaml(custom_resource_definitions()[name]), "run `make crds`"


@pytest.mark.parametrize("name", custom_resource_definitions())
def test_every_field_is_typed_described_and_no_float(name: str):
    (version,) = custom_resource_definitions()[name]["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        for path, field in fields(schema["properties"][part], part):
            assert field.get("type") in {"object", "array", "string", "integer", "boolean"}, path
            assert not {"anyOf", "allOf", "$ref", "title"} & field.keys(), path
            assert field.get("description") or path.endswith("[]"), path


@pytest.mark.parametrize("name", custom_resource_definitions())
def test_texts_and_lists_are_bounded(name: str):
    (version,) = custom_resource_definitions()[name]["spec"]["versions"]
    for path, field in fields(version["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec"):
        if field.get("type") == "array":
            assert "maxItems" in field, path
        if field.get("type") == "string":
            assert "maxLength" in field or "enum" in field, path


def test_columns_point_at_fields_that_exist():
    for definition in custom_resource_definitions().values():
        (version,) = definition["spec"]["versions"]
        schema = version["schema"]["openAPIV3Schema"]
        known = {path for path, _ in fields(schema)}
        for column in version["additionalPrinterColumns"]:
            assert column["jsonPath"] in known | {".metadata.creationTimestamp"}
            assert yaml.safe_load(column["description"])
