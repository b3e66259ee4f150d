"""An explained member: what its gates do, and what its inputs are worth, against planted facts and slow copies."""

import json
from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny
import torch
from feed_run import config, searched
from tiny import MECHANISMS

from evorec.cli import main
from evorec.data.dataset import Dataset
from evorec.data.held_out import HeldOut
from evorec.data.tables import SECONDS_PER_DAY, Columns, Feature, Tables
from evorec.deploy.explanation.explain import Explanation, explain
from evorec.deploy.explanation.gates import STREAM, ExpertUse, expert_uses, ranker_input
from evorec.deploy.explanation.importance import Spread, block_importance
from evorec.errors import ConfigError, RunError
from evorec.models.forward import ForwardPass
from evorec.models.population import Population, fresh_population
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.recommender.problem import RecProblem, build_problem
from evorec.run.directory import RunDirectory
from evorec.seeds import generator
from evorec.training.evaluate import measure, task_logits
from evorec.training.plan import DeviceData

ROUNDING = 1e-6  # float32 shares, added up in float64
SEED = 5


@pytest.fixture(scope="module")
def problem() -> RecProblem:
    """The tiny feed; a purchase needs a click, and some items are new in validation."""
    data = {"statistics": ["user+hour", "item", "category"], "simulator": {"new_item_share": 0.4}}
    return build_problem(config(tasks={"funnel": ["click", "purchase"]}, data=data))


def genes_of(problem: RecProblem, mechanism: str, **changes: Any) -> dict[str, Any]:
    """The default genome with another mechanism, and what that needs."""
    values = {gene.name: gene.default for gene in problem.space.genes}
    values |= {"sharing_depth": 1, "expert_depth": 2, "experts": 3, "shared_experts": 2, "task_experts": 1}
    values |= {"task_embeddings": True, "calibrator_weight": 0.6}
    return problem.space.spec_of({**values, "mechanism": mechanism, **changes})


def spec_of(problem: RecProblem, mechanism: str, **changes: Any) -> ModelSpec:
    return ModelSpec.from_genes(genes_of(problem, mechanism, **changes))


def fresh(problem: RecProblem, mechanism: str, **changes: Any) -> Population:
    """A member as a training starts with it."""
    data = problem.data.tensors
    specs = [spec_of(problem, mechanism, **changes)]
    return fresh_population(specs, data.shape, seed=SEED, device=data.device, dtype=data.dtype)


def set_dense(population: Population, name: str, values: Any) -> None:
    population.kernel_groups[0].trained[name].copy_(torch.as_tensor(np.asarray(values), dtype=torch.float32))


def by_reader(uses: tuple[ExpertUse, ...]) -> dict[tuple[int, str], ExpertUse]:
    return {(use.level, use.reader): use for use in uses}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_shares_of_every_mixture_sum_to_1(problem: RecProblem, mechanism: str) -> None:
    population = problem.trainer.train([spec_of(problem, mechanism)]).population
    uses = expert_uses(population, problem.data)
    assert bool(uses) == (mechanism not in ("single_task", "shared_bottom", "esmm"))
    for use in uses:
        assert sum(share.mean for share in use.shares.values()) == pytest.approx(1, abs=ROUNDING)
        assert 0 <= use.entropy <= 1 + ROUNDING
        assert use.entropy > 0 or len(use.shares) == 1


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_rows_that_are_followed_are_those_that_are_measured(problem: RecProblem, mechanism: str) -> None:
    """The mechanism gives them the logits that tasks are measured by."""
    population = problem.trainer.train([spec_of(problem, mechanism)]).population
    (block,) = population.kernel_groups
    some = slice(7, 100)
    with torch.no_grad():
        logits = block.network.logits(ForwardPass(block.trained, block.rates), ranker_input(block, problem.data, some))
    expected = task_logits(population, problem.data.tensors, problem.data.dataset.held_out)[0][:, some]
    np.testing.assert_allclose(logits[0].numpy(), expected, rtol=0, atol=1e-5)  # other numbers of rows round otherwise


