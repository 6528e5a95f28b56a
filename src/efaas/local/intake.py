"""From manifests to a plan: everything that can be refused is refused here, before anything is started.

What is checked is what needs no circuit: that problems are Hamiltonians, that programs are there, that
devices exist and each session fits one. All faults are told at once. Ansätze and OpenQASM are read by the
runner, which has Qiskit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from efaas.api.device import DeviceModel, Noise, QPUDevice, QPUDeviceSpec, QueuePolicy
from efaas.api.load import Documents
from efaas.api.meta import Metadata
from efaas.api.session import ConfigMapKey, VQASession
from efaas.api.shapes import circuit_shape
from efaas.core.calibration import typical_errors
from efaas.devices.document import snapshot_from_json
from efaas.devices.shipped import load_snapshot, snapshot_names
from efaas.devices.snapshot import DeviceSnapshot
from efaas.devices.trace import trace_from_json
from efaas.errors import EfaasError, ManifestError, ManifestFaults
from efaas.local.placement import DEVICE_LABEL, DeviceOffer, SessionNeeds, place
from efaas.problems import Hamiltonian, build_hamiltonian

DEFAULT_DEVICES = ("manila-5", "guadalupe-16")
"""Models of the two devices of a manifest that brings none; larger ones take their place if needed."""

TRACE_PLACE = "spec.calibration.trace"


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What is known of a session before it runs."""

    qubits: int
    """Least number of qubits of its device."""
    declarative: bool
    """Whether it is a problem, an ansatz and an optimizer rather than a program."""
    hamiltonian: Hamiltonian | None = None
    """Of a declarative session."""

    @property
    def hartree(self) -> bool:
        """Whether energies are in Hartree."""
        return self.hamiltonian is not None and self.hamiltonian.unit == "Ha"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run, and where."""

    documents: Documents
    """The documents with defaults and overrides filled in."""
    placement: Mapping[str, tuple[str, ...]]
    """For each session's key the devices that fit, its own first."""
    facts: Mapping[str, SessionFacts]
    """By session key."""
    device_qubits: Mapping[str, int]
    """By device name."""
    warnings: tuple[str, ...] = field(default=())
    """What a person should know although it is no fault."""


def override(documents: Documents, *, seed: int | None = None, policy: str | None = None) -> Documents:
    """The documents with every session's seed, or every device's queue policy, replaced."""
    sessions, devices = documents.sessions, documents.devices
    if seed is not None:
        sessions = tuple(
            session.model_copy(update={"spec": session.spec.model_copy(update={"seed": seed})})
            for session in sessions
        )
    if policy is not None:
        devices = tuple(_with_policy(device, QueuePolicy(policy)) for device in devices)
    return replace(documents, sessions=sessions, devices=devices)


def make_plan(documents: Documents, *, policy: str | None = None) -> Plan:
    """Check the documents against each other and place the sessions.

    Args:
        documents: as read; two default devices are added when there is none.
        policy: queue policy of the default devices.

    Raises:
        ManifestFaults: every fault that was found.
    """
    faults: list[ManifestError] = []
    if not documents.sessions:
        raise ManifestFaults(
            (ManifestError("holds no VQASession, so there is nothing to run", place="manifest"),)
        )
    facts = {}
    for session in documents.sessions:
        try:
            facts[session.key] = _facts(session, documents)
        except EfaasError as error:
            faults += _placed(error, f"VQASession {_shown(session)}")
    qubits = {}
    repaired: list[str] = []
    for device in documents.devices:
        try:
            snapshot = device_snapshot(device, documents)
            qubits[device.name] = snapshot.num_qubits
            repaired += [
                f"QPUDevice {device.name}: {TRACE_PLACE}: {repair}"
                for repair in trace_repairs(device, snapshot, documents)
            ]
        except EfaasError as error:
            faults += _placed(error, f"QPUDevice {device.name}")
    if faults:
        raise ManifestFaults(tuple(faults))
    if not documents.devices:
        devices = default_devices(documents.sessions, {key: fact.qubits for key, fact in facts.items()})
        if policy is not None:
            devices = tuple(_with_policy(device, QueuePolicy(policy)) for device in devices)
        documents = replace(documents, devices=devices)
        qubits = {device.name: device_snapshot(device, documents).num_qubits for device in devices}
    placement = place(
        [
            SessionNeeds(
                session.key,
                facts[session.key].qubits,
                session.spec.device.match_labels,
                float(session.spec.device.min_fidelity or 0.0),
                circuit_shape(session.spec),
            )
            for session in documents.sessions
            if not session.spec.suspend
        ],
        [_offer(device, qubits[device.name], documents) for device in documents.devices],
    )
    return Plan(documents, placement, facts, qubits, tuple(repaired))


def default_devices(sessions: tuple[VQASession, ...], needs: Mapping[str, int]) -> tuple[QPUDevice, ...]:
    """Two devices for a manifest without any: small ones first, larger ones where a session needs them.

    A shipped model that a session asks for by the label ``efaas.dev/device`` is added.

    Args:
        sessions: of the manifest.
        needs: least number of qubits by session key.
    """
    sizes = {name: int(name.rpartition("-")[2]) for name in snapshot_names()}
    preferred = sorted(sizes, key=lambda name: (name not in DEFAULT_DEVICES, sizes[name], name))
    chosen: list[str] = []
    for least in (min(needs.values()), max(needs.values())):
        chosen += [name for name in preferred if sizes[name] >= least and name not in chosen][:1]
    if not chosen:
        # None is large enough: the refusal then names what there is.
        chosen = [max(sizes, key=lambda name: sizes[name])] if sizes else []
    named = (session.spec.device.match_labels.get(DEVICE_LABEL, "") for session in sessions)
    chosen += sorted({name for name in named if name in sizes} - set(chosen))
    return tuple(
        QPUDevice(metadata=Metadata(name=name), spec=QPUDeviceSpec(model=DeviceModel(snapshot=name)))
        for name in chosen
    )


