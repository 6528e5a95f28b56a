"""Summary, report, views and plot of a run made by hand."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from efaas.core.uses import Uses
from efaas.local.folder import finite
from efaas.local.history import HistoryWriter, read_history
from efaas.local.live import RunTable
from efaas.local.plain import PlainView
from efaas.local.plot import plot_convergence, series
from efaas.local.progress import DeviceRecord, RunRecord, SessionRecord, State
from efaas.local.report import card_lines, report
from efaas.local.summary import duty_cycle, summarize
from efaas.local.usage import audit


def session(name: str = "h2", evaluations: int = 40) -> SessionRecord:
    record = SessionRecord(f"default/{name}", 4, ("left", "right"), device="left", exact=-1.857275)
    for number in range(evaluations):
        energy = -1.85 + math.exp(-number / 5)
        record.apply(
            {
                "event": "iteration", "iteration": number // 2, "evaluation": number, "energy": energy,
                "std_error": 0.004, "best": energy, "ttns_s": 0.001 * (1 + number),
                "ttns_device_s": 0.02,
                "round_trip_s": 0.004, "qpu_s": 1.5 * (number + 1), "shots": 4096 * (number + 1),
                "device": "left",
                "calibration_age_s": 64.0, "calibration_epoch": 1, "elapsed_s": 0.1 * (number + 1),
            }
        )  # fmt: skip
    return record


@pytest.fixture
def run() -> RunRecord:
    done = session()
    done.apply(
        {"event": "finished", "result": {"energy": -1.8561, "std_error": 0.0005, "parameters": [0.1, 0.2]}}
    )
    done.state = State.COMPLETED
    done.noisy_best = {"energy": -1.8571, "evaluations": 900, "seconds": 2.5}
    failed = SessionRecord("team/other", 8, ("right",), state=State.FAILED, reason="the QPU gave up on a job")
    devices = {
        "left": DeviceRecord(
            "left",
            "manila-5",
            5,
            condition="Ready",
            started=True,
            clock_s=100.0,
            busy_s=60.0,
            duty_cycle=0.75,
            uses=Uses(
                80_500_000_007,
                {
                    ("default/h2", "iteration"): (60_000_000_000, 163_840),
                    ("default/h2", "slice-cost"): (500_000_000, 0),
                    ("default/h2", "calibration"): (10_000_000_000, 0),
                    (None, "calibration"): (9_000_000_000, 0),
                    (None, "speculation"): (1_000_000_007, 300),
                },
            ),
        ),
        "right": DeviceRecord(
            "right", "guadalupe-16", 16, condition="Ready", started=True, clock_s=50.0, busy_s=20.0
        ),
    }
    sessions = {record.key: record for record in (done, failed)}
    return RunRecord(
        "20260101-120000-h2", "runs/20260101-120000-h2", "2026-01-01T12:00:00Z", sessions, devices, 4.2
    )


def test_the_duty_cycle_is_shots_over_devices_and_the_longest_clock(run: RunRecord) -> None:
    assert duty_cycle(run) == pytest.approx((60 + 20) / (2 * 100))


def test_the_summary_has_all_names_that_are_documented(run: RunRecord) -> None:
    summary = json.loads(json.dumps(finite(summarize(run)), allow_nan=False))
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()

    def names(value: object, path: str = "") -> set[str]:
        if isinstance(value, dict):
            return {path + key for key in value} | {
                name for key, item in value.items() for name in names(item, f"{path}{key}.")
            }
        return names(value[0], path.removesuffix(".") + "[].") if isinstance(value, list) and value else set()

    missing = {name for name in names(summary) if f"`{name}`" not in text}
    assert not missing


def test_tenants_are_told_what_they_got_and_what_they_deserve(run: RunRecord) -> None:
    scan = session("scan", 4)
    scan.key, scan.batch = "team/scan", True
    run.sessions[scan.key] = scan
    run.sessions["default/h2"].result["cpu_s"] = 300.0
    default, team = summarize(run)["tenants"]
    # 70.5 of 150 device seconds; 300 of 600 CPU seconds.
    assert (default["qpu_s"], default["qpu_calibration_s"]) == (70.5, 10.0)
    assert (default["dominant_resource"], default["dominant_share"]) == ("cpu", pytest.approx(0.5))
    assert default["deserved_share"] == team["deserved_share"] == 0.5
    assert default["ttns_device_s"]["n"] == 40
    assert team["ttns_device_s"]["n"] == 0
    assert team["batch_wait_device_s"] == {"p50": 0.02, "p95": 0.02, "n": 4}
    assert (default["weight"], default["sessions"], team["sessions"]) == (1, 1, 2)


def test_the_account_of_a_device_adds_up_to_the_nanosecond_or_is_named(run: RunRecord) -> None:
    usage = summarize(run)["devices"][0]["usage"]
    assert usage["billed_ns"] + usage["unbilled_ns"] == usage["held_ns"] == 80_500_000_007
    assert usage["pending_ns"] == 0
    assert usage["unbilled_s"] == {"calibration": 9.0, "speculation": 1.000000007}
    assert usage["wasted_shots"] == 300
    assert audit(run) == []
    run.devices["left"].uses.held_ns += 1
    assert [fault.split()[0] for fault in audit(run)] == ["left"]
    run.interrupted = True  # a job may have been under way
    assert audit(run) == []
    run.devices["left"].uses.held_ns -= 2
    assert len(audit(run)) == 1


def test_moves_are_where_the_device_changes(run: RunRecord) -> None:
    record = run.sessions["default/h2"]
    away = {"device": "right", "route": "left is calibrating"}
    for number, where in ((40, away), (41, away), (42, {"device": "left"})):
        record.apply({"event": "iteration", "iteration": 30, "evaluation": number, **where})
    assert summarize(run)["sessions"][0]["moves"] == [
        {"evaluation": 40, "source": "left", "target": "right", "reason": "left is calibrating"},
        {"evaluation": 42, "source": "right", "target": "left", "reason": "back to left"},
    ]


def test_the_summary_of_a_session(run: RunRecord) -> None:
    done, failed = summarize(run)["sessions"]
    assert done["error"] == pytest.approx(0.001175)
    assert done["noisy_best"]["difference_std_errors"] == pytest.approx(2.0)
    assert done["ttns_s"] == {"p50": pytest.approx(0.0205), "p95": pytest.approx(0.03805), "n": 40}
    assert done["usage"] == {
        "shots": 163_840,
        "qpu_s": 60.0,
        "charged_s": 70.5,
        "iterations_s": 60.0,
        "slice_cost_s": 0.5,
        "calibration_s": 10.0,
        "cpu_s": None,
        "wall_s": pytest.approx(4.0),
    }
    assert done["iterations"] == 20
    assert (failed["state"], failed["energy"], failed["noisy_best"]) == ("Failed", None, None)


def test_a_card_tells_energy_reference_noise_times_and_usage(run: RunRecord) -> None:
    done, failed = summarize(run)["sessions"]
    assert card_lines(done, hartree=True) == [
        ("energy", "−1.8561 ± 0.0005 Ha"),
        ("exact", "−1.8573 Ha   error +1.17 mHa (chemical accuracy)"),
        ("best under noise", "−1.8571 Ha   +1.00 mHa, +2.0 standard errors"),
        ("TTNS p50 / p95", "20.5 ms / 38.0 ms wall · 20.0 ms / 20.0 ms device"),
        ("usage", "163,840 shots · 1 min 00 s QPU time"),
    ]
    assert card_lines(failed) == []
    failed["cut"] = {"bitstring": "01101", "weight": 7.5, "share": 0.4, "best_weight": 8.0}
    assert card_lines(failed) == [("cut", "01101, weight 7.5 of at most 8.0")]


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("sessions", [2, 12])
def test_report_and_table_fit_the_terminal(run: RunRecord, width: int, sessions: int) -> None:
    for number in range(sessions - 2):
        extra = session(f"a-session-with-quite-a-long-name-{number}", 3)
        extra.state, extra.reason = (
            State.QUEUED,
            "an active loop of another tenant runs its slice on the device",
        )
        run.sessions[extra.key] = extra
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, height=50)
    console.print(RunTable(run))
    console.print(report(summarize(run)))
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in output.splitlines())
    for text in ("h2", "Completed", "team/other", "the QPU gave up on a job", "left", "right"):
        assert text in output


def test_a_table_taller_than_the_terminal_counts_what_it_leaves_out(run: RunRecord) -> None:
    for number in range(40):
        run.sessions[f"default/s{number}"] = session(f"s{number}", 1)
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, height=24)
    console.print(RunTable(run))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) <= 24
    assert any("… and 36 more sessions" in line for line in lines)


def test_plain_lines_tell_changes_of_state_and_progress_now_and_then(run: RunRecord) -> None:
    now = [0.0]
    stream = io.StringIO()
    view = PlainView(run, stream, clock=lambda: now[0])
    record = SessionRecord(
        "default/new", 2, ("left",), device="left", state=State.PREPARING, reason="starting"
    )
    run.sessions = {record.key: record}
    view.session_changed(record)
    for number in range(30):
        now[0] += 0.5
        evaluation = record.apply(
            {"event": "iteration", "iteration": number, "evaluation": number, "energy": -1.0, "best": -1.0}
        )
        assert evaluation is not None
        view.evaluated(record, evaluation)
        record.state, record.reason = State.QUEUED, "waits"
        view.session_changed(record)  # told between iterations: no line
        record.state, record.reason = State.RUNNING, ""
        view.session_changed(record)
    record.state = State.COMPLETED
    view.session_changed(record)
    assert stream.getvalue().splitlines() == [
        "    0.0 s  new: Preparing on left (starting)",
        "    0.5 s  new: iteration 1, energy −1.0000, best −1.0000, TTNS p50 –",
        "    5.0 s  new: iteration 10, energy −1.0000, best −1.0000, TTNS p50 –",
        "   10.0 s  new: iteration 20, energy −1.0000, best −1.0000, TTNS p50 –",
        "   15.0 s  new: iteration 30, energy −1.0000, best −1.0000, TTNS p50 –",
        "   15.0 s  new: Completed on left",
    ]


def test_a_history_reads_back_what_was_written_and_drops_torn_lines(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    told = session(evaluations=5).evaluations()
    with HistoryWriter(path, told[:2]) as writer:
        for evaluation in told[2:]:
            writer.append(evaluation)
    assert read_history(path) == told
    path.write_text(path.read_text()[:-10] + "\n{}\n[1]\nno json\n")
    assert read_history(path) == told[:4]


def test_the_series_takes_the_last_evaluation_of_an_iteration_and_the_lowest_so_far() -> None:
    points = series(session(evaluations=6))
    assert points.label == "Iteration"
    assert points.steps == (1, 2, 3)
    assert points.energy == tuple(-1.85 + math.exp(-number / 5) for number in (1, 3, 5))
    assert list(points.best) == sorted(points.best, reverse=True)


def test_a_scan_is_drawn_by_evaluations() -> None:
    record = session(evaluations=0)
    for number in range(4):
        record.apply({"event": "iteration", "iteration": 0, "evaluation": number, "energy": float(number)})
    points = series(record)
    assert (points.label, points.steps, points.best) == ("Evaluation", (1, 2, 3, 4), (0.0, 0.0, 0.0, 0.0))


@pytest.mark.parametrize("sessions", [1, 2, 5])
def test_a_plot_is_drawn(tmp_path: Path, run: RunRecord, sessions: int) -> None:
    run.sessions = {record.key: record for record in (session(f"s{number}") for number in range(sessions))}
    first = next(iter(run.sessions.values()))
    first.noisy_best = {"energy": -1.84}
    if sessions > 1:
        # Nothing to hold the energies against, and nothing but equal, exact ones.
        bare = session("bare", 0)
        bare.exact = None
        for number in range(3):
            bare.apply({"event": "iteration", "iteration": number, "evaluation": number, "energy": 1.0})
        run.sessions[bare.key] = bare
    path = tmp_path / "convergence.png"
    plot_convergence(run, path, {first.key})
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 10_000