def test_a_gate_is_the_softmax_of_its_scores(problem: RecProblem) -> None:
    population = problem.trainer.train([spec_of(problem, "mmoe")]).population
    rows = problem.data.dataset.held_out.n_rows
    (block,) = population.kernel_groups
    with torch.no_grad():
        x = ranker_input(block, problem.data, slice(0, rows))[0].numpy().astype(np.float64)  # (1 + T, B, n_in)
    weight = block.trained["gate1.weight"].numpy().astype(np.float64)
    for task, use in enumerate(expert_uses(population, problem.data)):
        scores = np.exp(x[1 + task] @ weight[task])
        shares = scores / scores.sum(1, keepdims=True)
        assert use.reader == problem.data.dataset.tasks[task]
        assert use.level == 2
        assert list(use.shares) == ["shared 1", "shared 2", "shared 3"]
        for k, share in enumerate(use.shares.values()):
            assert share.mean == pytest.approx(shares[:, k].mean(), abs=1e-5)
            assert share.sd == pytest.approx(shares[:, k].std(ddof=1), abs=1e-5)
        entropy = -(shares * np.log(shares)).sum(1).mean() / np.log(3)
        assert use.entropy == pytest.approx(entropy, abs=1e-5)


def test_a_gate_without_scores_takes_all_alike(problem: RecProblem) -> None:
    population = fresh(problem, "cgc")
    set_dense(population, "gate1.weight", np.zeros_like(population.kernel_groups[0].trained["gate1.weight"]))
    for use in expert_uses(population, problem.data):
        assert list(use.shares) == [f"{use.reader} 1", "shared 1", "shared 2"]
        assert all(share.mean == pytest.approx(1 / 3, abs=ROUNDING) for share in use.shares.values())
        assert all(share.sd == pytest.approx(0, abs=1e-4) for share in use.shares.values())  # a root of rounding
        assert use.entropy == pytest.approx(1, abs=ROUNDING)


def test_ple_has_a_mixture_per_level_and_a_stream_below_the_last(problem: RecProblem) -> None:
    uses = by_reader(expert_uses(fresh(problem, "ple"), problem.data))
    tasks = problem.data.dataset.tasks
    assert list(uses) == [*((1, task) for task in tasks), (1, STREAM), *((2, task) for task in tasks)]
    own = [f"{task} 1" for task in tasks]
    assert list(uses[1, STREAM].shares) == [*own, "shared 1", "shared 2"]
    assert list(uses[2, "like"].shares) == ["like 1", "shared 1", "shared 2"]


def test_a_task_of_stem_reads_the_experts_of_all(problem: RecProblem) -> None:
    uses = expert_uses(fresh(problem, "stem"), problem.data)
    assert {tuple(use.shares) for use in uses} == {("click 1", "like 1", "purchase 1", "shared 1", "shared 2")}


def test_the_shares_of_a_stitch_are_proportional_to_its_weights(problem: RecProblem) -> None:
    population = fresh(problem, "cross_stitch", sharing_depth=1)
    for use in expert_uses(population, problem.data):  # as it starts: 0.9 of its own, the others share 0.1
        assert use.shares[use.reader].mean == pytest.approx(0.9, abs=ROUNDING)
    set_dense(population, "stitch0.weight", [[[1, -3, 0], [0, 2, 0], [1, 1, 2]]])
    uses = by_reader(expert_uses(population, problem.data))
    found = {reader: [share.mean for share in use.shares.values()] for (_, reader), use in uses.items()}
    assert found == {"click": [0.25, 0.75, 0], "like": [0, 1, 0], "purchase": [0.25, 0.25, 0.5]}
    assert [use.entropy for use in uses.values()][1] == 0
    assert {level for level, _ in uses} == {1}


def test_a_funnel_step_has_shares_of_its_inputs(problem: RecProblem) -> None:
    population = fresh(problem, "aitm")
    dense = population.kernel_groups[0].trained
    set_dense(population, "query.weight", np.zeros_like(dense["query.weight"]))
    (use,) = expert_uses(population, problem.data)
    assert use.reader == "purchase"
    assert {name: share.mean for name, share in use.shares.items()} == {"purchase": 0.5, "click": 0.5}
    # the parts of an all-zero score but one: what is handed down has the better one wherever it is not 0
    set_dense(population, "info.weight", np.zeros_like(dense["info.weight"]))
    set_dense(population, "info.bias", np.full_like(dense["info.bias"], 10.0))
    width = dense["query.weight"].shape[2]
    for name in ("query.weight", "key.weight"):
        set_dense(population, name, np.eye(width)[None])
    (use,) = expert_uses(population, problem.data)
    assert use.shares["click"].mean > 1 - ROUNDING


