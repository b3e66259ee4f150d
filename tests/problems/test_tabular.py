import itertools
import json
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import made_up_table as made_up
import numpy as np
import polars as pl
import pytest

from evorec.archive.indicators import hypervolume_share
from evorec.config import SearchConfig, parse_config
from evorec.errors import ConfigError, DataError
from evorec.search.engine import search
from problems import tabular

SHIPPED = sorted(path.stem for path in tabular.TABLES.glob("*.parquet"))
LOOKUP_S = SEARCH_S = 120.0
"""1,000 look-ups, or three generations in a table, take a tenth of a second; trainings would take many minutes."""
SEED = 7

every_table = pytest.mark.parametrize("name", SHIPPED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A made-up table on disk; the brackets in its name are not a glob."""
    folder = tmp_path / "tables [1]"
    folder.mkdir()
    return made_up.write(folder)


def configured(table: Path | str, *settings: str) -> tabular.TabularConfig:
    """Settings that suit the made-up table."""
    usual = ["training.steps=40", "evaluation.k=5", 'objectives=["accuracy", "recall@k"]', "constraints=[]"]
    return parse_config(tabular.DEFAULTS, overrides=[*usual, f"data.path={table}", *settings], kind=tabular.CONFIG)


def problem_of(table: Path, *settings: str) -> tabular.Tabular:
    return tabular.build(configured(table, *settings))


def test_a_look_up_is_the_row_of_the_file(path: Path) -> None:
    problem = problem_of(path, "training.rungs=[10, 20]")
    for (number, spec), seed, (rung, step) in itertools.product(
        enumerate(made_up.SPECS), (0, 1), ((0, 10), (1, 20), (None, 40))
    ):
        (outcome,) = problem.evaluate([spec], seed=seed, rung=rung)
        expected = made_up.row(number, seed, step)
        if expected["failed"]:
            assert outcome.metrics is None
            assert outcome.failure == "the training of configuration 1 failed"
            continue
        assert outcome.metrics == {
            "accuracy": expected["validation/accuracy"],
            "recall@5": expected["validation/recall@5"],
            "training_flops": expected["training_flops"],
            "train_seconds": expected["train_seconds"],
        }
        assert outcome.rung == (None if rung is None else step)
        assert outcome.extra == {"config_id": number}


def test_the_seed_of_the_run_picks_the_replicate(path: Path) -> None:
    problem = problem_of(path)
    spec = made_up.SPECS[2]
    found = {seed: problem.evaluate([spec], seed=seed)[0].metrics for seed in range(5)}
    assert found[0] == found[2] == found[4] != found[1] == found[3]


def test_no_outcome_holds_a_test_metric_before_the_test_is_opened(path: Path) -> None:
    problem = problem_of(path)
    assert not [name for name in problem.table.rows.columns if name.startswith("test/")]
    test = {made_up.row(n, s, 40)[f"test/{name}"] for n in range(6) for s in (0, 1) for name in made_up.METRICS}
    seen = [value for spec in made_up.SPECS for o in problem.evaluate([spec], seed=0) for value in o.metrics.values()]
    assert not test & set(seen)


def test_the_test_part_is_opened_once_for_the_chosen_configurations(path: Path) -> None:
    problem = problem_of(path)
    chosen = [made_up.SPECS[4], made_up.SPECS[1]]
    opened = problem.open_test(chosen)
    by_hand = [[made_up.row(number, seed, 40)["test/accuracy"] for seed in (0, 1)] for number in (4, 1)]
    assert [one["accuracy"] for one in opened] == by_hand
    assert by_hand[1][1] is None, "the failed training has none"
    assert problem.open_test(chosen) == opened
    with pytest.raises(ConfigError, match="opened for 2 other configurations"):
        problem.open_test(made_up.SPECS[:1])


def test_a_shorter_budget_has_no_test(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"test metrics are of 40 steps; training\.steps is 20"):
        problem_of(path, "training.steps=20").open_test(made_up.SPECS[:1])


def test_the_front_is_that_of_the_means_counted_by_hand(path: Path) -> None:
    problem = problem_of(path)
    # Accuracy rises with the number by as much as recall falls, so all are efficient; number 1 failed once.
    assert problem.reference_front() == [made_up.SPECS[number] for number in (0, 2, 3, 4, 5)]
    mean = [
        (made_up.row(3, 0, 40)[f"validation/{n}"] + made_up.row(3, 1, 40)[f"validation/{n}"]) / 2
        for n in made_up.METRICS
    ]
    (found,) = problem.expected([made_up.SPECS[3]])
    assert [found[name] for name in made_up.METRICS] == mean
    with pytest.raises(DataError, match="configuration 1 of table made_up failed with a seed"):
        problem.expected([made_up.SPECS[1]])


def test_a_constraint_and_an_override_narrow_the_front(path: Path) -> None:
    best = problem_of(path, 'constraints=["recall@k >= 1.1 * popularity"]').reference_front()
    recall = [sum(made_up.row(n, s, 40)["validation/recall@5"] for s in (0, 1)) / 2 for n in (0, 2, 3, 4, 5)]
    assert best == [made_up.SPECS[n] for n, value in zip((0, 2, 3, 4, 5), recall, strict=True) if value >= 0.44]
    assert 0 < len(best) < 5
    assert problem_of(path, "space.width=16").reference_front() == [made_up.SPECS[number] for number in (0, 2, 4)]


def test_bounds_of_a_gene_cannot_leave_the_grid(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"space\.depth must be given bounds within 1\.\.2"):
        problem_of(path, "space.depth={low=1, high=5}")


def test_a_configuration_outside_the_grid_is_refused(path: Path) -> None:
    with pytest.raises(DataError, match="table made_up has no configuration"):
        problem_of(path).evaluate([{"mechanism": "mmoe", "depth": 3, "width": 16}], seed=0)


def test_halving_on_a_table_drops_at_its_rungs(path: Path) -> None:
    problem = problem_of(path, "training.rungs=[10]", "search.population=4", "search.generations=2")
    result = search(problem, SearchConfig(surrogate="none", population=4, generations=1, seed=0))
    assert result.dropped == {10: 2}
    assert all(member.metrics["train_seconds"] == 40 / 8 for member in result.archive)


def test_settings_that_change_nothing_are_refused_together(path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"training\.layers \(command line\) is not a known key.*\n.*evaluation\.max_users"
    ):
        problem_of(path, "training.layers=2", "evaluation.max_users=7")


def test_steps_rungs_and_k_must_be_those_of_the_table(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        problem_of(path, "training.steps=41", "training.rungs=[9]", "evaluation.k=4")
    assert str(caught.value).splitlines() == [
        "evaluation.k must be 5, the length of the lists in table made_up.",
        "training.steps must be among the steps of table made_up, [10, 20, 40]; got [41].",
        "training.rungs must be among the steps of table made_up, [10, 20, 40]; got [9].",
    ]


def test_an_objective_that_the_table_lacks_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"table made_up has no ndcg@5; it has accuracy, recall@5"):
        problem_of(path, 'objectives=["accuracy", "ndcg@k"]')


def test_rows_and_bounds_make_another_run(path: Path, tmp_path: Path) -> None:
    first = problem_of(path).data_sha256
    assert problem_of(made_up.write(tmp_path)).data_sha256 == first
    bounds = {**made_up.ABOUT["bounds"], "accuracy": [0.25, 0.75]}
    assert problem_of(made_up.write(tmp_path, bounds=bounds)).data_sha256 != first
    assert problem_of(made_up.write(tmp_path, made_up.rows().with_columns(train_seconds=1.0))).data_sha256 != first


def without(**of: Any) -> pl.DataFrame:
    """The table without the rows where all these columns have these values."""
    there = pl.all_horizontal(*(pl.col(name) == value for name, value in of.items()))
    return made_up.rows().filter(~there)


HOSTILE: Mapping[str, tuple[pl.DataFrame, str]] = {
    "a row is missing": (
        without(config_id=3, seed=1, step=20),
        r"step, mechanism, depth, width = \(3, 1, 20, \'mmoe\', 1, 64\), got \(3, 1, 40,",
    ),
    "a row is there twice": (
        pl.concat([made_up.rows(), made_up.rows()[5:6]]),
        r"= \(1, 0, 10, .*, got \(0, 1, 40,",
    ),
    "a row is of another seed": (
        made_up.rows().with_columns(seed=pl.when(pl.col("seed") == 1).then(9).otherwise(pl.col("seed"))),
        r"= \(0, 1, 10, .*, got \(0, 9, 10,",
    ),
    "a column is missing": (
        made_up.rows().drop("validation/accuracy", "width"),
        "lacks the columns width, validation/accuracy",
    ),
    "the test columns are missing": (made_up.rows().drop("test/accuracy"), "lacks the columns test/accuracy"),
    "a gene is that of another configuration": (
        made_up.rows().with_columns(width=pl.when(pl.col("config_id") == 4).then(64).otherwise(pl.col("width"))),
        r"= \(4, 0, 10, 'mmoe', 2, 16\), got \(4, 0, 10, 'mmoe', 2, 64\)",
    ),
    "a metric is not a number": (
        made_up.rows().with_columns(
            pl.when(pl.col("config_id") == 5).then(float("nan")).otherwise(pl.col("validation/recall@5"))
            .alias("validation/recall@5")
        ),
        r"validation/recall@5 of configuration, seed, step \(5, 0, 10\) must be a number, .*got nan",
    ),
    "a failed training has a metric": (
        made_up.rows().with_columns(failed=pl.lit(True)),
        r"validation/accuracy of configuration, seed, step \(0, 0, 10\) must be .*got 0\.5",
    ),
    "a cost is missing": (
        made_up.rows().with_columns(training_flops=pl.lit(None, pl.Float64)),
        r"training_flops of configuration, seed, step \(0, 0, 10\) must be a number",
    ),
    "a metric is text": (
        made_up.rows().with_columns(pl.col("validation/accuracy").cast(pl.String)),
        "validation/accuracy must be numbers, got String",
    ),
    "the seed is not whole": (made_up.rows().with_columns(pl.col("seed").cast(pl.Float64)), "must be whole numbers"),
    "there is no row": (made_up.rows()[:0], r"= \(0, 0, 10, .*, got None"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_table_is_refused(case: str, tmp_path: Path) -> None:
    table, message = HOSTILE[case]
    with pytest.raises(DataError, match=message):
        problem_of(made_up.write(tmp_path, table))


@pytest.mark.parametrize("left", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_refused(left: float, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left if left >= 1 else left * len(whole))])
    with pytest.raises(DataError, match=r"is not the file that made_up\.json describes: expected sha256"):
        problem_of(path)


def test_a_file_of_another_kind_is_refused(path: Path) -> None:
    about = json.loads(path.with_suffix(".json").read_text())
    path.write_text("config_id,seed\n0,0\n")
    about["sha256"] = tabular.hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="is not a Parquet file"):
        problem_of(path)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"bounds": None, "steps": None}, "steps, bounds is missing"),
        ({"format": 2}, "must be a description of format 1, got 2"),
        (
            {"genes": [{"name": "width", "kind": "real", "default": 1}]},
            "must describe a finite space.*kind of gene width",
        ),
        ({"genes": [{"name": "width"}]}, "must describe a finite space.*kind"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(said: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        problem_of(made_up.write(tmp_path, **said))


def test_a_description_that_is_missing_or_no_json_is_refused(path: Path) -> None:
    path.with_suffix(".json").write_text("{")
    with pytest.raises(DataError, match=r"made_up\.json cannot be read"):
        problem_of(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(DataError, match="a table needs a description in the same folder"):
        problem_of(path)


def test_an_unknown_table_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"must name a table \(.*\) or the \.parquet file of a table, got 'nowhere'"):
        tabular.of_table("nowhere")


def test_a_table_of_the_package_is_complete() -> None:
    assert "simulated" in SHIPPED
    problem = tabular.build()
    assert len(problem.table.specs) >= 1000
    assert len(problem.table.seeds) >= 3
    assert len(problem.table.steps) >= 3


@every_table
def test_every_genome_of_a_shipped_space_is_in_its_table(name: str) -> None:
    problem = tabular.of_table(name)
    space = problem.space
    assert len(problem.table.specs) == space.cardinality()
    X = space.snap(np.random.default_rng(SEED).uniform(space.low - 1, space.high + 1, (300, space.n_var)))
    for x in X:
        spec = space.decode(x)
        number = problem.table.number(spec)
        assert problem.table.specs[number] == spec
        np.testing.assert_array_equal(space.encode(spec), x, err_msg=f"seed {SEED}")


@every_table
def test_a_shipped_reference_front_is_the_brute_force_one(name: str) -> None:
    problem = tabular.of_table(name)
    table = problem.table
    raw = pl.read_parquet(table.path).filter(pl.col("step") == table.steps[-1])
    names = {"accuracy": 1, "recall@10": 1, "catalogue_coverage@10": 1, "training_flops": -1}
    columns = [metric if metric in table.about["costs"] else f"validation/{metric}" for metric in names]
    means = raw.group_by("config_id").agg(pl.col(columns).mean(), pl.col("failed").any()).sort("config_id")
    floor = 0.9 * table.about["baselines"]["validation"]["popularity"]["recall@10"]
    good = means.filter(~pl.col("failed") & (pl.col("validation/recall@10") >= floor))
    Y = good.select(columns).to_numpy().astype(np.float64) * list(names.values())
    front = [
        number
        for number, y in zip(good["config_id"].to_list(), Y, strict=True)
        if not ((y <= Y).all(axis=1) & (y < Y).any(axis=1)).any()
    ]  # fmt: skip
    found = [table.number(spec) for spec in problem.reference_front()]
    # Mean values are float64 here and there, added in another order; equal models (list genes that do nothing) tie.
    tied = {tuple(np.round(Y[good["config_id"].to_list().index(number)], 12)) for number in front}
    assert {tuple(np.round(Y[good["config_id"].to_list().index(number)], 12)) for number in found} == tied
    assert found == table.about["reference"]["front"]
    share = hypervolume_share(problem.expected(problem.reference_front()), problem.objectives)
    assert share == table.about["reference"]["hypervolume"]


@every_table
def test_a_shipped_table_is_small_and_says_where_it_comes_from(name: str) -> None:
    about = tabular.of_table(name).table.about
    assert (tabular.TABLES / f"{name}.parquet").stat().st_size < 5_000_000
    assert all(about[key] for key in ("commit", "command", "versions", "licence", "data_sha256", "config"))


def test_the_tables_are_in_a_wheel() -> None:
    folder = Path(tabular.__file__).parent
    settings = tomllib.loads((folder.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in settings["problems"] for path in folder.glob(pattern)}
    assert {path for path in tabular.TABLES.iterdir() if path.is_file()} <= packed


@every_table
def test_a_thousand_look_ups_take_no_time(name: str) -> None:
    problem = tabular.of_table(name)
    X = problem.space.sample(np.random.default_rng(SEED), 1000)
    specs = [problem.space.decode(x) for x in X]
    problem.evaluate(specs[:1], seed=0)
    start = time.process_time()
    problem.evaluate(specs, seed=0)
    assert time.process_time() - start < LOOKUP_S


def test_a_search_in_the_table_takes_a_moment() -> None:
    problem = tabular.build(parse_config(tabular.DEFAULTS, overrides=["training.rungs=[30, 60]"], kind=tabular.CONFIG))
    start = time.process_time()
    result = search(problem, SearchConfig(surrogate="none", population=24, generations=3, seed=0))
    assert time.process_time() - start < SEARCH_S
    assert result.n_evaluated == 72
    assert result.n_dropped > 0
    assert result.archive
