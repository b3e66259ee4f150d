"""Bundles of tiny runs, made once for all tests and worker processes, and the lists of the member they come from."""

import fcntl
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from feed_run import Recommended, config, final_fit, searched

from evorec.config import RunConfig
from evorec.data.dataset import Csr, Dataset
from evorec.data.held_out import RankingUsers, masked_items
from evorec.data.simulator import simulate
from evorec.data.tables import Columns, Feature, ItemVectors, Tables
from evorec.deploy.bundle.export import AS_TRAINED, ExportOptions, export_bundle
from evorec.deploy.final.finalize import finalize
from evorec.deploy.fusion.formula import Formula
from evorec.models.population import Population
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData
from evorec.recommender.problem import RecProblem, build_problem
from evorec.run.directory import RunDirectory
from evorec.serving.recommender import Recommender, load_bundle
from evorec.training.evaluate import member_lists
from evorec.training.plan import DeviceData

SCORE = 1e-4  # float32 adds the same numbers in another order, and scores are about 10
BY_HAND = "retrieval + 2.0 * p_click - 0.5 * z_like"
MMR = 0.3
FIXED = {"item_item": "none", "ema": 0.0, "ensemble_heads": 1, "id_dropout": 0.0}
"""Genes of which these bundles have the neutral value; `tests/deploy` exports members with item-item scores."""


@dataclass(frozen=True)
class Made:
    """A run, one of its members, and the bundle of that member."""

    problem: RecProblem
    run: Path
    key: str
    bundle: Path
    encoded: EncodedData

    @cached_property
    def genes(self) -> Mapping[str, Any]:
        with RunDirectory.open(self.run, read_only=True) as run:
            (found,) = (member.spec for member in run.members() if member.key == self.key)
        return found

    @property
    def dataset(self) -> Dataset:
        return self.encoded.dataset

    @cached_property
    def recommender(self) -> Recommender:
        return load_bundle(self.bundle)

    @cached_property
    def weights(self) -> Mapping[str, np.ndarray]:
        with RunDirectory.open(self.run, read_only=True) as run:
            return run.read_weights(self.key)

    @cached_property
    def population(self) -> Population:
        return self.encoded.stack([ModelSpec.from_genes(self.genes)], [self.weights])

    def export(self, out: Path, options: ExportOptions = AS_TRAINED) -> Path:
        with RunDirectory.open(self.run, read_only=True) as run:
            return export_bundle(run, self.problem, self.key, out, options=options)

    def listed(
        self,
        places: Sequence[int],
        *,
        masked: Mapping[int, Sequence[int]] | None = None,
        k: int | None = None,
        dataset: Dataset | None = None,
        candidates: int | None = None,
    ) -> Recommended:
        """What the member lists to users by place, by the stack code of the search; the last place is nobody.

        Args:
            masked: places of items that are not listed, by place of the user; ``None`` = as the search masks them.
            dataset: other data than the member's own, of the same embedding table.
        """
        own = self.dataset if dataset is None else dataset
        data = self.encoded.tensors if dataset is None else _on_device(self.encoded, dataset)
        evaluation = self.encoded.config.evaluation
        ids = np.array(sorted(places))
        hidden = masked_items(own, evaluation).select(ids)
        if masked is not None:
            pairs = [(line, item) for line, place in enumerate(ids.tolist()) for item in sorted(masked.get(place, ()))]
            users, items = (np.array([pair[i] for pair in pairs], dtype=np.int64) for i in (0, 1))
            hidden = Csr.from_pairs(users, items, n_rows=len(ids))
        asked = evaluation.model_copy(
            update={"k": k or evaluation.k, "candidates": candidates or evaluation.candidates}
        )
        lists = member_lists(self.population, own, data, RankingUsers(ids, hidden, own.relevant.select(ids)), asked)
        names, item_ids = [*own.user_ids.tolist(), "unknown"], own.item_ids.tolist()
        return {
            names[user]: [(item_ids[item], float(score)) for item, score in zip(*pair, strict=True) if item >= 0]
            for user, *pair in zip(ids.tolist(), lists.final[0], lists.scores[0], strict=True)
        }


