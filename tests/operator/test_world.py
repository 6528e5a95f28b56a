"""Copies of the cluster: whatever order news comes in, the newest holds."""

from __future__ import annotations

from typing import Any

from efaas_operator.world import Kind, World
from hypothesis import given
from hypothesis import strategies as st


def pod(name: str, version: int, *, uid: str = "", session: str | None = None) -> dict[str, Any]:
    annotations = {"efaas.dev/session-name": session} if session else {}
    return {
        "metadata": {
            "name": name,
            "namespace": "chemistry",
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "annotations": annotations,
            "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "runner", "image": "x", "resources": {}}]},
        "status": {"phase": "Running"},
    }


def test_an_older_version_changes_nothing():
    world = World()
    assert world.pods.put(pod("a", 7))
    assert not world.pods.put(pod("a", 7))
    assert not world.pods.put(pod("a", 3))
    assert world.pods.put(pod("a", 8))


def test_what_was_deleted_does_not_come_back_with_an_old_answer_but_its_name_may():
    world = World()
    world.pods.put(pod("a", 5))
    world.pods.gone(pod("a", 9))
    assert not world.pods.put(pod("a", 6))
    assert not world.pods.put(pod("a", 10)), "late news of what is gone is no news"
    assert world.pods.put(pod("a", 12, uid="another"))
    assert not world.pods.gone(pod("a", 13)), "news of the first one is no news of the second"
    assert world.pods.get("chemistry/a") is not None


def test_a_list_removes_what_is_missing_unless_it_is_newer_than_the_list():
    world = World()
    told = []
    world.pods.put(pod("old", 5))
    world.pods.put(pod("new", 30))
    world.listen(lambda kind, key, before, after: told.append((kind, key, after is not None)))
    assert world.pods.replace([pod("other", 11)], 20) == 2
    assert sorted(world.pods.names()) == ["chemistry/new", "chemistry/other"]
    assert sorted(told) == [(Kind.POD, "chemistry/old", False), (Kind.POD, "chemistry/other", True)]
    assert world.pods.listed
    assert not world.complete


def test_copies_are_slim():
    world = World()
    world.pods.put(pod("a", 1))
    kept = world.pods.get("chemistry/a")
    assert "managedFields" not in kept["metadata"]
    assert kept["spec"] == {"nodeName": "n1", "containers": [{"name": "runner", "resources": {}}]}


NEWS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 30), st.booleans()), max_size=30)


@given(NEWS)
def test_pods_are_found_by_their_session_whatever_order_news_comes_in(news):
    world = World()
    for name, version, gone in news:
        document = pod(name, version, session="h2")
        if gone:
            world.pods.gone(document)
        else:
            world.pods.put(document)
    names = sorted(each["metadata"]["name"] for each in world.pods_of("chemistry/h2"))
    assert names == sorted(key.partition("/")[2] for key in world.pods.names())
