"""Formulas evolved on cached head outputs, and what a run keeps of them."""

from __future__ import annotations

import json
import math
import random
import shutil
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feed_run import config, searched
from sklearn.metrics import ndcg_score

from evorec.cli import main
from evorec.config import FuseConfig
from evorec.data.dataset import Csr
from evorec.deploy.fusion.evolution import Evolution, best_of_front
from evorec.deploy.fusion.formula import NUMPY, Formula, member_formula
from evorec.deploy.fusion.fuse import fuse, user_halves
from evorec.deploy.fusion.head_outputs import HeadOutputs, head_outputs
from evorec.deploy.fusion.languages import WeightedLanguage
from evorec.deploy.fusion.pick import pick_formula
from evorec.deploy.fusion.scorer import FormulaScorer, fusion_objectives
from evorec.deploy.fusion.trees import TreeLanguage
from evorec.errors import ConfigError, RunError
from evorec.models.spec import ModelSpec
from evorec.objectives import Objective
from evorec.recommender.problem import RecProblem
from evorec.run.atomic import read_sealed, sealed_bytes
from evorec.run.directory import RunDirectory
from evorec.training.evaluate import member_lists, task_logits

ROUNDING = 1e-12  # a mean over users, added up in another order
FLOAT32 = 1e-4  # logits of two float32 programs that add in another order
SMALL = FuseConfig(population=8, generations=3, tuning=12, keep=6, seed=1)
TASKS, K = ("click", "like"), 4


@pytest.fixture(scope="module")
def searched_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecProblem, Path]:
    """A tiny search, all of whose members re-rank."""
    return searched(tmp_path_factory.mktemp("runs"), config(space={"rerank": True}))


@pytest.fixture
def run(searched_run: tuple[RecProblem, Path], tmp_path: Path) -> Path:
    """A copy of its folder."""
    return Path(shutil.copytree(searched_run[1], tmp_path / searched_run[1].name))


def first_member(path: Path) -> tuple[str, ModelSpec, dict[str, Any]]:
    with RunDirectory.open(path, read_only=True) as opened:
        found = opened.members()[0]
        return found.key, ModelSpec.from_genes(found.spec), opened.read_weights(found.key)


def made_up(*, content: bool = True, n_users: int = 40, n_items: int = 30, seed: int = 0) -> FormulaScorer:
    """Outputs in which likes follow another head than clicks, and both follow some of the truth."""
    rng = np.random.default_rng(seed)
    items = np.sort(np.stack([rng.permutation(n_items)[:12] for _ in range(n_users)]), axis=1)
    logits = rng.normal(size=(2, n_users, 12)).astype(np.float32)
    retrieval = rng.normal(size=(n_users, 12)).astype(np.float32)
    outputs = HeadOutputs(items, retrieval, logits, TASKS, (True, True))
    noisy = [0.5 * retrieval + logit + rng.normal(size=retrieval.shape) for logit in logits]
    clicked, liked = (np.take_along_axis(items, np.argsort(-own, axis=1)[:, :2], axis=1) for own in noisy)
    users = np.repeat(np.arange(n_users), 2)
    vectors = rng.normal(size=(n_items + 1, 3 if content else 0))
    return FormulaScorer(
        outputs,
        target=Csr.from_pairs(users, clicked.ravel(), n_rows=n_users),
        others={"like": Csr.from_pairs(users[10:], liked.ravel()[10:], n_rows=n_users)},
        content=(vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if content else vectors).astype(np.float32),
        n_items=n_items,
        k=K,
    )


def languages() -> tuple[WeightedLanguage, WeightedLanguage, TreeLanguage]:
    total, product = (WeightedLanguage(kind, TASKS, (True, True), (1, -1)) for kind in ("sum", "product"))
    seeds = [own.formula(genome) for own in (total, product) for genome in own.seeds()]
    return total, product, TreeLanguage(TASKS, (True, True), max_size=15, seeds=seeds, starters=(total, product))


# --- cached outputs


