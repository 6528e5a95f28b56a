"""Reading snapshots from outside: round trips, and one sentence with a place for each fault."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efaas.devices import (
    DeviceSnapshot,
    GateCalibration,
    QubitCalibration,
    ideal,
    load_snapshot,
    snapshot_from_json,
    snapshot_to_json,
)
from efaas.devices.document import MAX_BYTES
from efaas.errors import ManifestError

GOOD = json.loads(snapshot_to_json(load_snapshot("manila-5")))


def changed(path, value):
    document = copy.deepcopy(GOOD)
    *parents, last = path
    place = document
    for step in parents:
        place = place[step]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return json.dumps(document)


FAULTS = [
    # (path of the change, value, words the error must hold)
    (("qubits", 3, "t1Us"), 0, "qubits[3].t1Us: 0 is not allowed"),
    (("qubits", 3, "t1Us"), -5.0, "qubits[3].t1Us: -5.0 is not allowed"),
    (("qubits", 3, "t2Us"), 1e6, "qubits[3]: t2Us 1e+06 is above twice t1Us"),
    (("qubits", 2, "probMeas1Prep0"), 1.0, "qubits[2].probMeas1Prep0"),
    (("qubits", 2, "probMeas1Prep0"), 0.99, "qubits[2]: probMeas1Prep0 + probMeas0Prep1"),
    (("qubits", 2, "t1Us"), "90", "qubits[2].t1Us: '90' is not allowed"),
    (("qubits", 2, "t1Us"), float("nan"), "qubits[2].t1Us"),
    (("qubits", 0, "t1us"), 3.0, "qubits[0].t1us: is no field of a device snapshot; did you mean t1Us?"),
    (("qubits", 0, "t1Us"), KeyError, "qubits[0].t1Us: is missing"),
    (("qubits",), [], "qubits"),
    (("repDelayUs",), -1, "repDelayUs"),
    (("repDelayUs",), float("inf"), "repDelayUs"),
    (("format",), "v0", "format"),
    (("name",), "No Name", "name"),
    (("basisGates",), ["cx", "rz"], "basisGates: cannot make every single-qubit gate"),
    (("basisGates",), ["cx", "rz", "sx", "x", "id", "cxx"], "did you mean 'cx'?"),
    (("basisGates",), ["cx", "rz", "sx", "x", "id", "cx"], "basisGates: names a gate twice"),
    (("gates", 0, "error"), 1.0, "gates[0].error"),
    (("gates", 0, "error"), -0.1, "gates[0].error"),
    (("gates", 0, "lengthNs"), -1, "gates[0].lengthNs"),
    (("gates", 0, "qubits"), [0, 5], "gates[0]: qubits [0, 5] must be different and below 5"),
    (("gates", 0, "qubits"), [1, 1], "gates[0]: qubits [1, 1] must be different"),
    (("gates", 0, "qubits"), [0], "gates[0]: 'cx' acts on 2 qubits, 1 are given"),
    (("gates", 0, "gate"), "cz", "gates[0]: 'cz' is not among basisGates"),
    (("gates", 0, "qubits"), [2, 1], "gates[3]: 'cx' on qubits [2, 1] is given twice"),
    (
        ("gates", len(GOOD["gates"]) - 1),
        GOOD["gates"][0] | {"gate": "cx", "qubits": [0, 4]},
        "'x' is missing on qubit 4",
    ),
    (("gates",), [gate for gate in GOOD["gates"] if len(gate["qubits"]) == 1], "has no two-qubit gate"),
]


@pytest.mark.parametrize(("path", "value", "words"), FAULTS)
def test_a_fault_is_told_with_its_place(path, value, words):
    with pytest.raises(ManifestError) as error:
        snapshot_from_json(changed(path, value), place="mine.json")
    assert words in str(error.value)
    assert str(error.value).startswith("mine.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "[" * 100_000, b"\xff\xfe", '{"a":1}', "1e999", "{}" * 3, b"\x1f\x8b\x08"]
)
def test_what_is_no_snapshot_is_refused(text):
    with pytest.raises(ManifestError):
        snapshot_from_json(text)


def test_a_document_beyond_the_limit_is_not_parsed():
    with pytest.raises(ManifestError, match="bytes long, at most"):
        snapshot_from_json("[" + " " * MAX_BYTES + "]")


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_no_input_raises_anything_else(text):
    with pytest.raises(ManifestError):
        snapshot_from_json(text)


@st.composite
def snapshots(draw):
    count = draw(st.integers(1, 5))
    probability = st.floats(0, 0.499)
    qubits = []
    for _ in range(count):
        t1_us = draw(st.floats(0.01, 1e6))
        qubits.append(
            QubitCalibration(
                t1_us=t1_us,
                t2_us=draw(st.floats(0.001, 2 * t1_us)),
                frequency_ghz=draw(st.floats(0, 10)),
                prob_meas1_prep0=draw(probability),
                prob_meas0_prep1=draw(probability),
                readout_length_ns=draw(st.floats(0, 1e6)),
            )
        )
    values = st.builds(GateCalibration, error=st.floats(0, 0.999), length_ns=st.floats(0, 1e6))
    gates = {(name, (qubit,)): draw(values) for name in ("rz", "sx") for qubit in range(count)}
    gates |= {("cz", (qubit, qubit + 1)): draw(values) for qubit in range(count - 1)}
    return DeviceSnapshot(
        name="mine-1",
        source=draw(st.text(max_size=50)),
        calibrated_at="2024-05-27",
        rep_delay_us=draw(st.floats(0, 1e4)),
        basis_gates=("cz", "rz", "sx"),
        qubits=tuple(qubits),
        gates=gates,
        repairs=tuple(draw(st.lists(st.text(max_size=20), max_size=2))),
    )


@given(snapshots())
def test_what_is_written_is_read_back_equal(snapshot):
    assert snapshot_from_json(snapshot_to_json(snapshot)) == snapshot
    assert snapshot_from_json(snapshot_to_json(snapshot).encode()) == snapshot


def test_an_ideal_device_keeps_topology_and_times_and_loses_all_errors():
    snapshot = load_snapshot("manila-5")
    perfect = ideal(snapshot)
    assert perfect.edges == snapshot.edges
    assert perfect.rep_delay_us == snapshot.rep_delay_us
    assert all(gate.error == 0 for gate in perfect.gates.values())
    assert {item: gate.length_ns for item, gate in perfect.gates.items()} == {
        item: gate.length_ns for item, gate in snapshot.gates.items()
    }
    assert all(qubit.prob_meas1_prep0 == qubit.prob_meas0_prep1 == 0 for qubit in perfect.qubits)
    assert [qubit.readout_length_ns for qubit in perfect.qubits] == [
        q.readout_length_ns for q in snapshot.qubits
    ]
    with pytest.raises(ManifestError, match="not finite"):
        snapshot_to_json(perfect)
