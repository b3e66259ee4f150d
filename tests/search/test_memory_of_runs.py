"""Memories beside runs: what a search reads and leaves, resumed searches, the commands, forecasts, and comparisons."""

from __future__ import annotations

import json
import sqlite3
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from evorec.cli.app import main
from evorec.config import load_config
from evorec.errors import ConfigError, DataError, Interruption, RunError
from evorec.problem import Outcome, load_problem
from evorec.report.record import read_record
from evorec.report.run_page import page
from evorec.report.run_tables import surrogate_table
from evorec.run.directory import RunDirectory
from evorec.search.engine import search
from evorec.search.forecast import forecast
from evorec.search.memory.library import SHIPPED, gathered, stored
from evorec.search.memory.table import Memory
from problems import analytic

SMALL = ("search.population=8", "search.generations=3", "search.surrogate=gp")


def begun(runs: Path, *settings: str) -> RunDirectory:
    config = load_config(problem="analytic", overrides=[*SMALL, *settings, f"run.output={runs}"])
    problem = load_problem(config)
    return RunDirectory.create(
        runs, config=config, fingerprint=config.fingerprint(problem.data_sha256), environment=problem.environment
    )


def searched(runs: Path, *settings: str, **options: object):
    with begun(runs, *settings) as run:
        return run.path, search(analytic.build(), run.config.search, run=run, **options)


def test_a_finished_search_is_the_memory_of_the_next(tmp_path):
    first, cold = searched(tmp_path, "search.memory=none")
    assert not stored(tmp_path)
    first, cold = searched(tmp_path, "search.seed=1")
    (file,) = stored(tmp_path)
    assert (file.stem, len(Memory.read(file))) == (first.name, cold.n_evaluated)
    second, warm = searched(tmp_path, "search.seed=2")
    assert warm.hypervolume[0] > cold.hypervolume[0]
    copied = Memory.read(second / "memory.parquet")
    assert set(Memory.read(file).frame["spec"]) <= set(copied.frame["spec"])
    others = gathered("auto", tmp_path).without(data_sha256=analytic.build().data_sha256)
    assert len(others) == (len(Memory.read(SHIPPED)) if SHIPPED.exists() else 0)


def test_an_interrupted_search_goes_on_with_the_rows_it_began_with(tmp_path):
    for name in ("whole", "stopped"):
        searched(tmp_path / name, "search.seed=1")
    _, whole = searched(tmp_path / "whole", "search.seed=2")
    calls = iter([False] * 2 + [True] * 9)
    with begun(tmp_path / "stopped", "search.seed=2") as run, pytest.raises(Interruption):
        search(analytic.build(), run.config.search, run=run, stop=lambda: next(calls))
    for file in stored(tmp_path / "stopped"):
        file.unlink()  # nothing outside of the run is read again
    with RunDirectory.open(run.path) as again:
        resumed = search(analytic.build(), again.config.search, run=again)
    assert [e.key for e in resumed.archive] == [e.key for e in whole.archive]
    assert resumed.hypervolume == whole.hypervolume


def test_changed_rows_of_a_run_are_refused(tmp_path):
    searched(tmp_path, "search.seed=1")
    path, _ = searched(tmp_path, "search.seed=2")
    (path / "summary.json").unlink()
    data = (path / "memory.parquet").read_bytes()
    (path / "memory.parquet").write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with RunDirectory.open(path) as run, pytest.raises(RunError, match=r"memory\.parquet is damaged"):
        search(analytic.build(), run.config.search, run=run)


def test_a_lost_description_of_the_problem_is_written_again_and_the_rows_are_kept(tmp_path):
    searched(tmp_path, "search.seed=1")
    path, whole = searched(tmp_path, "search.seed=2")
    before = (path / "problem.json").read_bytes()
    for name in ("problem.json", "summary.json"):
        (path / name).unlink()
    with RunDirectory.open(path) as run:
        again = search(analytic.build(), run.config.search, run=run)
    assert (path / "problem.json").read_bytes() == before
    assert [e.key for e in again.archive] == [e.key for e in whole.archive]


def test_only_measured_rows_that_were_trained_to_the_end_enter_the_surrogate_and_the_memory(tmp_path):
    class Unreliable(analytic.Analytic):
        """Half of the evaluations fail, some of them with NaN."""

        def evaluate(self, specs, *, seed, **how):
            outcomes = super().evaluate(specs, seed=seed)
            kinds = [int(1000 * float(outcome.metrics["quality"])) % 4 for outcome in outcomes]
            broken = {0: Outcome(None, "no"), 1: Outcome({"quality": float("nan"), "cost": 1.0})}
            return [broken.get(kind, outcome) for kind, outcome in zip(kinds, outcomes, strict=True)]

    problem = Unreliable(analytic.AnalyticConfig())
    for seed in range(3):
        with begun(tmp_path, f"search.seed={seed}", "search.generations=6") as run:
            found = search(problem, run.config.search, run=run)
        rows = Memory.read(tmp_path / "memory" / f"{run.path.name}.parquet")
        assert 0 < found.n_failed < found.n_evaluated
        assert len(rows) == found.n_evaluated - found.n_failed
        values = [value for text in rows.frame["metrics"] for value in json.loads(text).values()]
        assert np.isfinite(values).all()
        assert len({evaluation.key for evaluation in found.archive}) == len(found.archive)
        ledger = sqlite3.connect(run.path / "ledger.sqlite")
        events = [json.loads(text) for (text,) in ledger.execute("SELECT payload FROM events WHERE kind = 'surrogate'")]
        assert len(events) == 6
        assert all(np.isfinite(event["hypervolume"]).all() for event in events if "hypervolume" in event)
        assert sum(event["chosen"].get("model", 0) + event["chosen"].get("memory", 0) for event in events) > 8


