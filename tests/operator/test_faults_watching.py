"""Watches alone, without the periodic pass that would hide their loss: what happens is known at once."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from pathlib import Path

import pytest
from efaas_operator.handlers import watching
from efaas_operator.metrics import Metrics
from efaas_operator.world import Kind, World

from efaas.kubernetes.connection import connect
from tests.support.cluster import Cluster
from tests.support.fault_proxy import QUIET, FaultProxy
from tests.support.operating import DEVICES

NODE = "/api/v1/nodes"


@pytest.mark.cluster
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", ["", "drop_watch", "gone_watch"])
def test_what_happens_is_known_by_watches_alone(tmp_path: Path, fault: str):
    asyncio.run(follow(tmp_path, fault))


async def follow(tmp_path: Path, fault: str) -> None:
    world, metrics, stop = World(), Metrics(), asyncio.Event()
    rates = dataclasses.replace(QUIET, watch_s=0.5, **({fault: 0.7} if fault else {}))
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.apply_crds()
        with FaultProxy(cluster, seed=2, rates=rates) as proxy:
            registry = watching.make_registry(connect(proxy.kubeconfig), world, metrics)
            settings = watching.make_settings("efaas-system")
            task = asyncio.create_task(watching.watch(registry, settings, stop))
            document = {
                "apiVersion": "efaas.dev/v1alpha1",
                "kind": "QPUDevice",
                "metadata": {"name": "d"},
                "spec": {"model": {"snapshot": "manila-5"}},
            }
            await asyncio.to_thread(cluster.api.create, DEVICES, document)
            await known(world, lambda device: device is not None)
            for slots in (3, 4, 5):
                change = {"spec": {"slots": slots}}
                await asyncio.to_thread(cluster.api.patch, f"{DEVICES}/d", change)
                await known(world, lambda device, slots=slots: device["spec"]["slots"] == slots)
            await asyncio.to_thread(cluster.api.delete, f"{DEVICES}/d")
            if not fault:  # a deletion between two watches is the periodic pass's to find
                await known(world, lambda device: device is None)
            stop.set()
            await asyncio.wait_for(task, 30)
            assert not fault or proxy.faults[fault] > 0
        # kopf leaves a watch that was cut behind it: its end is seen here, not by the test that comes next.
        await asyncio.sleep(0.5)
    gc.collect()


async def known(world: World, condition) -> None:
    async with asyncio.timeout(40):
        while not condition(world[Kind.DEVICE].get("d")):
            await asyncio.sleep(0.02)
