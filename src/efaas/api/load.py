"""Reads manifests: the very documents that ``kubectl apply`` takes, from files that nobody has checked.

A file holds any number of YAML documents: VQASessions, QPUDevices, and the ConfigMaps that they name (a
program's script, a device of one's own). Everything is bounded before it is looked at: size of a file, number
of documents, number of nodes once aliases are followed, depth. Faults are collected, each as one sentence
that names file, document and field, and what to write; an unknown field is answered with the nearest one.

YAML is read as Kubernetes reads it (YAML 1.1, where ``off`` is a boolean), so that a file that works here
works there.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from efaas.api.device import QPUDevice
from efaas.api.meta import API_VERSION
from efaas.api.session import VQASession
from efaas.errors import ManifestError, ManifestFaults

FILE_LIMIT_BYTES = 4 * 1024 * 1024
"""Largest manifest that is read; etcd's limit for one object is less."""
DOCUMENT_LIMIT = 5000
NODE_LIMIT = 500_000
"""Values in one document once its aliases are followed."""
DEPTH_LIMIT = 64

_KINDS: dict[str, type[VQASession] | type[QPUDevice]] = {"VQASession": VQASession, "QPUDevice": QPUDevice}


@dataclass(frozen=True, slots=True)
class Documents:
    """What some manifests hold, each in the order of the files."""

    sessions: tuple[VQASession, ...] = ()
    devices: tuple[QPUDevice, ...] = ()
    config_maps: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    """Data of ConfigMaps by (namespace, name)."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice and leaves time stamps as text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen and key_node.tag != "tag:yaml.org,2002:merge":
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key_node.value!r} is given twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_documents(paths: Iterable[Path | str]) -> Documents:
    """Read and validate manifest files.

    Raises:
        ManifestFaults: some file or document is not what the API takes; holds every fault that was found.
    """
    reading = _Reading()
    for path in paths:
        try:
            reading.read(read_bounded(Path(path), FILE_LIMIT_BYTES, "split it"), str(path))
        except ManifestError as fault:
            reading.faults.append(fault)
    return reading.finish()


def load_text(text: str | bytes, place: str = "manifest") -> Documents:
    """Read and validate manifests given as text; `place` stands for the file's name in errors.

    Raises:
        ManifestFaults: as `load_documents`.
    """
    reading = _Reading()
    reading.read(text.encode() if isinstance(text, str) else text, place)
    return reading.finish()


def read_bounded(path: Path, limit_bytes: int, remedy: str) -> bytes:
    """A file's content, of which no more is read than it may hold: a pipe or device tells no size before.

    Raises:
        ManifestError: it cannot be read, or is larger; `remedy` says what to do then.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}", place=str(path)) from None
    if len(data) > limit_bytes:
        raise ManifestError(f"is larger than {limit_bytes >> 20} MiB; {remedy}", place=str(path))
    return data


class _Reading:
    """What has been read so far; one pass collects documents and faults side by side."""

    def __init__(self) -> None:
        self.sessions: list[VQASession] = []
        self.devices: list[QPUDevice] = []
        self.config_maps: dict[tuple[str, str], dict[str, str]] = {}
        self.faults: list[ManifestError] = []
        self._first_seen: dict[tuple[str, str, str], str] = {}

    def read(self, data: bytes, place: str) -> None:
        try:
            for number, document in enumerate(parse_yaml(data, place), start=1):
                where = f"{place}, document {number}"
                if document is not None:
                    self._document(document, where)
        except ManifestError as fault:
            self.faults.append(fault)

    def finish(self) -> Documents:
        if self.faults:
            raise ManifestFaults(tuple(self.faults))
        return Documents(tuple(self.sessions), tuple(self.devices), self.config_maps)

    def _document(self, document: object, where: str) -> None:
        if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
            self._fault("is not a mapping with kind, metadata and spec", where)
            return
        kind = document.get("kind")
        if kind == "List" and isinstance(document.get("items"), list):
            for index, item in enumerate(document["items"]):
                self._document(item, f"{where}, items[{index}]")
        elif kind == "ConfigMap":
            self._config_map(document, where)
        elif isinstance(kind, str) and kind in _KINDS:
            self._resource(document, kind, where)
        else:
            hint = _nearest(kind, [*_KINDS, "ConfigMap"])
            self._fault(f"kind {_short(kind)} is not known here{hint}", where)

    def _resource(self, document: dict[str, Any], kind: str, where: str) -> None:
        metadata = document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if isinstance(name, str) and len(name) <= 63:
            where = f"{where.partition(',')[0]}, {kind} {name}"
        if document.get("apiVersion") != API_VERSION:
            self._fault(f"is {_short(document.get('apiVersion'))}; write {API_VERSION}", where, "apiVersion")
            return
        body = {key: value for key, value in document.items() if key != "status"}
        try:
            resource = _KINDS[kind].model_validate(body)
        except ValidationError as error:
            for path, text in explain(error, _KINDS[kind]):
                self._fault(text, where, path)
            return
        except RecursionError:
            self._fault("is nested too deeply", where)
            return
        namespace = resource.metadata.namespace if isinstance(resource, VQASession) else ""
        if not self._new((kind, namespace, resource.metadata.name), where):
            return
        if isinstance(resource, VQASession):
            self.sessions.append(resource)
        else:
            self.devices.append(resource)

    def _config_map(self, document: dict[str, Any], where: str) -> None:
        metadata, data = document.get("metadata"), document.get("data", {})
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            self._fault("a ConfigMap needs a name", where, "metadata.name")
            return
        if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
            self._fault("a ConfigMap's data are texts by key", where, "data")
            return
        key = (str(metadata.get("namespace", "default")), metadata["name"])
        if self._new(("ConfigMap", *key), where):
            self.config_maps[key] = {str(name): text for name, text in data.items()}

    def _new(self, identity: tuple[str, str, str], where: str) -> bool:
        first = self._first_seen.setdefault(identity, where)
        if first is not where:
            self._fault(f"stands a second time; it was first in {first}", where, "metadata.name")
            return False
        return True

    def _fault(self, text: str, where: str, path: str = "") -> None:
        self.faults.append(ManifestError(text, place=f"{where}: {path}" if path else where))