def test_the_members_own_formula_makes_the_members_own_lists(searched_run: tuple[RecProblem, Path]) -> None:
    problem, path = searched_run
    _, spec, weights = first_member(path)
    encoded = problem.data.with_all_users()
    outputs = head_outputs(encoded, spec, weights, encoded.users)
    own = member_formula(spec, encoded.dataset.tasks, encoded.dataset.signs)
    scorer = FormulaScorer(
        outputs,
        target=encoded.users.relevant,
        others={},
        content=encoded.dataset.distance_content,
        n_items=encoded.dataset.n_items,
        k=5,
    )
    stack = encoded.stack([spec], [weights])
    lists = member_lists(stack, encoded.dataset, encoded.tensors, encoded.users, encoded.config.evaluation)
    positions = scorer.positions(own, 0.0)
    assert "z_click" in own.names
    assert scorer.lists(positions).tolist() == lists.final[0].tolist()
    measured = encoded.measure(stack)[0]
    for metric, value in scorer.metrics(positions).items():
        assert value == pytest.approx(measured.metrics[metric], rel=ROUNDING)  # type: ignore[union-attr]
    retrieved = scorer.lists(scorer.positions(Formula.parse("retrieval", ()), 0.0))
    assert retrieved.tolist() == lists.retrieved[0][:, :5].tolist()


def test_cached_logits_are_those_of_single_rows(searched_run: tuple[RecProblem, Path]) -> None:
    problem, path = searched_run
    _, spec, weights = first_member(path)
    encoded = problem.data.with_all_users()
    outputs, dataset = head_outputs(encoded, spec, weights, encoded.users), encoded.dataset
    places, columns = np.nonzero(outputs.items >= 0)
    users, items = encoded.users.ids[places], outputs.items[places, columns]
    part = dataset.held_out
    rows = type(part)(
        users=users,
        items=items,
        context=np.tile(dataset.context_mode, (len(users), 1)),
        labels=np.zeros((len(users), dataset.n_tasks), dtype=np.float32),
        statistics=np.hstack([dataset.user_statistics[users], dataset.item_statistics[items]]),
        target=np.zeros(len(users), dtype=np.float32),
        time=np.zeros(len(users), dtype=np.int64),
    )
    expected = task_logits(encoded.stack([spec], [weights]), encoded.tensors, rows)[0]
    np.testing.assert_allclose(outputs.logits[:, places, columns], expected, rtol=FLOAT32, atol=FLOAT32)
    ordered = np.where(outputs.items < 0, dataset.n_items, outputs.items)
    assert (np.diff(ordered, axis=1) >= 0).all(), "equal scores must stand by item id"


def test_the_halves_partition_the_users(searched_run: tuple[RecProblem, Path]) -> None:
    problem, path = searched_run
    _, spec, weights = first_member(path)
    found = user_halves(problem.data, spec, weights, SMALL)
    n_users = len(problem.data.with_all_users().users.ids)
    sizes = found.fitting.n_users_of(), found.validation.n_users_of()
    assert sum(sizes) == n_users
    assert abs(sizes[0] - sizes[1]) <= 1
    both = np.concatenate([half.lists(half.positions(found.own, 0.0)) for half in (found.fitting, found.validation)])
    everyone = FormulaScorer(
        found.outputs,
        target=problem.data.with_all_users().users.relevant,
        others={},
        content=problem.data.dataset.distance_content,
        n_items=problem.data.dataset.n_items,
        k=5,
    )
    whole = everyone.lists(everyone.positions(found.own, 0.0))
    assert sorted(both.tolist()) == sorted(whole.tolist())


# --- metrics


