"""Small run records with numbers to be worked by hand, and a record that fills every part of the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evorec.archive.confirmed import confirmed_front
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


DIVERSITY = Objective("diversity", "intra_list_distance@20", "max", "", ideal=1.0, worst=0.0)
GOALS = (*OBJECTIVES[:2], DIVERSITY, OBJECTIVES[2])


def four(number: int, worse: float = 0.0) -> dict[str, float]:
    """Metrics of a member: with its number accuracy rises, and recall and diversity fall; 0 is the cheapest."""
    own = metrics(0.60 + 0.01 * number - worse, 0.25 - 0.01 * number - worse, 1e7 * (1 + number), 0.2)
    return {**own, DIVERSITY.metric: 0.5 + 0.03 * (number * 5 % 12) - worse}


def whole_record(seed: int = 0, n: int = 12) -> RunRecord:
    """A finished run with four objectives, rungs, fresh seeds, a test, a forecast and a failure."""
    keys = [f"{16**15 + 7919 * (number + 100 * seed):016x}"[::-1] for number in range(n + n // 2)]
    claimed = {key: four(number, 0.001 * seed) for number, key in enumerate(keys[:n])}
    # one member is dominated with fresh seeds: by its predecessor, which has the better values then
    fresh = {key: [four(number, 0.002), four(number, 0.004)] for number, key in enumerate(keys[:n])}
    fresh[keys[3]] = [four(2, 0.1), four(2, 0.12)]
    others = {key: four(number % n, 0.02 + 0.001 * number) for number, key in enumerate(keys[n:])}
    specs = [{"width": 16 * (1 + number % 4), "tower": number % 2 == 0} for number in range(n + n // 2)]
    evaluations = [
        Evaluation(number, key, 1 + number // n, (0.5,), specs[number], own, None, seconds=2.0)
        for number, (key, own) in enumerate((claimed | others).items())
    ]
    evaluations.append(Evaluation(len(keys), "f" * 16, 2, (0.1,), {"width": 8}, None, "loss is nan"))
    evaluations.append(Evaluation(len(keys) + 1, "d" * 16, 2, (0.1,), {"width": 8}, four(0, 0.3), None, rung=40))
    values = four(1, 0.001)
    final = {
        "seeds": [1, 2], "opened_at": "2026-01-02", "baselines": {"ease": EASE}, "skipped_baselines": {},
        "picks": [{
            "pick": "accuracy", "member": keys[1],
            "test": {name: {"mean": value, "sd": 0.001} for name, value in values.items()},
            "shipped": values, "interval": {"recall@20": {"low": 0.22, "high": 0.25}}, "parts": {},
            "against": {"ease": {"metric": "recall@20", "mean_difference": 0.09, "low": 0.07, "high": 0.11}},
        }],
    }  # fmt: skip
    del final["picks"][0]["parts"]  # type: ignore[index]
    return record(
        path=Path(f"runs/feed-{seed:012x}"),
        objectives=GOALS,
        evaluations=tuple(evaluations),
        members=tuple(Member.of(one) for one in evaluations[:n]),
        confirmed=confirmed_front(claimed, fresh, GOALS, ()),
        final=final,
        memory="90 rows of 3 earlier searches, SHA-256 0123",
        surrogate={
            generation: {
                "chosen": {"plain": 2, "memory": 10}, "skill": {"memory": 0.5}, "hypervolume": [0.08, 0.1, 0.15],
                "predicted": {key: [own[axis.metric] * 0.9 for axis in GOALS] for key, own in claimed.items()},
            }
            for generation in (1, 2)
        },
        rungs={40: {key: four(number, 0.05) for number, key in enumerate(keys[:n])}},
        seconds=(60.0, 100.0),
        data={"users": 80.0},
        default={"width": 16, "tower": False},
    )  # fmt: skip
