"""What a memory says about genes: their importance across worlds, and what the fronts of the worlds have in common."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from evorec.archive.pareto import non_dominated
from evorec.errors import ConfigError, DataError, guess
from evorec.objectives import SMALLEST_COST, Objective, find_metric, in_full
from evorec.search.front_rules import FrontRules, front_rules
from evorec.search.gene_importance import GeneImportance, gene_importance
from evorec.search.memory.prior import LEAST_ROWS, finite_metrics
from evorec.search.memory.table import Memory

USUAL: Final = ("accuracy", "recall@k", "intra_list_distance@k", "catalogue_coverage@k", "training_flops")
"""Metrics that are analysed by default, as far as the memory has them."""


def memory_genes(memory: Memory, metrics: Sequence[str] = ()) -> tuple[list[GeneImportance], FrontRules]:
    """Importance of genes over all worlds of a memory, and what their fronts have in common.

    Values are standardised in each world, worlds with fewer than 8 rows are left out, and the skill is that on worlds
    that a model did not see. The front of a world is that of all metrics.

    Args:
        memory: rows of earlier searches.
        metrics: names, e.g. ``recall`` or ``cost``; by default `USUAL`.
    Raises:
        ConfigError: no row has one of the metrics.
        DataError: there are too few rows.
    """
    worlds: list[str] = []
    specs: list[dict[str, Any]] = []
    rows: list[dict[str, float]] = []
    for (world,), frame in memory.frame.group_by("world", maintain_order=True):
        if len(frame) >= LEAST_ROWS:
            worlds += [str(world)] * len(frame)
            specs += [json.loads(text) for text in frame["spec"]]
            rows += [finite_metrics(text) for text in frame["metrics"]]
    if not rows:
        raise DataError(
            f"the memory has no world with at least {LEAST_ROWS} rows; search first, or add runs with "
            "`evorec memory add RUN`."
        )
    objectives = _objectives(rows, metrics)
    importance = gene_importance(specs, rows, objectives, worlds=worlds)
    whole = [index for index, row in enumerate(rows) if all(o.metric in row for o in objectives)]
    F = np.array([o.minimised([rows[index][o.metric] for index in whole]) for o in objectives]).T
    on_front = np.zeros(len(whole), dtype=bool)
    names = np.array([worlds[index] for index in whole])
    for world in dict.fromkeys(names):
        on_front[names == world] = non_dominated(F[names == world])
    return importance, front_rules([specs[index] for index in whole], on_front.tolist(), worlds=names.tolist())


def _objectives(rows: Sequence[dict[str, float]], metrics: Sequence[str]) -> list[Objective]:
    """Metrics as objectives; a metric without usual corners has those of its values."""
    measured = sorted(set().union(*rows))
    keys = []
    for name in metrics:
        known = find_metric(in_full(name)).name if name not in measured and "/" not in name else name
        if known not in measured:
            raise ConfigError(f"no row of the memory has {name!r}{guess(name, measured)}")
        keys.append(known)
    out = []
    for key in dict.fromkeys(keys or [name for name in USUAL if name in measured]):
        found, values = find_metric(key), [row[key] for row in rows if key in row]
        ideal, worst = found.ideal, found.worst
        if ideal is None or worst is None:
            low = max(min(values), SMALLEST_COST) if found.log10 else min(values)
            ends = low, max(values) if max(values) > low else low + 1.0
            worst, ideal = ends if found.direction == "max" else ends[::-1]
        out.append(Objective(key, key, found.direction, found.unit, ideal, worst, found.log10))
    return out
