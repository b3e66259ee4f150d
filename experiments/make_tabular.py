"""Trains every configuration of a finite grid and writes the table that `problems.tabular` looks up.

    python experiments/make_tabular.py --problem feed                       # simulated.parquet and simulated.json
    python experiments/make_tabular.py --problem kuairand                   # kuairand.*; needs $EVOREC_DATA
    python experiments/make_tabular.py --problem feed --configs 32          # a timing: 32 trainings per seed

Every training goes through `StackTrainer` in stacks of 32, once per seed, and is measured at every rung and at its end:
on validation, and on test with the encoders still fitted only on the training rows. Genes that only affect how lists
are made (`LIST_GENES`) do not change the training, so a single training is measured under all their values. This equals
training each of them separately, bit for bit, because the random streams are independent of the genome.

Finished stacks are kept in the folder ``--parts``, so a second start of the same grid at the same commit continues
where the first stopped. The table holds metrics of models and no row of the data set. Output: ``NAME.parquet``, a row
per configuration, seed and number of steps, and ``NAME.json``, the description of the rows.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Final, Literal, final

import numpy as np
import polars as pl
import typer

from evorec.config import RecommenderConfig, merge, parse_config
from evorec.data.dataset import Part
from evorec.data.readers import read
from evorec.data.splits import Split, split
from evorec.data.tables import Tables
from evorec.errors import TrainingError
from evorec.models.spec import ModelSpec
from evorec.recommender.encoding import EncodedData, encode_data
from evorec.recommender.trainers import StackTrainer
from evorec.space.space import SearchSpace
from evorec.training.evaluate import MemberMetrics
from evorec.training.reproducible import reproducible_cpu
from problems import feed, kuairand, tabular
from problems.tabular import FORMAT, TABLES, configurations, space_of

STACK: Final = 32
"""Members of a program."""
LIST_GENES: Final = ("popularity_weight", "rank_blend")
"""Genes that no training reads; a test compares both ways of training."""
COSTS: Final = ("training_flops", "inference_flops", "parameters", "model_bytes")
MEASURED: Final = (
    "accuracy", "auc", "recall@k", "ndcg@k", "intra_list_distance@k", "catalogue_coverage@k", "gini_diversity@k",
    "novelty@k",
)  # fmt: skip
"""Metrics that are kept for each part; ``auc`` means a column per task."""
OBJECTIVES: Final = tabular.DEFAULTS["objectives"]
"""Objectives of the reference front."""


@final
@dataclass(frozen=True)
class Grid:
    """A finite grid of configurations.

    Args:
        name: name of the table.
        config: settings on top of the problem's own.
        genes: genes in the format of the table's JSON (`problems.tabular.space_of`).
        fixed: settings of the model that are the same for all configurations.
        emphases: task weights by name.
        seeds: run seeds.
        licence: licence of the metrics, which follows that of the data.
    """

    name: str
    config: Mapping[str, Any]
    genes: tuple[Mapping[str, Any], ...]
    fixed: Mapping[str, Any]
    emphases: Mapping[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    licence: str

    @property
    def run_config(self) -> RecommenderConfig:
        """The configuration of every training."""
        return parse_config(self.config, source=f"grid {self.name}")

    @property
    def space(self) -> SearchSpace:
        """The finite space."""
        return space_of(self.genes)

    def model(self, spec: Mapping[str, Any]) -> ModelSpec:
        """The model of a configuration; layers and embeddings share the learning rate."""
        own = MECHANISM_SETTINGS[spec["mechanism"]]
        foreign = {gene for genes in MECHANISM_SETTINGS.values() for gene in genes if gene not in own}
        fixed = {gene: value for gene, value in self.fixed.items() if gene not in foreign}
        genes = {**fixed, **spec, "embedding_learning_rate": spec["learning_rate"]}
        weights = self.emphases[genes.pop("task_emphasis")]
        scale = len(weights) / sum(weights)
        return ModelSpec.from_genes({**genes, "task_weights": tuple(scale * weight for weight in weights)})


FIXED: Final[Mapping[str, Any]] = {
    "experts": 4,
    "shared_experts": 2,
    "task_experts": 1,
    "balancing": "fixed",
    "optimizer": "adamw",
    "dense_decay": 0.01,
    "retrieval_weight": 1.0,
    "retrieval_loss": "softmax",
    "negatives": 128,
    "temperature": 0.2,
    "popularity_smoothing": 3.0,
    "task_embeddings": False,
}
MECHANISM_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "single_task": (),
    "shared_bottom": ("task_embeddings",),
    "mmoe": ("experts", "task_embeddings"),
    "ple": ("shared_experts", "task_experts", "task_embeddings"),
}
"""The fixed settings that belong to a mechanism."""


def mechanism_genes() -> tuple[Mapping[str, Any], ...]:
    """The mechanism and its depth: seven ways to share."""
    depth = {"kind": "integer", "low": 1, "high": 2, "default": 1, "parent": "mechanism"}
    return (
        {"name": "mechanism", "kind": "categorical", "options": list(MECHANISM_SETTINGS), "default": "shared_bottom",
         "text": "how tasks share"},
        {"name": "sharing_depth", **depth, "values": ["shared_bottom"], "text": "layers shared by all tasks, of 2"},
        {"name": "expert_depth", **depth, "values": ["mmoe", "ple"], "text": "layers of experts, of 2"},
    )  # fmt: skip


SIMULATED: Final = Grid(
    name="simulated",
    config=merge(
        feed.DEFAULTS,
        {
            "data": {
                "simulator": {
                    "n_users": 800, "n_items": 400, "n_interactions": 30_000, "conflict_angle_deg": 90.0, "drift": 0.3,
                },
            },
            "split": {"validation_share": 0.15, "test_share": 0.15},
            "training": {
                "steps": 120, "rungs": (30, 60), "batch_size": 256, "retrieval_batch": 128, "layers": 2,
                "uniform_negatives": 0,
            },
            "evaluation": {"k": 10, "candidates": 50},
            "run": {"device": "cpu", "executor": "serial"},
        },
    ),
    genes=(
        {"name": "task_emphasis", "kind": "categorical", "options": ["equal", "click", "purchase"], "default": "equal",
         "text": "the task that has most of the loss weight"},
        *mechanism_genes(),
        {"name": "embedding_dim", "kind": "categorical", "options": [8, 32], "default": 8,
         "text": "length of the vectors"},
        {"name": "width", "kind": "categorical", "options": [16, 64], "default": 16, "text": "units per layer"},
        {"name": "learning_rate", "kind": "categorical", "options": [0.002, 0.01], "default": 0.002,
         "text": "step size of layers and embeddings"},
        {"name": "embedding_decay", "kind": "categorical", "options": [0.01, 3.0], "default": 0.01,
         "text": "decoupled weight decay of the embedding table"},
        {"name": "popularity_weight", "kind": "categorical", "options": [0.4, 0.8, 1.2], "default": 0.8,
         "text": "share of log popularity in the retrieval score"},
        {"name": "rank_blend", "kind": "categorical", "options": [0.0, 0.3], "default": 0.0,
         "text": "weight of the ranker in the list score; 0 = retrieval order"},
    ),
    fixed={**FIXED, "dropout": 0.1, "history_weight": 3.0, "popularity_half_life": 14.0},
    emphases={"equal": (1, 1, 1), "click": (8, 1, 1), "purchase": (1, 1, 8)},
    seeds=(0, 1, 2),
    licence="Apache-2.0, like this repository; the data are simulated",
)  # fmt: skip

KUAIRAND: Final = Grid(
    name="kuairand",
    config=merge(
        kuairand.DEFAULTS,
        {
            "split": {"validation_from": "2022-05-04", "test_from": "2022-05-06"},
            "training": {
                "steps": 120, "rungs": (30, 60), "batch_size": 1280, "retrieval_batch": 256, "layers": 2,
                "uniform_negatives": 0,
            },
            "evaluation": {"k": 10, "candidates": 50, "max_users": 600},
            "run": {"device": "cpu", "executor": "serial"},
        },
    ),
    genes=(
        {"name": "task_emphasis", "kind": "categorical", "options": ["equal", "click"], "default": "equal",
         "text": "the task that has most of the loss weight"},
        *mechanism_genes(),
        {"name": "embedding_dim", "kind": "categorical", "options": [8, 32], "default": 8,
         "text": "length of the vectors"},
        {"name": "learning_rate", "kind": "categorical", "options": [0.003, 0.01], "default": 0.003,
         "text": "step size of layers and embeddings"},
        {"name": "popularity_weight", "kind": "categorical", "options": [0.4, 0.7, 1.0], "default": 1.0,
         "text": "share of log popularity in the retrieval score"},
        {"name": "rank_blend", "kind": "categorical", "options": [0.0, 0.3], "default": 0.0,
         "text": "weight of the ranker in the list score; 0 = retrieval order"},
    ),
    fixed={
        **FIXED, "dropout": 0.1, "width": 32, "embedding_decay": 0.1, "history_weight": 10.0,
        "popularity_smoothing": 10.0, "popularity_half_life": 2.0,
    },
    emphases={"equal": (1, 1, 1, 1), "click": (8, 1, 1, 1)},
    seeds=(0, 1),
    licence="CC BY-SA 4.0, as KuaiRand-Pure (Gao et al., CIKM 2022), from which the metrics were computed",
)  # fmt: skip

GRIDS: Final[Mapping[str, Grid]] = {"feed": SIMULATED, "kuairand": KUAIRAND}


@final
@dataclass(frozen=True)
class Member:
    """A training and its configurations, which differ only in `LIST_GENES`."""

    spec: Mapping[str, Any]
    numbers: tuple[int, ...]


def members(grid: Grid) -> list[Member]:
    """All trainings of a seed, sorted so that models with the same shapes are adjacent."""
    groups: dict[str, list[int]] = {}
    specs = configurations(grid.space)
    for number, spec in enumerate(specs):
        trained = {gene: value for gene, value in spec.items() if gene not in LIST_GENES}
        groups.setdefault(json.dumps(trained), []).append(number)
    found = [Member(specs[numbers[0]], tuple(numbers)) for numbers in groups.values()]
    return sorted(found, key=lambda member: _stack_key(grid.model(member.spec)))


def stacks_of(grid: Grid) -> list[list[Member]]:
    """All trainings of a seed, divided into programs."""
    found = members(grid)
    return [found[start : start + STACK] for start in range(0, len(found), STACK)]


def _stack_key(model: ModelSpec) -> tuple[Any, ...]:
    return model.embedding_dim, model.width, repr(model.group_key), -model.sharing_depth


def view_of(tables: Tables, trainer: StackTrainer, part: Literal["validation", "test"]) -> EncodedData:
    """A held-out part encoded for models fitted on the training rows; the same users for every seed of the run."""
    config = trainer.data.config
    rows = split(tables, config.split)
    swapped = rows if part == "validation" else Split(rows.train, rows.test, rows.validation)
    data = encode_data(tables, config, fit="train", seed=0, at_most=config.evaluation.max_users, parts=swapped)
    _check_same_training(data.dataset.train, trainer.data.dataset.train)
    assert data.tensors.shape == trainer.data.tensors.shape
    return data


def _check_same_training(part: Part, other: Part) -> None:
    for name in ("users", "items", "context", "labels", "statistics", "target"):
        pair = getattr(part, name), getattr(other, name)
        same = np.array_equal(*pair, equal_nan=name in ("labels", "target"))
        assert same, f"the training rows depend on the held-out part: {name}"


@final
@dataclass(frozen=True)
class World:
    """The data of a grid, encoded once per process."""

    trainer: StackTrainer
    views: Mapping[str, EncodedData]
    sha256: str


@cache
def world(problem: str) -> World:
    """Read and encode the data of a grid."""
    grid = GRIDS[problem]
    config = grid.run_config
    tables = read(config.data)
    reproducible_cpu()
    trainer = StackTrainer.of(tables, config, fit="train", seed=0, at_most=config.evaluation.max_users)
    parts: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    return World(trainer, {part: view_of(tables, trainer, part) for part in parts}, tables.sha256())


def rows_of_stack(problem: str, seed: int, stack: Sequence[Member]) -> pl.DataFrame:
    """Train a stack to each rung and measure all its configurations."""
    grid, there = GRIDS[problem], world(problem)
    config, trainer = grid.run_config, there.trainer.with_seed(seed)
    specs = configurations(grid.space)
    models = [grid.model(member.spec) for member in stack]
    rows: list[dict[str, Any]] = []
    checkpoints, seconds = None, 0.0
    for steps in (*config.training.rungs, config.training.steps):
        start = time.perf_counter()
        trained = trainer.train(models, last=steps, states=checkpoints)
        seconds += (time.perf_counter() - start) / len(models)
        checkpoints = trained.checkpoints
        arrays = [trained.population.member_arrays(index) for index in range(len(models))]
        for variant in range(len(stack[0].numbers)):
            numbers = [member.numbers[variant] for member in stack]
            variants = [grid.model(specs[number]) for number in numbers]
            population = trainer.data.stack(variants, arrays)
            shown = there.views if steps == config.training.steps else {"validation": there.views["validation"]}
            found = {part: view.measure(population) for part, view in shown.items()}
            for index, number in enumerate(numbers):
                row = {"config_id": number, "seed": seed, "step": steps, "train_seconds": seconds}
                row |= trainer.cost(variants[index], steps=steps)
                broken = trained.diverged[index] is not None
                row |= _metrics({part: None if broken else measured[index] for part, measured in found.items()})
                rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _metrics(found: Mapping[str, MemberMetrics | TrainingError | None]) -> dict[str, Any]:
    """Metric columns of a row; none if the training failed."""
    good = {part: one.metrics for part, one in found.items() if isinstance(one, MemberMetrics)}
    if len(good) < len(found):
        return {"failed": True}
    kept = {f"{part}/{name}": value for part, one in good.items() for name, value in one.items() if _is_kept(name)}
    return {"failed": False, **kept}


def _is_kept(name: str) -> bool:
    return re.sub(r"@\d+$", "@k", name).partition("/")[0] in MEASURED


def trained(problem: str, seed: int, number: int, path: Path) -> float:
    """Train stack `number` of a seed unless its rows are on disk; returns the seconds."""
    start = time.perf_counter()
    if not path.exists():
        stacks = stacks_of(GRIDS[problem])
        rows = rows_of_stack(problem, seed, stacks[number])
        rows.write_parquet(path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)
    return time.perf_counter() - start


def table_of(grid: Grid, parts: pl.DataFrame) -> pl.DataFrame:
    """The whole table: a row per configuration, seed and number of steps, with the values of the genes."""
    specs = configurations(grid.space)
    named = [{"config_id": number, **dict.fromkeys(grid.space.names), **spec} for number, spec in enumerate(specs)]
    genes = pl.DataFrame(named, infer_schema_length=None)
    table = genes.join(parts, on="config_id", how="inner").sort("config_id", "seed", "step")
    tests = [name for name in table.columns if name.startswith("test/")]
    table = table.with_columns(pl.when(pl.col("step") == grid.run_config.training.steps).then(pl.col(tests)))
    counts = {"config_id": pl.Int32, "seed": pl.Int32, "step": pl.Int32}
    small = [name for name in table.columns if name.startswith(("validation/", "test/"))]
    floats = dict.fromkeys([*small, "train_seconds"], pl.Float32)
    return table.cast({**counts, **floats})


_UNUSED_SETTINGS: Final[Any] = {
    **dict.fromkeys(("run", "finalize", "search", "space", "box", "objectives", "constraints"), True),
    "data": {"log", "users", "items"},
}
"""Settings that no training reads."""


def description(problem: str, grid: Grid, table: pl.DataFrame, *, command: str, commit: str) -> dict[str, Any]:
    """Meaning of the rows, and the facts for a fair comparison: box, baselines, reference front."""
    config, there = grid.run_config, world(problem)
    k, tasks = config.evaluation.k, config.tasks.kind_of_each()
    steps = config.training.steps
    whole = table.filter((pl.col("step") == steps) & ~pl.col("failed"))
    names = [name.removeprefix("validation/") for name in table.columns if name.startswith("validation/")]
    columns = {**{name: f"validation/{name}" for name in names}, **{name: name for name in (*COSTS, "train_seconds")}}
    bounds = {name: [float(whole[column].min()), float(whole[column].max())] for name, column in columns.items()}
    baselines = {
        part: {name: dict(measured.values) for name, measured in view.baselines.measured.items()}
        for part, view in there.views.items()
    }
    return {
        "format": FORMAT,
        "problem": problem,
        "command": command,
        "commit": commit,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "polars")}
        | {"python": platform.python_version()},
        "licence": grid.licence,
        "data_sha256": there.sha256,
        "n_rows": table.height,
        "config": config.model_dump(mode="json", exclude=_UNUSED_SETTINGS),
        "fixed": dict(grid.fixed),
        "emphases": {name: list(weights) for name, weights in grid.emphases.items()},
        "genes": [dict(gene) for gene in grid.genes],
        "k": k,
        "tasks": list(tasks),
        "steps": [*config.training.rungs, steps],
        "seeds": list(grid.seeds),
        "metrics": names,
        "costs": list(COSTS),
        "bounds": bounds,
        "baselines": {
            part: {name: _kept(metrics) for name, metrics in found.items()} for part, found in baselines.items()
        },
        "objectives": list(OBJECTIVES),
        "constraints": list(config.constraints),
    }


def _kept(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if _is_kept(name)}


def write(folder: Path, name: str, table: pl.DataFrame, about: Mapping[str, Any]) -> None:
    """Write the two files of a table; the second holds the hash of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    table.write_parquet(path, compression="zstd", compression_level=19, statistics=False)
    whole = {**about, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    description_path = path.with_suffix(".json")
    description_path.write_text(_lines(whole), encoding="utf-8")
    problem = tabular.of_table(str(path))
    front = [problem.table.number(spec) for spec in problem.reference_front()]
    whole["reference"] = {"front": front, "hypervolume": problem.reference_hypervolume()}
    description_path.write_text(_lines(whole), encoding="utf-8")


def _lines(about: Mapping[str, Any]) -> str:
    """JSON with a line per key, so that long lists stay readable in a diff."""
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in about.items()) + "\n}\n"