def _on_device(encoded: EncodedData, dataset: Dataset) -> DeviceData:
    layers = encoded.config.training.layers
    return DeviceData.of(dataset, n_layers=layers, device=torch.device("cpu"), dtype=encoded.precision.parameters)


def with_user(dataset: Dataset, place: int, **lines: Any) -> Dataset:
    """The data with some lines of one user replaced, e.g. ``user_rows``."""
    changed = {}
    for name, line in lines.items():
        changed[name] = getattr(dataset, name).copy()
        changed[name][place] = line
    return replace(dataset, **changed)


def with_item(dataset: Dataset, name: Any, **lines: Any) -> Dataset:
    """The data with one more item at the end of the catalogue, without a training row; other lines from the unknown."""
    changed: dict[str, Any] = {"item_ids": np.append(dataset.item_ids, name), "n_items": dataset.n_items + 1}
    for array in ("item_rows", "item_weights", "item_content", "item_statistics", "item_history_row"):
        own = getattr(dataset, array)
        changed[array] = np.concatenate([own[:-1], np.asarray(lines.get(array, own[-1]))[None], own[-1:]])
    changed["item_counts"] = np.append(dataset.item_counts, 0)
    return replace(dataset, **changed)


def same(found: Sequence[tuple[Any, float]], expected: Sequence[tuple[Any, float]], tolerance: float = SCORE) -> None:
    """The same items in the same order, and the same scores up to rounding."""
    assert [item for item, _ in found] == [item for item, _ in expected]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], atol=tolerance, rtol=0)