def test_the_third_step_of_a_funnel_reads_the_mixture_of_the_second() -> None:
    dataset = tiny.dataset()  # click, like, purchase, each after the one before
    data = tiny.device_data(dataset)
    specs = [tiny.spec(mechanism="aitm", sharing_depth=1)]
    population = fresh_population(specs, data.shape, seed=SEED, device=data.device, dtype=data.dtype)
    dense, eye = population.kernel_groups[0].trained, np.eye(16)[None].repeat(2, 0)
    set_dense(population, "value.weight", np.zeros_like(dense["value.weight"]))  # what like has mixed is 0
    set_dense(population, "query.weight", eye)
    set_dense(population, "key.weight", eye)
    set_dense(population, "info.weight", 100 * eye)
    set_dense(population, "info.bias", np.zeros_like(dense["info.bias"]))
    like, purchase = expert_uses(population, SimpleNamespace(dataset=dataset, tensors=data))  # type: ignore[arg-type]
    assert (like.reader, list(like.shares)) == ("like", ["like", "click"])
    assert (purchase.reader, list(purchase.shares)) == ("purchase", ["purchase", "like"])
    assert like.shares["click"].mean > 0.9, "100 times what click found"
    assert purchase.shares["like"].mean <= 0.5, "100 times 0"


def test_training_is_the_same_whoever_looks(problem: RecProblem) -> None:
    """Looking changes no weight."""
    population = fresh(problem, "ple")
    before = population.member_arrays(0)
    expert_uses(population, problem.data)
    block_importance(population, problem.data, repeats=1, seed=SEED)
    for name, array in population.member_arrays(0).items():
        np.testing.assert_array_equal(array, before[name])


def moved(dataset: Dataset, side: str, block: str, rng: np.random.Generator, encoded: EncodedData) -> Dataset:
    """The data set in which a block has changed owners, made anew from the arrays that everything else reads."""
    held_out, listed = dataset.held_out, encoded.users.ids
    if side == "user":
        who = np.unique(np.concatenate([held_out.users, listed]))
        who = who[who < dataset.n_users]
        return swapped(dataset, "user", block, who, rng.permutation(who))
    if side == "item":
        return swapped(dataset, "item", block, np.arange(dataset.n_items), rng.permutation(dataset.n_items))
    if side == "context":
        column = dataset.context_fields.index(block)
        context = held_out.context.copy()
        context[:, column] = rng.permutation(context[:, column])
        return replace(dataset, held_out=replace(held_out, context=context))
    if side == "content":
        (part,) = [part for part in dataset.content_parts if block in (part.name, f"content_{part.name}")]
        columns = range(part.first_column, part.first_column + part.n_columns)
        content = dataset.item_content.copy()
        content[:-1, columns] = dataset.item_content[rng.permutation(dataset.n_items)][:, columns]
        return replace(dataset, item_content=content)
    if side == "statistics":
        return moved_statistics(dataset, block, listed, rng)
    if block == "past positives of the user":
        past = dataset.history_rows.copy()
        past[listed] = dataset.history_rows[rng.permutation(listed)]
        return replace(dataset, history_rows=past)
    to = rng.permutation(dataset.n_items)
    counts = np.zeros_like(dataset.item_counts)
    counts[to] = dataset.item_counts
    return replace(dataset, train=replace(dataset.train, items=to[dataset.train.items]), item_counts=counts)


def swapped(dataset: Dataset, side: str, block: str, to: np.ndarray, of: np.ndarray) -> Dataset:
    fields = getattr(dataset, f"{side}_fields")
    (field,) = [
        field
        for place, field in enumerate(fields)
        if block == (f"{side} id" if place == 0 else field.name) or block == f"{side}_{field.name}"
    ]
    changed = {}
    for name in (f"{side}_rows", f"{side}_weights"):
        old = getattr(dataset, name)
        changed[name] = old.copy()
        for column in range(field.first_column, field.first_column + field.n_columns):
            changed[name][to, column] = old[of, column]
    return replace(dataset, **changed)


