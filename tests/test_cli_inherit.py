"""The setting training.inherit from the command line: a search, its front and report, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evorec.cli.app import main
from evorec.config import load_config
from evorec.report.record import read_record
from evorec.report.run_page import page

TINY = {
    "data.simulator.n_users": 60,
    "data.simulator.n_items": 50,
    "data.simulator.n_interactions": 2400,
    "training.steps": 6,
    "training.batch_size": 64,
    "training.retrieval_batch": 32,
    "training.layers": 2,
    "evaluation.k": 5,
    "evaluation.candidates": 12,
    "evaluation.max_users": 30,
    "search.population": 4,
    "search.generations": 2,
    "search.surrogate": "none",
    "run.executor": "serial",
    "run.device": "cpu",
    "constraints": "[]",
    "training.inherit": "nearest",
}
WORDS = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]


def test_a_search_with_inherited_weights_shows_both_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", "-p", "feed", "--set", "space.embedding_dim=8", *WORDS, "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    record = read_record(Path(shown["run"]), check=True)
    assert all("parent" in row.extra for row in record.evaluations if row.generation == 2)
    assert record.inherited
    assert "trained from scratch: hypervolume" in shown["verdict"]
    assert {row["member"] for row in shown["inheritance"]} >= set(record.inherited)
    assert "Inherited weights" in page(record)
    assert "begins with the weights of the nearest earlier candidate" in page(record)


def test_the_setting_is_refused_where_it_cannot_work(capsys: pytest.CaptureFixture[str]) -> None:
    attack = ["--set", 'objectives=["accuracy", "attack_shift@k"]']
    assert main(["validate", "-p", "feed", *WORDS, *attack]) == 2
    assert 'training.inherit (command line) must be "none" with metrics of an attack' in " ".join(
        capsys.readouterr().err.split()
    )
    assert main(["validate", "-p", "analytic", "--set", "training.inherit=nearest"]) == 2
    assert "training" in capsys.readouterr().err


def test_the_default_leaves_the_names_of_runs_as_they_were() -> None:
    settings = load_config(problem="feed").result_settings()
    assert "inherit" not in settings["training"]
    inheriting = load_config(problem="feed", overrides=["training.inherit=nearest"])
    assert inheriting.result_settings()["training"]["inherit"] == "nearest"
