"""What the shipped snapshots promise: real devices, physical values, connected enough to run circuits."""

import gzip
import json
from importlib import resources

import pytest

from efaas.devices import load_snapshot, snapshot_digest, snapshot_from_json, snapshot_names, snapshot_to_json
from efaas.errors import ManifestError

ALL = snapshot_names()


def largest_connected(snapshot):
    neighbours = {qubit: set() for qubit in range(snapshot.num_qubits)}
    for a, b in snapshot.edges:
        neighbours[a].add(b)
        neighbours[b].add(a)
    seen, best = set(), 0
    for start in neighbours:
        if start in seen:
            continue
        todo, part = [start], set()
        while todo:
            qubit = todo.pop()
            if qubit not in part:
                part.add(qubit)
                todo += neighbours[qubit] - part
        seen |= part
        best = max(best, len(part))
    return best


def test_a_device_of_each_promised_size_ships():
    assert {5, 7, 16, 27, 133} <= {load_snapshot(name).num_qubits for name in ALL}


def test_names_are_sorted_by_size_and_end_in_it():
    sizes = [load_snapshot(name).num_qubits for name in ALL]
    assert sizes == sorted(sizes)
    assert [int(name.rpartition("-")[2]) for name in ALL] == sizes


@pytest.mark.parametrize("name", ALL)
def test_values_are_physical(name):
    snapshot = load_snapshot(name)
    assert snapshot.name == name
    assert 50 <= snapshot.rep_delay_us <= 10_000
    for qubit in snapshot.qubits:
        assert 0 < qubit.t2_us <= 2 * qubit.t1_us
        assert qubit.prob_meas1_prep0 + qubit.prob_meas0_prep1 < 1
        assert 100 < qubit.readout_length_ns < 10_000
    for (gate, qubits), values in snapshot.gates.items():
        assert 0 <= values.error < 1
        if gate == "rz":
            assert values.error == values.length_ns == 0
        else:
            assert values.length_ns > 10, (gate, qubits)


@pytest.mark.parametrize("name", ALL)
def test_nearly_all_qubits_can_be_reached_from_each_other(name):
    # A failed calibration may cut off a qubit or two; more would be a fault of the script.
    snapshot = load_snapshot(name)
    assert largest_connected(snapshot) >= 0.9 * snapshot.num_qubits


@pytest.mark.parametrize("name", ALL)
def test_the_file_is_what_writing_the_snapshot_gives(name):
    data = resources.files("efaas.devices").joinpath("data", f"{name}.json.gz").read_bytes()
    assert gzip.decompress(data).decode() == snapshot_to_json(load_snapshot(name))
    assert data[4:8] == bytes(4), "the time in the gzip header must be 0"


def test_repairs_are_listed_and_the_dropped_pairs_are_gone():
    snapshot = load_snapshot("hanoi-27")
    assert "cx on 5-8 was dropped: its error was 1" in snapshot.repairs
    assert (5, 8) not in snapshot.edges
    assert (8, 5) not in snapshot.edges
    assert any(repair.startswith("qubit 2: T2 ") for repair in snapshot.repairs)
    assert snapshot.qubits[2].t2_us == 2 * snapshot.qubits[2].t1_us


def test_directions_are_those_of_the_device():
    both, one = load_snapshot("manila-5"), load_snapshot("sherbrooke-127")
    assert all((b, a) in both.edges for a, b in both.edges)
    assert not any((b, a) in one.edges for a, b in one.edges), "ecr exists in one direction of each pair"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        ManifestError, match=r"spec.model.snapshot: .*'manilla-5'; did you mean manila-5\?"
    ) as error:
        load_snapshot("manilla-5", place="spec.model.snapshot")
    assert error.value.place == "spec.model.snapshot"
    with pytest.raises(ManifestError, match="there are manila-5, lagos-7"):
        load_snapshot("zzz")


@pytest.mark.parametrize("name", ["../data/manila-5", "manila-5.json.gz", "", "/etc/passwd"])
def test_a_name_is_never_a_path(name):
    with pytest.raises(ManifestError):
        load_snapshot(name)


def test_a_snapshot_is_read_once():
    assert load_snapshot("manila-5") is load_snapshot("manila-5")


def test_digests_tell_devices_apart_and_ignore_where_they_were_read():
    assert len({snapshot_digest(load_snapshot(name)) for name in ALL}) == len(ALL)
    again = json.loads(snapshot_to_json(load_snapshot("manila-5"))) | {"source": "elsewhere"}
    assert snapshot_digest(snapshot_from_json(json.dumps(again))) == snapshot_digest(
        load_snapshot("manila-5")
    )
