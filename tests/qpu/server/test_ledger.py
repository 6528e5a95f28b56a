"""The ledger: what is kept, for how long, and that a log brings back what was there."""

from __future__ import annotations

import json

from efaas_qpu.entries import (
    Booking,
    CalibrationRecord,
    Entry,
    Kept,
    Lease,
    entry_from_record,
    entry_to_record,
)
from efaas_qpu.ledger import Ledger
from efaas_qpu.limits import ServerLimits
from hypothesis import given
from hypothesis import strategies as st

from efaas.core.calibration import CalibrationEpoch
from efaas.core.qpu.messages import CalibrationScope

LIMITS = ServerLimits(
    kept_results=5, kept_results_of_session=3, kept_bytes=100, charge_keys=6, known_sessions=3
)

names = st.sampled_from(["a/1", "a/2", "b/1", "b/2"])
keys = st.sampled_from([f"job-{number}" for number in range(10)])
seconds = st.floats(0, 1e6)
bookings = st.builds(
    Booking, keys, st.one_of(st.none(), names), seconds, st.integers(0, 10**6), st.just("iteration")
)
kept_results = st.builds(Kept, keys, names, st.booleans(), st.binary(max_size=60))
calibrations = st.builds(
    CalibrationRecord,
    st.builds(
        CalibrationEpoch,
        id=st.integers(2, 99),
        finished_s=seconds,
        scope=st.sampled_from(CalibrationScope),
        qubits=st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True).map(tuple),
        couplings=st.just(()),
        gates=st.just(()),
        t1_us=st.just((1.0,)),
        t2_us=st.just((1.0,)),
        prob_meas1_prep0=st.just((0.1,)),
        prob_meas0_prep1=st.just((0.1,)),
        gate_error=st.just(()),
    ),
    seconds,
    st.none() | names,
    st.text(max_size=9),
)
entries = st.builds(
    Entry,
    seconds,
    bookings=st.lists(bookings, max_size=3),
    kept=st.lists(kept_results, max_size=3),
    freed=st.lists(keys, max_size=2),
    sessions=st.dictionaries(
        names,
        st.builds(
            Lease,
            seed=st.none() | st.integers(0, 2**64 - 1),
            epoch=st.integers(0, 2**63),
            uid=st.sampled_from(["", "first", "second"]),
        ),
        max_size=2,
    ),
    calibration=st.one_of(st.none(), calibrations),
    busy_s=seconds,
    calibrating_s=seconds,
    wall_s=seconds,
)


def contents(ledger: Ledger) -> str:
    return json.dumps(list(ledger.snapshot()))


@given(st.lists(entries, max_size=12))
def test_a_log_of_entries_brings_the_state_back(history):
    ledger, read = Ledger(LIMITS), Ledger(LIMITS)
    for entry in history:
        ledger.apply(entry)
        read.restore(json.loads(json.dumps(entry_to_record(entry))))
    assert contents(read) == contents(ledger)


@given(st.lists(entries, max_size=12), st.integers(0, 12))
def test_a_log_written_anew_at_any_point_brings_the_state_back(history, cut):
    ledger = Ledger(LIMITS)
    for entry in history[:cut]:
        ledger.apply(entry)
    records = [json.loads(json.dumps(record)) for record in ledger.snapshot()]
    for entry in history[cut:]:
        ledger.apply(entry)
        records.append(entry_to_record(entry))
    read = Ledger(LIMITS)
    for record in records:
        read.restore(record)
    assert contents(read) == contents(ledger)
    assert read.kept_bytes == ledger.kept_bytes


@given(st.lists(entries, max_size=20))
def test_everything_stays_bounded(history):
    ledger = Ledger(LIMITS)
    for entry in history:
        ledger.apply(entry)
        kept = list(ledger.kept.values())
        assert ledger.kept_bytes == sum(len(result.result) for result in kept)
        assert len(kept) <= LIMITS.kept_results
        assert ledger.kept_bytes <= LIMITS.kept_bytes or len(kept) == 1
        for name in {result.session for result in kept}:
            assert sum(result.session == name for result in kept) <= LIMITS.kept_results_of_session
        assert len(ledger.sessions) <= LIMITS.known_sessions


@given(st.lists(bookings, max_size=20))
def test_a_key_is_booked_once(charges):
    ledger = Ledger(ServerLimits())
    for charge in charges:
        ledger.apply(Entry(0.0, bookings=[charge]))
        ledger.apply(Entry(0.0, bookings=[charge]))
    first = {}
    for charge in charges:
        first.setdefault(charge.key, charge)
    billed = [charge for charge in first.values() if charge.session is not None]
    assert sum(known.shots for known in ledger.sessions.values()) == sum(charge.shots for charge in billed)


@given(entries)
def test_records_are_exact(entry):
    assert entry_from_record(json.loads(json.dumps(entry_to_record(entry)))) == entry


def test_another_session_of_the_same_name_shares_nothing_with_the_one_before():
    ledger = Ledger(ServerLimits())
    charge = Booking("job-1", "a/1", 2.0, 100, "iteration")
    result = Kept("job-1", "a/1", per_shot=False, result=b"x")
    for uid in ("first", "first", "second"):
        ledger.apply(Entry(0.0, sessions={"a/1": Lease(7, 3 if uid == "first" else 1, uid)}))
        ledger.apply(Entry(1.0, bookings=[charge], kept=[result], wall_s=5.0))
    known = ledger.sessions["a/1"]
    assert (known.uid, known.lease_epoch, known.shots, known.jobs_done) == ("second", 1, 100, 1)
    assert known.last_job_at_s == 5.0
    assert ledger.uses.by["a/1", "iteration"] == (4 * 10**9, 200), "what the first used stays booked"


def test_a_log_of_an_earlier_version_is_read():
    ledger = Ledger(ServerLimits())
    ledger.restore(
        {
            "state": {
                "clock_s": 1.0,
                "busy_s": 1.0,
                "calibrating_s": 0.0,
                "first_job_s": 0.0,
                "unbilled_s": 0.0,
                "sessions": [["a/1", 7, 2, 1, 100, 2.0]],
            }
        }
    )
    ledger.restore({"charged": ["job-1"]})
    ledger.restore({"clock_s": 2.0, "sessions": {"a/1": [7, 3]}})
    assert ledger.sessions["a/1"].lease_epoch == 3
    assert ledger.is_charged("job-1")