def test_metrics_equal_hand_computed_values() -> None:
    items = np.array([[0, 1, 2, -1], [1, 2, 3, 4]])
    retrieval = np.array([[1.0, 3.0, 2.0, 0.0], [1.0, 2.0, 3.0, 4.0]], dtype=np.float32)
    outputs = HeadOutputs(items, retrieval, np.zeros((1, 2, 4), np.float32), ("like",), (True,))
    scorer = FormulaScorer(
        outputs,
        target=Csr.from_pairs(np.array([0, 0, 1]), np.array([2, 4, 4]), n_rows=2),
        others={"like": Csr.from_pairs(np.array([1]), np.array([3]), n_rows=2)},
        content=np.array([[1, 0], [1, 0], [0, 1], [1, 0], [0, 1]], dtype=np.float32),
        n_items=5,
        k=2,
    )
    positions = scorer.positions(Formula.parse("retrieval", ("like",)), 0.0)
    assert scorer.lists(positions).tolist() == [[1, 2], [4, 3]]
    discount = 1 / math.log2(3)
    assert scorer.metrics(positions) == pytest.approx(
        {
            "recall@2": (1 / 2 + 1) / 2,  # user 0: item 2, and item 4 is no candidate; user 1: item 4
            "ndcg@2": (discount / (1 + discount) + 1) / 2,
            "recall@2/like": 1.0,  # user 1 alone has a like
            "ndcg@2/like": discount,
            "intra_list_distance@2": 1.0,  # items 1 and 2, 4 and 3 are orthogonal
        },
        rel=ROUNDING,
    )
    assert scorer.ideals()["ndcg@2"] == pytest.approx((1 / (1 + discount) + 1) / 2, rel=ROUNDING)
    worst_first = scorer.positions(Formula.parse("-retrieval", ("like",)), 0.0)
    assert scorer.lists(worst_first).tolist() == [[0, 2], [1, 2]], "an empty place is no candidate"


def test_ndcg_is_scikit_learns_and_re_ranking_follows_the_formula() -> None:
    scorer = made_up()
    formula = Formula.parse("retrieval + z_click", TASKS)
    found = scorer.metrics(scorer.positions(formula, 0.0))
    relevant, count = scorer._relevant[""]
    scores = formula.evaluate(scorer._values, NUMPY)
    assert (count == relevant.sum(axis=1)).all()
    assert found[f"ndcg@{K}"] == pytest.approx(ndcg_score(relevant, scores, k=K), rel=1e-6)
    diverse = scorer.metrics(scorer.positions(formula, 0.5))
    assert diverse[scorer.diversity] > found[scorer.diversity]


def test_similarities_stay_within_their_memory_and_give_the_same_lists() -> None:
    n_users, n_items, n_candidates, width = 60, 500, 80, 64
    rng = np.random.default_rng(0)
    items = np.sort(rng.random((n_users, n_items)).argsort(axis=1)[:, :n_candidates], axis=1)
    scores = rng.normal(size=(n_users, n_candidates)).astype(np.float32)
    vectors = rng.normal(size=(n_items, width))
    content = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    outputs = HeadOutputs(items, scores, scores[None], ("like",), (True,))
    target = Csr.from_pairs(np.arange(n_users), items[:, 0], n_rows=n_users)
    formula = Formula.parse("retrieval", ("like",))
    # a table of each user takes 1.54 MB, that of the catalogue 1 MB, and the vectors of a user's candidates 20 KB
    found = []
    for room in (2_000_000, 1_200_000, 100_000):
        scorer = FormulaScorer(
            outputs, target=target, others={}, content=content, n_items=n_items, k=5, similarity_bytes=room
        )
        tracemalloc.start()
        found.append(scorer.positions(formula, 0.5).tolist())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= room + 400_000, f"{peak} bytes with {room}"  # scores and indices take 8 bytes per candidate each
    assert found[0] == found[1] == found[2]


def test_the_halves_share_half_of_the_memory_of_the_run(searched_run: tuple[RecProblem, Path]) -> None:
    problem, path = searched_run
    _, spec, weights = first_member(path)
    limited = problem.data.config.run.model_copy(update={"memory_gib": 0.25})
    encoded = replace(problem.data, config=problem.data.config.model_copy(update={"run": limited}))
    halves = user_halves(encoded, spec, weights, SMALL)
    assert halves.fitting.similarity_bytes == halves.validation.similarity_bytes == 2**30 // 4 // 4


