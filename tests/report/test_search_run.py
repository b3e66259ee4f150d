from pathlib import Path

import polars as pl
import pytest
from analytic import Analytic

import evorec
from evorec.config import parse_config
from evorec.run.directory import RunDirectory
from evorec.search.engine import search

CONFIG = parse_config({"search": {"population": 8, "generations": 3}})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the analytic problem."""
    root, problem = tmp_path_factory.mktemp("runs"), Analytic()
    with RunDirectory.create(root, config=CONFIG, fingerprint=CONFIG.fingerprint("0"), environment={}) as run:
        search(problem, CONFIG.search, run=run)
        run.rename("nightly")
    return run.path


def test_frames_of_a_run_are_those_of_its_directory(path: Path) -> None:
    run = evorec.load_run(path)
    with RunDirectory.open(path, read_only=True) as directory:
        rows, members = directory.ledger.evaluations(), directory.members()
    assert run.evaluations["key"].to_list() == [row.key for row in rows]
    assert run.evaluations["quality"].to_list() == [(row.metrics or {}).get("quality") for row in rows]
    assert (
        set(run.front["member"])
        == {member.key for member in members}
        == set(run.evaluations.filter(pl.col("on_front"))["key"])
    )
    assert run.front["quality"].is_sorted(descending=True)
    assert run.hypervolume["evaluations"].to_list()[-1] == len(rows)
    assert run.config.search.population == 8
    assert (run.name, run.state, run.final.height) == ("nightly", "3 generations done", 0)
    assert run.baselines.rows(named=True) == [{"baseline": "trivial", "quality": 0.0, "cost": 1.0}]


def test_a_run_is_found_by_its_name(path: Path) -> None:
    assert evorec.load_run(path.with_name("nightly")).path == path
    with pytest.raises(evorec.RunError, match="is not a run directory"):
        evorec.load_run(path.with_name("weekly"))


def test_a_notebook_shows_a_run_with_its_front_and_a_figure(path: Path) -> None:
    run = evorec.load_run(path)
    html = run._repr_html_()
    assert html.count("<tr") >= 2 + min(12, run.front.height), "a heading, the members and a baseline"
    assert "There is no popularity baseline" in html
    assert "<script" not in html
    assert repr(run).startswith("SearchRun('nightly', 3 generations done, ")
    assert run.plot_front(run)._repr_png_().startswith(b"\x89PNG")
    assert repr(run.plot_parallel()).startswith("StaticFigure(")
