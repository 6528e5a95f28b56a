"""What pods tell a session's machine, and that its record survives being written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from efaas_operator.keeping import Kept, kept_from_text, kept_to_text
from efaas_operator.reading import runner_events
from hypothesis import given
from hypothesis import strategies as st

from efaas.core.session import SessionRecord, SessionState
from efaas.core.session.record import Runner
from efaas.errors import InputError

CASES = yaml.safe_load((Path(__file__).resolve().parents[1] / "data/operator/pods.yaml").read_text())


@pytest.mark.parametrize("case", [pytest.param(case, id=case["case"]) for case in CASES])
def test_a_pod_tells(case: dict[str, Any]):
    state = SessionState(case.get("state", "Running"))
    record = SessionRecord(state=state, epoch=2, runner=Runner(2), device="manila")
    pod = None
    if not case.get("gone"):
        annotations = {"efaas.dev/lease-epoch": str(case.get("epoch", 2))}
        metadata = {"name": "h2-r2", "annotations": annotations}
        pod = {"metadata": metadata, "spec": case["spec"], "status": case["status"]}
    events = runner_events(pod, record, {"worker-1": "manila"}, {"worker-9"}, 100.0)
    told = []
    for event, wanted in zip(events, case["events"], strict=True):
        ((name, fields),) = wanted.items()
        assert type(event).__name__ == name
        assert (event.now_s, event.epoch) == (100.0, 2)
        told.append({name: {field: getattr(event, field) for field in fields}})
    assert told == case["events"]


RECORDS = st.builds(
    SessionRecord,
    state=st.sampled_from(list(SessionState)),
    message=st.text(max_size=30),
    epoch=st.integers(0, 9),
    runner=st.none()
    | st.builds(Runner, st.integers(1, 9), st.booleans(), st.none() | st.floats(0, 2e9), st.none()),
    ending=st.none()
    | st.tuples(st.sampled_from(list(SessionState)), st.text(max_size=5), st.text(max_size=5)),
    admitted_s=st.none() | st.floats(0, 2e9),
    qpu_s=st.floats(0, 1e9),
)


@given(RECORDS)
def test_a_record_that_was_written_down_is_the_same(record: SessionRecord):
    assert kept_from_text(kept_to_text(Kept(record, 2.5))) == Kept(record, 2.5)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"session":{"state":"Gone"},"cpu":0}', '{"session":{"x":1},"cpu":0}']
)
def test_a_text_that_is_no_record_is_refused(text: str):
    with pytest.raises(InputError, match="is no record of a session"):
        kept_from_text(text)