def _once(root: Path, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that is made once for all worker processes, whose temporary folders have a common parent."""
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / f"exported-{name}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            make(folder)
    return folder


def _run(root: Path, name: str, settings: RunConfig, *, tables: Tables | None = None) -> tuple[RecProblem, Path]:
    (run,) = _once(root, name, lambda folder: searched(folder, settings, tables=tables)).glob("*-*")
    return build_problem(settings, tables=tables), run


def _made(
    root: Path, name: str, run: tuple[RecProblem, Path], options: ExportOptions = AS_TRAINED, **genes: Any
) -> Made:
    """The bundle of the first member with the given genes."""
    problem, path = run
    with RunDirectory.open(path, read_only=True) as opened:
        keys = [m.key for m in opened.members() if all(m.spec.get(name) == value for name, value in genes.items())]
    assert keys, f"no member of this tiny run has {genes}; change its seed"
    made = Made(problem, path, keys[0], root, problem.data)
    return replace(made, bundle=_once(root, f"{name}-bundle", lambda out: made.export(out, options)))


@cache
def plain_run(root: Path) -> tuple[RecProblem, Path]:
    """The feed, as `problems.feed` has it."""
    return _run(root, "plain", config(space=FIXED))


@cache
def plain(root: Path) -> Made:
    """A member of the feed with task embeddings, adapters of the content and a ranker; also small variants."""
    options = ExportOptions(variants=("fp16", "int8"), largest_loss=1.0)
    genes = {"mechanism": "single_task", "rerank": True}
    return _made(root, "plain", plain_run(root), options, **genes)


@cache
def by_hand(root: Path) -> Made:
    """A member of the feed without a ranker, whose lists are made by a formula of somebody's and re-ranked."""
    formula = Formula.parse(BY_HAND, ("click", "like", "purchase"))
    options = ExportOptions(formula=formula, formula_source="given by hand", mmr=MMR)
    return _made(root, "by-hand", plain_run(root), options, rerank=False, history=True)


def with_text_ids(tables: Tables) -> Tables:
    """Users ``"7"`` and items ``"ü7"``: as text they stand in another order than as numbers."""
    user, item = pl.col(Columns.USER).cast(pl.String), pl.format("ü{}", Columns.ITEM).alias(Columns.ITEM)
    assert tables.users is not None
    assert tables.items is not None
    return replace(
        tables,
        interactions=tables.interactions.with_columns(user, item),
        users=tables.users.with_columns(user),
        items=tables.items.with_columns(item),
    )


@cache
def odd(root: Path) -> Made:
    """The other choice of everything: ids of text, float64, whole catalogue ranked, seen items listed, recency."""
    settings = config(
        data={"statistics": [], "history_recency": 1.0, "history_length": 3},
        training={"precision": "float64"},
        evaluation={"candidates": "all", "mask": "positives"},
        space={**FIXED, "mechanism": "shared_bottom", "rerank": True, "history": True},
        search={"population": 4, "generations": 1, "surrogate": "none"},
    )
    tables = replace(with_text_ids(simulate(settings.data.simulator)), content=("category",), context=())
    return _made(root, "odd", _run(root, "odd", settings, tables=tables))


TITLES = {7: [1.0, 0.0, 0.0], 8: [0.0, 3.0, 4.0], 11: [1.0, 1.0, 1.0]}
"""Vectors of some items."""


def with_tags(tables: Tables) -> Tables:
    """Users and items with several tags each, some with none; vectors of titles; how long somebody watched."""
    assert tables.users is not None
    assert tables.items is not None

    def tags(column: str, odd: int) -> pl.Expr:
        number = pl.col(column)
        one = pl.when(number % 5 > 0).then(pl.format("t{}", number % 3))
        two = pl.when(number % odd == 1).then(pl.format("t{}", 3 + number % 4))
        return pl.concat_list(one, two).list.drop_nulls().alias("tags")

    watched = ((pl.col(Columns.USER) * 7 + pl.col(Columns.ITEM) * 3) % 20 + 0.5).cast(pl.Float32).alias("watch")
    titles = np.array(list(TITLES.values()), dtype=np.float32)
    return replace(
        tables,
        interactions=tables.interactions.with_columns(watched),
        tasks=(*tables.tasks, "watch"),
        users=tables.users.with_columns(tags(Columns.USER, 2).alias("hobbies")),
        items=tables.items.with_columns(tags(Columns.ITEM, 2)),
        content=(*tables.content, "tags"),
        vectors=(ItemVectors("title", pl.Series(list(TITLES)), titles, "0" * 64),),
        user_features=(*tables.user_features, Feature("hobbies", "multi_hot")),
        item_features=(*tables.item_features, Feature("tags", "multi_hot")),
    )


@cache
def numbers(root: Path) -> Made:
    """A task of numbers, one that is better low, several tags, and statistics by features and by the moment."""
    settings = config(
        data={"statistics": ["user", "item", "category", "segment", "hour", "segment+hour"], "history_recency": 0.5},
        tasks={
            "ranked": ["click", "like", "watch"], "funnel": [], "lower_is_better": ["like"],
            "kinds": {"watch": "regression"},
        },
        space={**FIXED, "mechanism": "shared_bottom", "rerank": True, "history": True, "rank_blend": 1.0},
        search={"population": 4, "generations": 1, "surrogate": "none"},
    )  # fmt: skip
    tables = with_tags(simulate(settings.data.simulator))
    options = ExportOptions(show=("category", "tags"))
    return _made(root, "numbers", _run(root, "numbers", settings, tables=tables), options)


@cache
def finalized(root: Path) -> tuple[Made, str, Mapping[str, Any]]:
    """A copy of the plain run after `finalize`: the bundle of its pick, a member that is no pick, and the report."""
    problem, run = plain_run(root)

    def make(folder: Path) -> None:
        shutil.copytree(run, folder)
        picks = problem.config.finalize.model_copy(update={"picks": ("accuracy",), "boosting": False})
        with RunDirectory.open(folder) as opened:
            finalize(opened, problem, picks)

    path = _once(root, "finalized", make)
    with RunDirectory.open(path, read_only=True) as opened:
        report = opened.read_final()
        assert report is not None
        members = [member.key for member in opened.members()]
    (key,) = (entry["member"] for entry in report["picks"])
    made = Made(problem, path, key, root, final_fit(problem, report["seeds"][0]).data)
    made = replace(made, bundle=_once(root, "final-bundle", made.export))
    return made, next(member for member in members if member != key), report
