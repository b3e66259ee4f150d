"""Small run records with numbers to be worked by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evorec.config import parse_config
from evorec.objectives import Objective
from evorec.report.record import Member, RunRecord
from evorec.run.ledger import Evaluation

OBJECTIVES = (
    Objective("accuracy", "accuracy", "max", "", ideal=1.0, worst=0.5),
    Objective("recall@20", "recall@20", "max", "", ideal=1.0, worst=0.0),
    Objective("cost", "training_flops", "min", "FLOP", ideal=1e6, worst=1e9, log10=True),
)
POPULARITY = {"recall@20": 0.10, "catalogue_coverage@20": 0.01}
EASE = {"recall@20": 0.15, "catalogue_coverage@20": 0.40}


def metrics(accuracy: float, recall: float, flops: float, coverage: float) -> dict[str, float]:
    return {"accuracy": accuracy, "recall@20": recall, "training_flops": flops, "catalogue_coverage@20": coverage}


FRONT = {
    "aaaa": metrics(0.70, 0.12, 2e7, 0.30),
    "bbbb": metrics(0.75, 0.11, 5e7, 0.005),
    "cccc": metrics(0.65, 0.16, 8e7, 0.20),
}


def record(
    front: Mapping[str, Mapping[str, float]] = FRONT,
    *,
    failures: tuple[str, ...] = (),
    dropped: tuple[int, ...] = (),
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    settings: Mapping[str, Any] | None = None,
    **changes: Any,
) -> RunRecord:
    evaluations = [
        Evaluation(seq, key, 1, (0.5,), {"width": 16 * (seq + 1), "tower": seq == 0}, values, None)
        for seq, (key, values) in enumerate(front.items())
    ]
    evaluations += [
        Evaluation(len(front) + i, f"f{i}", 2, (0.1,), {"width": 8}, None, cause) for i, cause in enumerate(failures)
    ]
    evaluations += [
        Evaluation(len(evaluations) + i, f"d{i}", 2, (0.1,), {"width": 8}, metrics(0.9, 0.9, 1e6, 0.9), None, rung=rung)
        for i, rung in enumerate(dropped)
    ]
    facts: dict[str, Any] = {
        "path": Path("runs/feed-0123456789ab"),
        "config": parse_config(settings or {}),
        "state": "2 generations done",
        "environment": {"python": "3.11", "versions": {"evorec": "0.1.0"}},
        "objectives": OBJECTIVES,
        "evaluations": tuple(evaluations),
        "members": tuple(Member.of(one) for one in evaluations if one.metrics is not None and not one.dropped),
        "baselines": {"popularity": POPULARITY, "ease": EASE} if baselines is None else baselines,
        "hypervolume": (0.1, 0.2),
    }
    return RunRecord(**{**facts, **changes})