# --- evolution


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["sum", "product", "trees"])
def test_children_are_formulas_of_their_language(kind: int) -> None:
    language, rng = languages()[kind], random.Random(7)
    genomes: list[Any] = [*language.seeds(), *(language.sample(rng) for _ in range(20))]
    for _ in range(300):
        first, second = rng.choice(genomes), rng.choice(genomes)
        before = language.formula(first).text, language.formula(second).text
        children = [*language.mate(first, second, rng), language.mutate(first, rng), language.tune(second, rng)]
        assert (language.formula(first).text, language.formula(second).text) == before, "parents must not change"
        for child in children:
            formula = language.formula(child)
            assert Formula.parse(formula.text, TASKS) == formula
        genomes.append(rng.choice(children))
    if isinstance(language, TreeLanguage):
        assert max(len(genome) for genome in genomes) <= 17, "no larger than the limit, or than the seeds"
        assert len({language.formula(genome).text for genome in genomes}) > 100


def test_a_task_whose_high_values_are_bad_counts_against_an_item() -> None:
    total, product, _ = languages()
    assert total.formula((0.25, 0.0, 0.75)).text == "0.25*retrieval + -0.75*z_like"
    assert product.formula((0.0, 0.4, 0.6)).text == "p_click**0.4*p_like**-0.6"
    numbers = WeightedLanguage("product", ("click", "watch"), (True, False), ())
    assert numbers.formula((0.5, 0.25, 0.25)).text == "exp(0.5*retrieval)*p_click**0.25*exp(0.25*z_watch)"


def front_of(kind: int, *, seed: int = 0, mmr: bool = True, content: bool = True) -> list[tuple[Any, ...]]:
    scorer = made_up(content=content)
    objectives = fusion_objectives((), scorer, 15)
    evolution = Evolution(languages()[kind], scorer, objectives, mmr=mmr, seed=seed)
    front = evolution.run(12, 120, tuning=40)
    assert evolution.n_evaluated == 120
    return [(one.formula.text, one.mmr, *(one.metrics[o.metric] for o in objectives)) for one in front]


def test_an_evolution_is_reproducible_and_restores_the_global_random_state() -> None:
    random.seed(5)
    before = random.getstate()
    found = front_of(2, seed=3)
    assert random.getstate() == before
    random.seed(99)
    assert front_of(2, seed=3) == found
    assert front_of(2, seed=4) != found


def test_a_front_has_no_dominated_formula_and_no_lists_twice() -> None:
    scorer, seen = made_up(), set()
    front = front_of(2)
    sign = np.array([1, 1, 1, -1])  # ndcg of click and of like, distance; size
    points = [np.array(one[2:]) * sign for one in front]
    for one in points:
        assert not any((other >= one).all() and (other > one).any() for other in points)
    for text, mmr, *_ in front:
        seen.add(scorer.positions(Formula.parse(text, TASKS), mmr).tobytes())
    assert len(seen) == len(front)


def test_evolved_trees_lose_to_no_seed_on_the_fitting_half() -> None:
    scorer, trees = made_up(), languages()[2]
    front = [np.array(one[2:]) * np.array([1, 1, 1, -1]) for one in front_of(2)]
    for genome in trees.seeds():
        formula = trees.formula(genome)
        found = scorer.metrics(scorer.positions(formula, 0.0))
        own = np.array([found["ndcg@4"], found["ndcg@4/like"], found[scorer.diversity], -formula.size])
        assert any((one >= own - ROUNDING).all() for one in front), formula.text


def test_items_without_content_are_not_re_ranked_and_coverage_measures_diversity() -> None:
    scorer = made_up(content=False)
    assert scorer.diversity == "catalogue_coverage@4"
    lists = scorer.lists(scorer.positions(Formula.parse("retrieval", TASKS), 0.0))
    found = scorer.metrics(scorer.positions(Formula.parse("retrieval", TASKS), 0.0))
    assert found["catalogue_coverage@4"] == len(np.unique(lists)) / 30
    assert {one[1] for one in front_of(2, content=False)} == {0.0}
    assert {one[1] for one in front_of(0, mmr=False)} == {0.0}


def test_a_task_that_few_users_have_done_is_no_objective_by_itself() -> None:
    few = made_up(n_users=36)
    assert (few.n_users_of(), few.n_users_of("like")) == (36, 36 - 5)
    assert "ndcg@4/like" in [one.metric for one in fusion_objectives((), few, 15)]
    fewer = made_up(n_users=34)
    assert fewer.n_users_of("like") == 34 - 5
    assert "ndcg@4/like" not in [one.metric for one in fusion_objectives((), fewer, 15)]
    assert "ndcg@4/like" in [one.metric for one in fusion_objectives(("ndcg@k/like",), fewer, 15)]


