"""Rows without items: a search on `problems.rows` against gradient boosting, logistic regression and a single-task MLP.

    python experiments/rows.py                        # simulated rows, 3 seeds: about 3 minutes on 2 cores
    python experiments/rows.py --data kuairand        # needs $EVOREC_DATA

`simulated` draws another world for each seed; the best attainable value is that of the noise-free scores on the same
test rows. `kuairand` is a sample of the impressions of KuaiRand-Pure with the features of user and video as plain
columns, without ids, split by time; the seed chooses the sample and the search. The pick is `best:accuracy` on
validation. Everything that is tuned is tuned on validation and trained again on train + validation: the pick and the
MLP (a network per task, width 64, vectors of 32) in their steps, boosting in leaves, rate and trees. The test is opened
once.

Writes experiments/results/rows_DATA.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from results_file import write_results

from evorec import build_problem, finalize, run_search
from evorec.config import DataConfig, RowsConfig, load_config
from evorec.data.readers import read
from evorec.data.splits import split
from evorec.data.tables import Columns
from evorec.deploy.final.steps import choose_steps
from evorec.deploy.final.training import train_members
from evorec.metrics.accuracy import ordering, ordering_key
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem
from evorec.recommender.trainers import StackTrainer
from evorec.run.directory import RunDirectory
from evorec.seeds import generator
from problems.rows import true_scores

HERE = Path(__file__).parent
TASKS: Final = ("click", "long_view", "like", "profile_enter")
MLP: Final = {"mechanism": "single_task", "width": 64, "embedding_dim": 32}
BUDGET: Final = (
    "search.population=8", "training.steps=250", "finalize.picks=['best:accuracy']",
    "finalize.seeds=1",
)  # fmt: skip


def kuairand_settings(folder: Path, seed: int, n_rows: int) -> list[str]:
    """Writes the sample as a table of plain columns; overrides that read it."""
    tables = read(DataConfig(reader="kuairand", path="kuairand-pure-late"))
    assert tables.users is not None
    assert tables.items is not None
    log = tables.interactions.join(tables.users, on=Columns.USER, how="left")
    log = log.join(tables.items, on=Columns.ITEM, how="left", maintain_order="left")
    rows = np.sort(generator(seed, "kuairand rows").choice(log.height, n_rows, replace=False))
    features = [*tables.context, *tables.user_features, *tables.item_features]
    features = [one for one in features if one.name not in ("author_id", "music_id")]  # ids
    names = [one.name for one in features]
    log[rows].select(Columns.TIME, *TASKS, *names).sort(Columns.TIME).write_parquet(folder / "rows.parquet")
    context = ", ".join(f'{one.name} = "{one.kind}"' for one in features)
    labels = ", ".join(f'{task} = "{task}"' for task in TASKS)
    return [
        "data.reader=table", f"data.path='{folder}'", "data.log.files=['rows.parquet']",
        f"data.log.time={Columns.TIME}", f"data.log.tasks={{ {labels} }}", f"data.log.context={{ {context} }}",
        "inputs=all",
    ]  # fmt: skip


def mlp(problem: RecProblem, seed: int) -> dict[str, float]:
    """Test metrics of the MLP, with the steps that validation chooses."""
    space = problem.space.with_overrides(MLP, "the MLP")
    specs = {"mlp": ModelSpec.from_genes(space.decode(space.default()))}
    steps = {key: one.steps for key, one in choose_steps(problem.trainer, specs, problem.config.finalize).items()}
    trainer = StackTrainer.of(problem.tables, problem.config, fit="train+validation", seed=seed, at_most=None)
    ((_, found),) = train_members(trainer, specs, steps, lambda model: model.measured.metrics)
    return found


def one_seed(data: str, seed: int, folder: Path, n_rows: int, generations: int) -> dict[str, Any]:
    """Test metrics of every method."""
    settings = (
        [f"data.simulator.seed={seed}", f"data.simulator.n_rows={n_rows}"]
        if data == "simulated"
        else kuairand_settings(folder, seed, n_rows)
    )
    settings.append(f"search.generations={generations}")
    config = load_config(problem="rows", overrides=[*settings, *BUDGET, f"search.seed={seed}", "run.device=cpu"])
    assert isinstance(config, RowsConfig)
    problem = build_problem(config)
    start = time.perf_counter()
    with RunDirectory.create(
        folder, config=problem.config, fingerprint=problem.config.fingerprint(problem.data_sha256),
        environment=problem.environment,
    ) as run:  # fmt: skip
        run_search(problem, problem.config.search, run=run)
        seconds = time.perf_counter() - start
        report = finalize(run, problem, problem.config.finalize)
    kinds = problem.config.tasks.kind_of_each()
    keys = [*(ordering_key(task, kind) for task, kind in kinds.items()), "accuracy"]
    out = {name: {key: values[key] for key in keys} for name, values in report["baselines"].items()}
    (pick,) = report["picks"]
    of_mlp = mlp(problem, report["seeds"][0])
    out["mlp"] = {key: of_mlp[key] for key in keys}
    out["evorec"] = {key: pick["test"][key]["mean"] for key in keys}
    if data == "simulated":
        test, log = split(problem.tables, problem.config.split).test, problem.tables.interactions
        scores = true_scores(problem.config.data.simulator)  # type: ignore[arg-type]
        best = {
            ordering_key(task, kind): ordering(
                kind, log[task][test].fill_null(float("nan")).to_numpy(), scores[task][test]
            )
            for task, kind in kinds.items()
        }
        out["truth"] = {**best, "accuracy": float(np.mean(list(best.values())))}
    return {"seed": seed, "search_s": seconds, "test": out, "pick": pick["spec"], "steps": pick["steps"]}


def main() -> None:
    """Every seed, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("simulated", "kuairand"), default="simulated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--generations", type=int, default=3, help="of 8 genomes")
    given = parser.parse_args()
    runs = []
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(one_seed(given.data, seed, Path(folder), given.rows, given.generations))
        table = pl.DataFrame([
            {"method": name, **{key: np.mean([run["test"][name][key] for run in runs]) for key in values}}
            for name, values in runs[0]["test"].items()
        ])  # fmt: skip
        print(f"{given.data}, mean of {len(runs)} seeds", table, sep="\n", flush=True)
        write_results(HERE / "results" / f"rows_{given.data}.json", {"runs": runs, "mean": table.to_dicts()})


if __name__ == "__main__":
    main()
