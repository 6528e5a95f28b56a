"""What every document of the API group has: group, version, kind, metadata, and how strictly it is read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "efaas.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
"""A DNS label, as Kubernetes names are."""


class Model(BaseModel):
    """Base of every API model: snake_case here, camelCase on the wire, unknown fields refused, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="strings",
    )


class Metadata(BaseModel):
    """The part of Kubernetes' object metadata that EFaaS reads; other keys are kept but not looked at."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True)

    name: Name
    namespace: Name = "default"
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


def wire(model: BaseModel) -> dict[str, Any]:
    """The document as YAML or the API server has it: camelCase, numbers as strings, no nulls."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
