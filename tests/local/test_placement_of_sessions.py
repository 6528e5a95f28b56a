"""Placement as a table: sessions and devices in, own devices and alternatives out, or the reasons."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.core.placement import CircuitShape
from efaas.errors import ManifestFaults
from efaas.local.placement import DEVICE_LABEL, DeviceOffer, SessionNeeds, place

SMALL = DeviceOffer("small", 5)
LARGE = DeviceOffer("large", 16)
GOLD = DeviceOffer("gold", 16, {"tier": "gold"})
CORDONED = DeviceOffer("cordoned", 16, cordon=True)


@pytest.mark.parametrize(
    ("sessions", "devices", "wanted"),
    [
        # One session: the first device that fits, the others behind it.
        ([SessionNeeds("d/a", 4)], [SMALL, LARGE], {"d/a": ("small", "large")}),
        # Two that fit both: one each.
        (
            [SessionNeeds("d/a", 4), SessionNeeds("d/b", 4)],
            [SMALL, LARGE],
            {"d/a": ("small", "large"), "d/b": ("large", "small")},
        ),
        # The one with the least choice goes first, although it stands last; the other keeps out of its way.
        (
            [SessionNeeds("d/a", 4), SessionNeeds("d/b", 8)],
            [LARGE, SMALL],
            {"d/a": ("small", "large"), "d/b": ("large",)},
        ),
        # Labels, also the one that each device carries by itself.
        ([SessionNeeds("d/a", 4, {"tier": "gold"})], [SMALL, GOLD], {"d/a": ("gold",)}),
        ([SessionNeeds("d/a", 4, {DEVICE_LABEL: "large"})], [SMALL, LARGE], {"d/a": ("large",)}),
        # A cordoned device takes nobody.
        ([SessionNeeds("d/a", 4)], [CORDONED, LARGE], {"d/a": ("large",)}),
        # Load counts for the slots that a device has.
        (
            [SessionNeeds(f"d/{name}", 1) for name in "abc"],
            [DeviceOffer("one", 5, slots=1), DeviceOffer("two", 5, slots=2)],
            {"d/a": ("one", "two"), "d/b": ("two", "one"), "d/c": ("two", "one")},
        ),
        ([], [SMALL], {}),
    ],
)
def test_placement(
    sessions: list[SessionNeeds], devices: list[DeviceOffer], wanted: dict[str, tuple[str, ...]]
) -> None:
    assert place(sessions, devices) == wanted


def test_each_session_that_fits_nowhere_is_told_why_for_each_device() -> None:
    sessions = [
        SessionNeeds("default/wide", 20),
        SessionNeeds("default/fine", 2),
        SessionNeeds("team/gold", 4, {"tier": "gold", DEVICE_LABEL: "small"}),
    ]
    with pytest.raises(ManifestFaults) as refusal:
        place(sessions, [SMALL, DeviceOffer("silver", 16, {"tier": "silver"}), CORDONED])
    assert [str(fault) for fault in refusal.value.faults] == [
        "VQASession wide: spec.device: no device fits, 20 qubits are needed: small has 5 qubits;"
        " silver has 16 qubits; cordoned is cordoned; add a QPUDevice that fits (`efaas devices` lists the"
        " models)",
        "VQASession team/gold: spec.device: no device fits, 4 qubits and efaas.dev/device: small, tier: gold"
        " are needed: small has no label tier; silver has efaas.dev/device: silver, not small;"
        " cordoned is cordoned; add a QPUDevice that fits (`efaas devices` lists the models)",
    ]


def test_a_noisy_device_is_taken_last_and_not_at_all_below_the_least_fidelity() -> None:
    shape = CircuitShape(two_qubit_gates=10, execution_s=1.0)
    noisy = DeviceOffer("noisy", 5, two_qubit_error=0.04)
    good = DeviceOffer("good", 5, two_qubit_error=0.01)
    # 1/F² is 2.3 there and 1.2 here: one session may wait here before the third goes there.
    sessions = [SessionNeeds(f"d/{name}", 2, shape=shape) for name in "abc"]
    own = {key: names[0] for key, names in place(sessions, [noisy, good]).items()}
    assert own == {"d/a": "good", "d/b": "good", "d/c": "noisy"}
    choosy = SessionNeeds("d/a", 2, min_fidelity=0.8, shape=shape)
    assert place([choosy], [noisy, good]) == {"d/a": ("good",)}
    with pytest.raises(
        ManifestFaults, match=r"noisy has an expected fidelity of 0\.665, minFidelity is 0\.8"
    ):
        place([choosy], [noisy])


@given(
    needs=st.lists(st.integers(1, 8), max_size=12),
    sizes=st.lists(st.integers(8, 20), min_size=1, max_size=5),
)
def test_every_session_gets_only_devices_that_fit_and_equal_devices_are_filled_evenly(
    needs: list[int], sizes: list[int]
) -> None:
    sessions = [SessionNeeds(f"d/s{index}", qubits) for index, qubits in enumerate(needs)]
    devices = [DeviceOffer(f"q{index}", qubits) for index, qubits in enumerate(sizes)]
    placed = place(sessions, devices)
    assert set(placed) == {session.key for session in sessions}
    for names in placed.values():
        assert sorted(names) == sorted(device.name for device in devices)
    own = Counter(names[0] for names in placed.values())
    counts = [own[device.name] for device in devices]
    assert max(counts) - min(counts) <= 1
