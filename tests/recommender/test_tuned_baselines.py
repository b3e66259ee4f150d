"""Baselines of a run: settings from validation alone, stored with it, and the genomes that list what they list."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feed_run import config, searched

from evorec.data.splits import split
from evorec.models.spec import default_space
from evorec.recommender.baseline_genes import item_item_genes
from evorec.recommender.encoding import encode_data
from evorec.recommender.problem import RecProblem, build_problem
from evorec.report.record import read_record
from evorec.report.run_tables import baseline_notes
from evorec.run.directory import RunDirectory
from evorec.search import engine
from evorec.space.space import SearchSpace

RECALL = "recall@5"
ITEM_ITEM = ("item_knn", "ease", "fading_knn")


@pytest.fixture(scope="module")
def settings():
    overlay = {"evaluation": {"max_users": 1000}, "finalize": {"boosting": True}}
    return config(space={"neighbours": 0}, **overlay)


@pytest.fixture(scope="module")
def problem(settings) -> RecProblem:
    return build_problem(settings)


def test_other_labels_of_the_test_change_no_setting(problem, settings):
    tables, parts = problem.tables, split(problem.tables, problem.config.split)
    is_test = np.zeros(tables.interactions.height, dtype=bool)
    is_test[parts.test] = True
    log = tables.interactions.with_columns(
        pl.when(pl.Series(is_test)).then(1 - pl.col("click")).otherwise(pl.col("click")).alias("click")
    )
    other = build_problem(settings, tables=replace(tables, interactions=log))
    assert other.data.baselines.settings == problem.data.baselines.settings
    assert other.baselines() == problem.baselines()


def test_where_the_test_is_held_out_settings_are_given_or_the_defaults(problem):
    chosen = problem.data.baselines.settings
    data = encode_data(problem.tables, problem.config, fit="train+validation", seed=1, at_most=None)
    assert data.baselines.settings["item_knn"] == {"shrinkage": 10.0, "user_norm": 0.0, "neighbours": 200}
    assert data.with_settings(chosen).baselines.settings == chosen


def test_the_genome_of_a_baseline_lists_what_the_baseline_lists(problem):
    specs = [problem.space.decode(problem.space.genome(values)) for values in problem.first_specs()]
    for name, spec, found in zip(ITEM_ITEM, specs, problem.evaluate(specs, seed=problem.seed), strict=True):
        known, chosen = problem.baselines()[name], problem.data.baselines.settings_of(name)
        if chosen.get("neighbours", 0):
            continue  # the gene cuts the items of a past, the baseline those that are listed
        moved = [key for key, value in chosen.items() if key in spec and spec[key] != value]
        assert moved == [] or all(chosen[key] in (0.0, 0.4) for key in moved), "only to the bound of a gene"
        if not moved:
            assert found.metrics[RECALL] == pytest.approx(known[RECALL], abs=1e-9)
            assert found.metrics["catalogue_coverage@5"] == pytest.approx(known["catalogue_coverage@5"], abs=1e-9)


def test_a_space_without_item_item_scores_has_no_such_genome():
    assert not build_problem(config(space={"item_item": "none"})).first_specs()
    fixed = build_problem(config(space={"item_item": "ease"}))
    assert [spec["item_item"] for spec in fixed.first_specs()] == ["ease"]


@pytest.mark.parametrize(("neighbours", "moved"), [(0, 4096), (200, 256), (1, 64)])
def test_settings_move_into_the_bounds_of_the_genes(neighbours, moved):
    space = default_space(
        (), n_layers=1, days=3.0, funnel=False, uniform_negatives=0, retrieval_batch=8
    ).with_overrides({})  # fmt: skip
    settings = {"shrinkage": 0.0, "user_norm": 0.5, "neighbours": neighbours}
    found = item_item_genes("item_knn", settings, space)
    spec = space.decode(space.genome(found))
    assert (spec["item_item"], spec["item_item_blend"], spec["past_decay"]) == ("knn", False, 1.0)
    assert (spec["neighbours"], spec["shrinkage"], spec["user_norm"]) == (moved, 0.3, 0.5)


def test_a_search_begins_with_the_baselines_and_goes_on_with_those_that_it_stored(
    tmp_path: Path, settings, monkeypatch
):
    problem, path = searched(tmp_path, settings)
    with RunDirectory.open(path) as run:
        described = run.read_problem()
        assert described["baseline_settings"].keys() >= {*ITEM_ITEM, "recent_popularity", "gradient_boosting of click"}
        first = [evaluation.key for evaluation in run.ledger.evaluations()][:3]
        space: SearchSpace = problem.space
        assert first == [space.key(space.genome(values)) for values in described["start"]]
        monkeypatch.setattr(RecProblem, "first_specs", lambda self: pytest.fail("tuned again"))
        monkeypatch.setattr(RecProblem, "baselines", lambda self: pytest.fail("fitted again"))
        longer = settings.search.model_copy(update={"generations": 3})
        assert engine.search(problem, longer, run=run, chunk=4).n_evaluated == 18
    record = read_record(path)
    assert "accuracy" in record.baselines["gradient_boosting"]
    notes = baseline_notes(record)
    assert any(note.startswith("ease: item_item_l2 ") for note in notes)