def moved_statistics(dataset: Dataset, block: str, listed: np.ndarray, rng: np.random.Generator) -> Dataset:
    held_out = dataset.held_out
    of_rows = rng.permutation(held_out.n_rows)
    is_user = block == "user+hour"
    to = listed if is_user else np.arange(dataset.n_items)
    of = rng.permutation(to)
    statistics = held_out.statistics.copy()
    served = {"user_statistics": dataset.user_statistics.copy(), "item_statistics": dataset.item_statistics.copy()}
    side, first = ("user_statistics", 0) if is_user else ("item_statistics", dataset.user_statistics.shape[1])
    for column, name in enumerate(dataset.statistics):
        if name in {f"{block}:{what}" for what in ("rows", *dataset.tasks)}:
            statistics[:, column] = held_out.statistics[of_rows, column]
            served[side][to, column - first] = getattr(dataset, side)[of, column - first]
    return replace(dataset, held_out=replace(held_out, statistics=statistics), **served)


def slow_values(population: Population, dataset: Dataset, encoded: EncodedData) -> dict[str, float]:
    """Everything measured anew on a data set."""
    data = DeviceData.of(dataset, n_layers=2, device=encoded.tensors.device, dtype=encoded.tensors.dtype)
    (found,) = measure(population, data, HeldOut(dataset, encoded.config.evaluation, encoded.users))
    return found.metrics  # type: ignore[union-attr]


def test_a_permuted_block_measures_like_data_that_were_made_so(problem: RecProblem) -> None:
    encoded = problem.data.with_all_users()
    genes = {"rerank": True, "rank_blend": 1.0, "popularity_weight": 1.5, "history_weight": 3.0}
    genes |= {"new_item_popularity": 0.9}
    population = problem.trainer.train([spec_of(problem, "mmoe", **genes)]).population
    values, found = block_importance(population, encoded, repeats=2, seed=SEED)
    plain = slow_values(population, encoded.dataset, encoded)
    assert values == {name: plain[name] for name in ("auc/click", "auc/like", "auc/purchase", "recall@5")}
    assert [one.block for one in found] == [
        *("user id", "segment", "tenure_days", "item id", "item_category", "price", "hour"),
        *("content", "content_category", "user+hour", "item", "category"),
        *("past positives of the user", "popularity of the item"),
    ]
    changed = set()
    for one in found:
        drops = []
        for repeat in range(2):
            rng = generator(SEED, f"permute {one.side} {one.block}", repeat)
            slow = slow_values(population, moved(encoded.dataset, one.side, one.block, rng, encoded), encoded)
            drops.append({name: values[name] - slow[name] for name in values})
        for name in values:
            if name not in one.drops:
                assert [drop[name] for drop in drops] == [0, 0], f"{one.block} does change {name}"
                continue
            a, b = (drop[name] for drop in drops)
            assert one.drops[name].mean == pytest.approx((a + b) / 2, abs=1e-12), (one.block, name)
            assert one.drops[name].sd == pytest.approx(abs(a - b) / 2**0.5, abs=1e-12), (one.block, name)
            changed |= {one.block} if a or b else set()
    assert changed == {one.block for one in found}, "each must have moved something, else nothing was compared"


@pytest.mark.parametrize("mechanism", ["shared_bottom", "stem"])
def test_a_block_that_is_off_is_worth_nothing(problem: RecProblem, mechanism: str) -> None:
    switches = {"use_segment": False, "use_content": False, "use_hour": False, "use_price": False}
    off = {**switches, "history": False, "popularity_weight": 0.0, "rerank": False}
    population = problem.trainer.train([spec_of(problem, mechanism, **off)]).population
    _, found = block_importance(population, problem.data, repeats=1, seed=SEED)
    unused = {one.block for one in found if not one.used}
    assert unused == {"segment", "content", "hour", "price", "past positives of the user", "popularity of the item"}
    assert {drop for one in found if not one.used for drop in one.drops.values()} == {Spread(0.0, 0.0)}
    assert all("recall@5" not in one.drops for one in found if one.side == "statistics"), "no ranker in the lists"


