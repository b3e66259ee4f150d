"""``evorec problems NAME``: scenario, tasks, features, objectives and genes, from the definition and its data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from small_data import copy_part

from evorec.cli import main
from evorec.config import (
    RecommenderConfig,
    installed_problems,
    load_config,
    parse_config,
    problem_definition,
    recommender_config,
)
from evorec.data.paths import resolve_path
from evorec.errors import DataError
from evorec.recommender.problem import build_problem

DATA = os.environ.get("EVOREC_DATA")
NAMES = [name for name, entry in installed_problems().items() if entry.dist is not None and entry.dist.name == "evorec"]


@pytest.fixture(autouse=True)
def without_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems on published data are shown as on a machine without them."""
    monkeypatch.setenv("EVOREC_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def described(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["problems", name, "--format", "json", "-q"]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


@pytest.mark.parametrize("name", NAMES)
def test_every_problem_shows_scenario_tasks_objectives_and_genes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    value, definition = described(name, capsys), problem_definition(name)
    assert value["scenario"] == definition.scenario
    assert {gene["name"] for gene in value["genes"]}
    assert value["reference_point"] == {objective["name"]: objective["worst"] for objective in value["objectives"]}
    assert all(objective["direction"] in ("max", "min") for objective in value["objectives"])
    assert main(["problems", name]) == 0
    text = capsys.readouterr().out
    assert text.startswith(value["scenario"].split()[0])
    headings = ["Settings", "Objectives", "Genes", "reference point"]
    if definition.config is RecommenderConfig:
        config = recommender_config(load_config(problem=name))
        assert [task["name"] for task in value["tasks"]] == list(config.tasks.ranked)
        lower = {task["name"] for task in value["tasks"] if task["better"] == "low"}
        assert lower == set(config.tasks.lower_is_better)
        assert value["constraints"] == list(config.constraints)
        if config.data.reader == "simulator":
            assert {"user", "item", "context", "content"} == set(value["features"])
        else:
            assert value["features"].startswith("known once the data can be read: data.path")
        headings.append("Tasks")
    assert [heading for heading in headings if heading not in text] == []


@pytest.mark.parametrize(
    "name", ["feed", *(pytest.param(name, marks=pytest.mark.data) for name in ("kuairand", "movielens"))]
)
def test_the_shown_genes_are_those_of_a_search(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where bounds depend on the data, and where a feature never varies in training rows."""
    config, part = recommender_config(load_config(problem=name)), os.environ["EVOREC_DATA"]
    if config.data.path:
        with monkeypatch.context() as whole:
            whole.setenv("EVOREC_DATA", DATA or part)
            try:
                source = resolve_path(config.data.path)
            except DataError as missing:
                pytest.skip(str(missing))
        copy_part(source, Path(part) / config.data.path)
    space = build_problem(config).space
    genes = {gene["name"]: (gene["domain"], gene["default"]) for gene in described(name, capsys)["genes"]}
    assert genes == {gene.name: (gene.domain, json.loads(json.dumps(gene.default))) for gene in space.genes}


def test_the_genome_switches_the_blocks_of_a_simulated_world(capsys: pytest.CaptureFixture[str]) -> None:
    genes = {gene["name"] for gene in described("media", capsys)["genes"]}
    assert {"use_text", "use_image", "use_video", "use_kind", "rank_text"} <= genes
    assert main(["problems", "ads"]) == 0
    assert "use_" not in capsys.readouterr().out, "all of them are on, so none is a gene"


def test_tasks_have_a_kind_a_direction_a_step_and_a_condition() -> None:
    tasks = {
        "ranked": ["view", "buy", "price", "late"],
        "target": "view",
        "funnel": ["view", "buy"],
        "given": {"price": "buy"},
        "kinds": {"price": "regression", "late": {"quantile": 0.9}},
        "lower_is_better": ["late"],
    }
    assert [tuple(task.values()) for task in parse_config({"tasks": tasks}).tasks.describe()] == [
        ("view", "binary", "high", 1, None),
        ("buy", "binary", "high", 2, None),
        ("price", "regression", "high", None, "buy"),
        ("late", "quantile 0.9", "low", None, None),
    ]


def test_corners_come_from_the_box_then_from_the_metric_and_else_from_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        '"""Mine."""\nDEFAULTS = {"data": {"reader": "simulator"}, "tasks": {"ranked": ("click",), "target": "click"}, '
        '"objectives": ("recall@k", "accuracy", "cost"), "box": {"recall@20": {"ideal": 0.4, "worst": 0.1}}}\n'
        "def build(config=None): ...\nbuild.reads_config = True\n"
    )
    objectives = described("mine.py", capsys)["objectives"]
    assert [(entry["ideal"], entry["worst"]) for entry in objectives] == [(0.4, 0.1), (1.0, 0.5), (None, None)]


def test_a_problem_that_brings_its_own_data_is_built_to_be_shown_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.py").write_text(
        '"""A shop with a log of its own."""\n'
        "from evorec.data import simulator\n"
        "from evorec.recommender.problem import build_problem\n"
        "from problems.feed import FeedConfig, simulate\n"
        'DEFAULTS = {"tasks": {"ranked": ("click", "like"), "target": "click"}, "constraints": ()}\n'
        "def build(config=None):\n"
        "    return build_problem(config, tables=simulate(FeedConfig(n_users=80, n_items=60, n_interactions=3000)))\n"
    )
    value = described("shop.py", capsys)
    assert "category" in value["features"]["item"]
    assert value["objectives"][0]["name"] == "accuracy"
    assert main(["validate", "-p", "shop.py", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["problem"] == "shop"
    assert main(["validate", "-p", "shop.py", "--set", "tasks.target=nap"]) != 0
    assert "nap" in capsys.readouterr().err


def test_a_fixed_gene_that_only_begins_like_a_switch_is_shown() -> None:
    from evorec.cli.define import _tables
    from evorec.space.genes import Fixed
    from evorec.space.space import SearchSpace

    space = SearchSpace((Fixed("rank_blend", 0.2), Fixed("use_city", True), Fixed("rank_text", 0)))
    genes = _tables(RecommenderConfig(), space, {"objectives": [], "features": "", "tasks": []})[-1]
    assert [row.name for row in genes.rows] == ["rank_blend"]
