"""Operators alone: what a life costs, those that are killed, and those that follow."""

from __future__ import annotations

import json
import re

import pytest

from tests.operator.conftest import RESULT, SYSTEM, Played
from tests.support.cluster import ApiError, Process, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def writes(played: Played, operator: Process) -> float:
    """Writes of the operator so far, without renewals of its Lease."""
    _, page = played.page(operator, "/metrics")
    found = re.findall(r'api_calls_total\{code="(\d+)",verb="(\w+)"\} ([\d.]+)', page)
    return sum(float(number) for _, verb, number in found if verb in ("create", "patch", "delete"))


def _metadata(played: Played, name: str):
    return played.api.get(f"{played.sessions}/{name}")["metadata"]


def test_a_life_takes_twelve_writes(played: Played):
    played.add_device("perth", status={"dutyCyclePermille": 437})
    operator = played.start_operator(pace={"statusInterval": "2s"})
    known = 'duty_cycle_ratio{device="perth"} 0.437'
    wait_until("device known", lambda: known in played.page(operator, "/metrics")[1])
    before = writes(played, operator)
    played.submit("h2")
    played.bind("h2", "perth")
    assignment = played.assignment("h2")
    pod = played.pod("h2")
    status = played.status("h2")
    # Whoever is told something is named already: QPU servers and gateway admit nobody else.
    assert status["runner"] == {
        "uid": pod["metadata"]["uid"],
        "pod": "h2-r1",
        "leaseEpoch": 1,
        "restarts": 0,
    }
    assert json.loads(assignment["data"]["qpus"])[0]["device"] == "perth"
    played.run("h2")
    running = played.wait_for_state("h2", "Running")
    assert running["device"] == "perth"
    played.end("h2", message=RESULT)
    done = played.wait_for_state("h2", "Completed")
    assert "the energy moved less than 0.001" in done["reason"]
    assert done["result"]["energy"] == "-1.125"
    assert done["result"]["exact"] == "-1.137"
    assert done["progress"] == {"iterations": 21, "bestValue": "-1.13"}
    assert done["usage"]["shots"] == 8192
    wait_until("finalizer taken off", lambda: not _metadata(played, "h2").get("finalizers"))
    assert played.events("h2") == ["Placed", "Running", "Completed"]
    assert writes(played, operator) - before <= 12


def test_a_kill_at_every_step_loses_nothing_and_makes_no_second_runner(played: Played):
    played.add_device("perth")

    def again() -> None:
        played.operators[-1].kill()
        played.start_operator()

    played.start_operator()
    played.submit("h2")
    wait_until("pod", lambda: played.pod("h2"))
    again()
    uid = played.released("h2")["metadata"]["uid"]
    played.bind("h2", "perth")
    again()
    played.run("h2")
    again()
    played.wait_for_state("h2", "Running")
    played.end("h2", message=RESULT)
    again()
    done = played.wait_for_state("h2", "Completed")
    assert done["result"]["energy"] == "-1.125"
    pods = played.api.get(played.pods)["items"]
    assert [pod["metadata"]["uid"] for pod in pods] == [uid]
    played.api.delete(f"{played.sessions}/h2")
    wait_until("session gone", lambda: played.api.find(f"{played.sessions}/h2") is None)
    # Two may be there for a moment's events, but each thing is told once.
    assert sorted(set(played.events("h2"))) == sorted(played.events("h2"))


def test_the_standby_takes_over_after_a_kill_and_its_probes_are_good(played: Played):
    played.add_device("perth")
    leader, standby = played.start_operator(), played.start_operator()
    wait_until("leader", lambda: "efaas_operator_leader 1.0" in played.page(leader, "/metrics")[1])
    assert "efaas_operator_leader 0.0" in played.page(standby, "/metrics")[1]
    for process in (leader, standby):
        wait_until("ready", lambda process=process: played.page(process, "/readyz")[0] == 200)
        assert played.page(process, "/healthz")[0] == 200
    played.submit("h2")
    played.bind("h2", "perth")
    leader.kill()
    played.run("h2")
    played.wait_for_state("h2", "Running")
    assert "efaas_operator_leader 1.0" in played.page(standby, "/metrics")[1]
    lease = played.api.get(
        f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/lease-{played.namespace}"
    )
    assert lease["spec"]["leaseTransitions"] == 2


def test_a_leader_that_lost_its_lease_ends_at_once(played: Played):
    operator = played.start_operator()
    wait_until("leader", lambda: "efaas_operator_leader 1.0" in played.page(operator, "/metrics")[1])
    path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/lease-{played.namespace}"

    def take() -> bool:
        try:
            played.api.patch(path, {"spec": {"holderIdentity": "somebody-else"}})
        except ApiError:
            return False
        return True

    wait_until("lease taken", take)
    wait_until("operator ended", lambda: not operator.running)
    assert "no longer the leader" in operator.tail()
