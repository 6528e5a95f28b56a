"""Devices as a transpiler sees them, and other providers' backends as devices."""

import re
from pathlib import Path

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import generate_preset_pass_manager

from efaas.api.load import load_text
from efaas.devices import load_snapshot, snapshot_from_json, snapshot_names
from efaas.errors import InputError
from efaas.primitives import Backend, EstimatorV2, Session

DOCS = Path(__file__).resolve().parents[2] / "docs" / "primitives.md"


@pytest.mark.parametrize("name", ["manila-5", "guadalupe-16"])
def test_a_target_says_what_the_snapshot_says(name):
    assert name in snapshot_names()
    snapshot, target = load_snapshot(name), Backend(name).target
    assert target.num_qubits == snapshot.num_qubits
    for (gate, where), calibration in snapshot.gates.items():
        if gate in target.operation_names and gate not in ("reset", "delay", "measure"):
            properties = target[gate][where]
            assert properties.error == calibration.error
            assert properties.duration == pytest.approx(calibration.length_ns * 1e-9)
    for place, qubit in enumerate(snapshot.qubits):
        assert target.qubit_properties[place].t1 == pytest.approx(qubit.t1_us * 1e-6)


def test_a_device_without_noise_says_so():
    backend = Backend("manila-5", noise=False)
    assert not backend.noisy
    assert backend.with_noise(True).noisy
    assert all(properties.error == 0 for properties in backend.target["cx"].values())
    assert load_text(backend.document()).devices[0].spec.simulation.noise.value == "None"


def test_passes_for_the_device_find_gates_that_it_has():
    circuit = QuantumCircuit(3)
    circuit.ccx(0, 1, 2)
    isa = generate_preset_pass_manager(backend=Backend("manila-5"), optimization_level=1).run(circuit)
    edges = set(load_snapshot("manila-5").edges)
    for item in isa.data:
        where = tuple(isa.find_bit(bit).index for bit in item.qubits)
        assert len(where) == 1 or where in edges


def test_circuits_run_by_primitives_only():
    with pytest.raises(InputError, match="EstimatorV2 or SamplerV2"):
        Backend("manila-5").run(QuantumCircuit(1))


class TestOtherProviders:
    def test_their_targets_become_snapshots(self):
        given = GenericBackendV2(4, seed=1)
        backend = Backend(given)
        document = load_text(backend.document())
        [data] = document.config_maps.values()
        snapshot = snapshot_from_json(data["snapshot.json"])
        assert snapshot == backend.snapshot
        assert snapshot.num_qubits == 4
        for (gate, where), calibration in snapshot.gates.items():
            assert calibration.error == pytest.approx(given.target[gate][where].error or 0.0)
        assert snapshot.qubits[2].t1_us == pytest.approx(given.target.qubit_properties[2].t1 * 1e6)
        assert snapshot.qubits[1].prob_meas0_prep1 == pytest.approx(given.target["measure"][1,].error)

    def test_simulators_have_nothing_to_say(self):
        from qiskit_aer import AerSimulator

        with pytest.raises(InputError, match="says nothing of its qubits"):
            Backend(AerSimulator())

    @pytest.mark.integration
    @pytest.mark.timeout(120)
    def test_they_are_served(self):
        circuit = QuantumCircuit(2)
        circuit.h(0)
        circuit.cx(0, 1)
        with Session(GenericBackendV2(3, seed=1)) as session:
            data = EstimatorV2(mode=session).run([(circuit, ["ZZ", "XX"])]).result()[0].data
            attached = Session.from_id(session.session_id)
            assert attached.backend().snapshot == session.backend().snapshot
        assert np.all(data.evs > 0.95)


@pytest.mark.integration
@pytest.mark.timeout(120)
def test_the_program_of_the_docs_runs(capsys):
    [program] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    exec(compile(program, "docs/primitives.md", "exec"), {})
    assert -1.6 < float(capsys.readouterr().out) < 1.6
