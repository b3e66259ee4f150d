"""The final training: chosen on validation, trained again, tested once."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from feed_run import alone, config, positives, recalls, recommended, searched, task_aucs
from safetensors.numpy import load_file

from evorec import export_bundle, load_bundle
from evorec.cli import main
from evorec.cli.ship import find_member
from evorec.config import FinalizeConfig
from evorec.data.simulator import simulate
from evorec.data.splits import Split, split
from evorec.data.tables import Columns, Feature, Tables
from evorec.deploy.final.all_data import train_on_all_data
from evorec.deploy.final.finalize import choose, exact, finalize, measure_archive
from evorec.deploy.final.steps import choose_steps
from evorec.errors import ConfigError, Interruption, RunError
from evorec.metrics.compare import paired_bootstrap
from evorec.models.population import Population
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import encode_data
from evorec.recommender.problem import RecProblem
from evorec.recommender.trainers import StackTrainer
from evorec.report.final_tables import final_sections
from evorec.report.record import read_record
from evorec.run.atomic import sealed_bytes
from evorec.run.directory import RunDirectory
from evorec.search.confirm import confirm
from evorec.training.precision import has_bfloat16
from evorec.training.trainer import TrainingResult, train

ROUNDING = 1e-12  # a mean over users or seeds, added up in another order
RECALL = "recall@5"
OPENED = "opened_at"


@dataclass(frozen=True)
class Training:
    """One call of the trainer."""

    specs: tuple[ModelSpec, ...]
    seed: int
    steps: int


@dataclass(frozen=True)
class Finalized:
    """A finished search, its report, and what was trained for it."""

    problem: RecProblem
    path: Path
    report: dict[str, Any]
    trainings: tuple[Training, ...]

    @property
    def chosen(self) -> dict[str, str]:
        return {entry["pick"]: entry["member"] for entry in self.report["picks"]}


def final_fit(problem: RecProblem, seed: int, steps: int) -> StackTrainer:
    """Train + validation as a person would make it who wants that many steps."""
    training = problem.config.training.model_copy(update={"steps": steps})
    settings = problem.config.model_copy(update={"training": training})
    return StackTrainer.of(problem.tables, settings, fit="train+validation", seed=seed, at_most=None)


def on_validation(problem: RecProblem) -> StackTrainer:
    """The training part with the steps of the search; all validation users are measured."""
    return StackTrainer(problem.data.with_all_users(), problem.seed, problem.config.training.steps)


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("this must not be called")


@pytest.fixture(scope="module")
def searched_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecProblem, Path]:
    return searched(tmp_path_factory.mktemp("runs"), config(finalize={"boosting": True}))


@pytest.fixture(scope="module")
def finalized(searched_run: tuple[RecProblem, Path], tmp_path_factory: pytest.TempPathFactory) -> Finalized:
    problem, source = searched_run
    path = tmp_path_factory.mktemp("finalized") / "run"
    shutil.copytree(source, path)
    trainings = []

    def watched(specs: Any, plan: Any, data: Any, *, seed: int, last: int | None, **options: Any) -> TrainingResult:
        trainings.append(Training(tuple(specs), seed, len(plan) if last is None else last))
        return train(specs, plan, data, seed=seed, last=last, **options)

    with pytest.MonkeyPatch.context() as patched, RunDirectory.open(path) as run:
        patched.setattr("evorec.recommender.trainers.train", watched)
        report = finalize(run, problem, problem.config.finalize)
    return Finalized(problem, path, report, tuple(trainings))


def stored(problem: RecProblem, run: RunDirectory) -> dict[str, Population]:
    """The members of the archive as they lie on disk."""
    return {
        member.key: problem.data.stack([ModelSpec.from_genes(member.spec)], [run.read_weights(member.key)])
        for member in run.members()
    }


@pytest.fixture(scope="module")
def by_hand(finalized: Finalized) -> dict[str, dict[str, float]]:
    """Validation recall and AUC of every member on all users and rows, by a slow loop and scikit-learn."""
    problem = finalized.problem
    all_users = problem.data.with_all_users()
    relevant = positives(problem, "validation")
    assert len(relevant) > len(problem.data.users.ids) == 10, "the search looked at a sample"
    found = {}
    with RunDirectory.open(finalized.path, read_only=True) as run:
        for key, population in stored(problem, run).items():
            aucs = task_aucs(problem, all_users, population, "validation")
            recall = float(np.mean(recalls(recommended(all_users, population), relevant)))
            found[key] = {RECALL: recall, "accuracy": float(np.mean(list(aucs.values())))}
    return found


def test_the_archive_is_measured_on_all_validation_users(
    finalized: Finalized, by_hand: dict[str, dict[str, float]]
) -> None:
    with RunDirectory.open(finalized.path, read_only=True) as run:
        sampled = {member.key: dict(member.metrics or {}) for member in run.members()}
        measured = measure_archive(run, finalized.problem)
    assert measured.keys() == by_hand.keys()
    for key, expected in by_hand.items():
        assert {name: measured[key][name] for name in expected} == pytest.approx(expected, abs=ROUNDING)
        assert measured[key]["training_flops"] == sampled[key]["training_flops"]
    assert any(measured[key][RECALL] != sampled[key][RECALL] for key in by_hand)


@pytest.mark.parametrize("name", [RECALL, "accuracy"])
def test_a_pick_is_the_best_of_all_validation_users(
    finalized: Finalized, by_hand: dict[str, dict[str, float]], name: str
) -> None:
    best = max(figures[name] for figures in by_hand.values())
    assert by_hand[finalized.chosen[name]][name] == pytest.approx(best, abs=ROUNDING)
    for entry in finalized.report["picks"]:
        assert entry["validation"][name] == pytest.approx(by_hand[entry["member"]][name], abs=ROUNDING)


def test_the_default_picks_are_the_best_of_each_objective_and_the_knee(finalized: Finalized) -> None:
    assert list(finalized.chosen) == ["accuracy", RECALL, "diversity", "cost", "knee"]
    with RunDirectory.open(finalized.path, read_only=True) as run:
        flops = {member.key: (member.metrics or {})["training_flops"] for member in run.members()}
    assert flops[finalized.chosen["cost"]] == min(flops.values())


def test_picks_use_metrics_of_all_validation_users(finalized: Finalized, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunDirectory.open(finalized.path, read_only=True) as run:
        honest = run.members()
        turned = [
            replace(member, metrics={**(member.metrics or {}), RECALL: -by, "accuracy": -by})
            for by, member in enumerate(sorted(honest, key=lambda one: one.key in finalized.chosen.values()))
        ]
        monkeypatch.setattr(RunDirectory, "members", lambda _: turned)
        measured = measure_archive(run, finalized.problem)
    chosen = choose(measured, finalized.problem, finalized.problem.config.finalize)
    assert chosen == finalized.chosen


def final_steps(trainings: tuple[Training, ...], seed: int) -> dict[ModelSpec, int]:
    """How far each spec was trained with a seed."""
    found: dict[ModelSpec, int] = {}
    for training in trainings:
        if training.seed == seed:
            found |= {spec: max(training.steps, found.get(spec, 0)) for spec in training.specs}
    return found


def test_every_pick_is_trained_to_its_own_steps_with_every_seed(finalized: Finalized) -> None:
    expected = {ModelSpec.from_genes(entry["spec"]): entry["steps"] for entry in finalized.report["picks"]}
    assert len(set(expected.values())) > 1, "the test needs members that stop at different steps"
    for seed in finalized.report["seeds"]:
        assert final_steps(finalized.trainings, seed) == expected


def test_the_steps_are_those_that_validation_chose(finalized: Finalized) -> None:
    problem = finalized.problem
    specs = {entry["member"]: ModelSpec.from_genes(entry["spec"]) for entry in finalized.report["picks"]}
    chosen = choose_steps(on_validation(problem), specs, problem.config.finalize)
    for entry in finalized.report["picks"]:
        expected = {"steps": chosen[entry["member"]].steps, **chosen[entry["member"]].as_json()}
        assert {name: entry[name] for name in expected} == expected
        assert entry["steps"] in entry["curve"]["steps"]


def test_final_seeds_are_fresh_and_of_the_requested_number(finalized: Finalized) -> None:
    seeds, own = finalized.report["seeds"], finalized.problem.config.search.seed
    assert len(set(seeds)) == len(seeds) == finalized.problem.config.finalize.seeds == 2
    assert own not in seeds
    assert {training.seed for training in finalized.trainings} == {*seeds, own}, "its own to choose the steps"


@pytest.fixture(scope="module")
def tested(finalized: Finalized) -> dict[str, list[tuple[dict[str, float], list[float]]]]:
    """Test AUC by task and recall by user, for every member and seed: trained alone, measured by slow loops."""
    relevant = positives(finalized.problem, "test")
    found: dict[str, list[tuple[dict[str, float], list[float]]]] = {}
    for seed in finalized.report["seeds"]:
        for entry in finalized.report["picks"]:
            if len(found.setdefault(entry["member"], [])) == finalized.report["seeds"].index(seed):
                fit = final_fit(finalized.problem, seed, entry["steps"])
                population = alone(fit, entry["spec"])
                aucs = task_aucs(finalized.problem, fit.data, population, "test")
                found[entry["member"]].append((aucs, recalls(recommended(fit.data, population), relevant)))
    return found


def test_the_test_figures_are_those_of_an_independent_training(
    finalized: Finalized, tested: dict[str, list[tuple[dict[str, float], list[float]]]]
) -> None:
    for entry in finalized.report["picks"]:
        per_seed: list[dict[str, float]] = [
            {f"auc/{task}": auc for task, auc in aucs.items()}
            | {"accuracy": float(np.mean(list(aucs.values()))), RECALL: float(np.mean(per_user))}
            for aucs, per_user in tested[entry["member"]]
        ]
        for name in per_seed[0]:
            one, two = (figures[name] for figures in per_seed)
            assert entry["shipped"][name] == pytest.approx(one, abs=ROUNDING)
            assert entry["test"][name]["mean"] == pytest.approx((one + two) / 2, abs=ROUNDING)
            # of two values the standard deviation (n - 1) is |a - b| / sqrt 2
            assert entry["test"][name]["sd"] == pytest.approx(abs(one - two) / 2**0.5, abs=ROUNDING)


def test_the_rows_of_the_report_are_those_of_the_split(finalized: Finalized) -> None:
    parts = split(finalized.problem.tables, finalized.problem.config.split)
    rows = finalized.report["rows"]
    assert rows["train"] == len(parts.train) + len(parts.validation)
    assert rows["test"] == len(parts.test)
    assert rows["ranking_users"] == len(positives(finalized.problem, "test"))


def slow_popularity(problem: RecProblem) -> dict[Any, list[tuple[Any, float]]]:
    """Items by the number of users who clicked them in train + validation, without those that the user has met."""
    parts = split(problem.tables, problem.config.split)
    log = problem.tables.interactions[np.concatenate([parts.train, parts.validation])]
    clicked: dict[Any, set[Any]] = {}
    met: dict[Any, set[Any]] = {}
    for user, item, click in log.select(Columns.USER, Columns.ITEM, "click").iter_rows():
        met.setdefault(user, set()).add(item)
        if click:
            clicked.setdefault(item, set()).add(user)
    assert problem.tables.items is not None
    order = sorted(problem.tables.items[Columns.ITEM], key=lambda item: (-len(clicked.get(item, ())), item))
    return {user: [(item, 0.0) for item in order if item not in met[user]] for user in met}


def test_the_intervals_are_those_of_the_paired_bootstrap_over_users(
    finalized: Finalized, tested: dict[str, list[tuple[dict[str, float], list[float]]]]
) -> None:
    problem, report = finalized.problem, finalized.report
    fit = final_fit(problem, report["seeds"][0], 1)
    chosen = problem.data.baselines.settings  # on validation
    fit = fit.with_settings(chosen)
    baselines = {name: found.per_user[RECALL] for name, found in fit.baselines.measured.items()}
    popular = recalls(slow_popularity(problem), positives(problem, "test"))
    np.testing.assert_allclose(baselines["popularity"], popular, rtol=0, atol=ROUNDING)
    assert baselines.keys() == {"popularity", "recent_popularity", "item_knn", "ease", "fading_knn"}
    assert report["baselines"].keys() == {*baselines, "gradient_boosting"}
    for entry in report["picks"]:
        _, shipped = tested[entry["member"]][0]
        for name, against in entry["against"].items():
            interval = paired_bootstrap(
                np.array(shipped), baselines[name], seed=report["seeds"][0], resamples=problem.config.finalize.bootstrap
            )
            figures = {key: value for key, value in against.items() if key not in ("metric", "settings")}
            assert against["metric"] == RECALL
            assert against["settings"] == chosen.get(name, {})
            assert figures == pytest.approx(vars(interval), abs=ROUNDING)
            assert report["baselines"][name][RECALL] == pytest.approx(baselines[name].mean(), abs=ROUNDING)


def test_a_second_call_shows_the_stored_report_and_trains_nothing(
    finalized: Finalized, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StackTrainer, "train", refuse)
    monkeypatch.setattr("evorec.recommender.dataset.encode", refuse)  # nor is the test encoded
    before = (finalized.path / "final.json").read_bytes()
    said: list[str] = []
    with RunDirectory.open(finalized.path) as run:
        again = finalize(run, finalized.problem, finalized.problem.config.finalize, progress=said.append)
    assert again == finalized.report
    assert (finalized.path / "final.json").read_bytes() == before
    assert said[-1] == "the test was opened before; showing its report"


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"picks": ("knee",)}, r"knee \(.{8}\) with 2 seeds"),
        ({"seeds": 3}, r"accuracy \(.{8}\), .*knee \(.{8}\) with 3 seeds"),
        ({"seeds": 1}, r"accuracy \(.{8}\), .*knee \(.{8}\) with 1 seed and "),
    ],
)
def test_other_picks_after_the_test_are_refused(
    finalized: Finalized, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], asked: str
) -> None:
    monkeypatch.setattr(StackTrainer, "train", refuse)
    before = (finalized.path / "final.json").read_bytes()
    words = rf"was opened on 20.* for accuracy .* with 2 seeds and .*, this call asks for {asked}.*second validation"
    with RunDirectory.open(finalized.path) as run, pytest.raises(RunError, match=words):
        finalize(run, finalized.problem, FinalizeConfig(**{"seeds": 2, "bootstrap": 200, **change}))
    assert (finalized.path / "final.json").read_bytes() == before


def test_other_steps_after_the_test_are_refused(finalized: Finalized) -> None:
    words = (
        r"2 seeds and finalize\.steps = validation, finalize\.patience = 3, finalize\.longest = 3\.0, this call asks "
        r"for .* with 2 seeds and finalize\.steps = search; .*`evorec report .*` shows its result"
    )
    settings = finalized.problem.config.finalize
    with RunDirectory.open(finalized.path) as run:
        with pytest.raises(RunError, match=words):
            finalize(run, finalized.problem, settings.model_copy(update={"steps": "search"}))
        with pytest.raises(RunError, match=r"this call asks for .*finalize\.patience = 4"):
            finalize(run, finalized.problem, settings.model_copy(update={"patience": 4}))
        same = settings.model_copy(update={"bootstrap": 100, "boosting": False})
        assert finalize(run, finalized.problem, same) == finalized.report, "what trains nothing else is no other asking"


def test_a_deleted_report_does_not_open_the_test_for_other_picks(
    finalized: Finalized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finalized.path, tmp_path / "run")
    (tmp_path / "run" / "final.json").unlink()
    settings, said = finalized.problem.config.finalize, list[str]()
    with RunDirectory.open(tmp_path / "run") as run:
        assert run.opened is not None
        with pytest.raises(RunError, match="cannot be extended: its test was opened"):
            run.check_extensible()
        with monkeypatch.context() as patched:
            patched.setattr(StackTrainer, "train", refuse)
            with pytest.raises(RunError, match=r"was opened on 20.* this call asks for diversity .*second validation"):
                finalize(run, finalized.problem, settings.model_copy(update={"picks": ("diversity",)}))
            patched.setattr("evorec.outputs.free_gib", lambda folder: 0.1)
            with pytest.raises(Interruption, match=r"finalize writes about .*\(run.min_free_gib\).* has 0.1 GiB free"):
                finalize(run, finalized.problem, settings)
        again = finalize(run, finalized.problem, settings, progress=said.append)
    assert "the test was opened before and its report was deleted; measuring the same members again" in said
    assert again["picks"] == finalized.report["picks"]


def test_a_report_without_settings_counts_as_trained_for_the_steps_of_the_search(
    finalized: Finalized, tmp_path: Path
) -> None:
    shutil.copytree(finalized.path, tmp_path / "run")
    old = {name: value for name, value in finalized.report.items() if name != "settings"}
    (tmp_path / "run" / "final.json").write_bytes(sealed_bytes(old))
    settings = finalized.problem.config.finalize
    with RunDirectory.open(tmp_path / "run") as run:
        assert finalize(run, finalized.problem, settings.model_copy(update={"steps": "search"})) == old
        with pytest.raises(RunError, match=r"and finalize\.steps = search, this call asks for"):
            finalize(run, finalized.problem, settings)


@pytest.mark.parametrize(
    ("picks", "message"),
    [
        (("zzz",), r"finalize\.picks: 'zzz' is not a metric"),
        (("0123456789",), r"no member begins with '0123456789'; there are .*all means every member"),
        (("",), r"finalize\.picks: pick must read METRIC"),
        (("accuracy", "sparsity"), "sparsity is measured only where it is an objective or a constraint"),
    ],
)
def test_a_pick_that_means_nothing_is_refused_before_anything_is_measured(
    searched_run: tuple[RecProblem, Path], monkeypatch: pytest.MonkeyPatch, picks: tuple[str, ...], message: str
) -> None:
    problem, path = searched_run
    monkeypatch.setattr("evorec.deploy.final.finalize.measure_archive", refuse)
    with RunDirectory.open(path) as run, pytest.raises(ConfigError, match=message):
        finalize(run, problem, FinalizeConfig(picks=picks))


def test_a_pick_that_no_member_meets_is_refused_before_the_test_is_opened(
    searched_run: tuple[RecProblem, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, source = searched_run
    shutil.copytree(source, tmp_path / "run")
    monkeypatch.setattr("evorec.recommender.dataset.encode", refuse)
    with (
        RunDirectory.open(tmp_path / "run") as run,
        pytest.raises(ConfigError, match="recall@k >= 2 is reached by no member; the highest recall@5 is"),
    ):
        finalize(run, problem, FinalizeConfig(picks=("accuracy where recall@k >= 2",)))
    assert not (tmp_path / "run" / "final.json").exists()


def test_picks_are_made_among_the_confirmed_members_by_their_means(
    searched_run: tuple[RecProblem, Path], tmp_path: Path
) -> None:
    problem, source = searched_run
    path = tmp_path / "run"
    shutil.copytree(source, path)
    with RunDirectory.open(path) as run:
        members = {member.key: dict(member.metrics or {}) for member in run.members()}
        lucky, winner, *rest = sorted(members, key=lambda key: -members[key]["accuracy"])
        good = {name: max(found[name] for found in members.values()) for name in members[lucky]}
        fresh = {key: members[key] for key in rest}
        fresh[winner] = {**good, "training_flops": 1.0}  # dominates all others
        fresh[lucky] = {**members[lucky], "accuracy": 0.0}
        run.add_fresh(0, 99, {key: {"metrics": found, "failure": None} for key, found in fresh.items()})
        notes: list[str] = []
        settings = FinalizeConfig(
            seeds=1, bootstrap=100, steps="search", boosting=False, picks=("accuracy", "all", lucky[:9])
        )
        report = finalize(run, problem, settings, progress=notes.append)
        with pytest.raises(RunError, match="was opened, so its members are chosen"):
            confirm(run, problem)
    chosen = {entry["pick"]: entry["member"] for entry in report["picks"]}
    assert chosen == {"accuracy": winner, winner: winner, lucky: lucky}  # a key is followed all the same
    assert report["confirmed"] == {"seeds": 1, "members": 1, "of": len(members)}
    assert f"choosing among the 1 of {len(members)} members that are confirmed with 1 fresh seed" in notes
    record = read_record(path)
    (about, *_) = (about for _, about in final_sections(record))
    assert f"among the 1 of {len(members)} members that are confirmed with 1 fresh seed, trained" in about
    assert find_member(record, "best:accuracy,cost<=1e30") == winner
    assert find_member(record, lucky[:9]) == lucky


def test_picks_of_the_same_member_share_a_training_and_the_report_is_reproducible(
    finalized: Finalized, searched_run: tuple[RecProblem, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, source = searched_run
    trainings: list[int] = []

    def watched(self: StackTrainer, specs: Any, **options: Any) -> TrainingResult:
        if self.seed != problem.config.search.seed:  # which chooses the steps
            trainings.append(len(specs))
        return train_of(self, specs, **options)

    train_of = StackTrainer.train
    monkeypatch.setattr(StackTrainer, "train", watched)
    reports = []
    picks = FinalizeConfig(
        seeds=1, bootstrap=200, picks=(RECALL, "best:recall", f"{RECALL} where accuracy >= 0", "recall,accuracy>=0")
    )
    for name in ("one", "two"):
        shutil.copytree(source, tmp_path / name)
        with RunDirectory.open(tmp_path / name) as run:
            reports.append(finalize(run, problem, picks))
    assert trainings == [1, 1]
    assert {entry["member"] for entry in reports[0]["picks"]} == {finalized.chosen[RECALL]}
    assert [entry["test"][RECALL]["sd"] for entry in reports[0]["picks"]] == [0.0] * 4
    one, two = ({name: value for name, value in report.items() if name != OPENED} for report in reports)
    assert one == two
    first = next(entry for entry in finalized.report["picks"] if entry["member"] == finalized.chosen[RECALL])
    assert reports[0]["picks"][0]["shipped"] == first["shipped"], "in other company and among fewer seeds"


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="this processor does not compute in bfloat16")
def test_a_run_in_bfloat16_with_rungs_is_finalized_in_float32_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = config(training={"precision": "bfloat16", "rungs": [2]}, finalize={"seeds": 1, "bootstrap": 200})
    problem, path = searched(tmp_path / "runs", low)
    used: list[tuple[torch.dtype, int | None]] = []

    def watched(*arguments: Any, activations: torch.dtype, last: int | None, **options: Any) -> TrainingResult:
        used.append((activations, last))
        return train(*arguments, activations=activations, last=last, **options)

    monkeypatch.setattr("evorec.recommender.trainers.train", watched)
    with RunDirectory.open(path) as run:
        assert any(row.dropped for row in run.ledger.evaluations())
        report = finalize(run, problem, low.finalize)
    assert {precision for precision, _ in used} == {torch.float32}
    for entry in report["picks"]:
        float32 = config(training={"steps": entry["steps"]})
        fit = StackTrainer.of(problem.tables, float32, fit="train+validation", seed=report["seeds"][0], at_most=None)
        again = alone(fit, entry["spec"]).member_arrays(0)
        stored = load_file(path / "final" / entry["member"] / "weights.safetensors")
        assert stored.keys() == again.keys()
        for name, array in again.items():
            np.testing.assert_array_equal(stored[name], array, err_msg=name)
            assert stored[name].dtype == np.float32


@pytest.mark.parametrize(
    ("precision", "expected"), [("auto", "float32"), ("bfloat16", "float32"), ("float64", "float64")]
)
def test_the_final_training_is_exact(precision: str, expected: str) -> None:
    settings = config(training={"precision": precision})
    assert exact(settings) == config(training={"precision": expected})


def poisoned(tables: Tables) -> Tables:
    """The same log with test rows of other users, items and hours, and every label turned; later in time."""
    rows = split(tables, config().split).test
    is_test = pl.Series(np.isin(np.arange(tables.n_rows), rows))
    lies = {
        Columns.USER: (pl.col(Columns.USER) + 1) % tables.interactions[Columns.USER].n_unique(),
        Columns.ITEM: (pl.col(Columns.ITEM) + 1) % tables.interactions[Columns.ITEM].n_unique(),
        Columns.TIME: pl.col(Columns.TIME) + 1_000_000,
        "hour": (pl.col("hour") + 31).cast(tables.interactions.schema["hour"]),
        **{task: 1 - pl.col(task) for task in tables.tasks},
    }
    changed = [pl.when(is_test).then(lie).otherwise(pl.col(name)).alias(name) for name, lie in lies.items()]
    return tables.with_interactions(tables.interactions.with_columns(changed))


def timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, "metrics": {n: v for n, v in record["metrics"].items() if n != "train_seconds"}}


def left_behind(path: Path, problem: RecProblem) -> dict[str, Any]:
    """All that a search found and that `choose` would decide, without times."""
    with RunDirectory.open(path, read_only=True) as run:
        rows = [timeless(vars(evaluation)) | {"seconds": 0.0} for evaluation in run.ledger.evaluations()]
        validation = {key: timeless({"metrics": found}) for key, found in measure_archive(run, problem).items()}
    members = {f.parent.name: timeless(json.loads(f.read_text())) for f in path.glob("archive/*/member.json")}
    weights = {f.parent.name: f.read_bytes() for f in path.glob("archive/*/weights.safetensors")}
    known = {name: json.loads((path / name).read_text()) for name in ("problem.json", "summary.json")}
    for name in ("sha256", "data_sha256"):  # the hash of the data covers the test rows, too
        known["problem.json"].pop(name)
    return {"rows": rows, "validation": validation, "members": members, "weights": weights, **known}


def test_the_search_and_the_choice_never_look_at_the_test(tmp_path: Path) -> None:
    # labels of the test are checked before a search, and turned labels break a funnel
    problem, path = searched(tmp_path / "honest", config(tasks={"funnel": []}, search={"generations": 1}))
    tables = poisoned(simulate(problem.config.data.simulator))
    other, other_path = searched(tmp_path, problem.config, tables=tables)
    assert left_behind(other_path, other) == left_behind(path, problem)
    assert other_path.name != path.name, "they are other data all the same"
    honest, lies = (one.tables.interactions for one in (problem, other))
    parts, same = (split(one.tables, problem.config.split) for one in (problem, other))
    np.testing.assert_array_equal(same.test, parts.test)
    assert (lies[parts.test] != honest[parts.test]).to_numpy().all()


def test_a_feature_that_is_constant_only_in_training_is_accepted(tmp_path: Path) -> None:
    tables = simulate(config().data.simulator)
    first = tables.interactions[split(tables, config().split).validation][Columns.TIME].min()
    late = pl.when(pl.col(Columns.TIME) >= first).then(pl.col(Columns.ITEM) % 3).otherwise(0).alias("segment")
    context = (*tables.context, Feature("segment", "categorical"))
    tables = replace(tables, interactions=tables.interactions.with_columns(late), context=context)
    switches = {"use_user_segment": False, "use_context_segment": False}
    settings = config(space=switches, finalize={"seeds": 1, "bootstrap": 200, "picks": ["knee"]})
    problem, path = searched(tmp_path, settings, tables=tables)
    assert "use_context_segment" not in problem.space.names, "there is nothing to switch in training"
    with RunDirectory.open(path) as run:
        report = finalize(run, problem, settings.finalize)
        export_bundle(run, problem, report["picks"][0]["member"], tmp_path / "bundle")
    assert load_bundle(tmp_path / "bundle").recommend([0])
    assert report["picks"][0]["spec"]["use_user_segment"] is False


def test_with_the_steps_of_the_search_nothing_is_chosen(
    searched_run: tuple[RecProblem, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, source = searched_run
    shutil.copytree(source, tmp_path / "run")
    monkeypatch.setattr("evorec.deploy.final.finalize.choose_steps", refuse)
    settings = FinalizeConfig(seeds=1, bootstrap=100, picks=("knee",), steps="search", boosting=False)
    with RunDirectory.open(tmp_path / "run") as run:
        report = finalize(run, problem, settings)
    (entry,) = report["picks"]
    assert entry["steps"] == problem.config.training.steps == 5
    assert "curve" not in entry
    assert report["settings"] == {"steps": "search"}
    assert "gradient_boosting" not in report["baselines"]
    assert report["skipped_baselines"] == {"gradient_boosting": "finalize.boosting is false"}
    assert (tmp_path / "run" / "final" / entry["member"] / "weights.safetensors").exists()
    assert report["proxies"]["of"] == {}
    assert set(report["proxies"]["left_out"].values()) == {"needs 3 or more members, got 1"}


@pytest.fixture(scope="module")
def of_all(searched_run: tuple[RecProblem, Path], tmp_path_factory: pytest.TempPathFactory) -> Finalized:
    """Every member, and one of them by the beginning of its key, with one seed."""
    problem, source = searched_run
    path = tmp_path_factory.mktemp("all") / "run"
    shutil.copytree(source, path)
    with RunDirectory.open(path) as run:
        start = run.members()[-1].key[:9]
        settings = FinalizeConfig(seeds=1, bootstrap=100, picks=(start, "all"), longest=1.0, patience=1)
        report = finalize(run, problem, settings)
    return Finalized(problem, path, report, ())


def test_all_is_every_member_by_its_key(of_all: Finalized) -> None:
    with RunDirectory.open(of_all.path, read_only=True) as run:
        keys = [member.key for member in run.members()]
    assert of_all.chosen == {key: key for key in [keys[-1], *keys[:-1]]}
    assert max(entry["steps"] for entry in of_all.report["picks"]) <= 5


def test_the_command_accepts_repeated_picks_and_keys(
    searched_run: tuple[RecProblem, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, source = searched_run
    path = tmp_path / "run"
    shutil.copytree(source, path)
    with RunDirectory.open(path, read_only=True) as run:
        key = run.members()[0].key
    settings = [part for text in ("seeds=1", "steps=search", "bootstrap=100") for part in ("--set", f"finalize.{text}")]
    picks = ["--pick", "best:recall,cost<=1e30", "--pick", key[:10]]
    assert main(["finalize", str(path), "-q", "--format", "json", *settings, *picks]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [entry["pick"] for entry in report["picks"]] == ["best:recall,cost<=1e30", key]
    assert main(["finalize", str(path), "-q", *settings, *picks]) == 0
    out = capsys.readouterr().out
    assert "gradient_boosting" in out
    assert "No rank correlation with the search of accuracy" in out
    assert main(["finalize", str(path), "-q", *settings, "--pick", "nonsense"]) == ConfigError.exit_code
    assert "finalize.picks: 'nonsense' is not a metric" in capsys.readouterr().err


def test_dominated_picks_are_marked_by_their_test_metrics(of_all: Finalized) -> None:
    signs = {"accuracy": -1, RECALL: -1, "intra_list_distance@5": -1, "training_flops": 1}
    rows = {
        entry["member"]: [sign * entry["test"][name]["mean"] for name, sign in signs.items()]
        for entry in of_all.report["picks"]
    }
    for entry in of_all.report["picks"]:
        own = rows[entry["member"]]
        better = [r for r in rows.values() if all(a <= b for a, b in zip(r, own, strict=True)) and r != own]
        assert entry["non_dominated"] is (not better)
    assert of_all.report["dominance"] == {"objectives": list(signs), "left_out": []}


def test_the_rank_correlation_is_of_the_search_s_own_figures(of_all: Finalized) -> None:
    with RunDirectory.open(of_all.path, read_only=True) as run:
        sampled = {member.key: member.metrics or {} for member in run.members()}
    found = of_all.report["proxies"]
    assert found["n"] == len(sampled) >= 3
    for name, told in found["of"].items():
        pairs = [(sampled[e["member"]][name], e["test"][name]["mean"]) for e in of_all.report["picks"]]
        a, b = (pl.Series([pair[side] for pair in pairs]).rank() for side in (0, 1))
        assert told["spearman"] == pytest.approx(float(np.corrcoef(a, b)[0, 1]), abs=ROUNDING)
    assert {"accuracy", "training_flops"} <= found["of"].keys()


def test_the_cost_of_a_pick_is_that_of_its_own_steps(finalized: Finalized) -> None:
    for entry in finalized.report["picks"]:
        spec = ModelSpec.from_genes(entry["spec"])
        per_step = [finalized.problem.trainer.cost(spec, steps=n)["training_flops"] for n in (1, 2)]
        assert entry["test"]["training_flops"]["sd"] == 0.0
        ratio = entry["test"]["training_flops"]["mean"] / (per_step[1] - per_step[0])
        assert ratio == pytest.approx(entry["steps"], rel=COMPANY_OF_ROWS)


COMPANY_OF_ROWS = 0.1  # batches of train + validation hold a few rows more or less than those of train


def test_intervals_contain_their_metric_and_parts_add_up(
    finalized: Finalized, tested: dict[str, list[tuple[dict[str, float], list[float]]]]
) -> None:
    rows = finalized.report["rows"]
    for entry in finalized.report["picks"]:
        aucs, per_user = tested[entry["member"]][0]
        expected = {f"auc/{task}": auc for task, auc in aucs.items()} | {RECALL: np.mean(per_user)}
        for name, value in expected.items():
            assert entry["interval"][name]["low"] < value < entry["interval"][name]["high"]
        assert entry["interval"][RECALL]["n"] == rows["ranking_users"]
        parts = entry["parts"]
        n_new = parts["rows"]["new_users"]["rows"], parts["rows"]["new_items"]["rows"]
        assert n_new == (rows["n_cold_user_rows"], rows["n_cold_item_rows"])
        assert parts["rows"]["known"]["rows"] == rows["test"] - sum(n_new), "the simulator has no row that is both"
        users = parts["users"].values()
        total = sum(part["users"] * part[RECALL] for part in users if part["users"])
        assert sum(part["users"] for part in users) == len(per_user)
        assert total == pytest.approx(sum(per_user), abs=ROUNDING * len(per_user))


def test_gradient_boosting_is_scored_on_the_rows_of_the_test(finalized: Finalized) -> None:
    report, parts = finalized.report, split(finalized.problem.tables, finalized.problem.config.split)
    found = report["baselines"]["gradient_boosting"]
    tasks = finalized.problem.config.tasks.ranked
    assert found.keys() == {"accuracy", *(f"auc/{task}" for task in tasks)}
    for task in tasks:
        assert report["boosting"][task]["rows"] == len(parts.train) + len(parts.validation)
    known = report["baseline_parts"]["gradient_boosting"]["rows"]["known"]
    if known["rows"] == len(parts.test):
        assert {name: known[name] for name in found} == pytest.approx(found, abs=ROUNDING)


def test_the_report_is_json_without_a_number_that_is_none(finalized: Finalized, of_all: Finalized) -> None:
    for report in (finalized.report, of_all.report):
        assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_shipped_members_are_trained_on_all_rows_after_the_test(
    searched_run: tuple[RecProblem, Path], of_all: Finalized, tmp_path: Path
) -> None:
    problem, source = searched_run
    with RunDirectory.open(source) as run, pytest.raises(RunError, match="was not opened yet: `evorec finalize"):
        train_on_all_data(run, problem)
    path = tmp_path / "run"
    shutil.copytree(of_all.path, path)
    with RunDirectory.open(path) as run:
        found = train_on_all_data(run, problem)
        assert train_on_all_data(run, problem) == found == run.read_all_data()
        assert run.read_final() == of_all.report, "the test is as it was"
        assert found["rows"] == problem.tables.n_rows
        assert found["steps"] == {entry["member"]: entry["steps"] for entry in of_all.report["picks"]}
        entry = of_all.report["picks"][0]
        parts = split(problem.tables, problem.config.split)
        rows = np.sort(np.concatenate([parts.train, parts.validation, parts.test]))
        whole = Split(rows[:-1], rows[-1:], parts.test)  # as a person would make it: train + validation is everything
        training = problem.config.training.model_copy(update={"steps": entry["steps"]})
        settings = problem.config.model_copy(update={"training": training})
        data = encode_data(problem.tables, settings, fit="train+validation", seed=0, at_most=1, parts=whole)
        expected = alone(StackTrainer(data, of_all.report["seeds"][0], entry["steps"]), entry["spec"]).member_arrays(0)
        stored = run.read_all_data_weights(entry["member"])
        assert stored.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(stored[name], array, err_msg=name)
        with pytest.raises(RunError, match="has no model of member 0000"):
            run.read_all_data_weights("0" * 16)
        run.check()
    weights = path / "all-data" / entry["member"] / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"7")
    with RunDirectory.open(path, read_only=True) as run, pytest.raises(RunError, match="all-data` again"):
        run.check()


def test_the_command_warns_before_the_test_is_opened_and_trains_on_all_data_after_it(
    searched_run: tuple[RecProblem, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, bundle = tmp_path / "run", tmp_path / "bundle"
    shutil.copytree(searched_run[1], path)
    settings = [part for text in ("seeds=1", "steps=search", "bootstrap=100") for part in ("--set", f"finalize.{text}")]
    assert main(["finalize", str(path), "--pick", "knee", *settings]) == 0
    assert "--pick all measures every member of the front" in capsys.readouterr().err
    assert main(["export", str(path), "knee", "--out", str(bundle), "--on", "all-data"]) == RunError.exit_code
    assert "`evorec finalize" in capsys.readouterr().err
    assert main(["finalize", str(path), "--on", "all-data"]) == 0
    assert main(["export", str(path), "knee", "--out", str(bundle), "--on", "all-data"]) == 0
    card = (bundle / "README.md").read_text()
    assert f"Trained on {searched_run[0].tables.n_rows:,} rows (train+validation+test)" in card
    assert "Nothing measures this model itself" in card
    assert load_bundle(bundle).recommend([0])