N_USERS, N_ITEMS, N_ROWS = 100, 40, 6000
AGREES = 0.9
"""How often a label is what its feature says."""


def planted() -> Tables:
    """A log in which the page alone says who clicks and the colour of an item alone who likes; the rest is noise."""
    rng = np.random.default_rng(8)
    users, items = rng.integers(N_USERS, size=N_ROWS), rng.integers(N_ITEMS, size=N_ROWS)
    page, weather = rng.integers(2, size=(2, N_ROWS))
    colour, shape = rng.permutation(N_ITEMS) % 2, rng.permutation(N_ITEMS) % 2
    says_so = rng.random((2, N_ROWS)) < AGREES
    log = pl.DataFrame(
        {
            Columns.USER: users,
            Columns.ITEM: items,
            Columns.TIME: np.sort(rng.integers(20 * SECONDS_PER_DAY, size=N_ROWS)) + 1_700_000_000,
            "click": np.where(says_so[0], page, 1 - page),
            "like": np.where(says_so[1], colour[items], 1 - colour[items]),
            "page": page,
            "weather": weather,
        }
    )
    return Tables(
        name="planted",
        interactions=log,
        tasks=("click", "like"),
        users=pl.DataFrame({Columns.USER: np.arange(N_USERS), "city": rng.integers(2, size=N_USERS)}),
        items=pl.DataFrame({Columns.ITEM: np.arange(N_ITEMS), "colour": colour, "shape": shape}),
        context=(Feature("page", "categorical"), Feature("weather", "categorical")),
        user_features=(Feature("city", "categorical"),),
        item_features=(Feature("colour", "categorical"), Feature("shape", "categorical")),
    )


def test_the_feature_that_carries_the_label_is_worth_all_and_noise_nothing() -> None:
    settings = config(
        tasks={"ranked": ["click", "like"], "target": "click"},
        data={"statistics": []},
        training={"steps": 120, "batch_size": 256},
        objectives=["accuracy", "cost"],
    )
    problem = build_problem(settings, tables=planted())
    population = problem.trainer.train([spec_of(problem, "shared_bottom", learning_rate=0.01, dropout=0.0)]).population
    values, found = block_importance(population, problem.data, repeats=5, seed=SEED)
    drops = {one.block: one.drops for one in found}
    n_rows = problem.data.dataset.held_out.n_rows
    chance = 4 * (n_rows / 3) ** -0.5 / 2  # four standard errors of an AUC of noise are below 4 sqrt(1 / 3n)
    # knowing the feature is knowing 9 of 10 labels of either class, so the AUC is 0.9, and without it 0.5
    assert values["auc/click"] == pytest.approx(AGREES, abs=chance)
    assert drops["page"]["auc/click"].mean == pytest.approx(values["auc/click"] - 0.5, abs=chance)
    for noise in ("weather", "city", "shape", "colour", "item id"):
        assert abs(drops[noise]["auc/click"].mean) < 0.02, noise
    worth = {block: own["auc/like"].mean for block, own in drops.items() if "auc/like" in own}
    assert max(worth, key=worth.__getitem__) == "colour"
    assert worth["colour"] > 5 * max(abs(worth[noise]) for noise in ("weather", "city", "page", "shape"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecProblem, Path]:
    return searched(tmp_path_factory.mktemp("runs"), config())


def explained(run: tuple[RecProblem, Path], key: str | None = None, **options: Any) -> Explanation:
    problem, path = run
    with RunDirectory.open(path, read_only=True) as opened:
        own = opened.members()[0].key if key is None else key
        return explain(opened, problem, own, **{"repeats": 2, "seed": SEED, **options})


def contents(path: Path) -> Mapping[str, bytes]:
    """All files but SQLite's own, which a reader makes too."""
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file() and "sqlite-" not in file.name}


def test_a_member_is_explained_as_it_was_measured_and_nothing_is_written(run: tuple[RecProblem, Path]) -> None:
    problem, path = run
    before = contents(path)
    found = explained(run)
    assert contents(path) == before
    with RunDirectory.open(path, read_only=True) as opened:
        members = {member.key: member for member in opened.members()}
    metrics = members[found.member].metrics
    assert metrics is not None
    assert found.values == {name: metrics[name] for name in found.values}
    assert found.n_rows == problem.data.dataset.held_out.n_rows
    assert found.n_users == 10
    assert {near.key for near in found.neighbours} <= members.keys() - {found.member}
    assert len(found.neighbours) == min(3, len(members) - 1)
    for near in found.neighbours:
        assert near.text.startswith(near.key[:8])
        its = members[near.key].spec
        for one in near.differences:
            assert its.get(one.gene) == one.its != one.own


