"""Which device a session starts on: `efaas.core.placement` over the devices of a manifest.

A device fits a session when it has enough qubits, carries the labels asked for, is not cordoned, and one run
of the session's circuit is expected to succeed there as often as `minFidelity` asks. Nothing has run yet, so
the devices are taken as freshly calibrated and idle but for the sessions that were placed before: each of
those is expected to make a new loop wait for one job of its own, on a device with as many slots as there are
by default. Sessions with the least choice are placed first, each on the device of the least cost (waiting +
execution ÷ fidelity²), so they spread over devices that are alike, and a device that is much noisier than the
others fills up last. Every other device that fits is listed behind, so that the runner can turn to it while
its own one calibrates or is down.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from efaas.core.placement import CircuitShape, DeviceView, Request, expected_fidelity, refuse, score
from efaas.errors import ManifestError, ManifestFaults

_SLOTS = 8
"""Slots of a device by default; one with half as many is twice as loaded by the same sessions."""

DEVICE_LABEL = "efaas.dev/device"
"""Label that every device carries by itself; its value is the device's name."""


@dataclass(frozen=True, slots=True)
class SessionNeeds:
    """What placement looks at of a session."""

    key: str
    """``namespace/name``."""
    qubits: int
    """Least number of qubits."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels the device must carry."""
    min_fidelity: float = 0.0
    """Least expected success probability of one run of the circuit."""
    shape: CircuitShape = field(default_factory=lambda: CircuitShape(execution_s=1.0))
    """Of the circuit."""

    def request(self) -> Request:
        """The same in the words of the core."""
        return Request(
            session=self.key,
            tenant=self.key.partition("/")[0],
            qubits=self.qubits,
            match_labels=self.labels,
            min_fidelity=self.min_fidelity,
            shape=self.shape,
        )


@dataclass(frozen=True, slots=True)
class DeviceOffer:
    """What placement looks at of a device."""

    name: str
    qubits: int
    labels: Mapping[str, str] = field(default_factory=dict)
    slots: int = 8
    """Sessions that may hold a place at once."""
    cordon: bool = False
    """Whether new sessions are kept away."""
    one_qubit_error: float = 0.0
    """Median of what its snapshot says of single-qubit gates."""
    two_qubit_error: float = 0.0
    readout_error: float = 0.0

    def view(self, placed: int, needs: SessionNeeds) -> DeviceView:
        """The device with so many sessions placed on it, as a session would find it."""
        return DeviceView(
            name=self.name,
            qubits=self.qubits,
            labels={**self.labels, DEVICE_LABEL: self.name},
            cordoned=self.cordon,
            queue_s=placed * needs.shape.execution_s * _SLOTS / self.slots,
            one_qubit_error=self.one_qubit_error,
            two_qubit_error=self.two_qubit_error,
            readout_error=self.readout_error,
        )

    def carries(self, key: str) -> str | None:
        """Value of a label, the implied one included; None when the device does not carry it."""
        return self.name if key == DEVICE_LABEL else self.labels.get(key)


def place(sessions: Iterable[SessionNeeds], devices: Sequence[DeviceOffer]) -> dict[str, tuple[str, ...]]:
    """Give each session its devices.

    Args:
        sessions: what each session needs, in the order of the manifest; it breaks ties.
        devices: in the order of the manifest; it breaks ties.

    Returns:
        For each session's key the devices that fit, its own first, the others by what they would cost.

    Raises:
        ManifestFaults: some session fits no device; one fault for each, with the reason for every device.
    """
    waiting = list(sessions)
    fitting = {needs.key: [offer for offer in devices if refusal(needs, offer) is None] for needs in waiting}
    faults = tuple(_no_device(needs, devices) for needs in waiting if not fitting[needs.key])
    if faults:
        raise ManifestFaults(faults)
    order = {offer.name: index for index, offer in enumerate(devices)}
    placed = dict.fromkeys(order, 0)

    def cost(needs: SessionNeeds, offer: DeviceOffer) -> tuple[float, int]:
        return score(needs.request(), offer.view(placed[offer.name], needs)).cost_s, order[offer.name]

    chosen: dict[str, str] = {}
    for needs in sorted(waiting, key=lambda needs: len(fitting[needs.key])):
        own = min(fitting[needs.key], key=functools.partial(cost, needs))
        placed[own.name] += 1
        chosen[needs.key] = own.name
    result = {}
    for needs in waiting:
        own_name = chosen[needs.key]
        others = sorted(
            (offer for offer in fitting[needs.key] if offer.name != own_name),
            key=functools.partial(cost, needs),
        )
        result[needs.key] = (own_name, *(offer.name for offer in others))
    return result


def refusal(needs: SessionNeeds, offer: DeviceOffer) -> str | None:
    """Why the device does not fit the session, in words; None when it does."""
    if offer.cordon:
        return "is cordoned"
    if offer.qubits < needs.qubits:
        return f"has {offer.qubits} qubit{'s' if offer.qubits != 1 else ''}"
    for key, wanted in sorted(needs.labels.items()):
        found = offer.carries(key)
        if found is None:
            return f"has no label {key}"
        if found != wanted:
            return f"has {key}: {found}, not {wanted}"
    view, request = offer.view(0, needs), needs.request()
    fidelity = expected_fidelity(view, needs.shape)
    if fidelity < needs.min_fidelity:
        return f"has an expected fidelity of {fidelity:.3f}, minFidelity is {needs.min_fidelity:.3f}"
    last = refuse(request, view)
    return None if last is None else f"refuses: {last.reason}"


def _no_device(needs: SessionNeeds, devices: Sequence[DeviceOffer]) -> ManifestError:
    reasons = "; ".join(f"{offer.name} {refusal(needs, offer)}" for offer in devices)
    namespace, _, name = needs.key.partition("/")
    shown = name if namespace == "default" else needs.key
    wanted = f"{needs.qubits} qubit{'s' if needs.qubits != 1 else ''}"
    if needs.labels:
        wanted += " and " + ", ".join(f"{key}: {value}" for key, value in sorted(needs.labels.items()))
    return ManifestError(
        f"no device fits, {wanted} are needed: {reasons or 'there is none'}; "
        "add a QPUDevice that fits (`efaas devices` lists the models)",
        place=f"VQASession {shown}: spec.device",
    )
