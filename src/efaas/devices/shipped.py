"""The device snapshots that come with the project.

Each is a gzipped JSON document in ``data/``, made by ``scripts/make_devices.py``. Nothing but the standard
library and pydantic is needed to read one, and each is read once in a process.
"""

from __future__ import annotations

import difflib
import functools
import gzip
import importlib.resources

from efaas.devices.document import snapshot_from_json
from efaas.devices.snapshot import DeviceSnapshot
from efaas.errors import ManifestError

_SUFFIX = ".json.gz"


def _folder() -> importlib.resources.abc.Traversable:
    return importlib.resources.files("efaas.devices") / "data"


@functools.cache
def snapshot_names() -> tuple[str, ...]:
    """Names of the shipped snapshots, smallest device first; the number at the end is that of the qubits."""
    names = [
        entry.name.removesuffix(_SUFFIX) for entry in _folder().iterdir() if entry.name.endswith(_SUFFIX)
    ]
    return tuple(sorted(names, key=lambda name: (int(name.rpartition("-")[2]), name)))


def load_snapshot(name: str, place: str = "") -> DeviceSnapshot:
    """A shipped snapshot by its name, such as ``manila-5``.

    Args:
        name: one of `snapshot_names`.
        place: field that asked for it, for the error.

    Raises:
        ManifestError: there is none of this name; the text gives the nearest names, or all.
    """
    names = snapshot_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
        raise ManifestError(f"no device snapshot is named {name[:80]!r}; {hint}", place=place)
    return _read(name)


@functools.cache
def _read(name: str) -> DeviceSnapshot:
    return snapshot_from_json(
        gzip.decompress((_folder() / f"{name}{_SUFFIX}").read_bytes()), place=name + _SUFFIX
    )