def test_objectives_are_named_as_people_write_them() -> None:
    scorer = made_up()
    default = fusion_objectives((), scorer, 15)
    assert [one.metric for one in default] == ["ndcg@4", "ndcg@4/like", "intra_list_distance@4", "size"]
    named = fusion_objectives(("recall@k", "recall@k/like", "diversity"), scorer, 15)
    assert [one.metric for one in named] == ["recall@4", "recall@4/like", "intra_list_distance@4"]
    assert named[0].ideal == scorer.ideals()["recall@4"]
    with pytest.raises(ConfigError, match=r"fuse.objectives: 'auc/click' is not measured .* known: recall@4"):
        fusion_objectives(("auc/click",), scorer, 15)
    with pytest.raises(ConfigError, match="names ndcg@4 twice"):
        fusion_objectives(("ndcg@k", "ndcg@4"), scorer, 15)


def test_the_kept_formulas_have_the_largest_hypervolume() -> None:
    axes = [Objective(name, name, "max", "", 1.0, 0.0) for name in ("a", "b")]
    # Areas 0.09, 0.25 and 0.18: the second first; then 0.4 * 0.1 against 0.4 * 0.2: the third; a dominated row never.
    rows = [{"a": a, "b": b} for a, b in ((0.1, 0.9), (0.5, 0.5), (0.5, 0.4), (0.9, 0.2))]
    assert best_of_front(rows, axes, 2) == [1, 3]
    assert best_of_front(rows, axes, 9) == [0, 1, 3]


# --- a run


