from pathlib import Path

import pytest
from analytic import Analytic

from evorec.config import RecommenderConfig, parse_config
from evorec.errors import Interruption, RunError
from evorec.report.record import read_record
from evorec.run.atomic import sealed_bytes
from evorec.run.directory import RunDirectory
from evorec.search.engine import SearchResult, search

CONFIG = parse_config({"search": {"population": 8, "generations": 4}})


def searched(root: Path, *, stop_after: int | None = None) -> tuple[Path, SearchResult | None]:
    """A run of the analytic problem; stopped when that many stacks are done."""
    problem = Analytic()
    run = RunDirectory.create(root, config=CONFIG, fingerprint=CONFIG.fingerprint("0"), environment={"device": "cpu"})
    with run:
        try:
            stop = lambda: stop_after is not None and len(problem.stacks) >= stop_after  # noqa: E731
            return run.path, search(problem, CONFIG.search, run=run, stop=stop)
        except Interruption:
            return run.path, None


def test_a_finished_run_says_what_the_search_returned(tmp_path: Path) -> None:
    path, result = searched(tmp_path)
    record = read_record(path)
    assert result is not None
    assert [member.key for member in record.members] == [member.key for member in result.archive]
    assert record.hypervolume == result.hypervolume
    assert record.state == result.reason
    assert record.baselines == {"trivial": {"quality": 0.0, "cost": 1.0}}
    assert record.objectives == Analytic().objectives
    assert record.environment["device"] == "cpu"


def test_an_unfinished_run_has_the_hypervolume_of_its_complete_generations(tmp_path: Path) -> None:
    _, result = searched(tmp_path / "whole")
    path, _ = searched(tmp_path / "part", stop_after=8)
    record = read_record(path)
    n_complete = max(row.generation for row in record.evaluations) - 1
    assert n_complete >= 1
    assert record.state == "not finished"
    assert result is not None
    assert record.hypervolume == pytest.approx(result.hypervolume[:n_complete], rel=1e-12)


def test_a_run_that_is_going_on_can_be_read(tmp_path: Path) -> None:
    path, _ = searched(tmp_path)
    with RunDirectory.open(path):
        assert read_record(path).members


def test_reading_writes_nothing(tmp_path: Path) -> None:
    path, _ = searched(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.suffix in (".json", ".sqlite")}
    read_record(path)
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run directory"):
        read_record(tmp_path)


def test_a_run_stopped_before_its_first_evaluation_says_how_to_go_on(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path, config=RecommenderConfig(), fingerprint="0" * 12, environment={}) as run:
        pass
    with pytest.raises(RunError, match="evorec resume"):
        read_record(run.path)


def test_what_finalize_wrote_is_read(tmp_path: Path) -> None:
    path, _ = searched(tmp_path)
    final = {"opened_at": "2026-01-01", "seeds": [1], "picks": [], "baselines": {}}
    (path / "final.json").write_bytes(sealed_bytes(final))
    assert read_record(path).final == final
