"""The genome of an item-item baseline: a member without vectors that lists what the baseline lists."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from evorec.models.baselines import ITEM_ITEM
from evorec.models.item_item import ALL
from evorec.space.genes import Integer, Real
from evorec.space.space import SearchSpace


def item_item_genes(name: str, settings: Mapping[str, float], space: SearchSpace) -> dict[str, Any]:
    """Values of the genes of an item-item baseline, each moved into the bounds of the space.

    Args:
        name: a name of `evorec.models.baselines.ITEM_ITEM`.
        settings: that were chosen for it.
        space: of the search.
    Returns:
        Values by gene, those that the space has; empty where it has no such matrix.
    """
    genes = {gene.name: gene for gene in space.genes}
    if "item_item" not in genes or not genes["item_item"].can_be(ITEM_ITEM[name]):
        return {}
    wanted: dict[str, Any] = {"item_item": ITEM_ITEM[name], "item_item_blend": False, "rerank": False}
    wanted |= {"past_decay": 1.0, "past_half_life": float("inf"), "next_item": 0.0, "asymmetry": 0.5, "user_norm": 0.0}
    wanted |= {"neighbours": ALL, **settings}
    if wanted["neighbours"] == ALL:
        wanted["neighbours"] = 1 << 30
    found = {}
    for key, value in wanted.items():
        gene = genes.get(key)
        if isinstance(gene, Real | Integer):
            if gene.scale == "log2":  # only powers of two exist
                value = 2 ** round(math.log2(max(value, 1)))
            found[key] = min(max(value, gene.low), gene.high)
        elif gene is not None and gene.can_be(value):
            found[key] = value
    inactive = set(found) - space.spec_of({**{gene.name: gene.default for gene in space.genes}, **found}).keys()
    return {key: value for key, value in found.items() if key not in inactive}
