"""Who is released, and what the others are told: tables of small clusters, and laws for any."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efaas.core.admission import Admission, Candidate, Holder
from efaas.core.fairness import UsageLedger
from efaas.core.placement import DeviceView, Health, Request


def admission(**weights: float) -> Admission:
    ledger = UsageLedger(3600.0)
    for tenant, weight in weights.items():
        ledger.set_weight(tenant, weight)
    return Admission(ledger)


def request(session: str, qubits: int = 4, **labels: str) -> Request:
    return Request(session, session.partition("/")[0], qubits, match_labels=labels)


def candidate(session: str, qubits: int = 4, created_s: float = 0.0, weight: float = 1.0) -> Candidate:
    return Candidate(request(session, qubits), created_s, weight)


def device(name: str, qubits: int = 5, slots: int = 1, **fields: object) -> DeviceView:
    return DeviceView(name, qubits, slots=slots, **fields)  # type: ignore[arg-type]


def test_a_free_slot_goes_to_the_oldest_session_of_a_tenant():
    plan = admission().plan(
        [candidate("a/new", created_s=2), candidate("a/old", created_s=1)], [], [device("d")], 9
    )
    assert plan.released == ("a/old",)
    told = plan.waiting["a/new"]
    assert (told.reason, told.position) == ("WaitingForFairShare", 0)
    assert told.message == "1 device fits; the free slots go to 1 that come first, 0 more are before it"


def test_the_session_of_larger_weight_comes_first_in_its_tenant():
    waiting = [candidate("a/one", created_s=1), candidate("a/two", created_s=2, weight=3)]
    assert admission().plan(waiting, [], [device("d")], 9).released == ("a/two",)


def test_tenants_take_turns_however_many_sessions_one_has():
    waiting = [candidate(f"a/{number}", created_s=number) for number in range(5)]
    waiting += [candidate("b/0", created_s=9), candidate("b/1", created_s=10)]
    plan = admission().plan(waiting, [], [device("d", slots=4)], 20)
    assert plan.released == ("a/0", "b/0", "a/1", "b/1")
    assert [plan.waiting[f"a/{number}"].position for number in (2, 3, 4)] == [0, 1, 2]


def test_who_used_more_waits_whichever_resource_it_was():
    for used in ((100.0, 0.0), (0.0, 100.0)):
        deciding = admission()
        deciding.charge("a/before", "a", *used, now_s=0)
        plan = deciding.plan([candidate("a/1"), candidate("b/1", created_s=5)], [], [device("d")], 9)
        assert plan.released == ("b/1",)


def test_a_weight_of_two_gives_two_releases_for_one():
    deciding = admission(a=2.0, b=1.0)
    waiting = [candidate(f"{tenant}/{number:02}") for tenant in "ab" for number in range(30)]
    plan = deciding.plan(waiting, [], [device("d", slots=30)], 0)
    assert Counter(name[0] for name in plan.released) == {"a": 20, "b": 10}


def test_what_was_charged_is_not_charged_again():
    deciding = admission()
    for _ in range(3):
        deciding.charge("a/1", "a", 10.0, 4.0, now_s=0)
    assert deciding.ledger.usage("a", 0) == deciding.ledger.usage("a", 0).__class__(10.0, 4.0)
    deciding.charge("a/1", "a", 12.0, 4.0, now_s=0)
    assert deciding.ledger.usage("a", 0).cpu_s == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("devices", "reason", "message"),
    [
        pytest.param([], "NoDeviceFits", "there are no devices", id="no devices"),
        pytest.param(
            [device("a", 5), device("b", 5), device("c", 7)],
            "NoDeviceFits",
            "3 devices: 5 qubits, 8 needed (a, b); 7 qubits, 8 needed (c)",
            id="all too small",
        ),
        pytest.param(
            [device("a", 5), device("b", 27, health=Health.DOWN)],
            "NoDeviceReady",
            "2 devices: 5 qubits, 8 needed (a); down (b)",
            id="one may come back",
        ),
        pytest.param(
            [device(name, 5) for name in "abcde"],
            "NoDeviceFits",
            "5 devices: 5 qubits, 8 needed (a, b, c and 2 more)",
            id="many",
        ),
    ],
)
def test_what_no_device_can_give_is_told_at_once(devices, reason, message):
    told = admission().plan([candidate("a/1", qubits=8)], [], devices, 0).waiting["a/1"]
    assert (told.reason, told.message, told.position, told.start_s) == (reason, message, None, None)


def test_a_session_without_hope_is_released_when_a_device_appears():
    deciding = admission()
    assert deciding.plan([candidate("a/1", qubits=8)], [], [device("small")], 0).released == ()
    assert deciding.plan(
        [candidate("a/1", qubits=8)], [], [device("small"), device("new", 27)], 1
    ).released == ("a/1",)


def test_who_cannot_go_first_does_not_keep_a_slot_empty():
    waiting = [candidate("a/large", qubits=8, created_s=0), candidate("a/small", created_s=1)]
    holders = [Holder(request("b/x", 8), "big")]
    plan = admission().plan(waiting, holders, [device("big", 27), device("tiny", 5)], 2)
    assert plan.released == ("a/small",)
    assert plan.waiting["a/large"].message == "1 device fits, but all 1 slot is taken; 0 before it"


def test_a_released_session_without_a_device_leaves_room_for_those_that_have_less_choice():
    # b/x may go to either device; the large one can be kept for who needs it.
    plan = admission().plan(
        [candidate("a/large", qubits=8)], [Holder(request("b/x"))], [device("big", 27), device("tiny")], 0
    )
    assert plan.released == ("a/large",)


def test_the_expected_start_comes_from_how_long_slots_were_held():
    deciding = admission()
    holders = [Holder(request(f"b/{number}"), "d") for number in range(2)]
    waiting = [candidate("a/1", created_s=1), candidate("a/2", created_s=2)]
    assert deciding.plan(waiting, holders, [device("d", slots=2)], 100).waiting["a/1"].start_s is None
    deciding.ended("b/9", "b", held_s=60.0)
    plan = deciding.plan(waiting, holders, [device("d", slots=2)], 100)
    assert [plan.waiting[name].start_s for name in ("a/1", "a/2")] == [130.0, 160.0]


# --- laws -----------------------------------------------------------------------------------------

SIZES = st.sampled_from([3, 5, 7])
CLUSTERS = st.lists(st.tuples(SIZES, st.integers(1, 2)), max_size=3)
SESSIONS = st.lists(st.tuples(st.sampled_from("abc"), SIZES, st.floats(0, 10)), max_size=7)
HELD = st.lists(st.tuples(SIZES, st.booleans()), max_size=3)


def can_all_be_placed(sizes: Iterable[int], free: Mapping[str, tuple[int, int]]) -> bool:
    """Whether sessions of these sizes fit free slots at once (device: qubits, slots): Hall's condition.

    Fitting sets are nested (a device that takes a size takes all below), so only the larger ones count.
    """
    sizes = list(sizes)
    return all(
        sum(size >= least for size in sizes)
        <= sum(slots for qubits, slots in free.values() if qubits >= least)
        for least in (3, 5, 7)
    )


@given(CLUSTERS, SESSIONS, HELD)
@settings(max_examples=150, deadline=None)
def test_releases_never_exceed_slots_and_leave_none_that_could_be_used(cluster, sessions, held):
    devices = [device(f"d{number}", qubits, slots) for number, (qubits, slots) in enumerate(cluster)]
    free = {view.name: [view.qubits, view.slots] for view in devices}
    holders, unplaced = [], []
    for number, (size, placed) in enumerate(held):
        for name in free:
            trial = {key: tuple(value) for key, value in free.items()}
            trial[name] = (trial[name][0], trial[name][1] - 1)
            if placed and free[name][0] >= size and free[name][1] and can_all_be_placed(unplaced, trial):
                free[name][1] -= 1
                holders.append(Holder(request(f"h/{number}", size), name))
                break
        else:
            if can_all_be_placed([*unplaced, size], free):
                unplaced.append(size)
                holders.append(Holder(request(f"h/{number}", size)))
    waiting = [
        candidate(f"{tenant}/{number}", size, created)
        for number, (tenant, size, created) in enumerate(sessions)
    ]
    size_of = {each.request.session: each.request.qubits for each in waiting}
    plan = admission().plan(waiting, holders, devices, 20.0)
    assert sorted([*plan.released, *plan.waiting]) == sorted(size_of)
    given_now = [*unplaced, *(size_of[name] for name in plan.released)]
    assert can_all_be_placed(given_now, free)
    for name in plan.waiting:
        assert not can_all_be_placed([*given_now, size_of[name]], free), (
            "a slot that could be used stays empty"
        )
    positions = [told.position for told in plan.waiting.values() if told.position is not None]
    assert sorted(positions) == list(range(len(positions)))
    assert admission().plan(list(reversed(waiting)), holders, devices, 20.0) == plan, (
        "the order of telling is nothing"
    )


@given(SESSIONS)
@settings(max_examples=60, deadline=None)
def test_among_equal_sessions_of_a_tenant_the_older_goes_first(sessions):
    waiting = [candidate(f"{tenant}/{number}", 3, made) for number, (tenant, _, made) in enumerate(sessions)]
    released = admission().plan(waiting, [], [device("d", slots=3)], 20.0).released
    made = {each.request.session: each.created_s for each in waiting}
    for one, other in itertools.product(made, made):
        if one[0] == other[0] and made[one] < made[other] and other in released:
            assert one in released
