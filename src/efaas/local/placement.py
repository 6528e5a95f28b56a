"""Which device a session starts on: a pure function of what the sessions need and what the devices are.

A device fits a session when it has enough qubits, carries the labels asked for and is not cordoned. Among
those that fit, sessions are spread: the ones with the least choice are placed first, each on the device with
the least load for its slots. Every other device that fits is listed behind, so that the runner can turn to it
while its own one calibrates or is down.

This is the seam for calibration-aware placement: the signature of `place` stays when `efaas.core.placement`
decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from efaas.errors import ManifestError, ManifestFaults

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

    def carries(self, key: str) -> str | None:
        """Value of a label, the implied one included; None when the device does not carry it."""
        return self.name if key == DEVICE_LABEL else self.labels.get(key)


def place(sessions: Iterable[SessionNeeds], devices: Sequence[DeviceOffer]) -> dict[str, tuple[str, ...]]:
    """Give each session its devices.

    Args:
        sessions: what each session needs, in the order of the manifest; it breaks ties.
        devices: in the order of the manifest; it breaks ties.

    Returns:
        For each session's key the devices that fit, its own first, the others from the least loaded on.

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

    def load(offer: DeviceOffer) -> tuple[float, int]:
        return placed[offer.name] / offer.slots, order[offer.name]

    chosen: dict[str, str] = {}
    for needs in sorted(waiting, key=lambda needs: len(fitting[needs.key])):
        own = min(fitting[needs.key], key=load)
        placed[own.name] += 1
        chosen[needs.key] = own.name
    result = {}
    for needs in waiting:
        own_name = chosen[needs.key]
        others = sorted((offer for offer in fitting[needs.key] if offer.name != own_name), key=load)
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
    return None


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