def test_paths_of_memories_are_read_and_missing_files_refused(tmp_path):
    searched(tmp_path / "runs", "search.seed=1")
    (file,) = stored(tmp_path / "runs")
    assert len(gathered([str(file)], None)) == len(gathered([str(file.parent)], None)) == 24
    with pytest.raises(DataError, match=r"no\.parquet cannot be read"):
        gathered([str(tmp_path / "no.parquet")], None)
    with pytest.raises(DataError, match=r"has no file NAME\.parquet"):
        gathered([str(tmp_path)], None)
    config = tmp_path / "shop.toml"
    config.write_text('problem = "analytic"\nsearch.memory = ["runs/memory"]')
    assert load_config(config).search.memory == (str(file.parent),)
    config.write_text('problem = "analytic"\nsearch.memory = [1]')
    with pytest.raises(ConfigError, match=r"search\.memory"):
        load_config(config)


def test_memories_are_listed_added_and_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path, _ = searched(Path("runs"), "search.memory=none")
    assert main(["memory", "add", str(path), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == [f"runs/memory/{path.name}.parquet"]
    assert main(["memory", "list", "--format", "json"]) == 0
    assert [row["rows"] for row in json.loads(capsys.readouterr().out) if row["memory"] == path.name] == [24]
    assert main(["memory", "remove", "other"]) == 2
    assert f"it has {path.name}" in capsys.readouterr().err
    assert main(["memory", "remove", path.name]) == 0
    assert not stored(Path("runs"))


def test_a_dry_run_predicts_the_front_and_begins_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    searched(Path("runs"), "search.seed=1", "search.generations=6")
    capsys.readouterr()
    words = [word for setting in SMALL for word in ("--set", setting)]
    assert main(["search", "-p", "analytic", *words, "--dry-run", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    low, middle, high = shown["first_generation"]
    assert 0 <= low <= middle <= high <= 1
    assert shown["n_evaluations"] == 24
    quality = [member["values"]["quality"] for member in shown["members"]]
    assert len(quality) > 2
    assert all(a <= b <= c for a, b, c in quality)
    assert len(list(Path("runs").glob("analytic-*"))) == 1
    with_memory = searched(Path("runs"), "search.seed=2")[1].hypervolume[0]
    assert low - 0.2 < with_memory < high + 0.2
    cold = forecast(analytic.build(), load_config(problem="analytic").search, Memory.empty())
    assert (cold.members, cold.first_generation, cold.n_rows) == ((), None, 0)


def test_limits_of_flops_and_of_expected_gain_end_a_search_between_generations(tmp_path):
    class Counted(analytic.Analytic):
        def evaluate(self, specs, *, seed, **how):
            found = super().evaluate(specs, seed=seed)
            return [Outcome({**(outcome.metrics or {}), "training_flops": 10.0}) for outcome in found]

        def known_metrics(self, spec):
            return {"training_flops": 10.0}

    problem = Counted(analytic.AnalyticConfig())
    with begun(tmp_path / "a", "search.flops=170") as run:
        found = search(problem, run.config.search, run=run)
    assert (found.n_evaluated, found.reason) == (16, "2 generations done, within 170 FLOPs of training")
    _, found = searched(tmp_path / "b", "search.gain=0.9", "search.generations=20", "search.memory=none")
    assert found.n_evaluated < 160
    assert "would hardly gain 90 %" in found.reason


def test_searches_are_compared_at_equal_trainings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        for surrogate in ("gp", "none"):
            searched(Path("runs"), f"search.seed={seed}", f"search.surrogate={surrogate}", "search.memory=none",
                     "search.generations=5")  # fmt: skip
    paths = [str(path) for path in sorted(Path("runs").glob("analytic-*"))]
    capsys.readouterr()
    assert main(["compare", *paths, "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {run["method"] for run in shown["runs"]} == {"surrogate gp", "surrogate none"}
    (pair,) = shown["methods"]
    wins = sum(
        a["hypervolume"][-1] > b["hypervolume"][-1]
        for a in shown["runs"] if a["method"] == pair["first"]
        for b in shown["runs"] if b["method"] == pair["second"]
    )  # fmt: skip
    assert pair["a12"] == pytest.approx(wins / 9)
    assert all(run["igd_plus"] >= 0 for run in shown["runs"])
    assert min(run["epsilon"] for run in shown["runs"]) >= 0
    assert set(shown["median_attainment"]) == {"surrogate gp", "surrogate none"}
    for surfaces in shown["median_attainment"].values():
        assert all(0 <= a <= b < 1 for (a, _), (b, _) in pairwise(surfaces)), "sorted, inside the box"
    assert main(["report", *paths]) == 0
    text = Path("runs/comparison.html").read_text()
    assert all(f"surrogate {name}, median of 3" in text for name in ("gp", "none"))
    assert f"{pair['first']} is ahead of {pair['second']} in {100 * pair['a12']:.0f} % of the pairs of runs" in text
    assert main(["compare", paths[0]]) == 2
    assert "at least 2 runs" in capsys.readouterr().err


def test_the_record_of_a_run_says_which_memory_it_started_from(tmp_path):
    searched(tmp_path, "search.seed=1")
    path, _ = searched(tmp_path, "search.seed=2")
    record = read_record(path)
    assert record.memory.startswith("24 rows of 1 earlier searches, SHA-256 ")
    assert record.memory in page(record)
    rows = surrogate_table(record).rows
    assert [row.name for row in rows] == ["1", "2", "3"]
    assert rows[0].values[0] == "plain 1, memory 7"
    assert rows[-1].values[-1] == f"{record.hypervolume[-1]:.4f}"