def device_snapshot(device: QPUDevice, documents: Documents) -> DeviceSnapshot:
    """What a device is.

    Raises:
        ManifestError: its model is not known or cannot be read.
    """
    model = device.spec.model
    if model.snapshot is not None:
        return load_snapshot(model.snapshot, "spec.model.snapshot")
    assert model.config_map is not None
    place = "spec.model.configMap"
    return snapshot_from_json(_config_map_text(model.config_map, documents, place), place)


def trace_repairs(device: QPUDevice, snapshot: DeviceSnapshot, documents: Documents) -> tuple[str, ...]:
    """What had to be repaired in the trace that drives a device, one sentence each; none without a trace.

    Raises:
        ManifestError: the trace is not there, or faulty beyond repair; the QPU server says the same.
    """
    trace = device.spec.calibration.trace
    if trace is None:
        return ()
    text = _config_map_text(trace, documents, TRACE_PLACE)
    return trace_from_json(text, snapshot, TRACE_PLACE)[1]


def read_manifests(paths: tuple[Path, ...]) -> Documents:
    """Read manifest files; see `efaas.api.load.load_documents`."""
    from efaas.api.load import load_documents

    return load_documents(paths)


def _facts(session: VQASession, documents: Documents) -> SessionFacts:
    spec = session.spec
    asked = spec.device.qubits or 1
    if spec.program is not None:
        _check_program(session, documents)
        return SessionFacts(asked, declarative=False)
    assert spec.problem is not None
    hamiltonian = build_hamiltonian(spec.problem)
    return SessionFacts(max(asked, hamiltonian.num_qubits), declarative=True, hamiltonian=hamiltonian)


def _check_program(session: VQASession, documents: Documents) -> None:
    program = session.spec.program
    assert program is not None
    if program.image is not None:
        raise ManifestError(
            "container images run on a cluster only; for `efaas run` put the Python file into a ConfigMap"
            " of the same manifest and name it in spec.program.script",
            place="spec.program.image",
        )
    assert program.script is not None
    namespace = session.metadata.namespace
    if (namespace, program.script.name) not in documents.config_maps:
        raise ManifestError(
            f"ConfigMap {program.script.name} is not in the manifest (namespace {namespace}); add it",
            place="spec.program.script.name",
        )
    data = documents.config_maps[namespace, program.script.name]
    if program.script.key not in data:
        raise ManifestError(
            f"ConfigMap {program.script.name} has no key {program.script.key};"
            f" it has {', '.join(sorted(data)) or 'none'}",
            place="spec.program.script.key",
        )


def _config_map_text(wanted: ConfigMapKey, documents: Documents, place: str) -> str:
    """Text of a ConfigMap that a device, which is in no namespace, names; the first of that name counts."""
    maps = [data for (_, name), data in documents.config_maps.items() if name == wanted.name]
    if not maps:
        raise ManifestError(
            f"ConfigMap {wanted.name} is not in the manifest; add it to the files", place=f"{place}.name"
        )
    if wanted.key not in maps[0]:
        raise ManifestError(
            f"ConfigMap {wanted.name} has no key {wanted.key}; it has {', '.join(sorted(maps[0])) or 'none'}",
            place=f"{place}.key",
        )
    return maps[0][wanted.key]


def _placed(error: EfaasError, document: str) -> list[ManifestError]:
    """The error as faults of a document."""
    parts = error.faults if isinstance(error, ManifestFaults) else (error,)
    return [
        ManifestError(part.message, place=f"{document}: {part.place}" if part.place else document)
        for part in parts
    ]


def _offer(device: QPUDevice, qubits: int, documents: Documents) -> DeviceOffer:
    offer = DeviceOffer(device.name, qubits, device.metadata.labels, device.spec.slots, device.spec.cordon)
    if not is_noisy(device):
        return offer
    snapshot = device_snapshot(device, documents)
    typical = typical_errors(
        list(snapshot.gates),
        [gate.error for gate in snapshot.gates.values()],
        [qubit.prob_meas1_prep0 for qubit in snapshot.qubits],
        [qubit.prob_meas0_prep1 for qubit in snapshot.qubits],
    )
    return replace(
        offer,
        one_qubit_error=typical.one_qubit,
        two_qubit_error=typical.two_qubit,
        readout_error=typical.readout,
    )


def _with_policy(device: QPUDevice, policy: QueuePolicy) -> QPUDevice:
    queue = device.spec.queue.model_copy(update={"policy": policy})
    return device.model_copy(update={"spec": device.spec.model_copy(update={"queue": queue})})


def _shown(session: VQASession) -> str:
    return session.metadata.name if session.metadata.namespace == "default" else session.key


def is_noisy(device: QPUDevice) -> bool:
    """Whether the device is simulated with noise."""
    return device.spec.simulation.noise is not Noise.NONE
