"""The messages of the scheduler extender's contract, version 1.

Go's structs have no JSON tags, so their keys are the field names as Go writes them: PascalCase, with three
that no rule gives (``PodUID``, ``UID``, ``NumPDBViolations``). Nothing is left out when empty: what is not
there is ``null``. The Pod and Node inside are ordinary API objects in camelCase; only what a decision needs
of them is looked at, the rest is kept as it came.

Unknown keys are ignored on reading: a later kube-scheduler may add some, and must not be refused for it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel, to_pascal

MOST_NODES = 15_000
"""Kubernetes is built for 5,000 nodes; more than three times that is no cluster's request."""

NodeName = Annotated[str, Field(min_length=1, max_length=253)]
NodeMessages = dict[str, str]


class Message(BaseModel):
    """Base of the contract's own messages."""

    model_config = ConfigDict(alias_generator=to_pascal, populate_by_name=True, extra="ignore", frozen=True)


class ApiObject(BaseModel):
    """Base of parts of Kubernetes objects; what is not declared is kept."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True)


class ObjectMeta(ApiObject):
    """Who an object is."""

    name: NodeName
    namespace: str = ""
    uid: str = ""
    annotations: dict[str, str] | None = None


class PodSpec(ApiObject):
    """What of a pod's spec matters."""

    node_selector: dict[str, str] | None = None


class Pod(ApiObject):
    """The pod that is to be placed."""

    metadata: ObjectMeta
    spec: PodSpec = PodSpec()

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.metadata.namespace}/{self.metadata.name}"


class Node(ApiObject):
    """A node, sent in full where the extender keeps no nodes of its own."""

    metadata: ObjectMeta


class NodeList(ApiObject):
    """Nodes in full."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    items: Annotated[list[Node], Field(max_length=MOST_NODES)]


class ExtenderArgs(Message):
    """Request of filter and prioritize: `nodes` or `node_names`, the other is None."""

    pod: Pod
    nodes: NodeList | None = None
    node_names: Annotated[list[NodeName], Field(max_length=MOST_NODES)] | None = None

    def names(self) -> list[str]:
        """Names of the nodes that are asked about, in the order of the request."""
        if self.node_names is not None:
            return self.node_names
        return [node.metadata.name for node in self.nodes.items] if self.nodes is not None else []


class ExtenderFilterResult(Message):
    """Answer of filter."""

    nodes: NodeList | None = None
    node_names: list[str] | None = None
    failed_nodes: NodeMessages = Field(default_factory=dict)
    """Nodes that are out of the question now, and why; evicting other pods may change that."""
    failed_and_unresolvable_nodes: NodeMessages = Field(default_factory=dict)
    """The same where evicting pods cannot help."""
    error: str = ""
    """Not empty: the whole attempt fails and is tried again."""


class HostPriority(Message):
    """One entry of prioritize's answer, which is a bare list."""

    host: str
    score: Annotated[int, Field(ge=0, le=10)]


class MetaPod(Message):
    """A pod by its identity."""

    uid: Annotated[str, Field(alias="UID")]


class MetaVictims(Message):
    """Pods that would have to go."""

    pods: list[MetaPod] | None = None
    num_pdb_violations: Annotated[int, Field(alias="NumPDBViolations")] = 0


class Victims(Message):
    """The same with pods in full."""

    pods: list[Pod] | None = None
    num_pdb_violations: Annotated[int, Field(alias="NumPDBViolations")] = 0

    def meta(self) -> MetaVictims:
        """By identity."""
        pods = None if self.pods is None else [MetaPod(uid=pod.metadata.uid) for pod in self.pods]
        return MetaVictims(pods=pods, num_pdb_violations=self.num_pdb_violations)


class ExtenderPreemptionArgs(Message):
    """Request of preempt: one of the maps, as the extender keeps nodes or not."""

    pod: Pod
    node_name_to_victims: dict[str, Victims] | None = None
    node_name_to_meta_victims: dict[str, MetaVictims] | None = None

    def victims(self) -> dict[str, MetaVictims]:
        """Victims by node, by identity."""
        if self.node_name_to_meta_victims:
            return self.node_name_to_meta_victims
        return {name: victims.meta() for name, victims in (self.node_name_to_victims or {}).items()}


class ExtenderPreemptionResult(Message):
    """Answer of preempt: always by identity."""

    node_name_to_meta_victims: dict[str, MetaVictims] = Field(default_factory=dict)


class ExtenderBindingArgs(Message):
    """Request of bind; EFaaS leaves binding to kube-scheduler and only knows the message."""

    pod_name: str
    pod_namespace: str
    pod_uid: Annotated[str, Field(alias="PodUID")]
    node: str


class ExtenderBindingResult(Message):
    """Answer of bind."""

    error: str = ""
