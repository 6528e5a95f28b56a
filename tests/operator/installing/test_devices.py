"""Which devices an installation gets."""

from __future__ import annotations

import pytest
from efaas_operator.installing.devices import RELEASE_LABEL, Wanted, device_name, wanted_devices
from hypothesis import given
from hypothesis import strategies as st

from efaas.errors import InputError

SPEC = {"model": {"snapshot": "lagos-7"}}
IDEAL = {"model": {"snapshot": "manila-5"}}


def _wanted(enabled: bool, *listed: tuple[str, dict[str, object]]) -> Wanted:
    items = [{"name": name, "spec": spec} for name, spec in listed]
    return Wanted.model_validate({"perNode": {"enabled": enabled, "spec": SPEC}, "list": items})


def _brief(documents):
    return {each["metadata"]["name"]: each["spec"] for each in documents}


def test_each_node_gets_a_device_of_its_own_pinned_to_it():
    documents = wanted_devices(_wanted(True), ["node-b", "node-a"], "efaas")
    assert _brief(documents) == {name: {**SPEC, "node": name} for name in ("node-a", "node-b")}
    assert all(each["metadata"]["labels"] == {RELEASE_LABEL: "efaas"} for each in documents)


def test_a_listed_device_takes_its_node():
    documents = wanted_devices(
        _wanted(True, ("ideal", {**IDEAL, "node": "node-a"})), ["node-a", "b"], "efaas"
    )
    assert _brief(documents) == {"ideal": {**IDEAL, "node": "node-a"}, "b": {**SPEC, "node": "b"}}


def test_only_listed_devices_are_made_where_nodes_get_none():
    assert _brief(wanted_devices(_wanted(False, ("ideal", IDEAL)), ["a", "b"], "efaas")) == {"ideal": IDEAL}


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (_wanted(True, ("ideal", IDEAL)), "names no node"),
        (_wanted(False, ("ideal", IDEAL), ("ideal", IDEAL)), "two devices are named 'ideal'"),
        (_wanted(True, ("b", {**IDEAL, "node": "a"})), "name of the device of node 'b'"),
    ],
)
def test_lists_that_cannot_be_are_refused_in_words(wanted, says):
    with pytest.raises(InputError, match=says):
        wanted_devices(wanted, ["a", "b"], "efaas")


@given(st.lists(st.from_regex(r"[a-z0-9]([-.a-z0-9]{0,250}[a-z0-9])?", fullmatch=True), unique=True))
def test_every_node_has_a_device_name_that_is_valid_and_no_others(nodes):
    names = [device_name(node) for node in nodes]
    assert len(set(names)) == len(nodes)
    for name in names:
        assert len(name) <= 52
        assert name.strip("-") == name
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert name
