"""The supervisor with stand-ins for servers and runners: what is restarted, kept, given up and told."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from efaas.errors import InputError
from efaas.local.processes import Programs
from efaas.local.run import RunOptions, run
from efaas.local.supervisor import Timings


@pytest.fixture
def options(tmp_path: Path, manifest: Path, programs: Programs, timings: Timings) -> RunOptions:
    return RunOptions(
        files=(manifest,),
        runs_dir=tmp_path / "runs",
        json=True,
        plot=False,
        name="pair",
        programs=programs,
        timings=timings,
    )


class Outcome:
    """Exit code and output of a run."""

    def __init__(self, options: RunOptions) -> None:
        out, err = io.StringIO(), io.StringIO()
        self.code = run(options, out, err)
        self.log = err.getvalue()
        self.summary = json.loads(out.getvalue())
        self.folder = Path(self.summary["folder"])

    @property
    def session(self) -> dict[str, object]:
        (session,) = self.summary["sessions"]
        return session  # type: ignore[no-any-return]

    @property
    def evaluations(self) -> list[int]:
        lines = (self.folder / "history.jsonl").read_text().splitlines()
        return [json.loads(line)["evaluation"] for line in lines]


def test_a_session_that_completes_has_its_result_history_and_files(options: RunOptions) -> None:
    outcome = Outcome(options)
    assert outcome.code == 0
    assert outcome.session["state"] == "Completed"
    assert outcome.session["energy"] == -0.9
    assert outcome.session["parameters"] == [0.5]
    used = {"shots": 600, "qpu_s": 9.0, "cpu_s": None, "wall_s": pytest.approx(0.6)}
    # The stand-in for a server keeps no books.
    charged = dict.fromkeys(("charged_s", "iterations_s", "slice_cost_s", "calibration_s"), 0.0)
    assert outcome.session["usage"] == used | charged
    assert outcome.evaluations == list(range(6))
    assert json.loads((outcome.folder / "result.json").read_text()) == outcome.summary
    token = outcome.folder / "devices" / "left" / "token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) >= 32


@pytest.mark.parametrize("plan", ["is killed once", "asks again once"])
def test_a_lost_runner_goes_on_with_the_next_lease(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    monkeypatch.setenv("FAKE_RUNNER", plan)
    outcome = Outcome(options)
    assert outcome.code == 0
    assert outcome.session["runner_restarts"] == 1
    assert outcome.session["lease_epoch"] == 2
    # What the second runner told again from its journal counts once.
    assert outcome.evaluations == list(range(6))
    assert outcome.session["usage"]["shots"] == 600  # type: ignore[index]


def test_a_runner_that_is_lost_without_progress_is_given_up(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNNER", "is killed at the start")
    outcome = Outcome(options)
    assert outcome.code == 1
    assert outcome.session["reason"] == "its runner was ended by SIGKILL, 4 times in a row"


def test_a_runner_that_makes_progress_in_each_life_is_not_given_up(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNNER", "is killed at every evaluation")
    outcome = Outcome(options)
    assert outcome.code == 0
    assert outcome.session["runner_restarts"] == 6
    assert outcome.evaluations == list(range(6))


def test_a_session_that_fails_says_why_and_the_run_exits_with_1(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNNER", "fails")
    outcome = Outcome(options)
    assert outcome.code == 1
    assert (outcome.session["state"], outcome.session["reason"]) == ("Failed", "the QPU gave up on a job")


def test_a_session_that_reaches_a_limit_is_expired(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNNER", "expires")
    outcome = Outcome(options)
    assert outcome.code == 1
    assert (outcome.session["state"], outcome.session["reason"]) == ("Expired", "limit reached: 100 shots")


def test_bad_input_found_by_the_runner_is_one_sentence_and_exit_code_2(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNNER", "refuses")
    outcome = Outcome(options)
    assert outcome.code == 2
    assert "error: VQASession alpha: spec.ansatz: the circuit has no parameters\n" in outcome.log


def test_a_server_that_dies_is_restarted_on_its_data(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SERVER", "dies once")
    monkeypatch.setenv("FAKE_RUNNER", "waits")
    with _interrupted_once(options, lambda folder: _starts(folder) >= 2):
        outcome = Outcome(options)
    assert outcome.code == 130
    assert outcome.summary["devices"][0]["server_restarts"] == 1
    assert "was ended by SIGKILL" in outcome.log


def test_a_server_that_cannot_be_kept_up_fails_its_sessions(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SERVER", "refuses")
    monkeypatch.setenv("FAKE_RUNNER", "waits")
    outcome = Outcome(options)
    assert outcome.code == 1
    assert outcome.session["reason"] == (
        "no device is left (left: its server ended with code 2: efaas-qpu: the device file is bad)"
    )


def test_ctrl_c_ends_cleanly_and_the_run_goes_on_from_there(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNNER", "waits")
    with _interrupted_once(options, lambda folder: _journalled(folder) == 3):
        first = Outcome(options)
    assert first.code == 130
    assert first.session["state"] == "Interrupted"
    assert f"Interrupted. Go on with: efaas run --resume {first.folder}\n" in first.log
    assert not _alive(first.folder), "children are left behind"

    monkeypatch.setenv("FAKE_RUNNER", "")
    second = Outcome(replace(options, files=(), name=None, resume=str(first.folder)))
    assert second.code == 0
    assert second.folder == first.folder
    assert second.session["lease_epoch"] == 2
    assert second.evaluations == list(range(6))
    # A third time: nothing is left to do, and nothing is started.
    third = Outcome(replace(options, files=(), name=None, resume=first.folder.name))
    assert third.code == 0
    assert _starts(first.folder) == 2
    assert third.session["energy"] == -0.9


def test_a_torn_history_is_mended_on_resume(options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_RUNNER", "waits")
    with _interrupted_once(options, lambda folder: _journalled(folder) == 3):
        first = Outcome(options)
    history = first.folder / "history.jsonl"
    history.write_text(history.read_text()[:-25])
    monkeypatch.setenv("FAKE_RUNNER", "")
    second = Outcome(replace(options, files=(), name=None, resume=str(first.folder)))
    assert sorted(second.evaluations) == list(range(6))


def test_a_folder_in_use_is_refused(options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_RUNNER", "waits")
    refusals = []

    def try_to_resume(folder: Path) -> bool:
        if _journalled(folder) < 3:
            return False
        with pytest.raises(InputError) as refusal:
            run(replace(options, files=(), name=None, resume=str(folder)))
        refusals.append(str(refusal.value))
        return True

    with _interrupted_once(options, try_to_resume):
        outcome = Outcome(options)
    assert refusals == [f"{outcome.folder}: is being run by process {os.getpid()}; end that one first"]


def test_suspended_sessions_are_listed_and_not_started(options: RunOptions, manifest: Path) -> None:
    manifest.write_text(manifest.read_text() + "  suspend: true\n")
    outcome = Outcome(options)
    assert outcome.code == 0
    assert (outcome.session["state"], outcome.session["reason"]) == ("Suspended", "spec.suspend is true")
    assert _starts(outcome.folder) == 0


def test_sessions_beyond_the_slots_of_a_device_wait_their_turn(options: RunOptions, manifest: Path) -> None:
    text = manifest.read_text()
    session = text[text.index("---\n", text.index("QPUDevice")) :]
    manifest.write_text(text + session.replace("name: alpha", "name: beta"))
    outcome = Outcome(options)
    assert outcome.code == 0
    assert {session["state"] for session in outcome.summary["sessions"]} == {"Completed"}
    assert "beta: Pending (waits for a free slot on left)" in outcome.log


# --- helpers --------------------------------------------------------------------------------------


class _interrupted_once:  # noqa: N801
    """Sends this process SIGINT, as Ctrl-C does, once something has happened in the run's folder."""

    def __init__(self, options: RunOptions, happened: object) -> None:
        self._runs = options.runs_dir
        self._happened = happened
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            for folder in self._runs.glob("*"):
                if self._happened(folder):  # type: ignore[operator]
                    time.sleep(0.1)
                    os.kill(os.getpid(), signal.SIGINT)
                    return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _starts(folder: Path) -> int:
    return len(_lines(folder / "devices" / "left" / "data" / "starts"))


