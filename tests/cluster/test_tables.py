"""What people read: tables, pages and lines, from documents as the API server has them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from efaas.cluster.describe import describe_session
from efaas.cluster.explain import explained
from efaas.cluster.follow import Seen, outcome, story
from efaas.cluster.plots import draw_picture, draw_text, record_of
from efaas.cluster.tables import devices_table, sessions_table, text_of, usage_table

DATA = yaml.safe_load((Path(__file__).parent / "documents.yaml").read_text())
NOW = datetime.fromisoformat("2026-03-01T12:10:00+00:00")


def test_sessions_that_work_come_first_and_say_why_others_wait():
    table = sessions_table(DATA["sessions"], with_namespace=True, now=NOW)
    assert text_of(table) == DATA["sessionsTable"].rstrip("\n")


def test_devices_say_how_fresh_and_how_busy_they_are():
    assert text_of(devices_table(DATA["devices"], now=NOW)) == DATA["devicesTable"].rstrip("\n")


@pytest.mark.parametrize("by", ["namespace", "device", "session"])
def test_usage_adds_up_whatever_it_is_summed_by(by: str):
    table = usage_table(DATA["sessions"], by=by)
    used = [float(row[table.heads.index("QPU S")]) for row in table.rows]
    shots = [int(row[table.heads.index("SHOTS")].replace(",", "")) for row in table.rows]
    assert sum(used) == pytest.approx(6.75)
    assert sum(shots) == 30_000
    assert used == sorted(used, reverse=True)


def test_usage_of_nothing_has_no_shares():
    assert [row[3] for row in usage_table([DATA["sessions"][1]], by="namespace").rows] == ["–"]


def test_a_session_described():
    page = describe_session(DATA["sessions"][1], DATA["events"], NOW)
    assert page == DATA["described"].rstrip("\n")


def test_a_life_is_told_once_line_by_line():
    seen, told = Seen(), []
    for status in DATA["life"]:
        told.extend(story(status, seen))
        told.extend(story(status, seen))  # the same state again says nothing
    assert told == DATA["story"]
    assert outcome(DATA["life"][-1]) == DATA["outcome"]


def test_why_as_a_table():
    assert explained(DATA["why"]) == DATA["whyTable"]


def trajectory(points: int) -> dict[str, Any]:
    energies = [-1.0 - 0.1 * (1 - 0.5**number) for number in range(points)]
    return {
        "total": points,
        "columns": {
            "iteration": list(range(points)),
            "evaluation": list(range(points)),
            "energy": energies,
            "std_error": [0.01] * points,
            "best": energies,
            "device": ["manila"] * points,
        },
    }


SESSION = {
    "namespace": "team",
    "name": "h2",
    "state": "Running",
    "device": "manila",
    "exact": -1.1373,
    "result": None,
}


def test_convergence_is_drawn_in_characters_with_the_exact_line():
    text = draw_text(record_of(SESSION, trajectory(30)), 80, 20, color=False)
    assert len(text.splitlines()) == 20
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "exact -1.13730" in text
    assert "\x1b" not in text


def test_convergence_is_drawn_as_a_picture(tmp_path: Path):
    draw_picture(record_of(SESSION, trajectory(30)), tmp_path / "h2.png")
    assert (tmp_path / "h2.png").read_bytes().startswith(b"\x89PNG")


def test_a_session_without_evaluations_has_no_history():
    assert record_of(SESSION, {"total": 0, "columns": {}}).history == {}
