"""Effect of item content, block by block, on lists of new items, on all lists and on AUC.

For each data set, a specification near the middle of the search space is trained with the item's id only, with a single
added block of item content or features, and with all blocks, in the same program and batch stream. A tenth of the
items, a different tenth per seed, loses its training rows: these items are new, like those that the split makes new.
`noise` consists of random vectors and must add nothing. Lists are measured with the popularity prior (a new item has a
popularity of 0, or the median of the shown items) and without it. All figures are on validation; test rows are not
read. Lists of the two real catalogues have 100 items, because new items are rare in short lists.

    python experiments/content_blocks.py                                 # about 20 minutes on 2 cores; $EVOREC_DATA
    python experiments/content_blocks.py --encoder FOLDER --data movielens   # with a sentence encoder on the titles

Prints differences from the id only with 95 % intervals over seeds, writes experiments/results/content_blocks.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from results_file import write_results
from scipy import stats
from sklearn.metrics import roc_auc_score

from evorec.config import RecommenderConfig, load_config, recommender_config
from evorec.data.readers import read
from evorec.data.splits import split
from evorec.data.tables import Columns, ItemVectors, Tables
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem, build_problem
from evorec.seeds import generator
from evorec.training.evaluate import task_logits

HERE = Path(__file__).parent
COLD_SHARE = 0.1
NOISE_WIDTH = 16
PRIORS = {
    "prior": {"popularity_weight": 1.0},
    "prior, new = median": {"popularity_weight": 1.0, "new_item_popularity": 0.5},
    "no prior": {"popularity_weight": 0.0},
}
"""Share of log popularity in the list score, and the quantile of shown items used for a new item."""
IDS = "id only"
ALL = "all"


@dataclass(frozen=True)
class Case:
    """A data set: its problem, the settings that differ from the problem's file, and the specification."""

    file: str | None
    overrides: tuple[str, ...]
    genes: Mapping[str, Any]
    relations: tuple[str, ...] = ()
    n_seeds: int = 8


CASES = {
    "simulator": Case(
        None,
        (
            "data.simulator.new_item_share=0.5", 'split.validation_from="2024-01-12"', 'split.test_from="2024-01-14"',
            "data.simulator.n_interactions=100000", 'data.statistics=["user", "item"]', "training.steps=300",
        ),
        {},
    ),
    "kuairand": Case(
        "kuairand.toml",
        ('data.statistics=["user", "item"]', "evaluation.k=100"),
        {"embedding_dim": 32, "history_weight": 10.0, "popularity_smoothing": 10.0, "popularity_half_life": 2.0},
        ("author_id", "music_id", "tag"),
        n_seeds=5,
    ),
    "movielens": Case(
        "movielens.toml",
        ('data.content.title={kind="text", columns=["title"], min_count=2}', "evaluation.k=100"),
        {"embedding_dim": 64, "embedding_learning_rate": 0.01, "embedding_decay": 0.03, "history_weight": 30.0,
         "temperature": 0.1},
        ("genres", "year"),
    ),
}  # fmt: skip