def _journalled(folder: Path) -> int:
    return len(_lines(folder / "sessions" / "default.alpha" / "journal" / "evaluations"))


def _alive(folder: Path) -> list[str]:
    def lives(pid: str) -> bool:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
        return True

    return [pid for pid in _lines(folder / "devices" / "left" / "data" / "starts") if lives(pid)]


def test_the_best_energy_under_noise_is_found_once_and_reported(
    options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "best.py"
    script.write_text('print(\'{"energy": -0.91, "parameters": [1.0], "evaluations": 12, "seconds": 0.5}\')')
    monkeypatch.setenv("FAKE_RUNNER", "writes its problem")
    programs = replace(options.programs, best_energy=(sys.executable, "-S", "-E", str(script)))
    outcome = Outcome(replace(options, programs=programs))
    wanted = {
        "energy": -0.91,
        "difference": pytest.approx(0.01),
        "difference_std_errors": pytest.approx(5.0),
        "evaluations": 12,
        "seconds": 0.5,
        "reason": "",
    }
    assert outcome.session["noisy_best"] == wanted
    script.write_text("raise SystemExit('not asked again')")
    again = Outcome(replace(options, programs=programs, files=(), name=None, resume=str(outcome.folder)))
    assert again.session["noisy_best"] == wanted


def test_a_best_energy_that_cannot_be_found_costs_no_more_than_its_line(
    options: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "best.py"
    script.write_text("raise SystemExit('the circuit is too wide')")
    monkeypatch.setenv("FAKE_RUNNER", "writes its problem")
    programs = replace(options.programs, best_energy=(sys.executable, "-S", "-E", str(script)))
    outcome = Outcome(replace(options, programs=programs))
    assert outcome.code == 0
    assert outcome.session["noisy_best"]["reason"] == "the circuit is too wide"  # type: ignore[index]


def test_on_a_terminal_there_is_a_table_and_then_the_report(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_RUNNER", "takes half a second")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    assert run(replace(options, json=False), out, io.StringIO()) == 0
    shown = out.getvalue()
    for text in ("Session", "TTNS p50", "Running", "Completed", "result.json"):
        assert text in shown
    # While it ran, and after.
    assert shown.count("energy") < shown.count("QDC")


def test_a_spare_device_is_started_when_the_sessions_have_had_their_start(
    options: RunOptions, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest.write_text(
        manifest.read_text().replace("---\n", "---\n" + DEVICE.replace("{name}", "spare") + "---\n", 1)
    )
    monkeypatch.setenv("FAKE_RUNNER", "takes half a second")
    outcome = Outcome(options)
    assert outcome.code == 0
    assert outcome.log.index("alpha: iteration 1") < outcome.log.index("device spare: Ready")


def test_a_session_moves_to_a_spare_device_when_its_own_is_given_up(
    options: RunOptions, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest.write_text(
        manifest.read_text().replace("---\n", "---\n" + DEVICE.replace("{name}", "spare") + "---\n", 1)
    )
    monkeypatch.setenv("FAKE_SERVER", "refuses on left")
    monkeypatch.setenv("FAKE_RUNNER", "waits on left")
    outcome = Outcome(options)
    assert outcome.code == 0
    assert "alpha moves from left to spare" in outcome.log
    assert outcome.session["device"] == "spare"
    assert outcome.evaluations == list(range(6))


DEVICE = """
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: {name}}
spec: {model: {snapshot: manila-5}}
"""
