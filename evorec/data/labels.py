"""Labels of the ranked tasks: checked, and numbers standardised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl

from evorec.config import QuantileKind, TaskKind
from evorec.data.dataset import Dataset, Float64, Int64
from evorec.data.funnel import check_funnel, conditioned
from evorec.data.tables import Tables
from evorec.errors import ConfigError, DataError
from evorec.metrics.regression import lowest_quantile

MAX_SHOWN: Final = 8
"""Values that an error message counts."""


def label_scales(labels: pl.DataFrame, kinds: Sequence[TaskKind]) -> tuple[Float64, Float64]:
    """Shift and scale of each task, ``(T,)``: of numbers the mean and standard deviation, of binary labels 0 and 1.

    Args:
        labels: of the training rows, ``(N, T)``, null where there is none.
        kinds: ``(T,)``.
    """
    shift, scale = np.zeros(len(kinds)), np.ones(len(kinds))
    for task, kind in enumerate(kinds):
        if kind != "binary":
            known = labels.to_series(task).drop_nulls().cast(pl.Float64).to_numpy()
            shift[task], scale[task] = known.mean(), known.std()
    return shift, scale


def standardised(labels: pl.DataFrame, kinds: Sequence[TaskKind], shift: Float64, scale: Float64) -> pl.DataFrame:
    """``(label - shift) / scale`` of numbers, in float32; labels 0 and 1 as they are.

    Raises:
        DataError: a label that is infinite in float32.
    """
    out = labels
    for task, kind in enumerate(kinds):
        if kind == "binary":
            continue
        known = ((labels.to_series(task).cast(pl.Float64) - shift[task]) / scale[task]).cast(pl.Float32)
        if not known.drop_nulls().is_finite().all():
            raise DataError(
                f"task {labels.columns[task]} has a label too far from those of training, which are "
                f"{shift[task]:g} +- {scale[task]:g}; cut it, or leave the task out of tasks.ranked."
            )
        out = out.with_columns(known)
    return out


def checked_labels(
    tables: Tables,
    parts: Mapping[str, Int64],
    *,
    kinds: Mapping[str, TaskKind],
    target: str,
    funnel: Sequence[str],
    given: Mapping[str, str],
    sampled: Sequence[str] = (),
) -> list[pl.DataFrame]:
    """The labels of the tasks in each part, null where not observed or not in the task's sample space.

    Args:
        tables: all interactions.
        parts: name of a part -> its row numbers ``(N,)``.
        kinds: ranked task -> kind of its labels, in order.
        target, funnel, given: see `evorec.data.encode.encode`; an empty target has no positives to check.
        sampled: tasks that get rows with label 0, so that the log need not have such rows.
    Returns:
        ``(N, T)`` of each part.
    Raises:
        ConfigError: a name that is not a label column.
        DataError: lists all labels that are not of their kind or do not vary, and parts without a target positive.
    """
    tasks = list(kinds)
    names = {"ranked": tasks, "target": target, "funnel": list(funnel), "given": dict(given)}
    targets = [target] if target else []
    if not {*tasks, *targets, *funnel, *given, *given.values()} <= set(tables.tasks):
        got = ", ".join(f"{name} = {value!r}" for name, value in names.items() if value or name in ("ranked", "target"))
        raise ConfigError(
            f"tasks.ranked and tasks.target must name label columns of {tables.name}, {list(tables.tasks)}; got {got}."
        )
    check_funnel(tables, funnel, parts)
    log = tables.interactions.select({*tasks, *targets, *given, *given.values()})
    labels = [conditioned(log[rows], tasks, given) for rows in parts.values()]
    wrong = []
    for (part, rows), known in zip(parts.items(), labels, strict=True):
        for task, kind in kinds.items():
            if fault := _fault_of_values(known[task], kind, part, task, is_sampled=task in sampled):
                wrong.append(f"tasks.ranked: task {task} of {tables.name} {fault}")
        if target and not ((positives := tables.interactions[target][rows]) > 0).any():
            wrong.append(
                f"tasks.target: {target} of {tables.name} must have a positive in the {part} rows, got "
                f"{_counts(positives)}; choose another tasks.target or give the part more rows."
            )
    if wrong:
        raise DataError("\n".join(wrong))
    return labels


def best_constants(dataset: Dataset) -> list[float]:
    """The prediction of each task that no input changes and that costs least in training, ``(T,)``.

    Log-odds of the rate; of standardised numbers 0, or their quantile.
    """
    labels, out = dataset.train.labels, []
    for task, kind in enumerate(dataset.kinds):
        if kind == "binary":
            rate = np.nanmean(labels[:, task])
            out.append(float(np.log(rate / (1 - rate))))
        else:
            known = labels[~np.isnan(labels[:, task]), task]
            out.append(lowest_quantile(known, kind.quantile) if isinstance(kind, QuantileKind) else 0.0)
    return out


def _fault_of_values(labels: pl.Series, kind: TaskKind, part: str, name: str, *, is_sampled: bool) -> str:
    """Why a task cannot be learned from or measured on these labels; empty if it can."""
    if kind == "binary" and not labels.drop_nulls().is_in([0.0, 1.0]).all():
        return (
            f"must be 0 or 1 (or missing) to be ranked, got in the {part} rows {_counts(labels)}; make a label of it, "
            'e.g. rating >= 4, or say tasks.kinds: "regression" or {quantile = 0.5}.'
        )
    if kind == "binary" and (labels.drop_nulls() == 1).all() and labels.count():
        if is_sampled:
            return ""
        return (
            f"is 1 in all {labels.count()} {part} rows, so that nothing can be ranked. A log of positives is "
            f'searched by retrieval alone: set tasks.ranked = [], tasks.target = "{name}" and objectives without '
            'accuracy, e.g. ["recall@k", "catalogue_coverage@k", "cost"]. Or set tasks.sampled_negatives = 4, which '
            "ranks it against items drawn at random."
        )
    if labels.drop_nulls().n_unique() < 2:
        wanted = "two or more classes" if kind == "binary" else "two or more different numbers"
        return (
            f"must have {wanted} in the {part} rows, got {_counts(labels)}; drop it from tasks.ranked or give the part "
            "more rows (split)."
        )
    return ""


def _counts(labels: pl.Series) -> str:
    counts = labels.value_counts(sort=True).rows()[:MAX_SHOWN]
    return ", ".join(f"{'missing' if value is None else f'{value:g}'}: {count} rows" for value, count in counts)
