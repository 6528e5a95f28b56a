"""Kill a session after any record, or in the middle of one: it goes on to the same trajectory, charged
once."""

import json
import shutil

import numpy as np
import pytest

from efaas.api.session import Optimizer as OptimizerSpec
from efaas.errors import InputError, SessionEnded
from efaas.journal import DirectoryJournal, read_records
from efaas.optimizers.factory import make_optimizer
from efaas.optimizers.stopping import StoppingRule
from efaas.runner.dispatch import Dispatcher
from efaas.runner.environment import QpuTarget
from efaas.runner.limits import Limits
from efaas.runner.loop import VariationalLoop
from efaas.runner.prepare import Prepared
from efaas.runner.progress import Progress
from efaas.runner.trajectory import Trajectory

OPTIMIZERS = {
    "spsa": {"spsa": {"calibrationSteps": 2}},
    "qnSpsa": {"qnSpsa": {}},
    "adam": {"adam": {}},
    "rotosolve": {"rotosolve": {}},
    "cmaEs": {"cmaEs": {}},
    "nelderMead": {"nelderMead": {}},
    "cobyla": {"cobyla": {}},
    "powell": {"powell": {}},
    "scan": {"scan": {"points": 11, "pointsPerJob": 2}},
}
TIMES = ("elapsed_s", "cpu_s", "iteration_s", "jobs", "state")


def prepared(spec, shots=100, seed=3):
    method = OptimizerSpec.model_validate(spec)
    initial = np.array([0.1, 0.2, 0.3])
    return Prepared(
        program="ansatz",
        terms=(("ZZ", 1.0),),
        initial=initial,
        make_optimizer=lambda: make_optimizer(method, initial, seed),
        identity={"optimizer": spec, "shots": shots},
        exact=lambda: -3.0,
        shots=shots,
        final_shots=2 * shots,
        overlap_program="overlap",
    )


def run(folder, qpu, spec, iterations=6, lease_epoch=0, **changes):
    """Run a session to its end; returns its outcome."""
    ready = prepared(spec, **changes)
    dispatcher = Dispatcher(
        "default/test", [QpuTarget("fake", "127.0.0.1:1")], Progress(None, None), seed=5, connect=qpu.connect
    )
    rule = StoppingRule(max_iterations=iterations)
    try:
        with DirectoryJournal(folder, lease_epoch) as journal:
            trajectory = Trajectory(ready.identity, ready.make_optimizer, journal, rule, Progress(None, None))
            loop = VariationalLoop(ready, trajectory, dispatcher, rule, Limits())
            loop.run()
            return {**loop.outcome(), "summary": trajectory.account.summary()}
    finally:
        dispatcher.close()


def essence(folder):
    """What the trajectory is: everything but times."""
    return [
        {
            **{name: value for name, value in record.items() if name not in TIMES},
            "ids": [job["id"] for job in record.get("jobs", [])],
        }
        for record in read_records(folder)
    ]


