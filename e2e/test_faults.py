"""Everything is killed once while sessions run; all of them end as if nothing had happened.

Both devices are frozen twins, so an undisturbed run has the same energies to the bit, wherever and however
often a job ran. Several faults strike the same sessions, one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.support import breaking
from e2e.support.devices import TWIN, all_ready, bring, device, pod_of
from e2e.support.kubectl import FINAL, LONG_S, MEDIUM_S, Kubectl, wait_until
from e2e.support.sessions import SYSTEM, Undisturbed, ask_gateway, loop, trajectory

TIME_SCALE = "0.8"
NAMES = ("one", "two", "three")


class Sessions:
    """Sessions that are under way, and what they would have done undisturbed."""

    def __init__(self, kubectl: Kubectl, prefix: str, iterations: int, folder: Path) -> None:
        self._kubectl = kubectl
        self.names = tuple(f"{prefix}-{name}" for name in NAMES)
        documents = [loop(name, iterations, seed=7 + at) for at, name in enumerate(self.names)]
        self.undisturbed = Undisturbed(
            [*(device(name, TWIN) for name in ("left", "right")), *documents], folder
        )
        kubectl.apply(documents)
        for name in self.names:
            kubectl.wait_for_state(name, "Running")
        self.wait_for_progress()

    def done(self) -> dict[str, int]:
        """Evaluations that the gateway has of each session."""
        return {name: len(trajectory(self._kubectl, name)["evaluation"]) for name in self.names}

    def wait_for_progress(self, within_s: float = MEDIUM_S) -> None:
        """Wait until every session has gone on, so that the next fault strikes all of them."""
        before = self.done()

        def gone_on() -> bool:
            now = self.done()
            return all(now[name] > before[name] or self.is_over(name) for name in self.names)

        wait_until("every session to go on", gone_on, within_s)

    def is_over(self, name: str) -> bool:
        """Whether it has ended."""
        return self._kubectl.session(name).get("state") in FINAL

    def assert_under_way(self) -> None:
        """A fault after the end would prove nothing."""
        over = [name for name in self.names if self.is_over(name)]
        assert not over, f"{over} ended before the fault"

    def on(self, device_name: str) -> str:
        """A session on a device."""
        placed = {name: self._kubectl.session(name).get("device") for name in self.names}
        found = [name for name in self.names if placed[name] == device_name]
        assert found, f"no session is on {device_name}: {placed}"
        return found[0]

    def assert_as_undisturbed(self) -> None:
        """All complete, with the same energies, and no shot was charged twice."""
        for name in self.names:
            status = self._kubectl.wait_for_state(name, "Completed", within_s=LONG_S)
            assert trajectory(self._kubectl, name)["energy"] == self.undisturbed.energies(name), name
            expected = self.undisturbed.sessions[f"default/{name}"]
            assert float(status["result"]["energy"]) == pytest.approx(expected["energy"], rel=1e-8), name
            assert status["usage"]["shots"] == expected["usage"]["shots"], name
        charged = self._charged()
        for name in self.names:
            assert (
                charged[f"default/{name}"] == self.undisturbed.sessions[f"default/{name}"]["usage"]["shots"]
            ), name

    def _charged(self) -> dict[str, int]:
        rows = ask_gateway(self._kubectl, "/usage", by="session")["items"]
        return {row["session"]: int(row["shots"]) for row in rows}


@pytest.fixture(scope="module", autouse=True)
def _twins(kubectl: Kubectl) -> Iterator[None]:
    slow = {**TWIN, "simulation": {"timeScale": TIME_SCALE}}
    bring(kubectl, {"left": slow, "right": slow})
    yield
    breaking.wait_for_deployments(kubectl)


def test_pods_are_killed(kubectl: Kubectl, tmp_path: Path):
    sessions = Sessions(kubectl, "pods", 90, tmp_path)

    runner = kubectl.session(sessions.on("left"))["runner"]
    breaking.kill_pod(kubectl, runner["pod"], "default")
    sessions.assert_under_way()
    sessions.wait_for_progress()

    server = breaking.kill_pod(kubectl, "qpu-left")
    sessions.assert_under_way()
    wait_until(
        "another server of the device", lambda: pod_of(kubectl, "left")["metadata"]["uid"] != server, MEDIUM_S
    )
    wait_until("the device to serve", lambda: all_ready(kubectl, "left"), MEDIUM_S)
    sessions.wait_for_progress()

    leader = breaking.leader(kubectl, "efaas-operator")
    breaking.kill_pod(kubectl, leader)
    wait_until(
        "another operator", lambda: breaking.another_leads(kubectl, "efaas-operator", leader), MEDIUM_S
    )
    # The new leader is put to work at once: a runner that is killed now is its task.
    runner = kubectl.session(sessions.on("right"))["runner"]
    breaking.kill_pod(kubectl, runner["pod"], "default")
    scheduler = breaking.leader(kubectl, "efaas-scheduler")
    breaking.kill_pod(kubectl, scheduler)
    sessions.assert_under_way()
    sessions.wait_for_progress()

    breaking.kill_pod(kubectl, breaking.pod_named(kubectl, "efaas-gateway"))
    sessions.assert_under_way()
    breaking.wait_for_deployments(kubectl)
    sessions.assert_as_undisturbed()


def test_nodes_and_the_api_server_are_killed(kubectl: Kubectl, tmp_path: Path):
    sessions = Sessions(kubectl, "nodes", 105, tmp_path)
    left_node = pod_of(kubectl, "left")["spec"]["nodeName"]
    control_plane = next(
        node["metadata"]["name"]
        for node in kubectl.everywhere("nodes", "node-role.kubernetes.io/control-plane")
    )

    breaking.kill_on_node(left_node, "kubelet")
    sessions.assert_under_way()
    breaking.kill_on_node(control_plane, "kube-apiserver")
    wait_until("the API server to be back", lambda: breaking.answers(kubectl), MEDIUM_S)
    sessions.assert_under_way()
    sessions.wait_for_progress()

    gateways_node = kubectl.get("pod", breaking.pod_named(kubectl, "efaas-gateway"), SYSTEM)["spec"][
        "nodeName"
    ]
    breaking.engine("kill", gateways_node)
    sessions.assert_under_way()
    time.sleep(5)  # That long the node is away; sessions go on with what they hold.
    breaking.engine("start", gateways_node)
    breaking.wait_for_deployments(kubectl)
    sessions.wait_for_progress()

    sessions.assert_under_way()
    breaking.engine("kill", left_node)
    try:
        sessions.assert_as_undisturbed()
        assert not breaking.node_ready(kubectl, left_node)
    finally:
        breaking.engine("start", left_node)
    wait_until("the node to be back", lambda: breaking.node_ready(kubectl, left_node), MEDIUM_S)
    wait_until("its device to be back", lambda: all_ready(kubectl, "left", "right"), MEDIUM_S)
