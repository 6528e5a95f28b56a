"""Reads the configuration file of a process: one YAML document, checked whole before anything is done.

Operator and extender are told what to do in the same way and refuse it in the same words, those of manifests.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from efaas.api.load import explain, parse_yaml, read_bounded
from efaas.api.meta import Model
from efaas.errors import ManifestError

_M = TypeVar("_M", bound=Model)

_SIZE_LIMIT_BYTES = 1 << 20
"""Largest configuration that is read."""


def read_configuration(model: type[_M], path: Path) -> _M:
    """Read a configuration file; an empty one has all defaults.

    Args:
        model: what the file holds.
        path: of the file.

    Raises:
        ManifestError: the file cannot be read, is not one YAML document, or holds something that is not
            understood; names the first field at fault.
    """
    place = str(path)
    data = read_bounded(path, _SIZE_LIMIT_BYTES, "this is no configuration")
    documents = [document for document in parse_yaml(data, place) if document is not None]
    if len(documents) > 1:
        raise ManifestError("holds more than one document; a configuration is one", place=place)
    try:
        return model.model_validate(documents[0] if documents else {})
    except ValidationError as error:
        field, text = explain(error, model)[0]
        raise ManifestError(f"{field}: {text}" if field else text, place=place) from None
