"""The scripts that compare search methods: every method runs, and the budget is counted correctly."""

from __future__ import annotations

import importlib.util
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

from evorec.config import merge
from evorec.objectives import Objective
from problems import ads, tabular

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
sys.path.append(str(EXPERIMENTS))  # for the modules that the scripts import


def script(name: str) -> ModuleType:
    """An experiment under a distinct module name: a test helper is called `analytic` too."""
    path = EXPERIMENTS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


analytic, methods, bench = script("analytic"), script("tabular_methods"), script("bench_search")
fronts, rating_matrix, rival = script("problem_fronts"), script("rating_matrix"), script("rival")
picks = script("picks")


@pytest.mark.parametrize("method", analytic.METHODS)
def test_no_method_reaches_the_analytic_front_within_300_evaluations(method: str) -> None:
    run = analytic.one_run(method, ("quality", "cost"), 0, 300)
    assert run["needed"] is None
    assert list(run["share_at"]) == ["200"]
    assert 0 < run["share_at"]["200"] < analytic.TARGET


def test_figures_of_methods_that_are_not_run_again_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "analytic.json"
    analytic.main(seeds=1, budget=60, methods="", out=out)
    first = json.loads(out.read_text())["results"]
    assert {case: set(found) for case, found in first.items()} == {key: set(analytic.METHODS) for key in analytic.CASES}
    analytic.main(seeds=2, budget=60, methods="random", out=out)
    second = json.loads(out.read_text())["results"]["two objectives"]
    assert second["evorec"] == first["two objectives"]["evorec"]
    assert len(second["random"]["runs"]) == 2


def test_median_and_range_count_an_unfinished_run_as_the_slowest() -> None:
    assert analytic.spread([300, None, 100]) == "300 (100..not reached)"
    assert analytic.spread([300, 100]) == "200 (100..300)"


def test_compute_of_a_resumed_training_is_counted_once() -> None:
    problem = tabular.build(
        methods.parse_config(methods.merge(tabular.DEFAULTS, {"training": {"rungs": (30, 60)}}), kind=tabular.CONFIG)
    )
    metered = methods.ComputeMeter(problem)
    spec = problem.table.specs[0]
    means = problem.table.means(120).values()
    unit = sum(metrics["training_flops"] for metrics in means) / len(means)
    flops = [problem.table.metrics(0, seed=0, steps=steps)["training_flops"] for steps in (30, 60, 120)]
    for rung, paid in zip((0, 1, None), flops, strict=True):
        metered.evaluate([spec], seed=0, rung=rung)
        assert metered.spent == pytest.approx(paid / unit, rel=1e-9)  # float64 rounding
    metered.evaluate([spec], seed=0)
    assert metered.spent == pytest.approx(flops[-1] / unit, rel=1e-9), "the same training again costs nothing"
    assert list(metered.found) == [0]


def test_every_method_runs_on_a_table_and_is_drawn(tmp_path: Path) -> None:
    out = tmp_path / "methods.json"
    methods.main(tables="simulated", seeds=1, budget=60.0, out=out)
    found = json.loads(out.read_text())["tables"]["simulated"]["summary"]
    assert set(found) == set(methods.METHODS)
    for method, figures in found.items():
        assert list(figures["at"]) == ["50"], method
        assert 0 < figures["at"]["50"]["quartiles"][1] <= figures["worth"] <= 1, method
        assert figures["members"] > 0, method
    texts = [node.text for node in ET.parse(tmp_path / "methods_simulated.svg").iter() if node.tag.endswith("text")]
    assert {*methods.METHODS, "share of the reference front"} <= set(texts)


def test_attainment_surfaces_of_search_methods_are_drawn(tmp_path: Path) -> None:
    bench.main("analytic", seeds=2, methods="nsga2;random", evaluations=25, out=tmp_path / "x.json", pictures=tmp_path)
    texts = [node.text for node in ET.parse(tmp_path / "attainment_analytic.svg").iter() if node.tag.endswith("text")]
    assert {"nsga2", "random", "quality", "cost"} <= set(texts)


def test_a12_by_hand() -> None:
    assert methods.a12([2.0, 3.0], [1.0, 3.0]) == (1 + 0 + 1 + 0.5) / 4


def test_every_search_of_a_problem_trains_the_same_number_of_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"scenario": "ads", "n_users": 60, "n_items": 40, "n_interactions": 2500}
    tiny = merge(ads.DEFAULTS, {"data": {"simulator": sizes}, "training": {"steps": 3}, "constraints": ()})
    monkeypatch.setattr(ads, "DEFAULTS", tiny)
    found = fronts.fronts("ads", 0, generations=2, population=4)
    assert {figures["evaluated"] for figures in found["searches"].values()} == {8}
    assert set(found["searches"]) == set(fronts.SEARCHES)
    fronts.show("ads", [found])
    assert "best cost_per/conversion" in capsys.readouterr().out
    fronts.picture({"ads": [found]}, tmp_path / "fronts.svg")
    assert "popularity" in (tmp_path / "fronts.svg").read_text()


def test_picks_of_a_problem_are_written_with_rates_and_a_simplest_genome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "picks.json"
    given = ["picks.py", "analytic", "tabular", "--simplify", "tabular", "--set", "search.memory=none"]
    monkeypatch.setattr(sys, "argv", [*given, "--out", str(out)])
    picks.main()
    found = json.loads(out.read_text())
    assert [pick["pick"].split()[0] for pick in found["tabular"]["picks"]] == ["knee", "cheapest", "accuracy"]
    assert all(len(pick["rates"]) >= 1 for pick in found["analytic"]["picks"])
    assert set(found["tabular"]["simplified"]["objectives"]) == set(found["tabular"]["picks"][0]["values"])


def test_a_large_penalty_reduces_the_rating_matrix_to_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rating_matrix, "PENALTIES", (0.001, 10.0))
    smallest, largest = rating_matrix.swept(0.9, seed=0)
    assert smallest["accuracy"] > largest["accuracy"]
    assert largest["rmse/rating"] == pytest.approx(1.0, abs=0.1)


def test_the_joint_front_of_two_sides_leaves_out_dominated_and_equal_points() -> None:
    goals = [Objective(name, name, "max", "", 1.0, 0.0) for name in ("a", "b")]
    one = [{"a": 0.9, "b": 0.1}, {"a": 0.2, "b": 0.2}, {"a": 0.5, "b": 0.5}]
    other = [{"a": 0.5, "b": 0.5}, {"a": 0.1, "b": 0.9}, {"a": 0.4, "b": 0.4}]
    assert rival.joint_front([one, other], goals) == [[one[0], one[2]], [other[1]]]
    assert rival.joint_front([one, []], goals) == [[one[0], one[2]], []]
