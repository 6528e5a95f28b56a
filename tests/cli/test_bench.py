"""``efaas bench``: what is asked for alone, what is gone on with, what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from efaas.bench import grid, records
from efaas.bench.grid import Task
from efaas.bench.report import plots, writing
from efaas.bench.scenario import Scenario
from efaas.cli import main
from tests.bench.synthetic import write_experiment

MAIN_CELL = "iterations=100,t_net_s=0.05"


def bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_experiment(folder, "headline", [MAIN_CELL], seeds=2)
    targets = [records.Target("TTNS below SBQ", 99.4, 0.1, 2, 98.0, True, "%")]
    checks = [records.Check("M/M/1", 4.0, 4.02, 0.05)]
    records.write(folder / "data" / "targets.parquet", records.TARGETS, [one.row() for one in targets])
    records.write(folder / "data" / "checks.parquet", records.CHECKS, [one.row() for one in checks])
    return folder


@pytest.fixture
def few_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ALL", [plot for plot in plots.ALL if plot.name == "ttns"])


@pytest.mark.usefixtures("few_plots")
def test_the_report_is_made_again_from_the_data_alone(out: Path) -> None:
    result = bench("--out", out, "--report")
    assert result.exit_code == 0
    assert result.stderr == f"{out}/report.html\n{out}/report.md\n"
    first = (out / "report.md").read_bytes()
    (out / "report.md").unlink()
    assert bench("--out", out, "--report").exit_code == 0
    assert (out / "report.md").read_bytes() == first


def test_the_table_is_printed_as_markdown(out: Path) -> None:
    result = bench("--out", out, "--table")
    assert result.exit_code == 0
    assert result.stdout.startswith("| ")
    assert "TTNS below SBQ" in result.stdout
    assert "| EFaaS |" in result.stdout


@pytest.mark.parametrize("option", ["--report", "--table"])
def test_without_data_it_is_said_what_makes_them(tmp_path: Path, option: str) -> None:
    result = bench("--out", tmp_path / "none", option)
    assert result.exit_code == 2
    expected = f"error: --out: {tmp_path}/none holds no data; run `efaas bench --out {tmp_path}/none` first\n"
    assert result.stderr == expected


def test_pages_are_filled_between_their_marks_and_nowhere_else(out: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marked = "<!-- bench: {} -->\nwhat stood there\n<!-- bench: end -->\n"
    page.write_text(
        "before\n" + marked.format("policies") + "between\n" + marked.format("checks") + "after\n"
    )
    assert bench("--out", out, "--docs", page).exit_code == 0
    once = page.read_text()
    assert "what stood there" not in once
    assert "| EFaaS |" in once
    assert "| M/M/1 | 4.0" in once
    for kept in ("before\n<!--", "<!-- bench: end -->\nbetween\n<!--", "<!-- bench: end -->\nafter\n"):
        assert kept in once
    assert bench("--out", out, "--docs", page).exit_code == 0
    assert page.read_text() == once


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("no marks\n", "has no part to fill; put `<!-- bench: policies -->` and"),
        ("<!-- bench: odd -->\n<!-- bench: end -->\n", "'odd' is no table; there are policies, targets"),
    ],
)
def test_a_page_that_cannot_be_filled_stays_as_it_is(
    out: Path, tmp_path: Path, text: str, sentence: str
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    result = bench("--out", out, "--docs", page)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {page}: {sentence}")
    assert page.read_text() == text


@pytest.mark.usefixtures("few_plots")
def test_the_whole_grid_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Scenario(iterations=3, warm_up_s=20.0, opening_s=5.0, horizon_s=80.0)

    def cells(seed: int) -> list[Task]:
        return [Task("sessions", "sessions=3", short, ("efaas", "sbq"), seed, ("runs", "sessions"))]

    for name in grid._EXPERIMENTS:
        monkeypatch.setitem(grid._EXPERIMENTS, name, cells if name == "sessions" else lambda _seed: [])
    monkeypatch.setattr("efaas.bench.checks.all_checks", lambda *_: [])
    asked = ("--full", "--processes", "1", "--no-energies", "--only", "sessions", "--out", tmp_path)
    assert bench(*asked, "--seeds", "1").exit_code == 0
    note = tmp_path / "parts" / "sessions" / "sessions=3" / "0.json"
    before = note.stat().st_mtime_ns
    # With a seed more only that seed is simulated.
    result = bench(*asked, "--seeds", "2")
    assert result.exit_code == 0, result.output
    assert note.stat().st_mtime_ns == before
    table = records.read(tmp_path, "sessions", "runs")
    assert table is not None
    assert sorted(set(table.column("seed").to_pylist())) == [0, 1]


def test_an_experiment_that_does_not_exist_is_named() -> None:
    result = bench("--only", "nothing")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --only: 'nothing' is no experiment; there are headline, duty")


def test_without_a_cluster_one_sentence_says_so(tmp_path: Path) -> None:
    result = bench("--cluster", "--kubeconfig", tmp_path / "none", "--out", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tmp_path}/none: cannot be used: ")
    assert result.stderr.count("\n") == 1


def test_a_cluster_that_does_not_answer_is_named_in_one_sentence(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "contexts: [{name: here, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
    )
    result = bench("--cluster", "--kubeconfig", kubeconfig, "--out", tmp_path)
    assert result.exit_code != 0
    assert "does not answer" in result.stderr
    assert result.stderr.count("\n") == 1