def head_commit() -> str:
    """The current commit; empty outside a repository."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def main(
    problem: Annotated[str, typer.Option(help=f"{' or '.join(GRIDS)}")] = "feed",
    configs: Annotated[int, typer.Option(min=0, help="trainings per seed, then stop without a table; 0 = all")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="number of processes, with a single thread each")] = 2,
    parts: Annotated[Path, typer.Option(help="folder of finished stacks")] = Path("runs/tabular"),
    out: Annotated[Path, typer.Option(help="folder of the table")] = TABLES,
    commit: Annotated[str, typer.Option(help="code version to record; default: the current commit")] = "",
) -> None:
    """Train the stacks that are not on disk and write the table when all are complete."""
    if problem not in GRIDS:
        raise typer.BadParameter(f"--problem must be {' or '.join(GRIDS)}, got {problem!r}")
    grid = GRIDS[problem]
    version = commit or head_commit()
    folder = parts / f"{grid.name}-{hashlib.sha256(f'{version} {grid}'.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    n_members = len(members(grid))
    n_stacks = math.ceil((configs or n_members) / STACK)
    wanted = {(seed, i): folder / f"seed{seed}-{i:03d}.parquet" for seed in grid.seeds for i in range(n_stacks)}
    start = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        work = [pool.submit(trained, problem, seed, number, path) for (seed, number), path in wanted.items()]
        for done, future in enumerate(as_completed(work), start=1):
            taken, so_far = future.result(), time.perf_counter() - start
            print(f"stack {done} of {len(wanted)}: {taken:.0f} s, {so_far:.0f} s so far", flush=True)
    if configs:
        return
    table = table_of(grid, pl.concat([pl.read_parquet(path) for path in wanted.values()], how="diagonal"))
    about = description(
        problem, grid, table, command=f"python experiments/make_tabular.py --problem {problem}",
        commit=version,
    )  # fmt: skip
    write(out, grid.name, table, about)
    print(f"{out / grid.name}.parquet: {table.height} rows, {(out / f'{grid.name}.parquet').stat().st_size:,} bytes")


if __name__ == "__main__":
    typer.run(main)
