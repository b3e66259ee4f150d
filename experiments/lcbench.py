"""YAHPO's lcbench as a problem: the surrogate of a real landscape of neural networks on tabular data sets.

Seven hyper-parameters at 52 epochs; objectives are balanced accuracy, cross-entropy and training time. An evaluation
takes milliseconds. The model lies under ``$EVOREC_DATA/yahpo-lcbench`` (Apache-2.0; Pfisterer et al. 2022).
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from evorec.objectives import Objective
from evorec.problem import Outcome, Problem, Spec
from evorec.space.genes import Integer, Real
from evorec.space.space import SearchSpace

FOLDER = Path(os.environ.get("EVOREC_DATA", "")) / "yahpo-lcbench"
EPOCHS = 52
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
    """

    def __init__(self, instance: str) -> None:
        self.name, self.data_sha256 = f"lcbench {instance}", instance
        self.space, self.constraints = SPACE, ()
        encoding = json.loads((FOLDER / "encoding.json").read_text())
        self._code = encoding["OpenML_task_id"][instance]
        low_high = corners(instance)
        accuracy, loss, time = (low_high[name] for name in ("val_balanced_accuracy", "val_cross_entropy", "time"))
        self.objectives = (
            Objective("accuracy", "val_balanced_accuracy", "max", "", accuracy[1], accuracy[0]),
            Objective("cross_entropy", "val_cross_entropy", "min", "", loss[0], loss[1]),
            Objective("time", "time", "min", "s", max(time[0], 1e-3), time[1], log10=True),
        )

    def shape_key(self, spec: Spec) -> Hashable:
        """All specs may be evaluated at once."""
        return ()

    def evaluate(
        self, specs: Sequence[Spec], *, seed: int, rung: int | None = None, states: Sequence[Any] | None = None
    ) -> list[Outcome]:
        """Ask the model."""
        rows = [[{"epoch": EPOCHS, **spec}[name] for name in INPUTS] for spec in specs]
        numbers = np.array(rows, dtype=np.float32)
        for integer in ("batch_size", "max_units"):
            numbers[:, INPUTS.index(integer)] = np.rint(numbers[:, INPUTS.index(integer)])
        code = np.full((len(specs), 1), self._code, dtype=np.int32)
        (out,) = _session().run(None, {"x_cat": code, "x_cont": numbers})
        return [Outcome({name: float(value) for name, value in zip(OUTPUTS, row, strict=True)}) for row in out]

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """None."""
        return {}