def parse_yaml(data: bytes, place: str) -> Iterator[object]:
    """YAML documents of a file, each bounded in nodes and depth; None where one is empty.

    Raises:
        ManifestError: it is not YAML, or more of it than a person would write.
    """
    if len(data) > FILE_LIMIT_BYTES:
        raise ManifestError(f"is larger than {FILE_LIMIT_BYTES >> 20} MiB; split it", place=place)
    try:
        text = data.decode("utf-8-sig")
        loader = _Loader(text)
        try:
            for number in range(DOCUMENT_LIMIT + 1):
                if not loader.check_data():  # type: ignore[no-untyped-call]
                    return
                if number == DOCUMENT_LIMIT:
                    raise ManifestError(f"holds more than {DOCUMENT_LIMIT} documents; split it", place=place)
                document = loader.get_data()
                _bound(document, f"{place}, document {number + 1}")
                yield document
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise ManifestError(f"is not UTF-8 text (byte {error.start})", place=place) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ManifestError(f"is not YAML: {error.problem}", place=f"{place}{line}") from None
    except yaml.YAMLError as error:
        raise ManifestError(f"is not YAML: {str(error).splitlines()[0]}", place=place) from None
    except RecursionError:
        raise ManifestError("is nested too deeply", place=place) from None
    except (ValueError, OverflowError, TypeError, AttributeError, KeyError, IndexError) as error:
        # PyYAML's constructors let plain errors through, such as int('0b') or a bad base64 text.
        raise ManifestError(f"holds a value that YAML cannot read: {error}", place=place) from None


def _bound(document: object, place: str) -> None:
    """Refuse a document that unfolds, through aliases, into more than a person would write."""
    nodes = 0
    stack = [(document, 0)]
    while stack:
        value, depth = stack.pop()
        nodes += 1
        if nodes > NODE_LIMIT:
            raise ManifestError(f"unfolds into more than {NODE_LIMIT} values", place=place)
        if depth > DEPTH_LIMIT:
            raise ManifestError(f"is nested deeper than {DEPTH_LIMIT} levels", place=place)
        if isinstance(value, dict):
            stack += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list | tuple | set):
            stack += [(item, depth + 1) for item in value]


# --- faults in words ------------------------------------------------------------------------------


def explain(error: ValidationError, model: type[BaseModel]) -> list[tuple[str, str]]:
    """A pydantic error as (field path, sentence) pairs, in the words of this API."""
    faults = error.errors(include_url=False)
    return [(_path(fault["loc"]), _sentence(fault, model)) for fault in faults if not _follows(fault, faults)]


def _follows(fault: Any, faults: Iterable[Any]) -> bool:
    """Whether a list is called too short only because its faulty items were left out."""
    place = fault["loc"]
    return fault["type"] == "too_short" and any(
        len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in faults
    )


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _sentence(fault: Any, model: type[BaseModel]) -> str:
    kind, value, context = fault["type"], fault.get("input"), fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown field{_nearest(fault['loc'][-1], _fields_at(model, fault['loc'][:-1]))}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if isinstance(value, bool) and kind in {"enum", "literal_error", "string_type"}:
        return f"YAML reads this as {str(value).lower()}; write it in quotes"
    if kind in {"enum", "literal_error"}:
        allowed = str(context["expected"])
        choices = [choice.strip(" '") for choice in allowed.replace(" or ", ",").split(",")]
        return f"{_short(value)} is not one of {allowed}{_nearest(value, choices)}"
    if kind == "string_pattern_mismatch":
        return f"{_short(value)} does not match {context['pattern']}"
    text = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{_short(value)}: {text}" if isinstance(value, int | float | str) else text


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _nearest(name: object, known: Iterable[str]) -> str:
    """`; did you mean X?` or the list of what is known."""
    known = sorted(known)
    folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(str(name).lower()[:100], folded, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {folded[close[0]]}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Wire names of the fields that the model at a location has."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            continue
        if current is None:
            return []
        by_alias = {info.alias or name: info for name, info in current.model_fields.items()}
        current = _model_in(by_alias[part].annotation) if part in by_alias else None
    return [info.alias or name for name, info in current.model_fields.items()] if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class inside ``X | None``, ``tuple[X, ...]`` or ``Annotated[X, …]``."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in typing.get_args(annotation))
    return next((candidate for candidate in found if candidate), None)
