"""The report: made from data alone, the same each time; silent where there are no data."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from efaas.bench import records, report
from efaas.bench.report import document, figures, plots, writing
from efaas.bench.report.claims import allows, crossing
from efaas.bench.report.style import LIGHT
from tests.bench.synthetic import write_experiment

MAIN_CELL = "iterations=100,t_net_s=0.05"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the headline, the targets and the checks."""
    folder = tmp_path_factory.mktemp("bench")
    write_experiment(folder, "headline", [MAIN_CELL], seeds=3)
    write_experiment(folder, "drift", ["tau_s=300"], seeds=3, calibrated=True)
    targets = [
        records.Target("TTNS below SBQ", 99.4, 0.1, 3, 98.0, True, "%", "", "11.4 to 94.3 %"),
        records.Target("duty cycle", 0.9, 0.01, 3, 0.97, True, "", "a <reason> that is | odd"),
        records.Target("not run", None, None, 0, 1.0, False),
    ]
    checks = [records.Check("M/M/1", 4.0, 4.02, 0.05), records.Check("M/D/1", 2.0, 3.0, 0.05)]
    records.write(folder / "data" / "targets.parquet", records.TARGETS, [one.row() for one in targets])
    records.write(folder / "data" / "checks.parquet", records.CHECKS, [one.row() for one in checks])
    return folder


@pytest.fixture(scope="module")
def written(out: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "ALL", [plot for plot in plots.ALL if plot.name in ("background", "ttns")])
        report.write(out)
    return out


@pytest.mark.timeout(180)
def test_the_page_needs_nothing_but_itself(written: Path) -> None:
    page = (written / "report.html").read_text()
    assert not re.search(r'(?:src|srcset|href)="(?!data:|#)', page)
    assert not re.search(r"@import|url\(|<script", page)
    assert "prefers-color-scheme: dark" in page
    assert page.count("<picture>") == 2


@pytest.mark.timeout(180)
def test_both_files_say_the_same_verdicts(written: Path) -> None:
    page, text = (written / "report.html").read_text(), (written / "report.md").read_text()
    assert len(re.findall(r'class="badge good">reached<', page)) == 1
    assert len(re.findall(r'class="badge bad">not reached<', page)) == 1
    assert len(re.findall(r'class="badge open">not measured<', page)) == 1
    assert len(re.findall(r'class="badge bad">does not hold<', page)) == 1
    assert text.count("| reached |") == 1
    assert text.count("| not reached |") == 1
    assert "11.4 to 94.3 %" in text
    assert "a &lt;reason&gt; that is | odd" in page
    assert "a <reason> that is \\| odd" in text


@pytest.mark.timeout(180)
def test_plots_are_files_with_the_same_bytes_each_time(written: Path) -> None:
    before = (written / "plots" / "background.png").read_bytes()
    (plot,) = (plot for plot in plots.ALL if plot.name == "background")
    files = plots.render(plot, written)
    assert files is not None
    assert files["png"] == before
    assert files["light.svg"] != files["dark.svg"]


def test_what_was_not_run_is_left_out(tmp_path: Path) -> None:
    built = document.build(tmp_path)
    assert [section.title for section in built.sections] == ["Background work and fairness", "Words"] or [
        section.title for section in built.sections
    ] == ["Words"]
    for plot in plots.ALL:
        assert plot.draw(tmp_path, LIGHT) is None


def test_the_short_table_has_targets_and_policies(out: Path) -> None:
    text = report.table(out)
    assert "| TTNS below SBQ | 99.40 ± 0.10 % | ≥ 98 % | reached | 11.4 to 94.3 % | 3 |" in text
    assert "| EFaaS |" in text
    assert "| SBQ |" in text


def test_all_plots_have_a_place_in_the_report() -> None:
    """A plot that no section names would be drawn for nobody."""
    source = Path(document.__file__).read_text()
    for plot in plots.ALL:
        assert f'"{plot.name}"' in source


def test_change_is_the_ratio_of_means(tmp_path: Path) -> None:
    write_experiment(tmp_path, "headline", [MAIN_CELL], policies=("efaas", "sbq"), seeds=4)
    experiment = figures.Experiment(tmp_path, "headline")
    mine = [value for value in experiment.values(MAIN_CELL, "efaas", "ttns_mean_s").values() if value]
    others = [value for value in experiment.values(MAIN_CELL, "sbq", "ttns_mean_s").values() if value]
    found = experiment.change(MAIN_CELL, "efaas", "sbq", "ttns_mean_s")
    assert found is not None
    assert found.value == pytest.approx(100 * (1 - np.mean(mine) / np.mean(others)))
    same = experiment.change(MAIN_CELL, "efaas", "efaas", "ttns_mean_s")
    assert same is not None
    assert (same.value, same.half) == (pytest.approx(0.0), pytest.approx(0.0))


def test_the_distribution_goes_from_the_least_value_to_one() -> None:
    values = [float(value) for value in range(1000, 0, -1)]
    places, shares = figures.ecdf(values)
    assert places[0] == 1
    assert places[-1] == 1000
    assert shares[-1] == 1
    # At each place the share is that of values at or below it.
    for place, share in zip(places, shares, strict=True):
        assert share == pytest.approx(sum(value <= place for value in values) / 1000)


def test_a_range_beyond_the_bound_is_said_to_be_impossible() -> None:
    assert allows(11.4, 94.3, 99.0) == "all of the range"
    assert allows(11.4, 94.3, 50.0) == "up to 50.0"
    assert allows(11.4, 94.3, 5.0) == "none of the range"
    assert allows(11.4, 94.3, None) == "–"


def test_numbers_keep_their_significant_digits() -> None:
    assert figures.significant(0.012345) == "0.0123"
    assert figures.significant(1234.5) == "1,234"
    assert figures.significant(0.0) == "0"
    assert figures.Mean(1.0, None, 1).text() == "1.00"


def test_the_length_from_which_a_reservation_is_better_follows_from_its_one_wait(tmp_path: Path) -> None:
    """SR waits 20 s once, then 0.05 s; EFaaS 0.2 s once, then 0.15 s: equal at (19.95 - 0.05) / 0.1."""
    for policy, first, later in (("sr", 20.0, 0.05), ("efaas", 0.2, 0.15)):
        write_experiment(
            tmp_path / policy,
            "headline",
            [MAIN_CELL],
            policies=(policy,),
            ttns_first_s=first,
            ttns_later_s=later,
        )
    experiment = figures.Experiment(tmp_path / "sr", "headline")
    experiment.runs += figures.Experiment(tmp_path / "efaas", "headline").runs
    assert crossing(experiment, 0.05, "sr") == "below EFaaS's from 199 iterations on"
