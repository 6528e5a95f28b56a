"""No image lacks a part of the project that what it runs imports, however deep."""

from __future__ import annotations

import re

import grimp
import pytest

from tests.support.cluster import ROOT

_LINE = re.compile(r"^\s+(efaas[._]\w+)\)\s+keep='(\w*)'\s+drop='([^']*)'", re.MULTILINE)
DROPPED = {found[0]: found[2].split() for found in _LINE.findall((ROOT / "images" / "install").read_text())}
RUNS = {
    "efaas_operator": ["efaas_operator"],
    "efaas_scheduler": ["efaas_scheduler"],
    "efaas_gateway": ["efaas_gateway"],
    "efaas_qpu": ["efaas_qpu"],
    "efaas.runner": ["efaas.runner", "efaas.sdk", "efaas.primitives"],
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    packages = ("efaas", "efaas_operator", "efaas_scheduler", "efaas_gateway", "efaas_qpu")
    return grimp.build_graph(*packages, exclude_type_checking_imports=True, cache_dir=None)


def test_every_part_is_listed():
    assert set(DROPPED) == set(RUNS)


@pytest.mark.parametrize("part", RUNS)
def test_nothing_that_is_imported_was_dropped(graph: grimp.ImportGraph, part: str):
    needed = set()
    for root in RUNS[part]:
        for module in {root, *graph.find_descendants(root)}:
            needed |= {module, *graph.find_upstream_modules(module)}
    for name in DROPPED[part]:
        dropped = f"efaas.{name.replace('/', '.')}"
        missing = {each for each in needed if each == dropped or each.startswith(f"{dropped}.")}
        assert not missing, sorted(missing)
