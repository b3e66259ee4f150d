"""YAHPO's lcbench as a problem: the surrogate of a real landscape of neural networks on tabular data sets.

    python experiments/lcbench.py     # the reference fronts of `JUDGED`: two minutes

Seven hyper-parameters at 52 epochs; objectives are balanced accuracy, cross-entropy and the logarithm of the training
time. An evaluation takes milliseconds. The model lies under ``$EVOREC_DATA/yahpo-lcbench`` (Apache-2.0; Pfisterer et
al. 2022). The box has the published worst values, and the published ideals, or those of the reference front where the
model goes beyond them. A reference front is that of 67,187 evaluations: 20,000 random genomes, all combinations of
lowest, middle and highest values, and three runs of pymoo's NSGA-II with 15,000 each.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from evorec.archive.indicators import share_of_box
from evorec.objectives import Objective
from evorec.problem import Outcome, Problem, Spec
from evorec.space.genes import Integer, Real
from evorec.space.space import SearchSpace

FOLDER = Path(os.environ.get("EVOREC_DATA", "")) / "yahpo-lcbench"
EPOCHS = 52
SHORTEST = 1e-3  # seconds; the model also predicts times below 0
INPUTS = (
    "epoch", "batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout",
)  # fmt: skip
OUTPUTS = (
    "time", "val_accuracy", "val_cross_entropy", "val_balanced_accuracy", "test_cross_entropy",
    "test_balanced_accuracy",
)  # fmt: skip
SPACE = SearchSpace(
    (
        Real("batch_size", 16, 512, default=91, scale="log"),
        Real("learning_rate", 1e-4, 1e-1, default=3.16e-3, scale="log"),
        Real("max_dropout", 0.0, 1.0, default=0.5),
        Real("max_units", 64, 1024, default=256, scale="log"),
        Real("momentum", 0.1, 0.99, default=0.545),
        Integer("num_layers", 1, 5, default=3),
        Real("weight_decay", 1e-5, 0.1, default=0.05),
    )
)


JUDGED = ("3945", "7593", "34539", "126025", "167152", "189906")
"""Data sets on which methods are compared."""
LAST_CHECK = ("126029", "167181", "168868", "189873")
"""Data sets for a last check of rules that were chosen on others."""
REFERENCE = Path(__file__).parent / "lcbench_reference.json"


@cache
def reference(instance: str) -> dict[str, Any] | None:
    """``ideal`` of each objective and ``share`` of the box that the reference front dominates; None where unknown."""
    found: dict[str, Any] = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {}
    return found.get(instance)


@cache
def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(FOLDER / "model.onnx", options)


@cache
def corners(instance: str) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each output, as published."""
    found: dict[str, dict[str, float]] = {}
    with (FOLDER / "target_min_max.csv").open() as file:
        for row in csv.DictReader(file):
            if row["scenario"] == "lcbench" and row["instance"] == instance:
                found.setdefault(row["metric"], {})[row["statistic"]] = float(row["value"])
    return {name: (values["min"], values["max"]) for name, values in found.items()}


def instances() -> tuple[str, ...]:
    """OpenML tasks of the data sets."""
    space = json.loads((FOLDER / "config_space.json").read_text())
    return tuple(space["hyperparameters"][0]["choices"])


class LCBench(Problem):
    """A data set of lcbench.

    Args:
        instance: OpenML task, one of `instances`.
        rungs: epochs after which members are compared.
    """

    def __init__(self, instance: str, rungs: Sequence[int] = ()) -> None:
        self.rungs = tuple(rungs)
        self.name, self.data_sha256 = f"lcbench {instance}", instance
        self.space, self.constraints = SPACE, ()
        encoding = json.loads((FOLDER / "encoding.json").read_text())
        self._code = encoding["OpenML_task_id"][instance]
        low_high = corners(instance)
        accuracy, loss, time = (low_high[name] for name in ("val_balanced_accuracy", "val_cross_entropy", "time"))
        known = reference(instance)
        best = known["ideal"] if known else [accuracy[1], loss[0], max(time[0], SHORTEST)]
        self.objectives = (
            Objective("accuracy", "val_balanced_accuracy", "max", "", best[0], accuracy[0]),
            Objective("cross_entropy", "val_cross_entropy", "min", "", best[1], loss[1]),
            Objective("time", "time", "min", "s", best[2], time[1], log10=True),
        )

    def shape_key(self, spec: Spec) -> Hashable:
        """All specs may be evaluated at once."""
        return ()

    def evaluate(
        self, specs: Sequence[Spec], *, seed: int, rung: int | None = None, states: Sequence[Any] | None = None
    ) -> list[Outcome]:
        """Ask the model."""
        epoch = EPOCHS if rung is None else self.rungs[rung]
        rows = [[{"epoch": epoch, **spec}[name] for name in INPUTS] for spec in specs]
        numbers = np.array(rows, dtype=np.float32)
        for integer in ("batch_size", "max_units"):
            numbers[:, INPUTS.index(integer)] = np.rint(numbers[:, INPUTS.index(integer)])
        code = np.full((len(specs), 1), self._code, dtype=np.int32)
        (out,) = _session().run(None, {"x_cat": code, "x_cont": numbers})
        out[:, OUTPUTS.index("time")] = np.maximum(out[:, OUTPUTS.index("time")], SHORTEST)
        reached = None if rung is None else epoch
        return [
            Outcome({name: float(value) for name, value in zip(OUTPUTS, row, strict=True)}, rung=reached) for row in out
        ]

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """None."""
        return {}


def reference_front(instance: str) -> dict[str, Any]:
    """Search far longer than any method that is compared; see the module."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.optimize import minimize

    problem = LCBench(instance)
    points: list[np.ndarray] = []

    def values(X: np.ndarray) -> np.ndarray:
        outcomes = problem.evaluate([SPACE.decode(x) for x in SPACE.snap(X)], seed=0)
        columns = [o.minimised([outcome.metrics[o.metric] for outcome in outcomes]) for o in problem.objectives]
        points.append(np.array(columns).T)
        F = points[-1].copy()
        F[:, 2] = np.log10(F[:, 2])
        return F

    class Wrapped(PymooProblem):
        def _evaluate(self, X: np.ndarray, out: dict[str, Any]) -> None:
            out["F"] = values(X)

    values(SPACE.sample(np.random.default_rng(0), 20_000))
    axes = [np.unique([low, (low + high) / 2, high]) for low, high in zip(SPACE.low, SPACE.high, strict=True)]
    values(np.array(list(itertools.product(*axes))))
    for seed in range(3):
        wrapped = Wrapped(n_var=SPACE.n_var, n_obj=3, xl=SPACE.low, xu=SPACE.high)
        minimize(wrapped, NSGA2(pop_size=100), ("n_gen", 150), seed=seed)
    F = np.vstack(points)
    F[:, 0] *= -1.0
    published = [problem.objectives[0].ideal, problem.objectives[1].ideal, problem.objectives[2].ideal]
    ideal = [max(published[0], F[:, 0].max()), min(published[1], F[:, 1].min()), min(published[2], F[:, 2].min())]
    boxed = [replace(o, ideal=float(best)) for o, best in zip(problem.objectives, ideal, strict=True)]
    normal = np.array([o.normalised(column) for o, column in zip(boxed, F.T, strict=True)]).T
    return {"ideal": [float(f"{value:.6g}") for value in ideal], "share": share_of_box(normal)}


if __name__ == "__main__":
    found = {instance: reference_front(instance) for instance in (*JUDGED, *LAST_CHECK)}
    REFERENCE.write_text(json.dumps(found, indent=1) + "\n")