@pytest.fixture(scope="module")
def fused_run(searched_run: tuple[RecProblem, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = Path(shutil.copytree(searched_run[1], tmp_path_factory.mktemp("fused") / "run"))
    member = first_member(path)[0]
    with RunDirectory.open(path) as opened:
        fuse(opened, searched_run[0], member, SMALL)
    return path, member


def report_of(fused_run: tuple[Path, str]) -> dict[str, Any]:
    with RunDirectory.open(fused_run[0], read_only=True) as opened:
        return opened.read_fusion(fused_run[1])


def test_a_report_holds_formulas_with_figures_of_both_halves(
    fused_run: tuple[Path, str], searched_run: tuple[RecProblem, Path]
) -> None:
    report = report_of(fused_run)
    problem = searched_run[0]
    _, spec, weights = first_member(fused_run[0])
    found = user_halves(problem.data, spec, weights, SMALL)
    assert 1 <= len(report["formulas"]) <= SMALL.keep
    assert [row["id"] for row in report["formulas"]] == [f"f{n}" for n in range(1, len(report["formulas"]) + 1)]
    for row in [*report["formulas"], *report["baselines"]["weighted sum"], *report["baselines"]["member"]]:
        formula = Formula.parse(row["text"], problem.data.dataset.tasks)
        assert row["size"] == formula.size
        for half, scorer in (("fitted", found.fitting), ("validation", found.validation)):
            expected = scorer.metrics(scorer.positions(formula, row["mmr"]))
            assert {name: row[half][name] for name in expected} == expected
    assert report["baselines"]["member"][0]["text"] == found.own.text
    assert report["evaluations"] == 8 * 3 + 12
    assert (report["halves"]["fitting"], report["halves"]["validation"]) == (
        found.fitting.n_users_of(),
        found.validation.n_users_of(),
    )
    shares = report["hypervolume"]
    assert shares["member + mmr"]["fitted"] >= shares["member"]["fitted"]
    assert set(shares) == {"member", "member + mmr", "weighted sum", "weighted product", "evolved", "kept"}


def test_a_formula_is_chosen_by_id_knee_or_metric(fused_run: tuple[Path, str]) -> None:
    path, member = fused_run
    report = report_of(fused_run)
    rows: list[Mapping[str, Any]] = report["formulas"]
    tasks = report["tasks"]
    with RunDirectory.open(path, read_only=True) as opened:

        def chosen(which: str) -> Mapping[str, Any]:
            formula, mmr = pick_formula(opened, member, which, tasks)
            return next(row for row in rows if (row["text"], row["mmr"]) == (formula.text, mmr))

        assert chosen("f2") == rows[1]
        best = max(row["validation"]["ndcg@5"] for row in rows)
        assert chosen("best:ndcg@k")["validation"]["ndcg@5"] == best
        bound = sorted(row["validation"]["intra_list_distance@5"] for row in rows)[-2]
        diverse = chosen(f"best:ndcg@5, diversity >= {bound}")
        left = [row for row in rows if row["validation"]["intra_list_distance@5"] >= bound]
        assert diverse["validation"]["ndcg@5"] == max(row["validation"]["ndcg@5"] for row in left)
        assert chosen("best:size")["size"] == min(row["size"] for row in rows)
        assert chosen("best:ndcg@k,size<=1e9") == chosen("best:ndcg@k")
        assert chosen("knee") in rows
        for which, message in (
            ("f99", "formula 'f99' is none of f1, .*'f99' is not a metric"),
            ("best:auc/click", r"auc/click was not measured for f\d+; known: recall@5"),
            ("best:ndcg@k,size", "constraint must read METRIC >= NUMBER"),
            ("best:ndcg@k,size<=few", "names the baseline 'few'"),
            ("best:ndcg@k,ndcg@k>=2", r"ndcg@k>=2 is reached by no member; the highest ndcg@5 is .* \(member f\d+\)"),
        ):
            with pytest.raises(ConfigError, match=message):
                chosen(which)


def test_missing_or_damaged_formulas_are_refused(fused_run: tuple[Path, str], tmp_path: Path) -> None:
    path, member = Path(shutil.copytree(fused_run[0], tmp_path / "run")), fused_run[1]
    file = path / "fusion" / f"{member}.json"
    with RunDirectory.open(path, read_only=True) as opened:
        with pytest.raises(RunError, match="has no formulas of member other; `evorec fuse"):
            opened.read_fusion("other")
        whole = opened.read_fusion(member)
        for data in (b"{", b"[]", b"{}", json.dumps(whole).encode(), sealed_bytes({**whole, "format": 9})):
            file.write_bytes(data)
            with pytest.raises(RunError, match="evorec fuse"):
                pick_formula(opened, member, "knee", whole["tasks"])
        file.write_bytes(sealed_bytes({**whole, "formulas": [{"id": "f1", "text": "p_click", "mmr": "much"}]}))
        with pytest.raises(RunError, match="are damaged"):
            pick_formula(opened, member, "f1", whole["tasks"])


def test_the_command_writes_the_report_and_suggests_the_next_command(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    member = first_member(run)[0]
    few = [f"--set=fuse.{text}" for text in ("population=4", "generations=1", "tuning=0", "keep=3")]
    assert main(["fuse", str(run), member[:6], *few]) == 0
    out, err = capsys.readouterr()
    assert "weighted product" in out
    assert "retrieval" in out
    assert f"evorec export {run} {member} --formula f1" in err
    stored = read_sealed(run / "fusion" / f"{member}.json")
    assert main(["fuse", str(run), member, *few, "--format", "json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out) == [stored], "the same seed gives the same report"
    assert main(["fuse", str(run), member, "--set=training.steps=3"]) == ConfigError.exit_code
    assert "only fuse.* and run.* can be set here" in capsys.readouterr().err


def test_an_unfinished_run_and_too_few_users_are_refused(run: Path, searched_run: tuple[RecProblem, Path]) -> None:
    member = first_member(run)[0]
    with RunDirectory.open(run) as opened:
        problem = searched_run[0]
        ids = problem.data.with_all_users().users.ids
        assert len(ids) > 20
        with pytest.raises(RunError, match=r"fusing needs 20 validation users .* there are 5"):
            fuse(opened, problem, member, SMALL.model_copy(update={"max_users": 5}))
        with pytest.raises(RunError, match="has no member nobody"):
            fuse(opened, problem, "nobody", SMALL)
        (run / "summary.json").unlink()
        with pytest.raises(RunError, match="is not finished"):
            fuse(opened, problem, member, SMALL)
