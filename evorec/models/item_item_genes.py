"""Genes that several kinds of item-item matrices share."""

from __future__ import annotations

from typing import Final

from evorec.models.choice import log_gene
from evorec.space.genes import Integer, Real

SHRINKAGE: Final = Real(
    "shrinkage", 0.3, 300.0, scale="log", default=20.0, limits=(0.0, 1e9), unit="users",
    text="added to the scale of two items, so that few common users count less",
)  # fmt: skip
ASYMMETRY: Final = Real(
    "asymmetry", 0.0, 1.0, default=0.5, limits=(0.0, 1.0),
    text="exponent of the past item's popularity in the scale of two items; 0.5 = cosine",
)  # fmt: skip
USER_NORM: Final = Real(
    "user_norm", 0.0, 1.0, default=0.0, limits=(0.0, 2.0),
    text="exponent of a user's number of items, by which the user's pairs are divided",
)  # fmt: skip
NEXT_ITEM: Final = Real(
    "next_item", 0.0, 4.0, default=1.0, limits=(0.0, 1e6),
    text="weight of how often an item is the next directly after another",
)  # fmt: skip
NEXT_WINDOW: Final = Integer(
    "next_window", 1, 5, default=1, limits=(1, 50),
    text="items after another that count as following it, the later the less",
)  # fmt: skip
CONTENT_WEIGHT: Final = Real(
    "content_weight", 0.0, 0.3, default=0.0, limits=(0.0, 1e6),
    text="weight of how alike two items' features and content are",
)  # fmt: skip
CONTENT_POPULARITY: Final = Real(
    "content_popularity", 0.0, 1.0, default=0.25, limits=(0.0, 2.0),
    text="exponent of an item's popularity by which that likeness is multiplied",
)  # fmt: skip
NEIGHBOURS: Final = Integer(
    "neighbours", 64, 4096, scale="log2", default=512, limits=(0, 1 << 30),
    text="nearest items that are kept of each item; 0 = all",
)  # fmt: skip
L2: Final = log_gene("item_item_l2", 3.0, 3000.0, 100.0, "regularisation of the item-item matrix")