def as_set(records):
    return {json.dumps(record, sort_keys=True) for record in records}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_killed_after_any_record_the_trajectory_and_the_charges_are_the_same(name, tmp_path, make_qpu):
    qpu = make_qpu()
    whole = tmp_path / "whole"
    outcome = run(whole, qpu, OPTIMIZERS[name])
    expected = essence(whole)
    file = whole / "journal.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(expected)
    for kept in range(len(lines) + 1):
        folder = tmp_path / f"after-{kept}"
        folder.mkdir()
        torn = lines[kept][: len(lines[kept]) // 2] if kept < len(lines) else b""
        (folder / "journal.jsonl").write_bytes(b"".join(lines[:kept]) + torn)
        other = make_qpu()
        again = run(folder, other, OPTIMIZERS[name], lease_epoch=1)
        found = essence(folder)
        if name == "scan":  # its answers may come in any order
            assert as_set(found) >= as_set(record for record in expected if record["kind"] != "iteration")
            assert {tuple(r["ids"]) for r in found} == {tuple(r["ids"]) for r in expected}
        else:
            assert found == expected
        for field in ("energy", "std_error", "parameters", "iterations"):
            assert again[field] == outcome[field]
        for field in ("shots", "evaluations", "best"):
            assert again["summary"][field] == outcome["summary"][field]
        # What the journal held was not run again.
        ran = {message.job_id for message in other.submitted}
        held = {job for record in expected[:kept] for job in record["ids"]}
        assert not ran & held
        assert ran | held == set(qpu.charged)
        shutil.rmtree(folder)


def test_a_result_is_acknowledged_only_when_it_is_on_disk(tmp_path, qpu):
    on_disk = []
    original = qpu.connect

    def connect(*arguments):
        connection = original(*arguments)

        def acknowledge(job_id):
            on_disk.append(any(job_id in json.dumps(r) for r in read_records(tmp_path / "j")))
            qpu.acknowledged.add(job_id)

        connection.acknowledge = acknowledge
        return connection

    qpu.connect = connect
    run(tmp_path / "j", qpu, OPTIMIZERS["qnSpsa"], iterations=3)
    assert on_disk
    assert all(on_disk)
    assert qpu.acknowledged == set(qpu.charged)


def test_overlaps_are_shares_of_all_zeros(tmp_path, qpu):
    run(tmp_path, qpu, OPTIMIZERS["qnSpsa"], iterations=2)
    told = [
        overlap
        for record in read_records(tmp_path)
        if "told" in record
        for overlap in record["told"]["overlaps"]
    ]
    assert told
    assert all(0.6 <= overlap <= 0.9 for overlap in told)  # what the fake QPU measures


def test_the_result_is_a_new_evaluation_at_the_optimizers_point(tmp_path, qpu):
    outcome = run(tmp_path, qpu, OPTIMIZERS["nelderMead"], iterations=5)
    last = qpu.submitted[-1]
    assert last.shots == 200
    assert list(last.parameters) == outcome["parameters"]
    assert outcome["energy"] == pytest.approx(np.cos(outcome["parameters"]).sum(), abs=0.1)
    assert outcome["final_evaluation"] is True


def test_a_finished_session_is_not_run_again(tmp_path, make_qpu):
    outcome = run(tmp_path, make_qpu(), OPTIMIZERS["spsa"])
    idle = make_qpu()
    assert run(tmp_path, idle, OPTIMIZERS["spsa"])["energy"] == outcome["energy"]
    assert idle.submitted == []


def test_more_iterations_go_on_from_an_unfinished_end(tmp_path, make_qpu):
    """A raised maxIterations is honoured: the rule's limits come from the manifest, not from the journal."""
    qpu = make_qpu()
    run(tmp_path / "long", qpu, OPTIMIZERS["spsa"], iterations=9)
    run(tmp_path / "short", make_qpu(), OPTIMIZERS["spsa"], iterations=4)
    file = tmp_path / "short" / "journal.jsonl"
    file.write_bytes(
        b"".join(file.read_bytes().splitlines(keepends=True)[:-1])
    )  # without the final evaluation
    run(tmp_path / "short", make_qpu(), OPTIMIZERS["spsa"], iterations=9)
    assert essence(tmp_path / "short") == essence(tmp_path / "long")


def test_a_journal_of_another_manifest_is_refused(tmp_path, qpu):
    run(tmp_path, qpu, OPTIMIZERS["spsa"])
    with pytest.raises(InputError, match="journal: was begun by another session \\(shots is not the same\\)"):
        run(tmp_path, qpu, OPTIMIZERS["spsa"], shots=50)


def test_an_optimizer_that_asks_something_else_is_refused(tmp_path, qpu):
    run(tmp_path, qpu, OPTIMIZERS["cobyla"])
    file = tmp_path / "journal.jsonl"
    records = [r for r in read_records(tmp_path) if r["kind"] != "final"]
    for record in records[1:]:
        record.pop("state", None)
    records[3]["asked"]["points"][0][0] += 1e-15
    file.unlink()
    with DirectoryJournal(tmp_path) as journal:
        for record in records:
            journal.append(record)
    with pytest.raises(InputError, match="asks for other points than at evaluation 2"):
        run(tmp_path, qpu, OPTIMIZERS["cobyla"])


def test_states_take_no_more_room_than_the_rest_of_the_journal(tmp_path, qpu):
    """Powell's state is its whole history; written each time the journal would grow with its square."""
    run(tmp_path, qpu, OPTIMIZERS["powell"], iterations=4)
    records = list(read_records(tmp_path))
    states = sum(len(json.dumps(r["state"])) for r in records if "state" in r)
    rest = sum(len(json.dumps({k: v for k, v in r.items() if k != "state"})) for r in records)
    assert sum("state" in r for r in records) >= 2
    assert states <= rest


def test_a_fenced_runner_stops_at_its_next_record(tmp_path, make_qpu):
    qpu = make_qpu()
    original, taken = qpu.result, []

    def result(identity, message):
        if len(qpu.submitted) == 3 and not taken:
            taken.append(DirectoryJournal(tmp_path, 1))
        return original(identity, message)

    qpu.result = result
    with pytest.raises(SessionEnded, match="fenced"):
        run(tmp_path, qpu, OPTIMIZERS["nelderMead"])
    taken[0].close()
