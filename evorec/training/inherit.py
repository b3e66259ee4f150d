"""Initial weights from another member: shrink and perturb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch

from evorec.models.population import Population, off_entries, off_rows_of

SHRINK: Final = 0.4
PERTURB: Final = 0.1
"""Factors of the weights of the parent and of fresh initial weights. Source: Ash & Adams 2020 (arXiv 1910.08475), the
values of the authors' code. A network that continues from trained weights as they are generalises worse than a fresh
network; with these factors it does not, in their experiments."""
HEAD_BIAS: Final = "head.bias"
"""Begins at the best constant of its task, and moves towards it instead of 0."""


def inherit(
    population: Population, parents: Sequence[Mapping[str, np.ndarray] | None], perturbation: Population
) -> None:
    """Replace the initial weights of members by ``SHRINK * parent + PERTURB * fresh``.

    Tensors of equal name and shape are taken over, such as the embeddings of members with another mechanism. Other
    tensors stay fresh, and so do entries that are 0 in the parent: it had switched their feature off.

    Args:
        population: fresh members, changed in place.
        parents: parameters of the parent of each member (`Population.member_arrays`); ``None`` = it stays fresh.
        perturbation: the same members with fresh weights of another seed, which the parent did not begin with.
    """
    for member, parent in enumerate(parents):
        if parent is None:
            continue
        noise = perturbation.member_views(member)
        for name, own in population.member_views(member).items():
            if name not in parent or parent[name].shape != tuple(own.shape):
                continue
            value = torch.from_numpy(np.array(parent[name])).to(own)
            weight = 1 - SHRINK if name == HEAD_BIAS else PERTURB
            own.copy_(torch.where(value == 0, own, SHRINK * value + weight * noise[name]))
    for table, off in zip(population.tables, off_rows_of(population), strict=True):
        off.clear_(table)
    population.flat.index_fill_(0, off_entries(population), 0.0)
