"""The cluster as far as it is known: copies of the objects that the operator decides on.

Three hands write here: kopf's watches as things happen, the periodic pass that lists everything, and the
operator's own calls, whose answers are taken at once so that it never acts on what it has itself changed.
They come in any order, so each object is taken by its resource version: an older one changes nothing, and
what was deleted does not come back with an old answer.

Copies are slim: what nobody reads (who manages which field, container images of foreign pods) is left out,
because thousands of sessions must fit into a few hundred MiB.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from efaas.api.names import SESSION_NAME_ANNOTATION

Document = dict[str, Any]
Listener = Callable[["Kind", str, "Document | None", "Document | None"], None]

_REMEMBERED_DELETIONS = 10_000


class Kind(StrEnum):
    """Kinds that are watched."""

    SESSION = "VQASession"
    DEVICE = "QPUDevice"
    POD = "Pod"
    NODE = "Node"
    NAMESPACE = "Namespace"
    CONFIG_MAP = "ConfigMap"


def key_of(document: Mapping[str, Any]) -> str:
    """``namespace/name``, or the name of what has no namespace."""
    metadata = document["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def session_of(pod: Mapping[str, Any]) -> str | None:
    """Key of the session that a pod belongs to; None for other pods."""
    metadata = pod["metadata"]
    name = (metadata.get("annotations") or {}).get(SESSION_NAME_ANNOTATION)
    return f"{metadata['namespace']}/{name}" if name else None


def version_of(document: Mapping[str, Any]) -> int:
    """Resource version as a number: larger is newer, as Kubernetes promises and etcd always did."""
    text = str(document["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0


class Store:
    """All known objects of one kind.

    Args:
        kind: of the objects.
        tell: hears of each change.
    """

    def __init__(self, kind: Kind, tell: Listener) -> None:
        self.kind = kind
        self._tell = tell
        self._objects: dict[str, Document] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self.listed = False
        """Whether all of them have been listed at least once."""

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Document]:
        return iter(list(self._objects.values()))

    def names(self) -> list[str]:
        """Keys of all objects."""
        return list(self._objects)

    def get(self, key: str) -> Document | None:
        """An object by its key."""
        return self._objects.get(key)

    def put(self, document: Mapping[str, Any]) -> bool:
        """Take an object as it was at its resource version; whether it changed anything."""
        key = key_of(document)
        version, uid = version_of(document), document["metadata"].get("uid", "")
        if uid in self._deleted:
            return False
        before = self._objects.get(key)
        if before is not None and version:
            known = version_of(before)
            if version <= known:
                return False
        after = slim(self.kind, document)
        self._objects[key] = after
        self._tell(self.kind, key, before, after)
        return True

    def gone(self, document: Mapping[str, Any]) -> bool:
        """Take that an object was deleted; whether it was known."""
        key, uid = key_of(document), document["metadata"].get("uid", "")
        if uid:
            # A UID never comes back, whatever late news of it says.
            self._deleted[uid] = None
            self._deleted.move_to_end(uid)
            while len(self._deleted) > _REMEMBERED_DELETIONS:
                self._deleted.popitem(last=False)
        before = self._objects.get(key)
        if before is None or (uid and before["metadata"].get("uid") not in ("", None, uid)):
            return False
        del self._objects[key]
        self._tell(self.kind, key, before, None)
        return True

    def replace(self, documents: Iterable[Mapping[str, Any]], version: int) -> int:
        """Take a whole list as of a resource version; returns how many objects it changed."""
        changed, there = 0, set()
        for document in documents:
            there.add(key_of(document))
            changed += self.put(document)
        for key, known in list(self._objects.items()):
            if key not in there and version_of(known) <= version:
                changed += self.gone(known)
        self.listed = True
        return changed


class World:
    """What is known of the cluster; `listen` is told of every change.

    A listener gets kind, key, the object before and after (None: it was not, or is not, there).
    """

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._stores = {kind: Store(kind, self._changed) for kind in Kind}
        self._pods_of: dict[str, set[str]] = defaultdict(set)
        self.sessions = self._stores[Kind.SESSION]
        self.devices = self._stores[Kind.DEVICE]
        self.pods = self._stores[Kind.POD]
        self.nodes = self._stores[Kind.NODE]
        self.namespaces = self._stores[Kind.NAMESPACE]
        self.config_maps = self._stores[Kind.CONFIG_MAP]

    def __getitem__(self, kind: Kind) -> Store:
        return self._stores[kind]

    @property
    def complete(self) -> bool:
        """Whether everything has been listed: before that, what is missing may only be unknown."""
        return all(store.listed for store in self._stores.values())

    def listen(self, listener: Listener) -> None:
        """Tell this one of changes from now on."""
        self._listeners.append(listener)

    def pods_of(self, session: str) -> list[Document]:
        """Runner pods of a session, by its key."""
        found = (self.pods.get(key) for key in sorted(self._pods_of.get(session, ())))
        return [pod for pod in found if pod is not None]

    def device_by_node(self) -> dict[str, str]:
        """Device by the node that it is on."""
        places = {}
        for device in self.devices:
            node = (device.get("status") or {}).get("node") or device["spec"].get("node")
            if node:
                places[node] = device["metadata"]["name"]
        return places

    def _changed(self, kind: Kind, key: str, before: Document | None, after: Document | None) -> None:
        if kind is Kind.POD:
            for pod, here in ((before, False), (after, True)):
                session = session_of(pod) if pod is not None else None
                if session is None:
                    continue
                if here:
                    self._pods_of[session].add(key)
                else:
                    self._pods_of[session].discard(key)
                    if not self._pods_of[session]:
                        del self._pods_of[session]
        for listener in self._listeners:
            listener(kind, key, before, after)


_POD_SPEC = ("nodeName", "schedulingGates", "schedulerName")
_NODE_STATUS = ("allocatable", "capacity", "conditions")


def slim(kind: Kind, document: Mapping[str, Any]) -> Document:
    """A copy without what nobody reads; parts are shared with the document, which nobody changes."""
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    slimmed: Document = {**document, "metadata": metadata, "kind": kind.value}
    match kind:
        case Kind.POD:
            spec = document["spec"]
            slimmed["spec"] = {name: spec[name] for name in _POD_SPEC if name in spec}
            slimmed["spec"]["containers"] = [
                {"name": each.get("name", ""), "resources": each.get("resources") or {}}
                for each in spec.get("containers") or ()
            ]
        case Kind.NODE:
            status = document.get("status") or {}
            slimmed["status"] = {name: status[name] for name in _NODE_STATUS if name in status}
            slimmed["spec"] = dict(document.get("spec") or {})
        case Kind.NAMESPACE:
            slimmed.pop("spec", None)
        case _:
            pass
    return slimmed
