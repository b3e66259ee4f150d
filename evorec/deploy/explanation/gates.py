"""Use of experts: the shares that gates, stitches and attention of a member give to each source over held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from evorec.deploy.explanation.importance import Spread
from evorec.models.forward import ForwardPass
from evorec.models.population import KernelGroup, Population
from evorec.models.slots import SHARED, Mix
from evorec.recommender.encoding import EncodedData
from evorec.training.evaluate import ROWS_AT_ONCE

STREAM: Final = "shared stream"
"""Reader of the mixtures that feed the next level's shared experts."""


@final
@dataclass(frozen=True)
class ExpertUse:
    """The shares of a mixture over the validation rows.

    Attributes:
        level: layers below the mixture, from 1.
        reader: a task, or `STREAM`.
        shares: by source (an expert, or a task's own network); mean over rows, sum 1, and standard deviation of rows.
        entropy: mean over rows of the shares' entropy, divided by that of equal shares: 0 = a single source, 1 = equal.
    """

    level: int
    reader: str
    shares: Mapping[str, Spread]
    entropy: float


def expert_uses(population: Population, encoded: EncodedData) -> tuple[ExpertUse, ...]:
    """The mixtures of a member over the held-out rows, from the bottom up; empty for a mechanism without mixtures.

    Args:
        population: a stack of this member only.
        encoded: its data.
    """
    (group,) = population.kernel_groups
    chunks: list[tuple[Mix, ...]] = []
    with torch.no_grad():
        for start in range(0, encoded.dataset.held_out.n_rows, ROWS_AT_ONCE):
            x = ranker_input(group, encoded, slice(start, start + ROWS_AT_ONCE))
            chunks.append(tuple(group.network.mixes(ForwardPass(group.trained, (0.0,)), x)))
    tasks, out = encoded.dataset.tasks, []
    for mixes in zip(*chunks, strict=True):
        mix: Mix = mixes[0]
        shares = np.concatenate([part.shares[0].cpu().numpy() for part in mixes], axis=1).astype(np.float64)  # (K, N)
        owners = [owner for owner, _ in mix.sources]
        if SHARED not in owners and len(set(owners)) == len(owners):  # each task has a single source
            names = [tasks[owner] for owner in owners]
        else:
            names = [f"{'shared' if owner == SHARED else tasks[owner]} {number + 1}" for owner, number in mix.sources]
        deviations = shares.std(axis=1, ddof=1 if shares.shape[1] > 1 else 0)
        entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=0).mean()
        spreads = [Spread(float(m), float(s)) for m, s in zip(shares.mean(axis=1), deviations, strict=True)]
        reader = STREAM if mix.reader == SHARED else tasks[mix.reader]
        evenness = float(entropy / np.log(len(names))) if len(names) > 1 else 0.0
        out.append(ExpertUse(mix.level + 1, reader, dict(zip(names, spreads, strict=True)), evenness))
    return tuple(out)


def ranker_input(group: KernelGroup, encoded: EncodedData, some: slice) -> Tensor:
    """Input ``[1, G, B, n_in]`` of the network of a stack of this member only for some held-out rows."""
    part, data = encoded.dataset.held_out, encoded.tensors
    users, items = (torch.tensor(rows[some], device=data.device) for rows in (part.users, part.items))
    bags = data.users.select(users), data.items.select(items), data.row_contexts(part, some)
    statistics = torch.tensor(part.statistics[some], dtype=data.dtype, device=data.device)
    of_users, of_items, of_contexts = map(group.vectors, bags)
    return group.ranker_input(of_users, of_items, of_contexts, statistics, data.history.select(users))