def main() -> None:
    """Measure every case and write the figures."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--data", choices=[*CASES], nargs="*", default=[*CASES])
    arguments.add_argument("--encoder", type=Path, help="folder of a sentence encoder for the titles of films")
    arguments.add_argument("--workers", type=int, default=2)
    options = arguments.parse_args()
    out = HERE / "results" / "content_blocks.json"
    results = json.loads(out.read_text())["results"] if out.is_file() else {}
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        for name in options.data:
            encoder = str(options.encoder.resolve()) if options.encoder and name == "movielens" else ""
            seeds = range(CASES[name].n_seeds)
            found = list(pool.map(measured, [name] * len(seeds), seeds, [encoder] * len(seeds)))
            results[name] = {
                setting: {metric: [of_seed[setting][metric] for of_seed in found] for metric in found[0][setting]}
                for setting in found[0]
            }
            show(name, results[name])
            write_results(out, {"cold_share": COLD_SHARE, "results": results})


def measured(name: str, seed: int, encoder: str) -> dict[str, dict[str, float]]:
    """Metrics of every setting of a data set for a seed."""
    case = CASES[name]
    overrides = [*case.overrides, f"search.seed={seed}", 'inputs="search"', "constraints=[]", "finalize.picks=[]"]
    overrides += ['objectives=["accuracy", "recall@k"]', "evaluation.max_users=100000"]
    overrides += ['data.content.cooccurrence={kind="cooccurrence", dims=32}']
    overrides += [f"data.simulator.seed={seed}"] if name == "simulator" else []
    if encoder:
        overrides += [f'data.content.encoder={{kind="encoder", columns=["title"], path="{encoder}"}}']
    with tempfile.TemporaryDirectory() as folder:
        if case.relations:
            overrides += [f'data.content.graph={{kind="graph", path="{folder}/triples.parquet", dims=32}}']
        source = {"path": HERE / case.file} if case.file else {"problem": "feed"}
        config = recommender_config(load_config(**source, overrides=overrides))
        tables = read(config.data.model_copy(update={"content": {}}))
        if case.relations:
            triples(tables, case.relations).write_parquet(Path(folder) / "triples.parquet")
        tables = with_noise(without_training_rows(tables, config, seed=seed), seed=seed)
        problem = build_problem(config, tables=tables)
    return compared(problem, case.genes)


def triples(tables: Tables, relations: Sequence[str]) -> pl.DataFrame:
    """A knowledge graph from columns of the item table: item, column, value."""
    assert tables.items is not None
    parts = []
    for relation in relations:
        values = tables.items.select(head=pl.col(Columns.ITEM).cast(pl.String), value=pl.col(relation))
        if isinstance(values.schema["value"], pl.List):
            values = values.explode("value", empty_as_null=True)
        value = pl.col("value") // 10 if relation == "year" else pl.col("value")
        tail = pl.concat_str(pl.lit(f"{relation}:"), value.cast(pl.String))
        parts.append(values.drop_nulls().select("head", relation=pl.lit(relation), tail=tail))
    return pl.concat(parts)


def without_training_rows(tables: Tables, config: RecommenderConfig, *, seed: int) -> Tables:
    """The tables without the training rows of a tenth of the items; validation and test are unchanged."""
    log = tables.interactions
    items = log[Columns.ITEM].unique().sort()
    chosen = generator(seed, "items without training rows").random(len(items)) < COLD_SHARE
    train = np.zeros(log.height, dtype=np.bool_)
    train[split(tables, config.split).train] = True
    cold = log[Columns.ITEM].is_in(items.filter(pl.Series(chosen)).to_list()).to_numpy()
    return tables.with_interactions(log.filter(pl.Series(~(train & cold))))


def with_noise(tables: Tables, *, seed: int) -> Tables:
    """The tables with random vectors as a block of content."""
    assert tables.items is not None
    ids = tables.items[Columns.ITEM]
    values = generator(seed, "noise as content").standard_normal((len(ids), NOISE_WIDTH)).astype(np.float32)
    return replace(tables, vectors=(*tables.vectors, ItemVectors("noise", ids, values, sha256=f"noise {seed}")))


def compared(problem: RecProblem, genes: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Metrics with the id only, with each single block of the items, and with all blocks except the noise."""
    blocks = [block.name for block in problem.data.tensors.shape.blocks if block.side in ("item", "content")]
    on = {IDS: [], **{name: [name] for name in blocks}, ALL: [name for name in blocks if name != "noise"]}
    genome = {**problem.space.decode(problem.space.default()), **genes}
    specs = [
        replace(ModelSpec.from_genes(genome), off=tuple(sorted(set(blocks) - set(names))), ranks=())
        for names in on.values()
    ]
    data = problem.data
    trained = problem.trainer.train(specs)
    assert not any(trained.diverged), trained.diverged
    arrays = [trained.population.member_arrays(member) for member in range(len(specs))]
    part = data.dataset.held_out
    cold_rows = np.append(data.dataset.item_counts == 0, False)[part.items]
    logits = task_logits(trained.population, data.tensors, part)
    positives = data.users.relevant.indices
    out: dict[str, dict[str, float]] = {setting: {} for setting in on}
    for prior, genes_of_lists in PRIORS.items():
        population = data.stack([replace(spec, **genes_of_lists) for spec in specs], arrays)
        for setting, measured_member in zip(on, data.measure(population), strict=True):
            k = problem.config.evaluation.k
            assert not isinstance(measured_member, Exception), measured_member
            out[setting]["accuracy"] = measured_member.metrics["accuracy"]
            for metric in (f"recall@{k}", f"cold_start_recall@{k}"):
                out[setting][f"{metric}, {prior}"] = measured_member.metrics[metric]
    for member, setting in enumerate(on):
        out[setting]["accuracy, rows of new items"] = mean_auc(logits[member][:, cold_rows], part.labels[cold_rows])
        out[setting]["new items wanted"] = float((data.dataset.item_counts[positives] == 0).sum())
        out[setting]["rows of new items"] = float(cold_rows.sum())
    return out


def mean_auc(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the tasks that have both classes; logits ``(T, N)``, labels ``(N, T)``."""
    aucs = []
    for scores, label in zip(logits, labels.T, strict=True):
        known = ~np.isnan(label)
        if len(np.unique(label[known])) == 2:
            aucs.append(roc_auc_score(label[known], scores[known]))
    return float(np.mean(aucs))


def show(name: str, results: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Print the mean of every setting and its difference from the id only with a 95 % interval (t) over seeds."""
    counts = {metric: np.mean(results[IDS][metric]) for metric in ("new items wanted", "rows of new items")}
    print(f"\n{name}: " + ", ".join(f"{metric} {count:.0f}" for metric, count in counts.items()))
    for metric in [metric for metric in results[IDS] if metric not in counts]:
        print(f"  {metric}")
        for setting, found in results.items():
            values = np.array(found[metric])
            difference = values - np.array(results[IDS][metric])
            reach = stats.t.ppf(0.975, len(values) - 1) * difference.std(ddof=1) / np.sqrt(len(values))
            add = "" if setting == IDS else f"{difference.mean():+.4f} ± {reach:.4f}"
            print(f"    {setting:18s} {values.mean():.4f}  {add}", flush=True)


if __name__ == "__main__":
    main()
