"""Makes the CustomResourceDefinitions from the models, so that there is one source.

A CRD wants a *structural* OpenAPI schema: no references, no unions with null, every level typed. What the
models check beyond types is written next to it as CEL rules (`efaas.api.crd_rules`), with messages that say
what to do; a rule exists exactly where the API server can judge (shape, ranges, one-of, what must not
change), the rest is the operator's.

``python -m efaas.api.crd crds/`` writes the files; ``make crds`` calls it, and a test keeps them equal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

from efaas.api.crd_rules import NAME_RULE, RULES, TEXT_RULES, rule
from efaas.api.device import QPUDeviceSpec
from efaas.api.meta import GROUP, VERSION
from efaas.api.quantities import DURATION_PATTERN, format_duration
from efaas.api.session import OneOf, VQASessionSpec
from efaas.api.status import QPUDeviceStatus, VQASessionStatus

_KEPT = frozenset(
    {
        "type",
        "description",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "enum",
        "default",
        "format",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
    }
)
"""Keywords of a structural schema that pydantic also writes."""

_ISO_DURATION = TypeAdapter(timedelta)
"""Reads defaults, which pydantic writes into a schema as ISO 8601 (``PT1H``) whatever a field's form."""

_SESSION_COLUMNS = [
    ("State", "string", ".status.state", "Where it is in its life", 0),
    ("Why", "string", ".status.reason", "Why it waits or ended", 0),
    ("Device", "string", ".status.device", "Device it runs on", 0),
    ("Iteration", "integer", ".status.progress.iterations", "Optimizer iterations done", 0),
    ("Best", "string", ".status.progress.bestValue", "Lowest energy found", 0),
    ("QPU ms", "integer", ".status.usage.qpuMilliseconds", "Device time charged, in milliseconds", 1),
    ("Queue", "integer", ".status.queue.position", "Sessions before it", 1),
    ("Start", "date", ".status.queue.estimatedStart", "When its turn is expected", 1),
    ("Age", "date", ".metadata.creationTimestamp", "Time since it was made", 0),
]
_DEVICE_COLUMNS = [
    ("State", "string", ".status.state", "What it is doing", 0),
    ("Qubits", "integer", ".status.qubits", "Number of qubits", 0),
    ("Epoch", "integer", ".status.calibration.epoch", "Calibration epoch", 0),
    ("Calibrated", "date", ".status.calibration.time", "Time since the last calibration", 0),
    ("Sessions", "integer", ".status.activeSessions", "Sessions that hold a slot", 0),
    ("Queue", "integer", ".status.queueDepth", "Jobs waiting", 0),
    ("Duty ‰", "integer", ".status.dutyCyclePermille", "Device time spent on shots, in thousandths", 0),
    ("Node", "string", ".status.node", "Node of the QPU pod", 1),
    ("Age", "date", ".metadata.creationTimestamp", "Time since it was made", 0),
]


def custom_resource_definitions() -> dict[str, dict[str, Any]]:
    """The CRDs by file name."""
    return {
        "vqasessions.yaml": _definition(
            "VQASession",
            "vqasessions",
            "vqa",
            "Namespaced",
            (VQASessionSpec, VQASessionStatus),
            _SESSION_COLUMNS,
            "A variational quantum algorithm, run as one session.",
        ),
        "qpudevices.yaml": _definition(
            "QPUDevice",
            "qpudevices",
            "qpu",
            "Cluster",
            (QPUDeviceSpec, QPUDeviceStatus),
            _DEVICE_COLUMNS,
            "A simulated quantum processor.",
        ),
    }


def _definition(
    kind: str,
    plural: str,
    short: str,
    scope: str,
    models: tuple[type[BaseModel], type[BaseModel]],
    columns: Iterable[tuple[str, str, str, str, int]],
    description: str,
) -> dict[str, Any]:
    spec, status = (structural_schema(model) for model in models)
    schema = {
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [NAME_RULE],
    }
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": [short],
        "categories": ["efaas"],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": type_, "jsonPath": path, "description": text, "priority": priority}
            for name, type_, path, text, priority in columns
        ],
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": scope, "names": names, "versions": [version]},
    }


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's schema as a CRD takes it: references unfolded, nulls and titles gone, CEL rules added."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    definitions = schema.pop("$defs", {})
    return _structural(schema, definitions, _one_of_models())


def _one_of_models() -> frozenset[str]:
    """Names of the models of which exactly one field is set."""
    return frozenset(model.__name__ for model in OneOf.__subclasses__())


def _structural(
    schema: Mapping[str, Any],
    definitions: Mapping[str, Any],
    one_of: frozenset[str],
    *,
    in_list: bool = False,
) -> dict[str, Any]:
    schema = _without_null(schema, definitions)
    title = schema.get("title", "")
    result = {key: value for key, value in schema.items() if key in _KEPT}
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if "exclusiveMaximum" in schema:
        result["maximum"] = schema["exclusiveMaximum"] - 1
    if result.get("default", ...) in (None, [], {}):
        del result["default"]
    if result.get("pattern") == DURATION_PATTERN and "default" in result:
        result["default"] = format_duration(_ISO_DURATION.validate_python(result["default"]))
    if result.get("type") == "integer":
        result.setdefault("format", "int64")
    if isinstance(result.get("items"), Mapping):
        result["items"] = _structural(result["items"], definitions, one_of, in_list=True)
    additional = result.pop("additionalProperties", False)
    if isinstance(additional, Mapping):
        result["additionalProperties"] = _structural(additional, definitions, one_of) | {"maxLength": 63}
    if "properties" in result:
        result["properties"] = {
            name: _structural(field, definitions, one_of, in_list=in_list)
            for name, field in result["properties"].items()
        }
    rules = list(RULES.get(title, []))
    if not in_list and result.get("pattern") in TEXT_RULES:
        # Not in lists: the API server bounds what all rules together may cost.
        rules.append(TEXT_RULES[result["pattern"]])
    if title in one_of:
        names = list(result["properties"])
        given = ", ".join(f"has(self.{name})" for name in names)
        rules.append(rule(f"[{given}].exists_one(field, field)", f"set exactly one of {', '.join(names)}"))
    if rules:
        result["x-kubernetes-validations"] = rules
    item_fields = result["items"].get("properties", {}) if isinstance(result.get("items"), Mapping) else {}
    if "lastTransitionTime" in item_fields:
        result |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    return result


def _without_null(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Follow references and drop the null branch of optional fields; the outer description wins."""
    merged = dict(schema)
    while True:
        if "anyOf" in merged:
            (branch,) = [branch for branch in merged.pop("anyOf") if branch.get("type") != "null"]
            merged.pop("title", None)
        elif "allOf" in merged:
            (branch,) = merged.pop("allOf")
        elif "$ref" in merged:
            branch = definitions[merged.pop("$ref").rpartition("/")[2]]
            merged.pop("title", None)
        else:
            return merged
        merged = {**branch, **merged}


def main(arguments: list[str]) -> int:
    """Write the CRDs into a folder."""
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, definition in custom_resource_definitions().items():
        (folder / name).write_text(to_yaml(definition))
    return 0


def to_yaml(definition: Mapping[str, Any]) -> str:
    """A CRD as it is committed."""
    header = "# Generated from the models in efaas.api by `make crds`; edit those.\n"
    return header + yaml.dump(definition, Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes what is there twice in full: anchors would save lines and cost readers."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
