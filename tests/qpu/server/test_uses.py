"""Where a device's time went: whole nanoseconds, through compactions, forgetting and kills."""

from __future__ import annotations

from pathlib import Path

from efaas_qpu.entries import Booking, Entry
from efaas_qpu.ledger import DurableLedger
from efaas_qpu.limits import ServerLimits
from hypothesis import given
from hypothesis import strategies as st

from efaas.core.uses import FORGOTTEN, LOST, Uses
from efaas.journal import DirectoryJournal
from efaas.local.accounts import read_device_uses

LIMITS = ServerLimits(known_sessions=2)


def booking(number: int, session: str | None, ns: int, what: str = "iteration") -> Booking:
    return Booking(f"key-{number}", session, ns / 1e9, 1, what)


charges = st.lists(
    st.tuples(
        st.sampled_from([None, "a/1", "a/2", "b/1", "b/2"]),
        st.integers(0, 10**15),
        st.sampled_from(["iteration", "calibration", "slice-cost"]),
        st.integers(0, 10**6),
        st.booleans(),
    ),
    max_size=12,
)


@given(charges)
def test_every_nanosecond_is_billed_unbilled_or_pending_and_the_log_says_the_same(
    tmp_path_factory, items
) -> None:
    folder: Path = tmp_path_factory.mktemp("log")
    ledger = DurableLedger(DirectoryJournal(folder), LIMITS)
    billed = unbilled = held = 0
    for number, (session, ns, what, more_ns, compact) in enumerate(items):
        held += ns + more_ns
        billed += ns if session else 0
        unbilled += 0 if session else ns
        ledger.commit(Entry(1.0, [booking(number, session, ns, what)], held_ns=ns + more_ns))
        if compact:
            ledger.compact()
    uses = ledger.state.uses
    assert (uses.held_ns, uses.billed_ns, uses.unbilled_ns) == (held, billed, unbilled)
    assert uses.pending_ns == held - billed - unbilled
    read = read_device_uses(folder)
    assert (read.held_ns, read.billed_ns, read.unbilled_ns) == (held, billed, unbilled)
    ledger.close()


def test_what_was_under_way_at_a_kill_is_written_off_once(tmp_path: Path) -> None:
    ledger = DurableLedger(DirectoryJournal(tmp_path), ServerLimits())
    ledger.commit(Entry(1.0, [booking(1, "a/1", 500)], held_ns=1700))
    assert ledger.state.uses.pending_ns == 1200
    ledger.close()
    for _ in range(2):
        ledger = DurableLedger(DirectoryJournal(tmp_path), ServerLimits())
        assert ledger.state.uses.by[None, LOST] == (1200, 0)
        assert ledger.state.uses.pending_ns == 0
        ledger.close()
    assert read_device_uses(tmp_path).of(None) == {LOST: (1200, 0)}


def test_sessions_that_are_forgotten_leave_their_sums() -> None:
    uses = Uses()
    uses.add("a/1", "iteration", 5, 1)
    uses.add("a/2", "iteration", 7, 2)
    uses.add("a/1", "calibration", 1, 0)
    uses.forget("a/1")
    uses.forget("a/2")
    assert uses.by == {(FORGOTTEN, "iteration"): (12, 3), (FORGOTTEN, "calibration"): (1, 0)}
    again = Uses()
    again.read(**uses.to_json())
    assert (again.by, again.held_ns) == (uses.by, uses.held_ns)
