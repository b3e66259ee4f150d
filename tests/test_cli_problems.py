"""``evorec problems NAME``: what a problem is, from its definition and, where they are simulated, its data."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from evorec.cli import main
from evorec.cli.trained import data_of, objectives_of, tasks_of
from evorec.config import RecommenderConfig, installed_problems, load_config, parse_config, problem_definition

NAMES = [name for name, entry in installed_problems().items() if entry.dist is not None and entry.dist.name == "evorec"]
TRAINED = [name for name in NAMES if problem_definition(name).config is RecommenderConfig]


def described(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["problems", name, "--format", "json", "-q"]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


@pytest.mark.parametrize("name", NAMES)
def test_every_problem_shows_scenario_objectives_constraints_and_genes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value = described(name, capsys)
    assert value["scenario"].splitlines()[0] in problem_definition(name).scenario
    assert value["objectives"]
    for one in value["objectives"]:
        assert one["direction"] in ("max", "min")
        assert {"unit", "ideal", "worst"} <= set(one)
    assert {gene["name"] for gene in value["genes"]}
    assert isinstance(value["constraints"], list)


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_problem_shows_tasks_features_and_the_reference_point(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value = described(name, capsys)
    config = load_config(problem=name)
    assert [task["name"] for task in value["tasks"]] == list(config.tasks.ranked)
    lower = {task["name"] for task in value["tasks"] if task["better"] == "low"}
    assert lower == set(config.tasks.lower_is_better)
    assert value["reference_point"] == {one["name"]: one["worst"] for one in value["objectives"]}
    assert value["constraints"] == list(config.constraints)
    if config.data.reader == "simulator":
        assert {"user", "item", "context", "content"} == set(value["features"])
    else:
        assert value["features"] == "all that the data have"
    assert main(["problems", name]) == 0
    text = capsys.readouterr().out
    assert text.startswith(value["scenario"].split()[0])
    for heading in ("Settings", "Tasks", "Objectives", "Genes", "reference point"):
        assert heading in text


def test_the_genome_switches_the_blocks_of_a_simulated_world(capsys: pytest.CaptureFixture[str]) -> None:
    genes = {gene["name"] for gene in described("media", capsys)["genes"]}
    assert {"use_text", "use_image", "use_video", "use_kind", "rank_text"} <= genes
    genes = {gene["name"] for gene in described("sentiment_news", capsys)["genes"]}
    assert {"use_words", "use_watch_list"} <= genes
    assert main(["problems", "ads"]) == 0
    assert "use_" not in capsys.readouterr().out, "all of them are on, so none is a gene"


def test_tasks_say_kind_direction_funnel_and_condition() -> None:
    tasks = {
        "ranked": ["view", "buy", "price", "late"],
        "target": "view",
        "funnel": ["view", "buy"],
        "given": {"price": "buy"},
        "kinds": {"price": "regression", "late": {"quantile": 0.9}},
        "lower_is_better": ["late"],
    }
    assert [tuple(task.values()) for task in tasks_of(parse_config({"tasks": tasks}))] == [
        ("view", "binary", "high", 1, None),
        ("buy", "binary", "high", 2, None),
        ("price", "regression", "high", None, "buy"),
        ("late", "quantile 0.9", "low", None, None),
    ]


def test_corners_come_from_the_box_then_from_the_metric_and_else_from_the_data() -> None:
    overlay = {"objectives": ["recall@k", "accuracy", "cost"], "box": {"recall@20": {"ideal": 0.4, "worst": 0.1}}}
    corners = [(one["ideal"], one["worst"]) for one in objectives_of(parse_config(overlay))]
    assert corners == [(0.4, 0.1), (1.0, 0.5), (None, None)]


def test_missing_data_are_no_error() -> None:
    module: Any = SimpleNamespace(defaults={"data": {"reader": "kuairand", "path": "no-such-folder"}})
    tables, why = data_of(module, parse_config({**module.defaults, "inputs": "search"}))
    assert tables is None
    assert why.startswith("known once the data are: data.path 'no-such-folder' does not exist")
    assert data_of(module, parse_config({**module.defaults, "inputs": "all"})) == (None, "all that the data have")


def test_a_problem_that_brings_its_own_data_is_not_given_the_features_of_the_feed() -> None:
    module: Any = SimpleNamespace(defaults={"problem": "shop"})
    tables, why = data_of(module, parse_config(module.defaults))
    assert tables is None
    assert "brings its own data" in why


def test_a_fixed_gene_that_only_begins_like_a_switch_is_shown() -> None:
    from evorec.cli.define import _gene_table
    from evorec.space.genes import Fixed
    from evorec.space.space import SearchSpace

    table = _gene_table(SearchSpace((Fixed("rank_blend", 0.2), Fixed("use_city", True), Fixed("rank_text", 0))))
    assert [row.name for row in table.rows] == ["rank_blend"]
