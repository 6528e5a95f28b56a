"""Traces: interpolation, repairs by name, refusals with a place, and a device driven by one."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efaas.core.drift import PERTH_2023
from efaas.devices import DriftingDevice, load_snapshot, trace_from_json
from efaas.errors import ManifestError

DAY_S = 86_400.0
SNAPSHOT = load_snapshot("manila-5")
STILL = PERTH_2023.scaled(0)


def document(days=5, **changes):
    """A trace of manila-5 whose values change a little each day."""
    count = range(days)
    return {
        "format": "efaas.dev/drift-trace/v1",
        "name": "test",
        "days": list(count),
        "qubits": [
            {
                "t1Us": [100.0 * 1.1**day + qubit for day in count],
                "t2Us": [80.0 + day + qubit for day in count],
                "probMeas1Prep0": [0.01 + 0.001 * day for day in count],
                "probMeas0Prep1": [0.02 + 0.001 * day for day in count],
            }
            for qubit in range(5)
        ],
        "gates": [{"gate": "cx", "qubits": [0, 1], "error": [0.01 + 0.001 * day for day in count]}],
    } | changes


def read(doc):
    return trace_from_json(json.dumps(doc), SNAPSHOT, place="trace.json")


def driven(doc):
    trace, _ = read(doc)
    return DriftingDevice.traced(SNAPSHOT, trace, seed=1, rates=STILL)


def test_a_good_trace_needs_no_repair():
    trace, repairs = read(document())
    assert repairs == ()
    assert trace.t1_us.shape == (5, 5)
    assert trace.times_s.tolist() == [0, DAY_S, 2 * DAY_S, 3 * DAY_S, 4 * DAY_S]


def test_recorded_days_are_met_and_others_interpolated():
    device = driven(document())
    on_day = device.true_state(2 * DAY_S).snapshot
    assert on_day.qubits[0].t1_us == pytest.approx(121.0)
    assert on_day.gates["cx", (0, 1)].error == pytest.approx(0.012)
    between = device.true_state(2.5 * DAY_S).snapshot
    assert between.qubits[0].t1_us == pytest.approx(math.sqrt(121.0 * 133.1)), "geometric"
    assert between.qubits[0].prob_meas1_prep0 == pytest.approx(0.0125), "linear"
    assert between.gates["cx", (0, 1)].error == pytest.approx(0.0125)
    assert between.gates["cx", (1, 2)] == SNAPSHOT.gates["cx", (1, 2)], "not in the trace"


def test_after_its_last_day_a_trace_stands_still():
    device = driven(document())
    assert device.true_state(400 * DAY_S).snapshot == device.true_state(4 * DAY_S).snapshot


def test_what_is_known_at_first_is_the_first_day_and_then_what_was_measured():
    device = driven(document())
    assert device.known.qubits[3].t1_us == 103.0
    device.calibrate(3 * DAY_S)
    assert device.known == device.true_state(3 * DAY_S).snapshot
    assert device.known.gates["cx", (0, 1)].error == pytest.approx(0.013)


def test_control_drifts_between_calibrations_as_in_the_model():
    trace, _ = read(document())
    device = DriftingDevice.traced(SNAPSHOT, trace, seed=1)
    assert device.true_state(DAY_S).over_rotations
    device.calibrate(DAY_S)
    assert not device.true_state(DAY_S).over_rotations
    model = DriftingDevice.modelled(SNAPSHOT, seed=1)
    model.calibrate(DAY_S)
    assert device.true_state(2 * DAY_S).over_rotations == model.true_state(2 * DAY_S).over_rotations


def test_a_failed_gate_calibration_is_bridged_and_named():
    doc = document()
    doc["gates"][0]["error"][2] = 1.0
    trace, repairs = read(doc)
    assert repairs == ("gates[0].error was missing or 1 (a failed calibration) on day 2 and is interpolated",)
    assert driven(doc).true_state(2 * DAY_S).snapshot.gates["cx", (0, 1)].error == pytest.approx(0.012)
    assert (trace.gate_error < 1).all()


def test_missing_values_are_bridged_geometrically_or_kept_at_the_ends():
    doc = document()
    doc["qubits"][0]["t1Us"] = [None, 110.0, None, 90.0, None]
    trace, repairs = read(doc)
    assert repairs == ("qubits[0].t1Us was missing on days 0, 2, 4 and is interpolated",)
    np.testing.assert_allclose(trace.t1_us[:, 0], [110, 110, math.sqrt(110 * 90), 90, 90])


def test_t2_above_twice_t1_is_cut_and_named():
    doc = document()
    doc["qubits"][1]["t2Us"][3] = 900.0
    trace, repairs = read(doc)
    assert repairs == ("qubits[1].t2Us was above 2·T1 on day 3 and became that",)
    assert trace.t2_us[3, 1] == 2 * trace.t1_us[3, 1]


def test_a_short_gap_between_days_is_named():
    _, repairs = read(document(days=3) | {"days": [0, 1, 3.25]})
    assert repairs == ("days 1 to 3.25 had no record; values between are interpolated",)


def changed(path, value):
    doc = copy.deepcopy(document())
    *parents, last = path
    place = doc
    for step in parents:
        place = place[step]
    place[last] = value
    return doc


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("days",), [0, 1, 2, 3, 30], "trace.json: days: nothing is recorded from day 3 to day 30"),
        (("days",), [0, 1, 1, 2, 3], "days: must ascend from 0"),
        (("days",), [1, 2, 3, 4, 5], "days: must ascend from 0"),
        (("days",), [0, 1, 2, 3], "qubits[0].t1Us: 5 values are given for 4 days"),
        (("days",), [], "days"),
        (("qubits", 0, "t1Us", 2), -3.0, "qubits[0].t1Us[2]: -3.0 is not allowed"),
        (("qubits", 0, "t1Us", 2), 0.0, "qubits[0].t1Us[2]"),
        (("qubits", 0, "t1Us", 2), math.nan, "qubits[0].t1Us[2]"),
        (("qubits", 0, "t2Us", 2), math.inf, "qubits[0].t2Us[2]"),
        (("qubits", 0, "probMeas1Prep0", 2), 1.0, "qubits[0].probMeas1Prep0[2]"),
        (
            ("qubits", 0, "probMeas1Prep0", 2),
            0.99,
            "qubits[0]: probMeas1Prep0 + probMeas0Prep1 is 1 or more on day 2",
        ),
        (("qubits", 0, "t1Us"), [None] * 5, "qubits[0].t1Us: has no value on any day"),
        (
            ("qubits", 0, "t3Us"),
            [1.0] * 5,
            "qubits[0].t3Us: is no field of a drift trace; did you mean t2Us?",
        ),
        (("qubits",), [], "qubits: 0 qubits are given, the device has 5"),
        (("gates", 0, "error", 2), 1.5, "gates[0].error[2]"),
        (("gates", 0, "error", 2), -0.5, "gates[0].error[2]"),
        (("gates", 0, "qubits"), [0, 4], "gates[0]: the device has no 'cx' on qubits [0, 4]; drop it"),
        (("gates",), document()["gates"] * 2, "gates[1]: 'cx' on qubits [0, 1] is given twice"),
        (("format",), "v0", "format"),
    ],
)
def test_what_has_no_plain_repair_is_refused_with_its_place(path, value, words):
    with pytest.raises(ManifestError) as error:
        read(changed(path, value))
    assert words in str(error.value)
    assert str(error.value).startswith("trace.json: ")


def test_a_series_that_lacks_too_much_at_a_stretch_is_refused():
    doc = document(days=12)
    doc["qubits"][2]["t2Us"][2:11] = [None] * 9
    with pytest.raises(
        ManifestError, match=r"qubits\[2\].t2Us: is missing from day 1 to day 11; at most 7 days"
    ):
        read(doc)


@pytest.mark.parametrize("text", ["", "[]", b"\xff", "{" * 10_000, "[" + " " * 16_000_000 + "]"])
def test_what_is_no_trace_is_refused(text):
    with pytest.raises(ManifestError):
        trace_from_json(text, SNAPSHOT)


numbers = st.floats(1e-3, 1e4)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_every_moment_of_an_accepted_trace_is_a_valid_device(data):
    days = data.draw(st.integers(1, 6))
    doc = document(days=days)
    for qubit in doc["qubits"]:
        qubit["t1Us"] = data.draw(st.lists(numbers, min_size=days, max_size=days))
        qubit["t2Us"] = data.draw(st.lists(numbers, min_size=days, max_size=days))
    trace, _ = read(doc)
    values = trace.at(data.draw(st.floats(0, 8 * DAY_S)))
    assert (values.t1_us > 0).all()
    assert (values.t2_us <= 2 * values.t1_us).all()
    assert (values.gate_error < 1).all()