def test_an_explanation_is_the_same_again_and_on_more_threads(run: tuple[RecProblem, Path]) -> None:
    once = explained(run)
    assert once == explained(run)
    threaded = copy(run[0])
    execution = threaded.config.run.model_copy(update={"workers": 2, "executor": "threads"})
    threaded.data = replace(threaded.data, config=threaded.config.model_copy(update={"run": execution}))
    assert explained((threaded, run[1])) == once
    other = explained(run, seed=SEED + 1)
    assert other.values == once.values
    assert other.importance != once.importance


def test_an_explanation_is_plain_json(run: tuple[RecProblem, Path]) -> None:
    found = explained(run)
    record = json.loads(json.dumps(asdict(found)))
    assert record["member"] == found.member
    assert record["importance"][0] == {
        "side": "user",
        "block": "user id",
        "used": True,
        "drops": {name: {"mean": drop.mean, "sd": drop.sd} for name, drop in found.importance[0].drops.items()},
    }
    assert record["values"] == found.values
    if found.neighbours:
        near = found.neighbours[0]
        assert record["neighbours"][0]["trades"]["accuracy"]["better"] == near.trades["accuracy"].better


def test_strangers_are_refused(run: tuple[RecProblem, Path]) -> None:
    with pytest.raises(RunError, match="has no member nobody; its members are"):
        explained(run, "nobody")
    with pytest.raises(ConfigError, match="repeats must be at least 1, got 0"):
        explained(run, repeats=0)
    other = build_problem(config(training={"steps": 6}))
    with pytest.raises(RunError, match="was made from another configuration or data set"):
        explained((other, run[1]))


def test_the_command_explains_a_pick(run: tuple[RecProblem, Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = str(run[1])
    assert main(["explain", path, "accuracy", "--repeats", "1", "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)
    with RunDirectory.open(run[1], read_only=True) as opened:
        best = max(opened.members(), key=lambda member: (member.metrics or {})["accuracy"])
    assert record["member"] == best.key
    assert record["repeats"] == 1
    assert main(["explain", path, best.key[:6], "--repeats", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in (best.key, "At their defaults", "Nearest on the front", "Loss in thousandths", "user: segment"):
        assert text in shown
    off = [one for one in record["importance"] if not one["used"]]
    assert shown.count("0 (off)") == sum(len(one["drops"]) for one in off)


def test_the_command_shows_the_blocks_that_matter_and_with_v_all(
    run: tuple[RecProblem, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evorec.cli.explain.MOST_SHOWN", 3)
    asked = ["explain", str(run[1]), "accuracy", "--repeats", "1"]
    assert main([*asked, "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)
    # the largest share of a metric above chance, which is a half for an AUC and nothing for recall
    above = {name: value - (0 if "recall" in name else 0.5) for name, value in record["values"].items()}
    worth = {
        f"{one['side']}: {one['block']}": max(
            drop["mean"] / above[name] for name, drop in one["drops"].items() if above[name] > 0
        )
        for one in record["importance"]
        if one["used"]
    }
    off = [f"{one['side']}: {one['block']}" for one in record["importance"] if not one["used"]]
    order = sorted(worth, key=lambda block: -worth[block])
    for words, expected in ((asked, [*order[:3], *off]), ([*asked, "-v"], [*order, *off])):
        assert main(words) == 0
        _, _, table = capsys.readouterr().out.partition("(not permuted)")
        names = [line.partition("  ")[0].strip() for line in table.splitlines()]
        assert [name for name in names if name in {*order, *off}] == expected
        assert ("more blocks are less important" in table) == (words is asked)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["zzz"], "is neither a member"), (["accuracy", "--repeats", "0"], "Invalid value for '--repeats'")],
)
def test_the_command_names_the_error(
    run: tuple[RecProblem, Path], capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["explain", str(run[1]), *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
