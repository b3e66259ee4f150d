"""A made-up table for tests of `problems.tabular`: 6 configurations, 2 seeds, 3 numbers of steps."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import polars as pl

GENES = (
    {"name": "mechanism", "kind": "categorical", "options": ["single_task", "mmoe"], "default": "single_task"},
    {"name": "depth", "kind": "integer", "low": 1, "high": 2, "default": 1, "parent": "mechanism", "values": ["mmoe"]},
    {"name": "width", "kind": "categorical", "options": [16, 64], "default": 16},
)
SPECS = (
    {"mechanism": "single_task", "width": 16},
    {"mechanism": "single_task", "width": 64},
    {"mechanism": "mmoe", "depth": 1, "width": 16},
    {"mechanism": "mmoe", "depth": 1, "width": 64},
    {"mechanism": "mmoe", "depth": 2, "width": 16},
    {"mechanism": "mmoe", "depth": 2, "width": 64},
)
"""By hand, in the order of the numbers."""
STEPS, SEEDS = (10, 20, 40), (0, 1)
METRICS = ("accuracy", "recall@5")
COSTS = ("training_flops",)
FAILED = (1, 1, 40)
"""Number, seed and step of the training that failed."""


def row(number: int, seed: int, step: int) -> dict[str, Any]:
    """A row; its numbers can be told from all others by eye, and are exact in float32."""
    spec = SPECS[number]
    code = (number * 4 + seed * 2) / 64 + step / 1024
    failed = (number, seed, step) == FAILED
    values = {"accuracy": 0.5 + code / 4, "recall@5": 0.5 - code / 4}
    return {
        "config_id": number, "seed": seed, "step": step, "failed": failed,
        **{gene["name"]: spec.get(str(gene["name"])) for gene in GENES},
        **{f"validation/{name}": None if failed else value for name, value in values.items()},
        **{f"test/{name}": None if failed or step < STEPS[-1] else value - 1 / 8 for name, value in values.items()},
        "training_flops": float(step * spec["width"] * (1 + spec.get("depth", 0))), "train_seconds": step / 8,
    }  # fmt: skip


def rows() -> pl.DataFrame:
    """The whole table."""
    found = [row(*place) for place in itertools.product(range(len(SPECS)), SEEDS, STEPS)]
    floats = {f"{part}/{name}": pl.Float32 for part in ("validation", "test") for name in METRICS}
    return pl.DataFrame(found, infer_schema_length=None).cast(floats)


ABOUT: dict[str, Any] = {
    "format": 1, "genes": GENES, "steps": STEPS, "seeds": SEEDS, "k": 5, "tasks": ["click", "like"],
    "metrics": METRICS, "costs": COSTS, "objectives": ["accuracy", "recall@k"], "constraints": [],
    "bounds": {"accuracy": [0.5, 0.75], "recall@5": [0.25, 0.5], "training_flops": [100.0, 10_000.0]},
    "baselines": {"validation": {"popularity": {"recall@5": 0.4}}, "test": {"popularity": {"recall@5": 0.3}}},
}  # fmt: skip


def write(folder: Path, table: pl.DataFrame | None = None, **said: Any) -> Path:
    """A table on disk with a description that fits, but for what is `said`; None leaves a key out."""
    path = folder / "made_up.parquet"
    (rows() if table is None else table).write_parquet(path)
    about = {**ABOUT, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **said}
    about = {name: value for name, value in about.items() if value is not None}
    path.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")
    return path
